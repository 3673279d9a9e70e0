"""How the schema changes: revisions, their locks, and their effect on a running system."""
