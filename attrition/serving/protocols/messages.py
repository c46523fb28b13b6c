"""What goes into a protocol and what comes out, without the server that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request.

    Attributes
    ----------
    method : str
    path : str
        Below the application's prefix.
    headers : mapping of bytes to bytes
        By lower-case name.
    body : bytes
        Without a content encoding; empty unless the method is POST.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes = b""

    @property
    def media_type(self) -> str:
        """Media type of the body in lower case, without parameters; empty when the header is missing."""
        return self.headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower().decode("latin-1")

    @property
    def charset(self) -> str:
        """Character set that the header announces, in lower case; ``utf-8`` when it announces none."""
        for parameter in self.headers.get(b"content-type", b"").lower().decode("latin-1").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip() == "charset":
                return value.strip().strip('"')
        return "utf-8"

    @property
    def is_json(self) -> bool:
        """The body is announced as JSON by any of its names, or not announced."""
        kind = self.media_type
        return kind in {"", "application/json"} or (kind.startswith("application/") and kind.endswith("+json"))


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP response.

    Attributes
    ----------
    status : int
    body : bytes
    content_type : bytes
    headers : tuple of (bytes, bytes)
        Beside content type and length.
    """

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
