"""Runs are judged fairly, and recorded as they went: single trainings with a real MLflow, without Ray."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from attrition import Workspace
from attrition.admission import runs
from attrition.cli.main import app
from attrition.errors import IntegrityError
from attrition.evaluation.gates import Outcome
from attrition.evaluation.policy import GatePolicy
from attrition.registry.bundle import load_bundle
from attrition.training.connection import connect
from attrition.training.plan import SearchPlan
from attrition.training.search import study_folder
from attrition.training.study import Study

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A project with a champion: the baseline of the default plan, seed 42."""
    with Workspace(home=tmp_path_factory.mktemp("admission")) as project:
        project.data.load(project.data.simulate(n_employees=4_000))
        run = project.train()
        project.models.register(run.run_id, waive="a champion for the tests")
        yield project


def test_the_baseline_has_seed_42(workspace):
    """When no plan is given; the same configuration as the baseline of the project."""
    version = workspace.models.show("champion")
    assert version.family == "logistic_regression"
    assert version.parameters == {"C": 1.0, "class_weight": "balanced", "max_iter": 1000}
    assert version.lineage.seed == version.lineage.split.seed == 42


def test_plans_of_different_seeds_are_compared_on_what_neither_has_seen(workspace, tmp_path):
    """The same data, seeds 7 and 42: about a quarter of the holdout."""
    plan = tmp_path / "seed7.yaml"
    document = SearchPlan.load("default").model_dump(mode="json")
    plan.write_text(yaml.safe_dump({**document, "name": "seed7", "seed": 7}))
    run = workspace.train(plan=plan)
    compared = run.verdict["champion"]
    assert compared.outcome is not Outcome.NOT_APPLICABLE, compared.message
    persons = workspace.data.read().table.persons
    assert len(set(persons)) == len(persons) == run.n_train + run.n_holdout
    assert 0.15 * run.n_holdout < compared.n < 0.35 * run.n_holdout
    same = workspace.train(parameters={"C": 0.5})
    assert same.verdict["champion"].n == same.n_holdout


def test_validating_the_champion_says_that_there_is_nobody_else(workspace):
    """The true reason for a comparison that was not made."""
    compared = workspace.validate("champion").verdict["champion"]
    assert compared.outcome is Outcome.NOT_APPLICABLE
    assert compared.message == "This version is the champion."


def test_a_run_is_finished_when_its_package_is_there(workspace, monkeypatch):
    """Failed when it cannot be logged, killed when interrupted."""
    client = connect(workspace.settings)
    run = workspace.train(parameters={"C": 0.25})
    assert client.get_run(run.run_id).info.status == "FINISHED"
    for raised, status in ((RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")):

        def fail(_registry, run_id, _package, raised=raised):
            assert client.get_run(run_id).info.status == "RUNNING"
            raise raised

        monkeypatch.setattr("attrition.registry.models.ModelRegistry.log_package", fail)
        with pytest.raises(raised):
            workspace.train(parameters={"C": 0.25})
        experiment = client.get_experiment_by_name(workspace.settings.experiment).experiment_id
        latest = client.search_runs([experiment], order_by=["attributes.start_time DESC"], max_results=1)[0]
        assert latest.info.status == status


def test_the_package_holds_the_scorer_that_was_proven(workspace, monkeypatch):
    """Compiled once."""
    from attrition.admission import runs
    from attrition.registry import package

    compiled = []
    compile_candidate = runs.compile_candidate

    def compile_once(candidate):
        compiled.append(compile_candidate(candidate))
        return compiled[-1]

    monkeypatch.setattr(runs, "compile_candidate", compile_once)
    assert not hasattr(package, "compile_candidate")
    run = workspace.train(parameters={"C": 0.125})
    assert len(compiled) == 1
    assert workspace.models.load(run.run_id).scoring_files == compiled[0]


def test_other_rows_under_the_same_snapshot_version_are_refused(workspace, tmp_path):
    """A version is validated on its own data or not at all."""
    other = Workspace(home=tmp_path)
    other.data.load(other.data.simulate(n_employees=4_000, seed=7))
    mixed = Workspace(workspace.settings.model_copy(update={"tables": other.settings.tables}))
    assert mixed.data.read().snapshot.version == workspace.data.read().snapshot.version
    with pytest.raises(IntegrityError, match="snapshot 0: holds other rows") as caught:
        mixed.validate("champion")
    assert "sha256" in str(caught.value)
    assert "train again" in str(caught.value)


@pytest.fixture(scope="module")
def quarterly(tmp_path_factory):
    """A run on eight quarters of a simulated workforce."""
    with Workspace(home=tmp_path_factory.mktemp("quarterly")) as project:
        project.data.load(project.data.simulate(n_employees=2_000, n_quarters=8))
        yield project, project.train()


def test_no_outcome_that_is_trained_on_became_known_after_the_cutoff(quarterly):
    """An embargo of the horizon lies between the training rows and the holdout."""
    from attrition.data.splits import apply_split

    project, run = quarterly
    table = project.data.read().table
    spec = run.candidate.lineage.split
    split = apply_split(table, spec)
    assert len(split.train) == run.n_train == len(run.candidate.oof_true)
    window = pd.Timedelta(days=table.schema.horizon_days)
    assert (table.dates.iloc[split.train] + window).max() <= pd.Timestamp(spec.cutoff)
    assert table.dates.iloc[split.holdout].min() >= pd.Timestamp(spec.cutoff)
    assert not np.isin(table.persons[split.holdout].astype(str), table.persons[split.train].astype(str)).any()


def test_findings_about_the_split_are_packaged(workspace, monkeypatch):
    """With those about the data, as the gate saw them."""
    from attrition.admission import judging
    from attrition.data.findings import Finding, Severity

    finding = Finding("split.made_up", Severity.WARNING, None, "for the test", 1, 0.1)
    monkeypatch.setattr(judging, "check_split", lambda *_: (finding,))
    run = workspace.train(parameters={"C": 0.0625})
    quality = workspace.models.load(run.run_id).quality
    assert quality.by_code("split.made_up") == (finding,)
    assert len(quality.findings) == len(workspace.data.read().quality.findings) + 1


def test_an_alias_and_a_bundle_by_command(workspace, tmp_path):
    """What the registry does in Python, with its messages and exit codes."""

    def attrition(*arguments):
        return CliRunner().invoke(app, ["--home", str(workspace.settings.home), *map(str, arguments)])

    named = attrition("models", "alias", "quarter-1", "champion")
    assert named.exit_code == 0
    assert "quarter-1 is version 1.0.0 now." in named.stderr
    assert "quarter-1" in workspace.models.show("1.0.0").aliases
    assert attrition("models", "alias", "approved-2026-03", "champion").exit_code == 2
    assert attrition("models", "alias", "Approved", "champion").exit_code == 2
    assert attrition("models", "alias", "pilot", "9.9.9").exit_code == 4
    written = json.loads(
        attrition("models", "export", "champion", "--directory", tmp_path / "bundles", "--json").stdout
    )
    assert load_bundle(written["uri"], written["manifest_sha256"]).version == written["version"] == "1.0.0"
    shown = attrition("models", "export", "1.0.0", "--directory", tmp_path / "bundles").stdout
    assert written["uri"] in shown
    assert written["manifest_sha256"] in shown


def test_nothing_to_resume_is_said(workspace, monkeypatch):
    """Before the search begins anew; a study that was begun is resumed without a word."""
    plan, steps = SearchPlan.load("smoke"), []

    class Reached(Exception):
        pass

    def stop(*_arguments, **_options):
        raise Reached

    monkeypatch.setattr("attrition.training.search.search", stop)
    arguments = (workspace.models, workspace.settings, workspace.data.read(), plan, GatePolicy.default())
    for resume in (False, True):
        with pytest.raises(Reached):
            runs.tune(*arguments, hooks=runs.Hooks(on_step=steps.append), resume=resume)
    assert steps == ["Nothing to resume: no search of this plan was begun here, so it starts"]
    with Study(study_folder(workspace.settings, plan), {}) as study:
        study.bind_run("a run")
    with pytest.raises(Reached):
        runs.tune(*arguments, hooks=runs.Hooks(on_step=steps.append), resume=True)
    assert len(steps) == 1
