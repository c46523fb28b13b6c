"""When performance is assessed and when it is alarming: thresholds as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from attrition.settings import load_yaml

if TYPE_CHECKING:
    from pathlib import Path

Share = Annotated[float, Field(ge=0, le=1)]


class PerformancePolicy(BaseModel):
    """What counts as enough labels, and what as too little performance.

    Examples
    --------
    >>> PerformancePolicy().min_auc
    0.82
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_auc: Share = 0.82
    """An interval of the AUC that lies wholly below is an alert. Admission asks for 0.85: what has lost three points
    since then ranks noticeably worse, and still well enough that there is time to retrain."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of every interval by itself; an alert is then false with a probability of at most 2.5 % per look."""
    min_persons: Annotated[int, Field(ge=10)] = 50
    """Persons with a label below which a bucket is counted, not measured: figures of a handful say more about
    single persons than about the model, and their intervals span everything."""
    min_group_size: Annotated[int, Field(ge=10)] = 50
    """Persons below which a group is counted, not compared; the same as in the admission gates."""
    active_days: Annotated[int, Field(ge=1)] = 100
    """A version that predicted nothing for so long alarms nobody; a quarter and some slack, for those who score
    quarterly."""
    n_simulations: Annotated[int, Field(ge=200)] = 1_000
    """Simulated label sets behind the band of an estimate: its coverage then lies within about one point (standard
    error 0.7) of the nominal one."""
    min_reference: Annotated[int, Field(ge=50)] = 500
    """Out-of-fold scores below which the recalibration of an estimate is too uncertain to be worth drawing."""

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """The policy in a YAML file; the defaults when None.

        Raises
        ------
        ConfigError
            Unreadable, an unknown key or a value out of range; every fault is named.
        """
        return cls() if path is None else load_yaml(path, cls)
