"""Addresses of Ray that cannot work are refused quickly, without letting Ray at them."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import time

import pytest

from attrition.cluster.environment import environment, free_ports, is_taken, local_environment
from attrition.cluster.session import connect, probe, resolve
from attrition.errors import ConfigError, RayUnreachable
from attrition.settings import Settings


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8265", "ray://127.0.0.1:10001", "localhost", "127.0.0.1:", ":6379", "a:b", "local"]
)
def test_addresses_that_a_driver_cannot_join(address):
    """A dashboard, a Ray Client, half an address: each says what is allowed."""
    with pytest.raises(ConfigError, match="host:port"):
        resolve(address)


def test_auto_inside_a_job_is_the_jobs_cluster(monkeypatch):
    """Ray sets RAY_ADDRESS for what it runs."""
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    assert resolve("auto") == "10.0.0.7:6379"


def test_auto_without_a_cluster(monkeypatch, tmp_path):
    """Nothing was started on this machine."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(RayUnreachable, match="ray start --head"):
        resolve("auto")


def test_auto_finds_what_ray_start_recorded(monkeypatch, tmp_path):
    """The latest cluster of this machine."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:6379\n")
    assert resolve("auto") == "127.0.0.1:6379"


def test_nobody_listens(tmp_path):
    """A closed port is told at once, by the public entry too."""
    (port,) = free_ports(1)
    settings = Settings.from_environment({}, home=tmp_path, ray_address=f"127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(RayUnreachable, match=f"127.0.0.1:{port}.*refused"):
        connect(settings)
    assert time.monotonic() - started < 5


def test_an_unknown_host():
    """A name that does not resolve."""
    with pytest.raises(RayUnreachable):
        probe("no-such-host.invalid:6379")


@pytest.fixture
def silent():
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def website():
    """A port that speaks another protocol."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_arguments):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("other", ["silent", "website"])
def test_something_else_listens(other, request):
    """A port that is no Ray does not hang the command."""
    port = request.getfixturevalue(other)
    started = time.monotonic()
    with pytest.raises(RayUnreachable, match="no Ray"):
        probe(f"127.0.0.1:{port}", timeout_seconds=1.0)
    assert time.monotonic() - started < 5


def test_is_taken(silent):
    """What decides about PortInUse."""
    assert is_taken("127.0.0.1", silent)
    assert not is_taken("127.0.0.1", free_ports(1)[0])


def test_two_local_rays_share_neither_ports_nor_files(tmp_path):
    """Every port and path of one environment is absent from the other."""
    folders = [tmp_path / "one", tmp_path / "two"]
    ports = []
    for folder in folders:
        variables = local_environment(folder, serving=True)
        assert all(
            str(folder) in value
            for name, value in variables.items()
            if name.endswith(("_LOC", "_SOCKET_PATH", "_FILE"))
        )
        ports.append({value for name, value in variables.items() if name.endswith("_PORT") and "MAX" not in name})
    assert len(ports[0]) == 8


def test_replicas_get_two_hundreds_that_were_looked_at(monkeypatch, tmp_path):
    """HTTP and gRPC beside each other, below the ephemeral ports; a taken port on either side moves both."""
    looked_at = set()

    def taken(_host, port):
        looked_at.add(port)
        return port < 30_200 or port == 30_305  # an HTTP port of the first block, a gRPC port of the second

    monkeypatch.setattr("attrition.cluster.environment.is_taken", taken)
    monkeypatch.setattr("attrition.cluster.environment.random.shuffle", lambda _blocks: None)
    variables = local_environment(tmp_path, serving=True)
    http, grpc = (
        range(*(int(variables[f"RAY_SERVE_DIRECT_INGRESS_{end}_{kind}_PORT"]) for end in ("MIN", "MAX")))
        for kind in ("HTTP", "GRPC")
    )
    assert http[0] == 30_400
    assert grpc[0] == 30_500
    assert {*http[:10], *grpc[:10]} <= looked_at
    assert max(grpc) < 32_768


def test_without_haproxy_serve_falls_back(monkeypatch, tmp_path):
    """Where the wheel does not exist the fast ingress is not asked for."""
    monkeypatch.setattr("attrition.cluster.environment.find_spec", lambda _name: None)
    assert not any("HA_PROXY" in name for name in local_environment(tmp_path, serving=True))


def test_the_users_variables_win(monkeypatch, tmp_path):
    """A setting that somebody made on purpose is kept; a token switches authentication on."""
    monkeypatch.setenv("RAY_SERVE_HAPROXY_NBTHREAD", "4")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    variables = local_environment(tmp_path, serving=True)
    assert variables["RAY_SERVE_HAPROXY_NBTHREAD"] == "4"
    assert variables["RAY_AUTH_MODE"] == "token"


def test_environment_is_put_back(monkeypatch):
    """Also variables that were set before."""
    monkeypatch.setenv("ATTRITION_TEST_OLD", "old")
    monkeypatch.delenv("ATTRITION_TEST_NEW", raising=False)
    with environment({"ATTRITION_TEST_OLD": "x", "ATTRITION_TEST_NEW": "y"}):
        assert os.environ["ATTRITION_TEST_NEW"] == "y"
    assert os.environ["ATTRITION_TEST_OLD"] == "old"
    assert "ATTRITION_TEST_NEW" not in os.environ
