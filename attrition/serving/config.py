"""The Serve configuration files under ``serve_configs``: Ray Serve's own format, checked strictly.

Ray Serve ignores an unknown key, so a misspelt ``max_ongoing_request`` would silently keep its default. These models
hold the keys that attrition uses and refuse every other one. A file that passes is a valid Ray Serve configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from attrition.serving.access_options import AccessTuning
from attrition.serving.autoscaling import IMPORT_PATH as BY_LOAD
from attrition.serving.explainer import ExplainOptions
from attrition.serving.fast_lane import LaneOptions
from attrition.serving.gateway import Limits
from attrition.serving.prediction_log import LogTuning
from attrition.settings import EXPERIMENT, ROLLOUT, config_file, load_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from attrition.serving.access_options import AccessOptions
    from attrition.serving.prediction_log import LogConfig
    from attrition.serving.traffic import Traffic

GATEWAY, EXPLAINER = "Gateway", "Explainer"
"""Names of the deployments: the ingress, and the one that explains."""

APPLICATION = "attrition"
"""Default name of the Serve application."""

IMPORT_PATH = "attrition.serving.app:build"
"""The application builder; an application of it is one of ours, whatever its name."""

MONITOR_PATH = "attrition.monitoring.app:build"
"""The builder of the monitor's application."""

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def monitor_name(application: str) -> str:
    """Name of the application that monitors what an application serves."""
    return f"{application}-monitor"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HttpOptions(_Strict):
    """Options of the HTTP server. Host and port are addresses, so they come from the environment."""

    request_timeout_s: Positive | None = 30.0
    """Seconds until a request is answered with 408; None waits for ever."""
    keep_alive_timeout_s: Positive = 90.0
    """Seconds that an idle connection stays open."""


class LoggingOptions(_Strict):
    """What Serve's processes log."""

    encoding: Literal["TEXT", "JSON"] = "TEXT"
    """JSON for clusters whose logs are collected."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    """Least severe message that is kept."""
    enable_access_log: bool = False
    """One line per request; costs about a sixth of the throughput."""


class Autoscaling(_Strict):
    """How many replicas follow from the load."""

    min_replicas: Annotated[int, Field(ge=0)] = 1
    """Replicas without load."""
    initial_replicas: Count | None = None
    """Replicas at the start; None means `min_replicas`."""
    max_replicas: Count = 3
    """Replicas under any load."""
    target_ongoing_requests: Positive = 32.0
    """Requests in flight per replica that the controller aims at."""
    upscale_delay_s: Annotated[float, Field(ge=0)] = 10.0
    """Seconds that a load must last before replicas are added."""
    downscale_delay_s: Annotated[float, Field(ge=0)] = 300.0
    """Seconds that idleness must last before replicas are removed."""
    look_back_period_s: Positive | None = None
    """Seconds over which the load is averaged; None means Serve's default."""
    metrics_interval_s: Positive | None = None
    """Seconds between load reports; None means Serve's default."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class Backpressure(_Strict):
    """The answer when the queue is full."""

    status_code: Literal[503, 429] = 503
    """HTTP status."""
    retry_after_s: Count = 1
    """Seconds that a client is asked to wait."""


class ActorOptions(_Strict):
    """What a replica needs of its node."""

    num_cpus: Annotated[float, Field(ge=0)] = 0.1
    """Logical CPUs."""
    memory: Positive | None = None
    """Bytes."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom resources."""
    label_selector: dict[str, str] = Field(default_factory=dict)
    """Labels that the node must have."""
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    """Ray runtime environment of the replica; empty when the image has the code."""


class DeploymentOptions(_Strict):
    """Options of one deployment."""

    name: Annotated[str, Field(min_length=1)]
    """Name in the application's code: ``Gateway`` or ``Explainer``."""
    num_replicas: Count | None = None
    """Fixed number of replicas; excludes `autoscaling_config`."""
    autoscaling_config: Autoscaling | None = None
    """Number of replicas by load."""
    max_ongoing_requests: Count = 64
    """Requests that a replica works on at the same time."""
    max_queued_requests: Annotated[int, Field(ge=-1)] = 256
    """Requests that wait beyond that, per replica behind HAProxy; -1 is unlimited."""
    backpressure_config: Backpressure = Backpressure()
    """The answer beyond both."""
    graceful_shutdown_timeout_s: Positive = 35.0
    """Seconds that a stopping replica gets to answer what it has."""
    graceful_shutdown_wait_loop_s: Positive = 2.0
    """Seconds between its checks."""
    health_check_period_s: Positive = 10.0
    """Seconds between health checks."""
    health_check_timeout_s: Positive = 30.0
    """Seconds until a health check counts as failed."""
    rolling_update_percentage: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the replicas that take a new configuration at the same time."""
    max_surge_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Extra replicas during a code change, in per cent; 0 stops before it starts."""
    max_replicas_per_node: Count | None = None
    """Spreads replicas over nodes."""
    ray_actor_options: ActorOptions = ActorOptions()
    """Resources of a replica."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.num_replicas is not None and self.autoscaling_config is not None:
            raise ValueError(f"{self.name}: give num_replicas or autoscaling_config, not both")
        return self


class ApplicationArgs(_Strict):
    """Arguments of the application builder."""

    limits: Limits = Limits()
    """How much one request may hold."""
    prediction_log: LogTuning | None = LogTuning()
    """How predictions are recorded; null records neither predictions nor outcomes."""
    access: AccessTuning = AccessTuning()
    """Who may ask."""
    explanations: ExplainOptions | None = None
    """How predictions are explained, by the deployment ``Explainer``; null explains none."""
    fast_lane: bool = True
    """Scoring requests are answered outside Serve's work per request; see :mod:`attrition.serving.fast_lane`."""


class ApplicationOptions(_Strict):
    """One Serve application."""

    name: Annotated[str, Field(min_length=1)] = APPLICATION
    """Name on the cluster."""
    route_prefix: Annotated[str, Field(pattern=r"^/")] = "/"
    """Path under which it answers."""
    import_path: Literal["attrition.serving.app:build"] = "attrition.serving.app:build"
    """The application builder."""
    args: ApplicationArgs = ApplicationArgs()
    """Arguments of the builder; a change restarts the replicas."""
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    """Ray runtime environment; empty when the image has the code."""
    deployments: tuple[DeploymentOptions, ...] = (DeploymentOptions(name=GATEWAY),)
    """Options per deployment."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        names = [deployment.name for deployment in self.deployments]
        expected = [GATEWAY] if self.args.explanations is None else [GATEWAY, EXPLAINER]
        if sorted(names) != sorted(expected):
            with_it = "with" if self.args.explanations else "without"
            raise ValueError(
                f"deployments are {', '.join(names) or 'empty'}; {with_it} args.explanations this application has "
                f"exactly {' and '.join(expected)}"
            )
        return self


class MonitorArgs(_Strict):
    """Arguments of the monitor's builder."""

    refresh_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """Between two readings of the stored reports and the last predictions."""
    live_rows: Annotated[int, Field(ge=100, le=200_000)] = 5_000
    """Predictions in the live view; each takes about 100 bytes of memory."""


class MonitorApplication(_Strict):
    """The Serve application that exports what monitoring found; see ``attrition/monitoring/app.py``.

    It stands beside the gateway's in the file and is told by its `import_path`. It has no route.
    """

    name: str
    """Name of the gateway's application with ``-monitor`` behind it."""
    route_prefix: None = None
    """None: nobody calls it."""
    import_path: Literal["attrition.monitoring.app:build"]
    """The application builder."""
    args: MonitorArgs = MonitorArgs()
    """Arguments of the builder."""
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    """Ray runtime environment; empty when the image has the code."""
    deployments: tuple[DeploymentOptions] = (DeploymentOptions(name="Monitor", num_replicas=1),)
    """Options of the one deployment."""

    @model_validator(mode="after")
    def _single(self) -> Self:
        if self.deployments[0].num_replicas != 1:
            raise ValueError("num_replicas must be 1: a second monitor would say everything twice")
        return self


class ServeConfig(_Strict):
    """A Serve configuration file.

    Examples
    --------
    >>> ServeConfig.load("local").application.name
    'attrition'
    """

    proxy_location: Literal["EveryNode", "HeadOnly", "Disabled"] = "EveryNode"
    """Nodes that take requests."""
    http_options: HttpOptions = HttpOptions()
    """The HTTP server; fixed once Serve runs."""
    logging_config: LoggingOptions = LoggingOptions()
    """Logs of Serve's processes."""
    applications: tuple[ApplicationOptions]
    """The attrition application."""
    monitor: MonitorApplication | None = None
    """The monitor's application, which a file has among its `applications`; None: nobody exports gauges."""

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, document: Any) -> Any:
        """Take the monitor out of the file's list of applications."""
        found = document.get("applications") if isinstance(document, dict) else None
        if not isinstance(found, (list, tuple)):
            return document
        monitors = [each for each in found if isinstance(each, dict) and each.get("import_path") == MONITOR_PATH]
        if len(monitors) != 1:
            return document
        return {**document, "applications": [each for each in found if each not in monitors], "monitor": monitors[0]}

    @model_validator(mode="after")
    def _named_after(self) -> Self:
        expected = monitor_name(self.application.name)
        if self.monitor is not None and self.monitor.name != expected:
            raise ValueError(f"the monitor's application is {self.monitor.name}; it must be {expected}")
        return self

    @classmethod
    def load(cls, name: str | Path) -> ServeConfig:
        """A configuration by path, or by the name of a shipped one (``local``).

        Raises
        ------
        ConfigError
            No such file, an unknown key, or a value out of range; all faults at once.
        """
        path = config_file("serve_configs", name, kind=lambda stem: not stem.startswith((EXPERIMENT, ROLLOUT)))
        return load_yaml(path, cls)

    @property
    def application(self) -> ApplicationOptions:
        """The attrition application."""
        return self.applications[0]

    @property
    def lane(self) -> LaneOptions:
        """The lane with the limits that Serve has for the gateway, so that it makes no difference who answers."""
        gateway = next(each for each in self.application.deployments if each.name == GATEWAY)
        queued = gateway.max_queued_requests
        return LaneOptions(
            max_in_flight=None if queued < 0 else gateway.max_ongoing_requests + queued,
            refusal_status=gateway.backpressure_config.status_code,
            retry_after_s=gateway.backpressure_config.retry_after_s,
            timeout_seconds=self.http_options.request_timeout_s,
            route_prefix=self.application.route_prefix,
            is_open=self.application.args.fast_lane,
        )

    def request(
        self,
        traffic: Traffic | None,
        log: LogConfig | None,
        access: AccessOptions | None = None,
        *,
        host: str,
        port: int,
        addresses: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Body of Serve's declarative REST call: this file, the addresses and the traffic.

        The monitor gets `addresses`, fields of :class:`~attrition.settings.Settings`; without them it looks into its
        environment. With `traffic` None replicas start without a version and answer 503 until they are given one.

        Without the deployments of placed variants, which must run before the gateway gets the traffic; see
        :func:`attrition.serving.placement.placed_applications`.
        """
        document = self.model_dump(mode="json", exclude_none=True)
        monitor = document.pop("monitor", None)
        if monitor is not None:
            monitor["args"]["addresses"] = dict(addresses or {})
            # without a value Serve would give it a route
            document["applications"].append({**monitor, "route_prefix": None})
        lane, arguments = self.lane, document["applications"][0]["args"]
        arguments["prediction_log"] = log and log.model_dump(mode="json")
        arguments["fast_lane"] = lane.model_dump()
        if access is not None:
            arguments["access"] = access.model_dump(mode="json", exclude_none=True)
        document["http_options"] |= {"host": host, "port": port}
        for deployment in document["applications"][0]["deployments"]:
            if deployment["name"] != GATEWAY:
                continue
            if traffic is not None:
                deployment["user_config"] = traffic.model_dump(mode="json")
            if lane.is_open and "autoscaling_config" in deployment:
                deployment["autoscaling_config"]["policy"] = {"policy_function": BY_LOAD}
        return document
