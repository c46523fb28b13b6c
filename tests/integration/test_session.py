"""Embedded and background Rays: beside each other, and gone afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from attrition.cluster import processes
from attrition.cluster.environment import free_ports
from attrition.cluster.session import active_session, connect
from attrition.settings import Settings

pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform == "win32", reason="process groups")]

PROGRAM = """
import json, sys, time
from attrition.cluster import endpoint
from attrition.cluster.session import connect
from attrition.serving.traffic import Traffic
from attrition.settings import Settings

step, home, port, uri, version, digest = sys.argv[1:]
settings = Settings.from_environment({}, home=home, serve_port=int(port))
traffic = Traffic.single(version, uri, digest)
if step == "embedded":
    with connect(settings, serving=True) as session:
        print(json.dumps(endpoint.up(settings, traffic).to_dict() | {"address": session.address}), flush=True)
        time.sleep(120)
elif step == "up":
    print(json.dumps(endpoint.up(settings, traffic).to_dict()))
elif step == "status":
    print(json.dumps(endpoint.status(settings).to_dict()))
elif step == "down":
    print(json.dumps(endpoint.down(settings)))
"""


OPEN_PORTS = ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT")
"""What Ray's HAProxy template binds to every interface, whatever is set; see attrition.cluster.environment."""


def family(pid: int) -> list[Path]:
    """Folders below /proc of a process and its descendants."""
    return [Path("/proc") / str(member) for member in processes.family(processes.running(), {pid}, session=-1)]


def listening(members: list[Path]) -> dict[tuple[str, int], str]:
    """Hexadecimal address and port of each TCP socket on which one of the processes listens, and its command."""
    owners = {}
    for member in members:
        with contextlib.suppress(OSError):  # it may end while it is looked at
            command = (member / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            owners |= {str(handle.readlink()): command for handle in (member / "fd").iterdir()}
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            owner = owners.get(f"socket:[{rest[5]}]")
            if state == "0A" and owner is not None:
                address, _, port = local.partition(":")
                found[address, int(port, 16)] = owner
    return found


def outside(members: list[Path]) -> dict[int, str]:
    """Ports that are reachable from other machines, and the commands that opened them."""
    # 127.x.x.x, ::1 and ::ffff:127.x.x.x as the kernel writes them
    loopback = re.compile(r"[0-9A-F]{6}7F|0{24}01000000|0{16}FFFF0000[0-9A-F]{6}7F")
    return {port: command for (host, port), command in listening(members).items() if not loopback.fullmatch(host)}


def open_ports(members: list[Path]) -> set[int]:
    """The known exceptions, from the environment that the processes were started with."""
    found = set()
    for member in members:
        with contextlib.suppress(OSError):
            pairs = (pair.partition("=") for pair in (member / "environ").read_bytes().decode().split("\0"))
            found |= {int(value) for name, _, value in pairs if name in OPEN_PORTS}
    return found


def mentioning(marker: str) -> list[str]:
    """Command lines and environments that mention a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in text and int(entry.name) != os.getpid():
            found.append(entry.name)
    return found


def wait_until_gone(marker: str, timeout_seconds: float = 15.0) -> list[str]:
    deadline = time.monotonic() + timeout_seconds
    while (left := mentioning(marker)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def arguments(make_bundle, home):
    """Arguments of PROGRAM for a version and a port of its own."""
    bundle = make_bundle("1.0.0", 0.0)
    (port,) = free_ports(1)
    return [str(home), str(port), bundle.uri, bundle.version, bundle.manifest_sha256]


@pytest.fixture
def environ(tmp_path):
    """Makes the Rays of a test recognisable, and keeps their folders together."""
    temp = Path("/tmp") / f"r{os.getpid() % 10_000}"  # short: sockets are made below it
    temp.mkdir()
    yield {**os.environ, "RAY_TMPDIR": str(temp)}
    temp.rmdir()


def test_a_second_session_of_a_process_is_shared(ray_cluster, tmp_path):
    """Ray has one connection per process; closing a shared one leaves it open."""
    with connect(Settings.from_environment(home=tmp_path)) as shared:
        assert (shared.address, shared.embedded) == (ray_cluster.address, False)
    assert active_session() is ray_cluster
    assert httpx.get(f"{ray_cluster.dashboard_url}/api/version").is_success


def test_nothing_listens_outside_this_machine(ray_cluster):
    """The embedded Ray is on the loopback interface."""
    assert ray_cluster.fast_ingress
    members = family(os.getpid())
    assert int(ray_cluster.address.rpartition(":")[2]) in {port for _, port in listening(members)}
    assert not {port: command for port, command in outside(members).items() if port not in open_ports(members)}


def test_an_embedded_ray_beside_another_ends_without_a_trace(ray_cluster, arguments, environ):
    """A second cluster serves beside the shared one; Ctrl-C ends it quietly, with every process and file of it."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "embedded", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        start_new_session=True,
    )
    with program:
        line = program.stdout.readline()
        assert line, program.stderr.read()
        started = json.loads(line)
        assert started["running"]
        assert started["address"] != ray_cluster.address
        answer = httpx.post(f"{started['url']}/v1/predict", json={"age": 30})
        assert answer.json()["model_version"] == "1.0.0"
        assert mentioning(environ["RAY_TMPDIR"])
        members = family(program.pid)
        assert int(started["url"].rpartition(":")[2]) in {port for _, port in listening(members)}
        # HAProxy runs now, with the two ports that nothing can keep inside
        assert set(outside(members)) == open_ports([member for member in members if member.name != str(program.pid)])
        # a terminal sends Ctrl-C to the whole process group
        os.killpg(program.pid, signal.SIGINT)
        _, noise = program.communicate(timeout=60)
    assert noise.splitlines()[-1].startswith("KeyboardInterrupt")
    assert not [line for line in noise.splitlines() if "ray" in line.lower() and "error" in line.lower()]
    assert wait_until_gone(environ["RAY_TMPDIR"]) == []
    assert list(Path(environ["RAY_TMPDIR"]).iterdir()) == []


def test_a_local_head_outlives_its_command_and_is_taken_down(arguments, environ, home):
    """`serve up` in one process, a prediction, `status` and `down` in others; nothing is left."""

    def run(step):
        command = [sys.executable, "-c", PROGRAM, step, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    up = run("up")
    try:
        assert up["running"]
        assert httpx.post(f"{up['url']}/v1/predict", json={"age": 30}).is_success
        assert run("status") == up
        again = run("up")
        assert (again["generation"], again["dashboard_url"]) == (up["generation"] + 1, up["dashboard_url"])
    finally:
        assert run("down") is True
    assert wait_until_gone(environ["RAY_TMPDIR"]) == []
    assert list(Path(environ["RAY_TMPDIR"]).iterdir()) == []
    assert not (home / "local-ray.json").exists()
    assert run("status")["state"] == "NOT_STARTED"
    assert run("down") is False
    with pytest.raises(httpx.TransportError):
        httpx.get(up["url"])


def test_joining_a_cluster_by_its_address(ray_cluster, tmp_path):
    """Another process joins by host:port, and leaves the cluster running."""
    program = (
        "import sys\n"
        "from attrition.cluster.session import connect\n"
        "from attrition.settings import Settings\n"
        "with connect(Settings.from_environment({}, home=sys.argv[1], ray_address=sys.argv[2])) as session:\n"
        "    print(session.address, session.dashboard_url, session.embedded)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), ray_cluster.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [ray_cluster.address, ray_cluster.dashboard_url, "False"]
    assert httpx.get(f"{ray_cluster.dashboard_url}/api/version").is_success
