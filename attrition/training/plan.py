"""The search plan: families, spaces and budget, as YAML; shipped as ``smoke``, ``default`` and ``thorough``."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from attrition.settings import GATES, RETRAINING, config_file, load_yaml
from attrition.training.families import FAMILIES, Value
from attrition.training.mitigation import Mitigation
from attrition.training.spaces import Space
from attrition.training.threshold import ThresholdObjective

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Metric = Literal["auc", "average_precision"]
Calibration = Literal["sigmoid", "isotonic", "none"]


def _known_family(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"unknown family; allowed: {', '.join(FAMILIES)}")
    return name


class SearchPlan(BaseModel):
    """What a search does, from the folds to the decision threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
    """Name of the study: its folder and the title of its MLflow run."""
    description: str = ""
    """One sentence for readers."""
    families: dict[Annotated[str, AfterValidator(_known_family)], dict[str, Space]]
    """Search space of each family, in the order of the first trials: strong families first let weak ones stop early."""
    n_trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Configurations to try, the pruned ones included."""
    n_folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Stratified folds, disjoint by person; a trial reports after each."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Of folds, models and suggestions. With several trials at once the order in which they end matters too."""
    metric: Metric = "auc"
    """Mean over the folds decides; higher is better."""
    grace_folds: Annotated[int, Field(ge=1)] = 1
    """Folds before a trial can be stopped. All trials share the folds, so even one fold compares like with like."""
    reduction_factor: Annotated[float, Field(gt=1, le=10)] = 2.0
    """A rung lets the best 1 / `reduction_factor` of the trials pass; rungs are `grace_folds` times its powers."""
    max_concurrent_trials: Annotated[int, Field(ge=1)] | None = None
    """Trials at once, one CPU each; None is as many as the cluster has CPUs."""
    time_budget_seconds: Annotated[float, Field(gt=0)] | None = None
    """Stop starting and running trials after so many seconds; None is no limit."""
    holdout_share: Annotated[float, Field(gt=0, lt=0.9)] = 0.25
    """Share of persons that the search never sees; the gates look at them once."""
    calibration: Calibration = "sigmoid"
    """Map from the winner's scores to probabilities, fitted on out-of-fold scores."""
    objective: ThresholdObjective = ThresholdObjective()
    """What the decision threshold is chosen for."""
    mitigation: Mitigation | None = None
    """Even the winner's decisions out over the groups of an attribute; null takes it as the search found it."""

    @field_validator("families")
    @classmethod
    def _known_parameters(cls, families: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if not families:
            raise ValueError(f"is empty; name at least one of {', '.join(FAMILIES)}")
        faults: set[str] = set()
        for family, spaces in families.items():
            for name, space in spaces.items():
                problems = [FAMILIES[family].faults({name: value}) for value in space.extremes]
                faults.update({str(fault) for problem in problems for fault in problem})
        if faults:
            raise ValueError(" ".join(sorted(faults)).rstrip("."))
        return families

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.grace_folds > self.n_folds:
            raise ValueError(f"grace_folds is {self.grace_folds}; it must not exceed n_folds {self.n_folds}")
        return self

    @classmethod
    def load(cls, name_or_path: str | Path) -> SearchPlan:
        """The plan in a YAML file, or a shipped one by name.

        Raises
        ------
        ConfigError
            No such plan, or a plan that cannot be used: names every unknown key, family and parameter.
        """
        others = (GATES, RETRAINING)
        return load_yaml(config_file("tune_configs", name_or_path, kind=lambda name: not name.startswith(others)), cls)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what decides the result; the name and description do not."""
        essence = self.model_dump(mode="json", exclude={"name", "description"})
        if self.mitigation is None:  # a plan without it keeps the digest that it had before there was such a thing
            del essence["mitigation"]
        return hashlib.sha256(json.dumps(essence).encode()).hexdigest()

    def first_parameters(self, family: str) -> Mapping[str, Value]:
        """Hyperparameters of the family's first trial."""
        return {name: space.initial for name, space in self.families[family].items()}
