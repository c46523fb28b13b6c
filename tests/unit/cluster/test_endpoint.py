"""What can be said about the endpoint without a Ray."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from attrition.cluster import endpoint
from attrition.cluster.local_head import RECORD, find_local_head, stop_local_head
from attrition.errors import ConfigError, PortInUse, RayUnreachable, UsageError
from attrition.registry.bundle import BundleRef
from attrition.serving import changes
from attrition.serving.control import not_running
from attrition.serving.traffic import Traffic, single_variant
from attrition.settings import Settings

TRAFFIC = Traffic.single("1.0.0", "/bundles/1.0.0", "a" * 64)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint, "active_session", lambda: None)
    return Settings.from_environment({}, home=tmp_path)


def test_nothing_is_served(settings):
    """Without a Ray the status says so and there is nothing to take down."""
    status = endpoint.status(settings)
    assert (status.running, status.state, status.url) == (False, "NOT_STARTED", settings.serve_url)
    assert not endpoint.down(settings)


def test_a_port_in_use_is_told_before_anything_starts(settings):
    """The message names the port and what to do; no Ray was started."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        busy = settings.model_copy(update={"serve_port": server.getsockname()[1]})
        with pytest.raises(PortInUse, match=f"port {busy.serve_port}.*ATTRITION_SERVE_PORT"):
            endpoint.up(busy, TRAFFIC)
    assert find_local_head(busy) is None
    assert not (busy.home / RECORD).exists()


def test_a_bad_configuration_is_told_before_anything_starts(settings):
    """A misspelt name."""
    with pytest.raises(ConfigError, match="locl"):
        endpoint.up(settings, TRAFFIC, "locl")


def test_a_dashboard_that_does_not_answer(settings):
    """A Ray address that leads nowhere."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    gone = settings.model_copy(update={"ray_address": f"http://127.0.0.1:{port}"})
    with pytest.raises(RayUnreachable, match="dashboard does not answer"):
        endpoint.status(gone)


def test_a_stale_record_ends_nobody(settings):
    """A recorded process id that belongs to another process now is left alone."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        record = {"pid": stranger.pid, "address": "127.0.0.1:1", "dashboard_url": "http://127.0.0.1:2"}
        settings.home.mkdir(parents=True, exist_ok=True)
        (settings.home / RECORD).write_text(json.dumps({**record, "folder": "/tmp/attrition-ray-gone"}))
        assert find_local_head(settings) is None
        assert not stop_local_head(settings)
        assert not (settings.home / RECORD).exists()
        os.kill(stranger.pid, 0)
        stranger.communicate(b"\n")


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_a_broken_record_is_no_head(settings, text):
    """A record that was half-written counts as none."""
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / RECORD).write_text(text)
    assert find_local_head(settings) is None


@pytest.mark.parametrize(
    ("access", "config", "is_open"),
    [("open", "local", True), ("closed", "local", False), ("open", "production", False)],
)
def test_open_access_is_said_aloud(settings, monkeypatch, caplog, access, config, is_open):
    """Once, when an endpoint comes up that answers everybody; a configuration of a cluster never does."""
    deployed = []

    class Control:
        def port(self):
            return settings.serve_port

        def traffic(self, name):
            raise AssertionError(name)  # nobody asked what is served

        def deploy(self, *_, **options):
            deployed.append(options["access"].mode)
            return replace(not_running(settings.serve_url), generation=1)

    monkeypatch.setattr(endpoint, "find", lambda _: Control())
    settings = settings.model_copy(update={"access": access, "database_url": "sqlite:////tmp/x.db"})
    with caplog.at_level(logging.WARNING):
        endpoint.up(settings, TRAFFIC, config)
    assert deployed == ["open" if is_open else "closed"]
    assert ("ATTRITION_ACCESS=closed" in caplog.text) == is_open


def ref(version):
    return BundleRef(f"/bundles/{version}", version, version.replace(".", "").ljust(64, "0"))


LIVE = single_variant(ref("1.0.0"))


def test_without_a_version_the_traffic_is_kept():
    """Nothing is exported; without an endpoint it is the champion."""
    split = changes.shift(LIVE, [(ref("1.0.0"), 0.7), (ref("1.1.0"), 0.3)])
    assert endpoint.wanted(split, None, {}.__getitem__) == split
    assert endpoint.wanted(None, None, {"champion": ref("2.0.0")}.__getitem__) == single_variant(ref("2.0.0"))


def test_a_version_takes_over_from_one_version():
    """The one before stays loaded for a rollback; the same one again changes nothing."""
    assert endpoint.wanted(LIVE, "1.0.0", ref) == LIVE
    traffic = endpoint.wanted(LIVE, "1.1.0", ref)
    assert [(v.version, v.weight) for v in traffic.variants] == [("1.1.0", 1.0), ("1.0.0", 0.0)]


@pytest.mark.parametrize(
    ("live", "told"),
    [
        (changes.shift(LIVE, [(ref("1.0.0"), 0.7), (ref("1.2.0"), 0.3)]), "1.0.0=70%, 1.2.0=30%"),
        (changes.pin(LIVE, "x-user-group", "pilot", ref("1.2.0")), "1.0.0=100%, 1 pin"),
        (changes.shadow(LIVE, [ref("1.2.0"), ref("1.3.0")]), "1.0.0=100%, 2 shadows"),
    ],
)
def test_what_somebody_set_up_is_not_dropped_unasked(live, told):
    """The message says what would be lost and which commands there are; the version that answers anyway is no loss."""
    with pytest.raises(UsageError) as caught:
        endpoint.wanted(live, "1.1.0", ref)
    for text in (told, "attrition traffic switch 1.1.0", "attrition serve up 1.1.0 --replace"):
        assert text in str(caught.value)
    assert endpoint.wanted(live, "1.1.0", ref, replace=True) == single_variant(ref("1.1.0"))
    if len([v for v in live.variants if v.weight]) == 1:
        assert endpoint.wanted(live, "1.0.0", ref) == live


class FakeControl:
    """A Serve with these applications."""

    dashboard_url = "http://127.0.0.1:8265"

    def __init__(self, *names):
        self.names = list(names)

    def applications(self):
        return self.names


def test_the_application_that_is_meant(settings):
    """The one that runs, whatever its name; of several the one that the settings name."""
    assert endpoint.application(settings, FakeControl()) == "attrition"
    assert endpoint.application(settings, FakeControl("hr")) == "hr"
    with pytest.raises(ConfigError, match=r"several attrition applications: hr, pilot.*ATTRITION_SERVE_APPLICATION=hr"):
        endpoint.application(settings, FakeControl("hr", "pilot"))
    named = settings.model_copy(update={"serve_application": "pilot"})
    assert endpoint.application(named, FakeControl("hr", "pilot")) == "pilot"


def test_settings_and_configuration_name_the_same_application(settings):
    """Otherwise the next command would not find what this one made."""
    named = settings.model_copy(update={"serve_application": "pilot"})
    with pytest.raises(ConfigError, match="is pilot, the serve configuration names its application attrition"):
        endpoint.up(named, TRAFFIC)


def test_the_address_without_a_ray(settings):
    """That of the settings."""
    assert endpoint.url(settings) == settings.serve_url
