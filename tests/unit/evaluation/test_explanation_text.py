"""What values and contributions are called."""

from __future__ import annotations

from math import nan

import pytest

from attrition.data.schema import Feature, FeatureSchema
from attrition.evaluation.explanation_text import PHRASES, number, sentences, value_words
from attrition.evaluation.explanations import Contribution

SCHEMA = FeatureSchema.default()


@pytest.mark.parametrize(
    ("name", "value", "quartiles", "words"),
    [
        ("work_hours", 58.0, (38.0, 40.0, 45.0), "long weekly hours (58 hours per week)"),
        ("work_hours", 41.5, (38.0, 40.0, 45.0), "medium weekly hours (41.5 hours per week)"),
        ("satisfaction_score", 1.8, (2.5, 3.0, 4.0), "low satisfaction (1.8 points)"),
        ("salary", 123_456.7, (30_000.0, 40_000.0, 60_000.0), "a high salary (123,457 per year)"),
        ("projects_count", 0.0, (0.0, 0.0, 3.0), "few projects (0 projects)"),
        ("projects_count", 4.0, (4.0, 4.0, 4.0), "a medium number of projects (4 projects)"),
        ("projects_count", 5.0, (4.0, 4.0, 4.0), "many projects (5 projects)"),
        ("promotion_flag", 1.0, (0.0, 0.0, 0.0), "a recent promotion"),
        ("promotion_flag", 0.0, (0.0, 0.0, 0.0), "no recent promotion"),
        ("department_code", 3.0, None, "the department (code 3)"),
        ("tenure", nan, (1.0, 2.0, 3.0), "the missing tenure"),
        ("tenure", 9.0, None, "a medium tenure (9 months)"),
    ],
)
def test_values_have_names(name, value, quartiles, words):
    """By the quartile that they lie in; missing and categories by themselves."""
    assert value_words(SCHEMA[name], value, quartiles) == words


def test_other_schemas_are_named_by_their_columns():
    """With labels of categories where there are some."""
    assert value_words(Feature(name="commute_km", kind="continuous"), 40.0, (1.0, 5.0, 9.0)) == "a high commute km (40)"
    assert value_words(Feature(name="remote", kind="binary"), 1.0, None) == "remote (yes)"
    assert value_words(Feature(name="remote", kind="binary"), 0.0, None) == "remote (no)"
    site = Feature(name="site_code", kind="category", categories={2: "Lyon"})
    assert value_words(site, 2.0, None) == "the site (Lyon)"
    assert value_words(site, 7.0, None) == "the site (code 7)"


def test_every_packaged_feature_but_the_category_has_a_phrase():
    """A new feature must get one."""
    assert set(SCHEMA.names) - set(PHRASES) == {"department_code"}


def part(feature, contribution, direction, words):
    return Contribution(feature, 1.0, contribution, direction, words)


def test_the_five_largest_become_sentences():
    """The first is the most, small ones are slight, a repeated direction is said, zeros are left out."""
    found = sentences(
        [
            part("work_hours", 1.0, "raises", "long weekly hours (58 hours per week)"),
            part("salary", -0.6, "lowers", "a high salary (90,000 per year)"),
            part("projects_count", 0.5, "raises", "many projects (9 projects)"),
            part("age", -0.1, "lowers", "a lower age (25 years)"),
            part("tenure", 0.0, "none", "a long tenure (99 months)"),
        ]
    )
    assert found == (
        "Long weekly hours (58 hours per week) raise the estimate most.",
        "A high salary (90,000 per year) lowers it.",
        "Many projects (9 projects) raise it as well.",
        "A lower age (25 years) lowers it slightly.",
    )
    many = [part("age", 1.0 / (n + 1), "raises", f"value {n}") for n in range(9)]
    assert len(sentences(many)) == 5


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (-3.25, "-3.2"), (999.96, "1000"), (1000.0, "1,000")])
def test_numbers(value, text):
    """At most one decimal, thousands apart."""
    assert number(value) == text
