"""headshot-mirror: an exact, live mirror of an organization's HeadshotPro models in Postgres."""

__version__ = "0.1.0"
