"""Notifications: over a real HTTP address, each once, across restarts and processes, without secrets in messages."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from attrition.cli.main import app
from attrition.errors import ConfigError, PlatformError
from attrition.monitoring.alert_state import AlertState
from attrition.monitoring.alerts import Alert, Notifier, Severity, apprise_delivery

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
LOW_AUC = Alert("performance/1.0.0/auc", "AUC below 0.82", "0.79 [0.77, 0.81]", Severity.WARNING)


class Inbox:
    """An HTTP server that takes Apprise's JSON notifications; `status` is what it answers."""

    def __init__(self):
        self.messages, self.status = [], 200
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if inbox.status == 200:
                    inbox.messages.append(json.loads(body))
                self.send_response(inbox.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"json://hidden-user:hidden-word@127.0.0.1:{self.server.server_address[1]}/"

    @property
    def titles(self):
        return [message["title"] for message in self.messages]


@pytest.fixture
def inbox():
    pytest.importorskip("apprise", reason="the extra `alerts` is not installed")
    made = Inbox()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def address(tmp_path):
    return f"sqlite:///{tmp_path / 'governance.db'}"


@pytest.fixture
def notifier(inbox, address):
    return Notifier(apprise_delivery([inbox.url]), AlertState(address))


def test_an_alert_is_sent_once_per_period(notifier, inbox):
    """Again within 24 hours is suppressed and counted; after them the reminder says how often."""
    assert notifier.fire(LOW_AUC, now=NOW).sent
    assert not any(notifier.fire(LOW_AUC, now=NOW + n * HOUR).sent for n in (1, 2, 23))
    assert notifier.fire(LOW_AUC, now=NOW + 24 * HOUR).sent
    assert inbox.titles == ["[WARNING] AUC below 0.82"] * 2
    assert "3 more times" in inbox.messages[1]["message"]
    assert inbox.messages[0]["type"] == "warning"


def test_what_became_worse_is_sent_at_once(notifier, inbox):
    """A rise in severity does not wait; a fall does."""
    critical = Alert(LOW_AUC.key, LOW_AUC.title, LOW_AUC.body, Severity.CRITICAL)
    sent = [notifier.fire(alert, now=NOW).sent for alert in (LOW_AUC, critical, LOW_AUC)]
    assert sent == [True, True, False]
    assert inbox.titles[1].startswith("[CRITICAL]")


def test_resolved_once_and_then_new(notifier, inbox):
    """One message that it is over; what comes back later is new."""
    notifier.fire(LOW_AUC, now=NOW)
    assert notifier.resolve(LOW_AUC.key, LOW_AUC.title).sent
    assert not notifier.resolve(LOW_AUC.key, LOW_AUC.title).sent
    assert notifier.fire(LOW_AUC, now=NOW + HOUR).sent
    assert inbox.titles[1] == "[RESOLVED] AUC below 0.82"
    assert inbox.messages[1]["type"] == "success"


def test_settle_resolves_within_its_scope_only(notifier, inbox):
    """Other alerts are none of its business."""
    drift = Alert("drift/1.0.0/age", "Drift", "age")
    notifier.fire(drift, now=NOW)
    notifier.settle("performance/", [LOW_AUC], now=NOW)
    notices = notifier.settle("performance/", [], now=NOW + HOUR)
    assert [(notice.key, notice.sent) for notice in notices] == [(LOW_AUC.key, True)]
    assert not any("drift" in title for title in inbox.titles[1:])


def test_another_process_remembers(notifier, inbox, address):
    """What this process sent, a new one does not send again."""
    notifier.fire(LOW_AUC, now=NOW)
    again = Notifier(apprise_delivery([inbox.url]), AlertState(address))
    assert not again.fire(LOW_AUC, now=NOW + HOUR).sent


CLAIM = """
import sys
from datetime import UTC, datetime, timedelta
from attrition.monitoring.alert_state import AlertState
state = AlertState(sys.argv[1])
now = datetime(2026, 5, 4, tzinfo=UTC)
print(sum(state.claim(f"key/{n}", 1, now=now, period=timedelta(hours=1)) for n in range(20)))
"""


def test_of_several_processes_one_sends(address):
    """Three processes claim the same twenty alerts at the same moment: twenty claims in all."""
    running = [
        subprocess.Popen([sys.executable, "-c", CLAIM, address], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert sum(int(process.communicate(timeout=60)[0]) for process in running) == 20
    rows = AlertState(address).rows()
    assert sum(row.n_suppressed for row in rows.values()) == 40


def test_what_nobody_took_is_tried_again(notifier, inbox):
    """A failed delivery gives the claim back, also that of a resolution, and repeats no part of the address."""
    inbox.status = 500
    with pytest.raises(PlatformError, match="none of 1 addresses") as error:
        notifier.fire(LOW_AUC, now=NOW)
    assert "hidden" not in str(error.value)
    inbox.status = 200
    assert notifier.fire(LOW_AUC, now=NOW).sent
    inbox.status = 500
    with pytest.raises(PlatformError):
        notifier.resolve(LOW_AUC.key, LOW_AUC.title)
    inbox.status = 200
    assert notifier.resolve(LOW_AUC.key, LOW_AUC.title).sent


def test_one_dead_address_does_not_hold_the_others(inbox, address):
    """The message counts as sent, with one failure."""
    both = apprise_delivery([inbox.url, "json://127.0.0.1:9/"])
    notice = Notifier(both, AlertState(address)).fire(LOW_AUC, now=NOW)
    assert (notice.n_delivered, notice.n_failed) == (1, 1)


def test_addresses_that_are_none(inbox):
    """Every one is named by position, never by text."""
    with pytest.raises(ConfigError) as error:
        apprise_delivery([inbox.url, "nonsense://hidden-word", "hidden-word"])
    assert [fault.where for fault in error.value.faults] == [
        "ATTRITION_ALERT_URLS, address 2",
        "ATTRITION_ALERT_URLS, address 3",
    ]
    assert "hidden" not in str(error.value)


def test_without_apprise_the_install_line_is_said(monkeypatch):
    """The exact one."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"pip install 'attrition\[alerts\]'"):
        apprise_delivery(["json://127.0.0.1/"])


def test_without_an_address():
    """Says which variable names them."""
    with pytest.raises(ConfigError, match="ATTRITION_ALERT_URLS"):
        apprise_delivery([])


def test_the_commands(inbox, tmp_path, monkeypatch):
    """`alerts test` delivers every time, `alerts list` shows none of the tests, and no secret is printed."""
    monkeypatch.setenv("ATTRITION_ALERT_URLS", inbox.url)

    def attrition(*arguments):
        return CliRunner().invoke(app, ["--home", str(tmp_path / "home"), "alerts", *arguments])

    for _ in range(2):
        done = attrition("test", "--json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["n_delivered"] == 1
    assert len(inbox.messages) == 2
    assert json.loads(attrition("list", "--json").stdout) == []
    inbox.status = 500
    failed = attrition("test")
    assert failed.exit_code == 5
    assert "hidden" not in failed.output + done.output
