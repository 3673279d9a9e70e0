"""Access to the console: login, logout, and the check of a person's role before every page."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog
from flask import g, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import Forbidden

from service.web.console.login_limit import LoginLimit
from service.web.console.presentation import url_with
from service.web.console.proxies import ProxyHeaders
from service.web.console.sessions import COOKIE, COOKIE_PATH, SESSION_SECONDS, Role

if TYPE_CHECKING:
    from flask import Response
    from werkzeug.wrappers import Response as BaseResponse

    from service.config import Settings
    from service.web.console.sessions import Session, SessionSigner

log = structlog.get_logger(__name__)

SAFE_METHODS = ("GET", "HEAD")
HOME = "/console/"
MAX_PASSWORD_LENGTH = 1024


class Access:
    """Who gets in to the console, and what a request may do there."""

    def __init__(self, settings: Settings, signer: SessionSigner) -> None:
        self._signer = signer
        self._proxies = ProxyHeaders(settings)
        self._limit = LoginLimit()
        self._is_https = (settings.public_url or "").startswith("https://")

    def require_session(self) -> BaseResponse | None:
        """Before every page but the login: `g.console_session` from then on, or a redirect to the login.

        Raises:
            Forbidden: a write without the rights, or without the token of its session.
            PostgresUnavailable: the secret of the sessions cannot be read.
        """
        session = self._session()
        if session is None:
            wanted = url_with() if request.method in SAFE_METHODS else HOME
            return redirect(url_for("console.show_login", next=None if wanted == HOME else wanted), 303)
        g.console_session = session
        if request.method not in SAFE_METHODS:
            self._require_write(session)
        return None

    def csrf_token(self) -> str:
        """The token for the forms of this request's session."""
        return self._signer.csrf_token(g.console_session)

    def show_login(self) -> Response | BaseResponse:
        """The form; the page itself for those who need none."""
        if self._session() is not None:
            return redirect(safe_target(request.args.get("next")), 303)
        return self._login_page("", 200)

    def log_in(self) -> Response | BaseResponse:
        """Take a password. A session that came along is not used: a new one begins."""
        _refuse_other_sites()
        # Before the limit is asked: else a thousand requests could pass it, and then send their passwords.
        password = request.form.get("password", "")
        address = self._proxies.address(request)
        if wait := self._limit.seconds_to_wait(address):
            response = self._login_page(f"Too many wrong passwords: try again in {ceil(wait)} s.", 429)
            response.headers["Retry-After"] = str(ceil(wait))
            return response
        role = self._signer.role_of(password) if len(password) <= MAX_PASSWORD_LENGTH else None
        if role is None:
            log.warning("console.login_failed", address=address, failures=self._limit.note_failure(address))
            return self._login_page("That password is wrong.", 401)
        # A viewer who guesses the operators' password must not begin anew by logging in between.
        if role is Role.OPERATOR:
            self._limit.note_success(address)
        _session, cookie = self._signer.begin(role)
        log.info("console.login", role=role.label, address=address)
        entered = redirect(safe_target(request.form.get("next")), 303)
        self._set_cookie(entered, cookie)
        return entered

    def log_out(self) -> BaseResponse:
        """Forget the session in this browser."""
        response = redirect(url_for("console.show_login"), 303)
        response.delete_cookie(COOKIE, path=COOKIE_PATH, secure=self._is_https, httponly=True, samesite="Lax")
        return response

    def keep_session(self, response: Response) -> Response:
        """After a request that a proxy let in without a session: keep the one that began."""
        if cookie := g.pop("console_new_cookie", None):
            self._set_cookie(response, cookie)
        return response

    def _session(self) -> Session | None:
        user = self._proxies.user(request)
        session = self._signer.read(request.cookies.get(COOKIE))
        # The proxy decides at every request: whom it no longer names is logged out.
        if session is not None and session.by_proxy and session.user != user:
            session = None
        if session is None and user is not None:
            session, g.console_new_cookie = self._signer.begin(Role.OPERATOR, user)
            log.info("console.login", role=session.role.label, by_proxy=True, address=self._proxies.address(request))
        return session

    def _require_write(self, session: Session) -> None:
        _refuse_other_sites()
        given = request.headers.get("X-CSRF-Token") or request.form.get("csrf_token")
        if not self._signer.is_csrf_token(session, given):
            raise Forbidden("This form is no longer valid: go back, reload the page and try again.")
        if session.role < Role.OPERATOR and request.endpoint != "console.log_out":
            raise Forbidden("Viewers may look and change nothing: log in with the operators' password.")

    def _login_page(self, error: str, status: int) -> Response:
        context: dict[str, Any] = {
            "error": error,
            "next": safe_target(request.values.get("next")),
            "takes_passwords": self._signer.takes_passwords,
        }
        return make_response(render_template("console/login.html", **context), status)

    def _set_cookie(self, response: BaseResponse, cookie: str) -> None:
        response.set_cookie(
            COOKIE, cookie, SESSION_SECONDS, path=COOKIE_PATH, secure=self._is_https, httponly=True, samesite="Lax"
        )


def safe_target(wanted: str | None) -> str:
    """Where to go after the login: a page of the console, whatever the link named."""
    if not wanted or not wanted.startswith(HOME) or "\\" in wanted or not wanted.isprintable():
        return HOME
    parts = urlsplit(wanted)
    return HOME if parts.scheme or parts.netloc or "//" in parts.path or "/../" in f"{parts.path}/" else wanted


def _refuse_other_sites() -> None:
    """Refuse a form that a page of another site sent; browsers say which site it was.

    Raises:
        Forbidden: it did.
    """
    origin = request.headers.get("Origin")
    try:
        other = origin not in (None, "null") and urlsplit(str(origin)).netloc != request.host
    except ValueError:
        other = True
    if other or request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("This form was sent from another site.")
