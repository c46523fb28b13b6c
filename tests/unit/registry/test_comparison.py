"""Two versions side by side."""

from __future__ import annotations

import pytest

from attrition.registry.comparison import compare_facts
from attrition.registry.package import read_package


@pytest.fixture
def facts(package):
    """Of one package."""
    return dict(read_package(package.directory, package.manifest_sha256).facts)


def test_only_what_differs_is_listed(facts):
    """Parameters that one of them does not set are said to be not set."""
    other = {**facts, "threshold": 0.25, "parameters": {"max_iter": 500, "C": 2.123456789}}
    comparison = compare_facts("1.0.0", facts, "1.0.1", other)
    rows = {name: (first, second) for name, first, second in comparison.differences}
    assert rows["parameter C"] == ("1", "2.123")
    assert rows["parameter max_iter"] == ("not set", "500")
    assert rows["threshold"][1] == "0.2500"
    assert list(rows) == ["parameter C", "parameter max_iter", "threshold"]


def test_metrics_have_their_intervals(facts):
    """A difference within them is none."""
    comparison = compare_facts("1.0.0", facts, "1.1.0", facts)
    auc = {name: first for name, first, _ in comparison.metrics}["auc"]
    assert "[" in auc
    assert comparison.differences == ()


def test_it_renders_in_terminal_and_notebook(facts):
    """Every cell is escaped."""
    other = {**facts, "lineage": {**facts["lineage"], "plan": "<b>mine</b>"}}
    comparison = compare_facts("1.0.0", facts, "1.1.0", other)
    assert "1.1.0" in str(comparison)
    assert "Metrics" in str(comparison)
    html = comparison._repr_html_()
    assert "&lt;b&gt;mine" in html
    assert "<b>mine" not in html
    assert comparison.to_dict()["first"] == "1.0.0"
