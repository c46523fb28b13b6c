"""Exports: what they hold, and that they can be verified with nothing but a public key."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from attrition.errors import ConfigError, IntegrityError, PlatformError, UsageError
from attrition.governance.actions import Action
from attrition.governance.audit import AuditLog, Event, Outcome
from attrition.governance.audit_chain import Reason
from attrition.governance.audit_verify import main, verify_exports


@pytest.fixture
def log(tmp_path):
    with AuditLog.open(f"sqlite:///{tmp_path / 'a.db'}", signing_key=tmp_path / "audit.pem") as opened:
        yield opened


@pytest.fixture
def fill(log):
    def append(n):
        for number in range(n):
            log.append(Event(Action.TRAIN, f"Lauf {number} ü", Outcome.SUCCEEDED, details={"x": number / 3}))

    return append


@pytest.fixture
def public(log, tmp_path):
    path = tmp_path / "audit.pub"
    path.write_text(log.public_pem)
    return path


def reasons(verdicts):
    return [[(found.sequence, found.reason) for found in verdict.breaks] for verdict in verdicts]


def test_an_export_holds_every_event_as_recorded(log, fill, tmp_path):
    """A line each, after a first one with the signed head."""
    fill(5)
    exported = log.export(tmp_path / "out")
    path = tmp_path / "out" / "audit-000000000001-000000000005.jsonl"
    assert exported.path == str(path)
    assert (exported.first, exported.last, exported.n_bytes) == (1, 5, path.stat().st_size)
    opening, *events = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert opening["head"]["sequence"] == 5
    assert events == [record.to_dict() for record in log.records()]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_folder_gets_what_is_new(log, fill, tmp_path):
    """Month by month, nothing twice; the files together are the log."""
    assert log.export(tmp_path / "out") is None
    for n in (3, 0, 4, 1):
        fill(n)
        exported = log.export(tmp_path / "out")
        assert (exported is None) == (n == 0)
    paths = sorted((tmp_path / "out").iterdir())
    assert [path.stem[-12:] for path in paths] == ["000000000003", "000000000007", "000000000008"]
    verdicts = verify_exports(paths, {log.public_key}, [log.head()])
    assert reasons(verdicts) == [[], [], []]
    assert [(verdict.first, verdict.last, verdict.covered) for verdict in verdicts] == [(1, 3, 3), (4, 7, 7), (8, 8, 8)]


def test_files_and_addresses(log, fill, tmp_path):
    """A file by name, a range by its start, a folder by URI."""
    fill(5)
    assert log.export(tmp_path / "some" / "part.jsonl", first=4).first == 4
    (tmp_path / "remote").mkdir()
    address = (tmp_path / "remote").as_uri()
    assert log.export(address).last == 5
    assert log.export(address) is None
    assert log.export(address, first=6) is None
    (remote,) = (tmp_path / "remote").iterdir()
    assert reasons(verify_exports([tmp_path / "some" / "part.jsonl", remote], {log.public_key}))[0] == []
    with pytest.raises(UsageError, match="exists; an export is never replaced"):
        log.export(f"{address}/{remote.name}")


def test_an_export_is_never_replaced(log, fill, tmp_path):
    """Not even by the same."""
    fill(2)
    log.export(tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    with pytest.raises(UsageError, match="never replaced"):
        log.export(tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize("target", ["nothing://x", "abfss://"])
def test_addresses_of_no_storage(log, fill, target):
    """Are refused by name."""
    fill(1)
    with pytest.raises(UsageError, match=target.partition(":")[0]):
        log.export(target)


def test_a_place_that_cannot_be_written(log, fill, tmp_path):
    """Is the platform's fault, in one sentence."""
    fill(1)
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="cannot be"):
        log.export(tmp_path / "file" / "out")
    with pytest.raises(UsageError, match="first event: is 0"):
        log.export(tmp_path, first=0)


def test_another_log_does_not_continue_a_folder(log, fill, tmp_path):
    """Neither a shorter nor a rewritten one, nor one after a damaged file."""
    fill(3)
    log.export(tmp_path / "out")
    with AuditLog.open(f"sqlite:///{tmp_path / 'b.db'}", signing_key=tmp_path / "audit.pem") as other:
        for n in (1, 5):
            for _ in range(n):
                other.append(Event(Action.TRAIN, "other", Outcome.SUCCEEDED))
            with pytest.raises(IntegrityError, match="not the one whose events to 3"):
                other.export(tmp_path / "out")
    fill(1)
    (path,) = (tmp_path / "out").iterdir()
    path.write_bytes(b"x" + path.read_bytes())
    with pytest.raises(IntegrityError, match="is not intact"):
        log.export(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == [path]


def test_exports_that_do_not_belong_together(log, fill, tmp_path):
    """A file that is left out, given twice or in another order is named."""
    for _ in range(3):
        fill(2)
        log.export(tmp_path / "out")
    one, two, three = sorted((tmp_path / "out").iterdir())
    keys = {log.public_key}
    assert reasons(verify_exports([one, three], keys)) == [[], [(3, Reason.MISSING)]]
    assert reasons(verify_exports([one, one], keys)) == [[], [(3, Reason.REORDERED)]]
    assert reasons(verify_exports([two, one], keys)) == [[], [(5, Reason.REORDERED)]]
    kept = log.head()
    assert reasons(verify_exports([one, two], keys, [kept])) == [[], [(5, Reason.TRUNCATED)]]
    assert reasons(verify_exports([three], keys, [kept])) == [[]]


def test_events_behind_the_signed_end_are_named(log, fill, tmp_path):
    """They follow the chain, but nobody signed them."""
    fill(2)
    log.export(tmp_path / "short.jsonl")
    fill(1)
    log.export(tmp_path / "long.jsonl")
    opening = (tmp_path / "short.jsonl").read_bytes().splitlines(keepends=True)[0]
    events = (tmp_path / "long.jsonl").read_bytes().splitlines(keepends=True)[1:]
    (tmp_path / "x.jsonl").write_bytes(b"".join([opening, *events]))
    assert reasons(verify_exports([tmp_path / "x.jsonl"], {log.public_key})) == [[(3, Reason.UNSIGNED)]]


def test_a_key_that_is_not_trusted(log, fill, tmp_path):
    """Whoever can make a key can make an export."""
    fill(2)
    log.export(tmp_path / "out.jsonl")
    assert reasons(verify_exports([tmp_path / "out.jsonl"], {"00" * 32})) == [[(2, Reason.UNKNOWN_KEY)]]


def test_the_command_says_what_it_found(log, fill, public, tmp_path, capsys):
    """Exit codes 0 and 4; one line for people, or JSON."""
    fill(3)
    path = tmp_path / "out.jsonl"
    log.export(path)
    (tmp_path / "head.json").write_text(log.head().to_json())
    options = ["--public-key", str(public), "--head", str(tmp_path / "head.json")]
    assert main([str(path), *options]) == 0
    assert capsys.readouterr().out == f"{path}: intact, events 1 to 3\n"
    path.write_bytes(path.read_bytes().replace(b"Lauf 1", b"Lauf 7"))
    assert main([str(path), *options]) == 4
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: BROKEN",
        "  event 2: hash mismatch; its content is not what was recorded",
    ]
    assert main([str(path), *options, "--json"]) == 4
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["file"], row["intact"], row["breaks"][0]["sequence"]) == (str(path), False, 2)
    assert main([str(tmp_path / "absent"), *options]) == 4
    assert "No such file" in capsys.readouterr().err
    assert main([str(path), "--public-key", str(path)]) == 4
    with pytest.raises(SystemExit, match="2"):
        main([str(path)])


def test_verification_needs_no_database_and_no_library_of_the_project(log, fill, public, tmp_path):
    """Only the standard library, cryptography and rfc8785 are loaded; the database is gone."""
    fill(3)
    log.export(tmp_path / "out.jsonl")
    log.close()
    for path in tmp_path.glob("a.db*"):
        path.unlink()
    code = (
        "import runpy, sys\n"
        "sys.argv = ['audit_verify', *sys.argv[1:]]\n"
        "try: runpy.run_module('attrition.governance.audit_verify', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(tops - set(sys.stdlib_module_names) - set(sys.builtin_module_names)))"
    )
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", code, str(tmp_path / "out.jsonl"), "--public-key", str(public)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    intact, modules = done.stdout.splitlines()
    assert intact.endswith("intact, events 1 to 3")
    loaded = {name for name in json.loads(modules.replace("'", '"')) if not name.startswith(("_", "sitecustomize"))}
    assert {"attrition", "cryptography", "rfc8785"} <= loaded
    assert not loaded & {"sqlalchemy", "pydantic", "pyarrow", "numpy", "typer", "rich", "yaml", "ray", "mlflow"}


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}\n", b"[]\n", b"\xff\n", b'{"format":"attrition-audit-export/2"}\n']
)
def test_files_that_are_no_export(tmp_path, content):
    """Are broken from the start."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    assert reasons(verify_exports([path], set())) == [[(1, Reason.MALFORMED)]]
    with pytest.raises(ConfigError, match="cannot be read"):
        verify_exports([tmp_path], set())
