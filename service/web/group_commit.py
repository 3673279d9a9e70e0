"""Deliveries that wait for Redis at the same time go there together: one round trip, and one `fsync`, for all of them.

A round trip for each would be most of what the door does. So one is under way at a time; who comes meanwhile stands in
line, and the first of the line then takes all others along. Where nobody else is there, a delivery waits for nobody.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from threading import Event, Lock
from typing import TYPE_CHECKING

from service.broker.inbox import Put
from service.errors import InboxUnavailable

if TYPE_CHECKING:
    from service.broker.inbox import Delivery, Flag, Inbox

# So many bytes go together at most: Redis has to take them within its time-out.
MOST_BYTES = 1024 * 1024


@dataclass(slots=True, eq=False)
class _Waiting:
    """One delivery that is to be put.

    Attributes:
        delivery: it.
        called: set when its outcome is known, or when it is to lead the next group.
        outcome: how many entries the stream held after it, or why it is not there; None while neither is known.
    """

    delivery: Delivery
    called: Event = field(default_factory=Event)
    outcome: int | InboxUnavailable | None = None


class GroupCommit:
    """The inbox in the hands of many requests at once.

    Args:
        inbox: the stream.
        flag: raised in the same round trip.
    """

    def __init__(self, inbox: Inbox, flag: Flag) -> None:
        self._inbox = inbox
        self._flag = flag
        # Guards what follows; held for a moment only.
        self._lock = Lock()
        self._line: deque[_Waiting] = deque()
        self._somebody_leads = False

    def put(self, delivery: Delivery) -> Put:
        """Take a delivery; it is safe when this returns.

        Returns:
            As `Inbox.put`; of those that went together, one alone is told that the flag was raised.

        Raises:
            InboxUnavailable: Redis did not take it, or did not say so in time.
        """
        mine = _Waiting(delivery)
        with self._lock:
            self._line.append(mine)
            waits, self._somebody_leads = self._somebody_leads, True
        if waits:
            mine.called.wait()
        flag_raised = mine.outcome is None and self._lead()
        if not isinstance(mine.outcome, int):
            raise InboxUnavailable(str(mine.outcome))
        return Put(mine.outcome, flag_raised)

    def _lead(self) -> bool:
        """Put those in line, then call them and the next one who leads: whether the flag was raised."""
        group = self._first_in_line(MOST_BYTES)
        outcome: int | InboxUnavailable = InboxUnavailable("this process was interrupted")
        flag_raised = False
        try:
            outcome, flag_raised = self._inbox.put(*(one.delivery for one in group), flag=self._flag)
        except InboxUnavailable as error:
            outcome = error
            # Those who came meanwhile waited for the same time-out: it is theirs, too.
            group += self._first_in_line()
        finally:
            # Also where this was interrupted: nobody may wait for it in vain.
            for one in group:
                one.outcome = outcome
                one.called.set()
            self._hand_on()
        return flag_raised

    def _first_in_line(self, most_bytes: float = inf) -> list[_Waiting]:
        """Take those out of the line who go next."""
        group: list[_Waiting] = []
        size = 0
        with self._lock:
            while self._line and size < most_bytes:
                group.append(self._line.popleft())
                size += len(group[-1].delivery.body)
        return group

    def _hand_on(self) -> None:
        """Who is first in line now leads next; where there is nobody, who comes next."""
        with self._lock:
            self._somebody_leads = bool(self._line)
            if self._line:
                self._line[0].called.set()
