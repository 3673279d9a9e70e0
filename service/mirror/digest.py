"""The digest of a model's list fields: where a page's record has that of the known state, it reports nothing new. Pure.

A record without a digest is for the merge alone: it leaves a field or the status out, or shows the model as deleted.
"""

from __future__ import annotations

from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from service.model_fields import DELETED, Source, columns_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.upstream.payloads import ListedModel

LIST_COLUMNS = columns_of(Source.LIST)
_STATUS = LIST_COLUMNS.index("status")
_values_of = attrgetter(*LIST_COLUMNS)
_ENCODER = msgspec.json.Encoder()


def digests_of(models: Iterable[ListedModel]) -> list[int | None]:
    """The digests of a page's records."""
    return [digest_of(_values_of(model)) for model in models]


def digest_of(values: tuple[Any, ...]) -> int | None:
    """The digest of the values of `LIST_COLUMNS`, times in UTC: 64 bits, signed."""
    if UNSET in values or values[_STATUS] in (None, "", DELETED):
        return None
    return int.from_bytes(blake2b(_ENCODER.encode(values), digest_size=8).digest(), signed=True)
