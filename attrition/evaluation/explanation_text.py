"""Explanations in plain words: what a value is called, and the sentences about the largest contributions.

A sentence says what moves the *estimate* of the model; it does not say why a person would leave. Whether a value is
called high or low is a comparison with the quartiles of the training rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attrition.data.schema import Feature
    from attrition.evaluation.explanations import Contribution

Quartiles = tuple[float, float, float]

TOP = 5
"""Sentences about one person."""

SLIGHT_SHARE = 0.2
"""A contribution below this share of the largest one is called slight."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """Names of a feature's value in the lowest quarter, between, and in the highest quarter of the training rows."""

    low: str
    middle: str
    high: str
    plural: bool = False


PHRASES: Mapping[str, Phrase] = {
    "tenure": Phrase("a short tenure", "a medium tenure", "a long tenure"),
    "age": Phrase("a lower age", "a medium age", "a higher age"),
    "satisfaction_score": Phrase("low satisfaction", "medium satisfaction", "high satisfaction"),
    "performance_rating": Phrase(
        "a low performance rating", "a medium performance rating", "a high performance rating"
    ),
    "work_hours": Phrase("short weekly hours", "medium weekly hours", "long weekly hours", plural=True),
    "projects_count": Phrase("few projects", "a medium number of projects", "many projects", plural=True),
    "salary": Phrase("a low salary", "a medium salary", "a high salary"),
    "promotion_flag": Phrase("no recent promotion", "", "a recent promotion"),
}
"""Of the packaged features; any other is named by its column."""


def value_words(feature: Feature, value: float, quartiles: Quartiles | None) -> str:
    """What a value is called, with the value where it says more.

    Parameters
    ----------
    value
        NaN where missing.
    quartiles
        Of the training rows; None when there are none.

    Examples
    --------
    >>> from attrition.data.schema import FeatureSchema
    >>> value_words(FeatureSchema.default()["work_hours"], 58.0, (38.0, 40.0, 45.0))
    'long weekly hours (58 hours per week)'
    """
    name = feature.name.replace("_", " ")
    if isnan(value):
        return f"the missing {name}"
    if feature.kind == "category":
        label = (feature.categories or {}).get(int(value))
        name = name.removesuffix(" code")
        return f"the {name} ({label})" if label else f"the {name} (code {value:g})"
    phrase = PHRASES.get(feature.name)
    if feature.kind == "binary":
        if phrase is None:
            return f"{name} (yes)" if value else f"{name} (no)"
        return phrase.high if value else phrase.low
    phrase = phrase or Phrase(f"a low {name}", f"a medium {name}", f"a high {name}")
    unit = feature.unit.split(",")[0]
    return f"{_level(phrase, value, quartiles)} ({number(value)}{' ' if unit else ''}{unit})"


def is_plural(feature: str, value: float) -> bool:
    """Whether the words for a value want a plural verb."""
    phrase = PHRASES.get(feature)
    return phrase is not None and phrase.plural and not isnan(value)


def number(value: float) -> str:
    """A value to at most one decimal below 1,000, whole above.

    Examples
    --------
    >>> number(48250.0), number(2.5), number(40.0)
    ('48,250', '2.5', '40')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}".removesuffix(".0")


def sentences(contributions: Sequence[Contribution], *, limit: int = TOP) -> tuple[str, ...]:
    """One sentence per contribution that is not zero, at most `limit`.

    Parameters
    ----------
    contributions
        The largest first.
    """
    moving = [part for part in contributions if part.direction != "none"][:limit]
    if not moving:
        return ("No feature moves the estimate away from its average.",)
    return tuple(_sentence(part, place, moving) for place, part in enumerate(moving))


def _sentence(part: Contribution, place: int, moving: Sequence[Contribution]) -> str:
    verb = {"raises": "raise", "lowers": "lower"}[part.direction] + ("" if part.plural else "s")
    if place == 0:
        end = "the estimate most"
    elif abs(part.contribution) < SLIGHT_SHARE * abs(moving[0].contribution):
        end = "it slightly"
    else:
        same = sum(other.direction == part.direction for other in moving[:place])
        end = "it as well" if same else "it"
    words = part.words[0].upper() + part.words[1:]
    return f"{words} {verb} {end}."


def _level(phrase: Phrase, value: float, quartiles: Quartiles | None) -> str:
    if quartiles is None:
        return phrase.middle
    low, _, high = quartiles
    if value >= high and value > low:
        return phrase.high
    return phrase.low if value <= low and value < high else phrase.middle
