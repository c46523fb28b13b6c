"""What a fitted preprocessing does to each feature, read out of scikit-learn's objects.

A pipeline's model reads a matrix. Each of its columns depends on one feature, in one of two ways: a number that went
through additions and multiplications (:class:`Number`), or a table of codes (:class:`Table`). The scalers, imputers and
encoders below are all that a pipeline may contain; any other refuses to compile rather than compile wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isnan, nan
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from attrition.errors import Fault, ParityError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

Operation = tuple[Literal["subtract", "divide"], float]

_ARITHMETIC: dict[str, np.ufunc] = {"subtract": np.subtract, "divide": np.divide}


@dataclass(frozen=True, slots=True)
class Number:
    """A column g(x): the operations applied in order; strictly increasing but for rounding.

    Attributes
    ----------
    feature : int
    operations : tuple
        Each divisor is positive.
    missing : float
        What the column holds where x is missing; NaN when the model sees it as missing.
    """

    feature: int
    operations: tuple[Operation, ...] = ()
    missing: float = nan

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The column for finite values, with the rounding of the pipeline."""
        for operation, constant in self.operations:
            values = _ARITHMETIC[operation](values, constant)
        return values

    @property
    def affine(self) -> tuple[float, float]:
        """Slope and intercept of g without the rounding."""
        slope, intercept = 1.0, 0.0
        for operation, constant in self.operations:
            if operation == "subtract":
                intercept -= constant
            else:
                slope, intercept = slope / constant, intercept / constant
        return slope, intercept

    def then(self, operation: Operation) -> Number:
        """The column after one more operation."""
        missing = float(_ARITHMETIC[operation[0]](self.missing, operation[1]))
        return replace(self, operations=(*self.operations, operation), missing=missing)

    def filled(self, constant: float) -> Number:
        """The column with a constant where it is missing."""
        return replace(self, missing=constant) if isnan(self.missing) else self


@dataclass(frozen=True, slots=True)
class Table:
    """A column that holds one number per code, another for unlisted codes and another where x is missing."""

    feature: int
    values: Mapping[float, float]
    unknown: float
    missing: float

    def map(self, function: Callable[[float], float]) -> Table:
        """The column with every number replaced."""
        values = {code: function(value) for code, value in self.values.items()}
        return replace(self, values=values, unknown=function(self.unknown), missing=function(self.missing))

    def then(self, operation: Operation) -> Table:
        """The column after one more operation."""
        return self.map(lambda value: float(_ARITHMETIC[operation[0]](value, operation[1])))

    def filled(self, constant: float) -> Table:
        """The column with a constant where it is missing."""
        return self.map(lambda value: constant if isnan(value) else value)


Column = Number | Table


def model_columns(pipeline: Any, names: Sequence[str]) -> tuple[list[Column], Any]:
    """The columns that a fitted pipeline's model reads, in order, and that model.

    Parameters
    ----------
    pipeline : sklearn Pipeline
        Fitted on ``DataFrame[names]``.
    names
        The features, in order.

    Raises
    ------
    ParityError
        Names each step that cannot be compiled.
    """
    columns: list[Column] = [Number(feature) for feature in range(len(names))]
    steps = list(pipeline.steps)
    for _, transformer in steps[:-1]:
        columns = _transformed(transformer, columns, names)
    return columns, steps[-1][1]


def _transformed(transformer: Any, columns: list[Column], names: Sequence[str]) -> list[Column]:
    name = "passthrough" if isinstance(transformer, str) else type(transformer).__name__
    reader = _READERS.get(name)
    if reader is None:
        raise cannot_compile(f"step {name}", f"{', '.join(sorted(_READERS))} can")
    return reader(transformer, columns, names)


def cannot_compile(what: str, allowed: str) -> ParityError:
    """The error of a pipeline that has no declared form."""
    return ParityError(Fault("scorer", f"{what} cannot be compiled", allowed, "choose a family of attrition.training"))


def _passthrough(_: Any, columns: list[Column], __: Sequence[str]) -> list[Column]:
    return columns


def _function(transformer: Any, columns: list[Column], _: Sequence[str]) -> list[Column]:
    # a fitted ColumnTransformer keeps "passthrough" as a FunctionTransformer without a function
    if transformer.func is not None:
        raise cannot_compile("FunctionTransformer", "passthrough can")
    return columns


def _pipeline(pipeline: Any, columns: list[Column], names: Sequence[str]) -> list[Column]:
    for _, step in pipeline.steps:
        columns = _transformed(step, columns, names)
    return columns


def _column_transformer(transformer: Any, columns: list[Column], names: Sequence[str]) -> list[Column]:
    out: list[Column] = []
    for _, part, selected in transformer.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        places = [list(names).index(name) if isinstance(name, str) else int(name) for name in selected]
        out += _transformed(part, [columns[place] for place in places], [names[place] for place in places])
    return out


def _imputer(imputer: Any, columns: list[Column], _: Sequence[str]) -> list[Column]:
    if not (isinstance(imputer.missing_values, float) and isnan(imputer.missing_values)):
        raise cannot_compile("SimpleImputer of a value other than NaN", "missing is NaN")
    fills = np.asarray(imputer.statistics_, dtype=np.float64)
    if np.isnan(fills).any():
        raise cannot_compile("SimpleImputer that drops empty columns", "keep_empty_features=True keeps their place")
    out = [column.filled(float(fill)) for column, fill in zip(columns, fills, strict=True)]
    indicators: list[Column] = []
    if imputer.add_indicator:
        indicators = [_missing_indicator(columns[place]) for place in imputer.indicator_.features_]
    return [*out, *indicators]


def _missing_indicator(column: Column) -> Column:
    if isinstance(column, Number):
        return Table(column.feature, {}, unknown=0.0, missing=float(isnan(column.missing)))
    return column.map(lambda value: float(isnan(value)))


def _standard_scaler(scaler: Any, columns: list[Column], _: Sequence[str]) -> list[Column]:
    for operation, constants in (("subtract", scaler.mean_), ("divide", scaler.scale_)):
        if constants is not None:
            pairs = zip(columns, constants, strict=True)
            columns = [column.then((operation, float(constant))) for column, constant in pairs]  # type: ignore[arg-type]
    return columns


def _one_hot_encoder(encoder: Any, columns: list[Column], _: Sequence[str]) -> list[Column]:
    grouped = encoder.min_frequency is not None or encoder.max_categories is not None
    if encoder.handle_unknown != "ignore" or encoder.drop is not None or grouped:
        raise cannot_compile("OneHotEncoder that drops, groups or refuses codes", 'handle_unknown="ignore" does not')
    out: list[Column] = []
    for column, categories in zip(columns, encoder.categories_, strict=True):
        if not isinstance(column, Number) or column.operations:
            raise cannot_compile("OneHotEncoder of computed numbers", "it reads codes")
        codes = [float(category) for category in categories]
        for code in codes:
            values = {other: float(other == code) for other in codes if not isnan(other)}
            missing = float(code == column.missing or (isnan(code) and isnan(column.missing)))
            out.append(Table(column.feature, values, unknown=0.0, missing=missing))
    return out


_READERS: dict[str, Callable[[Any, list[Column], Sequence[str]], list[Column]]] = {
    "passthrough": _passthrough,
    "ColumnTransformer": _column_transformer,
    "FunctionTransformer": _function,
    "OneHotEncoder": _one_hot_encoder,
    "Pipeline": _pipeline,
    "SimpleImputer": _imputer,
    "StandardScaler": _standard_scaler,
}
