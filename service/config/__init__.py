"""Settings: names, checks and values, read once from the environment and `.env`. Nothing else reads variables."""

from service.config.environment import environment, force_wheels, is_any_given, run_by_up
from service.config.settings import SECRETS, Settings, load, load_alone, unknown_settings

__all__ = [
    "SECRETS",
    "Settings",
    "environment",
    "force_wheels",
    "is_any_given",
    "load",
    "load_alone",
    "run_by_up",
    "unknown_settings",
]
