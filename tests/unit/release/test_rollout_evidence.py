"""The evidence of a rollout's step: it labels people as an experiment does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd

from attrition.data.outcomes import OutcomeTable
from attrition.experiments import collection
from attrition.experiments.plan import ExperimentPlan
from attrition.experiments.records import ExperimentRecords
from attrition.experiments.samples import Samples
from attrition.governance.guard import Guard
from attrition.release import rollout_evidence
from attrition.release.rollout_evidence import Evidence
from attrition.settings import Settings
from attrition.stations.experiments import Experiments

PLAN = ExperimentPlan(name="first", control="1.0.0", challenger="1.1.0")


def test_experiments_and_rollouts_label_the_same_person_alike(tmp_path, monkeypatch):
    """Neither by what is dated in the future."""
    settings = Settings.from_environment({}, home=tmp_path)
    settings.prepare_home()
    now = datetime.now(UTC)
    statements = pd.DataFrame(
        {
            "employee_id": ["a", "a", "b"],
            "left_on": pd.to_datetime(["2024-03-31", None, None]).astype("datetime64[us]"),
            "observed_at": pd.to_datetime([now - timedelta(days=1), now + timedelta(days=1), now]),
            "source": "test",
        }
    )
    OutcomeTable(settings.tables).record(statements, now=now)
    found = []

    def collected(*_, outcomes, **__):
        found.append(outcomes)
        return Samples(now, ())

    monkeypatch.setattr(collection, "collect", collected)
    monkeypatch.setattr(rollout_evidence, "collect", collected)
    Evidence(settings.tables, lambda _version: 90).look(PLAN, now, {})
    package = SimpleNamespace(schema=SimpleNamespace(horizon_days=90))
    registry = SimpleNamespace(load=lambda _version: package)
    started = ExperimentRecords(settings.database_url).start(PLAN, actor="ann", now=now)
    station = Experiments(settings, Guard(settings), lambda: registry, lambda: None)
    station._samples(started, datetime.now(UTC))
    rollout, experiment = found
    pd.testing.assert_frame_equal(rollout.known, experiment.known)
    assert [str(day)[:10] for day in rollout.known["left_on"]] == ["2024-03-31", "NaT"]
    assert max(rollout.complete_until, experiment.complete_until) <= datetime.now(UTC)
