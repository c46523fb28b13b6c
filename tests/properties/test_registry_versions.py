"""The version rule as a law."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from attrition.registry.versions import Bump, SemVer, VersionFacts, next_version

parts = st.integers(0, 999)
versions = st.builds(SemVer, parts, parts, parts)
facts = st.builds(
    VersionFacts,
    version=versions.map(str),
    family=st.sampled_from(["logistic_regression", "random_forest"]),
    schema_digest=st.sampled_from(["s1", "s2"]),
    model_digest=st.sampled_from(["m1", "m2"]),
    threshold=st.sampled_from([0.3, 0.5]),
    fingerprint=st.sampled_from(["f1", "f2"]),
)


@given(versions)
def test_text_and_version_are_inverse(version):
    """Parse what is written."""
    assert SemVer.parse(str(version)) == version


@given(facts, facts)
def test_a_new_version_is_greater_and_an_unchanged_one_equal(previous, new):
    """Monotone: versions never go back."""
    version, bump = next_version(previous, new)
    if bump is Bump.UNCHANGED:
        assert version == previous.version
    else:
        assert SemVer.parse(version) > SemVer.parse(previous.version)


@given(facts)
def test_the_same_facts_make_no_version(previous):
    """Whatever the version that they carry."""
    assert next_version(previous, replace(previous, version="")) == (previous.version, Bump.UNCHANGED)


@given(facts, facts)
def test_the_most_important_difference_decides(previous, new):
    """Features or family over learning over threshold and provenance; lower parts restart at zero."""
    version, bump = next_version(previous, new)
    old, now = SemVer.parse(previous.version), SemVer.parse(version)
    if (previous.schema_digest, previous.family) != (new.schema_digest, new.family):
        assert (bump, now) == (Bump.MAJOR, SemVer(old.major + 1, 0, 0))
    elif previous.model_digest != new.model_digest:
        assert (bump, now) == (Bump.MINOR, SemVer(old.major, old.minor + 1, 0))
    elif (previous.threshold, previous.fingerprint) != (new.threshold, new.fingerprint):
        assert (bump, now) == (Bump.PATCH, SemVer(old.major, old.minor, old.patch + 1))


@given(st.lists(facts, min_size=1, max_size=12))
def test_a_history_of_registrations_never_repeats_a_version(history):
    """Each registered after the one before it."""
    latest, seen = None, []
    for new in history:
        version, bump = next_version(latest, new)
        if bump is not Bump.UNCHANGED:
            seen.append(version)
            latest = replace(new, version=version)
    assert len(set(seen)) == len(seen)
    assert [SemVer.parse(v) for v in seen] == sorted(SemVer.parse(v) for v in seen)
