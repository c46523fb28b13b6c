"""The classical tests, for one look at a size that was fixed beforehand; looked at again and again they err.

They stand in every report beside the sequential figures because readers know them, and decide nothing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.evaluation.intervals import finite_or_none

if TYPE_CHECKING:
    from attrition.experiments.samples import Distribution


@dataclass(frozen=True, slots=True)
class FixedTest:
    """A classical test of equality.

    Attributes
    ----------
    metric : str
    test : str
    p_value : float, in [0, 1]
        Two-sided, valid for one look planned beforehand; NaN when it cannot be computed.
    effect : float
        What the test measures: a difference of rates, the probability that a challenger's value is the larger one, a
        difference of AUCs.
    """

    metric: str
    test: str
    p_value: float
    effect: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        document = asdict(self)
        return {**document, **{name: finite_or_none(document[name]) for name in ("p_value", "effect")}}


def chi_square(metric: str, k0: int, n0: int, k1: int, n1: int) -> FixedTest:
    """Pearson's chi-square test of two rates, without continuity correction.

    References
    ----------
    Pearson (1900), Philos. Mag. 50(302).
    """
    from scipy.special import chdtrc

    name = "chi-square"
    if not n0 or not n1:
        return FixedTest(metric, name, math.nan, math.nan)
    pooled = (k0 + k1) / (n0 + n1)
    effect = k1 / n1 - k0 / n0
    if pooled in {0.0, 1.0}:
        return FixedTest(metric, name, math.nan, effect)
    statistic = effect**2 / (pooled * (1 - pooled) * (1 / n0 + 1 / n1))
    return FixedTest(metric, name, float(chdtrc(1, statistic)), effect)


def mann_whitney(metric: str, control: Distribution, challenger: Distribution) -> FixedTest:
    """Mann-Whitney's test of two distributions with the same cells; values of a cell are ties.

    The normal approximation with the variance for ties, without continuity correction.

    References
    ----------
    Mann & Whitney (1947), Ann. Math. Stat. 18(1); Lehmann (1975), Nonparametrics, section 1.4 for ties.
    """
    from scipy.special import ndtr

    name = "Mann-Whitney"
    n0, n1 = float(control.n), float(challenger.n)
    if not n0 or not n1:
        return FixedTest(metric, name, math.nan, math.nan)
    below = np.cumsum(control.counts) - control.counts
    wins = float((challenger.counts * (below + control.counts / 2)).sum())
    ties = (control.counts + challenger.counts).astype(float)
    n = n0 + n1
    variance = n0 * n1 / 12 * (n + 1 - float((ties**3 - ties).sum()) / (n * (n - 1)))
    effect = wins / (n0 * n1)
    if variance <= 0:
        return FixedTest(metric, name, math.nan, effect)
    z = (wins - n0 * n1 / 2) / math.sqrt(variance)
    return FixedTest(metric, name, float(2 * ndtr(-abs(z))), effect)
