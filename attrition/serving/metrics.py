"""What a replica counts, gathered in plain Python on the request path and exported to Ray once a second.

A Ray counter costs several microseconds per increment, a dictionary a tenth of one. Names as scraped from Ray's metrics
endpoint, where Ray adds the labels ``deployment``, ``replica`` and ``application``:

=========================================  ============================  =====================================
name                                       labels beside Ray's           counts
=========================================  ============================  =====================================
ray_prediction_requests_total              model_version, variant        requests with a record it answered
ray_prediction_records_total               model_version, variant        records that it answered
ray_prediction_errors_total                model_version, variant, kind  requests that were answered by a problem
ray_prediction_duration_seconds            model_version, variant        histogram: arrival to encoded answer
ray_placed_batches_total                   model_version, variant        answered calls of its own deployment
ray_placed_records_total                   model_version, variant        records in them
ray_placed_failures_total                  model_version, variant        calls without an answer, or a late one
ray_shadow_scored_total                    model_version, variant        copies that a shadow scored
ray_shadow_dropped_total                   model_version, variant        copies that found its queue full
ray_shadow_failed_total                    model_version, variant        copies on which it raised
ray_shadow_disagreements_total             model_version, variant        scored copies with the other decision
=========================================  ============================  =====================================

With the fast lane also ``ray_prediction_in_flight``: mean number of requests in the lane over the last second. With a
prediction log also, without labels of ours:

=========================================  ==================================================================
ray_prediction_log_records                 predictions written since the replica's start
ray_prediction_log_dropped                 predictions that were answered but not written
ray_prediction_log_spool_bytes             on disk, not in the table yet
ray_prediction_log_lag_seconds             age of the oldest sealed segment that is not in the table
ray_prediction_log_degraded                1 while something is wrong with the log, else 0
=========================================  ==================================================================

A request that fails before it is assigned has ``none`` as version and variant. What the fast lane turns away or is too
slow for is counted as the kinds ``overloaded`` and ``timeout``; what Serve turns away never gets here: Serve counts it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attrition.serving.vitals import NO_VARIANT, VitalsLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attrition.serving.prediction_log import PredictionLog
    from attrition.serving.scoring import Scores
    from attrition.serving.snapshot import Lane
    from attrition.serving.traffic import Variant

NONE = NO_VARIANT
"""Version and variant of a request that reached none."""

EXPORT_SECONDS = 1.0

DURATION_BOUNDARIES = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Upper ends of the duration's buckets, seconds; a replica answers one record in about 0.1 ms."""

COUNTERS: Mapping[str, str] = {
    "prediction_requests": "Requests with at least one record that the variant answered.",
    "prediction_records": "Records that the variant answered.",
    "prediction_errors": "Requests that were answered by a problem document.",
    "placed_batches": "Calls of the variant's own deployment that were answered.",
    "placed_records": "Records in them.",
    "placed_failures": "Calls that were not answered, or not in time.",
    "shadow_scored": "Copies of records that the shadow scored.",
    "shadow_dropped": "Copies of records that found the shadow's queue full.",
    "shadow_failed": "Copies of records on which the shadow raised.",
    "shadow_disagreements": "Scored copies whose decision differs from the answered one.",
}
"""Counters and their descriptions; Ray appends ``_total`` to the name."""

LOG_GAUGES: Mapping[str, str] = {
    "records": "Predictions written to the log since the replica's start.",
    "dropped": "Predictions that were answered but not written since the replica's start.",
    "spool_bytes": "Bytes of the log on disk that are not in the table yet.",
    "lag_seconds": "Age of the oldest sealed segment that is not in the table.",
    "degraded": "1 while something is wrong with the prediction log.",
}
"""Gauges of the prediction log and their descriptions."""

DURATION = "prediction_duration_seconds"
IN_FLIGHT = "prediction_in_flight"

_MAX_DURATIONS = 100_000
_SLICE = 50

Labels = tuple[str, ...]
"""Version, variant and, for errors, kind."""


@dataclass(slots=True)
class Readings:
    """What was counted since the last drain.

    Attributes
    ----------
    counts : mapping of (str, labels) to int
        By counter and labels.
    durations : list of (labels, float)
        Seconds.
    """

    counts: dict[tuple[str, Labels], int] = field(default_factory=lambda: defaultdict(int))
    durations: list[tuple[Labels, float]] = field(default_factory=list)


class Meter:
    """Counts of one replica; belongs to the event loop's thread.

    Attributes
    ----------
    vitals : VitalsLedger
        Everything that was drained, by variant.
    """

    def __init__(self) -> None:
        self._readings = Readings()
        self.vitals = VitalsLedger()

    def scored(self, scores: Sequence[Scores], seconds: float) -> None:
        """A request was answered in `seconds`."""
        counts, durations = self._readings.counts, self._readings.durations
        for group in scores:
            labels = group.lane.labels
            counts["prediction_requests", labels] += 1
            counts["prediction_records", labels] += len(group.reasons)
            if len(durations) < _MAX_DURATIONS:
                durations.append((labels, seconds))

    def failed(self, kind: str, lane: Lane | None = None) -> None:
        """A request was answered by a problem of this kind."""
        version, variant = lane.labels if lane is not None else (NONE, NONE)
        self._readings.counts["prediction_errors", (version, variant, kind)] += 1

    def shadow(self, event: str, lane: Lane, n_records: int) -> None:
        """Copies of records were ``scored``, ``dropped``, ``failed``, or scored with ``disagreements``."""
        self._readings.counts["shadow_" + event, lane.labels] += n_records

    def batch(self, variant: Variant, answered: bool, n_records: int) -> None:
        """A call of a placed variant's deployment ended."""
        labels = (variant.version, variant.name)
        if answered:
            self._readings.counts["placed_batches", labels] += 1
            self._readings.counts["placed_records", labels] += n_records
        else:
            self._readings.counts["placed_failures", labels] += 1

    def drain(self) -> Readings:
        """What was counted since the last call."""
        readings, self._readings = self._readings, Readings()
        self.vitals.count(readings.counts, readings.durations)
        return readings


class RayExport:
    """Exports a meter through Ray Serve; made inside a replica."""

    def __init__(
        self, meter: Meter, log: PredictionLog | None = None, in_flight: Callable[[], float] | None = None
    ) -> None:
        from ray.serve import metrics

        self._meter = meter
        self._log = log
        self._in_flight = in_flight
        self._in_flight_gauge: Any = in_flight and metrics.Gauge(IN_FLIGHT, "Mean number of requests in the fast lane.")
        self._gauges: dict[str, Any] = {
            name: metrics.Gauge(f"prediction_log_{name}", description)
            for name, description in LOG_GAUGES.items()
            if log
        }
        keys = ("model_version", "variant")
        self._counters: dict[str, Any] = {
            name: metrics.Counter(name, description, (*keys, "kind") if name == "prediction_errors" else keys)
            for name, description in COUNTERS.items()
        }
        self._duration = metrics.Histogram(
            DURATION, "From a request's arrival in the replica to its encoded answer.", list(DURATION_BOUNDARIES), keys
        )

    async def run(self) -> None:
        """Export for ever, once a second."""
        while True:
            await asyncio.sleep(EXPORT_SECONDS)
            await self.export()

    async def export(self) -> None:
        """Export what was counted, in slices between which requests are answered."""
        if self._in_flight is not None:
            self._in_flight_gauge.set(self._in_flight())
        if self._log is not None:
            health = self._log.health()
            values = {
                "records": health.n_records,
                "dropped": health.n_dropped,
                "spool_bytes": health.spool_bytes,
                "lag_seconds": health.lag_seconds,
                "degraded": float(not health.ok),
            }
            for name, value in values.items():
                self._gauges[name].set(value)
        readings = self._meter.drain()
        for (name, labels), count in readings.counts.items():
            self._counters[name].inc(count, _tags(labels))
        for number, (labels, seconds) in enumerate(readings.durations, 1):
            self._duration.observe(seconds, _tags(labels))
            if number % _SLICE == 0:
                await asyncio.sleep(0)


def _tags(labels: Labels) -> dict[str, str]:
    return dict(zip(("model_version", "variant", "kind"), labels, strict=False))
