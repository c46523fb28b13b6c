"""Rows of many requests in one message: what is one and what is none."""

from __future__ import annotations

import pytest

from attrition.errors import ServingError
from attrition.scoring.format import FORMAT, LinearDocument, Logistic, NumericTerm
from attrition.scoring.linear import LinearScorer
from attrition.serving import row_batches
from attrition.serving.row_batches import Part

N_FEATURES = 5
SCORER = LinearScorer(
    LinearDocument(
        format=FORMAT,
        features=tuple("abcde"),
        output=Logistic(slope=1.0, intercept=0.0),
        intercept=0.1,
        numeric=tuple(NumericTerm(feature=i, weight=0.3 / (i + 1), missing=0.05 * i) for i in range(N_FEATURES)),
        tables=(),
    )
)


def test_booleans_are_numbers():
    """A decoded record may hold True where the matrix holds 1."""
    (found,) = row_batches.decode(
        row_batches.score(SCORER, row_batches.encode([Part.of((True, False, 1.0, 2.0, 3.0))])), [Part.of((1.0,) * 5)]
    )
    assert found == [SCORER.score_one((1.0, 0.0, 1.0, 2.0, 3.0))]


@pytest.mark.parametrize("change", [lambda m: m[:-1], lambda m: m[:4], lambda m: m + bytes(8), lambda _m: b"\xff" * 64])
def test_a_message_that_is_none(change):
    """Another number of features, a piece, or noise: refused, never scored as somebody else's row."""
    message = row_batches.encode([Part.of((1.0,) * N_FEATURES)])
    with pytest.raises(ServingError, match="batch of rows"):
        row_batches.score(SCORER, change(message))


def test_an_answer_that_is_none():
    """As many probabilities as rows, or it is refused."""
    with pytest.raises(ServingError, match="16 bytes for 1 rows"):
        row_batches.decode(bytes(16), [Part.of((1.0,))])
