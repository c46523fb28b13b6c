"""The baseline that every search must beat: balanced logistic regression, `max_iter` 1000.

Its seed is the plan's, like that of any other training: 42 in every shipped plan.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.training.families import Value

BASELINE: tuple[str, Mapping[str, Value]] = (
    "logistic_regression",
    MappingProxyType({"C": 1.0, "class_weight": "balanced", "max_iter": 1000}),
)
"""Family and hyperparameters."""
