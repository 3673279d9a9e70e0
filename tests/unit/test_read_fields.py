"""Records of which a field cannot be used: it is absent, and everything else is read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from service.storage import tables
from service.upstream.fields import INDEXED, MAX_ID_BYTES, MAX_INDEXED_BYTES, PartialRecord, Payload, read_fields
from service.upstream.json_text import loads
from service.upstream.payloads import DetailedModel, ListedModel, WebhookModel
from service.upstream.records import read_page, successful_page

WHOLE: dict[str, Any] = {
    "id": "507f1f77bcf86cd799439011",
    "uid": "anon_1",
    "email": "ann@example.com",
    "title": "Ann",
    "status": "active",
    "teamId": "t1",
    "teamName": "Sales",
    "isDevelopment": False,
    "createdAt": "2024-01-15T12:00:00.000Z",
    "finishedAt": None,
    "photoCount": 40,
    "favoritePhotoId": "p1",
    "signedUrl": "https://example.com/?token=SECRET",
}
ODD: list[tuple[str, Any]] = [
    ("teamId", 12345),
    ("finishedAt", ""),
    ("finishedAt", 1705320000),
    ("finishedAt", "2016-12-31T23:59:60Z"),
    ("createdAt", "0001-01-01T00:00:00+05:00"),
    ("createdAt", "9999-12-31T23:59:59-05:00"),
    ("email", "é" * (MAX_INDEXED_BYTES // 2 + 1)),
    ("teamId", "t" * (MAX_INDEXED_BYTES + 1)),
    ("status", "s" * (MAX_INDEXED_BYTES + 1)),
    ("status", {"name": "active"}),
    ("title", ["Ann"]),
    ("title", float("inf")),
    ("uid", 7),
    ("isDevelopment", "false"),
    ("isDevelopment", 0),
    ("photoCount", 3_000_000_000),
    ("photoCount", -7),
    ("photoCount", "40"),
    ("photoCount", 1.5),
    ("photoCount", True),
]
# What has to be converted or measured before it is stored.
SLOW: list[tuple[str, Any]] = [
    ("createdAt", "2024-01-15T14:00:00+02:00"),
    ("finishedAt", "2024-01-15T14:00:00"),
    ("email", "e" * 64),
    ("status", "é" * 64),
]


def names_of(kind: type[Payload]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize(("field", "value"), ODD)
def test_an_unusable_field_is_absent_and_the_rest_is_read(field: str, value: Any) -> None:
    read = read_fields({**WHOLE, field: value}, DetailedModel)
    expected = msgspec.convert({name: told for name, told in WHOLE.items() if name != field}, DetailedModel)
    assert read == PartialRecord(expected, (field,))


@pytest.mark.parametrize(("field", "value"), [one for one in ODD if one[1] != float("inf")])
def test_a_page_with_an_unusable_field_is_left_to_careful(field: str, value: Any) -> None:
    odd = {name: told for name, told in {**WHOLE, field: value}.items() if name in names_of(ListedModel)}
    assert (successful_page(a_list_page(odd)) is None) == (field in odd)


def test_a_long_text_outside_an_index_is_kept_whole() -> None:
    long = "x" * 100_000
    read = read_fields({**WHOLE, "title": long, "uid": long, "teamName": long}, ListedModel)
    assert (read.value.title, read.value.uid, read.value.team_name, read.unusable) == (long, long, long, ())


def test_a_text_of_1000_bytes_fits_into_an_index() -> None:
    text = "é" * (MAX_INDEXED_BYTES // 2)
    assert read_fields({**WHOLE, "email": text}, ListedModel).value.email == text


def test_indexed_names_are_the_indexed_texts_of_the_mirror() -> None:
    ours = {column.name for index in tables.models.indexes for column in index.columns}
    texts = {name for name in ours if str(tables.models.c[name].type) == "TEXT"}
    assert texts - {"id"} == INDEXED


@pytest.mark.parametrize(
    "raw", [None, [], "text", 7, {}, {"id": None}, {"id": ""}, {"id": 5}, {"id": "i" * 256}, {"id": ".."}]
)
def test_a_record_without_a_usable_id_is_unreadable(raw: Any) -> None:
    with pytest.raises(ValueError, match=r"no object|`id`"):
        read_fields(raw, ListedModel)


def test_an_id_of_many_bytes_is_unreadable() -> None:
    with pytest.raises(ValueError, match="`id`"):
        read_fields({**WHOLE, "id": "é" * (MAX_ID_BYTES // 2 + 1)}, ListedModel)


def test_times_of_a_tolerated_record_are_in_utc() -> None:
    read = read_fields({**WHOLE, "createdAt": "2024-01-15T13:00:00+01:00", "teamId": 5}, ListedModel)
    assert read.value.created_at == datetime(2024, 1, 15, 12, tzinfo=UTC)
    assert isinstance(read.value.created_at, datetime)
    assert read.value.created_at.tzinfo is UTC


def test_out_of_range_numbers_leave_their_fields_unset() -> None:
    raw = loads(b'{"id": "m1", "title": 1e999, "photoCount": ' + b"9" * 5000 + b', "status": "a\\u0000"}')
    read = read_fields(raw, DetailedModel)
    assert (read.value.title, read.value.photo_count, read.value.status) == (UNSET, UNSET, "a\ufffd")
    assert read.unusable == ("title", "photoCount")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(
        {"id": st.just("m1"), "_id": st.just("m1")},
        optional=dict.fromkeys((names_of(DetailedModel) | names_of(WebhookModel)) - {"id", "_id"}, values),
    )
)
def test_any_record_with_an_id_is_read(raw: dict[str, Any]) -> None:
    for kind in (DetailedModel, WebhookModel):
        value, unusable = read_fields(raw, kind)
        assert set(unusable) <= raw.keys()
        # The rest is what the strict decoder takes.
        assert msgspec.convert({name: raw[name] for name in raw if name not in unusable}, kind) == value


def a_list_page(*records: dict[str, Any], **more: Any) -> bytes:
    pagination = {"total": 9, "limit": 200, "offset": 0, "hasMore": False}
    return msgspec.json.encode({"success": True, "models": records, "pagination": pagination, **more})


@given(st.lists(st.sampled_from([("teamId", None), ("status", ""), ("title", "t" * 5000), *SLOW, *ODD]), max_size=3))
def test_page_read_in_one_step_is_read_as_in_many(changes: list[tuple[str, Any]]) -> None:
    body = a_list_page(WHOLE, WHOLE | dict(changes) | {"id": "m2"})
    page, careful = successful_page(body), read_page(body)
    if page is not None:
        assert [msgspec.structs.asdict(one) for one in page.models] == [
            msgspec.structs.asdict(one) for one in careful.body.models
        ]
        assert (page.pagination, careful.set_aside) == (careful.body.pagination, ())


@pytest.mark.parametrize("change", [*SLOW, ("id", ".."), ("id", "i" * 64)])
def test_page_with_a_value_to_convert_is_left_to_careful(change: tuple[str, Any]) -> None:
    assert successful_page(a_list_page(WHOLE)) is not None
    assert successful_page(a_list_page(WHOLE, WHOLE | dict([change]))) is None


@pytest.mark.parametrize("success", [False, None, 1, "true"])
def test_page_without_success_is_left_to_careful(success: Any) -> None:
    assert successful_page(a_list_page(WHOLE, success=success)) is None
