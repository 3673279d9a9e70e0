"""Alert rules and their notification."""
