"""Problem documents: how every error of the HTTP interface looks (RFC 9457).

A problem is a value that the protocol functions return, not an exception: HTTP statuses exist only here, where the
process meets the world. A message names fields, limits and counts, never what a caller sent as a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

CONTENT_TYPE = b"application/problem+json"

MAX_ERRORS = 100
"""Field errors listed in one document; `n_errors` has the total."""


class FieldError(msgspec.Struct, frozen=True):
    """One bad field."""

    pointer: str
    """Where: an RFC 6901 JSON pointer into the request body, such as ``/records/3/age``."""
    detail: str
    """What is wrong and what is allowed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One failed request.

    Attributes
    ----------
    status
        HTTP status.
    kind
        Stable slug; the document's ``type`` is ``urn:attrition:problem:<kind>``.
    title
        What kind of problem it is, the same for every occurrence.
    detail
        What happened here and what to do.
    errors
        Every bad field found, for the statuses 400 and 422.
    headers
        Response headers that belong to the status, such as ``allow``.
    """

    status: int
    kind: str
    title: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        """The document."""
        document: dict[str, Any] = {
            "type": f"urn:attrition:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["n_errors"] = len(self.errors)
            document["errors"] = self.errors[:MAX_ERRORS]
        return msgspec.json.encode(document)


def pointer(*parts: str | int) -> str:
    """RFC 6901 pointer.

    Examples
    --------
    >>> pointer("records", 3, "a/b")
    '/records/3/a~1b'
    """
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def malformed(detail: str) -> Problem:
    """The body is not JSON."""
    return Problem(400, "malformed-body", "The body is not valid JSON", detail)


def invalid(errors: tuple[FieldError, ...], detail: str = "") -> Problem:
    """The body is JSON, its fields are not as the schema wants them."""
    n = len(errors)
    text = detail or f"{n} field{' is' if n == 1 else 's are'} not valid; nothing was scored"
    return Problem(422, "invalid-records", "Records do not fit the schema", text, errors)


def too_large(detail: str) -> Problem:
    """More than one request may hold."""
    return Problem(413, "too-large", "The request is too large", detail)


def unsupported(detail: str) -> Problem:
    """A content type or encoding that is not read here."""
    headers = ((b"accept", b"application/json"), (b"accept-encoding", b"gzip, identity"))
    return Problem(415, "unsupported-media-type", "The content type is not supported", detail, headers=headers)


def method_not_allowed(allowed: str) -> Problem:
    """The path exists, the method does not."""
    headers = ((b"allow", allowed.encode()),)
    return Problem(405, "method-not-allowed", "The method is not allowed", f"use {allowed}", headers=headers)


def not_ready(detail: str) -> Problem:
    """No version is loaded yet."""
    headers = ((b"retry-after", b"1"),)
    return Problem(503, "not-ready", "No model version is loaded", detail, headers=headers)


def variant_unavailable(detail: str) -> Problem:
    """The deployment of a placed variant does not answer; no other variant answers in its place."""
    headers = ((b"retry-after", b"1"),)
    return Problem(503, "variant-unavailable", "A model version cannot be reached", detail, headers=headers)


def overloaded(status: int, retry_after_s: int) -> Problem:
    """More requests at a time than a replica may have; by the status that the deployment is configured with."""
    headers = ((b"retry-after", str(retry_after_s).encode()),)
    return Problem(
        status, "overloaded", "Too many requests at a time", "ask again after the time named", headers=headers
    )


def timed_out(seconds: float) -> Problem:
    """The answer took longer than a request may take."""
    return Problem(408, "timeout", "The request took too long", f"there was no answer within {seconds:g} s")


def internal() -> Problem:
    """Our fault; the log has the trace, the caller gets no inner detail."""
    return Problem(500, "internal", "The request could not be answered", "the error was logged on the server")
