"""What each worker of a local Ray does first: keep the sockets of Serve's replicas on the loopback interface.

A replica of Ray 2.60 opens a gRPC server for calls between deployments on every interface, ``[::]:0`` in so many words,
and unpickles what arrives there. Without Ray's token authentication whoever reaches that port runs code. No setting of
Ray's moves the server to another interface, so the function that binds it is replaced before Serve imports it.
"""

from __future__ import annotations

import logging
from functools import wraps
from typing import Any

logger = logging.getLogger(__name__)

EVERYWHERE = "[::]:"
"""How the addresses of all interfaces begin."""
INSIDE = "127.0.0.1:"


def keep_replicas_inside() -> None:
    """Make gRPC servers of this process that ask for every interface bind to 127.0.0.1; harmless when repeated.

    Ray calls it in every worker, through the variable that :mod:`attrition.cluster.environment` sets.
    """
    from ray._common import tls_utils

    bind = getattr(tls_utils, "add_port_to_grpc_server", None)
    if bind is None:
        logger.warning("this Ray binds its gRPC servers in another way; replicas may be reachable from outside")
        return

    @wraps(bind)
    def bind_inside(server: Any, address: str) -> Any:
        if address.startswith(EVERYWHERE):
            address = INSIDE + address.removeprefix(EVERYWHERE)
        return bind(server, address)

    tls_utils.add_port_to_grpc_server = bind_inside
