"""How versions look in a terminal and in a notebook."""

from __future__ import annotations

import pytest

from attrition.registry.package import read_package
from attrition.registry.records import ModelVersion, VersionList


@pytest.fixture
def version(package):
    """A version whose alias and waiver somebody else wrote."""
    facts = dict(read_package(package.directory, package.manifest_sha256).facts)
    return ModelVersion(
        version="1.0.0",
        number=1,
        run_id="r",
        model_id="m",
        source="s",
        aliases=("<b>champion</b>",),
        manifest_sha256=package.manifest_sha256,
        created_at="2026-01-01",
        bump="INITIAL",
        waived="<script>",
        facts=facts,
    )


def test_a_list_of_versions_is_a_table(version):
    """And still a list; every cell is escaped."""
    versions = VersionList([version, version])
    assert versions == [version, version]
    html = versions._repr_html_()
    assert html.count("<tr>") == 3
    assert "&lt;b&gt;champion" in html
    assert "<b>" not in html
    assert "<script>" not in html + version._repr_html_()
    assert str(versions).splitlines()[0] == "Model versions"
    assert "champion" in str(versions)


def test_no_versions():
    """A table without rows."""
    assert VersionList()._repr_html_().count("<tr>") == 1
