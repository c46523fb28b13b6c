"""The declared scorer format ``attrition.scorer/1``: what a model computes, as data that is checked before it is used.

A scorer is a small JSON document, ``scorer.json``, and for tree ensembles one block of numbers, ``trees.bin``. Neither
can hold code. The decision threshold is not part of it, so that a new threshold leaves the model as it was.

Notation: a record is x, one float64 per feature, NaN where missing. Category codes are compared for equality.
"""

from __future__ import annotations

from itertools import pairwise
from math import isfinite
from typing import Literal

import msgspec

from attrition.errors import Fault, IntegrityError

FORMAT = "attrition.scorer/1"
SCORER_FILE = "scorer.json"
TREES_FILE = "trees.bin"

MAX_DOCUMENT_BYTES = 16 * 2**20
MAX_TREES_BYTES = 2**30
MAX_FEATURES = 4096
MAX_TREES = 20_000
MAX_COLUMNS = 2**16


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the document: unknown keys are refused."""


class Identity(_Strict, frozen=True, tag_field="kind", tag="identity"):
    """The raw score is the probability."""


class Logistic(_Strict, frozen=True, tag_field="kind", tag="logistic"):
    """Probability 1 / (1 + exp(-(slope · raw + intercept))): a logit link, or Platt's calibration."""

    slope: float
    intercept: float


class Isotonic(_Strict, frozen=True, tag_field="kind", tag="isotonic"):
    """Probability interpolated between the points (`raw`, `probability`), constant beyond both ends."""

    raw: tuple[float, ...]
    probability: tuple[float, ...]


Output = Identity | Logistic | Isotonic


class NumericTerm(_Strict, frozen=True):
    """Contribution `weight` · x, or `missing`."""

    feature: int
    weight: float
    missing: float


class TableTerm(_Strict, frozen=True):
    """Contribution of each code of a category, of a code not listed, and of a missing one."""

    feature: int
    codes: tuple[float, ...]
    values: tuple[float, ...]
    unknown: float
    missing: float


class LinearDocument(_Strict, frozen=True, tag_field="kind", tag="linear"):
    """Raw score = intercept + the contributions of all terms."""

    format: str
    features: tuple[str, ...]
    output: Output
    intercept: float
    numeric: tuple[NumericTerm, ...]
    tables: tuple[TableTerm, ...]


class NumericColumn(_Strict, frozen=True):
    """A column holding x itself; missing lies below or above every threshold."""

    feature: int
    missing: Literal["low", "high"]


class TableColumns(_Strict, frozen=True):
    """Columns computed from the code of a category: one row of numbers per code."""

    feature: int
    codes: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    unknown: tuple[float, ...]
    missing: tuple[float, ...]


class TreesDocument(_Strict, frozen=True, tag_field="kind", tag="trees"):
    """Raw score = (base + one leaf value per tree, added in order) / divisor.

    A node sends a record left when its column is at most its threshold. Columns are numbered: `numeric` first, then
    those of each entry of `tables`. ``trees.bin`` holds, little-endian and without gaps, `n_nodes` float64 (threshold
    of a split, value of a leaf), `n_nodes` int32 (left child, the right one follows it; a leaf points to itself),
    `n_trees` int32 (roots) and `n_nodes` uint16 (column of a split, 0 at a leaf).
    """

    format: str
    features: tuple[str, ...]
    output: Output
    base: float
    divisor: float
    numeric: tuple[NumericColumn, ...]
    tables: tuple[TableColumns, ...]
    n_nodes: int
    n_trees: int


Document = LinearDocument | TreesDocument


class _Header(msgspec.Struct):
    format: str


def encode(document: Document) -> bytes:
    """Bytes of ``scorer.json``, the same for the same document."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode(data: bytes) -> Document:
    """The checked document of ``scorer.json``.

    Raises
    ------
    IntegrityError
        Not this format, an unknown or missing key, a wrong type, a number that is not finite, lists of unequal
        length, a feature that does not exist, or more than the format's limits allow.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise _refusal(f"{len(data)} bytes", f"at most {MAX_DOCUMENT_BYTES} bytes")
    try:
        header = msgspec.json.decode(data, type=_Header)
        if header.format != FORMAT:
            raise _refusal(f"format is {header.format[:80]!r}", f"this version of attrition reads {FORMAT}")
        document: Document = msgspec.json.decode(data, type=LinearDocument | TreesDocument)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refusal(str(error), f"a document of {FORMAT}") from error
    faults = _output_faults(document.output)
    faults += _shared_faults(document)
    faults += _linear_faults(document) if isinstance(document, LinearDocument) else _tree_faults(document)
    if faults:
        raise IntegrityError([Fault(SCORER_FILE, found) for found in faults])
    return document


def _refusal(found: str, allowed: str) -> IntegrityError:
    return IntegrityError(Fault(SCORER_FILE, found, allowed, "export the model version again"))


def _finite(*numbers: float) -> bool:
    return all(isfinite(number) for number in numbers)


def _output_faults(output: Output) -> list[str]:
    if isinstance(output, Logistic) and not _finite(output.slope, output.intercept):
        return ["output: slope and intercept must be finite"]
    if isinstance(output, Isotonic):
        raw, probability = output.raw, output.probability
        if not raw or len(raw) != len(probability):
            return [f"output: {len(raw)} raw scores and {len(probability)} probabilities, one of each is expected"]
        if not _finite(*raw) or any(b <= a for a, b in pairwise(raw)):
            return ["output: raw scores must be finite and increase"]
        if not all(0.0 <= p <= 1.0 for p in probability):
            return ["output: probabilities must lie in [0, 1]"]
    return []


def _shared_faults(document: Document) -> list[str]:
    names = document.features
    faults = []
    if not 0 < len(names) <= MAX_FEATURES or len(set(names)) != len(names):
        faults.append(f"features: {len(names)} names; 1 to {MAX_FEATURES} different ones are allowed")
    used = [*(part.feature for part in document.numeric), *(part.feature for part in document.tables)]
    beyond = [feature for feature in used if not 0 <= feature < len(names)]
    faults += [f"feature {feature} does not exist, there are {len(names)}" for feature in beyond]
    for table in document.tables:
        if len(table.values) != len(table.codes) or len(set(table.codes)) != len(table.codes):
            faults.append(f"table of feature {table.feature}: one row of values per different code is expected")
        if not _finite(*table.codes):
            faults.append(f"table of feature {table.feature}: codes must be finite")
    return faults


def _linear_faults(document: LinearDocument) -> list[str]:
    used = [*(term.feature for term in document.numeric), *(table.feature for table in document.tables)]
    faults = ["a feature has two terms"] if len(set(used)) != len(used) else []
    numbers = [document.intercept]
    for term in document.numeric:
        numbers += [term.weight, term.missing]
    for table in document.tables:
        numbers += [*table.values, table.unknown, table.missing]
    return faults if _finite(*numbers) else [*faults, "weights, contributions and intercept must be finite"]


def _tree_faults(document: TreesDocument) -> list[str]:
    faults = []
    n_columns = len(document.numeric)
    for table in document.tables:
        n_columns += len(table.unknown)
        rows = (*table.values, table.unknown, table.missing)
        if len({len(row) for row in rows}) != 1 or not all(_finite(*row) for row in rows):
            faults.append(f"table of feature {table.feature}: rows must be finite and of equal length")
    if n_columns > MAX_COLUMNS:
        faults.append(f"{n_columns} columns, at most {MAX_COLUMNS} are allowed")
    if not 0 < document.n_trees <= MAX_TREES:
        faults.append(f"{document.n_trees} trees, 1 to {MAX_TREES} are allowed")
    if not 0 < document.n_nodes <= MAX_TREES_BYTES // 14:
        faults.append(f"{document.n_nodes} nodes, 1 to {MAX_TREES_BYTES // 14} are allowed")
    if not _finite(document.base, document.divisor) or document.divisor <= 0:
        faults.append("base must be finite, divisor finite and positive")
    # a table without codes says whether a number is missing
    categories = {table.feature for table in document.tables if table.codes}
    if categories & {column.feature for column in document.numeric}:
        faults.append("a feature is both a number and a category")
    if len({table.feature for table in document.tables}) != len(document.tables):
        faults.append("a feature has two tables")
    return faults
