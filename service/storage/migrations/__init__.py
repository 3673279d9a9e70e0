"""How the schema changes: revisions, their locks, and what a running system may notice of them."""
