"""Traffic control against a Serve that is only pretended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attrition.cluster import endpoint
from attrition.cluster.traffic import TrafficControl, normalised
from attrition.errors import NotFound, ServingError, UsageError
from attrition.registry.bundle import BundleRef
from attrition.serving.control import ServeStatus
from attrition.serving.placement import PlacedOptions, Placement
from attrition.serving.traffic import single_variant
from attrition.serving.traffic_history import ChangeOutcome
from attrition.settings import Settings


def ref(version):
    return BundleRef(f"/bundles/{version}", version, f"{abs(hash(version)):064x}"[:64])


class FakeServe:
    """Keeps the traffic; refuses when told to."""

    def __init__(self, traffic):
        self.deployed = traffic
        self.refusal = ""
        self.url = "http://127.0.0.1:1"

    def applications(self):
        return ["attrition"]

    def traffic(self, _name):
        return self.deployed

    def status(self, _name):
        return ServeStatus(running=True, state="RUNNING", url=self.url, replicas=1, generation=self.deployed.generation)

    def change(self, name, traffic, *, after_generation):
        if self.refusal:
            raise ServingError(self.refusal)
        generation = max(after_generation, self.deployed.generation) + 1
        self.deployed = traffic.model_copy(update={"generation": generation})
        return replace(self.status(name), generation=generation)


@pytest.fixture
def serve(monkeypatch):
    fake = FakeServe(single_variant(ref("1.0.0")))
    monkeypatch.setattr(endpoint, "find", lambda _settings: fake)
    return fake


@pytest.fixture
def exported():
    return []


@pytest.fixture
def control(serve, tmp_path, exported):
    def export(version):
        exported.append(version)
        if version == "9.9.9":
            raise NotFound("9.9.9: no such version.")
        return ref(version)

    return TrafficControl(Settings.from_environment({}, home=tmp_path), export)


def test_nothing_is_served(monkeypatch, control):
    """Every command says what to do."""
    monkeypatch.setattr(endpoint, "find", lambda _settings: None)
    for command in (control.show, lambda: control.set({"1.0.0": 1}), control.rollback):
        with pytest.raises(ServingError, match="attrition serve up"):
            command()


def test_a_change_is_recorded(control, serve):
    """With its action, its generation and its outcome."""
    made = control.set({"1.0.0": 70, "1.1.0": 30})
    assert control.history() == [made]
    assert (made.action, made.generation, made.outcome) == ("set 1.0.0=70% 1.1.0=30%", 1, ChangeOutcome.APPLIED)
    assert serve.deployed == made.traffic


def test_a_change_whose_maker_died_is_recorded_later(control, serve):
    """Once, and only what has no record: experiments learn from it what was served when."""
    control.set({"1.0.0": 70, "1.1.0": 30})
    control.settle("rollout 1: 30 %")
    serve.change("attrition", serve.deployed, after_generation=-1)
    control.settle("rollout 1: 30 %")
    control.settle("rollout 1: 30 %")
    assert [(each.generation, each.action) for each in control.history()] == [
        (1, "set 1.0.0=70% 1.1.0=30%"),
        (2, "rollout 1: 30 %"),
    ]


def test_traffic_in_a_notebook(control):
    """Shares, pins and roles; a header's value is somebody's text."""
    control.pin("x-user-group", "<b>", "1.1.0")
    html = control.show()._repr_html_()
    assert "x-user-group=&lt;b&gt;" in html
    assert "<b>" not in html
    assert "100.00%" in html


def test_a_version_that_is_unknown_changes_nothing(control, serve):
    """It fails before Serve is asked."""
    before = serve.deployed
    with pytest.raises(NotFound):
        control.set({"1.0.0": 50, "9.9.9": 50})
    assert serve.deployed == before
    assert control.history() == []


def test_what_serve_refuses_is_recorded(control, serve):
    """And its generation is never used again."""
    serve.refusal = "a byte differs."
    with pytest.raises(ServingError):
        control.set({"1.1.0": 1})
    (refused,) = control.history()
    assert (refused.outcome, refused.detail, refused.generation) == (ChangeOutcome.REFUSED, "a byte differs.", 1)
    serve.refusal = ""
    assert control.set({"1.1.0": 1}).generation == 2


def test_a_placement_is_a_change_like_others(control, serve):
    """Recorded, told in the history, and undone by a rollback."""
    control.set({"1.0.0": 70, "1.1.0": 30})
    made = control.place("1.1.0", Placement.DEPLOYMENT, PlacedOptions(num_replicas=2))
    assert (made.action, made.outcome) == ("place 1.1.0 deployment", ChangeOutcome.APPLIED)
    (placed,) = (variant for variant in serve.deployed.variants if variant.is_placed)
    assert (placed.version, placed.weight, placed.options.num_replicas) == ("1.1.0", 0.3, 2)
    assert control.history()[-1] == made
    assert not any(variant.is_placed for variant in control.rollback().traffic.variants)
    assert any(variant.is_placed for variant in control.rollback().traffic.variants)
    with pytest.raises(UsageError, match="in process has none"):
        control.place("1.1.0", Placement.IN_PROCESS, PlacedOptions())


def test_rollback_twice_returns(control):
    """The second undoes the first; a number goes further back."""
    first = control.set({"1.0.0": 70, "1.1.0": 30})
    second = control.set({"1.2.0": 100})
    assert control.rollback().traffic.ranges == first.traffic.ranges
    back = control.rollback().traffic
    assert {v.version for v in back.variants if v.weight} == {"1.2.0"}
    control.set({"1.3.0": 100})
    assert control.rollback(second.generation).traffic.active == second.traffic.active


def test_rollback_without_a_past(control):
    """Nothing was changed yet."""
    with pytest.raises(NotFound, match="no applied generation earlier than the current one"):
        control.rollback()


def test_rollback_exports_what_was_cleaned_up(control, exported):
    """A version that is neither loaded nor on disk any more."""
    control.set({"1.1.0": 100})
    for version in ("1.2.0", "1.3.0"):
        control.set({version: 100})
    exported.clear()
    control.rollback(1)
    assert exported == ["1.1.0"]


def test_an_unreadable_history_keeps_nobody_from_changing(control, serve, tmp_path, caplog):
    """The traffic matters more than its record."""
    (tmp_path / "tables").write_text("a file where a folder should be")
    assert control.set({"1.0.0": 50, "1.1.0": 50}).outcome is ChangeOutcome.APPLIED
    assert "traffic history" in caplog.text


@pytest.mark.parametrize(
    ("shares", "weights"),
    [
        ({"a": 1}, {"a": 1.0}),
        ({"a": 100}, {"a": 1.0}),
        ({"a": 0.25, "b": 0.75}, {"a": 0.25, "b": 0.75}),
        ({"a": 0, "b": 100}, {"a": 0.0, "b": 1.0}),
    ],
)
def test_shares_and_per_cent(shares, weights):
    """Both are understood."""
    assert normalised(shares) == weights


def test_thirds_sum_to_one():
    """Rounding goes to the largest."""
    weights = normalised({"a": 33.333333, "b": 33.333333, "c": 33.333334})
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("shares", [{}, {"a": 50}, {"a": 0.5, "b": 0.6}, {"a": 150, "b": -50}, {"a": float("nan")}])
def test_other_sums_are_refused(shares):
    """The message shows the sum."""
    with pytest.raises(UsageError, match="sums to"):
        normalised(shares)
