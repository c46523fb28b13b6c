"""The gRPC servers of Serve's replicas stay on the loopback interface."""

from __future__ import annotations

import pytest

from attrition.cluster.environment import local_environment
from attrition.cluster.loopback import keep_replicas_inside

VARIABLE = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"


class Server:
    """Remembers the address that it was told to bind."""

    def add_insecure_port(self, address):
        self.address = address
        return 1234


@pytest.mark.parametrize(
    ("asked", "bound"),
    [("[::]:0", "127.0.0.1:0"), ("10.0.0.7:5000", "10.0.0.7:5000"), ("127.0.0.1:0", "127.0.0.1:0")],
)
def test_every_interface_becomes_the_loopback(monkeypatch, asked, bound):
    """Named addresses stay; a second call of the hook changes nothing."""
    from ray._common import tls_utils

    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    monkeypatch.setattr(tls_utils, "add_port_to_grpc_server", tls_utils.add_port_to_grpc_server)
    keep_replicas_inside()
    keep_replicas_inside()
    server = Server()
    assert tls_utils.add_port_to_grpc_server(server, asked) == 1234
    assert server.address == bound


def test_a_ray_of_another_kind_is_reported(monkeypatch, caplog):
    """Workers start all the same."""
    from ray._common import tls_utils

    monkeypatch.delattr(tls_utils, "add_port_to_grpc_server")
    keep_replicas_inside()
    assert "reachable from outside" in caplog.text


def test_every_worker_of_a_local_ray_is_told(tmp_path):
    """By the name of a function that exists, in the variable that this Ray reads."""
    from ray._common.utils import load_class
    from ray._private import ray_constants

    assert ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR == VARIABLE
    assert load_class(local_environment(tmp_path, serving=False)[VARIABLE]) is keep_replicas_inside
