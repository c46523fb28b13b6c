"""Mitigation: a candidate whose decisions fall more evenly over the groups of one attribute, and what that costs.

The reductions approach (Agarwal et al. 2018, ICML): a fairness constraint with Lagrange multipliers becomes weights and
relabelled outcomes of the training rows, on which an ordinary pipeline is fitted. The multipliers follow the violation:
``m <- max(0, m + step * share * violation)``, dual ascent with the violation measured out of fold at the threshold that
the plan's objective chooses, scaled by each group's share of the rows so that a step means the same for a small group
as for a large one. The most even attempt whose accuracy does not fall by more than the plan allows wins; none does when
the pipeline as it is was the most even.

fairlearn supplies the constraints and the weights. Its searches are not used: ``GridSearch`` spreads its points too
thinly over more than two groups, and ``ExponentiatedGradient`` answers with a random mixture of models, so that a
person asking twice could be told two things.

The attribute is needed for training only: nobody's group is asked for, known or used when a person is scored, and the
same threshold holds for everybody. Per-group thresholds would be simpler and would treat two people with equal features
differently because of their group, which employment law commonly forbids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from attrition.errors import ConfigError, Fault, InsufficientData
from attrition.training.threshold import choose_threshold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from attrition.data.employees import EmployeeTable
    from attrition.training.reduction import ReducedPipeline
    from attrition.training.threshold import ThresholdObjective

    OutOfFold = Callable[[Any, Mapping[str, Any]], NDArray[np.float64]]

Constraint = Literal["demographic_parity", "equalized_odds", "true_positive_rate_parity", "false_positive_rate_parity"]

REST = "(rest)"
"""Group of the rows whose own group is too small to be balanced, or not recorded."""


class Mitigation(BaseModel):
    """How evenly decisions shall fall, and what that may cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    """Attribute as the fairness report names it: ``gender``, ``department``, ``age_band``."""
    constraint: Constraint = "demographic_parity"
    """``demographic_parity`` evens selection rates; the others even error rates given the outcome."""
    n_attempts: Annotated[int, Field(ge=1, le=200)] = 8
    """Steps of the multipliers; each costs one cross-validation."""
    step: Annotated[float, Field(gt=0, le=10)] = 2.0
    """Multiplier per unit of violation. A multiplier of 1 outweighs an outcome: it turns a row's label around."""
    max_accuracy_loss: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Accuracy that may be given up, out of fold, against the same pipeline without mitigation."""
    min_group_size: Annotated[int, Field(ge=10)] = 50
    """Smaller groups are pooled: their rates are noise, and evening noise out costs accuracy for nothing."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One strength of the mitigation, out of fold, at the threshold of the objective.

    Attributes
    ----------
    multipliers : mapping of str to float
        Per group, and per outcome where the constraint distinguishes them: how much a flag costs a row of that group
        (a credit when negative), in units of a wrong decision; empty without mitigation.
    gap : float
        Largest minus smallest rate that the constraint evens, over the groups, in [0, 1]; for equalized odds the
        larger of both gaps.
    accuracy, recall : float
        Against the true outcomes, in [0, 1].
    """

    multipliers: Mapping[str, float]
    gap: float
    accuracy: float
    recall: float


@dataclass(frozen=True, slots=True)
class Mitigated:
    """What was tried, and what was taken.

    Attributes
    ----------
    mitigation : Mitigation
    before, after : Attempt
        Without mitigation, and as taken; the same when no attempt was better within the allowed loss.
    attempts : tuple of Attempt
        All strengths tried.
    """

    mitigation: Mitigation
    before: Attempt
    after: Attempt
    attempts: tuple[Attempt, ...]

    def __str__(self) -> str:
        wanted = self.mitigation
        what = f"by {wanted.attribute} ({wanted.constraint.replace('_', ' ')}, {len(self.attempts)} tried)"
        if self.after is self.before:
            return (
                f"{what}: none was more even within the allowed loss of accuracy; the gap stays {self.before.gap:.3f}"
            )
        return (
            f"{what}: gap {self.before.gap:.3f} to {self.after.gap:.3f}, "
            f"accuracy {self.before.accuracy:.3f} to {self.after.accuracy:.3f}, "
            f"recall {self.before.recall:.3f} to {self.after.recall:.3f}, out of fold"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        documents = {name: _attempt_document(getattr(self, name)) for name in ("before", "after")}
        attempts = [_attempt_document(attempt) for attempt in self.attempts]
        return {**self.mitigation.model_dump(mode="json"), **documents, "attempts": attempts, "summary": str(self)}


def _attempt_document(attempt: Attempt) -> dict[str, Any]:
    figures = {"gap": attempt.gap, "accuracy": attempt.accuracy, "recall": attempt.recall}
    return {"multipliers": dict(attempt.multipliers), **figures}


def groups_of(table: EmployeeTable, mitigation: Mitigation) -> NDArray[np.object_]:
    """Group of each row, shape (n_rows,), small and missing ones pooled as :data:`REST`.

    Raises
    ------
    ConfigError
        The data do not have the attribute; names those they have.
    InsufficientData
        Fewer than two groups are large enough.
    """
    from attrition.evaluation.groups import MISSING, attributes_of

    attributes = attributes_of(table)
    if mitigation.attribute not in attributes:
        known = ", ".join(map(str, attributes)) or "none"
        raise ConfigError(Fault("mitigation.attribute", mitigation.attribute, f"these data have: {known}"))
    labels = attributes[mitigation.attribute].to_numpy(object)
    names, sizes = np.unique(labels.astype(str), return_counts=True)
    large = [name for name, n in zip(names.tolist(), sizes, strict=True) if n >= mitigation.min_group_size]
    balanced = [name for name in large if name != MISSING]
    if len(balanced) < 2:
        found = f"{len(balanced)} groups of {mitigation.min_group_size} rows or more"
        raise InsufficientData(Fault(f"mitigation by {mitigation.attribute}", found, "two are needed"))
    return np.where(np.isin(labels.astype(str), balanced), labels, REST)


def mitigate(
    pipeline: Pipeline,
    groups: NDArray[np.object_],
    y_true: NDArray[np.int8],
    mitigation: Mitigation,
    objective: ThresholdObjective,
    out_of_fold: OutOfFold,
) -> tuple[ReducedPipeline | None, Mitigated]:
    """The reduction to fit in place of the pipeline, None when the pipeline itself is taken; and what was tried.

    Parameters
    ----------
    pipeline
        Unfitted.
    groups, y_true
        Of the training rows, shape (n_rows,); see :func:`groups_of`.
    objective
        Chooses the threshold at which an attempt is judged.
    out_of_fold
        Function from an estimator and its fit parameters to out-of-fold scores in [0, 1], shape (n_rows,).
    """
    from attrition.training.reduction import Multipliers, ReducedPipeline

    multipliers = Multipliers.none(mitigation.constraint, y_true, groups)

    def judged(estimator: Any, parameters: Mapping[str, Any]) -> tuple[Attempt, NDArray[np.bool_]]:
        scores = out_of_fold(estimator, parameters)
        choice = choose_threshold(y_true, scores, objective)
        decisions = scores >= choice.threshold
        gap = rate_gap(y_true, decisions, groups, mitigation.constraint)
        return Attempt(multipliers.costs, gap, choice.accuracy, choice.recall), decisions

    before, decisions = judged(pipeline, {})
    best, chosen, attempts = before, None, []
    for _ in range(mitigation.n_attempts):
        multipliers = multipliers.ascend(decisions, mitigation.step)
        reduced = ReducedPipeline(pipeline, mitigation.constraint, multipliers.values)
        try:
            attempt, decisions = judged(reduced, {"sensitive_features": groups})
        except InsufficientData:  # so strong that every row got the same label: nothing left to learn
            break
        attempts.append(attempt)
        is_affordable = attempt.accuracy >= before.accuracy - mitigation.max_accuracy_loss - 1e-12
        if is_affordable and attempt.gap < best.gap:
            best, chosen = attempt, reduced
    return chosen, Mitigated(mitigation, before, best, tuple(attempts))


def rate_gap(
    y_true: NDArray[np.int8], y_pred: NDArray[np.bool_], groups: NDArray[np.object_], constraint: Constraint
) -> float:
    """Largest minus smallest rate over the groups except :data:`REST`, in [0, 1].

    Parameters
    ----------
    y_true, y_pred, groups : ndarray of shape (n_rows,)
    constraint
        Which rate: flagged among all, among leavers, among stayers, or the larger gap of the last two. A group without
        the rows that a rate counts is not compared.

    Raises
    ------
    InsufficientData
        Fewer than two groups can be compared.
    """
    populations = {
        "demographic_parity": [np.ones(len(y_true), bool)],
        "true_positive_rate_parity": [y_true == 1],
        "false_positive_rate_parity": [y_true == 0],
        "equalized_odds": [y_true == 0, y_true == 1],
    }[constraint]
    labels = groups.astype(str)
    gaps = []
    for population in populations:
        members = [population & (labels == name) for name in np.unique(labels) if name != REST]
        rates = [float(y_pred[rows].mean()) for rows in members if rows.any()]
        if len(rates) < 2:
            found = f"fewer than two groups have the rows that {constraint.replace('_', ' ')} counts"
            raise InsufficientData(Fault("mitigation", found, "", "take another constraint or bring more rows"))
        gaps.append(max(rates) - min(rates))
    return max(gaps)
