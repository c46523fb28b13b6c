"""Sketches: what a drift report needs to know of a part of the data, exact for its statistics, and mergeable.

A sketch is of one feature and made against a reference, which stays fixed. Sketches of disjoint parts are added up;
the sum is the sketch of all of them, so the parts can be read by different tasks, in any order, and memory grows with
the reference and not with the data.

Notation: the reference has the distinct values ``r[0] < … < r[m - 1]``. They cut the line into ``m + 1`` open cells, of
which cell ``i`` ends at ``r[i]``; the last one is open to the right. Of a window's ``n`` finite values a sketch keeps

====================  ================================================================================================
``below[i]``          how many lie below ``r[i]``
``upto[i]``           how many lie at or below ``r[i]``
``cell_sums[i]``      the sum of those inside cell ``i``, hence not on its ends
====================  ================================================================================================

Both empirical distribution functions are constant or known at every ``r[i]`` from both sides, and their difference is
monotone between, so the Kolmogorov-Smirnov statistic is exact. Bins whose edges are reference values are differences of
``upto``. The sums place the mass inside a cell, which makes the mean exact and the Wasserstein distance exact except in
cells where the two functions cross.

Counts add up without error; sums add up as floats do, to rounding.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from zipfile import BadZipFile

import numpy as np

from attrition.errors import Fault, IntegrityError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Counts = NDArray[np.int64]

FORMAT = 1
"""Of serialised references and sketches."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The distribution of one numeric feature that windows are compared with.

    Attributes
    ----------
    values : ndarray of shape (m,), float64
        Distinct finite values, ascending; m may be 0.
    counts : ndarray of shape (m,), int64
        How often each occurs, > 0.
    n_missing : int
        Rows without a value.
    low, high : float
        Plausible range of the feature, inclusive; infinite where unbounded.
    """

    values: Floats
    counts: Counts
    n_missing: int
    low: float
    high: float

    @classmethod
    def of(cls, values: ArrayLike, *, low: float = -np.inf, high: float = np.inf) -> Self:
        """Reference of a column; NaN is missing, and so is what is infinite.

        Parameters
        ----------
        values : array_like of shape (n,), float64
        """
        column = np.asarray(values, np.float64)
        finite = column[np.isfinite(column)] + 0.0  # one zero
        distinct, counts = np.unique(finite, return_counts=True)
        return cls(distinct, counts.astype(np.int64), len(column) - len(finite), float(low), float(high))

    @property
    def n(self) -> int:
        """Rows with a value."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Of the values; NaN when there is none."""
        return float((self.values * self.counts).sum() / self.n) if self.n else np.nan

    @property
    def upto(self) -> Counts:
        """Values at or below each distinct one, shape (m,)."""
        return np.cumsum(self.counts)

    def sketch(self, values: ArrayLike) -> NumericSketch:
        """Sketch of a part of a window.

        Parameters
        ----------
        values : array_like of shape (n,), float64
            NaN and infinite values count as missing.
        """
        column = np.asarray(values, np.float64)
        # sorting the part and searching the few reference values in it costs less than the other way round
        ordered = _ordered(column)
        below = np.searchsorted(ordered, self.values, "left").astype(np.int64)
        upto = np.searchsorted(ordered, self.values, "right").astype(np.int64)
        running = np.zeros(len(ordered) + 1)
        np.cumsum(ordered, out=running[1:])
        starts, ends = np.concatenate([[0], upto]), np.concatenate([below, [len(ordered)]])
        inside = starts < ends
        implausible = int(np.searchsorted(ordered, self.low, "left"))
        implausible += len(ordered) - int(np.searchsorted(ordered, self.high, "right"))
        return NumericSketch(
            below=below,
            upto=upto,
            # an empty cell must be exactly zero, whatever the running sum lost
            cell_sums=np.where(inside, running[ends] - running[starts], 0.0),
            n=len(ordered),
            n_missing=len(column) - len(ordered),
            n_implausible=implausible,
            minimum=float(ordered[0]) if len(ordered) else np.inf,
            maximum=float(ordered[-1]) if len(ordered) else -np.inf,
        )

    def own(self) -> NumericSketch:
        """The reference's sketch of itself."""
        upto = self.upto
        outside = (self.values < self.low) | (self.values > self.high)
        return NumericSketch(
            below=upto - self.counts,
            upto=upto,
            cell_sums=np.zeros(len(self.values) + 1),
            n=self.n,
            n_missing=self.n_missing,
            n_implausible=int(self.counts[outside].sum()),
            minimum=float(self.values[0]) if self.n else np.inf,
            maximum=float(self.values[-1]) if self.n else -np.inf,
        )


@dataclass(frozen=True, slots=True, eq=False)
class NumericSketch:
    """What is kept of a part of a window for one numeric feature; see the module.

    Attributes
    ----------
    below, upto : ndarray of shape (m,), int64
    cell_sums : ndarray of shape (m + 1,), float64
    n, n_missing : int
        Rows with and without a value.
    n_implausible : int
        Values outside the feature's plausible range; they count among the values.
    minimum, maximum : float
        Infinite, the wrong way round, when there is no value.
    """

    below: Counts
    upto: Counts
    cell_sums: Floats
    n: int
    n_missing: int
    n_implausible: int
    minimum: float
    maximum: float

    def __add__(self, other: NumericSketch) -> NumericSketch:
        """Sketch of both parts together.

        Raises
        ------
        UsageError
            They were made against references of different sizes.
        """
        if len(self.below) != len(other.below):
            raise UsageError(
                Fault("sketches", f"of {len(self.below)} and {len(other.below)} reference values", "the same reference")
            )
        return NumericSketch(
            below=self.below + other.below,
            upto=self.upto + other.upto,
            cell_sums=self.cell_sums + other.cell_sums,
            n=self.n + other.n,
            n_missing=self.n_missing + other.n_missing,
            n_implausible=self.n_implausible + other.n_implausible,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NumericSketch):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("below", "upto", "cell_sums")
        ) and all(
            getattr(self, name) == getattr(other, name)
            for name in ("n", "n_missing", "n_implausible", "minimum", "maximum")
        )

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def total(self, reference: Reference) -> float:
        """Sum of all values."""
        return float(self.cell_sums.sum() + (reference.values * (self.upto - self.below)).sum())

    def mean(self, reference: Reference) -> float:
        """Mean of the values; NaN when there is none."""
        return self.total(reference) / self.n if self.n else np.nan


@dataclass(frozen=True, slots=True)
class CategoryReference:
    """The distribution of one feature that takes few values: a category, a flag, a small count.

    Attributes
    ----------
    codes : ndarray of shape (k,), float64
        Values that occur, ascending.
    counts : ndarray of shape (k,), int64
    n_missing : int
    """

    codes: Floats
    counts: Counts
    n_missing: int

    @classmethod
    def of(cls, values: ArrayLike) -> Self:
        """Reference of a column of shape (n,), float64; NaN is missing, and so is what is infinite."""
        reference = Reference.of(values)
        return cls(reference.values, reference.counts, reference.n_missing)

    @property
    def n(self) -> int:
        """Rows with a value."""
        return int(self.counts.sum())

    def sketch(self, values: ArrayLike) -> CategorySketch:
        """Sketch of a part of a window; see :meth:`Reference.sketch`."""
        column = np.asarray(values, np.float64)
        ordered = _ordered(column)
        found = np.searchsorted(ordered, self.codes, "right") - np.searchsorted(ordered, self.codes, "left")
        counts = found.astype(np.int64)
        return CategorySketch(counts, int(len(ordered) - counts.sum()), len(column) - len(ordered))

    def own(self) -> CategorySketch:
        """The reference's sketch of itself."""
        return CategorySketch(self.counts, 0, self.n_missing)


@dataclass(frozen=True, slots=True, eq=False)
class CategorySketch:
    """What is kept of a part of a window for one feature that takes few values.

    Attributes
    ----------
    counts : ndarray of shape (k,), int64
        Of the reference's codes.
    n_unseen : int
        Rows with another value. They are not told apart: a column that holds something else altogether must not make a
        sketch as large as the data.
    n_missing : int
    """

    counts: Counts
    n_unseen: int
    n_missing: int

    def __add__(self, other: CategorySketch) -> CategorySketch:
        """Sketch of both parts together.

        Raises
        ------
        UsageError
            They were made against references of different sizes.
        """
        if len(self.counts) != len(other.counts):
            found = f"of {len(self.counts)} and {len(other.counts)} codes"
            raise UsageError(Fault("sketches", found, "the same reference"))
        return CategorySketch(
            self.counts + other.counts, self.n_unseen + other.n_unseen, self.n_missing + other.n_missing
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CategorySketch):
            return NotImplemented
        return np.array_equal(self.counts, other.counts) and (self.n_unseen, self.n_missing) == (
            other.n_unseen,
            other.n_missing,
        )

    __hash__ = None  # type: ignore[assignment]  # it holds an array

    @property
    def n(self) -> int:
        """Rows with a value."""
        return int(self.counts.sum()) + self.n_unseen


AnyReference = Reference | CategoryReference
AnySketch = NumericSketch | CategorySketch


def _ordered(column: Floats) -> Floats:
    """Finite values, ascending."""
    finite = column[np.isfinite(column)]  # a copy
    finite.sort()
    return finite


def merge(sketches: Iterable[Mapping[str, AnySketch]]) -> dict[str, AnySketch]:
    """Sketches of parts, feature by feature, added up.

    Raises
    ------
    UsageError
        There is none, or they are not of the same features and references.
    """
    total: dict[str, AnySketch] = {}
    for part in sketches:
        if total and set(part) != set(total):
            raise UsageError(Fault("sketches", "are of different features"))
        total = {name: total[name] + sketch if total else sketch for name, sketch in part.items()}  # type: ignore[operator]
    if not total:
        raise UsageError(Fault("sketches", "there are none to merge"))
    return total


def dump_references(references: Mapping[str, AnyReference]) -> bytes:
    """References by feature as one compressed file, without pickles; for :func:`load_references`."""
    arrays: dict[str, NDArray[np.generic]] = {"format": np.array(FORMAT)}
    for name, reference in references.items():
        numeric = isinstance(reference, Reference)
        arrays[f"{name}/values"] = reference.values if isinstance(reference, Reference) else reference.codes
        arrays[f"{name}/counts"] = reference.counts
        scalars = [reference.n_missing, *((reference.low, reference.high) if isinstance(reference, Reference) else ())]
        arrays[f"{name}/{'numeric' if numeric else 'category'}"] = np.array(scalars, np.float64)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def load_references(data: bytes) -> dict[str, AnyReference]:
    """Inverse of :func:`dump_references`.

    Raises
    ------
    IntegrityError
        Not such a file, or of another format.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        known = int(arrays.pop("format")) == FORMAT
        references = dict(_references(arrays)) if known else {}
    except (BadZipFile, zlib.error, ValueError, KeyError, OSError, EOFError, IndexError, TypeError) as error:
        raise IntegrityError(Fault("drift reference", "cannot be read", f"format {FORMAT}")) from error
    if not known:
        raise IntegrityError(Fault("drift reference", "is of another format", f"{FORMAT} is read"))
    return references


def _references(arrays: Mapping[str, NDArray[np.generic]]) -> Iterator[tuple[str, AnyReference]]:
    for key, stored in arrays.items():
        name, _, part = key.rpartition("/")
        if part not in {"numeric", "category"}:
            continue
        values, counts = arrays[f"{name}/values"].astype(np.float64), arrays[f"{name}/counts"].astype(np.int64)
        n_missing, *bounds = stored.astype(np.float64).tolist()
        if part == "category":
            yield name, CategoryReference(values, counts, int(n_missing))
        else:
            low, high = bounds
            yield name, Reference(values, counts, int(n_missing), low, high)
