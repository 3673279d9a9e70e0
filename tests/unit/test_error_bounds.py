"""Bounds of an error rate, beside SciPy's."""

from __future__ import annotations

import random
from typing import Any

import pytest

from service.mirror.error_bounds import Counts, burst_size, clopper_pearson, of_pulls, of_samples


@pytest.fixture(scope="module")
def special() -> Any:
    """SciPy's quantiles; they are loaded late, and `scipy.stats` would take every test process a second."""
    return pytest.importorskip("scipy.special", reason="SciPy is not installed")


@pytest.mark.parametrize("checks", [100, 1_000, 34_560])
def test_bound_without_errors_has_its_closed_form(checks: int) -> None:
    lower, upper = clopper_pearson(checks, 0)
    assert lower == 0
    assert upper == pytest.approx(1 - 0.05 ** (1 / checks), rel=1e-9)


@pytest.mark.parametrize(
    ("compared", "wrong"), [(10, 3), (10, 10), (1_000, 17), (5_000_000, 300), (27_000_000, 12), (812.5, 3.25)]
)
def test_bounds_equal_scipys(special: Any, compared: float, wrong: float) -> None:
    lower, upper = clopper_pearson(compared, wrong)
    assert lower == pytest.approx(special.betaincinv(wrong, compared - wrong + 1, 0.05), rel=1e-6)
    assert upper == (
        1.0 if wrong == compared else pytest.approx(special.betaincinv(wrong + 1, compared - wrong, 0.95), rel=1e-6)
    )


def test_pulls_are_the_unit_of_variance(special: Any) -> None:
    pulls = [Counts(1_000, 0), Counts(1_000, 10), Counts(2_000, 5)]
    bounds = of_pulls(pulls)
    rate = 15 / 4_000
    spread = sum((pull.wrong - rate * pull.compared) ** 2 for pull in pulls)
    variance = 3 / 2 * spread / 4_000**2
    size = rate * (1 - rate) / variance * (special.ndtri(0.95) / special.stdtrit(2, 0.95)) ** 2
    wrong = rate * size
    lower, upper = special.betaincinv(wrong, size - wrong + 1, 0.05), special.betaincinv(wrong + 1, size - wrong, 0.95)
    assert bounds is not None
    assert bounds.method == "pulls"
    assert bounds[:3] == pytest.approx((rate, lower, upper), rel=1e-6)


def test_errors_of_many_pulls_are_bounded_like_single_checks() -> None:
    # Each error comes alone, so the pulls add nothing to the variance of a simple sample.
    bounds = of_pulls([Counts(10_000, int(place % 30 == 0)) for place in range(2_700)])
    assert bounds is not None
    assert bounds[1:3] == pytest.approx(clopper_pearson(27_000_000, 90), rel=0.02)


def test_burst_in_one_of_many_pulls_is_one_accident() -> None:
    bounds = of_pulls([Counts(1_000, 50), *[Counts(1_000, 0)] * 999])
    assert bounds is not None
    assert bounds[1:3] == pytest.approx(clopper_pearson(1_000_000 / 50, 1), rel=0.05)


def test_pulls_without_errors_have_a_bound_above_zero() -> None:
    bounds = of_pulls([Counts(50, 0), Counts(50, 0)])
    assert bounds is not None
    assert bounds == (0.0, 0.0, pytest.approx(1 - 0.05 ** (1 / 100)), "clopper_pearson")


def test_pulls_without_errors_count_by_the_bursts_of_before() -> None:
    burst = burst_size([Counts(1_000, 30), Counts(1_000, 10), Counts(1_000, 0)])
    assert burst == (30**2 + 10**2) / 40
    bounds = of_pulls([Counts(5_000, 0), Counts(5_000, 0)], burst)
    assert bounds is not None
    assert bounds.upper == pytest.approx(1 - 0.05 ** (burst / 10_000))
    assert burst_size([Counts(1_000, 0)]) == 1


def test_rows_of_one_pull_are_one_accident() -> None:
    pull = Counts(1_000, 20)
    bounds = of_pulls([pull], burst_size([pull]))
    assert bounds is not None
    assert bounds[1:3] == pytest.approx(clopper_pearson(50, 1))


def test_nothing_compared_has_no_bounds() -> None:
    assert of_pulls([]) is None
    assert of_pulls([Counts(0, 0)]) is None
    assert of_samples([Counts(0, 0, 100.0)]) is None


def test_samples_of_one_stratum_are_a_simple_sample() -> None:
    bounds = of_samples([Counts(1_000, 0, 7.0), Counts(0, 0, 3.0)])
    assert bounds is not None
    assert bounds.upper == pytest.approx(1 - 0.05 ** (1 / 1_000), rel=1e-9)


def test_strata_count_by_their_share_of_the_mirror() -> None:
    bounds = of_samples([Counts(100, 10, 10.0), Counts(100, 0, 990.0)])
    assert bounds is not None
    assert bounds.rate == pytest.approx(0.001)
    assert bounds.lower < 0.001 < bounds.upper < 0.03


@pytest.mark.parametrize(("chance", "largest"), [(0.3, 1), (0.3, 20), (0.05, 20)])
def test_bounds_of_pulls_hold_the_rate_that_bursts_have(chance: float, largest: int) -> None:
    """Of 96 pulls of 1,000 rows, some find a burst of wrong rows, of any size up to the largest."""
    rate, held = chance * (largest + 1) / 2 / 1_000, 0
    for seed in range(100):
        rng = random.Random(seed)
        pulls = [Counts(1_000, rng.randint(1, largest) if rng.random() < chance else 0) for _ in range(96)]
        bounds = of_pulls(pulls, burst_size(pulls))
        assert bounds is not None
        assert bounds.upper < 8 * rate
        held += bounds.lower <= rate <= bounds.upper
    # Either bound is wrong in one case of twenty.
    assert held >= 90
