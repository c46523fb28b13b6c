"""Retraining under guard: what is kept of an attempt."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from attrition.errors import AttritionError, PlatformError
from attrition.governance.guard import Guard
from attrition.retraining import pipeline
from attrition.retraining.pipeline import Retraining as Result
from attrition.retraining.policy import Decision, Evidence, Verdict
from attrition.settings import Settings
from attrition.stations.retraining import Retraining

FOUND = Result("a" * 16, datetime(2026, 5, 4, tzinfo=UTC), Decision(Verdict.HOLD, "", (), (), Evidence("1.0.0")))


@pytest.fixture
def station(tmp_path, monkeypatch):
    settings = Settings.from_environment({}, home=tmp_path)
    guard = Guard(settings)
    none = lambda *_: None  # noqa: E731
    found = Retraining(settings, guard, none, none, execution=none, ray=none, sign=none, register=none)
    monkeypatch.setattr(found, "_decided", lambda *_, **__: FOUND)
    yield found
    guard.close()


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (ValueError("could not convert string to float: 'Sentinelius'"), "ValueError"),
        (PlatformError("MLflow does not answer."), "MLflow does not answer."),
    ],
)
def test_a_failed_attempt_is_noted_without_the_words_of_a_library(station, monkeypatch, error, note):
    """They may hold a person's values, and the ledger is kept; errors of our own hold none."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(pipeline, "retrain", fail)
    with pytest.raises((ValueError, AttritionError)):
        station.run()
    (kept,) = station.history()
    assert (kept["state"], kept["note"]) == ("FAILED", note)
