"""What a log says of an exception: where and what kind, never a value."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from ray._common.formatters import JSONFormatter, TextFormatter

from attrition.errors import Fault, PlatformError
from attrition.governance.traces import keep_values_out, trace


def fail_in_a_library():
    """A failure with another one behind it."""
    try:
        float("Sentinelius")
    except ValueError as error:
        raise PlatformError(Fault("table", "cannot be read")) from error


@pytest.fixture
def failed():
    with pytest.raises(PlatformError) as caught:
        fail_in_a_library()
    return caught.value


def test_kinds_places_and_our_own_words(failed):
    """In the order of Python's own trace, the first cause first."""
    text = trace(failed)
    assert "Sentinelius" in "".join(traceback.format_exception(failed))
    assert "Sentinelius" not in text.replace('float("Sentinelius")', "")  # a line of the source, not a value
    assert text.index("ValueError (its words") < text.index("direct cause") < text.index("attrition.errors.PlatformErr")
    assert text.endswith("PlatformError: table: cannot be read.")
    assert "in fail_in_a_library" in text


def test_what_the_system_says_is_kept():
    """It knows no persons, but the name of the file may be one's."""
    with pytest.raises(OSError, match="Sentinelius") as caught:
        Path("/Sentinelius.csv").read_bytes()
    assert trace(caught.value).endswith("FileNotFoundError: No such file or directory")


def test_an_exception_behind_itself():
    """No trace without an end."""
    first, second = ValueError("Sentinelius"), KeyError("Sentinelius")
    first.__context__, second.__context__ = second, first
    assert trace(first).count("are left out") == 2


@pytest.mark.parametrize("formatter", [logging.Formatter(), JSONFormatter(), TextFormatter()])
def test_handlers_of_every_kind(formatter, failed):
    """Python's own and Serve's two; a second request changes nothing."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    for _ in range(2):
        keep_values_out([handler])
    assert len(handler.filters) == 1
    handler.handle(logging.LogRecord("test", logging.ERROR, __file__, 1, "It failed", (), (type(failed), failed, None)))
    handler.handle(logging.LogRecord("test", logging.ERROR, __file__, 1, "It failed without a cause", (), None))
    written = stream.getvalue()
    if isinstance(formatter, JSONFormatter):
        written = json.loads(written.splitlines()[0])["exc_text"]
    assert "ValueError (its words" in written
    assert "float: 'Sentinelius'" not in written


def test_a_process_that_ends_by_an_error():
    """Python's own report would hold the value."""
    code = """
import threading
from attrition.governance.traces import report_without_values
report_without_values()
thread = threading.Thread(target=float, args=("Sent" + "inel",))
thread.start()
thread.join()
float("Sent" + "inel")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("ValueError (its words") == 2
    assert "Sentinel" not in done.stderr
