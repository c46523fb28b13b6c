"""Errors: one tree, all faults at once, readable messages."""

from __future__ import annotations

import pickle

import pytest

from attrition import errors
from attrition.errors import AttritionError, ConfigError, Fault


def test_a_fault_is_one_sentence():
    """Empty parts leave no traces, stops are not doubled."""
    assert (
        str(Fault("a.yaml", "x is 2.", "0 to 1 is allowed", "correct it."))
        == "a.yaml: x is 2; 0 to 1 is allowed; correct it."
    )
    assert str(Fault("a.yaml", "x is 2")) == "a.yaml: x is 2."


def test_an_error_takes_a_sentence_a_fault_or_many():
    """The faults stay available as data."""
    assert str(ConfigError("plain")) == "plain"
    assert ConfigError("plain").faults == ()
    fault = Fault("a", "b")
    assert ConfigError(fault).faults == (fault,)
    assert str(ConfigError(Fault("a", str(i)) for i in range(2))) == "a: 0.\na: 1."


def test_long_lists_are_counted():
    """Ten lines are printed, all faults are kept."""
    error = ConfigError([Fault("a", str(i)) for i in range(25)])
    assert len(str(error).splitlines()) == 11
    assert str(error).endswith("... and 15 more.")
    assert len(error.faults) == 25


@pytest.mark.parametrize(
    "name", [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]
)
def test_every_error_descends_from_one_base_and_is_drawn(name):
    """The tree at the top of the module is complete."""
    assert issubclass(getattr(errors, name), AttritionError)
    assert name in errors.__doc__


def test_errors_survive_pickling():
    """They cross process boundaries in Ray."""
    error = pickle.loads(pickle.dumps(ConfigError("plain")))
    assert str(error) == "plain"
