"""Bring the HTTP endpoint up, ask about it, take it down: on whichever Ray there is.

The Ray is, in this order: the one that this process is connected to, the cluster at ``settings.ray_address``, the local
head in the background. :func:`up` starts the last when there is none.
"""

from __future__ import annotations

import contextlib
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from attrition.cluster.environment import LOOPBACK, is_taken
from attrition.cluster.local_head import find_local_head, has_died, start_local_head, stop_local_head
from attrition.cluster.ray_token import ray_token
from attrition.cluster.session import active_session, connect
from attrition.errors import ConfigError, Fault, PlatformError, PortInUse, RayUnreachable, ServingError, UsageError
from attrition.serving import changes
from attrition.serving.access_options import AccessOptions
from attrition.serving.config import APPLICATION, ServeConfig
from attrition.serving.control import ServeControl, ServeStatus, not_running
from attrition.serving.prediction_log import LogConfig
from attrition.serving.traffic import single_variant
from attrition.serving.traffic_history import ChangeOutcome, TrafficHistory, keep, last_generation, new_change

if TYPE_CHECKING:
    from collections.abc import Callable, Sized
    from pathlib import Path

    from attrition.registry.bundle import BundleRef
    from attrition.serving.traffic import Traffic
    from attrition.settings import Settings

logger = logging.getLogger(__name__)

_LOCAL_HOSTS = {"localhost", LOOPBACK, "::1"}


def up(
    settings: Settings,
    traffic: Traffic | Callable[[Traffic | None], Traffic],
    config: ServeConfig | str | Path = "local",
    *,
    actor: str = "",
) -> ServeStatus:
    """Serve `traffic` and return once every replica answers with it; a running endpoint is changed in place.

    Parameters
    ----------
    settings
        Where Ray is, and host and port of the endpoint.
    traffic
        Versions and weights; or a function that makes them of what is served already, None when nothing is. What it
        raises leaves everything as it was.
    config
        Serve configuration, by path or shipped name.
    actor
        Who asks for it, for the history of traffic; empty: the user that runs this process.

    Raises
    ------
    ConfigError
        The configuration names another application than ``settings.serve_application``.
    PortInUse
        Somebody else listens on the endpoint's port.
    ServingError
        A version cannot be loaded, or Serve does not become healthy.
    RayUnreachable
        Nothing answers at the configured Ray address.
    """
    if not isinstance(config, ServeConfig):
        config = ServeConfig.load(config)
    name = config.application.name
    if settings.serve_application not in {None, name}:
        found = f"the serve configuration names its application {name}"
        raise ConfigError(Fault("ATTRITION_SERVE_APPLICATION", f"is {settings.serve_application}, {found}"))
    access = AccessOptions.of(settings, config.application.args.access)
    with contextlib.ExitStack() as on_failure:
        control = find(settings)
        if control is None:
            stop_local_head(settings)  # what a killed one has left
            require_free_port(settings)
            made: list[Traffic] = []
            # the registry's client takes seconds to load: the head starts meanwhile
            head = start_local_head(settings, meanwhile=lambda: made.append(_made(traffic, lambda: None)))
            on_failure.callback(stop_local_head, settings)
            control, new = _control(settings, head.dashboard_url), made[0]
        else:
            new = _made(traffic, partial(control.traffic, name))
            _check_port(settings, control)
        # on a cluster clients come from other machines
        is_local = settings.serve_host in _LOCAL_HOSTS and settings.ray_address is None
        host = LOOPBACK if is_local else "0.0.0.0"  # noqa: S104
        history = TrafficHistory(settings.tables)
        started = time.monotonic()
        status = control.deploy(
            new,
            config,
            host=host,
            port=settings.serve_port,
            log=_prediction_log(settings, config),
            access=access,
            addresses=_addresses(settings),
            after_generation=_last_generation(history, name),
        )
        on_failure.pop_all()
    if access.mode == "open":
        remedy = "close it for anything but a trial: ATTRITION_ACCESS=closed"
        logger.warning("Access is open: whoever reaches %s may ask everything; %s", settings.serve_url, remedy)
    deployed = new.model_copy(update={"generation": status.generation})
    versions = " ".join(variant.version for variant in new.variants if variant.weight)
    seconds = time.monotonic() - started
    change = new_change(name, f"serve up {versions}", ChangeOutcome.APPLIED, deployed, seconds=seconds, actor=actor)
    keep(history, change)
    return status


def _made(traffic: Traffic | Callable[[Traffic | None], Traffic], live: Callable[[], Traffic | None]) -> Traffic:
    return traffic(live()) if callable(traffic) else traffic


def _addresses(settings: Settings) -> dict[str, str]:
    """Where the monitor finds what it reads.

    Everybody who may see the dashboard sees it, so an address with a password is left to the replica's environment.
    """
    found = {
        "home": str(settings.home),
        "tables": settings.tables,
        "tracking_uri": settings.tracking_uri,
        "audit_export": settings.audit_export,
    }
    public = {name: address for name, address in found.items() if "@" not in address or address.startswith("abfss:")}
    return {name: address for name, address in public.items() if address}


def _prediction_log(settings: Settings, config: ServeConfig) -> LogConfig | None:
    tuning = config.application.args.prediction_log
    return None if tuning is None else LogConfig.of(settings, **tuning.model_dump())


def wanted(
    live: Traffic | None, ref: str | None, export: Callable[[str], BundleRef], *, replace: bool = False
) -> Traffic:
    """The traffic that `serve up` makes of what is served already; nothing that somebody set up is dropped unasked.

    Parameters
    ----------
    live
        As served; None when nothing is.
    ref
        Version or alias that is to answer; None keeps `live`, and without it means the champion.
    export
        Exports a registered version and verifies it.
    replace
        Drop the split, pins and shadows of `live`.

    Raises
    ------
    UsageError
        `live` is more than one version, and `replace` is not given.
    NotFound, IntegrityError
        The version does not exist, or its bytes changed.
    """
    if live is not None and ref is None:
        return live
    bundle = export(ref or "champion")
    if live is None or replace:
        return single_variant(bundle)
    answering = [variant for variant in live.variants if variant.weight]
    if [variant.manifest_sha256 for variant in answering] == [bundle.manifest_sha256]:
        return live
    if len(answering) > 1 or live.pins or live.shadows:
        parts = [f"{v.version}={v.weight:.0%}" for v in answering]
        parts += [f"{len(kind)} {name}{'s' * (len(kind) > 1)}" for name, kind in _extras(live) if kind]
        raise UsageError(
            [
                Fault(
                    f"serve up {ref}",
                    f"would replace the traffic that is served: {', '.join(parts)}",
                    remedy=f"move the traffic and keep pins and shadows: attrition traffic switch {ref}",
                ),
                Fault("other ways", "keep all: attrition serve up", f"drop all: attrition serve up {ref} --replace"),
            ]
        )
    return changes.shift(live, [(bundle, 1.0)])


def _extras(traffic: Traffic) -> tuple[tuple[str, Sized], ...]:
    return ("pin", traffic.pins), ("shadow", traffic.shadows)


def application(settings: Settings, control: ServeControl) -> str:
    """Name of the application that this project means: the one of its settings, or the only one that runs.

    Raises
    ------
    ConfigError
        Several run, and the settings name none.
    RayUnreachable
        The dashboard does not answer.
    """
    if settings.serve_application is not None:
        return settings.serve_application
    names = control.applications()
    if len(names) > 1:
        raise ConfigError(
            Fault(
                f"Ray at {control.dashboard_url}",
                f"runs several attrition applications: {', '.join(names)}",
                remedy=f"name the one that is meant: ATTRITION_SERVE_APPLICATION={names[0]}",
            )
        )
    return names[0] if names else APPLICATION


def url(settings: Settings) -> str:
    """Base address of the endpoint with its route prefix; without it when there is no Ray nearby to be asked."""
    is_near = active_session() is not None or not settings.ray_address or "://" in settings.ray_address
    with contextlib.suppress(PlatformError, ConfigError):
        control = find(settings) if is_near else None
        if control is not None:
            return control.status(application(settings, control)).url
    return settings.serve_url


def status(settings: Settings) -> ServeStatus:
    """What is served and where; says so when there is no Ray at all.

    Raises
    ------
    ConfigError
        Several applications run, and the settings name none.
    RayUnreachable
        A Ray address is configured, and nothing answers there.
    """
    control = find(settings)
    if control is not None:
        return control.status(application(settings, control))
    died = settings.ray_address is None and has_died(settings)
    return not_running(settings.serve_url, "the local Ray has died; start it again" if died else "")


def down(settings: Settings) -> bool:
    """Remove the application, and the local head if there is one; False when nothing was served.

    Raises
    ------
    ConfigError
        Several applications run, and the settings name none.
    RayUnreachable
        A Ray address is configured, and nothing answers there.
    """
    control = find(settings)
    if control is None:
        return settings.ray_address is None and stop_local_head(settings)
    if active_session() is not None or settings.ray_address is not None:
        return control.remove(application(settings, control))
    with contextlib.suppress(RayUnreachable):
        # lets requests in flight finish; a head that no longer answers is stopped all the same
        names = control.applications()
        mine = settings.serve_application
        if mine is not None and set(names) - {mine}:
            return control.remove(mine)
        for name in names:
            control.remove(name)
    return stop_local_head(settings)


def find(settings: Settings) -> ServeControl | None:
    """Serve on the Ray that is there, or None.

    Raises
    ------
    RayUnreachable
        A Ray address is configured, and nothing answers there.
    ConfigError, PlatformError
        The Kubernetes API of the settings' RayService cannot be asked.
    """
    if settings.ray_service is not None:
        from attrition.cluster.ray_service import service_control

        return service_control(settings)
    session = active_session()
    if session is not None:
        return _control(settings, session.dashboard_url)
    if settings.ray_address is not None:
        if settings.ray_address.startswith(("http://", "https://")):
            return _control(settings, settings.ray_address)
        with connect(settings) as joined:
            return _control(settings, joined.dashboard_url)
    head = find_local_head(settings)
    return None if head is None else _control(settings, head.dashboard_url)


def _last_generation(history: TrafficHistory, name: str) -> int:
    try:
        return last_generation(history.changes(name))
    except PlatformError as error:  # an unreadable history must not keep anybody from serving
        logger.warning("%s", error)
        return -1


def _control(settings: Settings, dashboard_url: str) -> ServeControl:
    if not dashboard_url:
        raise ConfigError(
            Fault("Ray", "runs without its dashboard, which deploys applications", remedy="start it with the dashboard")
        )
    return ServeControl(dashboard_url, settings.serve_url, token=ray_token())


def _check_port(settings: Settings, control: ServeControl) -> None:
    """Refuse a port that Serve cannot take on a Ray that runs already."""
    port = control.port()
    if port is None:
        require_free_port(settings)
    elif port != settings.serve_port and settings.ray_address is None:
        raise ServingError(
            Fault(
                "Serve",
                f"listens on port {port} already, {settings.serve_port} is asked for",
                remedy="its port is fixed while it runs: `attrition serve down` first",
            )
        )


def require_free_port(settings: Settings) -> None:
    """Return when nobody listens on the endpoint's port.

    Raises
    ------
    PortInUse
        Somebody does.
    """
    if is_taken(settings.serve_host, settings.serve_port):
        raise PortInUse(
            Fault(
                f"port {settings.serve_port} on {settings.serve_host}",
                "another process listens there",
                remedy="stop it (attrition serve down, if it is ours), or take another port: ATTRITION_SERVE_PORT=8001",
            )
        )
