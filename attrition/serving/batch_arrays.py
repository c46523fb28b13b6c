"""Arrow arrays from numpy and from Python and back, buffer by buffer.

``pyarrow.array``, ``pyarrow.scalar`` and ``Array.to_numpy`` do the same, but import pandas to find out whether
they were given one of its objects: half a second and 40 MB in every worker.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from numpy.typing import NDArray


def doubles(values: NDArray[np.float64]) -> pa.Array:
    """The same numbers without a copy; NaN stays NaN."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.float64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def to_doubles(column: pa.Array) -> NDArray[np.float64]:
    """The numbers of a float64 array, null as NaN; read-only."""
    from pyarrow import compute

    # an element of an array: pyarrow.scalar of a NaN would ask pandas whether it is null
    filled = compute.coalesce(column, doubles(np.array([np.nan]))[0]) if column.null_count else column
    data = filled.buffers()[1]
    if data is None:
        return np.empty(0)
    return np.frombuffer(data, np.float64)[filled.offset : filled.offset + len(filled)]


def booleans(values: NDArray[np.bool_]) -> pa.Array:
    """The same truth values."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def ascii_texts(values: Sequence[str | None]) -> pa.Array:
    """The same texts, None as null.

    Parameters
    ----------
    values
        ASCII only, together less than 2 GiB.
    """
    import pyarrow as pa

    lengths = (0 if value is None else len(value) for value in values)
    offsets = np.fromiter(accumulate(lengths, initial=0), np.int32, len(values) + 1)
    known = np.fromiter((value is not None for value in values), np.bool_, len(values))
    content = "".join(filter(None, values)).encode("ascii")
    buffers = [None if known.all() else _bits(known), pa.py_buffer(offsets), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def _bits(values: NDArray[np.bool_]) -> pa.Buffer:
    import pyarrow as pa

    return pa.py_buffer(np.packbits(values, bitorder="little"))
