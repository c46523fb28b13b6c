"""Drift of the last predictions: what a report says of a week, said of the last few thousand rows while they arrive.

Read is what the prediction log has committed, so scoring does nothing for it. A file of the table is read once; of its
rows are held at most as many as the view has, and no identifiers. The figures are those of a report over the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.data.predictions import FEATURE, PredictionTable
from attrition.data.retention import first_to_go
from attrition.evaluation.references import PROBABILITY
from attrition.monitoring.drift import DriftPolicy, FeatureDrift, Level, compare, overall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa
    from numpy.typing import NDArray

    from attrition.evaluation.references import DriftReference

LIVE_ROWS = 5_000
"""Predictions in view by default: enough that a stability index of 0.1 is no chance, few enough to follow a morning."""


@dataclass(frozen=True, slots=True, eq=False)
class Recent:
    """The last predictions of one version, in the order of time.

    Attributes
    ----------
    version : str
    times : ndarray of shape (n_rows,), datetime64[us], UTC
    columns : mapping of str to ndarray of shape (n_rows,), float64
        Features and the score under `PROBABILITY`; NaN is missing.
    """

    version: str
    times: NDArray[np.datetime64]
    columns: Mapping[str, NDArray[np.float64]]

    @property
    def n_rows(self) -> int:
        """Predictions."""
        return len(self.times)


@dataclass(frozen=True, slots=True)
class LiveDrift:
    """The last predictions of a version against what it was trained on.

    Attributes
    ----------
    version : str
    n_rows : int
    start, end : datetime
        Times of the first and the last of them.
    level : Level
        The gravest of any feature, the score included.
    features : tuple of FeatureDrift
    n_ahead : int
        Predictions that a wrong clock has dated later than the present; they are not in view.
    """

    version: str
    n_rows: int
    start: datetime
    end: datetime
    level: Level
    features: tuple[FeatureDrift, ...]
    n_ahead: int = 0

    @property
    def drifted(self) -> tuple[str, ...]:
        """Features that drifted, the one with the largest stability index first."""
        found = [each for each in self.features if each.level.drifted]
        return tuple(each.feature for each in sorted(found, key=lambda each: -(each.psi or 0.0)))

    def __str__(self) -> str:
        """One sentence."""
        what = {
            Level.INSUFFICIENT: "are too few to be compared",
            Level.STABLE: "are stable",
        }.get(self.level, f"drifted ({self.level.value}) in {', '.join(self.drifted)}")
        return f"The last {self.n_rows:,} predictions of {self.version} {what}."

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "version": self.version,
            "n_rows": self.n_rows,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "level": self.level.value,
            "drifted": list(self.drifted),
            "features": [each.to_dict() for each in self.features],
            "n_ahead": self.n_ahead,
        }


class LastPredictions:
    """Follows the last rows of the prediction log; for one thread.

    Parameters
    ----------
    table
        The log.
    n_rows
        Rows in view. A shadow's, and those whose features retention removed, are among them and then left out.
    """

    def __init__(self, table: PredictionTable, n_rows: int = LIVE_ROWS) -> None:
        self._table = table
        self._n_rows = n_rows
        self._held: dict[str, pa.Table] = {}

    def read(self, now: datetime) -> Recent | None:
        """The rows of the version that answered most of the last ones; None when nothing was logged.

        Parameters
        ----------
        now
            With a time zone; what a wrong clock has dated later is out of view until then.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        import pyarrow as pa
        from pyarrow import compute

        columns = ["time", "version", "reason", PROBABILITY, *(FEATURE + name for name in self._features())]
        parts = self._table.recent_parts(self._n_rows, columns, now)
        # what is not recent any more, or was merged or erased, is forgotten
        held = self._held
        self._held = {path: held[path] if path in held else self._last(read()) for path, read in parts.items()}
        if not self._held:
            return None
        rows = self._last(pa.concat_tables(self._held.values(), promote_options="default"))
        rows = rows.filter(compute.not_equal(rows["reason"], "shadow"))
        if not rows.num_rows:
            return None
        counts = compute.value_counts(rows["version"]).to_pylist()
        version = max(counts, key=lambda each: (each["counts"], each["values"]))["values"]
        found = _of_version(rows.filter(compute.equal(rows["version"], version)), version)
        return found if found.n_rows else None

    def _features(self) -> Sequence[str]:
        from attrition.errors import NotFound

        try:
            return self._table.features()
        except NotFound:
            return ()

    def _last(self, rows: pa.Table) -> pa.Table:
        return rows.sort_by("time").slice(max(0, rows.num_rows - self._n_rows))


def _of_version(rows: pa.Table, version: str) -> Recent:
    names = [name.removeprefix(FEATURE) for name in rows.schema.names if name.startswith(FEATURE)]
    values = {name: _doubles(rows[FEATURE + name]) for name in names}
    # of a feature that the version does not read there is no value at all
    read = {name: column for name, column in values.items() if not np.isnan(column).all()}
    known = np.zeros(rows.num_rows, bool)
    for name in first_to_go(names):
        known |= ~np.isnan(values[name])
    columns = {name: column[known] for name, column in read.items()}
    columns[PROBABILITY] = _doubles(rows[PROBABILITY])[known]
    return Recent(version, rows["time"].to_numpy().astype("datetime64[us]")[known], columns)


def _doubles(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(column.to_numpy(), np.float64)


def live_drift(
    reference: DriftReference, recent: Recent, policy: DriftPolicy | None = None, *, n_ahead: int = 0
) -> LiveDrift:
    """The verdict on the last predictions of a version.

    Parameters
    ----------
    reference
        Of the same version. A feature of it that no row has is left out.
    recent
        At least one row.
    n_ahead
        See :class:`LiveDrift`.
    """
    from attrition.data.moments import in_utc

    known = {name: each for name, each in reference.features.items() if name in recent.columns}
    sketches = {name: each.sketch(recent.columns[name]) for name, each in known.items()}
    features = compare(known, sketches, policy)
    start, end = (in_utc(moment.astype(object)) for moment in (recent.times[0], recent.times[-1]))
    return LiveDrift(recent.version, recent.n_rows, start, end, overall(features), features, n_ahead)
