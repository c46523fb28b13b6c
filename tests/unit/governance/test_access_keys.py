"""API keys: made, stored as hashes, recognised, revoked."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from attrition.errors import AccessUnavailable, NotAuthenticated, NotFound, UsageError
from attrition.governance.access import Method
from attrition.governance.access_keys import KeyStore, check_key, key_reference, make_key, parse_key, vouchers


@pytest.fixture
def path(tmp_path):
    return tmp_path / "governance.db"


@pytest.fixture
def store(path):
    return KeyStore(f"sqlite:///{path}")


@pytest.fixture
def add(store, now):
    """Function that makes and stores a key."""

    def make(name="portal", role="scorer", days=None):
        made = make_key(name, role, created_by="lead", now=now, expires_at=days and now + timedelta(days=days))
        store.add(made.key)
        return made

    return make


def test_a_key_is_recognised(store, add, now):
    """As the principal that it was made for."""
    made = add()
    principal = store.authenticate(made.text, now)
    assert (principal.name, principal.roles) == ("portal", ("scorer",))
    assert principal.via == f"key {made.key.id}"
    assert principal.method is Method.KEY
    assert store.keys() == {made.key.id: made.key}


def test_the_secret_is_nowhere(store, add, path, now):
    """Neither in the database nor in what is printed of a key."""
    made = add()
    secret = parse_key(made.text)[1]
    assert secret.encode() not in path.read_bytes()
    assert secret not in repr(made) + repr(made.key) + str(made.key.to_dict(now))
    assert path.stat().st_mode & 0o077 == 0


def test_equal_secrets_have_different_hashes(now):
    """By their salt."""
    first, second = (make_key("a", "scorer", created_by="x", now=now).key for _ in range(2))
    assert first.salt != second.salt
    assert len(first.digest) == 32


def test_nearly_the_key(store, add, now):
    """Another secret, another id, another form."""
    made, other = add(), add("other")
    text = made.text
    changed = text[:-1] + ("A" if text[-1] != "A" else "B")
    swapped = f"attr_{other.key.id}_{parse_key(text)[1]}"
    for wrong in (changed, swapped, text.replace(made.key.id, "0" * 12)):
        with pytest.raises(NotAuthenticated, match="is not known"):
            store.authenticate(wrong, now)
    for wrong in ("", "attr_", text[:-1], text + "A", text.upper(), " " + text, text + "\n"):
        with pytest.raises(NotAuthenticated, match="has not the form of one") as caught:
            store.authenticate(wrong, now)
        assert parse_key(text)[1] not in str(caught.value)


def test_an_expired_key(store, add, now):
    """Is valid until the last second before, and told so only to who has it."""
    made = add(days=1)
    store.authenticate(made.text, now + timedelta(hours=23, minutes=59))
    with pytest.raises(NotAuthenticated, match=f"{made.key.id}: expired on 2026-05-05"):
        store.authenticate(made.text, now + timedelta(days=1))
    with pytest.raises(NotAuthenticated, match="is not known"):
        check_key(made.key, "x" * 43, now + timedelta(days=1))


@pytest.mark.parametrize("by_name", [True, False])
def test_a_revoked_key(store, add, now, by_name):
    """By name or id; it stays in the list, and to revoke it again changes nothing."""
    made = add()
    (revoked,) = store.revoke("portal" if by_name else made.key.id, now + timedelta(hours=1))
    assert revoked.state(now) == "revoked"
    with pytest.raises(NotAuthenticated, match="was revoked on 2026-05-04"):
        store.authenticate(made.text, now + timedelta(hours=2))
    assert store.revoke(made.key.id, now + timedelta(days=9)) == (revoked,)
    assert [key.state(now) for key in store.keys().values()] == ["revoked"]


def test_a_name_is_free_again_when_its_key_is_not_active(store, add, now):
    """So that a key can be replaced without another name."""
    add()
    with pytest.raises(UsageError, match="an active key has it"):
        add()
    store.revoke("portal", now)
    second = add()
    assert [key.id for key in store.revoke("portal", now + timedelta(days=1))] == [second.key.id]


def test_names_behind_a_key(now):
    """The nearest first, through revoked keys of the same name too; a circle ends."""

    def made(name, by):
        return make_key(name, "ml_lead", created_by=by, now=now).key

    keys = [made("lead", "root"), made("ada", "lead"), made("Eve", "ada"), made("lead", "eve"), made("root", "lead")]
    table = {key.id: key for key in keys}
    assert vouchers(table, keys[2].id) == ("ada", "lead", "root", "eve")
    assert vouchers(table, keys[0].id)[0] == "root"
    assert vouchers(table, "") == vouchers(table, "no-such-key") == ()


def test_a_name_is_taken_once_however_many_ask_at_once(path, now):
    """Looking and inserting is one step: of eight writers one gets the name."""
    url = f"sqlite:///{path}"
    KeyStore(url).keys()
    barrier = threading.Barrier(8)

    def add(_):
        store = KeyStore(url)
        barrier.wait()
        try:
            store.add(make_key("portal", "scorer", created_by="x", now=now).key)
        except UsageError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 1
    assert len(KeyStore(url).keys()) == 1


def test_every_key_of_a_name_is_revoked(store, add, now):
    """Also one that was made when the other had expired."""
    add(days=1)
    later = make_key("portal", "scorer", created_by="x", now=now + timedelta(days=2))
    store.add(later.key)
    assert len(store.revoke("portal", now + timedelta(days=2))) == 2
    assert {key.state(now) for key in store.keys().values()} == {"revoked"}


def test_an_unknown_key_cannot_be_revoked(store, add, now):
    """The active ones are named."""
    add()
    with pytest.raises(NotFound, match="active: portal"):
        store.revoke("portral", now)


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 101, "a\nb", "ä"])
def test_names_that_are_none(now, name):
    """They stand in headers of tables and in the audit log."""
    with pytest.raises(UsageError, match="name of a key"):
        make_key(name, "scorer", created_by="x", now=now)


def test_an_expiry_in_the_past(now):
    """Is a mistake."""
    with pytest.raises(UsageError, match="lies in the past"):
        make_key("a", "scorer", created_by="x", now=now, expires_at=now)


def test_two_processes_make_the_table(path, now):
    """Whoever comes first; the second sees what the first wrote."""
    first, second = KeyStore(f"sqlite:///{path}"), KeyStore(f"sqlite:///{path}")
    made = make_key("a", "scorer", created_by="x", now=now)
    first.add(made.key)
    assert list(second.keys()) == [made.key.id]


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all/x.db", "postgresql://user:hidden-word@127.0.0.1:{port}/x", "nonsense"]
)
def test_a_database_that_does_not_answer(url, unused_port, now):
    """Nobody gets in, and no password gets out."""
    with pytest.raises(AccessUnavailable) as caught:
        KeyStore(url.format(port=unused_port)).authenticate("attr_0123456789ab_" + 43 * "x", now)
    assert "ATTRITION_DATABASE_URL" in str(caught.value)
    assert "hidden-word" not in str(caught.value)
    if "127.0.0.1" in url:
        assert f"user:***@127.0.0.1:{unused_port}/x" in str(caught.value)


def test_a_database_that_is_none(path, now):
    """Some other file."""
    path.write_bytes(b"x" * 10_000)
    with pytest.raises(AccessUnavailable):
        KeyStore(f"sqlite:///{path}").keys()


def test_the_stored_form(store, add, path):
    """Golden: keys made by this version must be read by later ones."""
    made = add(days=1)
    with sqlite3.connect(path) as connection:
        row = connection.execute("select id, name, role, salt, digest, created_at, expires_at from api_keys").fetchone()
    connection.close()
    key = made.key
    assert row == (key.id, "portal", "scorer", key.salt, key.digest, 1_777_896_000_000_000, 1_777_982_400_000_000)


def test_a_key_is_named_by_its_id_wherever_it_is_written():
    """A leaked key is revoked by pasting it; it must not get into the audit log that way."""
    made = make_key("portal", "scorer", created_by="ada", now=datetime.now(UTC))
    assert key_reference(f" {made.text} ") == made.key.id
    assert key_reference("portal") == "portal"
    with pytest.raises(UsageError) as caught:
        key_reference(made.text[:40])
    assert made.text[18:40] not in str(caught.value)
