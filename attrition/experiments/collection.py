"""Samples from the prediction log and the outcomes: read day after day, a bounded number of rows at a time.

Persons are kept as 64-bit hashes of their pseudonyms (two of a million share one with a probability of 3e-8), one entry
per person and epoch; of latency a day's requests are held at a time, and of a shadow's pairs a day's predictions. So
memory grows with the persons and with the busiest day, not with the length of the experiment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attrition.data.maturity import matured_labels
from attrition.data.predictions import PredictionTable
from attrition.errors import NotFound
from attrition.experiments.plan import Design, Metric
from attrition.experiments.samples import (
    LATENCY_EDGES,
    SCORE_EDGES,
    Arm,
    Distribution,
    Epoch,
    Labels,
    Pairs,
    Samples,
)
from attrition.serving.traffic import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from attrition.experiments.epochs import Span
    from attrition.experiments.plan import ExperimentPlan
    from attrition.experiments.samples import Errors

    CountErrors = Callable[[str, datetime, datetime, bool], Errors | None]

BATCH_ROWS = 2**17
"""Rows read at a time."""

UNCOUNTED = "nobody counted errors: the prediction log holds answered requests only; set ATTRITION_PROMETHEUS_URL"

_LATE = timedelta(hours=1)
"""How long after the answer a shadow's row may come when midnight lies between."""
_COLUMNS = ("version", "reason", "employee_id", "time", "probability", "decision", "latency_us")
_CONSOLIDATE = 2**20


class Outcomes(NamedTuple):
    """What is known of who left.

    Attributes
    ----------
    known : DataFrame
        ``employee_id`` and ``left_on``, one row per person.
    complete_until : datetime
        Who is not known to have left by then had not.
    horizon_days : int
        Of both versions.
    """

    known: pd.DataFrame
    complete_until: datetime
    horizon_days: int


class _Rows(NamedTuple):
    """Rows of the log as arrays of shape (n,)."""

    arm: NDArray[np.int64]
    person: NDArray[np.uint64]
    time_us: NDArray[np.int64]
    score: NDArray[np.float64]
    selected: NDArray[np.bool_]
    latency_us: NDArray[np.int64]

    def take(self, which: Any) -> _Rows:
        return _Rows(*(column[which] for column in self))


def collect(
    plan: ExperimentPlan,
    spans: Sequence[Span],
    tables: str,
    *,
    as_of: datetime,
    outcomes: Outcomes | None = None,
    count_errors: CountErrors | None = None,
) -> Samples:
    """What the project's tables hold of an experiment.

    Parameters
    ----------
    plan
        With versions, not aliases.
    spans
        Of :func:`attrition.experiments.epochs.find_spans`.
    tables
        Folder or URI of the Delta tables.
    as_of
        UTC; nothing later is read.
    outcomes
        None: no labels.
    count_errors
        Requests of a version in a period, given version, start, end and whether it was a shadow; None where they are
        not known.

    Raises
    ------
    PlatformError
        The tables cannot be read, or `count_errors` cannot ask.
    """
    notes = [] if outcomes is not None else ["no outcome was recorded, so there are no labels"]
    epochs = []
    for number, span in enumerate(spans):
        tally = _Tally(plan, span)
        tally.read(PredictionTable(tables), min(span.end, as_of))
        epoch = tally.epoch(number, outcomes, count_errors)
        notes += tally.notes
        epochs.append(epoch)
    wanted = any(each.metric is Metric.ERROR_RATE for each in plan.metrics)
    if wanted and epochs and None in {epochs[-1].control.errors, epochs[-1].challenger.errors}:
        notes.append(UNCOUNTED)
    return Samples(as_of, tuple(epochs), tuple(dict.fromkeys(notes)))


@dataclass
class _Tally:
    """The rows of one epoch, added up."""

    plan: ExperimentPlan
    span: Span
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        split = self.plan.design is Design.SPLIT
        self._versions = list(self.span.shares) if split else [self.plan.control, self.plan.challenger]
        self._persons: list[_Rows] = []
        self._n_waiting = 0
        self._latency = [Distribution.empty(LATENCY_EDGES) for _ in self._versions]
        self._counts = np.zeros((len(self._versions), 3), np.int64)  # records, pinned, without a person
        self._pairs: list[_Rows] = []
        self._n_shared = 0

    def read(self, table: PredictionTable, end: datetime) -> None:
        """Add the rows from the epoch's start until `end`."""
        shadow = self.plan.design is Design.SHADOW
        columns = [*_COLUMNS, *(("prediction_id", "shadow_of") if shadow else ())]
        try:
            look = table.look(self.span.start, end)
        except NotFound:
            return
        answered_late: _Keyed | None = None
        for day in look.days:
            requests: list[_Rows] = []
            keyed: list[_Keyed] = []
            copies: list[_Keyed] = []
            for batch in table.batches(day, self.span.start, end, columns, look.version, BATCH_ROWS):
                for rows, reasons, ids in self._parts(batch, shadow=shadow):
                    self._add(rows, reasons, requests)
                    if shadow:
                        is_copy = reasons == Reason.SHADOW
                        copies.append(_Keyed(ids.shadow_of[is_copy], rows.take(is_copy)))
                        keyed.append(_Keyed(ids.prediction[~is_copy], rows.take(~is_copy)))
            if requests:
                self._add_latency(_joined(requests))
            if shadow:
                answered = _Keyed.joined([*keyed, *([answered_late] if answered_late else [])])
                self._pair(answered, _Keyed.joined(copies))
                answered_late = answered.since(_late_us(day))

    def _parts(self, batch: pa.RecordBatch, *, shadow: bool) -> Iterator[tuple[_Rows, NDArray[Any], _Ids]]:
        """The batch's rows of the versions that take part, with reasons and ids; persons that are missing are 0."""
        place = {name: batch.column(i) for i, name in enumerate(batch.schema.names)}
        versions = place["version"].dictionary_encode()
        codes = {str(name): code for code, name in enumerate(versions.dictionary.to_pylist())}
        arm_of = np.full(max(len(codes), 1), -1)
        for arm, version in enumerate(self._versions):
            if version in codes:
                arm_of[codes[version]] = arm
        arm = arm_of[versions.indices.to_numpy(zero_copy_only=False)]
        part = np.flatnonzero(arm >= 0)
        if not len(part):
            return
        rows = _Rows(
            arm[part],
            _hashed(place["employee_id"])[part],
            place["time"].cast("int64").to_numpy()[part],
            place["probability"].to_numpy()[part],
            place["decision"].to_numpy(zero_copy_only=False)[part],
            place["latency_us"].to_numpy()[part],
        )
        ids = _Ids(_hashed(place["prediction_id"])[part], _hashed(place["shadow_of"])[part]) if shadow else _NO_IDS
        yield rows, place["reason"].to_numpy(zero_copy_only=False)[part], ids

    def _add(self, rows: _Rows, reasons: NDArray[Any], requests: list[_Rows]) -> None:
        answering = {Reason.STICKY} if self.plan.design is Design.SPLIT else {Reason.STICKY, Reason.SOLE, Reason.SHADOW}
        has_person = rows.person != 0
        apart = np.isin(reasons, [Reason.PINNED, Reason.REQUESTED])
        counts = np.isin(reasons, list(answering)) & has_person
        is_copy = reasons == Reason.SHADOW
        without = ~has_person & ~apart & ~is_copy
        for column, which in enumerate((counts, apart, without)):
            self._counts[:, column] += np.bincount(rows.arm[which], minlength=len(self._versions))
        requests.append(rows.take(counts & ~is_copy))
        self._persons.append(rows.take(counts))
        self._n_waiting += int(counts.sum())
        if self._n_waiting > _CONSOLIDATE:
            self._persons = [_first_of_each(_joined(self._persons), in_each_arm=True)]
            self._n_waiting = 0

    def _add_latency(self, rows: _Rows) -> None:
        """One request of each person on this day, of those that one version answered alone."""
        # of a request's persons one stands for it, the same however the rows come
        order = np.lexsort((rows.person, rows.arm, rows.latency_us, rows.time_us))
        rows = rows.take(order)
        starts = _starts(rows.time_us, rows.latency_us)
        bounds = np.append(starts, len(rows.arm))
        # sorted by arm within a request: one version answered alone when its first and last row agree
        alone = rows.arm[starts] == rows.arm[bounds[1:] - 1]
        self._n_shared += int((~alone).sum())
        requests = _first_of_each(rows.take(starts[alone]))
        for arm in range(len(self._versions)):
            values = requests.latency_us[requests.arm == arm] / 1_000
            self._latency[arm] = self._latency[arm].with_values(values)

    def _pair(self, answered: _Keyed, copies: _Keyed) -> None:
        control = self._versions.index(self.plan.control)
        answered = answered.where((answered.rows.arm == control) & (answered.rows.person != 0))
        _, one, other = np.intersect1d(answered.key, copies.key, return_indices=True)
        first, second = answered.rows.take(one), copies.rows.take(other)
        # the challenger's part of a pair stands in the columns that a pair does not need
        paired = first._replace(latency_us=second.score.view(np.int64), arm=second.selected.astype(np.int64))
        self._pairs = [_first_of_each(_joined([*self._pairs, paired]))]

    def epoch(self, number: int, outcomes: Outcomes | None, count_errors: CountErrors | None) -> Epoch:
        """What was added up."""
        shadow = self.plan.design is Design.SHADOW
        persons = _first_of_each(_joined(self._persons), in_each_arm=True)
        if not shadow:
            persons, n_crossed = _without_crossed(persons)
            if n_crossed:
                self.notes.append(f"{n_crossed:,} persons met two versions within one epoch and are left out")
        if self._n_shared:
            self.notes.append(f"latency of {self._n_shared:,} requests is left out: both versions had a part in them")
        left = _labels(persons, outcomes)
        arms = {
            version: self._arm(arm, persons, left, count_errors, shadow=shadow)
            for arm, version in enumerate(self._versions)
        }
        pairs = self._paired(outcomes) if shadow else None
        return Epoch(
            number=number,
            start=self.span.start,
            end=self.span.end,
            shares=dict(self.span.shares),
            assigned={version: arms[version].employees for version in self.span.shares if version in arms},
            control=arms[self.plan.control],
            challenger=arms[self.plan.challenger],
            pairs=pairs,
        )

    def _arm(
        self,
        arm: int,
        persons: _Rows,
        left: NDArray[np.int8],
        count_errors: CountErrors | None,
        *,
        shadow: bool,
    ) -> Arm:
        version = self._versions[arm]
        own = persons.arm == arm
        scores, selected, known = persons.score[own], persons.selected[own], left[own]
        as_shadow = shadow and version == self.plan.challenger
        compared = version in {self.plan.control, self.plan.challenger}
        records, pinned, idless = (int(count) for count in self._counts[arm])
        return Arm(
            version=version,
            employees=int(own.sum()),
            records=records,
            selected=int(selected.sum()),
            pinned=pinned,
            idless=idless,
            latency=None if as_shadow else self._latency[arm],
            scores=Distribution.of(scores, SCORE_EDGES),
            labels=Labels(
                tp=int((selected & (known == 1)).sum()),
                fp=int((selected & (known == 0)).sum()),
                tn=int((~selected & (known == 0)).sum()),
                fn=int((~selected & (known == 1)).sum()),
            ),
            errors=count_errors(version, self.span.start, self.span.end, as_shadow)
            if count_errors is not None and compared
            else None,
        )

    def _paired(self, outcomes: Outcomes | None) -> Pairs:
        rows = self._pairs[0] if self._pairs else _joined([])
        return Pairs(
            control=rows.score,
            challenger=rows.latency_us.view(np.float64),
            control_selected=rows.selected,
            challenger_selected=rows.arm.astype(bool),
            left=_labels(rows, outcomes),
        )


class _Ids(NamedTuple):
    """Hashes of a shadow's identifiers."""

    prediction: NDArray[np.uint64]
    shadow_of: NDArray[np.uint64]


_NO_IDS = _Ids(np.empty(0, np.uint64), np.empty(0, np.uint64))


class _Keyed(NamedTuple):
    """Rows with the hash of the prediction that they belong to."""

    key: NDArray[np.uint64]
    rows: _Rows

    @classmethod
    def joined(cls, parts: Sequence[_Keyed]) -> _Keyed:
        keys = [part.key for part in parts]
        return cls(np.concatenate(keys) if keys else np.empty(0, np.uint64), _joined([part.rows for part in parts]))

    def where(self, which: NDArray[np.bool_]) -> _Keyed:
        return _Keyed(self.key[which], self.rows.take(which))

    def since(self, time_us: int) -> _Keyed:
        return self.where(self.rows.time_us >= time_us)


def _joined(parts: Sequence[_Rows]) -> _Rows:
    if not parts:
        types = (np.int64, np.uint64, np.int64, np.float64, np.bool_, np.int64)
        return _Rows(*(np.empty(0, dtype) for dtype in types))  # type: ignore[arg-type]
    return parts[0] if len(parts) == 1 else _Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _starts(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """Where a new combination begins in sorted columns."""
    if not len(columns[0]):
        return np.empty(0, np.int64)
    differs = np.zeros(len(columns[0]), bool)
    differs[0] = True
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(differs)


def _first_of_each(rows: _Rows, *, in_each_arm: bool = False) -> _Rows:
    """The earliest row of each person, or of each in each arm; the order of the rows does not matter."""
    if in_each_arm:
        ordered = rows.take(np.lexsort((rows.score, rows.time_us, rows.arm, rows.person)))
        return ordered.take(_starts(ordered.person, ordered.arm))
    ordered = rows.take(np.lexsort((rows.score, rows.time_us, rows.person)))
    return ordered.take(_starts(ordered.person))


def _without_crossed(rows: _Rows) -> tuple[_Rows, int]:
    """Rows of the persons that stand in one arm only, and how many persons stand in several."""
    persons, n_arms = np.unique(rows.person, return_counts=True)
    crossed = persons[n_arms > 1]
    return rows.take(~np.isin(rows.person, crossed)), len(crossed)


def _hashed(column: pa.Array) -> NDArray[np.uint64]:
    """Hash of each text, never 0; 0 for a missing one."""
    from pandas.util import hash_array

    texts = column.to_numpy(zero_copy_only=False)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    hashes: NDArray[np.uint64] = hash_array(np.where(missing, "", texts), categorize=False)
    return np.where(missing, np.uint64(0), np.maximum(hashes, np.uint64(1)))


def _labels(rows: _Rows, outcomes: Outcomes | None) -> NDArray[np.int8]:
    """1 left, 0 stayed, -1 not known: only of predictions whose horizon is over, as stayers mature last."""
    import pandas as pd

    unknown = np.full(len(rows.person), -1, np.int8)
    if outcomes is None or not len(rows.person):
        return unknown
    known = outcomes.known
    persons = pd.DataFrame({"employee_id": rows.person, "time": pd.to_datetime(rows.time_us, unit="us", utc=True)})
    left = pd.DataFrame(
        {"employee_id": _hashed_texts(known["employee_id"]), "left_on": known["left_on"].to_numpy("datetime64[us]")}
    )
    labels = matured_labels(persons, left, horizon_days=outcomes.horizon_days, as_of=outcomes.complete_until)
    today = np.datetime64(outcomes.complete_until.date(), "us")
    is_mature = (labels["horizon_end"].to_numpy("datetime64[us]") < today) & labels["label"].notna().to_numpy()
    return np.where(is_mature, labels["label"].fillna(0).to_numpy(np.int8), unknown)


def _hashed_texts(texts: pd.Series) -> NDArray[np.uint64]:
    import pyarrow as pa

    return _hashed(pa.array(texts.to_list(), pa.string()))


def _late_us(day: Any) -> int:
    from datetime import UTC, datetime, time

    midnight = datetime.combine(day, time(), UTC) + timedelta(days=1)
    return int((midnight - _LATE).timestamp()) * 1_000_000
