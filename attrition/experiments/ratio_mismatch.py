"""Sample-ratio mismatch: whether as many people met each version as the weights say.

People are assigned by a hash of their id, so among unique persons the counts are multinomial with the shares of the
buckets. When they are not, people got lost on the way (a version that fails before it logs, a log that drops rows, a
client that retries elsewhere), and then the two groups differ in more than their version: nothing that is compared
between them counts. For looks at any time, the Bayes factor of a Dirichlet mixture against the shares (Lindon & Malek
2022, Anytime-valid inference for multinomial count data, NeurIPS 35; first in 2020, arXiv:2011.03567); for one look,
the chi-square test at 0.001 that is usual for this purpose (Fabijan et al. 2019, KDD).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

CONCENTRATION = 100.0
"""Weight of the prior in persons: deviations of some ten per cent of a share are found first."""


@dataclass(frozen=True, slots=True)
class RatioCheck:
    """How the persons are distributed, and whether that can be chance.

    Attributes
    ----------
    assigned : mapping of str to int
        Version to unique persons.
    shares : mapping of str to float
        Version to its share of the buckets.
    p_value : float, in [0, 1]
        Always valid: may be looked at whenever one likes.
    p_chi_square : float, in [0, 1]
        Fixed horizon: for one look, planned beforehand.
    alpha : float
        Below it `p_value` is a mismatch.
    """

    assigned: Mapping[str, int]
    shares: Mapping[str, float]
    p_value: float
    p_chi_square: float
    alpha: float

    @property
    def mismatch(self) -> bool:
        """The split is not what the weights say."""
        return self.p_value < self.alpha

    def __str__(self) -> str:
        total = sum(self.assigned.values())
        parts = [
            f"{version} {self.assigned.get(version, 0):,} of {share * total:,.0f}"
            for version, share in self.shares.items()
        ]
        return f"{'MISMATCH' if self.mismatch else 'as weighted'}: {', '.join(parts)} (p {self.p_value:.2g})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "assigned": dict(self.assigned),
            "shares": dict(self.shares),
            "p_value": self.p_value,
            "p_chi_square": self.p_chi_square,
            "alpha": self.alpha,
            "mismatch": self.mismatch,
        }


def check_ratio(assigned: Mapping[str, int], shares: Mapping[str, float], alpha: float = 0.001) -> RatioCheck:
    """Counts of unique persons against the shares of their versions.

    Raises
    ------
    UsageError
        The shares do not sum to 1, or are not positive.

    Examples
    --------
    >>> print(check_ratio({"1.0.0": 5_300, "1.1.0": 4_700}, {"1.0.0": 0.5, "1.1.0": 0.5}))
    MISMATCH: 1.0.0 5,300 of 5,000, 1.1.0 4,700 of 5,000 (p 1.8e-07)
    """
    from scipy.special import chdtrc

    expected = np.array(list(shares.values()), float)
    if not len(expected) or (expected <= 0).any() or abs(expected.sum() - 1) > 1e-6:
        found = f"sum to {expected.sum():g}, the least is {expected.min(initial=0):g}"
        raise UsageError(Fault("shares", found, "each above 0, together 1"))
    counts = np.array([assigned.get(version, 0) for version in shares], float)
    n = counts.sum()
    deviation = float((((counts - n * expected) ** 2) / (n * expected)).sum()) if n else 0.0
    p_chi_square = float(chdtrc(len(counts) - 1, deviation)) if len(counts) > 1 else 1.0
    p_value = min(1.0, math.exp(-float(ratio_evidence(counts, expected))))
    return RatioCheck(dict(assigned), dict(shares), p_value, p_chi_square, alpha)


def ratio_evidence(counts: ArrayLike, shares: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of the Bayes factor against the shares.

    Parameters
    ----------
    counts : array_like of shape (..., k)
        Persons.
    shares : array_like of shape (k,)
        Positive, sum to 1.

    Returns
    -------
    ndarray of shape (...)
    """
    from scipy.special import gammaln

    counts, shares = np.asarray(counts, float), np.asarray(shares, float)
    prior = CONCENTRATION * shares
    n = counts.sum(axis=-1)
    mixture = gammaln(CONCENTRATION) - gammaln(CONCENTRATION + n)
    mixture = mixture + (gammaln(prior + counts) - gammaln(prior)).sum(axis=-1)
    return np.asarray(mixture - (counts * np.log(shares)).sum(axis=-1))
