"""Alerts: what people are woken by. Rules and notices are pure; what acts on them is thin."""
