"""Rows reach Postgres as they are, whatever characters their values hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from sqlalchemy import text

from service.storage import arrays, database
from service.storage.database import transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

TYPES = {"n": "bigint", "title": "text", "names": "text[]", "held": "jsonb", "at": "timestamptz", "yes": "boolean"}
NOON = datetime(2026, 5, 1, 12, 0, 0, 1, UTC)
HARD = ["", "null", "NULL", " a ", '"', "\\", '\\"', "\\n", "{}", "{a,b}", "a,b", "Zoë 🎉 李", "\x7f\u2028", "'; --"]
# Each control character but NUL, alone, behind a backslash and before a letter.
HARD += [f"{before}{chr(code)}n" for code in range(1, 32) for before in ("", "\\", "\\\\")]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = database.connect(database_url)
    yield engine
    engine.dispose()


def _rows() -> list[dict[str, Any]]:
    filled = [
        {"n": n, "title": one, "names": [one, "b"], "held": {one: [one, None]}, "at": NOON, "yes": True}
        for n, one in enumerate(HARD)
    ]
    return [*filled, {"n": None, "names": [], "held": [], "yes": False}, {"n": 2**63 - 1}]


def test_rows_come_back_as_they_were_whatever_they_hold(engine: Engine) -> None:
    with transaction(engine) as connection:
        found = connection.execute(
            text(f"SELECT {', '.join(TYPES)} FROM {arrays.table(TYPES)} ORDER BY place"),
            arrays.columns(TYPES, _rows()),
        )
        assert [dict(row) for row in found.mappings()] == [{**dict.fromkeys(TYPES), **row} for row in _rows()]


def test_columns_of_a_type_share_one_parameter(engine: Engine) -> None:
    types = {"a": "text", "n": "bigint", "b": "text", "names": "text[]"}
    rows = [{"a": one, "n": 1, "b": None, "names": [one, "b"]} for one in HARD]
    given = arrays.columns_by_type(types, rows, "given")
    with transaction(engine) as connection:
        texts = connection.execute(text("SELECT CAST(:given_text AS text[])"), given).scalar_one()
        assert texts[:2] == [HARD, [None] * len(HARD)]
        third = text("SELECT CAST(one AS text[]) FROM unnest((CAST(:given_text AS text[]))[3:3]) AS one")
        assert connection.execute(third, given).scalars().all() == [[one, "b"] for one in HARD]
    assert given["given_bigint"] == "{{" + ",".join("1" for _ in HARD) + "}}"
    assert arrays.columns_by_type(types, [], "given") == {"given_text": "{}", "given_bigint": "{}"}


def test_ids_come_back_as_they_were_whatever_they_hold(engine: Engine) -> None:
    with transaction(engine) as connection:
        statement = text(f"SELECT {arrays.IDS_ARRAY}")
        assert connection.execute(statement, {"ids": arrays.encode(HARD)}).scalar_one() == HARD
        assert connection.execute(statement, {"ids": arrays.encode([])}).scalar_one() == []


def test_raw_document_with_line_breaks_is_stored_as_it_means(engine: Engine) -> None:
    raw = msgspec.Raw(b'{\n\t"a":\r ["b\\n\\u0007", "\\\\n"]\n}')
    with transaction(engine) as connection:
        found = connection.execute(
            text(f"SELECT held FROM {arrays.table({'held': 'jsonb'})}"),
            arrays.columns({"held": "jsonb"}, [{"held": raw}]),
        ).scalar_one()
        assert found == {"a": ["b\n\x07", "\\n"]}
