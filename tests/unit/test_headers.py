"""Headers alone: how far a clock is off, by how much of the response's time that may be none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from service.upstream.headers import clock_skew, parse_rate_limit, response_interval
from service.upstream.transport import TransportResponse, UpstreamRequest

ANSWERED = datetime(2026, 3, 1, 12, tzinfo=UTC)


def response(ahead: float, elapsed: float = 0.0, **headers: str) -> TransportResponse:
    date = format_datetime(ANSWERED + timedelta(seconds=ahead), usegmt=True)
    return TransportResponse(
        UpstreamRequest("GET", "/", "/"), 200, {"Date": date, **headers}, b"", ANSWERED.timestamp(), elapsed
    )


@pytest.mark.parametrize(
    ("ahead", "elapsed", "skew"),
    [(0, 0, 0), (5, 0, 5), (5, 60, 5), (-5, 60, 0), (-61, 60, 0), (-70, 60, -9), (-5, 0, -4), (3600, 1, 3600)],
)
def test_what_the_wait_explains_is_no_skew(ahead: float, elapsed: float, skew: float) -> None:
    assert clock_skew(response(ahead, elapsed)) == timedelta(seconds=skew)


def test_a_response_from_a_cache_is_as_old_as_it_says() -> None:
    cached = response(-300, Age="300")
    assert clock_skew(cached) == timedelta(0)
    # It shows what was so then, not what is so now.
    assert response_interval(cached)[1] < ANSWERED - timedelta(seconds=290)


def test_a_response_without_a_date_says_nothing_of_the_clock() -> None:
    assert (
        clock_skew(TransportResponse(UpstreamRequest("GET", "/", "/"), 200, {}, b"", ANSWERED.timestamp(), 0.0)) is None
    )


@pytest.mark.parametrize("form", ["2026-03-01T12:00:30.000Z", "30", "1772366430", "1772366430000", "30;w=60", "30, 30"])
def test_the_reset_of_the_rate_limit_is_read_in_every_form(form: str) -> None:
    limits = {"X-RateLimit-Limit": "300, 300;w=60", "X-RateLimit-Remaining": "12", "X-RateLimit-Reset": form}
    found = parse_rate_limit(response(0, **limits))
    assert found is not None
    limit, remaining, reset_at = found
    assert (limit, remaining, reset_at - ANSWERED.timestamp()) == (300, 12, 30.0)


@pytest.mark.parametrize("form", ["", "soon", "-30", "1e9", "20000000", "99999999999", "nan"])
def test_a_reset_that_is_no_time_is_none(form: str) -> None:
    limits = {"X-RateLimit-Limit": "300", "X-RateLimit-Remaining": "12", "X-RateLimit-Reset": form}
    assert parse_rate_limit(response(0, **limits)) is None
