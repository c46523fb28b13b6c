"""Steer the traffic of the served application: every change verified before, confirmed after, recorded, reversible."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attrition.errors import AttritionError, Fault, NotFound, PlatformError, ServingError, UsageError
from attrition.governance.credentials import authorization
from attrition.serving import changes
from attrition.serving.traffic import SMOKE_HEADER, single_variant
from attrition.serving.traffic_history import (
    ChangeOutcome,
    TrafficChange,
    TrafficHistory,
    applied_before,
    keep,
    last_generation,
    new_change,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attrition.registry.bundle import BundleRef
    from attrition.serving.control import ServeControl, ServeStatus
    from attrition.serving.placement import PlacedOptions, Placement
    from attrition.serving.smoke import SmokeReport
    from attrition.serving.traffic import Traffic, Variant
    from attrition.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrafficState:
    """The traffic as it is served.

    Attributes
    ----------
    traffic : Traffic
    status : ServeStatus
        Of the application.
    """

    traffic: Traffic
    status: ServeStatus

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {"replicas": self.status.replicas, "state": self.status.state, **self.traffic.model_dump(mode="json")}

    def _repr_html_(self) -> str:
        return _traffic_html(f"Traffic, generation {self.traffic.generation}", self.traffic)


@dataclass(frozen=True, slots=True)
class Switch:
    """What became of a blue/green switch.

    Attributes
    ----------
    report : SmokeReport
        What the smoke tests found.
    change : TrafficChange or None
        The change that moved the traffic; None when the tests failed and it stayed.
    """

    report: SmokeReport
    change: TrafficChange | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {"smoke_tests": self.report.to_dict(), "change": self.change and self.change.to_dict()}


class TrafficControl:
    """Changes of traffic of one project's application.

    Every method that changes something returns when each running replica has confirmed it. When a version cannot be
    exported, verified or loaded, the traffic is what it was, and the error says why.

    Parameters
    ----------
    settings
        Where Ray, the endpoint and the tables are.
    export
        Exports a registered version, by version or alias, and verifies it.
    application
        Name of the Serve application; None is that of the settings, or the only one that runs.
    actor
        Who makes the changes, for their history; empty: the user that runs this process.
    """

    def __init__(
        self,
        settings: Settings,
        export: Callable[[str], BundleRef],
        *,
        application: str | None = None,
        actor: str = "",
    ) -> None:
        self._settings = settings
        self._export = export
        self._named = application or settings.serve_application
        self._application = self._named or ""  # what :meth:`_served` found, until then nothing
        self._actor = actor

    def show(self) -> TrafficState:
        """What is served now.

        Raises
        ------
        ServingError
            Nothing is served.
        """
        control, traffic = self._served()
        return TrafficState(traffic, control.status(self._application))

    def history(self) -> list[TrafficChange]:
        """Every change, oldest first.

        Raises
        ------
        PlatformError
            The table of changes cannot be read.
        """
        return TrafficHistory(self._settings.tables).changes(self._application or None)

    def set(self, shares: Mapping[str, float], *, experiment: str | None = None) -> TrafficChange:
        """Split the traffic between versions; pins and shadows stay.

        Parameters
        ----------
        shares
            Version or alias → weight: shares that sum to 1, or per cent that sum to 100.
        experiment
            Name of a new comparison, for which people are assigned anew; None goes on with the current one.

        Raises
        ------
        UsageError
            The weights do not sum to 1 or 100.
        NotFound, IntegrityError
            A version does not exist, or its bytes changed.
        ServingError
            Nothing is served, or a version cannot be loaded.
        """
        weights = normalised(shares)
        action = "set " + " ".join(f"{name}={weight:.4%}".replace(".0000%", "%") for name, weight in weights.items())
        control, current = self._served()
        wanted = [(self._bundle(name, current), weight) for name, weight in weights.items()]
        return self._apply(control, action, changes.shift(current, wanted, experiment=experiment))

    def deploy(self, version: str) -> TrafficChange:
        """Give a version all the traffic, also that of an application that was deployed without any.

        Raises
        ------
        NotFound, IntegrityError, ServingError
            As of :meth:`set`.
        """
        control = self._control()
        if control.traffic(self._application) is not None:
            return self.set({version: 1.0})
        return self._apply(control, f"deploy {version}", single_variant(self._export(version)))

    def pin(self, header: str, value: str, version: str) -> TrafficChange:
        """Have requests whose header equals a value answered by a version, whatever the weights say.

        Raises
        ------
        UsageError, ConfigError
            The version is a shadow; the header or value is not possible.
        NotFound, IntegrityError, ServingError
            As of :meth:`set`.
        """
        control, current = self._served()
        wanted = changes.pin(current, header, value, self._bundle(version, current))
        return self._apply(control, f"pin {header}={value} {version}", wanted)

    def unpin(self, header: str, value: str | None = None) -> TrafficChange:
        """Remove the pin of a header and value, or all pins of a header.

        Raises
        ------
        UsageError
            There is no such pin.
        ServingError
            Nothing is served.
        """
        control, current = self._served()
        wanted = changes.unpin(current, header, value)
        return self._apply(control, f"unpin {header}{f'={value}' if value is not None else ''}", wanted)

    def shadow(self, versions: Sequence[str]) -> TrafficChange:
        """Have exactly these versions score copies of every record; none stops all shadows.

        Raises
        ------
        UsageError
            A version answers requests.
        NotFound, IntegrityError, ServingError
            As of :meth:`set`.
        """
        control, current = self._served()
        wanted = changes.shadow(current, [self._bundle(version, current) for version in versions])
        return self._apply(control, f"shadow {' '.join(versions) or 'none'}", wanted)

    def place(self, version: str, placement: Placement, options: PlacedOptions | None = None) -> TrafficChange:
        """Have a version scored by a deployment of its own, or in process again; shares, pins and shadows stay.

        A version that is not served yet is loaded without traffic. The deployment runs and has verified the version
        before the gateway relies on it, and it is removed when no variant is placed there any more.

        Parameters
        ----------
        placement
            Where.
        options
            Size, resources and limits of the deployment; None means the defaults.

        Raises
        ------
        UsageError
            Options for a version in process.
        NotFound, IntegrityError, ServingError
            As of :meth:`set`; also when the deployment does not become healthy.
        """
        control, current = self._served()
        wanted = changes.place(current, self._bundle(version, current), placement, options)
        return self._apply(control, f"place {version} {placement}", wanted)

    def settle(self, action: str) -> None:
        """Record what is served when the record is missing, since whoever changed it died before it was written.

        Parameters
        ----------
        action
            What the change was for.

        Raises
        ------
        ServingError
            Nothing is served.
        """
        _, current = self._served()
        try:
            known = {change.generation for change in self.history()}
        except PlatformError as error:  # as for every change: the record does not hold the traffic up
            logger.warning("%s", error)
            return
        if current.generation not in known:
            self._record(action, ChangeOutcome.APPLIED, current, seconds=0.0)

    def rollback(self, generation: int | None = None) -> TrafficChange:
        """Put an earlier traffic back: the one before the current, or that of a generation in the history.

        Versions of the traffic before are still loaded, so nothing needs to be read. A second rollback without a
        generation undoes the first.

        Raises
        ------
        NotFound
            The history has no such traffic.
        ServingError
            Nothing is served, or a version can no longer be loaded.
        """
        control, current = self._served()
        past = self.history()
        if generation is None:
            # after a failed switch the current traffic stands in the history twice
            elsewhere = [c for c in past if not changes.is_same(c.traffic, current)]
            target = applied_before(elsewhere, current.generation)
        else:
            target = next((c for c in past if c.generation == generation and c.outcome is ChangeOutcome.APPLIED), None)
        if target is None:
            known = ", ".join(str(c.generation) for c in past[-10:] if c.outcome is ChangeOutcome.APPLIED) or "none"
            wanted = "earlier than the current one" if generation is None else str(generation)
            raise NotFound(Fault("traffic history", f"no applied generation {wanted}", f"applied lately: {known}"))
        earlier = self._loadable(target.traffic, current)
        action = f"rollback to generation {target.generation}"
        return self._apply(control, action, changes.restore(current, earlier), past=past)

    def switch(self, version: str) -> Switch:
        """Move all traffic to a version after it has answered smoke tests beside the others.

        The version is loaded without traffic and reached by a pin that only the tests know. When they fail, it is let
        go and the traffic stays what it was.

        Raises
        ------
        NotFound, IntegrityError, ServingError
            As of :meth:`set`.
        """
        import httpx

        from attrition.registry.bundle import load_bundle
        from attrition.serving.smoke import smoke_test

        control, current = self._served()
        ref = self._bundle(version, current)
        bundle = load_bundle(ref.uri, ref.manifest_sha256)
        token = secrets.token_hex(8)
        trial = changes.pin(_without_shadow(current, ref), SMOKE_HEADER, token, ref)
        self._apply(control, f"switch {version}: try", trial, outcome=ChangeOutcome.TRIAL)
        try:
            url = control.status(self._application).url
            with httpx.Client(base_url=url, timeout=30.0, headers=authorization()) as http:
                report = smoke_test(http, _variant_of(trial, ref), bundle, token)
        except BaseException:
            with contextlib.suppress(AttritionError):
                self._apply(control, f"switch {version}: interrupted", _again(current), outcome=ChangeOutcome.TRIAL)
            raise
        if not report.passed:
            undone = self._apply(control, f"switch {version}: undo", _again(current), outcome=ChangeOutcome.TRIAL)
            tried = trial.model_copy(update={"generation": undone.generation + 1})
            self._record(f"switch {version}", ChangeOutcome.REFUSED, tried, seconds=undone.seconds, detail=str(report))
            return Switch(report, None)
        wanted = changes.shift(changes.unpin(trial, SMOKE_HEADER), [(ref, 1.0)])
        return Switch(report, self._apply(control, f"switch {version}", wanted))

    def _served(self) -> tuple[ServeControl, Traffic]:
        control = self._control()
        traffic = control.traffic(self._application)
        if traffic is None:
            raise self._nothing()
        return control, traffic

    def _control(self) -> ServeControl:
        from attrition.cluster import endpoint

        control = endpoint.find(self._settings)
        if control is None:
            raise self._nothing()
        self._application = self._named or endpoint.application(self._settings, control)
        return control

    def _nothing(self) -> ServingError:
        return ServingError(Fault(self._settings.serve_url, "nothing is served", remedy="start it: attrition serve up"))

    def _apply(
        self,
        control: ServeControl,
        action: str,
        traffic: Traffic,
        *,
        outcome: ChangeOutcome = ChangeOutcome.APPLIED,
        past: list[TrafficChange] | None = None,
    ) -> TrafficChange:
        """Deploy, wait for every replica, record."""
        started = time.monotonic()
        try:
            floor = last_generation(self.history() if past is None else past)
        except PlatformError as error:  # an unreadable history must not keep anybody from changing traffic
            logger.warning("%s", error)
            floor = -1
        try:
            status = control.change(self._application, traffic, after_generation=floor)
        except ServingError as error:
            seconds = time.monotonic() - started
            kept = control.traffic(self._application)
            tried = traffic.model_copy(update={"generation": max(floor, kept.generation if kept else floor) + 1})
            self._record(action, ChangeOutcome.REFUSED, tried, seconds=seconds, detail=str(error))
            raise
        applied = traffic.model_copy(update={"generation": status.generation})
        return self._record(action, outcome, applied, seconds=time.monotonic() - started)

    def _record(
        self, action: str, outcome: ChangeOutcome, traffic: Traffic, *, seconds: float, detail: str = ""
    ) -> TrafficChange:
        change = new_change(
            self._application, action, outcome, traffic, seconds=seconds, detail=detail, actor=self._actor
        )
        keep(TrafficHistory(self._settings.tables), change)
        return change

    def _bundle(self, ref: str, current: Traffic) -> BundleRef:
        """The exported version, verified; one that is served already needs no registry."""
        for variant in current.variants:
            if variant.version == ref and _is_intact(variant):
                return _ref_of(variant)
        return self._export(ref)

    def _loadable(self, earlier: Traffic, current: Traffic) -> Traffic:
        """An earlier traffic whose bundles are there; what was cleaned up since is exported again."""
        loaded = {variant.manifest_sha256 for variant in current.variants}
        variants = []
        for variant in earlier.variants:
            if variant.manifest_sha256 not in loaded and variant.name in earlier.active and not _is_intact(variant):
                ref = self._export(variant.version)
                if ref.manifest_sha256 != variant.manifest_sha256:
                    raise ServingError(
                        Fault(f"version {variant.version}", "is not what it was at that time", remedy="set it anew")
                    )
                variants.append(variant.model_copy(update={"bundle": ref.uri}))
            else:
                variants.append(variant)
        return earlier.model_copy(update={"variants": tuple(variants)})


def _traffic_html(title: str, traffic: Traffic) -> str:
    from attrition.evaluation.display import html_table

    rows = [
        (
            variant.name,
            variant.version,
            f"{variant.weight:.2%}",
            ", ".join(f"{pin.header}={pin.value}" for pin in traffic.pins if pin.variant == variant.name),
            traffic.role(variant.name),
        )
        for variant in traffic.variants
    ]
    return html_table(title, ("variant", "version", "share", "pins", "role"), rows)


def normalised(shares: Mapping[str, float]) -> dict[str, float]:
    """Weights that sum to exactly 1, from shares that sum to 1 or per cent that sum to 100.

    Raises
    ------
    UsageError
        Another sum, a negative weight, or none at all.

    Examples
    --------
    >>> normalised({"1.0.0": 70, "1.1.0": 30})
    {'1.0.0': 0.7, '1.1.0': 0.3}
    """
    total = sum(shares.values())
    scale = next((scale for scale in (1.0, 100.0) if abs(total - scale) <= 1e-6 * scale), None)
    if scale is None or any(not 0 <= weight <= scale for weight in shares.values()):
        given = " ".join(f"{name}={weight:g}" for name, weight in shares.items()) or "nothing"
        raise UsageError(Fault(given, f"sums to {total:g}", "shares sum to 1, or per cent to 100, none below 0"))
    weights = {name: weight / scale for name, weight in shares.items()}
    largest = max(weights, key=lambda name: weights[name])
    weights[largest] += 1.0 - sum(weights.values())
    return weights


def _is_intact(variant: Variant) -> bool:
    from attrition.registry.bundle import read_bundle

    try:
        read_bundle(variant.bundle, variant.manifest_sha256)
    except AttritionError:
        return False
    return True


def _ref_of(variant: Variant) -> BundleRef:
    from attrition.registry.bundle import BundleRef

    return BundleRef(variant.bundle, variant.version, variant.manifest_sha256)


def _variant_of(traffic: Traffic, ref: BundleRef) -> Variant:
    return next(variant for variant in traffic.variants if variant.manifest_sha256 == ref.manifest_sha256)


def _without_shadow(traffic: Traffic, ref: BundleRef) -> Traffic:
    """The traffic in which a version that shadows until now may answer."""
    shadows = [v for v in traffic.variants if v.name in traffic.shadows and v.manifest_sha256 != ref.manifest_sha256]
    return changes.shadow(traffic, [_ref_of(variant) for variant in shadows])


def _again(traffic: Traffic) -> Traffic:
    return traffic.model_copy(update={"generation": 0})
