"""Outgoing webhooks: services that subscribe are sent the changes of the feed, at least once, in order per model."""
