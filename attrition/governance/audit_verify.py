"""Verify exports of the audit log offline: with the log's public key and nothing else of the project.

::

    python -m attrition.governance.audit_verify audit-000000000001-000000004711.jsonl --public-key audit.pub

Needs the standard library, ``cryptography`` and ``rfc8785``, but no database. An export is JSON Lines: one line with a
signed head and the place where the events begin, then one line per event. Every line is canonical JSON (RFC 8785), so
the head's signature vouches for each byte of the file. Exit code 0: it is what was recorded; 4: it is not, or a file
cannot be used.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from attrition.errors import ConfigError, Fault
from attrition.governance.audit_chain import GENESIS, Break, Mark, Reason, Verification, canonical, check_chain, parse
from attrition.governance.audit_heads import Head, examine, public_key_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import BinaryIO

FORMAT = "attrition-audit-export/1"
"""First word of an export; another number is another format."""

EXIT_BROKEN = 4

_MAX_LINE = 1_000_000  # bytes; an event has at most some 20,000
_is_hash = re.compile(r"[0-9a-f]{64}").fullmatch


@dataclass(frozen=True, slots=True)
class Opening:
    """First line of an export.

    Attributes
    ----------
    first : int, >= 1
        Sequence of the first event.
    previous : str
        Hash of the event before it.
    head : Head
        Of the last event. An export without events ends before it begins: ``head.sequence == first - 1``.
    """

    first: int
    previous: str
    head: Head

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {"format": FORMAT, "first": self.first, "previous": self.previous, "head": self.head.to_dict()}

    @classmethod
    def read(cls, file: BinaryIO) -> Self:
        """Opening of an export, whose events come next in `file`; the head's signature is not checked yet.

        Raises
        ------
        ValueError
            It is no export of this format.
        """
        line = _document(file.readline(_MAX_LINE))
        if set(line) != {"format", "first", "previous", "head"} or line["format"] != FORMAT:
            raise ValueError("no export of an audit log")
        first, previous = line["first"], line["previous"]
        if type(first) is not int or first < 1 or not isinstance(previous, str) or not _is_hash(previous):
            raise ValueError("an export that begins nowhere")
        return cls(first, previous, Head.from_dict(line["head"]))


def verify_exports(
    paths: Sequence[Path], public_keys: Collection[str], heads: Sequence[Head] = ()
) -> list[Verification]:
    """Whether each export is what was recorded, and continues the one before it.

    Parameters
    ----------
    paths
        In the order of the log.
    public_keys
        Trusted keys, 64 hexadecimal digits each.
    heads
        Heads that were kept elsewhere: the exports must agree with each of them, and must not end before one.

    Raises
    ------
    ConfigError
        A file cannot be read.
    """
    believed, breaks = examine(heads, public_keys)
    marks = [head.mark for head in believed]
    verdicts: list[Verification] = []
    after: Mark | None = None
    for number, path in enumerate(paths, start=1):
        try:
            with path.open("rb") as file:
                verdict = _verify(file, public_keys, marks, after, final=number == len(paths))
        except OSError as error:
            raise ConfigError(Fault(str(path), f"cannot be read ({error.strerror})")) from error
        verdicts.append(verdict)
        after = Mark(verdict.last, verdict.last_hash)
    if breaks and verdicts:
        verdicts[-1] = replace(verdicts[-1], breaks=(*verdicts[-1].breaks, *breaks))
    return verdicts


def _verify(
    file: BinaryIO, trusted: Collection[str], marks: Sequence[Mark], after: Mark | None, *, final: bool
) -> Verification:
    try:
        opening = Opening.read(file)
    except ValueError as error:
        begin = after or Mark(0, GENESIS)
        found = Break(begin.sequence + 1, Reason.MALFORMED, f"the first line of the file is not intact: {error}")
        return Verification(begin.sequence + 1, begin.sequence, begin.hash, 0, begin.sequence, (found,))
    end = opening.head.sequence
    believed, breaks = examine([opening.head], trusted)
    own = [head.mark for head in believed]
    known = [mark for mark in marks if final or mark.sequence <= end]  # an earlier file need not reach all heads
    if after is not None and opening.first == after.sequence + 1:
        known.append(after)
    check = check_chain(_events(file), [*own, *known], first=opening.first, previous=opening.previous)
    if after is not None and opening.first != after.sequence + 1:
        reason = Reason.MISSING if opening.first > after.sequence + 1 else Reason.REORDERED
        check = replace(check, found=Break(after.sequence + 1, reason, f"the file begins with event {opening.first}"))
    if check.found is None and check.last > end:
        found = Break(end + 1, Reason.UNSIGNED, f"the head of the file covers the events to {end} only")
        check = replace(check, found=found)
    return Verification.of(check, n_heads=len(believed), head_breaks=breaks, first=opening.first)


def _events(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The lines as documents; the first that is none is an empty one, and the last."""
    while line := file.readline(_MAX_LINE):
        try:
            yield _document(line)
        except ValueError:
            yield {}
            return


def _document(line: bytes) -> dict[str, Any]:
    document = parse(line)
    if not isinstance(document, dict) or canonical(document) + b"\n" != line:
        raise ValueError("not the canonical JSON of an object")
    return document


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m attrition.governance.audit_verify",
        description="Verify exports of an audit log offline.",
        epilog="Exit codes: 0 intact, 2 usage, 4 broken, or a file that cannot be used.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="exports, in the order of the log")
    parser.add_argument(
        "--public-key",
        metavar="KEY",
        required=True,
        action="append",
        type=Path,
        help="file of a public key that is trusted, as attrition audit key --out wrote it; may be repeated",
    )
    parser.add_argument(
        "--head",
        metavar="HEAD",
        action="append",
        type=Path,
        default=[],
        help="file of a head, or an export, that was kept elsewhere; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    given = parser.parse_args(arguments)
    try:
        keys = {public_key_file(path) for path in given.public_key}
        heads = [Head.from_file(path) for path in given.head]
        verdicts = verify_exports(given.files, keys, heads)
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 (a program of its own)
        return EXIT_BROKEN
    if given.json:
        rows = [{"file": str(path), **verdict.to_dict()} for path, verdict in zip(given.files, verdicts, strict=True)]
        print(json.dumps(rows, indent=2))  # noqa: T201
    else:
        for path, verdict in zip(given.files, verdicts, strict=True):
            print(describe(str(path), verdict))  # noqa: T201
    return 0 if all(verdict.intact for verdict in verdicts) else EXIT_BROKEN


def describe(name: str, verdict: Verification) -> str:
    """A verdict in one line, and one more for each break."""
    if not verdict.intact:
        return "\n".join([f"{name}: BROKEN", *(f"  {found}" for found in verdict.breaks)])
    if verdict.last < verdict.first:
        return f"{name}: intact, no events"
    covered = "" if verdict.covered == verdict.last else f" (signed to {verdict.covered})"
    return f"{name}: intact, events {verdict.first} to {verdict.last}{covered}"


if __name__ == "__main__":
    sys.exit(main())
