"""The decision threshold: which probability of leaving is called a leaver, chosen on out-of-fold scores.

Notation: n rows, y in {0, 1}, s in [0, 1]; a row is called a leaver when s >= t. Candidate thresholds lie halfway
between neighbouring distinct scores, so that rounding in another scorer does not move a row across.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from attrition.errors import Fault, InsufficientData

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Kind = Literal["best_accuracy", "max_f1", "max_balanced_accuracy", "min_cost", "top_share"]


class ThresholdObjective(BaseModel):
    """What the threshold is chosen for.

    The default is the best accuracy that still finds half of the leavers. Accuracy alone favours a threshold that calls
    almost nobody, because most people stay; a list that misses most leavers is of no use to anyone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "best_accuracy"
    """``best_accuracy``, ``max_f1``, ``max_balanced_accuracy``; ``min_cost`` weighs missed leavers by
    `false_negative_cost`; ``top_share`` calls the `share` of rows with the highest scores, for a fixed capacity."""
    min_recall: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of leavers that must be called, whatever else is optimised; not used by ``top_share``."""
    false_negative_cost: Annotated[float, Field(gt=0)] | None = None
    """Cost of a missed leaver in units of a false alarm; for ``min_cost``, which needs it."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of rows to call; for ``top_share``, which needs it."""

    @model_validator(mode="after")
    def _settings_of_the_kind(self) -> Self:
        for name, kind in (("false_negative_cost", "min_cost"), ("share", "top_share")):
            given = getattr(self, name) is not None
            if given and self.kind != kind:
                raise ValueError(f"{name} has no effect with kind {self.kind}; it belongs to {kind}")
            if not given and self.kind == kind:
                raise ValueError(f"kind {kind} needs {name}")
        return self


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The chosen threshold and what it does on the rows it was chosen on.

    Attributes
    ----------
    threshold : float
        In [0, 1]; call a leaver when the score is at least this.
    value : float
        The objective at the threshold; higher is better (a cost is negated and per row).
    recall, precision, accuracy, selection_rate : float
        On the rows of the choice, in [0, 1]; optimistic for new rows, but hardly so for one number out of many rows.
    """

    threshold: float
    value: float
    recall: float
    precision: float
    accuracy: float
    selection_rate: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self)


def choose_threshold(y_true: ArrayLike, y_score: ArrayLike, objective: ThresholdObjective) -> ThresholdChoice:
    """The threshold with the best objective; among equals the lowest, which finds the most leavers.

    Parameters
    ----------
    y_true : array of shape (n,)
        1 = left.
    y_score : array of shape (n,), in [0, 1]
        Calibrated out-of-fold probabilities of leaving.
    objective
        What to optimise. A recall constraint can always be met: calling everybody has recall 1.

    Raises
    ------
    InsufficientData
        Only one class.

    Examples
    --------
    >>> choose_threshold([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.8], ThresholdObjective()).threshold
    0.5
    """
    y = np.asarray(y_true, dtype=np.int64)
    score = np.asarray(y_score, dtype=np.float64)
    n, n_positive = len(y), int(y.sum())
    if n_positive in {0, n}:
        raise InsufficientData(Fault("threshold", f"{n} rows of one class", "both leavers and stayers are needed"))
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(y[order])
    # a cut after position i calls the i + 1 highest scores; only cuts between distinct scores exist
    cuts = np.flatnonzero(np.append(ranked[:-1] != ranked[1:], True))
    called, tp = (cuts + 1).astype(np.float64), hits[cuts].astype(np.float64)
    value = _objective(objective, called, tp, n, n_positive)
    if objective.kind != "top_share":
        value = np.where(tp >= objective.min_recall * n_positive - 1e-9, value, -np.inf)
    best = len(value) - 1 - int(np.argmax(value[::-1]))  # the last maximum has the lowest threshold
    below = ranked[cuts[best] + 1] if best < len(cuts) - 1 else 0.0
    threshold = float((ranked[cuts[best]] + below) / 2)
    return ThresholdChoice(
        # neighbours closer than a rounding step have no number between them
        threshold=threshold if threshold > below else float(ranked[cuts[best]]),
        value=float(value[best]),
        recall=float(tp[best] / n_positive),
        precision=float(tp[best] / called[best]),
        accuracy=float((n - n_positive - called[best] + 2 * tp[best]) / n),
        selection_rate=float(called[best] / n),
    )


def _objective(
    objective: ThresholdObjective, called: NDArray[np.float64], tp: NDArray[np.float64], n: int, n_positive: int
) -> NDArray[np.float64]:
    fp, fn = called - tp, n_positive - tp
    tn = n - n_positive - fp
    match objective.kind:
        case "best_accuracy":
            return np.asarray((tp + tn) / n)
        case "max_f1":
            return np.asarray(2 * tp / (2 * tp + fp + fn))
        case "max_balanced_accuracy":
            return np.asarray((tp / n_positive + tn / (n - n_positive)) / 2)
        case "min_cost":
            return np.asarray(-(fp + (objective.false_negative_cost or 1.0) * fn) / n)
        case "top_share":
            return np.asarray(-np.abs(called / n - (objective.share or 0.0)))
