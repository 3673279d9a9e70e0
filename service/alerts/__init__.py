"""Alerts: what people are woken by. Rules and notifications are pure; what acts on them is thin."""
