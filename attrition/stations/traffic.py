"""The traffic under guard: what :class:`~attrition.cluster.traffic.TrafficControl` does, authorised and recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrition.cluster.traffic import TrafficControl
from attrition.governance.actions import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attrition.cluster.traffic import Switch, TrafficState
    from attrition.governance.guard import Entry, Guard
    from attrition.registry.bundle import BundleRef
    from attrition.serving.placement import PlacedOptions, Placement
    from attrition.serving.traffic_history import TrafficChange
    from attrition.settings import Settings

ENDPOINT = "endpoint"
"""Subject of the audit events."""


class Traffic:
    """The split between served versions; reached as ``Workspace.traffic``.

    Every method raises ``AccessDenied`` for who may not do it, and what the method of the same name of
    :class:`~attrition.cluster.traffic.TrafficControl` raises. A `justification` is kept in the audit log.

    Parameters
    ----------
    settings
        Where Ray, the endpoint and the tables are.
    guard
        Of the project.
    export
        Exports a registered version, by version or alias, and verifies it.
    """

    def __init__(self, settings: Settings, guard: Guard, export: Callable[[str], BundleRef]) -> None:
        self._settings = settings
        self._guard = guard
        self._export = export

    def show(self) -> TrafficState:
        """What is served now."""
        return self._control(self._guard.require(Action.TRAFFIC_VIEW, ENDPOINT).name).show()

    def history(self) -> list[TrafficChange]:
        """Every change, oldest first."""
        return self._control(self._guard.require(Action.TRAFFIC_VIEW, ENDPOINT).name).history()

    def set(
        self, shares: Mapping[str, float], *, experiment: str | None = None, justification: str | None = None
    ) -> TrafficChange:
        """Split the traffic between versions; pins and shadows stay.

        Parameters
        ----------
        shares
            Version or alias → weight: shares that sum to 1, or per cent that sum to 100.
        experiment
            Name of a new comparison, for which people are assigned anew; None goes on with the current one.
        """
        details = {"shares": dict(shares), "experiment": experiment}
        return self._change(lambda control: control.set(shares, experiment=experiment), details, justification)

    def pin(self, header: str, value: str, version: str, *, justification: str | None = None) -> TrafficChange:
        """Have requests whose header equals a value answered by a version, whatever the weights say."""
        details = {"pin": header, "version": version}
        return self._change(lambda control: control.pin(header, value, version), details, justification)

    def unpin(self, header: str, value: str | None = None, *, justification: str | None = None) -> TrafficChange:
        """Remove the pin of a header and value, or all pins of a header."""
        return self._change(lambda control: control.unpin(header, value), {"unpin": header}, justification)

    def shadow(self, versions: Sequence[str], *, justification: str | None = None) -> TrafficChange:
        """Have exactly these versions score copies of every record; none stops all shadows."""
        return self._change(lambda control: control.shadow(versions), {"shadow": list(versions)}, justification)

    def place(
        self,
        version: str,
        placement: Placement,
        options: PlacedOptions | None = None,
        *,
        justification: str | None = None,
    ) -> TrafficChange:
        """Have a version scored by a deployment of its own, or in process again; shares, pins and shadows stay.

        Parameters
        ----------
        placement
            Where.
        options
            Size, resources and limits of the deployment; None means the defaults.
        """
        details = {"place": version, "placement": str(placement)}
        return self._change(lambda control: control.place(version, placement, options), details, justification)

    def rollback(self, generation: int | None = None, *, justification: str | None = None) -> TrafficChange:
        """Put an earlier traffic back: the one before the current, or that of a generation in the history."""
        with self._guard.acting(
            Action.ROLLBACK, ENDPOINT, justification=justification, details={"to_generation": generation}
        ) as entry:
            return _recorded(entry, self._control(entry.actor).rollback(generation))

    def switch(self, version: str, *, justification: str | None = None) -> Switch:
        """Move all traffic to a version after it has answered smoke tests beside the others."""
        with self._guard.acting(
            Action.TRAFFIC_CHANGE, ENDPOINT, justification=justification, details={"switch": version}
        ) as entry:
            switched = self._control(entry.actor).switch(version)
            entry.details["smoke_tests_passed"] = switched.report.passed
            if switched.change is not None:
                _recorded(entry, switched.change)
            return switched

    def _change(
        self,
        work: Callable[[TrafficControl], TrafficChange],
        details: Mapping[str, object],
        justification: str | None,
    ) -> TrafficChange:
        with self._guard.acting(Action.TRAFFIC_CHANGE, ENDPOINT, justification=justification, details=details) as entry:
            return _recorded(entry, work(self._control(entry.actor)))

    def _control(self, actor: str) -> TrafficControl:
        return TrafficControl(self._settings, self._export, actor=actor)


def _recorded(entry: Entry, change: TrafficChange) -> TrafficChange:
    """Note in the audit entry what the traffic has become."""
    traffic = change.traffic
    answering = sorted({variant.version for variant in traffic.variants if variant.weight})
    entry.model_version = ", ".join(answering)[:120] or None
    entry.details["generation"] = change.generation
    return change
