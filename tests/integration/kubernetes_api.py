"""A throwaway Kubernetes API server with etcd, on random ports of the loopback interface; no kubelet, no controllers.

It stores, validates and watches objects as a cluster does, which is what `attrition cluster` talks to. There is no
package of it: ``kube-apiserver`` is built from its Go module (k8s.io/kubernetes/cmd/kube-apiserver) and found by
KUBE_APISERVER or on the PATH; etcd is Debian's package etcd-server.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

TOKEN = "not-a-secret"
START_SECONDS = 60


@contextlib.contextmanager
def throwaway_kubernetes(folder: Path):
    """Path of a kubeconfig whose user may do everything; skips where there is no server to run."""
    server = os.environ.get("KUBE_APISERVER") or shutil.which("kube-apiserver")
    etcd = shutil.which("etcd")
    if server is None or etcd is None:
        pytest.skip("no kube-apiserver (KUBE_APISERVER) or no etcd on this machine")
    peers, clients, secure = _ports(3)
    (folder / "tokens.csv").write_text(f'{TOKEN},tester,tester,"system:masters"\n')
    subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
    url = f"http://127.0.0.1:{clients}"
    commands = [
        [
            etcd,
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
            "--unsafe-no-fsync",
        ],
        [
            server,
            f"--etcd-servers={url}",
            f"--secure-port={secure}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={folder / 'certificates'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder / 'sa.key'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--disable-admission-plugins=ServiceAccount",  # its controller does not run here
        ],
    ]
    kubeconfig = folder / "kubeconfig"
    cluster = {"server": f"https://127.0.0.1:{secure}", "insecure-skip-tls-verify": True}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "tester", "user": {"token": TOKEN}}],
                "contexts": [
                    {"name": "test", "context": {"cluster": "test", "user": "tester", "namespace": "default"}}
                ],
                "current-context": "test",
            }
        )
    )
    with contextlib.ExitStack() as running:
        for command in commands:
            log = running.enter_context((folder / f"{Path(command[0]).name}.log").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            running.callback(_end, process)
        _await(f"https://127.0.0.1:{secure}/readyz", folder / "kube-apiserver.log")
        yield kubeconfig


def _await(url: str, log: Path) -> None:
    context = ssl._create_unverified_context()
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {TOKEN}"})
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, context=context, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"kube-apiserver does not become ready:\n{log.read_text()[-2000:]}")


def _end(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _ports(n: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
