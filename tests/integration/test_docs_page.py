"""The documentation page in a real browser that reaches nothing but the service."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import threading
import time

import httpx
import pytest
import uvicorn
from websockets.sync.client import connect

from attrition.registry.bundle import load_bundle
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.prediction_log import LogConfig, PredictionLog
from attrition.serving.traffic import single_variant
from attrition.settings import MODEL_NAME, Settings

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

SCORE = "/v1/predict"
OF_VERSION = f"/v2/models/{MODEL_NAME}/versions/{{version}}/infer"


@pytest.fixture(scope="module")
def url(make_bundle, tmp_path_factory):
    """A gateway on a real socket, with a log, so that every path is there."""
    log = PredictionLog(LogConfig.of(Settings.from_environment({}, home=tmp_path_factory.mktemp("home"))))
    gateway = Gateway(Limits(), load_bundle, log=log)
    asyncio.run(gateway.reconfigure(single_variant(make_bundle("1.0.0", 1.0)).model_dump(mode="json")))
    server = uvicorn.Server(uvicorn.Config(gateway, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
    log.close()


class Page:
    """A page that a browser shows, asked through its debugging protocol."""

    def __init__(self, socket):
        self._socket = socket
        self._number = 0
        self.trouble = []

    def command(self, method, **parameters):
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("id") == self._number:
                return message["result"]
            if message["method"] in {"Runtime.exceptionThrown", "Log.entryAdded"}:
                self.trouble.append(message["params"])

    def run(self, script):
        """The value of an expression, awaited."""
        done = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script):
        """Return when an expression is true."""
        for _ in range(200):
            if self.run(script):
                return
            time.sleep(0.05)
        raise AssertionError(f"not within 10 s: {script}")

    def send(self, path):
        """Press the button of a path, and return what the page shows then."""
        boxes = "[...document.querySelectorAll('details')]"
        box = f"{boxes}.find(d => d.querySelector('code').textContent.trim() === {path!r})"
        self.run(f"{box}.querySelector('button').click()")
        self.until(f"{box}.querySelector('.answer').textContent !== ''")
        return self.run(f"{box}.querySelector('.answer').textContent")


@pytest.fixture(scope="module")
def page(url, tmp_path_factory):
    """The documentation, in a browser for which no other host exists."""
    folder = tmp_path_factory.mktemp("browser")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--remote-debugging-port=0",
    ]
    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with subprocess.Popen(
        [BROWSER, *flags, rules, f"--user-data-dir={folder}", "about:blank"], stderr=subprocess.DEVNULL
    ) as browser:
        try:
            ready = folder / "DevToolsActivePort"
            deadline = time.monotonic() + 60
            while not (ready.is_file() and ready.read_text().count("\n")):
                assert time.monotonic() < deadline, "the browser does not start"
                time.sleep(0.05)
            port = ready.read_text().split("\n")[0]
            targets = httpx.get(f"http://127.0.0.1:{port}/json/list").json()
            address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
            with connect(address, max_size=None) as socket:
                shown = Page(socket)
                for domain in ("Runtime", "Log", "Page"):
                    shown.command(f"{domain}.enable")
                shown.command("Page.navigate", url=f"{url}/docs")
                shown.until("document.body?.dataset.rendered === 'true'")
                yield shown
        finally:
            browser.terminate()
            browser.wait(30)


def test_it_shows_every_operation(page, url):
    """Offline, without an error in the browser's log, and with a record that a person could be."""
    paths = page.run("[...document.querySelectorAll('details > summary > code')].map(code => code.textContent.trim())")
    assert sorted(paths) == sorted(httpx.get(f"{url}/openapi.json").json()["paths"])
    resources = page.run("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert {resource.removeprefix(url) for resource in resources} == {"/openapi.json", "/v1/versions"}
    assert page.trouble == []


@pytest.mark.parametrize("path", [SCORE, f"/v2/models/{MODEL_NAME}/infer", "/invocations", "/v1/outcomes", OF_VERSION])
def test_what_it_suggests_can_be_sent(page, path):
    """With a press of the button, and the answer appears."""
    answer = page.send(path)
    assert answer.startswith(("HTTP 200", "HTTP 202")), answer
    assert "accepted" in answer or "1.0.0" in answer


def test_a_question_without_a_body_can_be_sent(page):
    """GET too."""
    assert '"generation": 0' in page.send("/v1/versions")


def test_a_refusal_is_shown(page):
    """As the service words it, as text."""
    page.run("document.querySelector('textarea').value = '{\"age\": \"<b>old</b>\"}'")
    page.run("document.querySelector('.answer').textContent = ''")
    answer = page.send(SCORE)
    assert answer.startswith("HTTP 422")
    assert "/age" in answer
    assert page.run("document.querySelectorAll('b').length") == 0
