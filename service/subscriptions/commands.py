"""The acts of people and API clients on subscriptions: each is checked, done and recorded in one transaction."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from service.errors import ApiError
from service.model_fields import STATUS_NAMES
from service.storage import audit, models, subscriptions
from service.storage.database import transaction
from service.storage.subscriptions import MAX_SUBSCRIPTIONS
from service.subscriptions import addresses, message
from service.subscriptions.receiver import ReceiverClient
from service.subscriptions.signing import new_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from service.config import Settings
    from service.storage.audit import Actor
    from service.subscriptions.receiver import SendOutcome

MAX_BATCH = 100
MAX_FILTERS = 100
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_NUMBER = re.compile(r"[0-9]{1,18}")
# A test is waited for by a person.
TEST_SECONDS = 10.0

_Texts = Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(max_length=MAX_FILTERS)]


class SubscriptionBody(msgspec.Struct, frozen=True, rename="camel"):
    """The body that adds a subscription."""

    name: Annotated[str, Meta(pattern=_NAME, description="Unique.")]
    url: Annotated[str, Meta(max_length=addresses.MAX_URL_LENGTH, description="Where requests go; http or https.")]
    statuses: Annotated[_Texts, Meta(description="Only changes to one of these statuses.")] = ()
    teams: Annotated[_Texts, Meta(description="Only changes of models that are then in one of these teams.")] = ()
    with_personal_data: Annotated[bool, Meta(description="Send names, addresses and genders, too.")] = False
    batch: Annotated[int, Meta(ge=1, le=MAX_BATCH, description="Up to this many changes in one request.")] | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionCommands:
    """The acts of one person or client.

    Each raises `ApiError`: 404 where no subscription has the name, others as it says.

    Attributes:
        noted: called with the id of the row in the audit log that an act has written.
    """

    engine: Engine
    actor: Actor
    noted: Callable[[int], object] = lambda _row_id: None

    def add(self, wanted: SubscriptionBody) -> str:
        """Add a subscription: its secret, which is shown this once.

        Raises:
            ApiError: 400, it is not one that can be; 409, the name is taken, or there are too many.
        """
        if problem := _problem(wanted):
            raise refused(problem)
        secret = new_secret()
        # A path or query may hold a token.
        detail = {"host": urlsplit(wanted.url).netloc, "with_personal_data": wanted.with_personal_data}
        undocumented = sorted(set(wanted.statuses) - set(STATUS_NAMES))
        with transaction(self.engine) as connection:
            # The vendor may add a status, but one that is misspelt would never be sent anything.
            if unknown := models.statuses_of_none(connection, undocumented):
                raise refused(
                    f"no model has the status {', '.join(unknown)}; the vendor documents {', '.join(STATUS_NAMES)}"
                )
            added = subscriptions.add(connection, secret, **msgspec.structs.asdict(wanted))
            if added is None:
                raise _conflict(f"there is a subscription {wanted.name} already")
            if not added:
                raise _conflict(f"there are {MAX_SUBSCRIPTIONS} subscriptions, as many as there may be")
            self._record(connection, "add", wanted.name, detail)
        return secret

    def pause(self, name: str) -> None:
        """Send nothing until it is resumed.

        Raises:
            ApiError: 409, it is disabled.
        """
        with transaction(self.engine) as connection:
            if not subscriptions.pause(connection, name):
                require(connection, name)
                raise _conflict(f"{name} is disabled: nothing is sent to it")
            self._record(connection, "pause", name)

    def resume(self, name: str) -> None:
        """Go on from the cursor."""
        with transaction(self.engine) as connection:
            if not subscriptions.resume(connection, name):
                raise missing()
            self._record(connection, "resume", name)

    def replay(self, name: str, since: str | None) -> int:
        """Send changes again: the first that is.

        Args:
            name: of the subscription.
            since: the id of a change, or a time in ISO 8601; None: every change that is kept.

        Raises:
            ApiError: 400, it is neither.
        """
        begin = None if since is None else _place(since)
        with transaction(self.engine) as connection:
            first = subscriptions.replay(connection, name, begin)
            if first is None:
                raise missing()
            self._record(connection, "replay", name, {"since": since, "first": first})
        return first

    def rotate(self, name: str) -> str:
        """Make a new secret, which is shown this once; the present one signs for 24 hours, too."""
        secret = new_secret()
        with transaction(self.engine) as connection:
            if not subscriptions.rotate(connection, name, secret):
                raise missing()
            self._record(connection, "rotate", name)
        return secret

    def remove(self, name: str) -> None:
        """Remove a subscription."""
        with transaction(self.engine) as connection:
            if not subscriptions.remove(connection, name):
                raise missing()
            self._record(connection, "remove", name)

    def send_test(self, name: str, settings: Settings) -> SendOutcome:
        """Send a test request now, whatever the subscription's state is."""
        with transaction(self.engine) as connection:
            row = require(connection, name)
            signing_secrets = subscriptions.secrets(connection, name)
        client = ReceiverClient(settings, deadline=TEST_SECONDS)
        try:
            with audit.recorded(self.engine, self._act("test", name)) as act:
                message_id = f"msg_{row['id']}_test_{secrets.token_hex(8)}"
                body = message.trial_body(datetime.now(UTC))
                outcome = client.send(row["url"], message_id, body, signing_secrets)
                act.detail.update(status=outcome.status, error=outcome.error or None)
                act.outcome = audit.DONE if outcome.taken else audit.FAILED
                self.noted(act.row_id)
        finally:
            client.close()
        return outcome

    def _act(self, action: str, name: str, detail: dict[str, Any] | None = None) -> audit.Act:
        return audit.Act(self.actor, f"subscription.{action}", name, detail or {})

    def _record(self, connection: Connection, action: str, name: str, detail: dict[str, Any] | None = None) -> None:
        self.noted(audit.record(connection, self._act(action, name, detail)))


def require(connection: Connection, name: str) -> dict[str, Any]:
    """A subscription's row.

    Raises:
        ApiError: 404.
    """
    row = subscriptions.one(connection, name)
    if row is None:
        raise missing()
    return row


def _problem(wanted: SubscriptionBody) -> str | None:
    """Why a subscription cannot be added; None where it can."""
    if not re.fullmatch(_NAME, wanted.name):
        return "a name has 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a letter or digit"
    if problem := addresses.url_problem(wanted.url):
        return f"the URL cannot be used: {problem}"
    if wanted.batch is not None and not 1 <= wanted.batch <= MAX_BATCH:
        return f"a batch has 1 to {MAX_BATCH} changes"
    texts = (*wanted.statuses, *wanted.teams)
    if len(texts) > MAX_FILTERS or not all(text and "\0" not in text for text in texts):
        return f"statuses and teams have to be at most {MAX_FILTERS} texts that are not empty"
    return None


def _place(since: str) -> int | datetime:
    if _NUMBER.fullmatch(since):
        return int(since)
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise refused(f"{since!r} is neither the id of a change nor a time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def refused(reason: str) -> ApiError:
    """An act that cannot be done."""
    return ApiError(400, "INVALID_REQUEST", reason)


def _conflict(reason: str) -> ApiError:
    return ApiError(409, "CONFLICT", reason)


def missing() -> ApiError:
    """No subscription has the name."""
    return ApiError(404, "NOT_FOUND", "Subscription not found")
