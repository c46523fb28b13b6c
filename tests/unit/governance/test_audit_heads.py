"""Signed heads: who may sign, what a signature covers, and files that are none."""

from __future__ import annotations

import json
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from attrition.errors import ConfigError
from attrition.governance.audit_chain import GENESIS, Mark, Reason
from attrition.governance.audit_heads import Head, SigningKey, examine, key_id, public_key_file, read_public_key

TIME = "2026-01-31T12:00:00.000000Z"


@pytest.fixture
def key(tmp_path):
    return SigningKey.load_or_create(tmp_path / "keys" / "audit.pem")


@pytest.fixture
def head(key):
    return key.sign(Mark(7, "ab" * 32), TIME)


def reasons(head, trusted):
    believed, breaks = examine([head], trusted)
    assert len(believed) + len(breaks) == 1
    return [found.reason for found in breaks]


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    """Also by threads that start together."""
    path = tmp_path / "keys" / "audit.pem"
    with ThreadPoolExecutor(8) as pool:
        keys = {pool.submit(SigningKey.load_or_create, path).result().public_key for _ in range(8)}
    assert len(keys) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["audit.pem"]


def test_a_key_that_others_can_read_is_pointed_out(tmp_path, key, caplog):
    """It still works."""
    (tmp_path / "keys" / "audit.pem").chmod(0o644)
    SigningKey.load_or_create(tmp_path / "keys" / "audit.pem")
    assert "chmod 600" in caplog.text


def test_a_damaged_key_is_never_replaced(tmp_path):
    """Nor is one of another kind taken."""
    path = tmp_path / "audit.pem"
    other = generate_private_key(SECP256R1())
    for content in (b"", b"x", other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="holds no signing key"):
            SigningKey.load_or_create(path)
        assert path.read_bytes() == content
    with pytest.raises(ConfigError, match="cannot be read or created"):
        SigningKey.load_or_create(path / "below-a-file.pem")


def test_the_key_is_not_shown(tmp_path, key):
    """Its representation is that of the public half."""
    secret = (tmp_path / "keys" / "audit.pem").read_text().splitlines()[1]
    assert secret not in repr(key)
    assert key_id(key.public_key) in repr(key)


def test_a_genuine_head_is_believed(key, head):
    """By whoever trusts the key."""
    assert reasons(head, {key.public_key}) == []
    assert reasons(head, set()) == [Reason.UNKNOWN_KEY]


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 6},
        {"hash": "ac" * 32},
        {"time": "2026-01-31T12:00:00.000001Z"},
        {"public_key": "00" * 32},
        {"public_key": "zz"},
        {"signature": "00" * 64},
        {"signature": ""},
        {"signature": "no hex"},
    ],
)
def test_a_changed_head_is_forged(key, head, change):
    """Whatever was changed."""
    assert reasons(replace(head, **change), {key.public_key}) == [Reason.FORGED_HEAD]


def test_a_signature_has_one_spelling(key, head):
    """Otherwise a byte of an export could change without anybody noticing."""
    assert reasons(replace(head, signature=head.signature.upper()), {key.public_key}) == [Reason.FORGED_HEAD]


def test_a_head_signed_by_somebody_else(tmp_path, key):
    """Genuine, but not ours; and it does not help to claim our key."""
    other = SigningKey.load_or_create(tmp_path / "other.pem")
    head = other.sign(Mark(7, GENESIS), TIME)
    assert reasons(head, {key.public_key}) == [Reason.UNKNOWN_KEY]
    assert reasons(replace(head, public_key=key.public_key), {key.public_key}) == [Reason.FORGED_HEAD]


def test_heads_as_files(tmp_path, head):
    """Round trip; and what is no head is refused with one sentence."""
    path = tmp_path / "head.json"
    path.write_text(head.to_json())
    assert Head.from_file(path) == head
    document = head.to_dict()
    wrong = ["", "[]", "7", json.dumps({**document, "format": "other/1"}), json.dumps({**document, "more": 1})]
    for text in [*wrong, json.dumps({**document, "sequence": True}), "\xff", "[" * 100_000]:
        path.write_text(text, encoding="latin-1")
        with pytest.raises(ConfigError, match="it is no head of an audit log"):
            Head.from_file(path)
    with pytest.raises(ConfigError, match="No such file"):
        Head.from_file(tmp_path / "absent.json")


def test_public_keys_as_files(tmp_path, key):
    """PEM or hexadecimal digits; other kinds of keys are refused."""
    path = tmp_path / "audit.pub"
    for text in (key.public_pem, key.public_key, f"{key.public_key}\n"):
        path.write_text(text)
        assert public_key_file(path) == key.public_key
    other = generate_private_key(SECP256R1()).public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content in (b"", b"x", pem, b"\xff", (tmp_path / "keys" / "audit.pem").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="no Ed25519 public key"):
            public_key_file(path)
    with pytest.raises(ValueError):
        read_public_key("ab")


def test_other_tools_can_check_a_signature(tmp_path, key, head):
    """The documented bytes, verified by OpenSSL."""
    document = {name: value for name, value in head.to_dict().items() if name != "signature"}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    (tmp_path / "message").write_bytes(b"attrition/audit/head/1\x00" + text.encode())
    (tmp_path / "signature").write_bytes(bytes.fromhex(head.signature))
    (tmp_path / "pub").write_text(key.public_pem)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "pub", "-rawin", "-in", "message"]
    try:
        done = subprocess.run([*command, "-sigfile", "signature"], cwd=tmp_path, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no openssl on this machine")
    assert done.returncode == 0, done.stderr
