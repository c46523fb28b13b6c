"""Retention: what is kept for how long, and the removal of what is older.

=====================  ===============================================================================================
snapshots              a version goes whole, counted from its import; its number stays taken and says why it is gone
predictions            by day of the answer; files of expired days are dropped without being read
scoring inputs         the features of a prediction become null much earlier; what was answered, when and by which
                       version stays, so that experiments and matured labels do not suffer
group labels           of these features, those that say which group somebody belongs to stay until the label is
                       mature, an age only as the lower end of its band: without them nobody could see that a version
                       treats departments or ages unequally, which the law asks whoever runs it to watch
outcomes               counted from their recording
samples in MLflow      those of runs that are older than snapshots may be
tombstones             finished erasures; see :mod:`attrition.data.tombstones`
old files              of older table versions, after the hours that readers under way are given
=====================  ===============================================================================================

Out of scope: files that a batch or an export wrote (they lie where their owner put them), the audit log (it has a
retention of its own, and holds nothing about persons but tokens) and backups.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field

from attrition.data.outcomes import OUTCOMES
from attrition.data.predictions import FEATURE, PREDICTIONS
from attrition.data.removal import open_table, remove_rows, rewritten, rows_by_day, vacuum
from attrition.data.tombstones import ERASURES, Tombstones
from attrition.settings import load_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from deltalake import DeltaTable

    from attrition.data.person_tables import SnapshotStore
    from attrition.data.tables import StoredVersion, Tables

AGE, CODE = "age", "_code"
"""Name of the feature age, and what the names of categories end with."""
AGE_LIMITS = (30, 40, 50, 60)
"""Years at which the bands begin that :mod:`attrition.evaluation.groups` compares."""

THREE_YEARS = 1096
"""Days; one of the three may be a leap year."""

Days = Annotated[int, Field(ge=1, le=36_500)]


class RetentionPolicy(BaseModel):
    """For how long what is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot_days: Days = THREE_YEARS
    """Of a snapshot version, from its import; three years, as a model may be asked to account for itself that long."""
    prediction_days: Days = THREE_YEARS
    """Of a prediction with its decision, from the answer."""
    scoring_input_days: Days = 30
    """Of the features of a prediction, from the answer: long enough for drift reports and for following up an error."""
    group_days: Annotated[int, Field(ge=0, le=36_500)] = 455
    """Of the group labels of a prediction, see :func:`is_group_label`: a horizon of a year, and a quarter until the
    outcomes are in. With a smaller number than `scoring_input_days`, such as 0, they go with the other features, and
    fairness by group is unknown for predictions whose labels mature later."""
    outcome_days: Days = THREE_YEARS
    """Of a statement about who left, from its recording; those of predictions that are kept should be kept, too."""
    suppression_days: Days = THREE_YEARS
    """Of the note that a person was erased, which keeps old extracts from bringing the person back."""
    old_file_hours: Annotated[int, Field(ge=0, le=720)] = 0
    """For which a removed row stays in files of older table versions. 0 deletes at once, and a reader that is under
    way at that moment fails and has to begin again; more than 0 makes an erasure wait for as long."""
    stray_file_hours: Annotated[int, Field(ge=1, le=720)] = 24
    """For which files of interrupted writes are left alone; more than the longest write takes."""

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """The policy of a YAML file; the default one for None.

        Raises
        ------
        ConfigError
            The file cannot be read, or has an unknown key or a value out of range.
        """
        return cls() if path is None else load_yaml(path, cls)


def is_group_label(feature: str) -> bool:
    """Whether a feature says to which group of a fairness report a person belongs: codes of categories, and the age.

    Examples
    --------
    >>> is_group_label("department_code"), is_group_label("age"), is_group_label("salary")
    (True, True, False)
    """
    return feature == AGE or feature.endswith(CODE)


def first_to_go(features: Sequence[str]) -> list[str]:
    """Features that retention drops first: a row that has none of them any more cannot stand for its person.

    Examples
    --------
    >>> first_to_go(["age", "department_code", "salary"]), first_to_go(["age"])
    (['salary'], ['age'])
    """
    return [name for name in features if not is_group_label(name)] or list(features)


@dataclass(frozen=True, slots=True)
class Retained:
    """What was past its retention, and is gone unless this was a dry run.

    Attributes
    ----------
    dry_run : bool
    n_snapshots, n_snapshot_rows : int
        Snapshot versions, and rows in them.
    n_predictions : int
    n_scoring_inputs : int
        Predictions whose features were dropped; those that went whole are not counted here.
    n_group_labels : int
        Predictions whose group labels were dropped.
    n_outcomes : int
    n_samples : int
        Samples of training data in MLflow that were emptied.
    n_tombstones : int
        Persons whose erasure is not remembered any more.
    n_files : int
        Old files deleted; in a dry run those that could be deleted as of now.
    n_unfinished : int
        Erasures that were interrupted. Only who asked for one knows whose it is, and has to repeat it.
    """

    dry_run: bool
    n_snapshots: int
    n_snapshot_rows: int
    n_predictions: int
    n_scoring_inputs: int
    n_group_labels: int
    n_outcomes: int
    n_samples: int
    n_tombstones: int
    n_files: int
    n_unfinished: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self)


class Samples(Protocol):
    """Samples of training data that lie outside the tables."""

    def expire(self, before: datetime, *, dry_run: bool) -> int:
        """Empty the samples that were made earlier; how many there were."""
        ...


class Retention:
    """Applies a policy to the tables of a project.

    Parameters
    ----------
    tables
        The project's snapshots.
    root
        Folder or URI that holds one folder per table.
    snapshots
        The snapshots as a place with persons: knows which files its versions need.
    samples
        Where training data lie besides.
    """

    def __init__(
        self,
        tables: Tables,
        root: str,
        policy: RetentionPolicy,
        snapshots: SnapshotStore,
        samples: Samples,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        self._tables = tables
        self._root = root.rstrip("/")
        self._policy = policy
        self._snapshots = snapshots
        self._samples = samples
        self._options = storage_options

    def apply(self, *, now: datetime, dry_run: bool = False) -> Retained:
        """Remove what is past its retention. Harmless when repeated, finishes what an interrupted run began.

        Parameters
        ----------
        now
            With a time zone; ages are counted up to it.
        dry_run
            Count, and change nothing.

        Raises
        ------
        PlatformError
            A store cannot be read or written.
        """
        policy, today = self._policy, now.astimezone(UTC).date()
        old = self._old_versions(now - timedelta(days=policy.snapshot_days))
        first_day = today - timedelta(days=policy.prediction_days)
        first_inputs = max(today - timedelta(days=policy.scoring_input_days), first_day)
        first_groups = max(today - timedelta(days=max(policy.scoring_input_days, policy.group_days)), first_day)
        counts = {
            "n_snapshots": len(old),
            "n_snapshot_rows": sum(version.ref.n_rows for version in old),
            "n_predictions": self._expire_predictions(first_day, dry_run=dry_run),
            "n_scoring_inputs": self._drop_inputs(first_day, first_inputs, dry_run=dry_run),
            "n_group_labels": self._drop_groups(first_day, first_groups, dry_run=dry_run),
            "n_outcomes": self._expire_outcomes(now - timedelta(days=policy.outcome_days), dry_run=dry_run),
            "n_samples": self._samples.expire(now - timedelta(days=policy.snapshot_days), dry_run=dry_run),
            "n_tombstones": self._expire_tombstones(now - timedelta(days=policy.suppression_days), dry_run=dry_run),
        }
        if not dry_run:
            reason = f"was removed on {today} after the {policy.snapshot_days} days for which snapshots are kept"
            self._tables.strike([version.ref.version for version in old], reason)
        n_unfinished = Tombstones(self._root, self._options).n_unfinished()
        return Retained(dry_run=dry_run, n_files=self._clean(dry_run=dry_run), n_unfinished=n_unfinished, **counts)

    def _old_versions(self, before: datetime) -> list[StoredVersion]:
        return [version for version in self._tables.stored() if version.stored_at < before]

    def _expire_predictions(self, first_day: date, *, dry_run: bool) -> int:
        uri = f"{self._root}/{PREDICTIONS}"
        table = open_table(uri, self._options)
        n_rows = 0 if table is None else sum(n for day, n in rows_by_day(table).items() if day < first_day)
        if n_rows and not dry_run:
            rewritten(uri, self._options, lambda table: table.delete(f"day < DATE '{first_day}'"))
        return n_rows

    def _drop_inputs(self, first_day: date, end: date, *, dry_run: bool) -> int:
        """Make the features of the days from `first_day` to `end`, without that, null; of an age its band stays."""
        coarser = {FEATURE + AGE: _lower_end_of_band(FEATURE + AGE)}
        return self._drop(first_day, end, lambda name: not is_group_label(name), coarser, dry_run=dry_run)

    def _drop_groups(self, first_day: date, end: date, *, dry_run: bool) -> int:
        """Make what is left of the features of these days null."""
        return self._drop(first_day, end, is_group_label, {}, dry_run=dry_run)

    def _drop(
        self, first_day: date, end: date, concerns: Callable[[str], bool], others: Mapping[str, str], *, dry_run: bool
    ) -> int:
        """Make the features that are concerned null, and set others, on days of which a file still holds the former."""
        uri = f"{self._root}/{PREDICTIONS}"
        table = open_table(uri, self._options)
        if table is None:
            return 0
        columns = {field.name for field in table.schema().fields if field.name.startswith(FEATURE)}
        names = {name for name in columns if concerns(name.removeprefix(FEATURE))}
        days = _days_with_inputs(table, names, first_day, end)
        if days and not dry_run:
            text = ", ".join(f"DATE '{day}'" for day in sorted(days))
            values = dict.fromkeys(sorted(names), "CAST(NULL AS DOUBLE)")
            values |= {name: value for name, value in others.items() if name in columns}
            rewritten(uri, self._options, lambda table: table.update(values, predicate=f"day IN ({text})"))
        return sum(days.values())

    def _expire_outcomes(self, before: datetime, *, dry_run: bool) -> int:
        import pyarrow.compute as pc

        uri = f"{self._root}/{OUTCOMES}"
        table = open_table(uri, self._options)
        if table is None:
            return 0
        recorded = table.to_pyarrow_table(columns=["recorded_at"])["recorded_at"]
        n_rows = int(pc.sum(pc.less(recorded, _moment(before))).as_py() or 0)
        if n_rows and not dry_run:
            text = before.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            rewritten(uri, self._options, lambda table: table.delete(f"recorded_at < '{text}'"))
        return n_rows

    def _expire_tombstones(self, before: datetime, *, dry_run: bool) -> int:
        digests = Tombstones(self._root, self._options).before(before)
        if not dry_run:
            remove_rows(f"{self._root}/{ERASURES}", self._options, "digest", digests)
        return len(digests)

    def _clean(self, *, dry_run: bool) -> int:
        hours, stray = self._policy.old_file_hours, self._policy.stray_file_hours
        n_files = self._snapshots.clean(dry_run=dry_run)
        for name in (PREDICTIONS, OUTCOMES, ERASURES):
            uri = f"{self._root}/{name}"
            n_files += vacuum(uri, self._options, hours=hours, stray_hours=stray, dry_run=dry_run)
        return n_files


def _moment(moment: datetime) -> Any:
    import pyarrow as pa

    return pa.scalar(moment.astimezone(UTC), pa.timestamp("us", "UTC"))


def _lower_end_of_band(column: str) -> str:
    """SQL of an age without its years: 34 becomes 30, and any age below the first limit becomes a year less than it."""
    cases = " ".join(f"WHEN {column} >= {limit} THEN {limit}.0" for limit in reversed(AGE_LIMITS))
    return f"CASE WHEN {column} IS NULL THEN NULL {cases} ELSE {AGE_LIMITS[0] - 1}.0 END"


def _days_with_inputs(table: DeltaTable, names: Collection[str], first_day: date, end: date) -> dict[date, int]:
    """Day → predictions, for the days of which a file still holds these columns; only the ends of files are read."""
    import pyarrow as pa
    from pyarrow import dataset

    day = dataset.field("day")
    kind = pa.date32()
    period = (day >= pa.scalar(first_day, kind)) & (day < pa.scalar(end, kind))
    days: dict[date, int] = {}
    for fragment in table.to_pyarrow_dataset().get_fragments(filter=period):
        n_rows = _rows_with_inputs(fragment.metadata, names)
        if n_rows:
            key = dataset.get_partition_keys(fragment.partition_expression)["day"]
            days[key] = days.get(key, 0) + n_rows
    return days


def _rows_with_inputs(metadata: Any, names: Collection[str]) -> int:
    """Rows of the row groups that hold any of these columns, by the null counts at the end of a Parquet file."""
    n_rows = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        columns = [group.column(position) for position in range(group.num_columns)]
        features = [column for column in columns if column.path_in_schema in names]
        if any(_holds_values(column, group.num_rows) for column in features):
            n_rows += group.num_rows
    return n_rows


def _holds_values(column: Any, n_rows: int) -> bool:
    statistics = column.statistics
    return statistics is None or not statistics.has_null_count or statistics.null_count < n_rows
