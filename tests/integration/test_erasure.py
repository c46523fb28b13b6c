"""A version whose training data lost a person: explained wherever the data are looked at again. Real MLflow, no Ray."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from attrition import Workspace
from attrition.cli.main import app
from attrition.data.splits import apply_split

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A project with a registered baseline, whose sample has the first fifty rows."""
    with Workspace(home=tmp_path_factory.mktemp("erasure")) as project:
        project.data.load(project.data.simulate(n_employees=2_000))
        run = project.train()
        project.models.register(run.run_id, waive="a version for the tests")
        yield project


def test_a_version_outlives_the_erasure_of_a_person_it_was_trained_on(workspace):
    """Report and erasure reach the sample in MLflow; then verify, validate and unchanged explain and go on."""
    table = workspace.data.read().table
    training = apply_split(table, workspace.models.show("1.0.0").lineage.split).train
    who = table.take(training).frame["employee_id"].iloc[0]
    report = workspace.privacy.report(who, is_pseudonym=True)
    assert [holding.store for holding in report.holdings] == ["mlflow", "snapshots"]
    assert not workspace.validate("1.0.0").notes
    done = workspace.privacy.erase(who, justification="request 2024-117", is_pseudonym=True)
    assert done.is_finished
    assert (done.n_rows["mlflow"], done.n_rows["snapshots"]) == (1, 1)

    assert workspace.models.verify("1.0.0").n_files > 5
    (note,) = workspace.validate("1.0.0").notes
    assert note.startswith("1 of 2,000 rows of snapshot 0 were erased since the training")
    shown = CliRunner().invoke(app, ["--home", str(workspace.settings.home), "validate", "1.0.0", "--json"])
    assert json.loads(shown.stdout)["notes"] == [note]
    assert workspace.models.show("1.0.0").lineage.snapshot.content_hash in workspace.data.read().snapshot.earlier_hashes
    assert workspace.data.read().snapshot.held(workspace.models.show("1.0.0").lineage.snapshot.content_hash)


def test_a_search_of_the_remaining_data_counts_as_made(workspace):
    """An erasure alone is no reason to train again; another plan is."""
    from dataclasses import replace

    from attrition.admission.runs import plan_lineage, reproduced
    from attrition.training.plan import SearchPlan

    dataset, plan = workspace.data.read(), SearchPlan.load("default")

    class Registry:
        """Knows one version, by the fingerprint that a search before the erasure had."""

        def by_fingerprint(self, fingerprint):
            then = replace(dataset.snapshot, content_hash=dataset.snapshot.earlier_hashes[0])
            lineage, _ = plan_lineage(replace(dataset, snapshot=then), plan)
            return "1.0.0" if fingerprint == lineage.fingerprint else None

    assert dataset.snapshot.n_erased == 1
    assert reproduced(Registry(), dataset, plan) == "1.0.0"
    assert reproduced(Registry(), dataset, SearchPlan.load("smoke")) is None
