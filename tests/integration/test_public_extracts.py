"""What the product says about the two public extracts, whose traps are known."""

from __future__ import annotations

import pandas as pd
import pytest

from attrition import Workspace
from attrition.data.splits import apply_split
from attrition.evaluation.gates import Outcome

pytestmark = pytest.mark.ray


@pytest.fixture
def workspace(tmp_path, ray_cluster):
    """An empty project on the shared cluster; with a fixed key the holdout holds the same persons every time."""
    key = tmp_path / "keys" / "pseudonym.key"
    key.parent.mkdir()
    key.write_text("5a" * 32)
    key.chmod(0o600)
    with Workspace(home=tmp_path, ray_address=ray_cluster.address) as project:
        yield project


def test_hr_comma_sep(workspace, shared_data):
    """The pasted duplicates are reported and removed, and the tuned model is as good as the data allow."""
    dataset = workspace.data.load(shared_data / "HR_comma_sep.csv", "hr_comma_sep")
    assert dataset.quality.by_code("rows.duplicate")[0].n_rows == 3_008
    assert dataset.quality.by_code("rows.pasted_block")
    assert len(dataset.table) == 11_991
    assert "age" not in dataset.table.schema.names
    run = workspace.tune("smoke")
    auc = run.evaluation.metrics["auc"].value
    assert auc >= 0.98, auc


def test_mfg10(workspace, shared_data):
    """Leaking columns are flagged, the split is by time, the AUC is honest, and the gate that fails says so."""
    dataset = workspace.data.load(shared_data / "MFG10YearTerminationData.csv.gz", "mfg10")
    leaking = {finding.column for finding in dataset.quality.by_code("leakage.single_column")}
    assert {"terminationdate_key", "termreason_desc", "termtype_desc"} <= leaking
    run = workspace.train("hist_gradient_boosting", {}, plan="smoke")
    split = run.candidate.lineage.split
    assert split.kind == "temporal"
    assert split.cutoff.year == 2014
    assert split.embargo_days == dataset.table.schema.horizon_days
    trained = apply_split(dataset.table, split).train
    window = pd.Timedelta(days=dataset.table.schema.horizon_days)
    assert (dataset.table.dates.iloc[trained] + window).max() <= pd.Timestamp(split.cutoff)
    assert not run.judgement.quality.by_code("split.embargo")
    assert 0.65 < run.evaluation.metrics["auc"].value < 0.85
    assert run.verdict["auc"].outcome is not Outcome.PASS
    assert not run.verdict.admits
    assert "0.85" in run.verdict["auc"].message
