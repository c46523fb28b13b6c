"""What was observed of control and challenger, as far as the statistics need it: counts, not persons.

The unit of scores, decisions and labels is the *person*: the first prediction of each within an epoch. Thirty
predictions of one person share one outcome, and counted singly they would narrow every interval without a new fact. The
unit of latency is the first request of a person on each day: what slows a request down is the machine and the moment
more than the person, and a fault that begins on the third day must be seen. A request of many records counts once
there, and not at all when both versions had a part in it. The unit of errors is the request.

An *epoch* is a period in which the same people were assigned to the same versions; a change of the weights ends it.
Pinned requests chose their version, and records without a person cannot be kept together with theirs: both are counted
and decide nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from numpy.typing import ArrayLike, NDArray

LATENCY_EDGES = np.append(1.005 ** np.arange(4_000) / 1_000, np.inf)
"""Upper ends of the cells of latency in milliseconds: half a per cent wide each, from 1 microsecond to 8 minutes."""

SCORE_EDGES = np.arange(1, 2_001) / 2_000
"""Upper ends of the cells of scores."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values of a variant: exact moments, and counts in cells for ranks and quantiles.

    Attributes
    ----------
    n : int
    mean : float
        NaN without values.
    variance : float
        With ``n - 1``; NaN with less than two values.
    edges : ndarray of shape (n_cells,), float64
        Upper, inclusive ends of the cells, ascending; the lower end of the first is 0.
    counts : ndarray of shape (n_cells,), int64
    """

    n: int
    mean: float
    variance: float
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, values: ArrayLike, edges: NDArray[np.float64]) -> Self:
        """Distribution of values that lie above 0 or at it, and at or below the last edge.

        Parameters
        ----------
        values : array_like of shape (n,), float64
        """
        return cls.empty(edges).with_values(np.asarray(values, np.float64))

    @classmethod
    def empty(cls, edges: NDArray[np.float64]) -> Self:
        """Distribution without values."""
        return cls(0, math.nan, math.nan, edges, np.zeros(len(edges), np.int64))

    def with_values(self, values: NDArray[np.float64]) -> Self:
        """Together with more values.

        References
        ----------
        Chan, Golub & LeVeque (1979), STAN-CS-79-773, eq. 2.1: moments of two samples together, without cancellation.
        """
        more = len(values)
        if not more:
            return self
        n, mean = self.n + more, float(values.mean())
        squares = float(((values - mean) ** 2).sum())
        if self.n:
            squares += (self.variance * (self.n - 1) if self.n > 1 else 0.0) + (
                (mean - self.mean) ** 2 * self.n * more / n
            )
            mean = self.mean + (mean - self.mean) * more / n
        cells = np.searchsorted(self.edges, values, "left")
        counts = self.counts + np.bincount(cells, minlength=len(self.edges))
        return type(self)(n, mean, squares / (n - 1) if n > 1 else math.nan, self.edges, counts)


@dataclass(frozen=True, slots=True)
class Errors:
    """Requests and how many of them failed.

    Attributes
    ----------
    requests : int
        Answered or failed.
    failed : int
        Answered by a problem that the version is charged with.
    source : str
        Where that was counted.
    """

    requests: int
    failed: int
    source: str


@dataclass(frozen=True, slots=True)
class Labels:
    """Decisions of unique persons against what became of them, once their horizon has passed.

    Attributes
    ----------
    tp, fp, tn, fn : int
        Positive means: expected to leave.
    """

    tp: int = 0
    fp: int = 0
    tn: int = 0
    fn: int = 0


@dataclass(frozen=True, slots=True)
class Arm:
    """What one version did in one epoch.

    Attributes
    ----------
    version : str
    employees : int
        Unique persons whom the split assigned to it.
    records : int
        Their predictions, repeated ones included.
    selected : int
        Of the persons, those expected to leave at their first prediction.
    pinned : int
        Predictions that were asked of this version: kept apart.
    idless : int
        Predictions without a person: kept apart.
    latency : Distribution or None
        Milliseconds, one request per person and day; None where there is none (a shadow's).
    scores : Distribution or None
        Of each person's first prediction; None without persons.
    labels : Labels
    errors : Errors or None
        None: nobody counted them.
    """

    version: str
    employees: int = 0
    records: int = 0
    selected: int = 0
    pinned: int = 0
    idless: int = 0
    latency: Distribution | None = None
    scores: Distribution | None = None
    labels: Labels = field(default_factory=Labels)
    errors: Errors | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Persons whom both versions scored from the same record, the first such record of each.

    Attributes
    ----------
    control, challenger : ndarray of shape (n,), float64
        Probabilities.
    control_selected, challenger_selected : ndarray of shape (n,), bool
        Decisions.
    left : ndarray of shape (n,), int8
        1 left, 0 stayed, -1 not known yet.
    """

    control: NDArray[np.float64]
    challenger: NDArray[np.float64]
    control_selected: NDArray[np.bool_]
    challenger_selected: NDArray[np.bool_]
    left: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.control)


@dataclass(frozen=True, slots=True)
class Epoch:
    """A period in which the assignment stood still.

    Attributes
    ----------
    number : int
        From 0, oldest first, among those of the experiment.
    start, end : datetime
        UTC, the end excluded.
    shares : mapping of str to float
        Version to its share of the buckets, every version with traffic; they sum to 1.
    assigned : mapping of str to int
        Version to unique persons assigned to it, every version with traffic.
    control, challenger : Arm
    pairs : Pairs or None
        Where the challenger is a shadow.
    """

    number: int
    start: datetime
    end: datetime
    shares: Mapping[str, float]
    assigned: Mapping[str, int]
    control: Arm
    challenger: Arm
    pairs: Pairs | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """What was observed until a moment.

    Attributes
    ----------
    as_of : datetime
        UTC.
    epochs : tuple of Epoch
        Oldest first; the last one is judged.
    notes : tuple of str
        What is not known, and why.
    is_complete : bool
        Nobody will be added any more: the experiment was stopped. Labels may still mature.
    """

    as_of: datetime
    epochs: tuple[Epoch, ...] = ()
    notes: tuple[str, ...] = ()
    is_complete: bool = False
