"""Rows that are there twice: exact copies, blocks pasted again, and two accounts of one person on one day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from attrition.data.findings import Finding, Severity
from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attrition.data.employees import EmployeeTable

BLOCK_ROWS = 10
"""Consecutive rows that must repeat earlier consecutive rows, in the same order, to count as pasted. Ten independent
coincidences in a row do not happen, even in a coarse extract where every tenth row resembles another one."""
CONFLICT_SHARE = 0.01
"""Share of rows beyond which two accounts of one person and day are no slips but a wrong key."""

_ODD = np.uint64(0x9E3779B97F4A7C15)


def check_duplicates(table: EmployeeTable, raw: pd.DataFrame | None = None) -> list[Finding]:
    """Findings ``rows.duplicate``, ``rows.pasted_block`` and ``rows.conflicting``; :func:`without_repeats` mends them.

    Parameters
    ----------
    table
        As imported.
    raw
        All columns of the extract, where they are at hand: pasted blocks are looked for in them.
    """
    findings = []
    n_rows = len(table)
    n_repeated = int(table.repeated.sum())
    if n_repeated:
        message = (
            f"{n_repeated} rows repeat an earlier row in every column; they would be learned and tested on at once"
        )
        findings.append(Finding("rows.duplicate", Severity.WARNING, None, message, n_repeated, n_repeated / n_rows))
        blocks = pasted_blocks(_fingerprints(table, raw))
        n_pasted = sum(stop - start for start, stop in blocks)
        if blocks:
            first, last = blocks[0][0] + 1, blocks[-1][1]
            message = (
                f"{n_pasted} rows in {len(blocks)} block(s) between rows {first} and {last} copy earlier rows in "
                "the same order: the extract was pasted together"
            )
            findings.append(Finding("rows.pasted_block", Severity.WARNING, None, message, n_pasted, n_pasted / n_rows))
    n_conflicting = int(_conflicting(table).sum())
    if n_conflicting:
        severity = Severity.ERROR if n_conflicting / n_rows > CONFLICT_SHARE else Severity.WARNING
        message = f"{n_conflicting} rows are a second, different account of a person on the same day; a leaving counts"
        findings.append(Finding("rows.conflicting", severity, None, message, n_conflicting, n_conflicting / n_rows))
    return findings


def without_repeats(table: EmployeeTable) -> EmployeeTable:
    """Table with one row per person and snapshot date: exact copies dropped, conflicts settled.

    Of two accounts of one person on one day, the one that records the leaving counts, otherwise the earlier one. The
    rows that stay keep their order. Idempotent.
    """
    table = table.take(~table.repeated)
    return table.take(~_conflicting(table))


def pasted_blocks(fingerprints: NDArray[np.uint64], n_consecutive: int = BLOCK_ROWS) -> list[tuple[int, int]]:
    """Ranges [start, stop) of rows that repeat, in order, `n_consecutive` or more rows that stand further up.

    Parameters
    ----------
    fingerprints : ndarray of shape (n_rows,)
        Equal for equal rows.

    Examples
    --------
    >>> pasted_blocks(np.array([1, 2, 3, 4, 9, 1, 2, 3, 8], dtype=np.uint64), n_consecutive=3)
    [(5, 8)]
    """
    n_windows = len(fingerprints) - n_consecutive + 1
    if n_windows < 2:
        return []
    windows = np.zeros(n_windows, dtype=np.uint64)
    for shift in range(n_consecutive):
        windows = windows * _ODD + fingerprints[shift : shift + n_windows]  # modulo 2**64
    edges = np.zeros(len(fingerprints) + 1, dtype=np.int64)
    starts = np.flatnonzero(pd.Series(windows).duplicated().to_numpy())
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + n_consecutive, -1)
    covered = np.concatenate([[0], (np.cumsum(edges[:-1]) > 0).astype(np.int8), [0]])
    change = np.diff(covered)
    return [(int(a), int(b)) for a, b in zip(np.flatnonzero(change == 1), np.flatnonzero(change == -1), strict=True)]


def _fingerprints(table: EmployeeTable, raw: pd.DataFrame | None) -> NDArray[np.uint64]:
    frame = table.frame if raw is None else raw
    if table.surrogate_ids:  # the ids are made of the content, and a table without raw columns has nothing else
        frame = pd.DataFrame({"content": table.persons})
    return np.asarray(pd.util.hash_pandas_object(frame, index=False), dtype=np.uint64)


def _conflicting(table: EmployeeTable) -> NDArray[np.bool_]:
    """Mask of the rows that give way to another account of the same person on the same day; repeats are not counted."""
    if table.surrogate_ids:
        return np.zeros(len(table), dtype=bool)
    keys = table.frame[[EMPLOYEE_ID, SNAPSHOT_DATE]]
    position = np.arange(len(table))
    if table.has_target:
        position = np.lexsort((position, -table.target.astype(np.int64)))
    losing = keys.iloc[position].duplicated().to_numpy()
    mask = np.zeros(len(table), dtype=bool)
    mask[position[losing]] = True
    return mask & ~table.repeated
