"""Feature rows of many requests as one message, and their probabilities as another.

A batch keeps apart what came in different requests, its *parts*, and a part is scored as it would have been in the
gateway: one record alone by ``score_one``, several as one matrix. The two differ by the rounding of one exponential,
and a matrix may be summed in another order than a larger one, so this is what makes the probabilities of a placed
variant equal to those in process bit for bit, whoever shared the batch.

The message: the number of parts, the rows of each part (0 for a record alone), then all rows; numbers are int64 and
float64, little endian, so everything is aligned and nothing is parsed. The answer is float64, one for each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from attrition.errors import Fault, ServingError
from attrition.serving.log_entries import doubles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attrition.scoring.scorer import Scorer

_WIDTH = 8
ALONE = 0
"""Length of a part that is one record alone."""


class Part(NamedTuple):
    """What one request sends to one variant."""

    rows: bytes
    """float64, row by row."""
    length: int
    """Rows, or `ALONE`."""

    @classmethod
    def of(cls, matrix: Sequence[float] | NDArray[np.float64]) -> Part:
        """The part of feature values: shape (n, n_features), or the plain sequence of one record's alone."""
        return cls(doubles(matrix), ALONE if isinstance(matrix, tuple | list) else len(matrix))

    @property
    def n_rows(self) -> int:
        """Probabilities that it gets."""
        return self.length or 1


def encode(parts: Sequence[Part]) -> bytes:
    """The message of some parts; none make a message that is answered by nothing."""
    lengths = np.array([len(parts), *(part.length for part in parts)], dtype="<i8")
    return b"".join((lengths.tobytes(), *(part.rows for part in parts)))


def score(scorer: Scorer, message: bytes) -> bytes:
    """The answer to a message.

    Raises
    ------
    ServingError
        The message is not one of rows that this scorer reads.
    """
    n_features = len(scorer.feature_names)
    n_parts = int(np.frombuffer(message, "<i8", 1)[0]) if len(message) >= _WIDTH else -1
    head = _WIDTH * (n_parts + 1)
    fits = n_parts >= 0 and head <= len(message)
    lengths: list[int] = np.frombuffer(message, "<i8", n_parts, _WIDTH).tolist() if fits else []
    n_rows = sum(length or 1 for length in lengths)
    if not fits or min(lengths, default=0) < 0 or len(message) != head + _WIDTH * n_rows * n_features:
        raise ServingError(Fault("batch of rows", "has another length than its parts", remedy="run one version of all"))
    rows = np.frombuffer(message, "<f8", offset=head).reshape(n_rows, n_features)
    probabilities = np.empty(n_rows, dtype="<f8")
    first = 0
    for length in lengths:
        if length == ALONE:
            probabilities[first] = scorer.score_one(rows[first].tolist())
            first += 1
        else:
            # a copy has the memory layout that the gateway's matrix has
            probabilities[first : first + length] = scorer.score(rows[first : first + length].copy())
            first += length
    return probabilities.tobytes()


def decode(answer: bytes, parts: Sequence[Part]) -> list[list[float]]:
    """Probabilities of each part, from the answer to its message.

    Raises
    ------
    ServingError
        The answer has another number of probabilities.
    """
    n_rows = sum(part.n_rows for part in parts)
    if len(answer) != _WIDTH * n_rows:
        raise ServingError(Fault("answer to a batch of rows", f"has {len(answer)} bytes for {n_rows} rows"))
    probabilities = np.frombuffer(answer, "<f8").tolist()
    found, first = [], 0
    for part in parts:
        found.append(probabilities[first : first + part.n_rows])
        first += part.n_rows
    return found
