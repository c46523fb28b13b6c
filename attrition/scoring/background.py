"""The declared format ``attrition.background/1``: what an explanation needs of the training data, as statistics.

A scorer's files say what a model computes. To say how far each feature moved one prediction needs a point of
comparison, and that is a property of the training rows: for a linear model the mean contribution of each feature, for
an ensemble the training weight that reached each node. Both are sums over all rows; no row can be read from them.

The document is ``background.json``; for an ensemble ``covers.bin`` holds one float64 per node, little endian, in the
order of ``trees.bin``. The quartiles only choose words such as "long" or "high".
"""

from __future__ import annotations

from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from attrition.errors import Fault, IntegrityError, NotFound
from attrition.scoring.format import MAX_DOCUMENT_BYTES, MAX_TREES_BYTES, LinearDocument, TreesDocument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from attrition.scoring.format import Document

FORMAT = "attrition.background/1"
BACKGROUND_FILE = "background.json"
COVERS_FILE = "covers.bin"

Space = Literal["log_odds", "probability"]


class Background(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document."""

    format: str
    space: Space
    """What the raw score of the model is: the log-odds of leaving, or (forests) a probability, before calibration."""
    n_rows: int
    """Training rows behind the statistics."""
    mean_contributions: tuple[float, ...]
    """Of each feature of a linear model, in the unit of the raw score; empty for an ensemble."""
    n_nodes: int
    """Covers in ``covers.bin``; 0 for a linear model."""
    quartiles: tuple[tuple[float, float, float] | None, ...]
    """Of each feature over the rows that have it; None for categories and for features that no row had."""


class _Header(msgspec.Struct):
    format: str


def encode(background: Background, covers: NDArray[np.float64] | None = None) -> dict[str, bytes]:
    """The files, content by name; the same for the same statistics."""
    files = {BACKGROUND_FILE: msgspec.json.format(msgspec.json.encode(background), indent=1) + b"\n"}
    if covers is not None:
        files[COVERS_FILE] = covers.astype("<f8").tobytes()
    return files


def decode(files: Mapping[str, bytes], document: Document) -> tuple[Background, NDArray[np.float64]]:
    """The checked background of the model that `document` declares, and the covers of its nodes.

    Raises
    ------
    NotFound
        There are no files: the version was registered before explanations were stored with it.
    IntegrityError
        Not this format, or not of this model: another number of features or nodes, a number that is not finite, a
        cover that is not positive.
    """
    if BACKGROUND_FILE not in files:
        remedy = "train and register it again to get one that can be explained"
        raise NotFound(Fault(BACKGROUND_FILE, "this version was registered without it", remedy=remedy))
    data = files[BACKGROUND_FILE]
    if len(data) > MAX_DOCUMENT_BYTES:
        raise _refusal(BACKGROUND_FILE, [f"{len(data)} bytes, at most {MAX_DOCUMENT_BYTES} are allowed"])
    try:
        header = msgspec.json.decode(data, type=_Header)
        if header.format != FORMAT:
            raise _refusal(BACKGROUND_FILE, [f"format is {header.format[:80]!r}, this version reads {FORMAT}"])
        background = msgspec.json.decode(data, type=Background)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refusal(BACKGROUND_FILE, [str(error)]) from error
    faults = _faults(background, document)
    if faults:
        raise _refusal(BACKGROUND_FILE, faults)
    covers = files.get(COVERS_FILE, b"")
    if len(covers) != 8 * background.n_nodes or len(covers) > MAX_TREES_BYTES:
        raise _refusal(COVERS_FILE, [f"{len(covers)} bytes; {background.n_nodes} nodes take {8 * background.n_nodes}"])
    numbers = np.frombuffer(covers, "<f8")
    if not (np.isfinite(numbers) & (numbers > 0)).all():
        raise _refusal(COVERS_FILE, ["a cover is not positive"])
    return background, numbers


def _faults(background: Background, document: Document) -> list[str]:
    n_features = len(document.features)
    linear = isinstance(document, LinearDocument)
    means, n_nodes = background.mean_contributions, background.n_nodes
    expected_means = n_features if linear else 0
    expected_nodes = document.n_nodes if isinstance(document, TreesDocument) else 0
    faults = []
    if len(means) != expected_means or not all(isfinite(mean) for mean in means):
        faults.append(f"{len(means)} mean contributions; {expected_means} finite ones are expected")
    if n_nodes != expected_nodes:
        faults.append(f"{n_nodes} covers; the trees have {expected_nodes} nodes")
    if len(background.quartiles) != n_features:
        faults.append(f"{len(background.quartiles)} quartiles; there are {n_features} features")
    if any(q and (not all(map(isfinite, q)) or any(b < a for a, b in pairwise(q))) for q in background.quartiles):
        faults.append("quartiles must be finite and ascend")
    if background.n_rows < 1:
        faults.append(f"{background.n_rows} rows; at least one is expected")
    return faults


def _refusal(file: str, found: list[str]) -> IntegrityError:
    return IntegrityError([Fault(file, text, "", "register the version again") for text in found])
