"""Errors by PromQL: from a real Prometheus where one is installed, and what a server may answer instead."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest

from attrition.errors import ConfigError, PlatformError
from attrition.experiments.prometheus import ERRORS, REQUESTS, SHADOW_SCORED, Prometheus, increase_query
from attrition.experiments.samples import Errors
from attrition.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def serve():
    """Function that serves what a callable makes of the headers, as (status, text), and gives the address."""
    servers = []

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, text = answer(self.headers)
                self.send_response(status)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(text.encode())

            do_POST = do_GET  # noqa: N815 - the name is that of http.server

            def log_message(self, *args):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, "<html>a portal</html>"), "does not answer as one"),
        ((400, '{"status": "error", "error": "parse error"}'), "refuses the query: parse error"),
        ((503, "[]"), "no document"),
    ],
)
def test_what_is_no_prometheus(serve, answer, message):
    """Or one that refuses: a fault of the platform."""
    with pytest.raises(PlatformError, match=message):
        Prometheus(serve(lambda _headers: answer)).errors("1.0.0", NOW, NOW + timedelta(hours=1))


def test_an_address_is_never_repeated():
    """It may hold a password."""
    with pytest.raises(PlatformError) as caught:
        Prometheus("http://ann:secret@127.0.0.1:1").errors("1.0.0", NOW, NOW + timedelta(hours=1))
    assert "secret" not in str(caught.value)


@pytest.fixture
def guarded(serve):
    """A server that wants a token, and the tokens that it was sent."""
    sent = []

    def answer(headers):
        sent.append(headers.get("authorization"))
        if sent[-1] != "Bearer good":
            return 401, "who are you?"
        return 200, '{"status": "success", "data": {"resultType": "vector", "result": []}}'

    return serve(answer), sent


def _asked(tmp_path, **environ):
    settings = Settings.from_environment(
        {f"ATTRITION_PROMETHEUS_{k}": str(v) for k, v in environ.items()}, home=tmp_path
    )
    return Prometheus.of(settings).errors("1.0.0", NOW, NOW + timedelta(hours=1))


def test_a_token_of_the_environment_or_of_a_file(guarded, tmp_path):
    """The file is read for every query, as such tokens expire."""
    url, sent = guarded
    file = tmp_path / "token"
    file.write_text("good\n")
    assert _asked(tmp_path, URL=url, TOKEN_FILE=file) is None
    assert _asked(tmp_path, URL=url, TOKEN="good") is None
    prometheus = Prometheus.of(Settings.from_environment({}, prometheus_url=url, prometheus_token_file=file))
    file.write_text("expired")
    with pytest.raises(PlatformError, match=r"refuses its token \(HTTP 401\); .*ATTRITION_PROMETHEUS_TOKEN") as caught:
        prometheus.errors("1.0.0", NOW, NOW + timedelta(hours=1))
    assert "expired" not in str(caught.value)
    with pytest.raises(PlatformError, match="a query without a token"):
        _asked(tmp_path, URL=url)
    assert sent == ["Bearer good"] * 4 + ["Bearer expired", None]


def test_what_cannot_be_a_token(tmp_path):
    """A missing file, or text that would end the header: never repeated."""
    url = "http://127.0.0.1:1"
    with pytest.raises(ConfigError, match=r"TOKEN_FILE: cannot be read \(FileNotFoundError\)"):
        _asked(tmp_path, URL=url, TOKEN_FILE=tmp_path / "none")
    with pytest.raises(ConfigError, match="holds more than a token") as caught:
        _asked(tmp_path, URL=url, TOKEN="s3cret\r\nx-evil: 1")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(Settings.from_environment({"ATTRITION_PROMETHEUS_TOKEN": "s3cret"}, home=tmp_path))
    assert Prometheus.of(Settings.from_environment({}, home=tmp_path)) is None


def test_a_version_that_counted_nothing_is_not_counted(serve):
    """None, not zero errors of zero requests; nor is a period without length asked for."""
    url = serve(lambda _headers: (200, '{"status": "success", "data": {"resultType": "vector", "result": []}}'))
    assert Prometheus(url).errors("1.0.0", NOW, NOW + timedelta(hours=1)) is None
    assert Prometheus(url).errors("1.0.0", NOW, NOW) is None


def test_labels_and_versions_are_matched():
    """Every series of a query has them, quoted."""
    query = increase_query("hits_total", 'a"b', 60, 'namespace="hr"')
    assert query.count('{model_version="a\\"b",namespace="hr"}') == 3


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _exposition(counters):
    return "".join(
        f'{name}{{model_version="{version}",replica="{replica}"{extra}}} {value}\n'
        for (name, version, replica, extra), value in counters.items()
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here: apt-get install prometheus")
def test_a_real_prometheus(serve, tmp_path):
    """Whole numbers: what was counted in the period, of old series, new ones with a first value, and ended ones."""
    counters = {
        (REQUESTS, "1.0.0", "r1", ""): 1_000,
        (REQUESTS, "1.1.0", "r1", ""): 10,
        (ERRORS, "1.0.0", "r1", ',kind="internal"'): 7,
        (SHADOW_SCORED, "1.2.0", "r1", ""): 5,
    }
    target = serve(lambda _headers: (200, _exposition(counters))).removeprefix("http://")
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 500ms}\n"
        f"scrape_configs: [{{job_name: ray, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    url = f"http://127.0.0.1:{_free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    process = subprocess.Popen(
        [*command, f"--web.listen-address={url.removeprefix('http://')}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        prometheus = Prometheus(url)
        _until(lambda: _value(url, REQUESTS, "1.0.0") == 1_000)
        start = datetime.now(UTC)
        time.sleep(1.2)
        counters[REQUESTS, "1.0.0", "r1", ""] = 1_090
        counters[ERRORS, "1.0.0", "r1", ',kind="internal"'] = 10
        counters[ERRORS, "1.1.0", "r1", ',kind="timeout"'] = 4  # the first errors: a series that begins with 4
        counters[REQUESTS, "1.1.0", "r2", ""] = 26  # a replica that joined
        _until(lambda: _value(url, REQUESTS, "1.1.0") == 36)
        del counters[REQUESTS, "1.1.0", "r2", ""]  # and left
        counters[SHADOW_SCORED, "1.2.0", "r1", ""] = 25
        _until(lambda: _value(url, SHADOW_SCORED, "1.2.0") == 25)
        end = datetime.now(UTC)
        counters[REQUESTS, "1.0.0", "r1", ""] = 5_000  # after the period
        time.sleep(1.2)
        assert prometheus.errors("1.0.0", start, end) == Errors(90 + 3, 3, "Prometheus")
        assert prometheus.errors("1.1.0", start, end) == Errors(26 + 4, 4, "Prometheus")
        assert prometheus.errors("1.2.0", start, end, as_shadow=True) == Errors(20, 0, "Prometheus")
        assert Prometheus(url, 'job="other"').errors("1.0.0", start, end) is None
        with pytest.raises(PlatformError, match="refuses the query"):
            Prometheus(url, "job=").errors("1.0.0", start, end)
    finally:
        process.terminate()
        process.wait(20)


def _value(url, metric, version):
    try:
        query = {"query": f'sum({metric}{{model_version="{version}"}})'}
        rows = httpx.get(f"{url}/api/v1/query", params=query).json()["data"]["result"]
    except (httpx.HTTPError, ValueError, KeyError):
        return None
    return float(rows[0]["value"][1]) if rows else None


def _until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
