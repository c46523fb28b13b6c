"""The features a model reads: names, types, units, ranges and missing rules, as data that travels with every model.

Training, quality checks, scoring and the HTTP API all read one :class:`FeatureSchema`. The packaged default holds the
nine HR features; a project may bring its own as YAML, and each model version carries its own copy as its signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from attrition.settings import load_yaml

EMPLOYEE_ID = "employee_id"
SNAPSHOT_DATE = "snapshot_date"
TARGET = "attrition"
RESERVED = frozenset({EMPLOYEE_ID, SNAPSHOT_DATE, TARGET})
"""Columns of an employee table beside the features and the sensitive attributes."""

Kind = Literal["continuous", "integer", "binary", "category"]


class Feature(BaseModel):
    """One column that a model reads. In memory every value is a float64 and missing is NaN, whatever the kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    """Column name, JSON key of the HTTP API and label value of metrics."""
    kind: Kind
    """``continuous``; ``integer`` (whole numbers, ordered); ``binary`` (0 or 1); ``category`` (codes, no order)."""
    unit: str = ""
    """Unit for readers; values are not converted by it."""
    minimum: float | None = None
    """Smallest plausible value, inclusive; None is unbounded."""
    maximum: float | None = None
    """Largest plausible value, inclusive; None is unbounded."""
    categories: Mapping[int, str] | None = None
    """Known codes and their labels, for kind ``category``; None accepts the codes that training sees."""
    required: bool = False
    """True: a record without a value is rejected. False: a missing value is scored as the model learned it."""
    description: str = ""
    """One sentence for the API documentation and the model card."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"{self.name}: minimum {self.minimum} is above maximum {self.maximum}")
        if self.categories is not None and self.kind != "category":
            raise ValueError(f"{self.name}: categories belong to kind category, this is {self.kind}")
        if self.name in RESERVED:
            raise ValueError(f"{self.name} is reserved: it identifies the row, it is not a feature")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Plausible range, inclusive; infinite where unbounded, (0, 1) for a binary feature."""
        if self.kind == "binary":
            return 0.0, 1.0
        low = float("-inf") if self.minimum is None else self.minimum
        high = float("inf") if self.maximum is None else self.maximum
        return low, high


class FeatureSchema(BaseModel):
    """The ordered features of a model, and the horizon of its target.

    Examples
    --------
    >>> schema = FeatureSchema.default()
    >>> schema.names[:3]
    ('tenure', 'age', 'satisfaction_score')
    >>> schema.without("age").names[:2]
    ('tenure', 'satisfaction_score')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "employee"
    """Name for readers."""
    horizon_days: Annotated[int, Field(gt=0)] = 365
    """The target says whether a person leaves within so many days after the snapshot."""
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    """In the order of the feature matrix."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        repeated = {name for name in self.names if self.names.count(name) > 1}
        if repeated:
            raise ValueError(f"features named twice: {', '.join(sorted(repeated))}")
        return self

    @classmethod
    def default(cls) -> FeatureSchema:
        """The packaged schema of nine HR features."""
        return cls.from_yaml(Path(__file__).with_name("employee.yaml"))

    @classmethod
    def from_yaml(cls, path: str | Path) -> FeatureSchema:
        """A schema from a YAML file.

        Raises
        ------
        ConfigError
            Unreadable, an unknown key, or features that contradict themselves.
        """
        return load_yaml(Path(path), cls)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> FeatureSchema:
        """Inverse of :meth:`to_dict`."""
        return cls.model_validate(document)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return self.model_dump(mode="json")

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in matrix order."""
        return tuple(feature.name for feature in self.features)

    @property
    def categorical(self) -> tuple[str, ...]:
        """Names of the features whose codes have no order."""
        return tuple(feature.name for feature in self.features if feature.kind == "category")

    @property
    def numeric(self) -> tuple[str, ...]:
        """Names of all other features."""
        return tuple(feature.name for feature in self.features if feature.kind != "category")

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what a model depends on: names, order and kinds; not labels, descriptions or ranges."""
        essence = [[feature.name, feature.kind] for feature in self.features]
        return hashlib.sha256(json.dumps([self.horizon_days, essence]).encode()).hexdigest()

    def __getitem__(self, name: str) -> Feature:
        """The feature called `name`; KeyError when the schema has none."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)

    def without(self, *names: str) -> FeatureSchema:
        """The schema less some features: what an extract does not have is left out, not invented."""
        return self.model_copy(update={"features": tuple(f for f in self.features if f.name not in names)})

    def with_categories(self, categories: Mapping[str, Mapping[int, str]]) -> FeatureSchema:
        """The schema with the code labels of an extract."""
        features: Iterable[Feature] = (
            feature.model_copy(update={"categories": dict(categories[feature.name])})
            if feature.name in categories
            else feature
            for feature in self.features
        )
        return self.model_copy(update={"features": tuple(features)})
