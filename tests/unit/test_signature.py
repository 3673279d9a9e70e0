"""The webhook signature: what is signed is let in, anything else is not."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.upstream.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, Verdict, sign, verify

# The first text of a process takes seconds to draw: hypothesis builds its tables of Unicode then.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SECRET = "a" * 64
OTHER = "b" * 64
NOW = 1_705_320_000
BODY = b'{"event":"model.deleted"}'


def judge(
    signature: str | None,
    timestamp: str | None = str(NOW),
    body: bytes = BODY,
    *,
    secrets: tuple[str, ...] = (SECRET,),
    now: float = NOW,
) -> Verdict:
    return verify(secrets, signature, timestamp, body, now=now, tolerance=300)


def test_signature_is_the_vendors_formula() -> None:
    digest = hmac.new(SECRET.encode(), b"1705320000." + BODY, hashlib.sha256).hexdigest()
    assert sign(SECRET, NOW, BODY) == f"sha256={digest}" == sign(SECRET, str(NOW), BODY)
    assert (SIGNATURE_HEADER, TIMESTAMP_HEADER) == ("X-HeadshotPro-Signature", "X-HeadshotPro-Timestamp")


def test_rightly_signed_is_valid_under_every_accepted_secret() -> None:
    both = (OTHER, SECRET)
    assert judge(sign(SECRET, NOW, BODY), secrets=both) is Verdict.VALID
    assert judge(sign(OTHER, NOW, BODY), secrets=both) is Verdict.VALID
    assert judge(sign(OTHER, NOW, BODY)) is Verdict.FORGED
    assert judge(sign(SECRET, NOW, BODY), secrets=()) is Verdict.FORGED


@pytest.mark.parametrize("off", [-301, 301, 10**6])
def test_rightly_signed_but_too_old_or_ahead_is_stale(off: int) -> None:
    assert judge(sign(SECRET, NOW, BODY), now=NOW + off) is Verdict.STALE


@pytest.mark.parametrize("off", [-300, 0, 300])
def test_the_tolerance_itself_is_let_in(off: int) -> None:
    assert judge(sign(SECRET, NOW, BODY), now=NOW + off) is Verdict.VALID


def test_stale_needs_a_right_signature() -> None:
    assert judge(sign(OTHER, NOW, BODY), now=NOW + 10**6) is Verdict.FORGED


# int() takes each of these but the last two; the header must be plain digits as the vendor sends them.
@pytest.mark.parametrize(
    "timestamp",
    ["+1705320000", " 1705320000", "1705320000\n", "1_705_320_000", "-1", "١٧٠٥٣٢٠٠٠٠", "1" * 13, "", "1705320000.0"],
)
def test_a_timestamp_that_is_no_plain_number_is_forged(timestamp: str) -> None:
    assert judge(sign(SECRET, timestamp, BODY), timestamp) is Verdict.FORGED


def test_missing_headers_are_forged() -> None:
    assert judge(None) is Verdict.FORGED
    assert judge(sign(SECRET, NOW, BODY), None) is Verdict.FORGED


def test_the_prefix_is_needed() -> None:
    assert judge(sign(SECRET, NOW, BODY).removeprefix("sha256=")) is Verdict.FORGED


@patient
@given(signature=st.text(), timestamp=st.text(), body=st.binary())
def test_whatever_a_stranger_sends_is_forged_and_raises_nothing(signature: str, timestamp: str, body: bytes) -> None:
    assert judge(signature, timestamp, body) is Verdict.FORGED


@patient
@given(body=st.binary(min_size=1), place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_any_changed_bit_of_the_body_is_forged(body: bytes, place: int, bit: int) -> None:
    changed = bytearray(body)
    changed[place % len(body)] ^= 1 << bit
    signature = sign(SECRET, NOW, body)
    assert judge(signature, body=body) is Verdict.VALID
    assert judge(signature, body=bytes(changed)) is Verdict.FORGED


@patient
@given(place=st.integers(0, 70), character=st.characters())
def test_any_changed_character_of_the_signature_is_forged(place: int, character: str) -> None:
    right = sign(SECRET, NOW, BODY)
    changed = right[:place] + character + right[place + 1 :]
    assert judge(changed) is (Verdict.VALID if changed == right else Verdict.FORGED)


@patient
@given(timestamp=st.integers(0, 10**12 - 1))
def test_the_timestamp_is_signed_too(timestamp: int) -> None:
    expected = Verdict.VALID if timestamp == NOW else Verdict.FORGED
    assert judge(sign(SECRET, NOW, BODY), str(timestamp)) is expected
