"""Whether a window drifted from its reference: per feature a verdict with figures, then one for the whole. Pure.

A feature **drifted** when two things hold: the difference is *significant* (its p-value, adjusted by Benjamini and
Hochberg over all features that were tested, is at most ``alpha``) and it is *large* (its stability index reaches the
band ``moderate``, or the share of missing values changed by more than ``max_missing_points``). Either alone misleads:
with a million rows every difference is significant, with fifty rows a large one is chance. A feature without enough
rows is INSUFFICIENT, which is neither stable nor drifted.

The window drifted when a feature did. Under no drift each feature's adjusted p-value falls to ``alpha`` for any of them
with a probability of at most ``alpha``, so the whole fires at most as often, and because the difference must also be
large, far less often in large windows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from attrition.evaluation.sketches import CategoryReference, CategorySketch, NumericSketch, Reference
from attrition.monitoring.statistics import (
    adjusted,
    category_bins,
    chi_square,
    critical_index,
    kolmogorov_smirnov,
    mean_shift_percent,
    numeric_bins,
    stability_index,
    wasserstein,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.evaluation.sketches import AnyReference, AnySketch
    from attrition.monitoring.statistics import Bins


class DriftPolicy(BaseModel):
    """What counts as drift."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Rate at which a window without drift may be called drifted."""
    moderate: Annotated[float, Field(gt=0)] = 0.1
    """Stability index from which a difference is worth a look."""
    major: Annotated[float, Field(gt=0)] = 0.25
    """Stability index from which the population is another one."""
    min_rows: Annotated[int, Field(ge=20)] = 100
    """Rows of a window below which no verdict is given: bins of ten rows are noise."""
    max_missing_points: Annotated[float, Field(gt=0, le=100)] = 10.0
    """Percentage points by which the share of missing values may change; beyond, a significant change is MAJOR."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.moderate >= self.major:
            raise ValueError(f"moderate {self.moderate:g} must lie below major {self.major:g}")
        return self


class Level(StrEnum):
    """What is said about a feature or a window."""

    STABLE = "STABLE"
    MODERATE = "MODERATE"
    """Significant, and in the moderate band."""
    MAJOR = "MAJOR"
    """Significant, and beyond it."""
    INSUFFICIENT = "INSUFFICIENT"
    """Too few rows to say."""

    @property
    def drifted(self) -> bool:
        """Whether this is drift."""
        return self in {Level.MODERATE, Level.MAJOR}


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature of a window against its reference.

    Attributes
    ----------
    feature : str
    level : Level
    test : str
        ``ks`` or ``chi_square``.
    statistic, p_value : float or None
        Of the test; None where it does not apply.
    p_missing : float or None
        Of a chi-square test of the share without a value, which ``ks`` does not look at; None where there is none, and
        for categories, whose test has a cell for it.
    p_adjusted : float or None
        Of both together (Bonferroni), adjusted over all features.
    psi, psi_critical : float or None
        Stability index in nats, and what equal distributions exceed with probability alpha.
    wasserstein, wasserstein_error : float or None
        Distance in the feature's unit, and its bound; None for categories.
    mean_reference, mean_window, mean_shift_percent : float or None
        None for categories, and without values.
    n_reference, n_window : int
        Rows, those without a value included.
    missing_reference, missing_window : float
        Shares without a value, in [0, 1].
    n_implausible, n_unseen : int
        Values of the window outside the plausible range; codes that the reference does not have.
    labels : tuple of str
        Of the bins.
    shares_reference, shares_window : tuple of float
        Rows by bin, each summing to 1.
    """

    feature: str
    level: Level
    test: str
    statistic: float | None
    p_value: float | None
    p_missing: float | None
    p_adjusted: float | None
    psi: float | None
    psi_critical: float | None
    wasserstein: float | None
    wasserstein_error: float | None
    mean_reference: float | None
    mean_window: float | None
    mean_shift_percent: float | None
    n_reference: int
    n_window: int
    missing_reference: float
    missing_window: float
    n_implausible: int
    n_unseen: int
    labels: tuple[str, ...]
    shares_reference: tuple[float, ...]
    shares_window: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        document = {name: getattr(self, name) for name in self.__slots__}
        lists = {name: list(document[name]) for name in ("labels", "shares_reference", "shares_window")}
        return document | lists | {"level": self.level.value}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        tuples = {name: tuple(document[name]) for name in ("labels", "shares_reference", "shares_window")}
        return cls(**{**document, **tuples, "level": Level(document["level"])})


def compare(
    references: Mapping[str, AnyReference], window: Mapping[str, AnySketch], policy: DriftPolicy | None = None
) -> tuple[FeatureDrift, ...]:
    """Every feature of the reference against the window, in the reference's order.

    Parameters
    ----------
    references, window
        By feature; the window's sketches were made against these references.

    Raises
    ------
    KeyError
        The window lacks a feature of the reference.
    """
    policy = policy or DriftPolicy()
    found = [_compare(name, reference, window[name], policy) for name, reference in references.items()]
    tested = {drift.feature: p for drift in found if (p := _together(drift)) is not None and _enough(drift, policy)}
    by_name = dict(zip(tested, adjusted(list(tested.values())), strict=True))
    return tuple(_judged(drift, by_name.get(drift.feature), policy) for drift in found)


def overall(features: tuple[FeatureDrift, ...]) -> Level:
    """The gravest level of any feature; INSUFFICIENT when nothing could be said about any."""
    levels = {drift.level for drift in features}
    for level in (Level.MAJOR, Level.MODERATE, Level.STABLE):
        if level in levels:
            return level
    return Level.INSUFFICIENT


def _compare(name: str, reference: AnyReference, window: AnySketch, policy: DriftPolicy) -> FeatureDrift:
    if isinstance(reference, Reference) and isinstance(window, NumericSketch):
        return _numeric(name, reference, window, policy)
    if isinstance(reference, CategoryReference) and isinstance(window, CategorySketch):
        bins = category_bins(reference, window)
        return _drift(name, "chi_square", bins, policy, test=chi_square(bins), n_unseen=window.n_unseen)
    raise TypeError(f"{name}: the sketch is not of this kind of reference")


def _numeric(name: str, reference: Reference, window: NumericSketch, policy: DriftPolicy) -> FeatureDrift:
    distance = wasserstein(reference, window)
    bins = numeric_bins(reference, window)
    missing = chi_square(bins.missing)
    return replace(
        _drift(name, "ks", bins, policy, test=kolmogorov_smirnov(reference, window)),
        p_missing=None if missing is None else missing.p_value,
        wasserstein=None if distance is None else distance.value,
        wasserstein_error=None if distance is None else distance.error,
        mean_reference=reference.mean if reference.n else None,
        mean_window=window.mean(reference) if window.n else None,
        mean_shift_percent=mean_shift_percent(reference, window),
        n_implausible=window.n_implausible,
    )


def _drift(name: str, kind: str, bins: Bins, policy: DriftPolicy, *, test: Any, n_unseen: int = 0) -> FeatureDrift:
    n_reference, n_window = int(bins.reference.sum()), int(bins.window.sum())
    return FeatureDrift(
        feature=name,
        level=Level.INSUFFICIENT,
        test=kind,
        statistic=test and test.statistic,
        p_value=test and test.p_value,
        p_missing=None,
        p_adjusted=None,
        psi=stability_index(bins),
        psi_critical=critical_index(bins, policy.alpha),
        wasserstein=None,
        wasserstein_error=None,
        mean_reference=None,
        mean_window=None,
        mean_shift_percent=None,
        n_reference=n_reference,
        n_window=n_window,
        missing_reference=float(bins.reference[-1] / n_reference) if n_reference else 0.0,
        missing_window=float(bins.window[-1] / n_window) if n_window else 0.0,
        n_implausible=0,
        n_unseen=n_unseen,
        labels=bins.labels,
        shares_reference=tuple((bins.reference / n_reference).tolist()) if n_reference else (),
        shares_window=tuple((bins.window / n_window).tolist()) if n_window else (),
    )


def _together(drift: FeatureDrift) -> float | None:
    """P-value of values and missing share together; None when there is neither."""
    p_values = [p for p in (drift.p_value, drift.p_missing) if p is not None]
    return min(1.0, len(p_values) * min(p_values)) if p_values else None


def _enough(drift: FeatureDrift, policy: DriftPolicy) -> bool:
    return min(drift.n_window, drift.n_reference) >= policy.min_rows


def _judged(drift: FeatureDrift, p_adjusted: float | None, policy: DriftPolicy) -> FeatureDrift:
    if not _enough(drift, policy) or drift.psi is None:
        return replace(drift, level=Level.INSUFFICIENT)
    missing_points = 100 * abs(drift.missing_window - drift.missing_reference)
    significant = p_adjusted is not None and p_adjusted <= policy.alpha
    if significant and (drift.psi >= policy.major or missing_points > policy.max_missing_points):
        level = Level.MAJOR
    elif significant and drift.psi >= policy.moderate:
        level = Level.MODERATE
    else:
        level = Level.STABLE
    return replace(drift, level=level, p_adjusted=p_adjusted)
