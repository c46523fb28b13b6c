"""Expressions of a mapping: arithmetic over the columns of an extract, by a whitelist and never by ``eval``.

Grammar: column names, numbers, quoted text, ``+ - * /``, one comparison, and the functions in :data:`FUNCTIONS`.
A value is a column of numbers (float64, missing is NaN) or of dates (datetime64, missing is NaT); a comparison yields
1 or 0, and NaN where an operand is missing. A quotient by zero is missing.
"""

from __future__ import annotations

import ast
import math
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

MAX_LENGTH = 500
"""Longest expression, in characters: a mapping is configuration, not a program."""

DAYS_PER_YEAR = 365.25
MONTHS_PER_YEAR = 12


class Columns(Protocol):
    """The columns that an expression may read, in the type it needs them."""

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Column as float64, missing is NaN."""
        ...

    def dates(self, column: str, date_format: str | None) -> NDArray[np.datetime64]:
        """Column as datetime64[us], missing is NaT."""
        ...

    def text(self, column: str) -> NDArray[np.object_]:
        """Column as str, missing is None."""
        ...


@dataclass(frozen=True, slots=True)
class _Column:
    """A column whose type is not decided yet: the operation that it meets decides."""

    name: str


@dataclass(frozen=True, slots=True)
class _Word:
    """Quoted text."""

    text: str


Value: TypeAlias = "NDArray[Any] | _Column | _Word"


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression, ready to be evaluated over a frame.

    Attributes
    ----------
    text : str
        As it stands in the mapping.
    columns : tuple of str
        Names that it reads, sorted.
    """

    text: str
    columns: tuple[str, ...]
    _tree: ast.expr = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Expression from its text.

        Raises
        ------
        ValueError
            Not an expression, or one that uses more than the grammar of this module; says what is not allowed.

        Examples
        --------
        >>> Expression.parse("monthly_hours / 4.33").columns
        ('monthly_hours',)
        """
        if len(text) > MAX_LENGTH:
            raise ValueError(f"an expression has at most {MAX_LENGTH} characters, this has {len(text)}")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"{text!r} is not an expression") from error
        try:
            columns = _columns(tree)
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}") from error
        if not columns:
            raise ValueError(f"{text!r} reads no column; use constant")
        return cls(text, tuple(sorted(columns)), tree)

    def evaluate(self, columns: Columns) -> NDArray[Any]:
        """Value of every row: float64, or datetime64[us] for an expression of dates.

        Raises
        ------
        ValueError
            A function was given another type than it takes.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = _evaluate(self._tree, columns)
            if _is_dates(value):
                return _dates(value, columns)
            numbers = _numbers(value, columns)
            return np.where(np.isfinite(numbers), numbers, np.nan)


def _columns(node: ast.expr) -> set[str]:
    """Columns that `node` reads; ValueError at the first thing outside the grammar."""
    match node:
        case (
            ast.Name(id=name)
            | ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str() as name)], keywords=[])
        ):
            return {name}
        case ast.Constant(value=int() | float() | str()) if not isinstance(node.value, bool):
            _check_size(node.value)
            operands: list[ast.expr] = []
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            operands = [operand]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            operands = [left, right]
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            operands = [left, right]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            _check_call(name, len(args))
            operands = args
        case _:
            raise ValueError(
                f"{type(node).__name__} is not allowed; an expression has columns, numbers, quoted text, + - * /, one "
                "comparison and functions"
            )
    return set().union(*map(_columns, operands))


def _check_size(value: Any) -> None:
    try:
        finite = isinstance(value, str) or math.isfinite(value)
    except OverflowError:  # a whole number that is too large for a float
        finite = False
    if not finite:
        raise ValueError("a number in it is larger than a float64 can be")


def _check_call(name: str, n_arguments: int) -> None:
    if name not in FUNCTIONS:
        raise ValueError(f"{name} is not a function here; allowed: column, {', '.join(sorted(FUNCTIONS))}")
    if n_arguments != FUNCTIONS[name].n_arguments:
        raise ValueError(f"{name} takes {FUNCTIONS[name].n_arguments} argument(s), not {n_arguments}")


def _evaluate(node: ast.expr, columns: Columns) -> Value:
    """Value of a tree that `_columns` has let pass."""
    value: Value
    match node:
        case ast.Constant(value=str() as text):
            value = _Word(text)
        case ast.Constant(value=int() | float() as number):
            value = np.asarray(number, dtype=np.float64)
        case ast.Name(id=name) | ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str() as name)]):
            value = _Column(name)
        case ast.UnaryOp(op=op, operand=operand):
            value = _numbers(_evaluate(operand, columns), columns) * (-1.0 if isinstance(op, ast.USub) else 1.0)
        case ast.BinOp(left=left, op=op, right=right):
            first, second = (_numbers(_evaluate(side, columns), columns) for side in (left, right))
            value = np.asarray(_ARITHMETIC[type(op)](first, second))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            value = _compare(type(op), _evaluate(left, columns), _evaluate(right, columns), columns)
        case ast.Call(func=ast.Name(id=name), args=args):
            value = FUNCTIONS[name].compute([_evaluate(argument, columns) for argument in args], columns)
        case _:
            raise AssertionError(ast.dump(node))
    return value


def _compare(op: type[ast.cmpop], left: Value, right: Value, columns: Columns) -> NDArray[np.float64]:
    convert: Callable[[Value, Columns], NDArray[Any]]
    if isinstance(left, _Word) or isinstance(right, _Word):
        if op not in {ast.Eq, ast.NotEq}:
            raise ValueError("text can be compared by == and != only")
        convert = _texts
    else:
        convert = _dates if _is_dates(left) or _is_dates(right) else _numbers
    first, second = np.broadcast_arrays(convert(left, columns), convert(right, columns))
    missing = np.asarray(pd.isna(first)) | np.asarray(pd.isna(second))
    result = np.full(first.shape, np.nan)
    result[~missing] = _COMPARISONS[op](first[~missing], second[~missing])
    return result


def _is_dates(value: Value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "M"


def _numbers(value: Value, columns: Columns) -> NDArray[np.float64]:
    if isinstance(value, _Column):
        return columns.numbers(value.name)
    if isinstance(value, _Word) or _is_dates(value):
        raise ValueError("arithmetic takes numbers; use days_between, months_between or years_between for dates")
    return value


def _dates(value: Value, columns: Columns) -> NDArray[np.datetime64]:
    if isinstance(value, _Column):
        return columns.dates(value.name, None)
    if isinstance(value, _Word) or not _is_dates(value):
        raise ValueError(
            "a date is needed: a column of ISO dates, parse_date(column, 'format') or make_date(year, month, day)"
        )
    return value


def _texts(value: Value, columns: Columns) -> NDArray[np.object_]:
    if isinstance(value, _Column):
        return columns.text(value.name)
    if isinstance(value, _Word):
        return np.array(value.text, dtype=object)
    raise ValueError("text can be compared with a column of text only")


def _days_between(arguments: list[Value], columns: Columns) -> NDArray[np.float64]:
    start, end = (_dates(argument, columns) for argument in arguments)
    return np.asarray((end - start) / np.timedelta64(1, "D"), dtype=np.float64)


def _parse_date(arguments: list[Value], columns: Columns) -> NDArray[np.datetime64]:
    match arguments:
        case [_Column(name=name), _Word(text=date_format)]:
            return columns.dates(name, date_format)
        case _:
            raise ValueError("parse_date takes a column and a quoted format, such as '%m/%d/%Y'")


def _make_date(arguments: list[Value], columns: Columns) -> NDArray[np.datetime64]:
    year, month, day = np.broadcast_arrays(*(np.atleast_1d(_numbers(argument, columns)) for argument in arguments))
    parts = pd.DataFrame({"year": year, "month": month, "day": day})
    return pd.to_datetime(parts, errors="coerce").to_numpy("datetime64[us]")


def _year(arguments: list[Value], columns: Columns) -> NDArray[np.float64]:
    return pd.DatetimeIndex(_dates(arguments[0], columns)).year.to_numpy(np.float64)


def _where(arguments: list[Value], columns: Columns) -> NDArray[np.float64]:
    condition, yes, no = (_numbers(argument, columns) for argument in arguments)
    return np.where(np.isnan(condition), np.nan, np.where(condition != 0, yes, no))


def _coalesce(arguments: list[Value], columns: Columns) -> NDArray[np.float64]:
    first, second = (_numbers(argument, columns) for argument in arguments)
    return np.where(np.isnan(first), second, first)


def _is_missing(arguments: list[Value], columns: Columns) -> NDArray[np.float64]:
    match arguments:
        case [_Column(name=name)]:
            return np.asarray(pd.isna(columns.text(name)), dtype=np.float64)
        case [np.ndarray() as value]:
            return np.asarray(pd.isna(value), dtype=np.float64)
        case _:
            raise ValueError("is_missing takes a column or an expression")


def _elementwise(combine: Callable[[Any, Any], Any]) -> Callable[[list[Value], Columns], NDArray[np.float64]]:
    def compute(arguments: list[Value], columns: Columns) -> NDArray[np.float64]:
        first, second = (_numbers(argument, columns) for argument in arguments)
        return np.asarray(combine(first, second), dtype=np.float64)

    return compute


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the grammar."""

    n_arguments: int
    compute: Callable[[list[Any], Columns], NDArray[Any]]


FUNCTIONS: Mapping[str, Function] = {
    "days_between": Function(2, _days_between),
    "months_between": Function(2, lambda a, c: _days_between(a, c) * (MONTHS_PER_YEAR / DAYS_PER_YEAR)),
    "years_between": Function(2, lambda a, c: _days_between(a, c) / DAYS_PER_YEAR),
    "parse_date": Function(2, _parse_date),
    "make_date": Function(3, _make_date),
    "year": Function(1, _year),
    "where": Function(3, _where),
    "coalesce": Function(2, _coalesce),
    "is_missing": Function(1, _is_missing),
    "minimum": Function(2, _elementwise(np.minimum)),
    "maximum": Function(2, _elementwise(np.maximum)),
}
"""``x_between(start, end)``, ``parse_date(column, 'format')``, ``make_date(year, month, day)``, ``year(date)``,
``where(condition, yes, no)``, ``coalesce(first, otherwise)``, ``is_missing(column)``, ``minimum``, ``maximum``; beside
them ``column("a name with blanks")``."""

_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
