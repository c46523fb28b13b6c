"""How each variant does on a replica, counted since its start: what a rollout's guard reads every second.

Ray publishes metrics every ten seconds or so, too late for somebody who wants to withdraw a version at once. Each
replica shows its own counts instead, at ``GET /v1/vitals``. They only grow, so a reader who missed some reads the rest
later, and a replica that starts anew has another name. The balancer decides who answers: :func:`read` asks a few times.

Durations are counted in cells whose upper ends are `EDGES`, each 10 % above the one before.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.errors import Fault, ServingError
from attrition.governance.credentials import authorization

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import httpx

PATH = "/v1/vitals"

QUESTION_SECONDS = 2.0
"""How long one replica may take to tell."""

LOOK_SECONDS = 4.0
"""After this time no further question is asked."""

EDGES = 0.0001 * 1.1 ** np.arange(130)
"""Upper, inclusive ends of the cells in seconds: from 0.1 ms to 22 s; what is slower is counted in one more cell."""

NO_VARIANT = "none"
"""Name of the variant under which failures are counted that no variant is charged with."""


@dataclass(slots=True)
class Vitals:
    """Counts of one variant on one replica.

    Attributes
    ----------
    answered : int
        Requests with a record that it answered.
    failed : int
        Requests that were answered by a problem because of it.
    shadow_answered, shadow_failed : int
        Copies of records that it scored as a shadow, or raised on.
    durations : Counter of int
        Requests by the cell of their duration.
    """

    answered: int = 0
    failed: int = 0
    shadow_answered: int = 0
    shadow_failed: int = 0
    durations: Counter[int] = field(default_factory=Counter)

    def since(self, earlier: Vitals) -> Vitals:
        """What was added to an earlier count of the same replica."""
        return Vitals(
            self.answered - earlier.answered,
            self.failed - earlier.failed,
            self.shadow_answered - earlier.shadow_answered,
            self.shadow_failed - earlier.shadow_failed,
            self.durations - earlier.durations,
        )

    def add(self, other: Vitals) -> None:
        """Count what another has counted, too."""
        self.answered += other.answered
        self.failed += other.failed
        self.shadow_answered += other.shadow_answered
        self.shadow_failed += other.shadow_failed
        self.durations += other.durations

    def slower_than(self, seconds: float) -> int:
        """Requests that certainly took longer: those of the cells above the one that `seconds` lies in."""
        cell = int(np.searchsorted(EDGES, seconds))
        return sum(count for number, count in self.durations.items() if number > cell)

    @property
    def n_timed(self) -> int:
        """Requests whose duration is known."""
        return self.durations.total()


class VitalsLedger:
    """Vitals by version and variant; belongs to one thread."""

    def __init__(self) -> None:
        self._by_labels: dict[tuple[str, str], Vitals] = defaultdict(Vitals)
        self._since = time.monotonic()

    def count(
        self,
        counts: Mapping[tuple[str, tuple[str, ...]], int],
        durations: Iterable[tuple[tuple[str, ...], float]],
    ) -> None:
        """Take in what a meter counted: by counter and labels, and seconds by labels."""
        fields = {
            "prediction_requests": "answered",
            "prediction_errors": "failed",
            "shadow_scored": "shadow_answered",
            "shadow_failed": "shadow_failed",
        }
        for (name, labels), number in counts.items():
            if name in fields and labels[1] != NO_VARIANT:
                vitals = self._by_labels[labels[0], labels[1]]
                setattr(vitals, fields[name], getattr(vitals, fields[name]) + number)
        seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for labels, each in durations:
            seconds[labels].append(each)
        for labels, values in seconds.items():
            cells, numbers = np.unique(np.searchsorted(EDGES, values), return_counts=True)
            found = Counter(dict(zip(cells.tolist(), numbers.tolist(), strict=True)))
            self._by_labels[labels[0], labels[1]].durations += found

    def document(self, replica: str) -> dict[str, Any]:
        """JSON-ready: one entry per variant that did something on a replica since its start."""
        variants = [
            {
                "version": version,
                "variant": variant,
                "answered": vitals.answered,
                "failed": vitals.failed,
                "shadow_answered": vitals.shadow_answered,
                "shadow_failed": vitals.shadow_failed,
                "durations": {str(cell): count for cell, count in sorted(vitals.durations.items())},
            }
            for (version, variant), vitals in self._by_labels.items()
        ]
        return {"replica": replica, "age_seconds": time.monotonic() - self._since, "variants": variants}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one replica has counted.

    Attributes
    ----------
    replica : str
    age_seconds : float
        Since its start.
    vitals : mapping of str to Vitals
        By version.
    """

    replica: str
    age_seconds: float
    vitals: Mapping[str, Vitals]


def parse(document: Mapping[str, Any]) -> Reading:
    """The reading in the answer to one question.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is no such answer.
    """
    found: dict[str, Vitals] = defaultdict(Vitals)
    for entry in document["variants"]:
        found[entry["version"]].add(
            Vitals(
                int(entry["answered"]),
                int(entry["failed"]),
                int(entry["shadow_answered"]),
                int(entry["shadow_failed"]),
                Counter({int(cell): int(count) for cell, count in entry["durations"].items()}),
            )
        )
    return Reading(str(document["replica"]), float(document["age_seconds"]), dict(found))


def read(http: httpx.Client, url: str, n_replicas: int) -> list[Reading]:
    """One reading of each replica that the balancer let answer; most of the time that is all of them.

    A replica that does not tell hides nothing of what others do. It all takes `LOOK_SECONDS` and one question at most.

    Parameters
    ----------
    url
        Base address of the endpoint.
    n_replicas
        As many as there are.

    Raises
    ------
    ServingError
        No question was answered, or not in this form.
    """
    import httpx

    found: dict[str, Reading] = {}
    failure: Exception | None = None
    deadline = time.monotonic() + LOOK_SECONDS
    for _ in range(2 * max(1, n_replicas)):
        try:
            answer = http.get(url + PATH, headers=authorization(), timeout=QUESTION_SECONDS)
            reading = parse(answer.raise_for_status().json())
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            failure = error
        else:
            found[reading.replica] = reading
        if len(found) >= n_replicas or time.monotonic() > deadline:
            break
    if failure is not None and not found:
        why = type(failure).__name__
        if isinstance(failure, httpx.HTTPStatusError):
            why = f"HTTP {failure.response.status_code}"
        raise ServingError(Fault(url + PATH, f"does not tell how the variants do ({why})")) from failure
    return list(found.values())
