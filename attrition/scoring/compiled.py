"""The scorers of a batch: what a served scorer computes, to the last bit, by loops that were compiled for this machine.

Compiling takes some seconds the first time and is remembered on disk; it pays for millions of records, so only a batch
asks for it. Where numba is missing, cannot compile, or gives another bit than the served scorer on a thousand records,
the served scorer does the work.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attrition.scoring import kernels
from attrition.scoring.exponential import exponential_tables
from attrition.scoring.format import Logistic
from attrition.scoring.linear import LinearScorer
from attrition.scoring.masks import MaskScorer
from attrition.scoring.ranks import Codes, Thresholds
from attrition.scoring.trees import TreeScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from attrition.scoring.scorer import Scorer

    Matrix = NDArray[np.float64]

_N_PROBES = 1000
_MAX_RANK = 2**23
_DE_BRUIJN = {4: (0x077CB531, 27), 8: (0x022FDD63CC95386D, 58)}
"""Multiplier and shift by bytes per word: every window of 5 (of 6) bits of the sequence is a different number."""

logger = logging.getLogger(__name__)


class Kernels(NamedTuple):
    """The functions of :mod:`attrition.scoring.kernels`, compiled."""

    add_numbers: Callable[..., None]
    add_codes: Callable[..., None]
    logistic: Callable[..., None]
    rank: Callable[..., None]
    and_masks: Callable[..., None]
    walk: Callable[..., None]


@lru_cache(maxsize=1)
def compiled_kernels() -> Kernels | None:
    """The kernels, once per process; None where they cannot be compiled."""
    try:
        import numba
    except ImportError:
        return None
    functions = [getattr(kernels, name) for name in Kernels._fields]
    try:
        return Kernels(*(numba.njit(nogil=True, cache=True)(function) for function in functions))
    except RuntimeError:  # no folder that the code could be kept in
        return Kernels(*(numba.njit(nogil=True)(function) for function in functions))


def compiled_scorer(scorer: Scorer) -> Scorer:
    """A scorer that is equal to the last bit and faster for many records; `scorer` itself where there is none.

    Parameters
    ----------
    scorer
        Of :func:`attrition.scoring.scorer.load_scorer`.
    """
    functions = compiled_kernels()
    if functions is None:
        return scorer
    try:
        compiled = _form(scorer, functions)
        records = probes(scorer)
        equal = np.array_equal(compiled.score(records), scorer.score(records), equal_nan=True)
    except Exception as error:  # noqa: BLE001 - whatever a compiler may raise: the served scorer needs none
        logger.warning("batch scoring goes on without compiled code (%s)", type(error).__name__)
        return scorer
    if not equal:
        logger.warning("compiled code gives other scores than the served scorer on this machine and is not used")
        return scorer
    return compiled


def _form(scorer: Scorer, functions: Kernels) -> Scorer:
    """The compiled form; `scorer` itself when it has none."""
    if isinstance(scorer, LinearScorer):
        return CompiledLinear(scorer, functions)
    if isinstance(scorer, MaskScorer) and CompiledMasks.fits(scorer):
        return CompiledMasks(scorer, functions)
    if isinstance(scorer, TreeScorer) and CompiledTrees.fits(scorer):
        return CompiledTrees(scorer, functions)
    return scorer


def probes(scorer: Scorer) -> Matrix:
    """Records around everything that a scorer distinguishes, shape (1000, n_features); the same for the same scorer."""
    rng = np.random.default_rng(0)
    columns = []
    for points in scorer.split_points:
        around = points[np.abs(points) < np.finfo(np.float64).max]
        around = around if len(around) else np.linspace(-100.0, 100.0, 50)
        values = rng.choice(np.concatenate([around, np.nextafter(around, np.inf), around + 0.5]), _N_PROBES)
        values[rng.random(_N_PROBES) < 0.1] = np.nan
        columns.append(values)
    return np.array(columns).T


class _Compiled(ABC):
    """What the compiled scorers share; each satisfies :class:`attrition.scoring.scorer.Scorer`."""

    _BLOCK = 2**12
    """Rows at a time: their ranks stay in the second-level cache beside the trees."""

    def __init__(self, scorer: Any, functions: Kernels) -> None:
        self.feature_names: tuple[str, ...] = scorer.feature_names
        self.split_points: tuple[Matrix, ...] = scorer.split_points
        self.score_one: Callable[[Sequence[float]], float] = scorer.score_one
        self._functions = functions
        self._to_probability = _output(scorer, functions)

    def score(self, matrix: Matrix) -> Matrix:
        """Probability of leaving for each row; fastest when the columns of `matrix` are contiguous."""
        probability = np.empty(len(matrix))
        for start in range(0, len(matrix), self._BLOCK):
            rows = slice(start, start + self._BLOCK)
            probability[rows] = self._to_probability(self._raw(np.asfortranarray(matrix[rows])))
        return probability

    @abstractmethod
    def _raw(self, rows: Matrix) -> Matrix:
        """Raw score of each row, before link and calibration."""

    def _rank(self, thresholds: Thresholds, values: Matrix, missing: int, ranks: NDArray[Any]) -> None:
        t = thresholds
        self._functions.rank(values, t.low, t.scale, t.last, t.first, t.padded, t.widest, missing, ranks)


def _output(scorer: Any, functions: Kernels) -> Callable[[Matrix], Matrix]:
    output = scorer.document.output
    if not isinstance(output, Logistic):
        served: Callable[[Matrix], Matrix] = scorer.to_probability
        return served
    fractions, powers = map(np.array, exponential_tables())

    def logistic(raw: Matrix) -> Matrix:
        functions.logistic(raw, output.slope, output.intercept, fractions, powers)
        return raw

    return logistic


class CompiledLinear(_Compiled):
    """A linear model."""

    def __init__(self, scorer: LinearScorer, functions: Kernels) -> None:
        super().__init__(scorer, functions)
        document = scorer.document
        self._intercept = document.intercept
        self._numeric = [(term.feature, term.weight, term.missing) for term in document.numeric]
        self._tables = [
            (table.feature, Codes(table.codes), np.array([*table.values, table.unknown, table.missing]))
            for table in document.tables
        ]

    def _raw(self, rows: Matrix) -> Matrix:
        raw = np.full(len(rows), self._intercept)
        for feature, weight, missing in self._numeric:
            self._functions.add_numbers(rows[:, feature], weight, missing, raw)
        for feature, codes, contributions in self._tables:
            self._functions.add_codes(codes.places(rows[:, feature]), contributions, raw)
        return raw


class CompiledMasks(_Compiled):
    """An ensemble of small trees."""

    def __init__(self, scorer: MaskScorer, functions: Kernels) -> None:
        super().__init__(scorer, functions)
        self._base, self._divisor = scorer.document.base, scorer.document.divisor
        parts = scorer.rank_tables
        self._numeric = [(feature, thresholds, len(table) - 1) for feature, thresholds, table in parts.numeric]
        self._codes = [(feature, codes) for feature, codes, _ in parts.tables]
        tables = [table for _, _, table in (*parts.numeric, *parts.tables)]
        self._table = np.concatenate(tables)
        self._offsets = np.cumsum([0, *map(len, tables)])[:-1]
        word = self._table.dtype
        multiplier, self._shift = _DE_BRUIJN[word.itemsize]
        self._multiplier = word.type(multiplier)
        n_bits = 8 * word.itemsize
        number = [((1 << bit) * multiplier % 2**n_bits) >> self._shift for bit in range(scorer.leaf_values.shape[1])]
        leaves = np.zeros((len(scorer.leaf_values), n_bits))
        leaves[:, number] = scorer.leaf_values
        self._leaves = leaves.ravel()

    @staticmethod
    def fits(scorer: MaskScorer) -> bool:
        """Not without any split: there would be nothing to look up."""
        return bool(scorer.rank_tables.numeric or scorer.rank_tables.tables)

    def _raw(self, rows: Matrix) -> Matrix:
        ranks = np.empty((len(self._offsets), len(rows)), np.int32)
        for place, (feature, thresholds, missing) in enumerate(self._numeric):
            self._rank(thresholds, rows[:, feature], missing, ranks[place])
        for place, (feature, codes) in enumerate(self._codes, len(self._numeric)):
            ranks[place] = codes.places(rows[:, feature])
        raw = np.full(len(rows), self._base)
        self._functions.and_masks(ranks, self._offsets, self._table, self._multiplier, self._shift, self._leaves, raw)
        raw /= self._divisor
        return raw


class CompiledTrees(_Compiled):
    """Any ensemble; a record becomes one row of ranks among the thresholds, so that splits compare whole numbers."""

    def __init__(self, scorer: TreeScorer, functions: Kernels) -> None:
        super().__init__(scorer, functions)
        document, ensemble = scorer.document, scorer.ensemble
        self._base, self._divisor = document.base, document.divisor
        splits = np.flatnonzero(~ensemble.is_leaf)
        columns, values = ensemble.column[splits], ensemble.value[splits]
        # a leaf's threshold is above every rank
        rank = np.full(len(ensemble.value), 2 * _MAX_RANK - 1, np.uint64)
        self._numeric: list[tuple[int, Thresholds, int]] = []
        self._tables: list[tuple[int, Codes, NDArray[Any]]] = []
        for place, column in enumerate(document.numeric):
            points = self.split_points[column.feature]
            mine = columns == place
            rank[splits[mine]] = np.searchsorted(points, values[mine])
            self._numeric.append((column.feature, Thresholds(points), 0 if column.missing == "low" else len(points)))
        first = len(document.numeric)
        for table in document.tables:
            rows = np.array([*table.values, table.unknown, table.missing])
            for place in range(rows.shape[1]):
                mine = columns == first + place
                points = np.unique(values[mine])
                rank[splits[mine]] = np.searchsorted(points, values[mine])
                rows[:, place] = np.searchsorted(points, rows[:, place])
            self._tables.append((table.feature, Codes(table.codes), rows))
            first += rows.shape[1]
        widest = max((int(missing) for _, _, missing in self._numeric), default=0)
        widest = max(widest, *(len(points) for points in self.split_points))
        self._ranks = np.dtype(np.uint16 if widest < 2**16 else np.uint32)
        self._tables = [(feature, codes, rows.astype(self._ranks)) for feature, codes, rows in self._tables]
        self._n_columns = first
        left, read = ensemble.left.astype(np.uint64), ensemble.column.astype(np.uint64)
        self._nodes = rank << kernels.RANK_SHIFT | read << kernels.LEFT_BITS | left
        self._roots = np.append(ensemble.roots, len(left)).astype(np.int64)
        self._values = ensemble.value

    @staticmethod
    def fits(scorer: TreeScorer) -> bool:
        """Whether every number has its bits in a node, and every tree is in one piece."""
        n_columns = len(scorer.document.numeric) + sum(len(table.unknown) for table in scorer.document.tables)
        most = max(len(points) for points in scorer.split_points)
        return 0 < n_columns <= int(kernels.COLUMN_MASK) and most < _MAX_RANK and scorer.ensemble.in_order

    def _raw(self, rows: Matrix) -> Matrix:
        n_rows = -(-len(rows) // kernels.LANES) * kernels.LANES
        columns = np.zeros((n_rows, self._n_columns), self._ranks)
        for place, (feature, thresholds, missing) in enumerate(self._numeric):
            self._rank(thresholds, rows[:, feature], missing, columns[: len(rows), place])
        first = len(self._numeric)
        for feature, codes, table in self._tables:
            columns[: len(rows), first : first + table.shape[1]] = table[codes.places(rows[:, feature])]
            first += table.shape[1]
        raw = np.full(n_rows, self._base)
        self._functions.walk(self._nodes, self._roots, self._values, columns, raw)
        raw /= self._divisor
        return raw[: len(rows)]
