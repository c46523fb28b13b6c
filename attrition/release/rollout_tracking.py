"""What a rollout leaves in MLflow: one run, with every step's share, what looks found, and the whole story as JSON."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import TYPE_CHECKING

from attrition.experiments.tracking import look_metrics, write_files
from attrition.training.connection import connect, experiment_id

if TYPE_CHECKING:
    from attrition.release.rollout import Rollout
    from attrition.settings import Settings
    from attrition.training.connection import TrackingClient

DOCUMENT_FILE = "rollout.json"

_LOOKS_PER_E_FOLD = 20.0
"""Looks come every minute for months; one for each growth of a step's age by 5 % draws the same curve."""


def chapter(rollout: Rollout) -> tuple[object, ...]:
    """What is worth logging anew when it has changed: where the rollout stands, and now and then what a look found."""
    standing = (rollout.status, rollout.step, rollout.reason)
    look, entered_at = rollout.look, rollout.entered_at
    if look is None or entered_at is None:
        return standing
    age = (datetime.fromisoformat(look["as_of"]) - entered_at).total_seconds()
    return (*standing, look["verdict"], int(_LOOKS_PER_E_FOLD * math.log(max(age, 1.0))))


def log_rollout(settings: Settings, rollout: Rollout) -> str:
    """Bring the rollout's run up to date, making it when there is none; its id. To repeat that changes nothing.

    Metrics are logged at the second since the rollout began.

    Raises
    ------
    PlatformError
        MLflow does not answer.
    """
    from mlflow.entities import Metric, RunTag

    client = connect(settings)
    run_id = _run_of(client, settings, rollout)
    metrics = []
    look = rollout.look
    if look is not None:
        moment = datetime.fromisoformat(look["as_of"])
        found = {**look_metrics(look), "n_champion": look["n_champion"], "n_challenger": look["n_challenger"]}
        metrics += [Metric(name, value, *_when(rollout, moment)) for name, value in found.items()]
    if rollout.entered_at is not None and rollout.current is not None:
        share = 0.0 if rollout.status.is_final and not rollout.is_promoted else rollout.current.share
        metrics.append(Metric("challenger_share", share, *_when(rollout, rollout.log[-1].at)))
    tags = {"attrition.status": str(rollout.status), "attrition.reason": rollout.reason[:500]}
    client.log_batch(run_id, metrics=metrics, tags=[RunTag(name, value) for name, value in tags.items()])
    write_files(client, run_id, {DOCUMENT_FILE: json.dumps(rollout.to_dict(), indent=1)})
    if rollout.status.is_final:
        client.set_terminated(run_id)
    return run_id


def _run_of(client: TrackingClient, settings: Settings, rollout: Rollout) -> str:
    """The run of a rollout, found by its tags: whoever drives it next finds it, too."""
    tags = {"attrition.rollout": rollout.name, "attrition.started_at": rollout.started_at.isoformat()}
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    experiment = experiment_id(client, settings)
    found = client.search_runs([experiment], wanted, max_results=1)
    if found:
        return str(found[0].info.run_id)
    tags |= {
        "attrition.kind": "rollout",
        "attrition.champion": rollout.champion,
        "attrition.challenger": rollout.challenger,
    }
    made = client.create_run(experiment, run_name=rollout.name.replace("-", " ", 1), tags=tags)
    return str(made.info.run_id)


def _when(rollout: Rollout, moment: datetime) -> tuple[int, int]:
    """Timestamp in milliseconds and step of a metric."""
    return int(moment.timestamp() * 1_000), int((moment - rollout.started_at).total_seconds())
