"""Scoring of requests whose records may fall to placed variants: the answers are awaited, all else is as in process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attrition.errors import VariantUnavailable
from attrition.serving.identifiers import new_prediction_id
from attrition.serving.row_batches import Part
from attrition.serving.scoring import Scores, assign, drawn, feature_values, score_lane, score_one

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attrition.serving.batcher import Batcher
    from attrition.serving.snapshot import Lane, Snapshot
    from attrition.serving.traffic import Reason, Variant


class Unanswered(NamedTuple):
    """A request that was not scored, because one of its variants was not reached."""

    lane: Lane
    """The variant."""
    reason: str
    """Why; for the caller."""


class _Pending(NamedTuple):
    lane: Lane
    rows: Sequence[int]
    reasons: list[Reason]
    matrix: Sequence[float] | NDArray[np.float64]
    answer: asyncio.Future[list[float]]


async def score_placed(
    snapshot: Snapshot, records: Sequence[Any], pinned: tuple[Variant, Reason] | None = None
) -> list[Scores] | Unanswered:
    """Score the records of one request, as :func:`attrition.serving.scoring.score` does; all of them or none."""
    alone = len(records) == 1
    scored: list[Scores] = []
    pending: list[_Pending] = []
    groups = _groups(snapshot, records, pinned)
    try:
        # what is elsewhere is under way while the rest is scored here
        for lane, rows, reasons in sorted(groups, key=lambda group: group[0].batcher is None):
            if lane.batcher is not None:
                matrix: Any = feature_values(lane, records[0]) if alone else _matrix(lane, records, rows)
                try:
                    answer = lane.batcher.submit(Part.of(matrix))
                except VariantUnavailable as error:
                    return Unanswered(lane, str(error))
                pending.append(_Pending(lane, rows, reasons, matrix, answer))
            elif alone:
                scored.append(score_one(lane, reasons[0], records[0]))
            else:
                scored.append(score_lane(lane, records, rows, reasons))
        for one in pending:
            try:
                probabilities = await one.answer
            except VariantUnavailable as error:
                return Unanswered(one.lane, str(error))
            scored.append(_scores(one.lane, records, one.rows, one.reasons, probabilities, one.matrix))
    finally:
        for one in pending:
            _let_go(one.answer)
    return scored


async def score_lane_placed(
    lane: Lane,
    batcher: Batcher,
    records: Sequence[Any],
    rows: Sequence[int],
    reasons: list[Reason],
    shadow_of: Sequence[str] = (),
) -> Scores:
    """Score some records by one placed variant, as one matrix; see :func:`attrition.serving.scoring.score_lane`.

    Raises
    ------
    VariantUnavailable
        The deployment does not answer, or too much waits for it.
    """
    matrix = _matrix(lane, records, rows)
    probabilities = await batcher.submit(Part.of(matrix))
    return _scores(lane, records, rows, reasons, probabilities, matrix, shadow_of)


def _groups(
    snapshot: Snapshot, records: Sequence[Any], pinned: tuple[Variant, Reason] | None
) -> list[tuple[Lane, Sequence[int], list[Reason]]]:
    """The records by the variant that answers them."""
    if pinned:
        lane, reason = snapshot.lanes[pinned[0].name], pinned[1]
    elif snapshot.sole:
        lane, reason = snapshot.sole, snapshot.sole_reason
    elif len(records) == 1:
        lane, reason = assign(snapshot, records[0])
    else:
        return list(drawn(snapshot, records))
    return [(lane, range(len(records)), [reason] * len(records))]


def _matrix(lane: Lane, records: Sequence[Any], rows: Sequence[int]) -> NDArray[np.float64]:
    return np.array([lane.select(records[row]) for row in rows], dtype=np.float64)


def _scores(
    lane: Lane,
    records: Sequence[Any],
    rows: Sequence[int],
    reasons: list[Reason],
    probabilities: list[float],
    matrix: Any,
    shadow_of: Sequence[str] = (),
) -> Scores:
    employee_ids = [records[row].employee_id for row in rows]
    prediction_ids = [new_prediction_id() for _ in rows]
    return Scores(lane, rows, employee_ids, prediction_ids, reasons, probabilities, matrix, shadow_of)


def _let_go(answer: asyncio.Future[list[float]]) -> None:
    """Nobody waits for it any more; what it holds was seen, so that asyncio does not complain of a lost exception."""
    if not answer.cancel() and not answer.cancelled():
        answer.exception()
