"""Request bodies that arrive compressed, unpacked no further than the limit allows."""

from __future__ import annotations

import zlib

from attrition.serving.protocols import problems

GZIP_NAMES = frozenset({b"gzip", b"x-gzip"})
"""Content encodings that are unpacked here."""

_MAX_MEMBERS = 64
"""Members in one body: each copies what follows it, so a megabyte of empty ones would cost seconds."""
_GZIP_WINDOW = 31  # zlib's word for: a gzip header and trailer around the largest window


def gunzip(body: bytes, max_bytes: int) -> bytes | problems.Problem:
    """The content of a gzip body, or why there is none.

    Unpacking stops one byte above `max_bytes`: a body of a few kilobytes that stands for gigabytes costs no more time
    and memory than an honest one of the largest size.

    Parameters
    ----------
    body
        One or several gzip members (RFC 1952) and nothing else.
    max_bytes
        Largest content.
    """
    content = b""
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            content += member.decompress(body, max_bytes + 1 - len(content))
        except zlib.error:
            return problems.malformed("the body is not what its content encoding gzip says")
        if len(content) > max_bytes:
            return problems.too_large(f"more than {max_bytes} bytes when unpacked; send several requests")
        if not member.eof:
            return problems.malformed("the gzip body ends too early")
        body = member.unused_data
        if not body:
            return content
    return problems.malformed(f"the gzip body has more than {_MAX_MEMBERS} members")
