"""A throwaway Azurite (npm): Azure's Blob service on a random port of the loopback interface, in memory."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import pytest

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # every emulator's
START_SECONDS = 30


@dataclass(frozen=True)
class Azurite:
    port: int
    host: str = "127.0.0.1"
    account: str = ACCOUNT

    @property
    def environment(self) -> dict[str, str]:
        """What the object store of the tables reads, as it would Azure's own account and key."""
        return {
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURE_STORAGE_ACCOUNT_NAME": self.account,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURITE_BLOB_STORAGE_URL": f"http://{self.host}:{self.port}",
        }

    def new_container(self, name: str | None = None) -> str:
        """Name of an empty container."""
        name = name or f"test-{uuid.uuid4().hex[:12]}"
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        signed = "PUT" + "\n" * 12 + "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
        signed += f"/{self.account}/{self.account}/{name}\nrestype:container"
        digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"
        headers["Content-Length"] = "0"
        address = f"http://{self.host}:{self.port}/{self.account}/{name}?restype=container"
        with urllib.request.urlopen(urllib.request.Request(address, method="PUT", headers=headers), timeout=10):
            return name


@contextlib.contextmanager
def throwaway_azurite(folder: Path, *, host: str = "127.0.0.1", account: str = ACCOUNT):
    """A running emulator of an account, listening at `host`; skips where there is none to run."""
    cached = Path("~/.cache/attrition/node_modules/.bin/azurite-blob").expanduser()
    program = shutil.which("azurite-blob") or (str(cached) if cached.exists() else None)
    if program is None or shutil.which("node") is None:
        pytest.skip("no Azurite (npm install --prefix ~/.cache/attrition azurite)")
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = int(probe.getsockname()[1])
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{account}:{KEY}"}
    command = [program, "--blobHost", host, "--blobPort", str(port), "--location", str(folder)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--skipApiVersionCheck", "--disableTelemetry"], stdout=log, stderr=log, env=environment
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection((host, port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"Azurite did not start:\n{(folder / 'log').read_text()}")
                time.sleep(0.1)
        yield Azurite(port, host, account)
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)
