"""When a 404 counts as a death. Pure.

A 404 alone is no death: replicas lag, and vendors have bad hours. It counts for a model that a complete walk did not
show; without one it is only kept, and the next full pull decides.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from service.upstream.payloads import created_at_of

if TYPE_CHECKING:
    from datetime import datetime


# The time in an ObjectId is cut to whole seconds.
ID_RESOLUTION = timedelta(seconds=1)
# Nothing was created further ahead of the response than two clocks may differ.
FUTURE = timedelta(minutes=5)


def counts_as_gone(model_id: str, created_at: datetime | None, sent_at: datetime, answered_at: datetime) -> bool:
    """Whether a 404 to a GET says anything: of a model created after it was sent it does not.

    A creation time in the future is no time: it would shield a model that never was from every 404.

    Args:
        model_id: the model; its ObjectId holds a creation time too.
        created_at: its creation time, where one is known.
        sent_at: lower end of the response's interval, upstream time.
        answered_at: upper end of it.
    """
    future = answered_at + FUTURE
    if created_at is not None:
        return created_at < sent_at or created_at > future
    born = created_at_of(model_id)
    return born is None or born + ID_RESOLUTION <= sent_at or born > future
