"""The whole loop on a simulated company: scored, reported, checked, retrained, promoted, quarter after quarter.

Everything is done by the parts that do it for real companies, through a Workspace of its own: snapshot, search, gates,
registry, batch scoring (or the HTTP endpoint), prediction log, outcomes, drift, retraining. Only the calendar is
simulated, and it is passed in. What a company would know only a year later, the outcomes of the latest quarters, is
used for the report and for nothing else.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack, suppress
from datetime import UTC
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.data.predictions import FEATURE, PredictionTable, prediction_schema
from attrition.data.schema import EMPLOYEE_ID
from attrition.errors import Fault, UsageError
from attrition.evaluation.auc import auc_delong
from attrition.evaluation.metrics import compare_auc
from attrition.retraining.policy import RetrainingPolicy
from attrition.retraining.simulation_report import RULE, Quarter, SimulationReport
from attrition.serving.identifiers import uuid7
from attrition.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

    from attrition.registry.package import Package
    from attrition.retraining.pipeline import Retraining
    from attrition.retraining.simulated_world import World
    from attrition.workspace import Workspace

    Rows = pd.DataFrame
    """Columns ``employee_id`` (pseudonym), ``probability``, ``decision``, in the order of the staff."""
    Scoring = Callable[[str, "pd.DataFrame", int], Rows]

POLICY = "retraining-simulation"
MARK = "SIMULATED"
"""File in the folder of a simulated project."""
_EMPTY = {"variant": "champion", "reason": "sole", "latency_us": 0}


def run(
    open_workspace: Callable[[Settings], Workspace],
    settings: Settings,
    world: World,
    folder: str | Path,
    *,
    seed: int,
    policy: RetrainingPolicy | str | Path = POLICY,
    serve: bool = False,
    on_quarter: Callable[[Quarter], None] | None = None,
    on_step: Callable[[str], None] | None = None,
) -> tuple[SimulationReport, list[Path]]:
    """Run the loop on a company with a project of its own in `folder`; the report and its files.

    Parameters
    ----------
    open_workspace
        Opens the company's project.
    settings
        Have Ray, and host and port of the endpoint; nothing else of them is used.
    folder
        Replaced when there is an earlier simulation in it.
    serve
        Score over HTTP by Ray Serve; otherwise in batches.

    Raises
    ------
    UsageError
        `folder` holds something else; or `serve` on a Ray that is not the simulation's own.
    InsufficientData, PlatformError
        As of :func:`run_loop`.
    """
    if serve and (settings.ray_address or settings.ray_service):
        # there the endpoint may be a real one
        remedy = "leave the Ray address out, so that it has a Ray of its own, or score in batches"
        raise UsageError(Fault("simulation", "would serve on a cluster that others use", "", remedy))
    home = empty_folder(folder)
    # nothing from the environment but Ray: a simulation must not write to a company's stores
    own = Settings.from_environment(
        {},
        home=home,
        ray_address=settings.ray_address,
        serve_host=settings.serve_host,
        serve_port=settings.serve_port,
    )
    write_key(home / "keys" / "pseudonym.key", seed)
    with ExitStack() as stack:
        company = stack.enter_context(open_workspace(own))
        scoring = None
        if serve:
            company.serving.require_free_port()
            company.ray(serving=True)
            served = stack.enter_context(open_workspace(own.model_copy(update={"tables": str(home / "served")})))
            stack.callback(served.serving.down)
            scoring = over_http(company, served)
        report = run_loop(
            company,
            world,
            seed=seed,
            policy=policy,
            scored_by="HTTP" if serve else "batch",
            scoring=scoring,
            on_quarter=on_quarter,
            on_step=on_step,
        )
    return report, write_report(report, home)


def run_loop(
    workspace: Workspace,
    world: World,
    *,
    seed: int,
    policy: RetrainingPolicy | str | Path = POLICY,
    scored_by: str = "batch",
    scoring: Scoring | None = None,
    on_quarter: Callable[[Quarter], None] | None = None,
    on_step: Callable[[str], None] | None = None,
) -> SimulationReport:
    """Run the loop over all quarters of `world`.

    Parameters
    ----------
    workspace
        An empty project.
    policy
        When to retrain, and by which plan.
    scoring
        Version, staff and quarter → scores; None scores in a batch.
    on_quarter, on_step
        Called as things happen.

    Raises
    ------
    InsufficientData
        The first version is held by the gates, so there is nothing to run a loop with.
    PlatformError
        Ray, MLflow or the storage does not do its part.
    """
    started = time.monotonic()
    say = on_step or (lambda _: None)
    rules = policy if isinstance(policy, RetrainingPolicy) else RetrainingPolicy.load(policy)
    score = scoring or _in_a_batch(workspace)
    say("Training the first version")
    first = _first_version(workspace, world, rules)
    in_charge, baseline = first, workspace.models.load(first)
    found = []
    for number in world.quarters:
        say(f"Quarter {number}: scoring {world.day(number)}")
        staff = world.staff(number)
        rows = score(in_charge, staff, number)
        _log(workspace, in_charge, staff, rows, world.scored_at(number), number)
        _report(workspace, world, number)
        if number < 1:
            continue
        say(f"Quarter {number}: checking")
        outcome = workspace.retraining.run(rules, now=world.checked_at(number), on_step=on_step)
        quarter = _quarter(world, number, in_charge, first, staff, rows, baseline, outcome)
        found.append(quarter)
        if on_quarter is not None:
            on_quarter(quarter)
        if outcome.state == "REGISTERED":
            workspace.models.promote(outcome.version, justification=f"Simulation: {RULE}.")
            in_charge = outcome.version
    admitted = baseline.evaluation.metrics["auc"]
    seconds = round(time.monotonic() - started, 1)
    return SimulationReport(
        scenario=world.scenario,
        drift_quarter=world.drift_quarter,
        n_employees=len(world.staff(1)),
        seed=seed,
        plan=rules.plan,
        scored_by=scored_by,
        baseline=admitted,
        quarters=tuple(found),
        seconds=seconds,
    )


def empty_folder(folder: str | Path) -> Path:
    """An empty folder for a simulated project; an earlier simulation in it is removed.

    Raises
    ------
    UsageError
        It holds something else.
    """
    import shutil
    from pathlib import Path

    home = Path(folder).expanduser().absolute()
    if home.exists() and any(home.iterdir()):
        if not (home / MARK).is_file():
            raise UsageError(Fault(str(home), "is no folder of an earlier simulation", "", "name an empty folder"))
        shutil.rmtree(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / MARK).write_text("made by attrition simulate; replaced by the next one\n")
    return home


def write_key(path: Path, seed: int) -> None:
    """A pseudonym key that follows from the seed: it decides who is held out, and a seed must give one report."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(hashlib.sha256(f"simulation\x00{seed}".encode()).hexdigest() + "\n")
    path.chmod(0o600)


def write_report(report: SimulationReport, folder: Path) -> list[Path]:
    """Files ``simulation.json``, ``.png`` and ``.html`` of a report; their paths."""
    import json

    from attrition.evaluation.plots import figure_png

    paths = [folder / f"simulation.{suffix}" for suffix in ("json", "png", "html")]
    paths[0].write_text(json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    paths[1].write_bytes(figure_png(report.plot()))
    paths[2].write_text(report.to_html(), encoding="utf-8")
    return paths


def over_http(workspace: Workspace, served: Workspace) -> Scoring:
    """Scoring by an HTTP endpoint: what it answers and logs is what counts.

    Parameters
    ----------
    served
        The same project with a prediction log of its own: the endpoint stamps its rows with the real time, and they are
        then moved to the simulated day.
    """
    up: dict[str, str] = {}

    def score(version: str, staff: pd.DataFrame, quarter: int) -> Rows:
        del quarter
        if version not in up:
            up.clear()
            up[version] = served.serving.up(version, replace=True).url
        sent = staff.assign(**{EMPLOYEE_ID: [workspace.data.key.pseudonym(each) for each in staff[EMPLOYEE_ID]]})
        answers = served.client(up[version]).predict(sent)
        return _logged(served, answers["prediction_id"].to_list())

    return score


def _logged(served: Workspace, prediction_ids: list[str], *, seconds: float = 60) -> Rows:
    """Rows of the endpoint's log in the order of the ids; it is committed in the background."""
    from attrition.errors import Fault, NotFound, PlatformError

    table, until = PredictionTable(served.settings.tables), time.monotonic() + seconds
    columns = ("prediction_id", EMPLOYEE_ID, "probability", "decision")
    while time.monotonic() < until:
        with suppress(NotFound):  # nothing was committed yet
            rows = table.between(columns=columns).set_index("prediction_id")
            if set(prediction_ids) <= set(rows.index):
                return rows.loc[prediction_ids].reset_index()
        time.sleep(0.5)
    found = f"lacks some of {len(prediction_ids):,} answers after {seconds:.0f} s"
    raise PlatformError(Fault("prediction log", found, "", "see the logs of the endpoint's replicas"))


def _first_version(workspace: Workspace, world: World, rules: RetrainingPolicy) -> str:
    from attrition.data.workforce import write_extract
    from attrition.errors import InsufficientData

    path = write_extract(world.history(), workspace.settings.home / "extracts" / "history.csv.gz")
    workspace.data.load(path, "workforce")
    run = workspace.tune(rules.plan, gates=rules.gates)
    if not run.verdict.admits:
        raise InsufficientData(f"The gates hold the first version, so there is no loop to run. {run.verdict}")
    return workspace.models.register(run.run_id).version


def _in_a_batch(workspace: Workspace) -> Scoring:
    def score(version: str, staff: pd.DataFrame, quarter: int) -> Rows:
        import pandas as pd

        from attrition.data.workforce import write_extract

        folder = workspace.settings.home / "extracts"
        source = write_extract(staff, folder / f"staff-{quarter:+d}.csv")
        target = folder / f"scores-{quarter:+d}.parquet"
        workspace.score(source, target, version, mapping="workforce", overwrite=True)
        return pd.read_parquet(target)

    return score


def _log(workspace: Workspace, version: str, staff: pd.DataFrame, rows: Rows, when: datetime, quarter: int) -> None:
    """Add a quarter's scores to the prediction log, as of the simulated time; once."""
    package = workspace.models.load(version)
    table = _log_rows(package, version, staff, rows, when)
    PredictionTable(workspace.settings.tables).append(table, {"simulation": quarter + 100})


def _log_rows(package: Package, version: str, staff: pd.DataFrame, rows: Rows, when: datetime) -> pa.Table:
    import pyarrow as pa

    names, n = package.schema.names, len(rows)
    probability = rows["probability"].to_numpy(np.float64)
    milliseconds = int(when.timestamp() * 1000)
    rng = np.random.default_rng(milliseconds)
    bits = (int.from_bytes(rng.bytes(10), "big") >> 6 for _ in range(n))
    columns: dict[str, Any] = {
        "prediction_id": [uuid7(milliseconds, each) for each in bits],
        "time": pa.array([when.astimezone(UTC)] * n, pa.timestamp("us", "UTC")),
        "day": pa.array([when.astimezone(UTC).date()] * n, pa.date32()),
        "version": [version] * n,
        "variant": [_EMPTY["variant"]] * n,
        "reason": [_EMPTY["reason"]] * n,
        "shadow_of": pa.nulls(n, pa.string()),
        "employee_id": rows[EMPLOYEE_ID].to_list(),
        "probability": probability,
        "threshold": np.full(n, package.candidate.threshold),
        "decision": probability >= package.candidate.threshold,
        "latency_us": np.zeros(n, np.int64),
    }
    for name in names:
        values = staff[name].to_numpy(np.float64)
        columns[FEATURE + name] = pa.array(values, pa.float64(), mask=np.isnan(values))
    return pa.table(columns, schema=prediction_schema(names))


def _report(workspace: Workspace, world: World, quarter: int) -> None:
    """Personnel reports who has left; recorded as an import of that day would be."""
    import pandas as pd

    leavers = world.leavers(quarter)
    when = world.reported_at(quarter)
    pseudonyms = [workspace.data.key.pseudonym(each) for each in leavers[EMPLOYEE_ID]]
    statements = pd.DataFrame(
        {
            EMPLOYEE_ID: pd.Series(pseudonyms, dtype="str"),
            "left_on": leavers["left_on"],
            "observed_at": pd.Series([when] * len(leavers), dtype="datetime64[us, UTC]"),
            "source": pd.Series(["simulation"] * len(leavers), dtype="str"),
        }
    )
    workspace.outcomes.table.record(statements, now=when)


def _quarter(
    world: World,
    number: int,
    version: str,
    first: str,
    staff: pd.DataFrame,
    rows: Rows,
    baseline: Package,
    outcome: Retraining,
) -> Quarter:
    y_true = world.truth(number).to_numpy()
    y_score = rows["probability"].to_numpy(np.float64)
    without = y_score if version == first else baseline.candidate.score(staff)
    moved = outcome.decision.evidence.covariates
    day = world.day(number)
    return Quarter(
        number=number,
        name=f"{day.year}Q{(day.month - 1) // 3 + 1}",
        n_persons=len(staff),
        share_left=round(float(y_true.mean()), 4),
        version=version,
        auc=auc_delong(y_true, y_score),
        auc_without=auc_delong(y_true, without),
        gain=None if version == first else compare_auc(y_true, without, y_score),
        drift="" if moved is None else moved.level,
        drifted=() if moved is None else tuple(moved.drifted),
        verdict=str(outcome.decision.verdict),
        rule=outcome.decision.rule,
        state=str(outcome.state),
        note=outcome.note,
        challenger=outcome.version if outcome.state == "REGISTERED" else "",
    )
