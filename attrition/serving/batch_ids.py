"""Employee ids of a batch as pseudonyms: no raw id reaches the output, whatever the input calls its ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from attrition.data.schema import EMPLOYEE_ID
from attrition.errors import Fault
from attrition.governance.privacy import PSEUDONYM_LENGTH
from attrition.serving.batch_arrays import ascii_texts

if TYPE_CHECKING:
    import pyarrow as pa

    from attrition.governance.privacy import PseudonymKey

Ids = Literal["raw", "pseudonyms"]

PSEUDONYM = rf"^[0-9a-f]{{{PSEUDONYM_LENGTH}}}(-[0-9]+)?$"
"""What :class:`~attrition.governance.privacy.PseudonymKey` makes, and the number of a repeated surrogate."""

_ZERO, _A = np.uint8(ord("0")), np.uint8(ord("a"))  # unsigned: what lies below wraps round to above


class Identities:
    """Turns the ids of one partition into pseudonyms; counts what is missing or not what it was said to be.

    Parameters
    ----------
    key
        Of the pseudonyms.
    ids
        ``raw``: replaced by pseudonyms. ``pseudonyms``: they are that already, and are kept. None: raw, but refused
        when they look like pseudonyms, since a pseudonym of a pseudonym can be joined with nothing.
    """

    def __init__(self, key: PseudonymKey, ids: Ids | None) -> None:
        self.n_missing = 0
        self._key = key
        self._ids = ids
        self._n_rows = 0
        self._n_wrong = 0

    @property
    def sound(self) -> bool:
        """Whether the ids so far are what they were said to be."""
        return not self._n_wrong

    def of(self, ids: pa.Array | None, n_rows: int) -> pa.Array:
        """Pseudonym of each row, str; null where there is no id."""
        import pyarrow as pa

        self._n_rows += n_rows
        if ids is None:
            self.n_missing += n_rows
            return pa.nulls(n_rows, pa.string())
        text = _as_text(ids)
        self.n_missing += text.null_count
        if self._ids != "raw":
            n_pseudonyms = _count_pseudonyms(text)
            n_known = n_rows - text.null_count
            self._n_wrong += n_known - n_pseudonyms if self._ids == "pseudonyms" else n_pseudonyms
        return text if self._ids == "pseudonyms" or not self.sound else self._pseudonyms(text)

    def _pseudonyms(self, text: pa.Array) -> pa.Array:
        pseudonym = self._key.pseudonym
        return ascii_texts([None if each is None else pseudonym(each) for each in text.to_pylist()])

    def faults(self, where: str) -> list[Fault]:
        """What keeps the rows so far from being written."""
        if self.sound:
            return []
        column, share = f"{where}: column {EMPLOYEE_ID}", f"{self._n_wrong:,} of {self._n_rows:,} ids"
        if self._ids == "pseudonyms":
            return [Fault(column, f"{share} are no pseudonyms", "no raw id is written", "score them with ids raw")]
        remedy = "say ids pseudonyms to keep them as they are, or ids raw to replace them all the same"
        return [Fault(column, f"{share} look like pseudonyms already", "", remedy)]


def _count_pseudonyms(text: pa.Array) -> int:
    """How many ids look like pseudonyms; the two usual answers, none and all, without looking at each."""
    from pyarrow import compute

    lengths = compute.min_max(compute.binary_length(text))
    if lengths["max"].as_py() is None or lengths["max"].as_py() < PSEUDONYM_LENGTH:
        return 0
    if lengths["min"].as_py() == lengths["max"].as_py() == PSEUDONYM_LENGTH and not text.null_count:
        # all of one length and none null: the characters stand side by side
        start = int(np.frombuffer(text.buffers()[1], np.int32)[text.offset])
        data = np.frombuffer(text.buffers()[2], np.uint8)[start : start + len(text) * PSEUDONYM_LENGTH]
        if ((data - _ZERO < 10) | (data - _A < 6)).all():
            return len(text)
    return int(compute.sum(compute.match_substring_regex(text, PSEUDONYM)).as_py() or 0)


def _as_text(ids: pa.Array) -> pa.Array:
    """Ids as text; whole floats lose their ``.0``, so that 1318.0 and 1318 are one person."""
    import pyarrow as pa
    from pyarrow import compute, types

    if types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if types.is_floating(ids.type):
        # many a writer has NaN for a missing number; as text it would be one person
        ids = compute.if_else(compute.is_nan(ids), None, ids)
        if compute.all(compute.equal(ids, compute.round(ids))).as_py() is not False:
            ids = ids.cast(pa.int64())
    return ids.cast(pa.string())
