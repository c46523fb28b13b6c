"""Lineage and code version."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

from attrition import __version__
from attrition.data.splits import SplitSpec
from attrition.data.tables import SnapshotRef
from attrition.training.lineage import Lineage, code_version

SNAPSHOT = SnapshotRef(
    table="snapshots",
    version=3,
    content_hash="c" * 64,
    n_rows=10,
    first_date=date(2024, 3, 31),
    last_date=date(2024, 3, 31),
    source="extract.csv",
    schema_digest="d" * 64,
)


def test_lineage_survives_json(lineage):
    """With and without a snapshot."""
    full = replace(lineage, snapshot=SNAPSHOT, split=SplitSpec("temporal", 0.25, 42, date(2024, 1, 1)))
    assert Lineage.from_dict(full.to_dict()) == full
    assert Lineage.from_dict(lineage.to_dict()) == lineage


def test_the_fingerprint_is_of_what_decides_the_model(lineage):
    """Not of the time, the plan's name or the version number that the data happened to get."""
    full = replace(lineage, snapshot=SNAPSHOT)
    same = replace(full, created_at="later", plan="renamed", snapshot=replace(SNAPSHOT, version=9))
    assert same.fingerprint == full.fingerprint
    for change in (
        {"seed": 1},
        {"code_version": "other"},
        {"plan_digest": "other"},
        {"split": SplitSpec("random", 0.25, 42)},
        {"snapshot": replace(SNAPSHOT, content_hash="e" * 64)},
    ):
        assert replace(full, **change).fingerprint != full.fingerprint


def test_the_code_version_names_the_package_and_the_sources():
    """A commit in a checkout, otherwise a digest."""
    version = code_version()
    commit, sources = r"g[0-9a-f]{12}(\.dirty\.[0-9a-f]{12})?", r"src\.[0-9a-f]{12}"
    assert re.fullmatch(rf"{re.escape(__version__)}\+({commit}|{sources})", version)
    assert code_version() == version


def test_without_git_the_sources_are_digested(monkeypatch):
    """An installed package has no commit."""
    monkeypatch.setenv("PATH", "")
    version = code_version.__wrapped__()
    assert re.fullmatch(re.escape(__version__) + r"\+src\.[0-9a-f]{12}", version)
