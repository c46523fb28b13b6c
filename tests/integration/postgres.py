"""A throwaway PostgreSQL on a random port of the loopback interface, from the binaries of this machine.

The fixtures stand in ``conftest.py``: ``postgres_url`` is the address of a new, empty database, with a password.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

USER, PASSWORD = "attrition", "not-a-secret"
START_SECONDS = 30


@dataclass(frozen=True)
class PostgresServer:
    port: int
    host: str = "127.0.0.1"

    def url(self, database: str = "postgres") -> str:
        """Address with the password, as ATTRITION_DATABASE_URL takes it."""
        return f"postgresql://{USER}:{PASSWORD}@{self.host}:{self.port}/{database}"

    def new_database(self) -> str:
        """Address of an empty database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


@contextlib.contextmanager
def throwaway_postgres(*, host="127.0.0.1", durable=False):
    """A running server that is gone with its data afterwards; skips where there is none to run.

    It listens at `host`, for the machines of its network. Only a `durable` one waits for the disk at each commit: for
    figures, not for tests.
    """
    binaries = _binaries()
    user = _unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="attrition-pg-"))  # pytest's folders are closed to other users
    process = None
    try:
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
        data = folder / "data"
        identity = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
        options = {**identity, "cwd": folder, "stdin": subprocess.DEVNULL}
        initdb = [binaries / "initdb", "-D", data, "-U", USER, "--auth=scram-sha-256", "-E", "UTF8", "--locale=C"]
        made = subprocess.run(
            [*initdb, f"--pwfile={folder / 'password'}", "--no-sync"],
            capture_output=True,
            text=True,
            check=False,
            **options,
        )
        if made.returncode:
            pytest.skip(f"initdb failed: {made.stderr.strip().splitlines()[-1]}")
        with (data / "pg_hba.conf").open("a") as access:
            access.write("host all all samenet scram-sha-256\n")
        port = _free_port(host)
        command = [binaries / "postgres", "-D", data, "-p", port, "-h", host, "-k", ""]
        command += ["-c", f"fsync={'on' if durable else 'off'}"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, **options)
        server = PostgresServer(port, host)
        _wait(server, process, folder / "log")
        yield server
    finally:
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGQUIT)  # at once: nobody needs the data any more
            process.wait(timeout=START_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))[::-1]
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip(
        "no PostgreSQL server on this machine (initdb and postgres are neither in PATH nor in /usr/lib/postgresql)"
    )


def _unprivileged_user() -> str | None:
    """Whom to run as: the server refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _wait(server: PostgresServer, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(server.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start:\n{log.read_text()}")
            time.sleep(0.1)
        else:
            return
