"""Signed heads: what the log was at some moment, in a form that whoever can write to the database cannot make.

A hash chain alone shows no truncation, and no rewrite of the whole table with hashes computed anew. A head is the
number of events and the last hash, signed with Ed25519 (RFC 8032) by a key that lives outside the database. Kept
somewhere else, a head of 400 bytes vouches for every event up to its own.
"""

from __future__ import annotations

import binascii
import json
import logging
import re
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from attrition.errors import ConfigError, Fault
from attrition.governance.audit_chain import Break, Mark, Reason, canonical, parse
from attrition.governance.key_files import create_once, exposed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

FORMAT = "attrition-audit-head/1"
"""First word of a head; another number is another format."""

_DOMAIN = b"attrition/audit/head/1\x00"
_FIELDS = {"format": str, "sequence": int, "hash": str, "time": str, "public_key": str, "signature": str}
_MAX_HEAD = 10_000  # bytes; the line has some 500
_is_key = re.compile(r"[0-9a-f]{64}").fullmatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """A signed statement about the log.

    Attributes
    ----------
    sequence : int, >= 0
        Number of events, which is the sequence of the last one.
    hash : str
        Its hash, 64 hexadecimal digits.
    time : str
        When it was signed, UTC, ISO 8601.
    public_key : str
        Of the signer, 64 hexadecimal digits. Says who claims to have signed; whether that key is trusted is up to
        whoever verifies.
    signature : str
        Ed25519, 128 hexadecimal digits, over everything else.
    """

    sequence: int
    hash: str
    time: str
    public_key: str
    signature: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document, the one that head files and exports hold."""
        return {"format": FORMAT, **asdict(self)}

    def to_json(self) -> str:
        """Text of a head file."""
        return json.dumps(self.to_dict()) + "\n"

    @classmethod
    def from_dict(cls, document: Any) -> Self:
        """Head of a document; its signature is not checked yet.

        Raises
        ------
        ValueError
            Not a head of this format.
        """
        if not isinstance(document, dict) or {name: type(value) for name, value in document.items()} != _FIELDS:
            raise ValueError("no head of an audit log")
        if document["format"] != FORMAT:
            raise ValueError("a head of another format")
        return cls(**{name: value for name, value in document.items() if name != "format"})

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Head in a file that ``attrition audit head --out`` wrote, or in the first line of an export.

        Raises
        ------
        ConfigError
            The file cannot be read or holds no head.
        """
        try:
            with path.open("rb") as file:
                document = parse(file.readline(_MAX_HEAD))
            return cls.from_dict(document.get("head", document) if isinstance(document, dict) else None)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no head of an audit log"
            remedy = "give a file that attrition audit head --out or audit export wrote"
            raise ConfigError(Fault(str(path), f"cannot be used as a head ({why})", "", remedy)) from error

    @property
    def mark(self) -> Mark:
        """What the chain must show."""
        return Mark(self.sequence, self.hash)

    @property
    def key_id(self) -> str:
        """Short name of the signer's key."""
        return key_id(self.public_key)


class SigningKey:
    """The private key that signs heads. Never printed, never stored in the database.

    Parameters
    ----------
    private
        Ed25519 key; see :meth:`load_or_create`.
    """

    __slots__ = ("_private",)

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """Key in the PEM file at `path`; a new random one is written there, with mode 0600, when there is none.

        Raises
        ------
        ConfigError
            The file cannot be read or written, or holds no Ed25519 key. A damaged file is never replaced: heads of a
            new key do not vouch for what the old one signed.
        """
        try:
            if not path.exists():
                create_once(path, _pem(Ed25519PrivateKey.generate()))
            text = path.read_bytes()
            if exposed(path):
                logger.warning("%s can be read by every user of this machine; chmod 600 it", path)
        except OSError as error:
            found = f"the signing key of the audit log cannot be read or created ({error.strerror})"
            raise ConfigError(Fault(str(path), found, "", "check ATTRITION_AUDIT_KEY_FILE")) from error
        try:
            private = load_pem_private_key(text, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(_no_key(path)) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigError(_no_key(path))
        return cls(private)

    @property
    def public_key(self) -> str:
        """What verifies the signatures, 64 hexadecimal digits."""
        return self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    @property
    def public_pem(self) -> str:
        """The public key as PEM (RFC 8410), which other tools read."""
        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")

    def sign(self, mark: Mark, time: str) -> Head:
        """A head for the log that ends with `mark`, signed at `time`."""
        unsigned = Head(mark.sequence, mark.hash, time, self.public_key, "")
        return Head(mark.sequence, mark.hash, time, self.public_key, self.signature(_signed(unsigned)))

    def signature(self, message: bytes) -> str:
        """Ed25519 signature, 128 hexadecimal digits; `message` begins with a domain that says what it is."""
        return self._private.sign(message).hex()

    def __repr__(self) -> str:
        return f"SigningKey(key_id={key_id(self.public_key)!r})"


def key_id(public_key: str) -> str:
    """Short name of a public key: the first 16 hexadecimal digits of its SHA-256."""
    return sha256(public_key.encode()).hexdigest()[:16]


def read_public_key(text: str) -> str:
    """Public key of a PEM text, or one that is written as 64 hexadecimal digits.

    Raises
    ------
    ValueError
        `text` is neither.
    """
    if _is_key(text.strip()):
        return text.strip()
    try:
        public = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("no Ed25519 public key") from error
    if isinstance(public, Ed25519PublicKey):
        return public.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    raise ValueError("no Ed25519 public key")


def public_key_file(path: Path) -> str:
    """Public key in a file that ``attrition audit key --out`` wrote.

    Raises
    ------
    ConfigError
        The file cannot be read or holds no Ed25519 public key.
    """
    try:
        return read_public_key(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no Ed25519 public key"
        remedy = "give a file that attrition audit key --out wrote"
        raise ConfigError(Fault(str(path), f"cannot be used as a public key ({why})", "", remedy)) from error


def examine(heads: Iterable[Head], trusted: Collection[str]) -> tuple[list[Head], list[Break]]:
    """The heads that can be believed, and what is wrong with the others.

    Parameters
    ----------
    trusted
        Public keys, 64 hexadecimal digits each.
    """
    believed, breaks = [], []
    for head in heads:
        if not _genuine(head):
            detail = "the signature of the head does not fit what it says"
            breaks.append(Break(head.sequence, Reason.FORGED_HEAD, detail))
        elif head.public_key not in trusted:
            detail = f"the head of {head.time} is signed by key {head.key_id}, which is not among the trusted ones"
            breaks.append(Break(head.sequence, Reason.UNKNOWN_KEY, detail))
        else:
            believed.append(head)
    return believed, breaks


def is_signed(public_key: str, message: bytes, signature: str) -> bool:
    """Whether a key of 64 hexadecimal digits made a signature of 128 of them for these bytes."""
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        public.verify(binascii.unhexlify(signature), message)  # unlike bytes.fromhex it takes no blanks
    except (InvalidSignature, ValueError, TypeError):
        return False
    return signature == signature.lower()


def _genuine(head: Head) -> bool:
    try:
        message = _signed(head)
    except (ValueError, TypeError):  # a database may hold bytes where text belongs
        return False
    return is_signed(head.public_key, message, head.signature)


def _signed(head: Head) -> bytes:
    document = head.to_dict()
    del document["signature"]
    return _DOMAIN + canonical(document)


def _pem(private: Ed25519PrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _no_key(path: Path) -> Fault:
    allowed = "an Ed25519 private key in PEM is expected"
    return Fault(str(path), "holds no signing key of an audit log", allowed, "restore it from the backup")
