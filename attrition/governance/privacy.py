"""Pseudonyms: what stands in for an employee's number everywhere behind the import of an extract.

A pseudonym is a keyed hash. Whoever lacks the key can neither invert it nor confirm a guess by hashing all employee
numbers; whoever has the key can join a later extract or an outcome to an earlier prediction. The key therefore lives
outside the tables, and destroying it makes every table anonymous in one stroke.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import stat
import tempfile
import unicodedata
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from attrition.errors import ConfigError, Fault

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32
"""Length of a key, in bytes: that of the hash, the longest that adds strength (RFC 2104, section 3)."""
PSEUDONYM_LENGTH = 32
"""Hexadecimal digits of a pseudonym: 128 bits, so a clash among a billion persons has probability below 1e-20."""

_PERSON = b"attrition/employee\x00"
_SHA256_BLOCK = 64
_KEY_ID = b"attrition/key-id\x00"

logger = logging.getLogger(__name__)


class PseudonymKey:
    """The secret that turns employee ids into pseudonyms. Never printed, never stored in a table.

    Parameters
    ----------
    secret : bytes of length 32
        Random; see :meth:`load_or_create`.

    Raises
    ------
    ConfigError
        `secret` has another length.

    Examples
    --------
    >>> key = PseudonymKey.from_hex("00" * 32)
    >>> key.pseudonym("E004217") == key.pseudonym(" E004217 ")
    True
    >>> key
    PseudonymKey(key_id='42a9b79a')
    """

    __slots__ = ("_inner", "_outer", "_secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ConfigError(Fault("pseudonym key", f"has {len(secret)} bytes", f"{KEY_BYTES} are needed"))
        self._secret = secret
        # HMAC (RFC 2104) hashes the key before every message; these are the states after that, copied per id, because
        # a thousand ids cost 0.6 instead of 1.8 ms of a scoring request
        block = secret.ljust(_SHA256_BLOCK, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block) + _PERSON)
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block))

    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        return type(self), (self._secret,)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Key from 64 hexadecimal digits, as in a key file or a mounted secret.

        Raises
        ------
        ConfigError
            `text` is anything else; the message does not repeat it.
        """
        try:
            return cls(bytes.fromhex(text.strip()))
        except ValueError as error:
            raise ConfigError(
                Fault("pseudonym key", "is not hexadecimal", f"{2 * KEY_BYTES} digits are needed")
            ) from error

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """Key in the file at `path`; a new random one is written there when there is none.

        The file gets mode 0600 and its folder, when it is created, 0700. Processes that start at the same moment end
        up with the same key: the file appears complete or not at all, and the first one wins.

        Raises
        ------
        ConfigError
            The file cannot be read or written, or does not hold a key. A damaged file is never replaced: a new key
            would silently cut all earlier pseudonyms off.
        """
        try:
            if not path.exists():
                _create(path)
            text = path.read_text(encoding="ascii", errors="replace")
            exposed = stat.S_IMODE(path.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH)
        except OSError as error:
            raise ConfigError(
                Fault(
                    str(path),
                    f"the pseudonym key cannot be read or created ({error.strerror})",
                    "",
                    "check ATTRITION_KEY_FILE",
                )
            ) from error
        if exposed:
            logger.warning("%s can be read by every user of this machine; chmod 600 it", path)
        try:
            return cls.from_hex(text)
        except ConfigError as error:
            raise ConfigError(
                Fault(
                    str(path),
                    "does not hold a pseudonym key",
                    f"{2 * KEY_BYTES} hexadecimal digits are expected",
                    "restore it from the backup; a new key cannot be joined with earlier predictions",
                )
            ) from error

    def pseudonym(self, employee_id: str) -> str:
        """Pseudonym of a person, 32 lower-case hexadecimal digits; the same for the same id and key, always.

        Parameters
        ----------
        employee_id
            As in the extract; surrounding blanks and the Unicode composition do not matter, upper and lower case do.
        """
        text = employee_id.strip()
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update((text if text.isascii() else unicodedata.normalize("NFC", text)).encode())
        outer.update(inner.digest())
        return outer.hexdigest()[:PSEUDONYM_LENGTH]

    @property
    def key_id(self) -> str:
        """Short public digest that tells two keys apart, without telling anything about the key."""
        return hmac.digest(self._secret, _KEY_ID, sha256).hex()[:8]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PseudonymKey) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.key_id)

    def __repr__(self) -> str:
        return f"PseudonymKey(key_id={self.key_id!r})"


def _create(path: Path) -> None:
    """Write a new key beside `path` and link it there, unless another process was faster."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # mkstemp: mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)  # noqa: PTH108 (the name is a str of mkstemp)
