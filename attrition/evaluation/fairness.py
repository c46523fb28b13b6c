"""Selection and error rates by group, and how far apart they can truly be, given how few people a group has.

Notation: of group ``i``'s ``n[i]`` persons a share ``p[i]`` is flagged as leaving (the selection rate). The difference
is ``max p - min p`` and the ratio ``min p / max p``, over all groups of an attribute. Differences of the false
positive and the false negative rate are defined alike, with ``n[i]`` counting the group's stayers or leavers only.

**Why not the plain statistic.** ``max - min`` is never negative and grows with noise and with the number of groups: ten
departments of 60 people with equal true rates of 20 % differ by 16 points on average. A bootstrap around it inherits
the bias. So the limits are those of all pairs of groups:

* *The gap is at least* the largest lower limit over the pairs. Here every pair is a chance to be wrong, so the pairs'
  intervals hold simultaneously: Tukey's studentised range gives the critical value (Tukey-Kramer, which is exact or
  conservative for unequal sizes: Hayter 1984, Ann. Stat. 12(1)). Under equal true rates a lower limit above zero
  appears with probability of at most ``1 - confidence``, and a lower limit beyond a gate's threshold far less often.
* *The gap is at most* the largest upper limit over the pairs. Whatever pair is truly furthest apart, its own interval
  misses that gap with probability of at most ``(1 - confidence) / 2``, and the largest limit is at least as large; no
  correction for the number of pairs is needed (an intersection-union test: Berger & Hsu 1996, Stat. Sci. 11(4)).

A pair's interval is Newcombe's for differences and Donner and Zou's for ratios
(:mod:`attrition.evaluation.intervals`), which hold for small groups and rates near zero.

Beside these limits, by which gates decide, each report has the intervals of a bootstrap stratified by group
(:mod:`attrition.evaluation.fairness_bootstrap`): what people are used to read, with the bias described above.

Groups below `min_group_size` are counted, not compared. Rows without the attribute form the group ``(missing)``, which
is shown but not compared: not being recorded is a property of the data, not of the people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.errors import Fault, UsageError
from attrition.evaluation.display import html_figure, html_table, text_table
from attrition.evaluation.fairness_bootstrap import bootstrap_gaps
from attrition.evaluation.groups import MISSING, group_labels
from attrition.evaluation.intervals import (
    Estimate,
    difference_limits,
    normal_quantile,
    proportion,
    ratio_limits,
    wilson_limits,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from attrition.evaluation.intervals import Limits


_GAPS = ("ratio", "difference", "fpr_difference", "fnr_difference")


@dataclass(frozen=True, slots=True)
class GroupRates:
    """How one group is treated.

    Attributes
    ----------
    label : str
    n, n_positive : int
        Rows, and rows that left.
    selection_rate : Estimate
        Share flagged as leaving.
    fpr, fnr : Estimate
        Share of stayers flagged, and of leavers missed; undefined when the group has none.
    compared : bool
        False for ``(missing)``.
    """

    label: str
    n: int
    n_positive: int
    selection_rate: Estimate
    fpr: Estimate
    fnr: Estimate
    compared: bool = True

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        rates = {name: getattr(self, name).to_dict() for name in ("selection_rate", "fpr", "fnr")}
        return {"label": self.label, "n": self.n, "n_positive": self.n_positive, "compared": self.compared, **rates}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> GroupRates:
        """Inverse of :meth:`to_dict`."""
        rates = {name: Estimate.from_dict(document[name]) for name in ("selection_rate", "fpr", "fnr")}
        return cls(document["label"], document["n"], document["n_positive"], **rates, compared=document["compared"])


@dataclass(frozen=True, slots=True)
class FairnessReport:
    """How evenly the decisions fall over the groups of one attribute.

    Attributes
    ----------
    attribute : str
    groups : tuple of GroupRates
        Groups of at least `min_group_size` rows, in the order of their labels.
    ratio : Estimate or None
        Smallest over largest selection rate, in [0, 1]; 1 is equal. None with fewer than two compared groups.
    difference : Estimate or None
        Largest minus smallest selection rate, in [0, 1]; 0 is equal.
    fpr_difference, fnr_difference : Estimate or None
        Largest minus smallest false positive and false negative rate, over the groups that have stayers or leavers.
        None as above, and in reports of versions that were registered before these were kept.
    n_excluded_groups, n_excluded_rows : int
        Groups below `min_group_size`, and their rows.
    min_group_size : int
    bootstrap : mapping of str to Estimate
        The same gaps by name with bootstrap intervals; empty with fewer than two compared groups, and in reports of
        versions that were registered before these were kept.
    """

    attribute: str
    groups: tuple[GroupRates, ...]
    ratio: Estimate | None
    difference: Estimate | None
    n_excluded_groups: int
    n_excluded_rows: int
    min_group_size: int
    fpr_difference: Estimate | None = None
    fnr_difference: Estimate | None = None
    bootstrap: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def extremes(self) -> tuple[GroupRates, GroupRates] | None:
        """The compared groups with the lowest and the highest selection rate; None with fewer than two."""
        compared = sorted((g for g in self.groups if g.compared), key=lambda group: group.selection_rate.value)
        return (compared[0], compared[-1]) if len(compared) > 1 else None

    @property
    def gaps(self) -> Mapping[str, Estimate | None]:
        """The comparisons by name."""
        return {name: getattr(self, name) for name in _GAPS}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "attribute": self.attribute,
            "groups": [group.to_dict() for group in self.groups],
            **{name: estimate and estimate.to_dict() for name, estimate in self.gaps.items()},
            "n_excluded_groups": self.n_excluded_groups,
            "n_excluded_rows": self.n_excluded_rows,
            "min_group_size": self.min_group_size,
            "bootstrap": {name: estimate.to_dict() for name, estimate in self.bootstrap.items()},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> FairnessReport:
        """Inverse of :meth:`to_dict`."""
        return cls(
            attribute=document["attribute"],
            groups=tuple(GroupRates.from_dict(group) for group in document["groups"]),
            n_excluded_groups=document["n_excluded_groups"],
            n_excluded_rows=document["n_excluded_rows"],
            min_group_size=document["min_group_size"],
            **{name: Estimate.from_dict(found) if (found := document.get(name)) else None for name in _GAPS},
            bootstrap={name: Estimate.from_dict(found) for name, found in document.get("bootstrap", {}).items()},
        )

    @property
    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Group, rows, selection rate, false positive rate and false negative rate, as text."""
        return [
            (g.label if g.compared else f"{g.label} *", f"{g.n:,}", str(g.selection_rate), str(g.fpr), str(g.fnr))
            for g in self.groups
        ]

    @property
    def summary(self) -> str:
        """Differences and ratio with their intervals, and what was left out, in one line."""
        parts = ["fewer than two groups to compare"]
        if self.difference and self.ratio:
            parts = [f"difference {self._shown('difference')}", f"ratio {self._shown('ratio')}"]
        for words, name in (("stayers flagged", "fpr_difference"), ("leavers missed", "fnr_difference")):
            if self.gaps[name]:
                parts.append(f"difference of {words} {self._shown(name)}")
        if self.n_excluded_groups:
            groups = "1 group" if self.n_excluded_groups == 1 else f"{self.n_excluded_groups} groups"
            parts.append(f"{groups} below {self.min_group_size} rows left out")
        return "; ".join(parts)

    def _shown(self, gap: str) -> str:
        """A gap with its limits, and those of the bootstrap."""
        drawn = self.bootstrap.get(gap)
        return f"{self.gaps[gap]}" + (f", bootstrap [{drawn.low:.3f}, {drawn.high:.3f}]" if drawn else "")

    @property
    def _title(self) -> str:
        return f"Selection rates by {self.attribute}; {self.summary}"

    @property
    def _header(self) -> tuple[str, ...]:
        return self.attribute, "n", "flagged", "stayers flagged", "leavers missed"

    def __str__(self) -> str:
        return text_table(self._title, self._header, self.rows)

    def _repr_html_(self) -> str:
        from attrition.evaluation.plots import fairness_plot, figure_png

        figure = html_figure(figure_png(fairness_plot(self)), f"selection rates by {self.attribute}")
        return f"{html_table(self._title, self._header, self.rows)}<div>{figure}</div>"


def assess_fairness(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    attributes: pd.DataFrame,
    *,
    min_group_size: int = 50,
    confidence: float = 0.95,
) -> tuple[FairnessReport, ...]:
    """One report per attribute, in the order of the columns.

    Parameters
    ----------
    y_true : array_like of shape (n_rows,), 0 or 1
        1 = left within the horizon.
    y_pred : array_like of shape (n_rows,), 0 or 1
        1 = flagged as leaving.
    attributes : DataFrame of shape (n_rows, n_attributes)
        Group labels (see :func:`attrition.evaluation.groups.attributes_of`), rows in the order of `y_true`.
    min_group_size : int
        Smaller groups are counted, not compared.
    confidence : float
        In (0, 1); see the module for what holds with this probability.

    Raises
    ------
    UsageError
        Lengths differ, or a label or decision is not 0 or 1.
    """
    labels, decisions = np.asarray(y_true, float), np.asarray(y_pred, float)
    faults = []
    if not len(labels) == len(decisions) == len(attributes):
        faults.append(
            Fault(
                "y_true, y_pred and attributes", f"{len(labels)}, {len(decisions)} and {len(attributes)} rows", "equal"
            )
        )
    for name, column in (("y_true", labels), ("y_pred", decisions)):
        if foreign := int(np.count_nonzero((column != 0) & (column != 1))):
            faults.append(Fault(name, f"{foreign} values other than 0 and 1"))
    if faults:
        raise UsageError(faults)
    return tuple(
        _assess(str(name), labels == 1, decisions == 1, group_labels(attributes[name]), min_group_size, confidence)
        for name in attributes
    )


def _assess(
    attribute: str,
    labels: NDArray[np.bool_],
    decisions: NDArray[np.bool_],
    names: NDArray[np.object_],
    min_group_size: int,
    confidence: float,
) -> FairnessReport:
    known, sizes = np.unique(names.astype(str), return_counts=True)
    small = sizes < min_group_size
    groups = tuple(
        _group_rates(label, labels, decisions, names == label, confidence) for label in known[~small].tolist()
    )
    compared = [group for group in groups if group.compared]
    ratio = difference = None
    if len(compared) > 1:
        rows = np.isin(names.astype(str), [group.label for group in compared])
        difference, ratio = gaps(*_selections(labels[rows], decisions[rows], names[rows]), confidence)
    return FairnessReport(
        attribute=attribute,
        groups=groups,
        ratio=ratio,
        difference=difference,
        n_excluded_groups=int(small.sum()),
        n_excluded_rows=int(sizes[small].sum()),
        min_group_size=min_group_size,
        fpr_difference=_difference([group.fpr for group in compared], confidence),
        fnr_difference=_difference([group.fnr for group in compared], confidence),
        bootstrap=bootstrap_gaps(_counts(compared), confidence=confidence) if len(compared) > 1 else {},
    )


def _counts(groups: Sequence[GroupRates]) -> list[list[int]]:
    """Stayers flagged and not flagged, leavers missed and flagged, of each group."""
    counts = []
    for group in groups:
        flagged = round(group.fpr.value * group.fpr.n) if group.fpr.n else 0
        missed = round(group.fnr.value * group.fnr.n) if group.fnr.n else 0
        counts.append([flagged, group.fpr.n - flagged, missed, group.fnr.n - missed])
    return counts


def _difference(rates: Sequence[Estimate], confidence: float) -> Estimate | None:
    """How far apart the groups' rates are; None when fewer than two groups have one."""
    known = [rate for rate in rates if rate.n]
    if len(known) < 2:
        return None
    difference, _ = gaps([round(rate.value * rate.n) for rate in known], [rate.n for rate in known], confidence)
    return difference


def _group_rates(
    label: str, labels: NDArray[np.bool_], decisions: NDArray[np.bool_], rows: NDArray[np.bool_], confidence: float
) -> GroupRates:
    left, flagged = labels[rows], decisions[rows]
    return GroupRates(
        label=label,
        n=len(left),
        n_positive=int(left.sum()),
        selection_rate=proportion(int(flagged.sum()), len(left), confidence),
        fpr=proportion(int((flagged & ~left).sum()), int((~left).sum()), confidence),
        fnr=proportion(int((~flagged & left).sum()), int(left.sum()), confidence),
        compared=label != MISSING,
    )


def _selections(
    labels: NDArray[np.bool_], decisions: NDArray[np.bool_], names: NDArray[np.object_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Selected rows and rows of each group, by fairlearn."""
    from fairlearn.metrics import MetricFrame, count, selection_rate

    frame = MetricFrame(
        metrics={"rate": selection_rate, "n": count},
        y_true=labels.astype(int),
        y_pred=decisions.astype(int),
        sensitive_features={"group": names.astype(str)},
    ).by_group
    sizes = frame["n"].to_numpy(float)
    return np.round(frame["rate"].to_numpy(float) * sizes), sizes


def gaps(
    selected: NDArray[np.float64] | Sequence[float], sizes: NDArray[np.float64] | Sequence[float], confidence: float
) -> tuple[Estimate, Estimate]:
    """Difference and ratio of the selection rates of at least two groups.

    Parameters
    ----------
    selected, sizes : array_like of shape (n_groups,)
        Selected persons and persons per group.
    confidence : float
        In (0, 1).

    Returns
    -------
    tuple of Estimate
        Difference (largest minus smallest) and ratio (smallest over largest; undefined when nobody is selected).
    """
    k, n = np.asarray(selected, float), np.asarray(sizes, float)
    first, second = (index.ravel() for index in np.where(~np.eye(len(n), dtype=bool)))  # ordered pairs
    alone, together = normal_quantile(confidence), _simultaneous_quantile(len(n), confidence)

    def pairs(z: float) -> tuple[Limits, Limits]:
        p, low, high = wilson_limits(k, n, z)
        return (p[first], low[first], high[first]), (p[second], low[second], high[second])

    rows, rates = int(n.sum()), k / n
    at_least = max(float(difference_limits(*pairs(together))[0].max()), 0.0)
    at_most = float(difference_limits(*pairs(alone))[1].max())
    gap = float(rates.max() - rates.min())
    difference = Estimate(gap, min(at_least, gap), min(max(at_most, gap), 1.0), rows, confidence, "all pairs, Newcombe")
    share = float(rates.min() / rates.max()) if rates.max() > 0 else math.nan
    no_less = float(ratio_limits(*pairs(alone))[0].min())
    no_more = min(float(ratio_limits(*pairs(together))[1].min()), 1.0)
    ratio = Estimate(share, min(no_less, 1.0), no_more, rows, confidence, "all pairs, Donner-Zou")
    return difference, ratio


@cache
def _simultaneous_quantile(n_groups: int, confidence: float) -> float:
    """Critical value at which all pairwise intervals hold together; equals the normal quantile for two groups."""
    if n_groups == 2:
        return normal_quantile(confidence)
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(confidence, n_groups, math.inf)) / math.sqrt(2)
