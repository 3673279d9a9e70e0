"""Sessions of the console: a signed cookie that says who logged in and what they may do.

Nothing is kept of a session. Each kind is signed with a key of its own, made of a random secret in Postgres and the
password, so that changing the password ends the sessions that it began.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from enum import IntEnum
from functools import cached_property, lru_cache
from time import time
from typing import TYPE_CHECKING, NamedTuple

from itsdangerous import BadData, URLSafeTimedSerializer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.config import Settings

COOKIE = "headshotpro_console"
COOKIE_PATH = "/console"
SESSION_SECONDS = 12 * 3600
# The clocks of two machines that serve the console may differ by this.
CLOCKS_DIFFER_SECONDS = 60
# Cookies whose signature a process need not compute again: an open page sends its own every few seconds.
MAX_KNOWN = 256


class Role(IntEnum):
    """The rights of a person; the greater role may do more."""

    VIEWER = 1
    OPERATOR = 2

    @property
    def label(self) -> str:
        """The word for people."""
        return self.name.lower()


class Session(NamedTuple):
    """One login.

    Attributes:
        session_id: random, another one for each login.
        role: what the person may do.
        user: the name that a proxy gave; else the role's.
        by_proxy: a reverse proxy named the user.
        ends_at: when it is over, in Unix seconds.
    """

    session_id: str
    role: Role
    user: str
    by_proxy: bool = False
    ends_at: float = 0.0


class SessionSigner:
    """Makes and reads cookies of sessions; each method raises `PostgresUnavailable` where the secret cannot be read.

    Args:
        read_secret: reads the secret from Postgres, once.
    """

    def __init__(self, settings: Settings, read_secret: Callable[[], str]) -> None:
        self._read_secret = read_secret
        self._load = lru_cache(MAX_KNOWN)(self._load_cookie)
        self._passwords = {
            role: password
            for role, password in (
                (Role.OPERATOR, settings.console_password),
                (Role.VIEWER, settings.console_viewer_password),
            )
            if password
        }
        self._proxy_header = settings.console_proxy_user_header

    @property
    def takes_passwords(self) -> bool:
        """Whether a password is set with which a person can log in."""
        return bool(self._passwords)

    def role_of(self, password: str) -> Role | None:
        """The role of a password; None where it is wrong. It takes the same time whatever is wrong."""
        given = _digest(password)
        matching = [role for role, right in self._passwords.items() if hmac.compare_digest(given, _digest(right))]
        return max(matching, default=None)

    def begin(self, role: Role, user: str | None = None) -> tuple[Session, str]:
        """A new session with an id of its own, and its cookie; `user` is the name that a proxy gave."""
        session = Session(
            secrets.token_urlsafe(24), role, user or role.label, user is not None, ends_at=time() + SESSION_SECONDS
        )
        signer = self._signers[_kind(session)]
        return session, signer.dumps([session.session_id, int(role), session.user])

    def read(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None where this system did not sign it, it has expired, or it is from the future."""
        session = self._load(cookie) if cookie else None
        now = time()
        is_valid = session is not None and now < session.ends_at <= now + SESSION_SECONDS + CLOCKS_DIFFER_SECONDS
        return session if is_valid else None

    def _load_cookie(self, cookie: str) -> Session | None:
        """The session of a cookie, over or not."""
        for kind, signer in self._signers.items():
            try:
                (session_id, role, user), began = signer.loads(cookie, return_timestamp=True)
            except BadData:
                continue
            session = Session(
                session_id, Role(role), user, kind == "proxy", ends_at=began.timestamp() + SESSION_SECONDS
            )
            return session if _kind(session) == kind else None
        return None

    def csrf_token(self, session: Session) -> str:
        """The token that every form of a session carries; no other page can know it."""
        return hmac.new(self._keys[_kind(session)], f"csrf {session.session_id}".encode(), "sha256").hexdigest()

    def is_csrf_token(self, session: Session, given: str | None) -> bool:
        """Whether a form carries the token of its session."""
        return hmac.compare_digest(self.csrf_token(session).encode(), (given or "").encode())

    @cached_property
    def _keys(self) -> Mapping[str, bytes]:
        secret = self._read_secret().encode()
        parts = {role.label: password for role, password in self._passwords.items()}
        if self._proxy_header:
            parts["proxy"] = self._proxy_header.lower()
        return {kind: hmac.new(secret, f"{kind} {part}".encode(), "sha256").digest() for kind, part in parts.items()}

    @cached_property
    def _signers(self) -> Mapping[str, URLSafeTimedSerializer]:
        return {
            kind: URLSafeTimedSerializer(
                key, salt="console session", signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
            )
            for kind, key in self._keys.items()
        }


def _kind(session: Session) -> str:
    return "proxy" if session.by_proxy else session.role.label


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode()).digest()
