"""Serve configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from attrition.errors import ConfigError
from attrition.serving.app import parse_args
from attrition.serving.autoscaling import IMPORT_PATH as BY_LOAD
from attrition.serving.config import ServeConfig
from attrition.serving.fast_lane import LaneOptions
from attrition.serving.traffic import Traffic
from attrition.settings import EXPERIMENT, ROLLOUT

SHIPPED = Path(__file__).parents[3] / "serve_configs"
FILES = sorted(path for path in SHIPPED.glob("*.yaml") if not path.stem.startswith((EXPERIMENT, ROLLOUT)))
TRAFFIC = Traffic.single("1.0.0", "/bundles/1.0.0", "a" * 64)


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Ray's own models
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_files_are_valid_for_ray_serve(path):
    """Ray's own schema accepts the file as it is, and filled in."""
    from ray.serve.schema import ServeDeploySchema

    ServeDeploySchema.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    request = ServeConfig.load(path).request(TRAFFIC, None, host="127.0.0.1", port=8000)
    deployed = ServeDeploySchema.model_validate(request)
    assert deployed.applications[0].deployments[0].user_config == TRAFFIC.model_dump(mode="json")
    assert deployed.http_options.port == 8000
    assert "user_config" not in request["applications"][0]["deployments"][1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_files_explain(path):
    """By a deployment of its own, which gets its answer out before the gateway's caller is told that it takes long."""
    config = ServeConfig.load(path)
    _, explainer = config.application.deployments
    assert explainer.autoscaling_config.min_replicas < explainer.autoscaling_config.max_replicas
    assert config.application.args.explanations.timeout_seconds < config.http_options.request_timeout_s


def write(folder, change):
    document = yaml.safe_load((SHIPPED / "local.yaml").read_text(encoding="utf-8"))
    change(document)
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(proxy_locatoin="HeadOnly"), "unknown key proxy_locatoin"),
        (lambda d: d["http_options"].update(port=80), "unknown key http_options.port"),
        (lambda d: d["applications"][0]["deployments"][0].update(max_ongoing_request=3), "max_ongoing_request"),
        (lambda d: d["applications"][0]["args"].update(limit=3), "args.limit"),
        (lambda d: d["applications"][0]["args"]["limits"].update(max_records=0), "max_records"),
        (lambda d: d["applications"][0]["deployments"][0].update(name="Gatway"), "exactly Gateway"),
        (lambda d: d["applications"][0]["deployments"].pop(), "with args.explanations .* Gateway and Explainer"),
        (lambda d: d["applications"][0]["args"].pop("explanations"), "without args.explanations .* exactly Gateway"),
        (lambda d: d["applications"][0]["args"]["explanations"].update(max_versions=0), "max_versions"),
        (lambda d: d["applications"][0]["deployments"][0].update(num_replicas=2), "not both"),
        (lambda d: d["applications"][0]["deployments"][0]["autoscaling_config"].update(min_replicas=4), "above"),
        (lambda d: d["applications"][0].update(import_path="os:system"), "import_path"),
        (lambda d: d["applications"][0]["deployments"][0].update(user_config={}), "user_config"),
        (lambda d: d.update(applications=[]), "applications"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    """Ray Serve would ignore most of these."""
    with pytest.raises(ConfigError, match=message):
        ServeConfig.load(write(tmp_path, change))


def test_all_mistakes_at_once(tmp_path):
    """One round trip is enough to repair a file."""

    def change(document):
        document["proxy_locatoin"] = 1
        document["applications"][0]["typo"] = 1

    with pytest.raises(ConfigError) as caught:
        ServeConfig.load(write(tmp_path, change))
    assert len(caught.value.faults) == 2


def test_an_unknown_name_lists_the_shipped_ones():
    """A misspelt name says which there are."""
    with pytest.raises(ConfigError, match="local"):
        ServeConfig.load("locl")


@pytest.mark.parametrize(
    "args", [{"limit": {}}, {"limits": {"max_records": 0}}, {"limits": {"records": 5}}, {"access": {"mode": "ajar"}}]
)
def test_the_builder_refuses_unknown_arguments(args):
    """Also when the application is deployed by other means than attrition."""
    with pytest.raises(ConfigError):
        parse_args(args)
    parsed = parse_args({})
    assert (parsed.limits.max_records, parsed.prediction_log, parsed.access.mode) == (1_000, None, "open")
    assert parsed.explanations is None
    assert parsed.fast_lane is None


@pytest.mark.parametrize("name", ["staging", "production"])
def test_clusters_scale_between_three_and_ten(name):
    """Up within a minute, down after five, and 503 with Retry-After when full."""
    gateway, _ = ServeConfig.load(name).application.deployments
    scaling = gateway.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.downscale_delay_s) == (3, 10, 300)
    assert scaling.upscale_delay_s + scaling.look_back_period_s < 60
    assert scaling.target_ongoing_requests < gateway.max_ongoing_requests
    assert (gateway.backpressure_config.status_code, gateway.max_queued_requests) == (503, 256)
    assert gateway.backpressure_config.retry_after_s >= 1
    assert gateway.rolling_update_percentage == 1.0


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Ray's own models
def test_the_fast_lane_takes_over_what_serve_would_do(tmp_path):
    """One switch: the limits of the deployment become the lane's, and the autoscaler counts its requests."""
    from ray.serve.schema import ServeDeploySchema

    def change(document):
        application = document["applications"][0]
        application["args"]["fast_lane"] = True
        application["route_prefix"] = "/hr"
        application["deployments"][0] |= {"max_ongoing_requests": 8, "max_queued_requests": 16}
        application["deployments"][0]["backpressure_config"] = {"status_code": 429, "retry_after_s": 5}
        document["http_options"]["request_timeout_s"] = 12

    request = ServeConfig.load(write(tmp_path, change)).request(TRAFFIC, None, host="127.0.0.1", port=8000)
    deployed, monitor = ServeDeploySchema.model_validate(request).applications
    assert monitor.route_prefix is None
    assert parse_args(deployed.args).fast_lane == LaneOptions(
        max_in_flight=24, refusal_status=429, retry_after_s=5, timeout_seconds=12, route_prefix="/hr"
    )
    assert deployed.deployments[0].autoscaling_config["policy"] == {"policy_function": BY_LOAD}


def test_a_lane_without_limits(tmp_path):
    """What Serve would not limit, the lane does not."""

    def change(document):
        application = document["applications"][0]
        application["args"]["fast_lane"] = True
        application["deployments"][0]["max_queued_requests"] = -1
        document["http_options"]["request_timeout_s"] = None

    request = ServeConfig.load(write(tmp_path, change)).request(TRAFFIC, None, host="127.0.0.1", port=8000)
    lane = parse_args(request["applications"][0]["args"]).fast_lane
    assert (lane.max_in_flight, lane.timeout_seconds) == (None, None)


def test_without_the_lane_serve_scales_by_its_own_rule(tmp_path):
    """And the replica is told that the lane is closed."""

    def change(document):
        document["applications"][0]["args"]["fast_lane"] = False

    request = ServeConfig.load(write(tmp_path, change)).request(TRAFFIC, None, host="127.0.0.1", port=8000)
    application = request["applications"][0]
    assert application["args"]["fast_lane"]["is_open"] is False
    assert "policy" not in application["deployments"][0]["autoscaling_config"]


def test_the_monitor_stands_beside_the_gateway(tmp_path):
    """In the file and in the request, where it gets the project's addresses; it has no route."""
    path = write(tmp_path, lambda document: document["applications"][1]["args"].update(refresh_seconds=5))
    config = ServeConfig.load(path)
    assert config.monitor.args.refresh_seconds == 5
    request = config.request(TRAFFIC, None, host="127.0.0.1", port=8000, addresses={"tables": "/x"})
    monitor = request["applications"][1]
    assert (monitor["name"], monitor["route_prefix"]) == ("attrition-monitor", None)
    assert monitor["args"] == {"refresh_seconds": 5, "live_rows": 5000, "addresses": {"tables": "/x"}}
    assert ServeConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_file_without_a_monitor(tmp_path):
    """Nobody exports what monitoring found, and nothing else changes."""
    config = ServeConfig.load(write(tmp_path, lambda document: document["applications"].pop()))
    assert config.monitor is None
    assert len(config.request(TRAFFIC, None, host="127.0.0.1", port=8000)["applications"]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "watcher"}, "it must be attrition-monitor"),
        ({"args": {"refresh_second": 5}}, "refresh_second"),
        ({"route_prefix": "/monitor"}, "route_prefix"),
        ({"deployments": [{"name": "Monitor", "num_replicas": 2}]}, "num_replicas must be 1"),
    ],
)
def test_a_monitor_that_cannot_be(tmp_path, change, message):
    """Named with its fault; nothing is silently left out."""
    with pytest.raises(ConfigError, match=message):
        ServeConfig.load(write(tmp_path, lambda document: document["applications"][1].update(change)))
