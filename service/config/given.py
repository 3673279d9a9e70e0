"""The settings as they are written: in the environment, in `.env`, and in files of secrets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from service.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

# These have two spellings; where both are given the one in lower case wins, as with curl.
PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")

# Some editors begin a file with a byte order mark, which would be a part of the first name, or of the secret.
_ENCODING = "utf-8-sig"
MAX_SECRET_LENGTH = 100_000


def read_dotenv(path: Path) -> dict[str, str | None]:
    """The variables of a file of settings; none where it does not exist.

    Raises:
        SettingsError: it cannot be read, or is not UTF-8.
    """
    try:
        return dotenv_values(path, encoding=_ENCODING) if path.is_file() else {}
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is malformed: it is not UTF-8 text; save it as UTF-8") from None


def read_given(
    dotenv: Path, environ: Mapping[str, str], *, known: Collection[str], secrets: Iterable[str]
) -> dict[str, str]:
    """The settings that are given, files read, empty ones left out.

    Args:
        dotenv: a file of settings, which need not exist.
        environ: the environment; it overrides the file.
        known: every name that may be given.
        secrets: names that may be given as NAME_FILE, too.

    Raises:
        SettingsError: a value is no text, or a file cannot be read.
    """
    layers = (read_dotenv(dotenv), environ)
    given: dict[str, str] = {}
    for layer in layers:
        # `https_proxy` and its like override their names in upper case.
        proxies = ((name, layer[name.lower()]) for name in PROXY_VARIABLES if name.lower() in layer)
        for name, value in (*layer.items(), *proxies):
            if name in known and value:
                # The environment's NAME wins over NAME_FILE of `.env`, and the other way round.
                given.pop(_counterpart(name), None) if layer is environ and _counterpart(name) not in environ else None
                given[name] = value
    for name, value in given.items():
        # Python lets bytes of the environment that are no text through, and fails where they are first sent.
        if not value.isascii() and value != value.encode(errors="replace").decode():
            raise SettingsError(f"{name} is malformed: it is not UTF-8 text")
    for name in secrets:
        path = given.pop(f"{name}_FILE", None)
        if path is None:
            continue
        if name in given:
            raise SettingsError(f"{name} and {name}_FILE are both set: keep one of them")
        content = _read_secret(name, path)
        if content:
            given[name] = content
    return given


def _counterpart(name: str) -> str:
    return name.removesuffix("_FILE") if name.endswith("_FILE") else f"{name}_FILE"


def _read_secret(name: str, path: str) -> str:
    try:
        # A device such as /dev/zero has no end.
        with Path(path).open(encoding=_ENCODING) as file:
            content = file.read(MAX_SECRET_LENGTH + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{name}_FILE cannot be read: {reason}") from None
    if len(content) > MAX_SECRET_LENGTH:
        raise SettingsError(f"{name}_FILE cannot be read: over {MAX_SECRET_LENGTH:,} characters are no secret")
    return content.removesuffix("\n").removesuffix("\r")
