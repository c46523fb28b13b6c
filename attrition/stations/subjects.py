"""Subjects of audit events that stations share."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit


def file_subject(what: str, path: str | Path) -> str:
    """A file as the subject of an audit event: its name, without what could forge a line of a listing."""
    # an address may hold a secret before its path and behind it
    name = Path(urlsplit(str(path)).path if "://" in str(path) else path).name
    return f"{what} {''.join(c if c.isprintable() else '?' for c in name)}"[:256]
