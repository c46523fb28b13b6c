"""One look at the holdout: figures, fairness, data, latency and champion, and what the gates make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attrition.admission.champion import compare_with_champion
from attrition.data.findings import QualityReport
from attrition.data.quality import check_split
from attrition.evaluation.fairness import assess_fairness
from attrition.evaluation.gates import Evidence, judge, measure_latency
from attrition.evaluation.groups import attributes_of
from attrition.evaluation.reports import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attrition.data.dataset import Dataset
    from attrition.data.splits import Split
    from attrition.evaluation.fairness import FairnessReport
    from attrition.evaluation.gates import GatePolicy, Verdict
    from attrition.evaluation.reports import Evaluation
    from attrition.training.candidate import Candidate

LATENCY_ROWS = 200
"""Records of the holdout that the latency gate scores one by one."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the holdout says about a candidate, and what the gates make of it.

    Attributes
    ----------
    evaluation : Evaluation
    fairness : sequence of FairnessReport
    quality : QualityReport
        Findings about the data and about their split.
    verdict : Verdict
    notes : tuple of str
        What a reader of the figures should know besides, as sentences.
    """

    evaluation: Evaluation
    fairness: Sequence[FairnessReport]
    quality: QualityReport
    verdict: Verdict
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Tables for terminals: figures, then gate by gate, then notes."""
        return "\n\n".join(map(str, (self.evaluation, self.verdict, *self.notes)))

    def _repr_html_(self) -> str:
        fairness = "".join(report._repr_html_() for report in self.fairness)
        return self.evaluation._repr_html_() + self.verdict._repr_html_() + fairness


def judge_candidate(
    candidate: Candidate,
    score_one: Callable[[Sequence[float]], float],
    dataset: Dataset,
    split: Split,
    policy: GatePolicy,
    champion: Candidate | None,
    *,
    champion_note: str = "",
) -> Judgement:
    """Evaluate on the holdout and hold the result against every gate.

    Parameters
    ----------
    score_one
        The compiled scorer whose single-record latency is measured.
    champion
        The version in production, compared on the rows that both have not seen; None when there is none.
    champion_note
        Why there is none, as a sentence.
    """
    holdout = dataset.table.take(split.holdout)
    features, y_true = holdout.features, holdout.target
    y_score = candidate.score(features)
    groups = attributes_of(holdout)
    evaluation = evaluate(y_true, y_score, candidate.threshold, groups=groups, seed=candidate.lineage.seed)
    fairness = assess_fairness(
        y_true, (y_score >= candidate.threshold).astype(np.int8), groups, min_group_size=policy.fairness.min_group_size
    )
    data = dataset.quality
    quality = QualityReport.of(
        (*data.findings, *check_split(dataset.table, split)), n_rows=data.n_rows, n_positive=data.n_positive
    )
    gained = None
    if champion is not None:
        gained, champion_note = compare_with_champion(champion, dataset, split, y_score)
    evidence = Evidence(
        evaluation=evaluation,
        fairness=fairness,
        findings=quality.findings,
        latency=measure_latency(score_one, features.to_numpy(np.float64)[:LATENCY_ROWS]),
        champion=gained,
        champion_note=champion_note,
    )
    return Judgement(evaluation, fairness, quality, judge(policy, evidence))
