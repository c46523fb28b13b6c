"""The model families: what may be set, and how a pipeline is built from it.

Every pipeline reads ``DataFrame[schema.names]`` (float64, NaN = missing) and has two steps: ``prepare``, a
ColumnTransformer with the transformers ``numeric`` and ``category``, and ``model``. The compiler in
:mod:`attrition.scoring` relies on these names.

- Linear: numeric features are imputed with the training median, flagged when imputed (features that had missing values
  in training), and scaled to unit variance.
- Trees: numeric features pass unchanged; the trees learn where missing values go.
- Both: each category code becomes one 0/1 column. A code not seen in training gives zeros in all of them. A missing
  code is a category of its own when training had missing codes, otherwise it is treated like an unseen one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from attrition.errors import ConfigError, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    from attrition.data.schema import FeatureSchema

Value = str | int | float | bool | None
"""One hyperparameter value."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What one hyperparameter accepts: a range of numbers, some named values, or both.

    Attributes
    ----------
    low, high : float or None
        Inclusive range; None when only `choices` are allowed.
    whole : bool
        True when numbers must be whole.
    choices : tuple
        Values allowed beside the range.
    """

    low: float | None = None
    high: float | None = None
    whole: bool = False
    choices: tuple[Value, ...] = ()

    def __str__(self) -> str:
        parts = [json.dumps(choice) for choice in self.choices]  # as a plan would write it
        if self.low is not None:
            parts.insert(0, f"{'whole numbers' if self.whole else 'numbers'} from {self.low:g} to {self.high:g}")
        return ", ".join(parts)

    def admits(self, value: Value) -> bool:
        """Whether `value` is allowed."""
        if value is None or isinstance(value, str | bool):
            return any(value is choice or value == choice for choice in self.choices)
        if self.low is None or self.high is None or (self.whole and value != int(value)):
            return False
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of model.

    Attributes
    ----------
    name : str
        Key in search plans.
    title : str
        For readers.
    parameters : mapping of str to Parameter
        What may be set; anything else is refused.
    releases_gil : bool
        True when fits in several threads run at once, and none of them starts threads of its own.
    """

    name: str
    title: str
    preparation: Literal["linear", "trees"]
    estimator: str
    parameters: Mapping[str, Parameter]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    releases_gil: bool = False

    def faults(self, parameters: Mapping[str, Value], where: str = "") -> list[Fault]:
        """Everything wrong with `parameters`; empty when they can be built."""
        prefix = where or self.name
        faults = []
        for name, value in parameters.items():
            if name not in self.parameters:
                allowed = f"{self.name} has: {', '.join(self.parameters)}"
                faults.append(Fault(f"{prefix}.{name}", "unknown parameter", allowed, "check its spelling"))
            elif not self.parameters[name].admits(value):
                faults.append(Fault(f"{prefix}.{name}", f"{value!r}", f"allowed: {self.parameters[name]}"))
        return faults

    def validate(self, parameters: Mapping[str, Value]) -> None:
        """Raise for parameters that this family does not have or values that it does not accept.

        Raises
        ------
        ConfigError
            Names every fault with what is allowed.
        """
        faults = self.faults(parameters)
        if faults:
            raise ConfigError(faults)

    def build(self, schema: FeatureSchema, parameters: Mapping[str, Value], seed: int) -> Pipeline:
        """An unfitted pipeline.

        Parameters
        ----------
        schema
            The features it will read.
        parameters
            Hyperparameters; what is not set keeps scikit-learn's default.
        seed
            Of everything random in the fit.

        Raises
        ------
        ConfigError
            Parameters that the family does not accept.
        """
        from sklearn.pipeline import Pipeline

        self.validate(parameters)
        module, name = self.estimator.rsplit(".", 1)
        model = getattr(import_module(module), name)(**self.fixed, **parameters, random_state=seed)
        return Pipeline([("prepare", _preparation(schema, self.preparation)), ("model", model)])


def _preparation(schema: FeatureSchema, kind: Literal["linear", "trees"]) -> ColumnTransformer:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numeric: Any = "passthrough"
    if kind == "linear":
        # a column without any value keeps its place, so that positions stay those of the schema
        impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        numeric = Pipeline([("impute", impute), ("scale", StandardScaler())])
    transformers: list[tuple[str, Any, list[str]]] = []
    if schema.numeric:
        transformers.append(("numeric", numeric, list(schema.numeric)))
    if schema.categorical:
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        transformers.append(("category", encoder, list(schema.categorical)))
    return ColumnTransformer(transformers, sparse_threshold=0.0, verbose_feature_names_out=False)


_BALANCE = Parameter(choices=(None, "balanced"))

_FOREST = MappingProxyType(
    {
        "n_estimators": Parameter(1, 2000, whole=True),
        "criterion": Parameter(choices=("gini", "entropy", "log_loss")),
        "max_depth": Parameter(1, 100, whole=True, choices=(None,)),
        "min_samples_split": Parameter(2, 10_000, whole=True),
        "min_samples_leaf": Parameter(1, 10_000, whole=True),
        "max_features": Parameter(0.01, 1.0, choices=("sqrt", "log2", None)),
        "max_leaf_nodes": Parameter(2, 100_000, whole=True, choices=(None,)),
        "bootstrap": Parameter(choices=(True, False)),
        "class_weight": Parameter(choices=(None, "balanced", "balanced_subsample")),
    }
)

# written out, because the default would follow joblib's context: several threads add up trees in any order
_ONE_JOB = MappingProxyType({"n_jobs": 1})

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family(
                "logistic_regression",
                "Logistic regression",
                "linear",
                "sklearn.linear_model.LogisticRegression",
                {"C": Parameter(1e-6, 1e6), "class_weight": _BALANCE, "max_iter": Parameter(1, 100_000, whole=True)},
            ),
            Family(
                "random_forest",
                "Random forest",
                "trees",
                "sklearn.ensemble.RandomForestClassifier",
                _FOREST,
                fixed=_ONE_JOB,
                releases_gil=True,
            ),
            Family(
                "extra_trees",
                "Extremely randomised trees",
                "trees",
                "sklearn.ensemble.ExtraTreesClassifier",
                _FOREST,
                fixed=_ONE_JOB,
                releases_gil=True,
            ),
            Family(
                "hist_gradient_boosting",
                "Histogram gradient boosting",
                "trees",
                "sklearn.ensemble.HistGradientBoostingClassifier",
                {
                    "learning_rate": Parameter(1e-4, 1.0),
                    "max_iter": Parameter(1, 5000, whole=True),
                    "max_leaf_nodes": Parameter(2, 1000, whole=True, choices=(None,)),
                    "max_depth": Parameter(1, 100, whole=True, choices=(None,)),
                    "min_samples_leaf": Parameter(1, 10_000, whole=True),
                    "l2_regularization": Parameter(0.0, 1e4),
                    "max_features": Parameter(0.01, 1.0),
                    "max_bins": Parameter(2, 255, whole=True),
                    "class_weight": _BALANCE,
                },
                # early stopping would hold out rows without regard to persons
                fixed={"early_stopping": False},
            ),
        )
    }
)
"""The families by name."""


def family_named(name: str) -> Family:
    """The family called `name`.

    Raises
    ------
    ConfigError
        There is none; lists those there are.
    """
    if name not in FAMILIES:
        raise ConfigError(Fault(name, "unknown family", f"allowed: {', '.join(FAMILIES)}", "check its spelling"))
    return FAMILIES[name]
