"""Steady requests from a process of its own, as clients of the endpoint send them, and what became of each.

::

    python steady_load.py URL FILE RATE SENDERS RECORDS [KEY]

Sends until standard input is closed; then the answers are in FILE. Half of the senders keep their connection, the
others open one per request. A request is never repeated: what fails has failed.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

N_SENDERS = 10
"""Unless told otherwise."""
TIMEOUT_SECONDS = 35.0
RECORD = {"age": 40, "tenure": 12, "satisfaction_score": 3.5, "department_code": 2}
HEADERS = {"content-type": "application/json"}


@dataclass
class Outcome:
    """What became of the requests of a load.

    Attributes
    ----------
    answered : list of (float, float, str)
        Unix time and seconds of each answered request, and its prediction_id.
    failures : list of (float, str, str)
        Unix time, whether the connection was new (`close`) or kept (`keep`), and what happened.
    """

    answered: list[tuple[float, float, str]] = field(default_factory=list)
    failures: list[tuple[float, str, str]] = field(default_factory=list)

    @property
    def n_requests(self) -> int:
        """Answered or not."""
        return len(self.answered) + len(self.failures)

    @property
    def prediction_ids(self) -> list[str]:
        """Of the answered ones."""
        return [prediction_id for _, _, prediction_id in self.answered]

    @property
    def slowest_seconds(self) -> float:
        """Longest time to an answer."""
        return max(seconds for _, seconds, _ in self.answered)


class Load:
    """A process that sends while the block runs; :attr:`outcome` is there after it.

    Parameters
    ----------
    url
        Base address of the endpoint.
    file
        Where the process writes what became of the requests.
    rate
        Requests per second of all senders together, as long as they are answered in time.
    n_senders
        Requests that can be under way at the same time.
    n_records
        Records in each request; with more than one, no identifiers are kept.
    key
        API key, where access is closed.
    """

    def __init__(
        self,
        url: str,
        file: Path,
        *,
        rate: float = 250.0,
        n_senders: int = N_SENDERS,
        n_records: int = 1,
        key: str = "",
    ) -> None:
        self._command = [sys.executable, __file__, url, str(file), str(rate), str(n_senders), str(n_records), key]
        self._file = file
        self.outcome = Outcome()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(TIMEOUT_SECONDS + 10) == 0
        document = json.loads(self._file.read_text())
        self.outcome.answered = [tuple(each) for each in document["answered"]]
        self.outcome.failures = [tuple(each) for each in document["failures"]]


class _Sender(threading.Thread):
    """One client: sends at its times, or at once when it is late."""

    def __init__(
        self, url: str, number: int, stop: threading.Event, *, period: float, n_records: int, key: str
    ) -> None:
        super().__init__()
        self._headers = HEADERS | ({"authorization": f"Bearer {key}"} if key else {})
        address = urlsplit(url)
        # it connects by itself, whenever it has no connection
        self._connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_SECONDS)
        self._number, self._period, self._stopping = number, period, stop
        self._batch = json.dumps({"records": [RECORD] * n_records}) if n_records > 1 else None
        self._kind = "close" if number % 2 else "keep"
        self.outcome = Outcome()

    def run(self) -> None:
        due = time.monotonic() + self._period * (self._number % N_SENDERS) / N_SENDERS
        count = 0
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._period, time.monotonic() - self._period)
            count += 1
            if self._is_dropped():
                self._connection.close()
            if not self._ask(count) or self._kind == "close":
                self._connection.close()

    def _is_dropped(self) -> bool:
        """Whether the other end has closed the idle connection: usual clients look before they send, too."""
        sock = self._connection.sock
        return sock is not None and bool(select.select([sock], [], [], 0)[0])

    def _ask(self, count: int) -> bool:
        body = self._batch or json.dumps({**RECORD, "employee_id": f"E-{self._number}-{count % 500}"})
        sent = time.time()
        try:
            self._connection.request("POST", "/v1/predict", body, self._headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException) as error:
            self.outcome.failures.append((sent, self._kind, repr(error)))
            return False
        if answer.status != 200:
            self.outcome.failures.append((sent, self._kind, f"{answer.status} {content[:200]!r}"))
            return False
        prediction_id = json.loads(content)["prediction_id"] if self._batch is None else ""
        self.outcome.answered.append((sent, time.time() - sent, prediction_id))
        return not answer.will_close


def main(url: str, file: str, rate: str, n_senders: str, n_records: str, key: str = "") -> None:
    """Send until standard input is closed."""
    stop = threading.Event()
    period = int(n_senders) / float(rate)
    senders = [_Sender(url, i, stop, period=period, n_records=int(n_records), key=key) for i in range(int(n_senders))]
    for sender in senders:
        sender.start()
    sys.stdin.read()
    stop.set()
    for sender in senders:
        sender.join()
    answered = [each for sender in senders for each in sender.outcome.answered]
    failures = [each for sender in senders for each in sender.outcome.failures]
    Path(file).write_text(json.dumps({"answered": answered, "failures": sorted(failures)}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
