"""Merge (pure), apply a batch, pull, deletions."""
