"""Why a model estimates what it does: one prediction feature by feature, and the model as a whole.

A model adds up in one space, its raw score: log-odds for logistic regression and gradient boosting, a probability for
forests. There a prediction is ``base value + the contributions of all features``, exactly. The link and the calibration
then map that sum to the probability that was served; an explanation carries the map, and the
check that it ends at the served probability, so that a reader can repeat it with a calculator.

A contribution says how a feature moves this model's estimate away from the average of the training rows. It is not a
cause, and changing the feature need not change what the person does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from attrition.errors import Fault, IntegrityError
from attrition.evaluation.explanation_text import is_plural, number, sentences, value_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from attrition.data.schema import FeatureSchema
    from attrition.evaluation.explanation_text import Quartiles

FORMAT = "attrition.importance/1"

ADDITIVITY_TOLERANCE = 1e-9
"""Largest difference between the served probability and the one that an explanation adds up to."""

MAX_POINTS = 300
"""Rows per feature that a summary plot shows."""

_ZERO = 1e-12

Direction = Literal["raises", "lowers", "none"]
Space = Literal["log_odds", "probability"]

SPACES: dict[str, str] = {"log_odds": "log-odds", "probability": "probability"}
"""Names of the spaces for readers."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature adds to an estimate.

    Attributes
    ----------
    feature : str
    value : float or None
        Of the record, in the schema's unit; None where missing.
    contribution : float
        In the unit of the raw score.
    direction : str
        ``raises``, ``lowers`` or ``none``: what it does to the probability.
    words : str
        The value in words: ``long weekly hours (58 hours per week)``.
    """

    feature: str
    value: float | None
    contribution: float
    direction: Direction
    words: str

    @property
    def plural(self) -> bool:
        """Whether the words want a plural verb."""
        return is_plural(self.feature, float("nan") if self.value is None else self.value)


@dataclass(frozen=True, slots=True)
class Explanation:
    """One prediction, feature by feature.

    Attributes
    ----------
    model_version : str
    probability : float
        As served, in [0, 1].
    threshold : float
        Of the version.
    space : str
        ``log_odds`` or ``probability``: the unit of `base_value` and the contributions.
    base_value : float
        Raw score of nobody in particular: the average over the training rows.
    base_probability : float
        What the map makes of it.
    contributions : tuple of Contribution
        One per feature of the version, the largest first.
    mapping : dict
        From the raw score to the probability; ``kind`` is ``logistic`` (1 / (1 + exp(-(slope · raw + intercept)))),
        ``isotonic`` (interpolated between points) or ``identity``.
    difference : float
        Between the probability served and the one that base value and contributions add up to; at most
        `ADDITIVITY_TOLERANCE`, otherwise there is no explanation.
    prediction_id : str or None
        Of the logged prediction that is explained; None for a record.
    """

    model_version: str
    probability: float
    threshold: float
    space: Space
    base_value: float
    base_probability: float
    contributions: tuple[Contribution, ...]
    mapping: dict[str, Any]
    difference: float
    prediction_id: str | None = None

    @property
    def decision(self) -> bool:
        """Whether the probability reaches the threshold."""
        return self.probability >= self.threshold

    @property
    def raw_score(self) -> float:
        """Base value plus all contributions."""
        return self.base_value + sum(part.contribution for part in self.contributions)

    @property
    def top(self) -> tuple[str, ...]:
        """The five largest contributions in plain words."""
        return sentences(self.contributions)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "prediction_id": self.prediction_id,
            "model_version": self.model_version,
            "probability": self.probability,
            "decision": self.decision,
            "threshold": self.threshold,
            "space": self.space,
            "base_value": self.base_value,
            "base_probability": self.base_probability,
            "contributions": [asdict(part) for part in self.contributions],
            "top": list(self.top),
            "raw_score": self.raw_score,
            "mapping": self.mapping,
            "difference": self.difference,
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        derived = {"decision", "top", "raw_score", "contributions"}
        parts = tuple(Contribution(**part) for part in document["contributions"])
        return cls(contributions=parts, **{key: value for key, value in document.items() if key not in derived})

    def __str__(self) -> str:
        """The estimate, then one line per feature."""
        verdict = "reaches" if self.decision else "is below"
        head = (
            f"Version {self.model_version} estimates {self.probability:.1%}; this {verdict} the threshold of "
            f"{self.threshold:.1%}. Before any feature is looked at, the estimate is {self.base_probability:.1%}."
        )
        width = max(len(part.feature) for part in self.contributions)
        lines = [
            f"  {part.feature:<{width}}  {part.contribution:+.4f}  "
            f"{'missing' if part.value is None else number(part.value)}"
            for part in self.contributions
        ]
        return "\n".join([head, *(f"- {sentence}" for sentence in self.top), "", *lines])


def explain(
    schema: FeatureSchema,
    values: Sequence[float],
    contributions: NDArray[np.float64],
    *,
    model_version: str,
    base_value: float,
    space: Space,
    quartiles: Sequence[Quartiles | None],
    threshold: float,
    to_probability: Callable[[float], float],
    mapping: dict[str, Any],
    served: float,
    prediction_id: str | None = None,
) -> Explanation:
    """The explanation of one record, after it was found to add up to the served probability.

    Parameters
    ----------
    values : sequence of float, length n_features
        NaN where missing.
    contributions : ndarray of shape (n_features,), float64
        In the unit of the raw score.
    to_probability
        The map of raw scores, non-decreasing or non-increasing.
    served
        The probability to be explained.

    Raises
    ------
    IntegrityError
        Base value and contributions do not add up to `served`: version and record do not belong together.
    """
    raw = base_value + float(contributions.sum())
    # a steep step of an isotonic map would magnify the rounding of the sum
    slack = ADDITIVITY_TOLERANCE * max(1.0, abs(raw))
    around = [to_probability(raw - slack), to_probability(raw), to_probability(raw + slack)]
    if not min(around) - ADDITIVITY_TOLERANCE <= served <= max(around) + ADDITIVITY_TOLERANCE:
        found = f"adds up to a probability that differs from the served one by {abs(around[1] - served):.1e}"
        allowed = f"at most {ADDITIVITY_TOLERANCE:.0e}"
        raise IntegrityError(Fault("explanation", found, allowed, "the record is not the one that this version scored"))
    rising = to_probability(raw + 1.0) >= to_probability(raw - 1.0)
    parts = [
        Contribution(
            feature.name,
            None if np.isnan(value) else float(value),
            float(contribution),
            _direction(contribution if rising else -contribution),
            value_words(feature, float(value), usual),
        )
        for feature, value, contribution, usual in zip(schema.features, values, contributions, quartiles, strict=True)
    ]
    return Explanation(
        model_version=model_version,
        probability=float(served),
        threshold=threshold,
        space=space,
        base_value=base_value,
        base_probability=float(to_probability(base_value)),
        contributions=tuple(sorted(parts, key=lambda part: -abs(part.contribution))),
        mapping=mapping,
        difference=float(abs(around[1] - served)),
        prediction_id=prediction_id,
    )


def _direction(effect: float) -> Direction:
    if abs(effect) <= _ZERO:
        return "none"
    return "raises" if effect > 0 else "lowers"


@dataclass(frozen=True, slots=True)
class FeatureImportance:
    """One feature in the whole model.

    Attributes
    ----------
    feature : str
    mean_absolute : float
        Mean size of its contribution, in the unit of the raw score.
    share : float
        Of the sum over all features, in [0, 1].
    trend : float or None
        Spearman's rank correlation of value and contribution: near 1 when higher values raise the estimate, near -1
        when they lower it; None for categories and where either is constant.
    points : tuple of (float, float or None)
        Contribution, and the rank of the value among all rows in [0, 1] (None: missing, or a category), of some rows,
        the smallest contribution first. Sorted feature by feature, so that no row can be put together again.
    """

    feature: str
    mean_absolute: float
    share: float
    trend: float | None
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True, slots=True)
class GlobalImportance:
    """What a model relies on: mean absolute Shapley values over rows that it has not seen.

    Attributes
    ----------
    space : str
        Unit of the contributions.
    base_value : float
    n_rows : int
        Rows that were explained.
    features : tuple of FeatureImportance
        The most important first.
    """

    space: Space
    base_value: float
    n_rows: int
    features: tuple[FeatureImportance, ...]

    @property
    def unit(self) -> str:
        """Unit of the contributions, for readers."""
        return SPACES[self.space]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`.

        Raises
        ------
        IntegrityError
            Another format.
        """
        if document.get("format") != FORMAT:
            raise IntegrityError(
                Fault("importance", f"format {str(document.get('format'))[:40]!r}", f"{FORMAT} is read")
            )
        features = tuple(
            FeatureImportance(**{**feature, "points": tuple((point[0], point[1]) for point in feature["points"])})
            for feature in document["features"]
        )
        return cls(document["space"], document["base_value"], document["n_rows"], features)

    def plots(self) -> dict[str, Figure]:
        """The figures by name: the swarm of contributions, and their mean sizes."""
        from attrition.evaluation.explanation_plots import importance_bars, summary_plot

        return {"shap_summary": summary_plot(self), "shap_importance": importance_bars(self)}

    def table(self) -> list[dict[str, Any]]:
        """One row per feature: ``feature``, ``mean_absolute``, ``share``, ``trend``."""
        return [
            {name: getattr(feature, name) for name in ("feature", "mean_absolute", "share", "trend")}
            for feature in self.features
        ]

    def __str__(self) -> str:
        """One line per feature."""
        width = max(len(feature.feature) for feature in self.features)
        lines = [
            f"  {part.feature:<{width}}  {part.mean_absolute:.4f}  {part.share:6.1%}  {trend_words(part.trend)}"
            for part in self.features
        ]
        return "\n".join([f"Mean absolute contribution in {self.unit}, {self.n_rows:,} rows", *lines])


def trend_words(trend: float | None) -> str:
    """What a trend says, in words; empty when there is none.

    Examples
    --------
    >>> trend_words(-0.93)
    'lower values raise the estimate'
    """
    if trend is None:
        return ""
    if abs(trend) < 0.3:
        return "no single direction"
    return "higher values raise the estimate" if trend > 0 else "lower values raise the estimate"


def summarise(
    schema: FeatureSchema,
    values: NDArray[np.float64],
    contributions: NDArray[np.float64],
    *,
    space: Space,
    base_value: float,
    max_points: int = MAX_POINTS,
) -> GlobalImportance:
    """The importance of every feature from the explanations of many rows.

    Parameters
    ----------
    values, contributions : ndarray of shape (n, n_features), float64; n > 0
        NaN in `values` is missing.
    max_points
        Rows per feature that are kept for a summary plot.
    """
    sizes = np.abs(contributions).mean(axis=0)
    total = float(sizes.sum()) or 1.0
    shown = np.unique(np.linspace(0, len(values) - 1, min(len(values), max_points)).astype(np.intp))
    found = []
    for place, name in enumerate(schema.names):
        column, parts = values[:, place], contributions[:, place]
        ranks = _ranks(column) if name not in schema.categorical else np.full(len(column), np.nan)
        pairs = [(float(parts[row]), None if np.isnan(ranks[row]) else float(ranks[row])) for row in shown]
        points = sorted(pairs, key=lambda pair: (pair[0], -1.0 if pair[1] is None else pair[1]))
        found.append(
            FeatureImportance(
                name, float(sizes[place]), float(sizes[place]) / total, _correlation(ranks, parts), tuple(points)
            )
        )
    features = tuple(sorted(found, key=lambda feature: -feature.mean_absolute))
    return GlobalImportance(space, base_value, len(values), features)


def _ranks(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks in [0, 1], ties in the middle of their places; NaN where missing, all of it 0.5 for a constant."""
    ranks = np.full(len(column), np.nan)
    known = ~np.isnan(column)
    n = int(known.sum())
    if not n:
        return ranks
    _, inverse, counts = np.unique(column[known], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle = (ends - counts + ends - 1) / 2.0
    span = middle[-1] - middle[0]
    ranks[known] = ((middle - middle[0]) / span if span else np.full(len(middle), 0.5))[inverse]
    return ranks


def _correlation(ranks: NDArray[np.float64], parts: NDArray[np.float64]) -> float | None:
    known = ~np.isnan(ranks)
    if known.sum() < 2:
        return None
    x, y = ranks[known], _ranks(parts[known])
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > _ZERO else None
