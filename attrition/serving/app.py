"""The Ray Serve application: ``import_path: attrition.serving.app:build`` in the YAML files under ``serve_configs``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from attrition.errors import ConfigError
from attrition.serving.access_options import AccessOptions
from attrition.serving.autoscaling import IN_FLIGHT
from attrition.serving.config import EXPLAINER, GATEWAY
from attrition.serving.explain_route import ExplainRoute
from attrition.serving.explainer import ExplainerReplica, ExplainOptions
from attrition.serving.fast_lane import FastLane, LaneOptions, MeanInFlight
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.lane_middleware import open_lane
from attrition.serving.logs import join_serve
from attrition.serving.metrics import RayExport
from attrition.serving.prediction_log import LogConfig, PredictionLog
from attrition.serving.protocols import explain
from attrition.serving.request_audit import RequestAudit
from attrition.settings import config_faults

if TYPE_CHECKING:
    from attrition.serving.gateway import ASGIApp
    from attrition.serving.protocols.explain import ExplainRequest
    from attrition.serving.protocols.problems import Problem

M = TypeVar("M", bound=BaseModel)


class GatewayReplica:
    """What Serve runs: a :class:`Gateway` with Serve's life cycle.

    Parameters
    ----------
    limits
        Fields of :class:`~attrition.serving.gateway.Limits`.
    prediction_log
        Fields of :class:`~attrition.serving.prediction_log.LogConfig`; None records nothing.
    access
        Fields of :class:`~attrition.serving.access_options.AccessOptions`.
    explainer
        Handle of the explainer's deployment; None: nothing is explained.
    explanations
        Fields of :class:`~attrition.serving.explainer.ExplainOptions`.
    fast_lane
        Fields of :class:`~attrition.serving.fast_lane.LaneOptions`; None leaves everything about a request to Serve.
    """

    def __init__(
        self,
        limits: dict[str, Any],
        prediction_log: dict[str, Any] | None,
        access: dict[str, Any] | None = None,
        explainer: Any = None,
        explanations: dict[str, Any] | None = None,
        fast_lane: dict[str, Any] | None = None,
    ) -> None:
        from ray import serve

        from attrition.registry.bundle import load_bundle
        from attrition.serving.placed import reach

        join_serve()
        context = serve.get_replica_context()
        self._log = None if prediction_log is None else PredictionLog(LogConfig.model_validate(prediction_log))
        access_options = AccessOptions.model_validate(access or {})
        self._access = access_options.check()
        self._audit = RequestAudit(access_options.database_url)
        route = None
        if explainer is not None:
            remote = RemoteExplainer(explainer, ExplainOptions.model_validate(explanations or {}))
            route = ExplainRoute(remote.ask, self._audit.explanation)
        self._gateway = Gateway(
            Limits.model_validate(limits),
            load_bundle,
            replica=context.replica_id.unique_id,
            log=self._log,
            access=self._access,
            explanations=route,
            record_outcomes=self._audit.outcomes,
            reach=partial(reach, context.app_name),
        )
        self._lane: FastLane | None = None
        mean_in_flight: MeanInFlight | None = None
        if fast_lane is not None:
            self._lane = FastLane(LaneOptions.model_validate(fast_lane), self._gateway)
            self._load = MeanInFlight(self._lane.in_flight)
            open_lane(self._lane)
            if self._lane.options.is_open:
                mean_in_flight = MeanInFlight(self._lane.in_flight)
        self._export = RayExport(self._gateway.meter, self._log, mean_in_flight)
        if self._log is not None:
            self._log.start()
        self._exporting: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Serve calls this after the constructor and before the first `reconfigure`."""
        return self._gateway

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve calls this with the traffic, at the start and at every change, while requests go on."""
        await self._gateway.reconfigure(user_config)
        if self._exporting is None:  # the constructor has no event loop of its own
            self._exporting = asyncio.create_task(self._export.run())

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve calls this now and then for the autoscaling policy: the requests that it does not see."""
        return {IN_FLIGHT: self._load()} if self._lane is not None and self._lane.options.is_open else {}

    def __del__(self) -> None:
        """Serve calls this when the last request is answered; what a killed replica leaves, the next one commits."""
        for name in ("_log", "_access", "_audit"):
            part = getattr(self, name, None)
            if part is not None:
                part.close()


class RemoteExplainer:
    """The explainer's deployment, as the gateway sees it.

    Parameters
    ----------
    handle
        Of the deployment.
    options
        How long it may take.
    """

    def __init__(self, handle: Any, options: ExplainOptions) -> None:
        self._handle = handle
        self._options = options

    async def ask(self, request: ExplainRequest, variants: list[dict[str, Any]]) -> bytes | Problem:
        """The answer, or the problem that nobody gives one in time."""
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        asked = self._handle.explain.remote(request, variants)
        try:
            answer: bytes | Problem = await asyncio.wait_for(asked, self._options.timeout_seconds)
        except (TimeoutError, BackPressureError, DeploymentUnavailableError, RayActorError):
            return explain.busy(self._options.retry_after_seconds)
        return answer


def build(args: dict[str, Any]) -> Any:
    """The application, for Serve's declarative deployment.

    Parameters
    ----------
    args
        Optional keys ``limits``, ``prediction_log``, ``access``, ``explanations`` and ``fast_lane``: the fields of
        :class:`~attrition.serving.gateway.Limits`, :class:`~attrition.serving.prediction_log.LogConfig`,
        :class:`~attrition.serving.access_options.AccessOptions`,
        :class:`~attrition.serving.explainer.ExplainOptions`, without which there is no explainer, and
        :class:`~attrition.serving.fast_lane.LaneOptions`. Weights and versions are not here but in ``user_config``:
        changing `args` restarts every replica, changing ``user_config`` restarts none.

    Raises
    ------
    ConfigError
        An unknown key or a limit out of range.
    """
    from ray import serve

    parsed = parse_args(args)
    # Serve's ingress without an argument takes the ASGI application from __serve_build_asgi_app__
    deployment = serve.deployment(name=GATEWAY)(serve.ingress()(GatewayReplica))
    log = parsed.prediction_log and parsed.prediction_log.model_dump(mode="json")
    common = parsed.limits.model_dump(), log, parsed.access.model_dump(mode="json")
    lane = parsed.fast_lane and parsed.fast_lane.model_dump()
    if parsed.explanations is None:
        return deployment.bind(*common, fast_lane=lane)
    options = parsed.explanations.model_dump()
    explainer = serve.deployment(name=EXPLAINER)(ExplainerReplica).bind(options, log)
    return deployment.bind(*common, explainer, options, fast_lane=lane)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The application's arguments, checked."""

    limits: Limits
    prediction_log: LogConfig | None
    access: AccessOptions
    explanations: ExplainOptions | None
    fast_lane: LaneOptions | None


def parse_args(args: dict[str, Any]) -> Arguments:
    """The application's arguments.

    Raises
    ------
    ConfigError
        An unknown key or a value out of range.
    """
    known = ("limits", "prediction_log", "access", "explanations", "fast_lane")
    unknown = sorted(set(args) - set(known))
    if unknown:
        raise ConfigError(f"args: unknown key {', '.join(unknown)}; allowed: {', '.join(known)}.")
    log, lane = args.get("prediction_log"), args.get("fast_lane")
    access, explanations = args.get("access") or {}, args.get("explanations")
    if access.get("mode") is None:
        access = {name: value for name, value in access.items() if name != "mode"}
    return Arguments(
        limits=_parse("limits", args.get("limits") or {}, Limits),
        prediction_log=None if log is None else _parse("prediction_log", log, LogConfig),
        access=_parse("access", access, AccessOptions),
        explanations=None if explanations is None else _parse("explanations", explanations, ExplainOptions),
        fast_lane=None if lane is None else _parse("fast_lane", lane, LaneOptions),
    )


def _parse(key: str, document: dict[str, Any], model: type[M]) -> M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError(config_faults(f"args.{key}", error, model)) from error
