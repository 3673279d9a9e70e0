"""Bounds of an error rate: how wrong the mirror may be, given what was compared. Pure.

Every bound is one-sided, with 95 % confidence.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONFIDENCE = 0.95
_NORMAL_QUANTILE = 1.6448536269514722
# Halvings of an interval of length one: past the precision of a float.
_HALVINGS = 60
# Terms of the continued fraction; it needs about the square root of the larger argument.
_MAX_TERMS = 10_000


class Bounds(NamedTuple):
    """A rate between 0 and 1, its lower and upper bound, and how they were computed.

    Attributes:
        method: `clopper_pearson`, or `pulls` where pulls found errors and each was one unit of variance.
    """

    rate: float
    lower: float
    upper: float
    method: str


class Counts(NamedTuple):
    """The result of one pull, or of the checks in one stratum.

    Attributes:
        wrong: those of them that were wrong; at most `compared`.
        weight: rows that this unit represents; only `of_samples` reads it.
    """

    compared: int
    wrong: int
    weight: float = 1.0


def clopper_pearson(compared: float, wrong: float) -> tuple[float, float]:
    """The exact binomial bounds of a rate: the lower and the upper one.

    lower = B(0.05; x, n - x + 1), upper = B(0.95; x + 1, n - x), with B the quantile of the beta distribution. Without
    an error, the upper one is 1 - 0.05^(1/n).

    Source: C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934). `compared` is n, above 0, and need not be whole: see `of_samples`; `wrong` is
    x, from 0 to n.
    """
    lower = _beta_quantile(1 - CONFIDENCE, wrong, compared - wrong + 1) if wrong > 0 else 0.0
    upper = _beta_quantile(CONFIDENCE, wrong + 1, compared - wrong) if wrong < compared else 1.0
    return lower, upper


def of_samples(strata: Sequence[Counts]) -> Bounds | None:
    """The error rate of a population that was sampled by strata; None where nothing was compared.

    The rate of each stratum counts by the stratum's share of the population. The bounds are those of `clopper_pearson`
    for the effective sample size, the size of a simple sample with the same variance: n = r (1 - r) / Var(r), or Kish's
    n = 1 / Σ(w² / n_h) where no stratum or every row was wrong.

    Source: E. L. Korn, B. I. Graubard, "Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data", Survey Methodology 24 (1998).
    """
    checked = [stratum for stratum in strata if stratum.compared and stratum.weight > 0]
    if not checked:
        return None
    population = sum(stratum.weight for stratum in checked)
    rate = variance = kish = 0.0
    for compared, wrong, weight in checked:
        share, part = weight / population, wrong / compared
        rate += share * part
        variance += share**2 * part * (1 - part) / compared
        kish += share**2 / compared
    size = 1 / kish
    if variance > 0:
        # No larger than the number of checks, whatever a small variance of a few errors suggests.
        size = min(rate * (1 - rate) / variance, float(sum(stratum.compared for stratum in checked)))
    return Bounds(rate, *clopper_pearson(size, rate * size), "clopper_pearson")


def of_pulls(pulls: Sequence[Counts], burst: float = 1.0) -> Bounds | None:
    """The error rate that full pulls found; None where nothing was compared.

    Errors come in bursts (webhooks are lost together), so rows of one pull are not independent; pulls are, because each
    repairs what it finds. So the pull is the unit of variance of the ratio r = Σx / Σn, of k pulls:
    Var(r) = k / (k - 1) · Σ(x - r n)² / (Σn)². The bounds are those of `clopper_pearson` for the effective sample size
    n = r (1 - r) / Var(r) · (z / t)², with the 95 % quantiles of the normal distribution and of Student's t with k - 1
    degrees of freedom; x = r n.

    Where the variance cannot be estimated (no error, the same share in each pull, or one pull alone), each error counts
    for as many rows as a burst has: the effective sample size is Σn / burst.

    Source: W. G. Cochran, "Sampling Techniques" (1977), section 2.11, the ratio estimator; E. L. Korn, B. I. Graubard
    as in `of_samples`, who add (z / t)².

    Args:
        pulls: what each of them compared and found.
        burst: the design effect, rows that are wrong for one reason; see `burst_size`.
    """
    read = [pull for pull in pulls if pull.compared]
    if not read:
        return None
    compared, wrong, count = sum(pull.compared for pull in read), sum(pull.wrong for pull in read), len(read)
    rate = wrong / compared
    spread = sum((pull.wrong - rate * pull.compared) ** 2 for pull in read)
    if count < 2 or spread == 0:
        size = compared / max(1.0, burst)
    else:
        variance = count / (count - 1) * spread / compared**2
        size = rate * (1 - rate) / variance * (_NORMAL_QUANTILE / _t_quantile(CONFIDENCE, count - 1)) ** 2
    size = min(size, float(compared))
    return Bounds(rate, *clopper_pearson(size, rate * size), "pulls" if wrong else "clopper_pearson")


def burst_size(pulls: Sequence[Counts]) -> float:
    """How many rows are wrong for one reason, by what pulls found: Σx² / Σx, the mean over wrong rows; 1 without any.

    Of m rows of which each belongs to such a burst, Kish's design effect 1 + (m - 1) ρ is the size of the burst.

    Source: L. Kish, "Survey Sampling" (1965), section 5.4.
    """
    wrong = sum(pull.wrong for pull in pulls)
    return sum(pull.wrong**2 for pull in pulls) / wrong if wrong else 1.0


def _beta_quantile(probability: float, a: float, b: float) -> float:
    return _solve(lambda x: _incomplete_beta(x, a, b), probability)


def _t_quantile(probability: float, freedom: int) -> float:
    """Student's t above its median: P(|T| > t) = I(ν / (ν + t²); ν / 2, 1 / 2)."""
    x = _beta_quantile(2 * (1 - probability), freedom / 2, 0.5)
    return math.sqrt(freedom * (1 - x) / x)


def _solve(rising: Callable[[float], float], value: float) -> float:
    """Where in [0, 1] a rising function has a value."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if rising(middle) < value:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I(x; a, b), by its continued fraction.

    Source: NIST Digital Library of Mathematical Functions, 8.17.22, evaluated by the modified Lentz method.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    # The fraction converges quickly on this side of the mean only.
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for term in range(1, _MAX_TERMS):
        for factor in (
            term * (b - term) * x / ((a + 2 * term - 1) * (a + 2 * term)),
            -(a + term) * (a + b + term) * x / ((a + 2 * term) * (a + 2 * term + 1)),
        ):
            d = 1 / _nonzero(1 + factor * d, tiny)
            c = _nonzero(1 + factor / c, tiny)
            fraction *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return front * fraction


def _nonzero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
