"""Scorer documents are checked before they are used."""

from __future__ import annotations

import json

import pytest

from attrition.errors import IntegrityError
from attrition.scoring.format import FORMAT, SCORER_FILE, decode
from attrition.scoring.scorer import load_scorer


def _linear(**changes):
    document = {
        "kind": "linear",
        "format": FORMAT,
        "features": ["a", "b"],
        "output": {"kind": "logistic", "slope": 1.0, "intercept": 0.0},
        "intercept": 0.5,
        "numeric": [{"feature": 0, "weight": 2.0, "missing": 0.1}],
        "tables": [{"feature": 1, "codes": [1.0, 2.0], "values": [0.2, 0.3], "unknown": 0.0, "missing": 0.0}],
    }
    return json.dumps({**document, **changes}).encode()


def _trees(**changes):
    document = {
        "kind": "trees",
        "format": FORMAT,
        "features": ["a"],
        "output": {"kind": "identity"},
        "base": 0.0,
        "divisor": 1.0,
        "numeric": [{"feature": 0, "missing": "low"}],
        "tables": [],
        "n_nodes": 3,
        "n_trees": 1,
    }
    return json.dumps({**document, **changes}).encode()


def test_a_valid_document_is_read():
    """Both kinds."""
    assert decode(_linear()).intercept == 0.5
    assert decode(_trees()).n_nodes == 3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "truncated"),
        (b"{]", "malformed"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "object"),
        (b'{"kind": "linear"}', "format"),
        (_linear(format="attrition.scorer/99"), "attrition.scorer/99"),
        (_linear(kind="neural"), "neural"),
        (_linear(threshold=0.5), "threshold"),
        (_linear(intercept="0"), "intercept"),
        (_linear(intercept=None), "intercept"),
        (_linear(features=[]), "0 names"),
        (_linear(features=["a", "a"]), "different"),
        (_linear(numeric=[{"feature": 9, "weight": 1.0, "missing": 0.0}]), "feature 9"),
        (_linear(numeric=[{"feature": -1, "weight": 1.0, "missing": 0.0}]), "feature -1"),
        (_linear(numeric=[{"feature": 1, "weight": 1.0, "missing": 0.0}]), "two terms"),
        (_linear(numeric=[{"feature": 0, "weight": 1.0, "missing": 0.0, "code": "x"}]), "code"),
        (
            _linear(tables=[{"feature": 1, "codes": [1.0], "values": [], "unknown": 0.0, "missing": 0.0}]),
            "table of feature 1",
        ),
        (
            _linear(tables=[{"feature": 1, "codes": [1.0, 1.0], "values": [1.0, 2.0], "unknown": 0.0, "missing": 0.0}]),
            "table of feature 1",
        ),
        (_linear(output={"kind": "isotonic", "raw": [1.0, 0.0], "probability": [0.1, 0.2]}), "increase"),
        (_linear(output={"kind": "isotonic", "raw": [0.0, 1.0], "probability": [0.1, 1.2]}), "[0, 1]"),
        (_linear(output={"kind": "isotonic", "raw": [], "probability": []}), "0 raw scores"),
        (_linear().replace(b"0.5", b"1e999"), "finite|range"),
        (_linear().replace(b"0.5", b"NaN"), "malformed"),
        (_trees(divisor=0.0), "divisor"),
        (_trees(n_trees=0), "0 trees"),
        (_trees(n_nodes=10**12), "nodes"),
        (_trees(numeric=[{"feature": 0, "missing": "left"}]), "missing"),
        (
            _trees(tables=[{"feature": 0, "codes": [1.0], "values": [[0.0]], "unknown": [0.0], "missing": [0.0]}]),
            "both a number and a category",
        ),
        (
            _trees(
                numeric=[],
                tables=[{"feature": 0, "codes": [1.0], "values": [[0.0, 1.0]], "unknown": [0.0], "missing": [0.0]}],
            ),
            "equal length",
        ),
    ],
)
def test_anything_else_is_refused_and_the_reason_said(data, said):
    """With the error that says that bytes are not what they should be."""
    with pytest.raises(IntegrityError) as caught:
        load_scorer({SCORER_FILE: data})
    assert SCORER_FILE in str(caught.value)
    assert any(part in str(caught.value) for part in said.split("|"))


def test_all_faults_are_reported_at_once():
    """So that a broken exporter is repaired in one go."""
    data = _linear(features=["a", "a"], output={"kind": "isotonic", "raw": [], "probability": []})
    with pytest.raises(IntegrityError) as caught:
        decode(data)
    assert len(caught.value.faults) == 2


def test_a_document_beyond_the_limit_is_not_even_parsed(monkeypatch):
    """The limit is far above what a model needs."""
    monkeypatch.setattr("attrition.scoring.format.MAX_DOCUMENT_BYTES", 10)
    with pytest.raises(IntegrityError, match="at most 10 bytes"):
        decode(_linear())


def test_a_missing_file_is_named():
    """Of either kind."""
    with pytest.raises(IntegrityError, match=r"scorer\.json"):
        load_scorer({})
    with pytest.raises(IntegrityError, match=r"trees\.bin"):
        load_scorer({SCORER_FILE: _trees()})
