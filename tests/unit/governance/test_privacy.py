"""Pseudonym keys and pseudonyms."""

from __future__ import annotations

import hmac
import pickle
import stat
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest

from attrition.errors import ConfigError
from attrition.governance import privacy
from attrition.governance.privacy import KEY_BYTES, PseudonymKey


def test_a_new_key_is_written_for_the_owner_only(tmp_path):
    """File and folder keep everybody else out."""
    path = tmp_path / "keys" / "pseudonym.key"
    PseudonymKey.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_key_is_created_once(tmp_path):
    """A second load finds the first key and leaves nothing else behind."""
    path = tmp_path / "pseudonym.key"
    assert PseudonymKey.load_or_create(path) == PseudonymKey.load_or_create(path)
    assert [file.name for file in tmp_path.iterdir()] == ["pseudonym.key"]


def test_processes_that_start_together_agree_on_the_key(tmp_path):
    """Whoever is first wins."""
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(PseudonymKey.load_or_create, [tmp_path / "k"] * 16))
    assert len({key.pseudonym("E1") for key in keys}) == 1


@pytest.mark.parametrize("content", ["", "abc", "zz" * 32, "00" * 31])
def test_a_damaged_key_is_refused_and_not_replaced(tmp_path, content):
    """A new key would cut off every earlier pseudonym."""
    path = tmp_path / "pseudonym.key"
    path.write_text(content)
    with pytest.raises(ConfigError, match="does not hold a pseudonym key"):
        PseudonymKey.load_or_create(path)
    assert path.read_text() == content


def test_an_unreadable_place_is_named(tmp_path):
    """The message names the file and the variable that moves it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/k.*ATTRITION_KEY_FILE"):
        PseudonymKey.load_or_create(tmp_path / "file" / "k")


def test_the_key_never_shows():
    """Neither repr nor an error message repeats the secret."""
    secret = "ab" * 32
    key = PseudonymKey.from_hex(secret)
    assert secret not in repr(key)
    assert key.key_id in repr(key)
    with pytest.raises(ConfigError) as caught:
        PseudonymKey.from_hex("xy" * 32)
    assert "xyxy" not in str(caught.value)


def test_pseudonyms_are_pinned():
    """Golden value: another one would orphan every stored prediction."""
    assert PseudonymKey.from_hex("00" * 32).pseudonym("E004217") == "76aa4d7bf2c1227bbbe400e796803c5d"


def test_a_key_that_everybody_can_read_is_reported(tmp_path, caplog):
    """A warning, not a refusal: mounted secrets have modes of their own."""
    path = tmp_path / "pseudonym.key"
    PseudonymKey.load_or_create(path)
    path.chmod(0o644)
    PseudonymKey.load_or_create(path)
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize("employee_id", ["E004217", "7", "Zoë", "Zoe\u0308", "\u5f20\u4f1f", "x" * 500])
def test_a_pseudonym_is_the_hmac_of_the_standard_library(employee_id):
    """The precomputed states give what hmac gives (RFC 2104), before and after pickling."""
    key = PseudonymKey.from_hex("5a" * KEY_BYTES)
    message = privacy._PERSON + unicodedata.normalize("NFC", employee_id).encode()
    expected = hmac.new(bytes.fromhex("5a" * KEY_BYTES), message, "sha256").hexdigest()[:32]
    assert key.pseudonym(employee_id) == expected
    assert pickle.loads(pickle.dumps(key)).pseudonym(employee_id) == expected
