"""The gRPC servers of Serve's replicas stay on the loopback interface."""

from __future__ import annotations

import pytest

from attrition.cluster.loopback import keep_replicas_inside


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
