"""What the traffic must be at each point of a rollout, and what makes it so; to repeat that changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrition.serving.traffic import SMOKE_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attrition.release.rollout import Rollout
    from attrition.serving.control import ServeStatus
    from attrition.serving.traffic import Traffic

STAGE_HEADER = "x-attrition-stage"
"""Request header by which people reach a staged version: its value is the version."""


class Served(Protocol):
    """Traffic as it is served."""

    @property
    def traffic(self) -> Traffic:
        """The split, pins and shadows."""

    @property
    def status(self) -> ServeStatus:
        """Address and replicas of the endpoint."""


class TrafficControl(Protocol):
    """What the release needs of :class:`attrition.cluster.traffic.TrafficControl`, which stands above it."""

    def show(self) -> Served:
        """What is served now."""

    def set(self, shares: Mapping[str, float], *, experiment: str | None = None) -> object:
        """Split the traffic between versions."""

    def shadow(self, versions: Sequence[str]) -> object:
        """Have exactly these versions score copies."""

    def pin(self, header: str, value: str, version: str) -> object:
        """Have requests with a header answered by a version."""

    def unpin(self, header: str, value: str | None = None) -> object:
        """Remove a pin."""

    def settle(self, action: str) -> object:
        """Record what is served, if the record is missing."""


def weights(traffic: Traffic) -> dict[str, float]:
    """Share of every version that has one."""
    return {variant.version: variant.weight for variant in traffic.variants if variant.weight}


def shadows(traffic: Traffic) -> list[str]:
    """Versions that score copies."""
    return [traffic.variant(name).version for name in traffic.shadows]


def is_staged(traffic: Traffic, version: str) -> bool:
    """Whether a version is warm and reached by its stage pin."""
    return any(pin.header == STAGE_HEADER and traffic.variant(pin.variant).version == version for pin in traffic.pins)


def differs(traffic: Traffic, rollout: Rollout, step: int | None) -> str:
    """What is otherwise than a step (None: the end, everything with the champion) wants; empty when nothing is."""
    wanted = _wanted(rollout, step)
    found = weights(traffic)
    if found.keys() != wanted.keys() or any(abs(found[name] - wanted[name]) > 1e-9 for name in wanted):
        split = ", ".join(f"{name} {share:.4g}" for name, share in found.items())
        return f"the traffic is {split}, which this rollout did not set"
    if len(wanted) > 1 and traffic.experiment != rollout.name:
        return f"the traffic was drawn for the comparison {traffic.experiment or 'without a name'}"
    is_shadow = rollout.challenger in shadows(traffic)
    wants_shadow = step is not None and rollout.plan.steps[step].shadow
    if is_shadow != wants_shadow:
        return f"{rollout.challenger} is {'a' if is_shadow else 'no'} shadow, which this rollout did not order"
    return ""


def move(control: TrafficControl, rollout: Rollout, step: int | None) -> None:
    """Make the traffic what a step wants, by as few changes as that needs; None gives the champion everything back.

    Raises
    ------
    PlatformError, InputError
        A change was not applied; the traffic is what it was before it.
    """
    traffic = control.show().traffic
    wanted = _wanted(rollout, step)
    if step is not None:  # a shadow must not have a pin, nor one that an interrupted staging has left
        challenger = {variant.name for variant in traffic.variants if variant.version == rollout.challenger}
        for pin in traffic.pins:
            if pin.header in {STAGE_HEADER, SMOKE_HEADER} and pin.variant in challenger:
                control.unpin(pin.header, pin.value)
    wants_shadow = step is not None and rollout.plan.steps[step].shadow
    others = [version for version in shadows(traffic) if version != rollout.challenger]
    found = weights(traffic)
    is_split = found.keys() == wanted.keys() and all(abs(found[name] - wanted[name]) <= 1e-9 for name in wanted)
    if not is_split or (len(wanted) > 1 and traffic.experiment != rollout.name):
        name = rollout.experiment_before if step is None or wants_shadow else rollout.name
        control.set(wanted, experiment=name)
    if (rollout.challenger in shadows(control.show().traffic)) != wants_shadow:
        control.shadow([*others, rollout.challenger] if wants_shadow else others)
    # the evidence of a step is what the history says that it is
    control.settle(f"rollout {rollout.id}: {'the champion' if step is None else rollout.plan.steps[step].title}")


def _wanted(rollout: Rollout, step: int | None) -> dict[str, float]:
    share = 0.0 if step is None else rollout.plan.steps[step].share
    both = {rollout.champion: 1.0 - share, rollout.challenger: share}
    return {version: weight for version, weight in both.items() if weight > 0}
