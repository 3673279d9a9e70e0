"""Settings: names, checks and values, read once from the environment and `.env`. Nothing else reads variables."""

from service.config.settings import SECRETS, Settings, environment, force_wheels, load, unknown_settings

__all__ = ["SECRETS", "Settings", "environment", "force_wheels", "load", "unknown_settings"]
