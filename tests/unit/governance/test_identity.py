"""Which ids are pseudonyms already, and what becomes of the others."""

from __future__ import annotations

import pytest

from attrition.errors import ConfigError
from attrition.governance.identity import Pseudonymiser, existing_key
from attrition.governance.privacy import PseudonymKey

KEY = PseudonymKey(bytes(range(32)))


@pytest.mark.parametrize("raw", ["E004217", " E004217 ", 4217, 4217.0, "4217"])
def test_a_raw_id_never_stays(raw):
    """The same pseudonym as in an extract, whatever the JSON type."""
    assert Pseudonymiser(KEY)(raw) == KEY.pseudonym(str(int(raw)) if isinstance(raw, float) else str(raw))


@pytest.mark.parametrize("known", ["0123456789abcdef" * 2, "0123456789abcdef" * 2 + "-2"])
def test_a_pseudonym_stays(known):
    """Also that of a repeated row without an id."""
    assert Pseudonymiser(KEY)(known) == known


@pytest.mark.parametrize("other", ["0123456789ABCDEF" * 2, "0123456789abcdef" * 2 + "0", "0" * 31, "0" * 32 + "-", ""])
def test_what_only_resembles_a_pseudonym_is_replaced(other):
    """Capitals and other lengths are no pseudonym's form."""
    assert Pseudonymiser(KEY)(other) == KEY.pseudonym(other)


def test_hashed_numbers_of_an_organisation_are_raw_ids():
    """When the configuration says that they look like pseudonyms."""
    number = "0123456789abcdef" * 2
    assert Pseudonymiser(KEY, "raw")(number) == KEY.pseudonym(number)


def test_nobody_stays_nobody():
    """A record without an id has no pseudonym."""
    assert Pseudonymiser(KEY)(None) is None


def test_a_replica_makes_no_key(tmp_path):
    """It says which file is missing."""
    with pytest.raises(ConfigError, match=r"pseudonym\.key: there is no pseudonym key"):
        existing_key(tmp_path / "pseudonym.key")
    assert not list(tmp_path.iterdir())
    PseudonymKey.load_or_create(tmp_path / "pseudonym.key")
    assert existing_key(tmp_path / "pseudonym.key") == existing_key(tmp_path / "pseudonym.key")


@pytest.mark.parametrize("form", ["auto", "raw"])
def test_many_ids_at_once(form):
    """Each as alone, whatever forms are mixed."""
    pseudonym = Pseudonymiser(KEY, form)
    texts = ["E-1", " E-1 ", "9f" * 16, "9f" * 16 + "-2", "9F" * 16, "Zoë", "x" * 128]
    for ids in (texts, [*texts, None, 7, 7.0], []):
        assert pseudonym.many(ids) == [pseudonym(employee_id) for employee_id in ids]
