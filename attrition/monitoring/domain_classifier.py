"""Whether window and reference can be told apart row by row: what single features do not show, features together may.

A classifier is trained to say which side a row comes from. Its cross-validated AUC is 0.5 when both sides are drawn
from one distribution, whatever it may be, and 1 when every row betrays its side.

References
----------
Lopez-Paz & Oquab (2017), Revisiting Classifier Two-Sample Tests, ICLR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from attrition.evaluation.auc import auc_delong

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

N_FOLDS = 5
MIN_ROWS = 100
"""Rows of either side below which nothing is said."""

CHANCE = 0.5
"""AUC of a classifier that knows nothing."""


@dataclass(frozen=True, slots=True)
class Separability:
    """How well rows betray their side.

    Attributes
    ----------
    auc, low, high : float in [0, 1]
        Cross-validated, with its 95 % interval.
    n_reference, n_window : int
        Rows that were looked at.
    features : tuple of str
        The most telling ones first: AUC lost when the feature is shuffled, on rows not trained on. Empty when the sides
        are not distinguishable: there is nothing to tell then.
    losses : tuple of float
    """

    auc: float
    low: float
    high: float
    n_reference: int
    n_window: int
    features: tuple[str, ...]
    losses: tuple[float, ...]

    @property
    def distinguishable(self) -> bool:
        """Whether the interval excludes what chance gives."""
        return self.low > CHANCE

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        document = {name: getattr(self, name) for name in self.__slots__}
        return document | {"features": list(self.features), "losses": list(self.losses)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        tuples = {"features": tuple(document["features"]), "losses": tuple(document["losses"])}
        return cls(**{**document, **tuples})


def separability(
    reference: NDArray[np.float64], window: NDArray[np.float64], names: Sequence[str], *, seed: int = 42
) -> Separability | None:
    """Cross-validated AUC of a classifier of sides; None with fewer than `MIN_ROWS` rows on either.

    Parameters
    ----------
    reference, window : ndarray of shape (n_rows, n_features), float64
        NaN is missing, and so is what is infinite.
    names : sequence of str, length n_features
    seed : int
        Of folds and classifier.
    """
    if min(len(reference), len(window)) < MIN_ROWS:
        return None
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

    rows = np.concatenate([reference, window])
    rows[~np.isfinite(rows)] = np.nan
    side = np.repeat([0, 1], [len(reference), len(window)])
    score, fitted = np.empty(len(rows)), []
    with threadpool_limits(1):  # the order of sums, hence the figures, must not depend on the machine's cores
        for train, test in StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(rows, side):
            # small trees, few of them: twice as many of twice the size find the same differences at twice the time
            classifier = HistGradientBoostingClassifier(
                learning_rate=0.15,
                max_iter=30,
                max_leaf_nodes=8,
                min_samples_leaf=40,
                early_stopping=False,
                random_state=seed,
            ).fit(rows[train], side[train])
            score[test] = classifier.predict_proba(rows[test])[:, 1]
            fitted.append((classifier, test))
        estimate = auc_delong(side, score)
        losses = np.zeros(len(names))
        for classifier, test in fitted if estimate.low > CHANCE else ():
            found = permutation_importance(
                classifier, rows[test], side[test], scoring="roc_auc", n_repeats=1, random_state=seed
            )
            losses += found.importances_mean / N_FOLDS
    order = np.argsort(-losses, kind="stable") if estimate.low > CHANCE else ()
    return Separability(
        auc=float(estimate.value),
        low=float(estimate.low),
        high=float(estimate.high),
        n_reference=len(reference),
        n_window=len(window),
        features=tuple(names[i] for i in order),
        losses=tuple(float(losses[i]) for i in order),
    )
