"""What a version was trained on, as distributions that windows are compared with later.

Made at registration, from the training rows and their out-of-fold scores, and kept in the version's package. That is
why this module and :mod:`attrition.evaluation.sketches` lie below the registry and not beside the drift report that
reads them: they are arithmetic on columns, and know neither Ray nor where a window comes from.

Kept are distributions of single features, as a whole and within the segments of one category, and no rows: what several
features are together, person by person, stays in the snapshot, from which a person can be erased.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from attrition.errors import Fault, IntegrityError
from attrition.evaluation.sketches import CategoryReference, Reference, dump_references, load_references

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from attrition.data.schema import FeatureSchema
    from attrition.evaluation.sketches import AnyReference, AnySketch

    Floats = NDArray[np.float64]

PROBABILITY = "probability"
"""Name of the score's distribution among the features; its drift is prediction drift."""

MAX_CODES = 25
"""Distinct values up to which a whole-numbered feature is compared as a category: its ties make ranks blunt."""

SEGMENT_FEATURE = "department_code"
"""Category whose codes are the segments, where a schema has it."""

MIN_SEGMENT_ROWS = 100
"""Rows of a code below which it is no segment: nothing could be said about it."""

MAX_SEGMENTS = 50
"""Segments at most, the largest: beyond that a report is read by nobody."""


@dataclass(frozen=True, slots=True)
class DriftReference:
    """The distributions of one population.

    Attributes
    ----------
    features : mapping of str to Reference or CategoryReference
        By feature in schema order; with `PROBABILITY` last when there are scores.
    segments : mapping of str to mapping
        The same within each segment, less the feature that makes the segments; by code, as text.
    segment_feature : str
        Empty when there are no segments.
    """

    features: Mapping[str, AnyReference]
    segments: Mapping[str, Mapping[str, AnyReference]]
    segment_feature: str = ""

    @classmethod
    def of(
        cls,
        features: pd.DataFrame | Mapping[str, ArrayLike],
        schema: FeatureSchema,
        probability: ArrayLike | None = None,
        *,
        segment_feature: str = SEGMENT_FEATURE,
    ) -> Self:
        """Distributions of some rows.

        Parameters
        ----------
        features
            Holds the schema's columns, each of shape (n_rows,), float64, NaN = missing.
        probability : array_like of shape (n_rows,), optional
            Scores of the same rows by a model that did not see them.
        segment_feature
            Category whose codes are the segments; one that the schema does not have makes none.
        """
        columns: dict[str, Floats] = {name: np.asarray(features[name], np.float64) for name in schema.names}
        if probability is not None:
            columns[PROBABILITY] = np.asarray(probability, np.float64)
        whole = {name: _reference(name, column, schema) for name, column in columns.items()}
        segments: dict[str, dict[str, AnyReference]] = {}
        if segment_feature in schema.names:
            codes, counts = np.unique(columns[segment_feature], return_counts=True)
            enough = np.isfinite(codes) & (counts >= MIN_SEGMENT_ROWS)
            largest = codes[enough][np.argsort(-counts[enough], kind="stable")[:MAX_SEGMENTS]]
            for code in np.sort(largest):
                rows = columns[segment_feature] == code
                segments[f"{code:g}"] = {
                    name: _like(whole[name], column[rows])
                    for name, column in columns.items()
                    if name != segment_feature
                }
        return cls(whole, segments, segment_feature if segments else "")

    @property
    def names(self) -> tuple[str, ...]:
        """Features, without the score."""
        return tuple(name for name in self.features if name != PROBABILITY)

    @property
    def n_rows(self) -> int:
        """Rows behind it."""
        return next((each.n + each.n_missing for each in self.features.values()), 0)

    def flat(self) -> dict[str, AnyReference]:
        """All of them under one name each: ``salary``, and ``department_code=3@salary`` within a segment."""
        return {key: reference for key, _, reference in self._items()}

    def sketch(self, columns: Mapping[str, Floats]) -> dict[str, AnySketch]:
        """Sketches of some rows of a window, by the names of :meth:`flat`.

        Parameters
        ----------
        columns
            Feature → values of shape (n_rows,), NaN = missing. What is not there is not sketched.
        """
        found: dict[str, AnySketch] = {}
        code_of_row = columns.get(self.segment_feature)
        rows: dict[str, NDArray[np.bool_]] = {}
        if code_of_row is not None:
            rows = {code: code_of_row == float(code) for code in self.segments}
        for key, segment, reference in self._items():
            column = columns.get(key.rpartition("@")[2])
            if column is None or (segment and segment not in rows):
                continue
            found[key] = reference.sketch(column[rows[segment]] if segment else column)
        return found

    def within(self, segment: str, sketches: Mapping[str, AnySketch]) -> dict[str, AnySketch]:
        """Those of :meth:`sketch` that belong to a segment, by feature; of the whole for an empty `segment`."""
        prefix = f"{self.segment_feature}={segment}@" if segment else ""
        names = self.segments[segment] if segment else self.features
        return {name: sketches[prefix + name] for name in names if prefix + name in sketches}

    def _items(self) -> Iterator[tuple[str, str, AnyReference]]:
        for name, reference in self.features.items():
            yield name, "", reference
        for code, references in self.segments.items():
            for name, reference in references.items():
                yield f"{self.segment_feature}={code}@{name}", code, reference

    def to_bytes(self) -> bytes:
        """As a file, the same for the same rows."""
        return dump_references(self.flat())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the distributions: reports with the same one can be put side by side."""
        digest = hashlib.sha256()
        for key, reference in self.flat().items():
            support = reference.values if isinstance(reference, Reference) else reference.codes  # noqa: PD011 - ours
            digest.update(f"{key}\0{len(support)}\0{reference.n_missing}\0".encode())
            digest.update(np.ascontiguousarray(support, "<f8").tobytes())
            digest.update(np.ascontiguousarray(reference.counts, "<i8").tobytes())
        return digest.hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Inverse of :meth:`to_bytes`.

        Raises
        ------
        IntegrityError
            Not such a file, or of another format.
        """
        features: dict[str, AnyReference] = {}
        segments: dict[str, dict[str, AnyReference]] = {}
        segment_features = set()
        for key, reference in load_references(data).items():
            segment, _, name = key.rpartition("@")
            if not segment:
                features[name] = reference
                continue
            feature, separator, code = segment.partition("=")
            segment_features.add(feature)
            segments.setdefault(code, {})[name] = reference
            if not separator or not _is_number(code):
                raise IntegrityError(Fault("drift reference", "names a segment that cannot be read"))
        if not features or len(segment_features) > 1:
            raise IntegrityError(Fault("drift reference", "is not complete"))
        return cls(features, segments, next(iter(segment_features), ""))


def add_up(parts: Iterable[Mapping[str, AnySketch]]) -> dict[str, AnySketch]:
    """Sketches of parts added up name by name; a part that lacks a name adds nothing to it."""
    total: dict[str, AnySketch] = {}
    for part in parts:
        for name, sketch in part.items():
            total[name] = total[name] + sketch if name in total else sketch  # type: ignore[operator]
    return total


def _reference(name: str, column: Floats, schema: FeatureSchema) -> AnyReference:
    if name == PROBABILITY:
        return Reference.of(column, low=0.0, high=1.0)
    feature = schema[name]
    low, high = feature.bounds
    numeric = Reference.of(column, low=low, high=high)
    whole = feature.kind in {"category", "binary"} or (feature.kind == "integer" and len(numeric.values) <= MAX_CODES)
    return CategoryReference(numeric.values, numeric.counts, numeric.n_missing) if whole else numeric


def _like(whole: AnyReference, column: Floats) -> AnyReference:
    """A segment's reference, of the kind and with the range of the whole."""
    if isinstance(whole, Reference):
        return Reference.of(column, low=whole.low, high=whole.high)
    return CategoryReference.of(column)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
