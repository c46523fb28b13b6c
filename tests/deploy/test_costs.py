"""The table of costs: what infra/README.md shows is what the prices give."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import yaml

INFRA = Path(__file__).parents[2] / "infra"


@pytest.fixture(scope="module")
def module():
    return runpy.run_path(str(INFRA / "costs.py"))


@pytest.fixture
def prices():
    return yaml.safe_load((INFRA / "prices.yaml").read_text())


def test_the_readme_shows_what_the_prices_give(module, prices):
    """To the euro."""
    assert module["table"](prices) in (INFRA / "README.md").read_text()


def test_more_workers_cost_more_in_what_grows_with_them(module, prices):
    """Nodes and their metrics, nothing else; a node's price counts for each hour of each node."""
    three, ten = (module["costs"](prices, n) for n in module["NODES"])
    assert {item for item in three if three[item] != ten[item]} == {"serving nodes", "metrics"}
    assert ten["serving nodes"] == pytest.approx(10 * 730 * prices["node_hour"]["Standard_D8ds_v5"])
    prices["node_hour"]["Standard_D8ds_v5"] *= 2
    assert module["costs"](prices, 10)["serving nodes"] == pytest.approx(2 * ten["serving nodes"])
