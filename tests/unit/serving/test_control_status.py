"""Serve's REST interface, as far as it needs no Serve: what else may listen at the address, and how a status looks."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from attrition.errors import RayUnreachable, ServingError
from attrition.serving.control import ServeControl, ServeStatus, VariantStatus, not_running


@contextmanager
def server(status, body, content_type="text/html"):
    """A web server that always answers the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (404, b"<h1>Not here</h1>", "status 404"),
        (405, b"", "status 405"),
        (200, b"<h1>Welcome</h1>", "something that is not JSON"),
        (200, b"[1]", "JSON of another form"),
    ],
)
def test_what_is_no_dashboard_is_called_so(status, body, found):
    """One sentence with the address, what came and what to do; nothing of the page."""
    with server(status, body) as address, pytest.raises(RayUnreachable) as caught:
        ServeControl(address, "http://127.0.0.1:1").status("attrition")
    message = str(caught.value)
    assert f"{address}: is no Ray dashboard: it answers with {found}" in message
    assert "http://HOST:8265" in message
    assert "<h1>" not in message


def test_other_errors_keep_their_text():
    """Serve's own explanation."""
    with server(400, b"no such option") as address, pytest.raises(ServingError, match=r"400.*no such option"):
        ServeControl(address, "http://127.0.0.1:1").status("attrition")


def application(name, import_path="attrition.serving.app:build", prefix="/"):
    config = {"name": name, "import_path": import_path, "deployments": []}
    return {"status": "RUNNING", "route_prefix": prefix, "deployed_app_config": config, "deployments": {}}


def test_our_applications_and_where_they_are():
    """By what they run, whatever they are called; the address has the route prefix."""
    details = {
        "applications": {
            "people": application("people", prefix="/hr"),
            "attrition": application("attrition"),
            "dashboard": application("dashboard", "their.app:build", "/x"),
            "by serve.run": {"status": "RUNNING", "route_prefix": "/y", "deployments": {}},
        }
    }
    with server(200, json.dumps(details).encode(), "application/json") as address:
        control = ServeControl(address, "http://127.0.0.1:8000")
        assert control.applications() == ["attrition", "people"]
        assert control.status("people").url == "http://127.0.0.1:8000/hr"
        assert control.status("people").docs_url == "http://127.0.0.1:8000/hr/docs"
        assert control.status("attrition").url == "http://127.0.0.1:8000"


def test_a_status_in_a_notebook():
    """Escaped, with what runs or why nothing does."""
    variant = VariantStatus("blue", "1.0.0", 1.0)
    running = ServeStatus(
        running=True, state="RUNNING", url="http://<host>", docs_url="d", variants=(variant,), generation=3, replicas=2
    )
    html = running._repr_html_()
    assert "http://&lt;host&gt;/v1/predict" in html
    assert "<host>" not in html
    assert "blue: 1.0.0 (100%)" in html
    assert "&lt;dead&gt;" in not_running("http://x", "<dead>")._repr_html_()
