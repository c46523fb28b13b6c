"""Periods in which the same people were assigned to the same versions, from the history of the traffic."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from attrition.experiments.plan import Design
from attrition.serving.traffic import N_BUCKETS
from attrition.serving.traffic_history import ChangeOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from attrition.experiments.plan import ExperimentPlan
    from attrition.serving.traffic import Traffic
    from attrition.serving.traffic_history import TrafficChange


@dataclass(frozen=True, slots=True)
class Span:
    """A period in which the assignment stood still.

    Attributes
    ----------
    start, end : datetime
        UTC, the end excluded.
    shares : mapping of str to float
        Version to its share of the buckets; they sum to 1.
    """

    start: datetime
    end: datetime
    shares: Mapping[str, float]


def find_spans(
    changes: Iterable[TrafficChange], plan: ExperimentPlan, *, since: datetime, until: datetime
) -> tuple[Span, ...]:
    """Periods within `since` and `until` in which both versions had their part, oldest first.

    A change that leaves the assignment as it is (a pin, a deployment of its own, a smoke test) ends none of them. What
    was answered while a change was on its way to the replicas belongs to neither side of it.

    Parameters
    ----------
    changes
        Of one application, in the order of their generations.
    plan
        With versions, not aliases.
    """
    found: list[Span] = []
    begun: datetime | None = None
    current: object = None
    shares: Mapping[str, float] = {}

    def close(moment: datetime) -> None:
        start = None if begun is None else max(begun, since)
        end = min(moment, until)
        if start is not None and start < end:
            found.append(Span(start, end, shares))

    for change in changes:
        if change.outcome is ChangeOutcome.REFUSED:
            continue
        assignment = _assignment(change.traffic, plan)
        if assignment == current:
            continue
        close(change.time - timedelta(seconds=change.seconds))
        current, shares = assignment, _shares(change.traffic)
        begun = change.time if _takes_part(change.traffic, shares, plan) else None
    close(until)
    return tuple(found)


def _assignment(traffic: Traffic, plan: ExperimentPlan) -> object:
    """What two traffics have in common that assign people alike."""
    digests = {variant.name: variant.manifest_sha256 for variant in traffic.variants}
    ranges = tuple((low, high, digests[name]) for low, high, name in traffic.ranges)
    # a shadow beside a split does not touch it
    shadows = {digests[name] for name in traffic.shadows} if plan.design is Design.SHADOW else set()
    return ranges, traffic.salt, frozenset(shadows)


def _shares(traffic: Traffic) -> dict[str, float]:
    shares: dict[str, float] = {}
    for low, high, name in traffic.ranges:
        version = traffic.variant(name).version
        shares[version] = shares.get(version, 0.0) + (high - low) / N_BUCKETS
    return shares


def _takes_part(traffic: Traffic, shares: Mapping[str, float], plan: ExperimentPlan) -> bool:
    if plan.design is Design.SHADOW:
        return plan.control in shares and plan.challenger in {traffic.variant(n).version for n in traffic.shadows}
    return plan.control in shares and plan.challenger in shares
