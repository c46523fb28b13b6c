"""One fairness reduction as a scikit-learn estimator, to be cross-validated and calibrated like a pipeline.

Apart from :mod:`attrition.training.mitigation`, because it subclasses scikit-learn: importing the rules stays light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.utils.metaestimators import available_if

from attrition.errors import Fault, InsufficientData
from attrition.training.mitigation import REST

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from sklearn.pipeline import Pipeline

    from attrition.training.mitigation import Constraint


def _has_decision_function(reduced: ReducedPipeline) -> bool:
    return hasattr(reduced.pipeline[-1], "decision_function")


class ReducedPipeline(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A pipeline that is fitted on the rows as a fairness constraint weighs and relabels them.

    Parameters
    ----------
    pipeline : Pipeline
        Unfitted; its last step is called ``model`` and takes sample weights.
    constraint : str
        See :class:`~attrition.training.mitigation.Mitigation`.
    multipliers : Series
        See :attr:`Multipliers.values`.

    Attributes
    ----------
    pipeline_ : Pipeline
        Fitted; it needs no group to score.
    classes_ : ndarray of shape (2,)
    """

    def __init__(self, pipeline: Pipeline, constraint: Constraint, multipliers: pd.Series) -> None:
        self.pipeline = pipeline
        self.constraint = constraint
        self.multipliers = multipliers

    def fit(self, X: pd.DataFrame, y: ArrayLike, sensitive_features: ArrayLike) -> Self:
        """Fit on features, outcomes and groups.

        Raises
        ------
        InsufficientData
            Under these multipliers every row has the same label.
        """
        from fairlearn.reductions import GridSearch

        outcomes = np.asarray(y).astype(int)
        moments = _loaded(self.constraint, outcomes, sensitive_features).index
        search = GridSearch(
            clone(self.pipeline),
            _constraint(self.constraint),
            grid=self.multipliers.reindex(moments, fill_value=0.0).to_frame(0),  # a fold may lack a small group
            sample_weight_name="model__sample_weight",
        )
        search.fit(X, outcomes, sensitive_features=np.asarray(sensitive_features))
        (self.pipeline_,) = search.predictors_
        if isinstance(self.pipeline_, DummyClassifier):
            raise InsufficientData(Fault("mitigation", "leaves one class only", remedy="take smaller steps"))
        self.classes_ = self.pipeline_.classes_
        return self

    def predict(self, X: pd.DataFrame) -> NDArray[Any]:
        """Class of each row."""
        return np.asarray(self.pipeline_.predict(X))

    def predict_proba(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Score of each class, shape (n_rows, 2); a probability of the relabelled outcome until it is calibrated."""
        return np.asarray(self.pipeline_.predict_proba(X))

    @available_if(_has_decision_function)  # type: ignore[untyped-decorator]  # as above
    def decision_function(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Margin of each row, shape (n_rows,)."""
        return np.asarray(self.pipeline_.decision_function(X))


def _constraint(name: Constraint) -> Any:
    from fairlearn import reductions

    return {
        "demographic_parity": reductions.DemographicParity,
        "equalized_odds": reductions.EqualizedOdds,
        "true_positive_rate_parity": reductions.TruePositiveRateParity,
        "false_positive_rate_parity": reductions.FalsePositiveRateParity,
    }[name]()


def _loaded(name: Constraint, outcomes: NDArray[np.int_], groups: ArrayLike) -> Any:
    """The constraint, knowing the rows."""
    constraint = _constraint(name)
    constraint.load_data(np.zeros((len(outcomes), 1)), outcomes, sensitive_features=np.asarray(groups))
    return constraint


@dataclass(frozen=True)
class Multipliers:
    """Lagrange multipliers of a constraint for given rows.

    Attributes
    ----------
    values : Series
        Not negative, indexed by fairlearn's moments: sign, event (outcome, where it matters) and group.
    """

    values: pd.Series
    _constraint: Any

    @classmethod
    def none(cls, name: Constraint, y_true: NDArray[np.int8], groups: NDArray[np.object_]) -> Multipliers:
        """All zero."""
        constraint = _loaded(name, y_true.astype(int), groups)
        return cls(pd.Series(0.0, index=constraint.index), constraint)

    def ascend(self, decisions: NDArray[np.bool_], step: float) -> Multipliers:
        """One step along the violation that `decisions` show, shape (n_rows,)."""
        violation = self._constraint.gamma(lambda _: decisions.astype(float))
        shares = self._shares
        # the rest is a pool of strangers: evening it out would cost accuracy for nobody
        share = [shares[event, group] * (group != REST) for _, event, group in self.values.index.tolist()]
        return Multipliers((self.values + step * violation * share).clip(lower=0.0), self._constraint)

    @property
    def costs(self) -> dict[str, float]:
        """What a flag costs a row of each group, in units of a wrong decision; empty when nothing is multiplied."""
        net = self.values.xs("+", level="sign") - self.values.xs("-", level="sign")
        if not net.any():
            return {}
        shares, keys = self._shares, net.index.tolist()
        one_event = len({event for event, _ in keys}) == 1
        return {g if one_event else f"{event}, {g}": float(net[event, g] / shares[event, g]) for event, g in keys}

    @property
    def _shares(self) -> pd.Series:
        """Share of all rows that each event and group has."""
        tags = self._constraint.tags
        shares: pd.Series = tags.groupby(["event", "group_id"]).size() / len(tags)
        return shares
