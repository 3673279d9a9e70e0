"""The vendor: client, payload types, signature, request budget."""
