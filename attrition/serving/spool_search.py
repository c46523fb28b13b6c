"""Find a prediction that a replica has answered and no committer has brought to the table yet."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from attrition.data.predictions import LoggedPrediction
from attrition.errors import IntegrityError
from attrition.serving.log_entries import Predictions, decode
from attrition.serving.spool import ACTIVE, SEALED, unframe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_SCANS = 3
"""Looks at the folders: a segment that is sealed between listing and reading has another name the next time."""


def find_in_spools(root: Path, prediction_id: str) -> LoggedPrediction | None:
    """The prediction in one of this node's spools, or None.

    Ask here before the table: a segment is deleted only after its rows are there, so that what is found in neither,
    in this order, was not logged on this node.

    Parameters
    ----------
    root
        Folder of the spools.
    """
    wanted = prediction_id.encode()
    for _ in range(_SCANS):
        vanished = False
        for path in _segments(root):
            try:
                data = path.read_bytes()
            except OSError:
                vanished = True
                continue
            # ids stand as text in an entry: most segments are dismissed without being decoded
            if wanted in data:
                found = _find(data, prediction_id)
                if found is not None:
                    return found
        if not vanished:
            return None
    return None


def _segments(root: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        for folder in root.iterdir():
            if not folder.name.startswith(".") and folder.is_dir():
                with contextlib.suppress(FileNotFoundError):
                    yield from [path for path in folder.iterdir() if path.suffix in {ACTIVE, SEALED}]


def _find(data: bytes, prediction_id: str) -> LoggedPrediction | None:
    try:
        payloads = unframe(data).payloads
    except IntegrityError:  # of another version; its committer says so
        return None
    for payload in payloads:
        if prediction_id.encode() not in payload:
            continue
        with contextlib.suppress(IntegrityError):
            entry = decode(payload)
            for group in entry.scored if isinstance(entry, Predictions) else ():
                if prediction_id in group.prediction_ids:
                    row = group.prediction_ids.index(prediction_id)
                    matrix = np.frombuffer(group.matrix, "<f8").reshape(-1, len(group.features))
                    return LoggedPrediction(
                        prediction_id=prediction_id,
                        version=group.version,
                        probability=float(np.frombuffer(group.probabilities, "<f8")[row]),
                        features=dict(zip(group.features, matrix[row].tolist(), strict=True)),
                    )
    return None
