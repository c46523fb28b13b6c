"""Gates: whether a candidate reaches what the policy asks, or does not, or the holdout cannot tell.

A gate compares the interval with its threshold, not the point: PASS when the whole interval is on the good side, FAIL
when the whole interval is on the bad side, INCONCLUSIVE when the threshold lies inside. An AUC of 0.86 on 200 rows is
not evidence of 0.85. What INCONCLUSIVE does is the policy's choice per gate: ``hold`` the candidate, or ``warn``.
A gate that was not asked or has nothing to look at is NOT_APPLICABLE, which is neither.

Bettering every figure of the evidence never makes a verdict worse: each outcome is monotone in value and limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from attrition.evaluation.display import html_table, text_table
from attrition.evaluation.intervals import Estimate, finite_or_none
from attrition.evaluation.latency import measure_latency
from attrition.evaluation.policy import GatePolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from attrition.data.findings import Finding
    from attrition.evaluation.fairness import FairnessReport, GroupRates
    from attrition.evaluation.policy import FairnessGates
    from attrition.evaluation.reports import Evaluation

__all__ = ["Evidence", "GatePolicy", "GateResult", "Outcome", "Verdict", "judge", "measure_latency"]


_FAR = 3
"""Beyond nine times the observations, the figure is as good as on the threshold: saying how many helps nobody."""


class Outcome(StrEnum):
    """What a gate says."""

    PASS = "PASS"  # noqa: S105  a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_APPLICABLE = "NOT_APPLICABLE"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about a candidate.

    Attributes
    ----------
    evaluation : Evaluation
        On rows that it has not seen.
    fairness : sequence of FairnessReport
        One per attribute.
    findings : sequence of Finding, or None
        About the data that it was trained and evaluated on; None when nobody checked.
    latency : Estimate or None
        99th percentile in milliseconds of scoring one record.
    champion : Estimate or None
        AUC of the candidate minus AUC of the champion on the same persons; None without a champion.
    champion_note : str
        Why there is no `champion`, as a sentence; empty when there simply is none to compare with.
    """

    evaluation: Evaluation
    fairness: Sequence[FairnessReport] = ()
    findings: Sequence[Finding] | None = None
    latency: Estimate | None = None
    champion: Estimate | None = None
    champion_note: str = ""


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate says, and on which figures.

    Attributes
    ----------
    gate : str
        ``auc``, ``accuracy``, ``calibration_error``, ``fairness_ratio.ATTRIBUTE``, ``fairness_difference.ATTRIBUTE``,
        ``data_quality``, ``latency``, ``champion``.
    outcome : Outcome
    value, low, high : float or None
        The figure with its interval; None when there is none.
    threshold : float or None
        What the policy asks.
    n : int or None
        Observations behind the figure.
    message : str
        For people.
    holds : bool
        Whether this result keeps the candidate from being admitted.
    """

    gate: str
    outcome: Outcome
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    n: int | None
    message: str
    holds: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        figures = {name: finite_or_none(getattr(self, name)) for name in ("value", "low", "high", "threshold")}
        return {
            "gate": self.gate,
            "outcome": self.outcome.value,
            **figures,
            "n": self.n,
            "message": self.message,
            "holds": self.holds,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> GateResult:
        """Inverse of :meth:`to_dict`."""
        return cls(**{**document, "outcome": Outcome(document["outcome"])})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all gates say together."""

    results: tuple[GateResult, ...]

    @property
    def admits(self) -> bool:
        """Whether the candidate may be registered: at least one gate passed, and none holds."""
        return self.outcome is Outcome.PASS

    @property
    def outcome(self) -> Outcome:
        """FAIL when a gate failed, INCONCLUSIVE when one holds for lack of evidence, else PASS.

        A gate that is inconclusive but only warns does not stop a PASS that another gate earned. When none passed,
        nothing was shown: INCONCLUSIVE, or NOT_APPLICABLE when no gate applied.
        """
        outcomes = {result.outcome for result in self.results}
        if Outcome.FAIL in outcomes:
            return Outcome.FAIL
        if any(result.holds for result in self.results):
            return Outcome.INCONCLUSIVE
        return next((o for o in (Outcome.PASS, Outcome.INCONCLUSIVE) if o in outcomes), Outcome.NOT_APPLICABLE)

    @property
    def warnings(self) -> tuple[GateResult, ...]:
        """Inconclusive results that do not hold the candidate."""
        return tuple(r for r in self.results if r.outcome is Outcome.INCONCLUSIVE and not r.holds)

    def __getitem__(self, gate: str) -> GateResult:
        """The result of the gate; KeyError when there is none."""
        for result in self.results:
            if result.gate == gate:
                return result
        raise KeyError(gate)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document; `outcome` and `admits` are there for readers and are computed again when read back."""
        return {
            "outcome": self.outcome.value,
            "admits": self.admits,
            "results": [result.to_dict() for result in self.results],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Verdict:
        """Inverse of :meth:`to_dict`."""
        return cls(tuple(GateResult.from_dict(result) for result in document["results"]))

    @property
    def table(self) -> list[tuple[str, str, str]]:
        """Gate, outcome and message of each result, as text."""
        warned = {result.gate for result in self.warnings}
        return [
            (
                result.gate.replace("_", " ").replace(".", ": "),
                result.outcome.replace("_", " ") + (" (warns)" if result.gate in warned else ""),
                result.message,
            )
            for result in self.results
        ]

    @property
    def _title(self) -> str:
        return f"Gates: {self.outcome.replace('_', ' ')}, the candidate is {'admitted' if self.admits else 'held'}"

    def __str__(self) -> str:
        return text_table(self._title, ("gate", "outcome", "why"), self.table)

    def _repr_html_(self) -> str:
        return html_table(self._title, ("gate", "outcome", "why"), self.table)


def judge(policy: GatePolicy, evidence: Evidence) -> Verdict:
    """Every gate of the policy against the evidence, in the order of :class:`GatePolicy`."""
    return Verdict(tuple(_results(policy, evidence)))


def _results(policy: GatePolicy, evidence: Evidence) -> Iterator[GateResult]:
    metrics = evidence.evaluation.metrics
    for gate, title, floor in (("auc", "AUC", policy.auc), ("accuracy", "Accuracy", policy.accuracy)):
        if floor is None:
            yield _not_applicable(gate, "The policy does not ask for it.")
        else:
            yield _at_least(gate, title, metrics[gate], floor.minimum, hold=floor.on_inconclusive == "hold")
    if (ceiling := policy.calibration_error) is None:
        yield _not_applicable("calibration_error", "The policy does not ask for it.")
    else:
        yield _at_most(
            "calibration_error",
            "Calibration error",
            metrics["calibration_error"],
            ceiling.maximum,
            hold=ceiling.on_inconclusive == "hold",
        )
    yield from _fairness_results(policy.fairness, evidence.fairness)
    yield (
        _data_quality(evidence.findings)
        if policy.data_quality
        else _not_applicable("data_quality", "The policy does not ask for it.")
    )
    yield _latency(policy, evidence)
    yield _champion(policy, evidence)


def _fairness_results(policy: FairnessGates, reports: Sequence[FairnessReport]) -> Iterator[GateResult]:
    if not policy.check:
        yield _not_applicable("fairness", "Fairness is not judged: the policy or the caller switched it off.")
        return
    judged = [report for report in reports if report.attribute not in policy.report_only]
    if policy.required and all(report.ratio is None for report in judged):
        reason = "Fairness was to be judged, and no two groups are large enough to compare."
        yield GateResult("fairness", Outcome.INCONCLUSIVE, None, None, None, None, None, reason, holds=True)
    elif not reports:
        yield _not_applicable("fairness", "No department or sensitive attribute is known.")
    for report in reports:
        ratio, difference = f"fairness_ratio.{report.attribute}", f"fairness_difference.{report.attribute}"
        if report.ratio is None or report.difference is None or report.extremes is None:
            reason = f"Fewer than two groups by {report.attribute} have {report.min_group_size} rows."
            yield _not_applicable(ratio, reason)
            yield _not_applicable(difference, reason)
            continue
        results = _gap_results(policy, report, report.ratio, report.difference, *report.extremes)
        yield from results if report in judged else map(_reported, results)


def _gap_results(
    policy: FairnessGates,
    report: FairnessReport,
    ratio: Estimate,
    difference: Estimate,
    lowest: GroupRates,
    highest: GroupRates,
) -> Iterator[GateResult]:
    """How far apart the groups of one attribute are."""
    where = f" ({lowest.label}: {_share(lowest.selection_rate)}, {highest.label}: {_share(highest.selection_rate)})"
    yield _at_least(
        f"fairness_ratio.{report.attribute}",
        f"Ratio of selection rates{where}",
        ratio,
        policy.ratio.minimum,
        hold=policy.ratio.on_inconclusive == "hold",
    )
    for name, title, estimate, ceiling in (
        ("difference", f"Difference of selection rates{where}", difference, policy.difference),
        ("fpr_difference", "Difference of stayers flagged", report.fpr_difference, policy.fpr_difference),
        ("fnr_difference", "Difference of leavers missed", report.fnr_difference, policy.fnr_difference),
    ):
        gate = f"fairness_{name}.{report.attribute}"
        if ceiling is not None and estimate is None:
            yield _not_applicable(gate, f"Fewer than two groups by {report.attribute} have the outcome.")
        elif ceiling is not None and estimate is not None:
            hold = ceiling.on_inconclusive == "hold"
            yield _at_most(gate, title, estimate, ceiling.maximum, hold=hold)


def _reported(result: GateResult) -> GateResult:
    """The result as a figure that nobody is held to."""
    message = f"Shown, not judged: {result.message}"
    return replace(result, outcome=Outcome.NOT_APPLICABLE, message=message, holds=False)


def _data_quality(findings: Sequence[Finding] | None) -> GateResult:
    from attrition.data.findings import Severity

    if findings is None:
        return _not_applicable("data_quality", "The data were not checked.")
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    count = float(len(errors))
    if errors:
        codes = ", ".join(dict.fromkeys(f"{e.code} ({e.column})" if e.column else e.code for e in errors))
        message = f"{len(errors)} errors in the data: {codes}."
        return GateResult("data_quality", Outcome.FAIL, count, None, None, 0.0, len(findings), message, holds=True)
    message = f"No errors among {len(findings)} findings." if findings else "Nothing was found."
    return GateResult("data_quality", Outcome.PASS, count, None, None, 0.0, len(findings), message, holds=False)


def _latency(policy: GatePolicy, evidence: Evidence) -> GateResult:
    if policy.latency is None:
        return _not_applicable("latency", "The policy does not ask for it.")
    if evidence.latency is None:
        return _not_applicable("latency", "The latency was not measured.")
    limit = policy.latency
    hold = limit.on_inconclusive == "hold"
    return _at_most("latency", "p99 of one record in ms", evidence.latency, limit.maximum_ms, hold=hold)


def _champion(policy: GatePolicy, evidence: Evidence) -> GateResult:
    if policy.champion is None:
        return _not_applicable("champion", "The policy does not ask for it.")
    if evidence.champion is None:
        return _not_applicable("champion", evidence.champion_note or "There is no champion to compare with.")
    margin = policy.champion
    hold = margin.on_inconclusive == "hold"
    return _at_least("champion", "AUC gained over the champion", evidence.champion, -margin.margin, hold=hold)


def _at_least(gate: str, title: str, estimate: Estimate, minimum: float, *, hold: bool) -> GateResult:
    passes, fails = estimate.low >= minimum, estimate.high < minimum
    return _compared(gate, title, estimate, minimum, passes, fails, ("below", "at least"), hold)


def _at_most(gate: str, title: str, estimate: Estimate, maximum: float, *, hold: bool) -> GateResult:
    passes, fails = estimate.high <= maximum, estimate.low > maximum
    return _compared(gate, title, estimate, maximum, passes, fails, ("above", "at most"), hold)


def _compared(
    gate: str,
    title: str,
    estimate: Estimate,
    threshold: float,
    passes: bool,
    fails: bool,
    words: tuple[str, str],
    hold: bool,
) -> GateResult:
    bad_side, asked = words
    figure = f"{title}: {estimate}"
    if estimate.defined and passes:
        outcome, message = Outcome.PASS, f"{figure}, the whole interval is {asked} {threshold:g}."
    elif estimate.defined and fails:
        outcome, message = Outcome.FAIL, f"{figure}, the whole interval is {bad_side} {threshold:g}."
    else:
        outcome = Outcome.INCONCLUSIVE
        message = (
            f"{figure} contains {threshold:g}: {estimate.n:,} observations cannot tell.{_needed(estimate, threshold)}"
        )
    return GateResult(
        gate=gate,
        outcome=outcome,
        value=finite_or_none(estimate.value),
        low=finite_or_none(estimate.low),
        high=finite_or_none(estimate.high),
        threshold=threshold,
        n=estimate.n,
        message=message,
        holds=outcome is Outcome.FAIL or (outcome is Outcome.INCONCLUSIVE and hold),
    )


def _needed(estimate: Estimate, threshold: float) -> str:
    """How many observations would tell, if the value stays: a half-width shrinks with the square root of n."""
    distance = abs(estimate.value - threshold)
    half = estimate.high - estimate.value if threshold > estimate.value else estimate.value - estimate.low
    if not estimate.defined or not 0 < distance < half or half > _FAR * distance:
        return ""
    needed = estimate.n * (half / distance) ** 2
    step = 10 ** max(math.floor(math.log10(needed)) - 1, 0)
    return f" About {math.ceil(needed / step) * step:,} would, if the value stays."


def _share(estimate: Estimate) -> str:
    return f"{estimate.value:.1%}"


def _not_applicable(gate: str, message: str) -> GateResult:
    return GateResult(gate, Outcome.NOT_APPLICABLE, None, None, None, None, None, message, holds=False)
