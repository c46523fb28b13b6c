"""The samples of training data in MLflow, as a place that holds something about a person.

Each training logs the first pseudonymised rows that it was given, to show what the data look like. MLflow replaces an
artifact of the same name, so a person is removed by logging the sample again without that row. Nothing else in MLflow
has rows: metrics, plots and permutation importances are aggregates, the package holds fitted parameters.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from attrition.data.holdings import Holding, json_rows
from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE
from attrition.errors import NotFound
from attrition.governance.identity import REPEAT_MARK
from attrition.training.connection import TrackingClient, connect
from attrition.training.tracking import SAMPLE_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attrition.settings import Settings

_PAGE = 1000


class SampleStore:
    """Samples of all runs of the project's experiment, deleted runs included: their files still exist.

    Parameters
    ----------
    settings
        Say where MLflow is. It is contacted by the first call, and not at all before anything was logged.
    """

    name = "mlflow"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def holdings(self, pseudonym: str) -> list[Holding]:
        """One for each run whose sample has the person."""
        found = []
        for run_id, sample in self._samples():
            rows = sample[_is_person(sample, pseudonym)]
            if len(rows):
                columns = tuple(map(str, sample.columns))
                dates = rows[SNAPSHOT_DATE].dropna()
                period = (dates.min()[:10], dates.max()[:10]) if len(dates) else (None, None)
                found.append(Holding(self.name, f"run {run_id}: {SAMPLE_FILE}", len(rows), columns, *period))
        return found

    def values(self, pseudonym: str) -> list[dict[str, Any]]:
        """The rows, with the run."""
        rows: list[dict[str, Any]] = []
        for run_id, sample in self._samples():
            found = json_rows(sample[_is_person(sample, pseudonym)])
            rows += [{"run_id": run_id, **row} for row in found]
        return rows

    def fence(self, *, now: datetime) -> None:
        """Nothing: a training that is under way looks at the tombstones when it logs its sample."""

    def erase(self, pseudonym: str) -> int:
        """Log every sample with the person again, without."""
        n_rows = 0
        for run_id, sample in self._samples():
            mask = _is_person(sample, pseudonym)
            if mask.any():
                self._replace(run_id, sample[~mask])
                n_rows += int(mask.sum())
        return n_rows

    def expire(self, before: datetime, *, dry_run: bool) -> int:
        """Empty the samples of runs that were started earlier; how many there were. The column names stay."""
        old = [(run_id, sample) for run_id, sample in self._samples(before) if len(sample)]
        if not dry_run:
            for run_id, sample in old:
                self._replace(run_id, sample.head(0))
        return len(old)

    @cached_property
    def _client(self) -> TrackingClient | None:
        uri = self._settings.tracking_uri
        if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
            return None
        return connect(self._settings)

    def _samples(self, before: datetime | None = None) -> Iterator[tuple[str, pd.DataFrame]]:
        """Run and sample of each run that has one."""
        for run in self._runs():
            started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
            if before is None or started < before:
                sample = self._read(run)
                if sample is not None:
                    yield run.info.run_id, sample

    def _runs(self) -> Iterator[Any]:
        from mlflow.entities import ViewType

        if self._client is None:
            return
        experiment = self._client.get_experiment_by_name(self._settings.experiment)
        if experiment is None:
            return
        token = None
        while True:
            page = self._client.search_runs(
                [experiment.experiment_id], run_view_type=ViewType.ALL, max_results=_PAGE, page_token=token
            )
            # trials below a search have no sample
            yield from (run for run in page if "attrition.kind" in run.data.tags)
            token = page.token
            if not token:
                return

    def _read(self, run: Any) -> pd.DataFrame | None:
        assert self._client is not None
        run_id = run.info.run_id
        with tempfile.TemporaryDirectory() as folder:
            try:
                if not any(file.path == SAMPLE_FILE for file in self._client.list_artifacts(run_id)):
                    return None
                path = self._client.download_artifacts(run_id, SAMPLE_FILE, folder)
            except NotFound:
                return None
            # read as text: what is written again must be what it was
            return pd.read_csv(path, dtype="str", keep_default_na=False)

    def _replace(self, run_id: str, sample: pd.DataFrame) -> None:
        assert self._client is not None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / SAMPLE_FILE
            sample.to_csv(path, index=False)
            self._client.log_artifact(run_id, str(path))


def _is_person(sample: pd.DataFrame, pseudonym: str) -> pd.Series:
    ids = sample[EMPLOYEE_ID]
    return (ids == pseudonym) | ids.str.startswith(pseudonym + REPEAT_MARK)
