"""Personal keys: one token per person while the key exists, and nothing to join it with afterwards."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from attrition.errors import PlatformError
from attrition.governance.persons import PersonKeys

ONE, OTHER = "1f" * 16, "2e" * 16


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'keys' / 'persons.db'}"


@pytest.fixture
def keys(url):
    store = PersonKeys.open(url)
    yield store
    store.close()


def test_a_token_is_the_same_until_the_key_is_destroyed(keys, url):
    """In another process, too; afterwards the same person has another one."""
    token = keys.token(ONE)
    code = f"from attrition.governance.persons import PersonKeys; print(PersonKeys.open({url!r}).token({ONE!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == token
    assert keys.destroy(ONE)
    assert not keys.knows(ONE)
    assert not keys.destroy(ONE)
    assert keys.token(ONE) != token


def test_a_token_tells_persons_apart_and_nothing_else(keys):
    """Neither the pseudonym nor its hash."""
    tokens = {keys.token(ONE), keys.token(OTHER)}
    assert len(tokens) == 2
    assert all(len(token) == 32 and token not in {ONE, OTHER} for token in tokens)


def test_asking_makes_no_key(keys):
    """Only a token needs one."""
    assert not keys.knows(ONE)
    assert not keys.destroy(ONE)
    assert not keys.knows(ONE)


def test_threads_that_ask_first_get_the_same_token(url):
    """One key wins."""
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: PersonKeys.open(url).token(ONE), range(16)))) == 1


def test_a_destroyed_key_is_not_in_the_file(keys, tmp_path):
    """SQLite would leave the bytes in a free page, and a write-ahead log would keep them, too."""
    keys.token(ONE)
    path = tmp_path / "keys" / "persons.db"
    connection = sqlite3.connect(path)
    ((secret,),) = connection.execute("SELECT secret FROM attrition_person_keys").fetchall()
    connection.close()
    assert secret in path.read_bytes()
    keys.destroy(ONE)
    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert secret not in left


def test_the_store_is_its_owners_and_lists_nobody(keys, tmp_path):
    """A pseudonym is not in it."""
    keys.token(ONE)
    path = tmp_path / "keys" / "persons.db"
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert ONE.encode() not in path.read_bytes()


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////proc/nowhere/persons.db"])
def test_a_store_that_cannot_be_opened(url):
    """A platform error that says which setting to look at."""
    with pytest.raises(PlatformError, match=r"person keys|ATTRITION_PERSON_KEYS_URL"):
        PersonKeys.open(url)


def test_a_store_that_stops_answering_says_so_without_the_person(keys, tmp_path):
    """The driver's message would quote the statement with its values."""
    path = tmp_path / "keys" / "persons.db"
    keys.close()
    path.write_bytes(b"no database any more" * 100)
    with pytest.raises(PlatformError, match="does not answer") as caught:
        keys.token(ONE)
    assert "attrition_person_keys" not in str(caught.value)
    assert caught.value.__cause__ is None
