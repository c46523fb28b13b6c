"""Semantic versions by rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attrition.errors import UsageError
from attrition.registry.versions import Bump, SemVer, VersionFacts, next_version

FACTS = VersionFacts("1.2.3", "random_forest", "schema", "model", 0.5, "print")


@pytest.mark.parametrize(
    ("change", "version", "bump"),
    [
        ({"schema_digest": "other"}, "2.0.0", Bump.MAJOR),
        ({"family": "extra_trees"}, "2.0.0", Bump.MAJOR),
        ({"model_digest": "other"}, "1.3.0", Bump.MINOR),
        ({"model_digest": "other", "threshold": 0.4}, "1.3.0", Bump.MINOR),
        ({"threshold": 0.4}, "1.2.4", Bump.PATCH),
        ({"fingerprint": "other"}, "1.2.4", Bump.PATCH),
        ({}, "1.2.3", Bump.UNCHANGED),
    ],
)
def test_what_changed_decides(change, version, bump):
    """Features and family over learning over threshold and provenance."""
    assert next_version(FACTS, replace(FACTS, version="", **change)) == (version, bump)


def test_the_first_version_is_one():
    """Nothing came before."""
    assert next_version(None, FACTS) == ("1.0.0", Bump.INITIAL)


def test_versions_are_ordered_by_number_not_by_text():
    """1.10 comes after 1.9."""
    assert SemVer.parse("1.10.0") > SemVer.parse("1.9.9")


@pytest.mark.parametrize("text", ["", "1", "1.0", "1.0.0.0", "v1.0.0", "1.0.0-rc1", "01.0.0", "1.0.-1", "1.0.٣"])
def test_other_texts_are_no_versions(text):
    """Said with an example of one."""
    assert not SemVer.matches(text)
    with pytest.raises(UsageError, match=r"1\.0\.0"):
        SemVer.parse(text)
