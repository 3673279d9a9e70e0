"""The allowed values of each setting, in a sentence, from the type that checks it. Pure."""

from __future__ import annotations

import msgspec
from msgspec import inspect


def expectation(settings: type[msgspec.Struct], name: str) -> str:
    """The allowed values of the setting that the environment has under this name."""
    described = inspect.type_info(settings)
    if not isinstance(described, inspect.StructType):
        raise TypeError("settings are a struct")
    wanted = next(field.type for field in described.fields if field.encode_name == name)
    match wanted:
        case inspect.BoolType():
            return "it is 0 or 1"
        case inspect.LiteralType(values=values):
            return (
                f"it is {' or '.join(map(str, values))}"
                if len(values) == 2
                else f"it is one of {', '.join(map(str, values))}"
            )
        case inspect.IntType(ge=least, le=most):
            return f"it is a whole number, {_bounds(least, most)}"
        case inspect.FloatType(gt=over, ge=least, le=most):
            return f"it is a number, {_bounds(least, most) if over is None else f'over {over:g} and at most {most:g}'}"
    return "it is a text"


def _bounds(least: float | None, most: float | None) -> str:
    return f"{least:g} or more" if most is None else f"from {least:.0f} to {most:.0f}"
