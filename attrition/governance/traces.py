"""What is said of an exception: its kind and its place, and the words of errors of our own only.

A library repeats in its exception what it could not read (``could not convert string to float: 'Miller'``), and where
that ends up in a log it stays for as long as logs are kept. So each trace that a process of ours writes goes through
this module; the errors of :mod:`attrition.errors` speak, since none of them holds a person's values.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import TYPE_CHECKING

from attrition.errors import AttritionError

if TYPE_CHECKING:
    from collections.abc import Iterable

_CAUSE = "\nThe direct cause of this:\n\n"
_CONTEXT = "\nWhile this was handled:\n\n"


def trace(error: BaseException) -> str:
    """The trace of an exception and of those behind it, as Python writes it, without what a foreign one says.

    Examples
    --------
    >>> print(trace(ValueError("could not convert string to float: 'Miller'")))
    ValueError (its words may hold a person's values and are left out)
    """
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        lines = traceback.format_tb(current.__traceback__)
        head = ["Traceback (most recent call last):\n"] if lines else []
        parts.append("".join([*head, *lines, _said(current), "\n"]))
        if current.__cause__ is not None:
            parts.append(_CAUSE)
            current = current.__cause__
        elif current.__context__ is not None and not current.__suppress_context__:
            parts.append(_CONTEXT)
            current = current.__context__
        else:
            current = None
    return "".join(reversed(parts)).rstrip("\n")


def _said(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, AttritionError):
        return f"{name}: {error}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name}: {error.strerror}"
    return f"{name} (its words may hold a person's values and are left out)"


class WithoutValues(logging.Filter):
    """Gives each message that has an exception the trace of :func:`trace`; for a handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything pass."""
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = trace(record.exc_info[1])  # which every formatter takes, when it is there
        return True


def keep_values_out(handlers: Iterable[logging.Handler]) -> None:
    """Let handlers write no values of persons from now on. Harmless when repeated."""
    for handler in handlers:
        if not any(isinstance(each, WithoutValues) for each in handler.filters):
            handler.addFilter(WithoutValues())


def log_to_stderr() -> None:
    """Write this process's messages from WARNING on to stderr, without values; where nothing was arranged before."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    keep_values_out(logging.getLogger().handlers)


def report_without_values() -> None:
    """Write exceptions that nobody catches in this process without values."""
    sys.excepthook = lambda _kind, error, _trace: _report(error)
    threading.excepthook = lambda arguments: _report(arguments.exc_value)


def _report(error: BaseException | None) -> None:
    if error is not None:
        print(trace(error), file=sys.stderr)  # noqa: T201 - in place of Python's own report
