"""Search spaces: where a hyperparameter is looked for, as written in a plan.

``{type: loguniform, low: 0.01, high: 0.3, default: 0.1}``; a bare value is a constant. `default` is the value of the
family's first trial, so that a small budget starts from something sensible.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from attrition.training.families import Value

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial
    from optuna.distributions import BaseDistribution


class _Space(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Range(_Space):
    low: float
    """Smallest value, inclusive."""
    high: float
    """Largest value, inclusive."""
    default: float | None = None
    """First value tried; None is the middle (of the logarithms where the scale is logarithmic)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}; low must be below high")
        if self._logarithmic and self.low <= 0:
            raise ValueError(f"low is {self.low:g}; a logarithmic scale needs low above 0")
        if self.default is not None and not self.low <= self.default <= self.high:
            raise ValueError(f"default is {self.default:g}; allowed: {self.low:g} to {self.high:g}")
        return self

    @property
    def _logarithmic(self) -> bool:
        return False

    @property
    def extremes(self) -> tuple[Value, ...]:
        """Values that bound everything the space can suggest."""
        return self.low, self.high

    @property
    def initial(self) -> Value:
        """Value of the family's first trial."""
        if self.default is not None:
            return self.default
        return math.sqrt(self.low * self.high) if self._logarithmic else (self.low + self.high) / 2


class Uniform(_Range):
    """A number, every value equally likely at first."""

    type: Literal["uniform"]

    def distribution(self) -> BaseDistribution:
        """The space for Optuna."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high)

    def suggest(self, trial: OptunaTrial, name: str) -> Value:
        """A value for `trial`."""
        return float(trial.suggest_float(name, self.low, self.high))


class LogUniform(_Range):
    """A positive number, every order of magnitude equally likely at first."""

    type: Literal["loguniform"]

    @property
    def _logarithmic(self) -> bool:
        return True

    def distribution(self) -> BaseDistribution:
        """The space for Optuna."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=True)

    def suggest(self, trial: OptunaTrial, name: str) -> Value:
        """A value for `trial`."""
        return float(trial.suggest_float(name, self.low, self.high, log=True))


class Whole(_Range):
    """A whole number."""

    type: Literal["int"]
    low: int
    high: int
    default: int | None = None
    log: bool = False
    """True: every order of magnitude equally likely at first."""

    @property
    def _logarithmic(self) -> bool:
        return self.log

    @property
    def initial(self) -> Value:
        """Value of the family's first trial."""
        return round(float(super().initial or 0))

    def distribution(self) -> BaseDistribution:
        """The space for Optuna."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log)

    def suggest(self, trial: OptunaTrial, name: str) -> Value:
        """A value for `trial`."""
        return int(trial.suggest_int(name, self.low, self.high, log=self.log))


class Choice(_Space):
    """One of some values."""

    type: Literal["choice"]
    values: Annotated[tuple[Value, ...], Field(min_length=1)]
    """What to choose from; null is written ``null``."""
    default: Value = None
    """First value tried; null is the first of `values`."""

    @model_validator(mode="after")
    def _member(self) -> Self:
        if self.default is not None and self.default not in self.values:
            raise ValueError(f"default is {self.default!r}; it must be one of {list(self.values)}")
        return self

    @property
    def extremes(self) -> tuple[Value, ...]:
        """Values that bound everything the space can suggest."""
        return self.values

    @property
    def initial(self) -> Value:
        """Value of the family's first trial."""
        return self.values[0] if self.default is None else self.default

    def distribution(self) -> BaseDistribution:
        """The space for Optuna."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def suggest(self, trial: OptunaTrial, name: str) -> Value:
        """A value for `trial`."""
        value: Value = trial.suggest_categorical(name, self.values)
        return value


class Constant(_Space):
    """A value that is not searched."""

    type: Literal["constant"]
    value: Value
    """The value."""

    @property
    def extremes(self) -> tuple[Value, ...]:
        """Values that bound everything the space can suggest."""
        return (self.value,)

    @property
    def initial(self) -> Value:
        """Value of the family's first trial."""
        return self.value

    def distribution(self) -> None:
        """None: there is nothing to suggest."""

    def suggest(self, trial: OptunaTrial, name: str) -> Value:  # noqa: ARG002 (the interface of a space)
        """The value."""
        return self.value


def _constant(raw: Any) -> Any:
    if isinstance(raw, list):
        raise ValueError("a list; write {type: choice, values: [...]} for alternatives")  # noqa: TRY004 (pydantic's)
    return raw if isinstance(raw, dict | BaseModel) else {"type": "constant", "value": raw}


Space = Annotated[
    Annotated[Uniform | LogUniform | Whole | Choice | Constant, Field(discriminator="type")], BeforeValidator(_constant)
]
"""Any search space."""
