"""Traffic changes with placed variants, against a Serve that is only pretended: what is deployed, in which order."""

from __future__ import annotations

import pytest

from attrition.errors import ServingError
from attrition.registry.bundle import BundleRef
from attrition.serving import control
from attrition.serving.changes import place, shift
from attrition.serving.config import ServeConfig
from attrition.serving.control import ServeControl
from attrition.serving.placement import PlacedOptions, Placement

NAME = "attrition"
OTHER = {"name": "monitor", "route_prefix": "/monitor", "import_path": "x:y"}


def ref(minor):
    return BundleRef(f"/bundles/1.{minor}.0", f"1.{minor}.0", f"{minor:064x}")


ONE = shift(None, [(ref(0), 1.0)])
SPLIT = shift(ONE, [(ref(0), 0.5), (ref(1), 0.5)])
PLACED = place(SPLIT, ref(1), Placement.DEPLOYMENT)


class Serve(ServeControl):
    """Keeps what is put; a bundle or a traffic may be one that does not start."""

    def __init__(self, monkeypatch):
        super().__init__("http://127.0.0.1:1", "http://127.0.0.1:2")
        self.puts, self.applications = [], {}
        self.broken, self.refused = set(), lambda _traffic: False
        monkeypatch.setattr(control, "_confirmation", self._confirmed)
        gateway = {"name": "Gateway", "user_config": ONE.model_dump(mode="json")}
        self._put({"applications": [{"name": NAME, "import_path": "a:b", "deployments": [gateway]}, OTHER]})
        self.puts.clear()

    @property
    def steps(self):
        """Names of the placed applications and generation of the traffic, of each document that was put."""
        return [
            (sorted(name.removeprefix("attrition-variant-")[:5] for name in names if "variant" in name), generation)
            for names, generation in self.puts
        ]

    def _confirmed(self, _http, _url, name, generation):
        traffic = self.traffic(name)
        if self.refused(traffic):
            raise ServingError("cannot be loaded.")
        return {"r1"} if traffic.generation == generation else set()

    def _put(self, document):
        self.applications = {one["name"]: one for one in document["applications"]}
        assert self.applications["monitor"] == OTHER
        assert all(one.get("route_prefix", "/") is None for name, one in self.applications.items() if "variant" in name)
        self.puts.append((list(self.applications), self.traffic(NAME).generation))

    def _details(self):
        def application(name, config):
            failed = config.get("args", {}).get("bundle") in self.broken
            replicas = [] if failed else [{"replica_id": "r1", "state": "RUNNING"}]
            # Serve leaves out what is null
            shown = {key: value for key, value in config.items() if value is not None}
            deployments = {"Gateway": {"replicas": replicas, "message": "no such bundle" if failed else ""}}
            status = "DEPLOY_FAILED" if failed else "RUNNING"
            return {"name": name, "status": status, "deployed_app_config": shown, "deployments": deployments}

        return {"applications": {name: application(name, config) for name, config in self.applications.items()}}


@pytest.fixture
def serve(monkeypatch):
    return Serve(monkeypatch)


def test_the_monitor_starts_when_the_first_answer_is_there(serve):
    """And beside the others once it is there; nothing else is lost."""
    config = ServeConfig.load("local")
    del serve.applications[NAME]
    serve.deploy(ONE, config, host="127.0.0.1", port=1)
    scoring, monitored = (names for names, _ in serve.puts)
    assert set(scoring) == {NAME, "monitor"}
    assert set(monitored) == {NAME, "monitor", f"{NAME}-monitor"}
    serve.puts.clear()
    serve.deploy(SPLIT, config, host="127.0.0.1", port=1)
    assert [set(names) for names, _ in serve.puts] == [{NAME, "monitor", f"{NAME}-monitor"}]


def test_without_placed_variants_there_is_one_step(serve):
    """As ever."""
    serve.change(NAME, SPLIT)
    assert serve.steps == [([], 1)]


def test_a_deployment_starts_before_and_stops_after(serve):
    """First the deployment beside the old traffic, then the traffic; on the way back the other way round."""
    status = serve.change(NAME, PLACED)
    assert serve.steps == [(["1.1.0"], 0), (["1.1.0"], 1)]
    placed = next(variant for variant in status.variants if variant.version == "1.1.0")
    assert (placed.placement, placed.state, placed.replicas) == ("deployment", "RUNNING", 1)
    serve.puts.clear()
    serve.change(NAME, SPLIT)
    assert serve.steps == [(["1.1.0"], 2), ([], 2)]


def test_other_options_are_another_deployment(serve):
    """Both run while the traffic moves from one to the other; a change of weights touches neither."""
    serve.change(NAME, PLACED)
    serve.puts.clear()
    serve.change(NAME, place(PLACED, ref(1), Placement.DEPLOYMENT, PlacedOptions(num_replicas=2)))
    assert serve.steps == [(["1.1.0"] * 2, 1), (["1.1.0"] * 2, 2), (["1.1.0"], 2)]
    serve.puts.clear()
    serve.change(NAME, shift(serve.traffic(NAME), [(ref(0), 0.9), (ref(1), 0.1)]))
    assert serve.steps == [(["1.1.0"], 3)]


def test_a_deployment_that_does_not_start_is_taken_back(serve):
    """The gateway never hears of it; the reason is Serve's."""
    serve.broken.add("/bundles/1.1.0")
    with pytest.raises(ServingError, match="no such bundle"):
        serve.change(NAME, PLACED)
    assert serve.steps == [(["1.1.0"], 0), ([], 0)]
    assert serve.traffic(NAME) == ONE


def test_a_refused_traffic_takes_its_deployment_along(serve):
    """The gateway could not load it: everything is as before, also an earlier deployment."""
    serve.change(NAME, PLACED)
    before = serve.traffic(NAME)
    serve.puts.clear()
    serve.refused = lambda traffic: any(variant.version == "1.2.0" for variant in traffic.variants)
    with pytest.raises(ServingError, match="cannot be loaded"):
        serve.change(NAME, place(before, ref(2), Placement.DEPLOYMENT))
    assert serve.steps == [(["1.1.0", "1.2.0"], 1), (["1.1.0", "1.2.0"], 2), (["1.1.0"], 1)]
    assert serve.traffic(NAME) == before


def test_the_way_out_of_trouble_is_open(serve):
    """A deployment that broke after its start holds up neither a change of weights nor the way home."""
    serve.change(NAME, PLACED)
    serve.broken.add("/bundles/1.1.0")
    status = serve.change(NAME, shift(serve.traffic(NAME), [(ref(0), 1.0)]))
    assert "no such bundle" in status.message
    with pytest.raises(ServingError, match="no such bundle"):  # but nobody is sent to it again
        serve.change(NAME, shift(serve.traffic(NAME), [(ref(0), 0.5), (ref(1), 0.5)]))
    serve.change(NAME, SPLIT)
    assert [name for name in serve.applications if "variant" in name] == []


def test_removal_takes_the_deployments_along(serve):
    """And leaves the other applications."""
    serve.change(NAME, PLACED)
    serve._put = lambda document: setattr(serve, "applications", {one["name"]: one for one in document["applications"]})
    assert serve.remove(NAME)
    assert list(serve.applications) == ["monitor"]
