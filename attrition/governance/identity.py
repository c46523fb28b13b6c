"""Whose record it is: the rule that turns any employee id from outside an extract into a pseudonym.

Scoring requests and outcomes come from two kinds of callers. One has read the employee table and holds pseudonyms; the
other has the HR system's own numbers. Both mean the same person, so what has the form of a pseudonym is taken as one,
and everything else is replaced by its pseudonym. A number therefore never reaches a log or a table, whoever sends it.

The form is 32 lower-case hexadecimal digits, with a repetition mark for surrogate ids (``9f…-2``). An organisation
whose own numbers look like that (hashed ones, UUIDs without hyphens) says so with ``form="raw"``: then every id is
replaced, and callers must send the HR system's numbers only.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Literal, cast

from attrition.errors import ConfigError, Fault
from attrition.governance.privacy import PSEUDONYM_LENGTH, PseudonymKey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IdForm = Literal["auto", "raw"]
"""``auto`` recognises pseudonyms by their form; ``raw`` takes no id for a pseudonym."""

REPEAT_MARK = "-"
"""Between a surrogate id and the number of its repetition: ``…9f``, ``…9f-2``, ``…9f-3`` are rows of equal content."""

_is_pseudonym = re.compile(rf"[0-9a-f]{{{PSEUDONYM_LENGTH}}}(?:{REPEAT_MARK}[0-9]{{1,9}})?").fullmatch


class Pseudonymiser:
    """Function from an employee id, in whatever form a caller has it, to the pseudonym.

    Parameters
    ----------
    key
        The project's key, the one that extracts are imported with: another key means other persons.
    form
        Which ids are pseudonyms already.

    Examples
    --------
    >>> pseudonym = Pseudonymiser(PseudonymKey.from_hex("00" * 32))
    >>> pseudonym(4217) == pseudonym("4217") == pseudonym(pseudonym(4217.0))
    True
    """

    __slots__ = ("_form", "_key")

    def __init__(self, key: PseudonymKey, form: IdForm = "auto") -> None:
        self._key = key
        self._form = form

    def __call__(self, employee_id: str | float | None) -> str | None:
        """Pseudonym; None for a record without an id. A whole number may come as 7, 7.0 or "7"."""
        if employee_id is None:
            return None
        text = employee_id if isinstance(employee_id, str) else str(int(employee_id))
        if len(text) >= PSEUDONYM_LENGTH and self._form == "auto" and _is_pseudonym(text):
            return text
        return self._key.pseudonym(text)

    def many(self, employee_ids: Sequence[str | float | None]) -> list[str | None]:
        """Pseudonym of each id, as a call gives it, without most of a call's time."""
        if set(map(type, employee_ids)) != {str}:
            return list(map(self, employee_ids))
        pseudonym = self._key.pseudonym
        # a form that no text is long enough for
        shortest = PSEUDONYM_LENGTH if self._form == "auto" else sys.maxsize
        texts = cast("Sequence[str]", employee_ids)
        return [text if len(text) >= shortest and _is_pseudonym(text) else pseudonym(text) for text in texts]


def is_pseudonym(text: str) -> bool:
    """Whether a text has the form of a pseudonym."""
    return _is_pseudonym(text) is not None


def existing_key(path: Path) -> PseudonymKey:
    """The key at `path`, which must exist.

    A replica never makes a key of its own: with another one, none of its records could be joined with an outcome.

    Raises
    ------
    ConfigError
        There is no file, or it does not hold a key.
    """
    if not path.is_file():
        remedy = "mount the key that extracts are imported with, or name it in ATTRITION_KEY_FILE"
        raise ConfigError(Fault(str(path), "there is no pseudonym key", "", remedy))
    return PseudonymKey.load_or_create(path)
