"""Changes of traffic, pure: the deployed traffic and a wish in, the traffic to deploy out.

Every change keeps three promises. *Names are stable*: a version keeps the name of its variant, a new one takes the
first free name of `NAMES`. *Few people move*: the layout is changed by as many buckets as the new weights need, and no
bucket moves between two variants whose weights stayed. *The way back is short*: whatever was active in the traffic
before stays loaded without weight, so that a rollback loads nothing. Older versions are let go, because each costs
memory, and give their name free: successive versions are blue, green, blue.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from pydantic import ValidationError

from attrition.errors import ConfigError, Fault, UsageError
from attrition.serving.placement import Placement
from attrition.serving.traffic import N_BUCKETS, SMOKE_HEADER, Pin, Share, Traffic, Variant
from attrition.settings import config_faults

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attrition.registry.bundle import BundleRef
    from attrition.serving.placement import PlacedOptions

NAMES = ("blue", "green", "amber", "violet", "teal", "coral", "indigo", "olive", "rose", "slate")
"""Names that variants get, in this order."""

MAX_IDLE = 2
"""Variants without a part in the traffic that a change of pins or shadows leaves loaded."""

MIN_SHARE = 1 / N_BUCKETS
"""Smallest share above zero: one bucket."""


def shift(
    current: Traffic | None, shares: Sequence[tuple[BundleRef, float]], *, experiment: str | None = None
) -> Traffic:
    """Traffic split between versions.

    Parameters
    ----------
    current
        As deployed; None when nothing is.
    shares : sequence of (BundleRef, float)
        Versions and weights in [0, 1] that sum to 1.
    experiment
        Another name than the current one draws another, independent assignment of people; None keeps both.

    Raises
    ------
    UsageError
        A version twice, or a share between 0 and `MIN_SHARE`.
    """
    repeated = {ref.version for ref, _ in shares if sum(ref == other for other, _ in shares) > 1}
    tiny = {ref.version for ref, share in shares if 0 < share < MIN_SHARE - 1e-12}
    if repeated or tiny:
        raise UsageError(
            [Fault(version, "is given twice", "once for each version") for version in sorted(repeated)]
            + [Fault(version, "has a share below 0.01 %", "0, or 0.01 % and more") for version in sorted(tiny)]
        )
    named = {ref.manifest_sha256 for ref, _ in shares}
    variants = (
        [v for v in current.variants if v.name in current.active or v.manifest_sha256 in named] if current else []
    )
    weights = {_variant(variants, ref).name: share for ref, share in shares}
    weighted = [v.model_copy(update={"weight": weights.get(v.name, 0.0)}) for v in variants]
    if current is None:
        return _checked({"variants": weighted, **_experiment(experiment)})
    shadows = tuple(name for name in current.shadows if not weights.get(name))
    start = {"pins": current.pins, "shadows": shadows, "salt": current.salt, "experiment": current.experiment}
    if experiment is not None and experiment != current.experiment:
        return _settled(weighted, {**start, **_experiment(experiment)}, ranges=(), moves=True)
    return _settled(weighted, start, ranges=current.ranges, moves=True)


def pin(current: Traffic, header: str, value: str, ref: BundleRef) -> Traffic:
    """Requests whose header equals a value are answered by a version; replaces a pin of the same header and value.

    Raises
    ------
    ConfigError
        The header is no header name, or the value is empty or not printable ASCII.
    UsageError
        The version is a shadow.
    """
    variants = _loaded(current)
    variant = _variant(variants, ref)
    if variant.name in current.shadows:
        raise UsageError(
            Fault(
                ref.version, "is a shadow, which never answers", remedy="stop the shadow first: traffic shadow --stop"
            )
        )
    header = header.strip().lower()
    others = [each for each in current.pins if (each.header, each.value) != (header, value)]
    try:
        added = Pin(header=header, value=value, variant=variant.name)
    except ValidationError as error:
        raise ConfigError(config_faults(f"pin of {header or 'nothing'}", error, Pin)) from error
    return _settled(variants, {**_kept(current), "pins": (*others, added)}, ranges=current.ranges)


def unpin(current: Traffic, header: str, value: str | None = None) -> Traffic:
    """Without the pin of a header and value, or without all pins of a header.

    Raises
    ------
    UsageError
        There is no such pin.
    """
    header = header.strip().lower()
    kept = tuple(each for each in current.pins if each.header != header or (value is not None and each.value != value))
    if kept == current.pins:
        pins = ", ".join(f"{each.header}={each.value}" for each in current.pins) or "none"
        raise UsageError(
            Fault(f"{header}{f'={value}' if value is not None else ''}", "is not pinned", f"pinned: {pins}")
        )
    return _settled(current.variants, {**_kept(current), "pins": kept}, ranges=current.ranges)


def shadow(current: Traffic, refs: Sequence[BundleRef]) -> Traffic:
    """With exactly these versions as shadows; none stops them all.

    Raises
    ------
    UsageError
        A version has weight or a pin: a shadow never answers.
    """
    variants = _loaded(current)
    chosen = [_variant(variants, ref) for ref in refs]
    pinned = {each.variant for each in current.pins}
    answering = sorted(v.version for v in chosen if v.weight or v.name in pinned)
    if answering:
        raise UsageError(
            Fault(
                version,
                "answers requests, and a shadow never does",
                remedy="give its share to another version and remove its pins first",
            )
            for version in answering
        )
    names = tuple(dict.fromkeys(variant.name for variant in chosen))
    return _settled(variants, {**_kept(current), "shadows": names}, ranges=current.ranges)


def place(current: Traffic, ref: BundleRef, placement: Placement, options: PlacedOptions | None = None) -> Traffic:
    """With a version scored elsewhere than before; one that is new is loaded without traffic.

    Raises
    ------
    UsageError
        Options of a deployment for a version in process.
    """
    if options is not None and placement is Placement.IN_PROCESS:
        raise UsageError(Fault(ref.version, "has options of a deployment", "a version in process has none"))
    variants = _loaded(current)
    name = _variant(variants, ref).name
    moved = {"placement": placement, "deployment": options}
    variants = [v.model_copy(update=moved) if v.name == name else v for v in variants]
    return _settled(variants, _kept(current), ranges=current.ranges)


def restore(current: Traffic | None, earlier: Traffic) -> Traffic:
    """An earlier traffic exactly as it assigned people; what is active now stays loaded beside it."""
    pins = tuple(each for each in earlier.pins if each.header != SMOKE_HEADER)
    earlier = earlier.model_copy(update={"pins": pins, "generation": 0})
    if current is None:
        return earlier
    active = [variant for variant in earlier.variants if variant.name in earlier.active]
    restored = {variant.manifest_sha256 for variant in active}
    for variant in current.variants:
        if variant.name in current.active and variant.manifest_sha256 not in restored:
            name = _free_name(active) if variant.name in {each.name for each in active} else variant.name
            active.append(variant.model_copy(update={"name": name, "weight": 0.0}))
    return _settled(active, _kept(earlier), ranges=earlier.ranges)


def is_same(one: Traffic, other: Traffic) -> bool:
    """Whether two traffics answer every request by the same version, name and deployment, with the same shadows."""

    def facts(traffic: Traffic) -> object:
        digests = {
            v.name: (v.manifest_sha256, v.placement, v.deployment) for v in traffic.variants if v.name in traffic.active
        }
        return digests, traffic.ranges, traffic.salt, traffic.pins, set(traffic.shadows)

    return facts(one) == facts(other)


def reallocate(
    ranges: Iterable[tuple[int, int, str]], weights: Mapping[str, float]
) -> tuple[tuple[int, int, str], ...]:
    """Ranges of buckets for new weights that differ from the given ones by as few buckets as possible.

    Parameters
    ----------
    ranges
        As assigned now: low, exclusive high, name; may be empty. Returned as they are when they fit the weights.
    weights
        New weight of every variant, the champion first; they sum to 1. A name that is missing has none.

    Returns
    -------
    tuple of (int, int, str)
        Ascending, from 0 to `N_BUCKETS`. The champion gives away its lowest buckets and everybody else the highest,
        so with one challenger the ranges are the consecutive ones, and a share that is raised and lowered again is
        what it was.
    """
    ranges = tuple(ranges)
    widths = dict.fromkeys(weights, 0)
    for low, high, name in ranges:
        widths[name] = widths.get(name, 0) + high - low
    if sum(widths.values()) == N_BUCKETS and all(
        abs(width - weights.get(name, 0.0) * N_BUCKETS) < 1.0 for name, width in widths.items()
    ):
        return ranges
    champion = next(iter(weights))
    targets = _buckets(weights)
    owners: list[str | None] = [None] * N_BUCKETS
    for low, high, name in ranges:
        owners[low:high] = [name] * (high - low)
    for name in {owner for owner in owners if owner is not None}:
        owned = [bucket for bucket, owner in enumerate(owners) if owner == name]
        keep = min(len(owned), targets.get(name, 0))
        given = owned[: len(owned) - keep] if name == champion else owned[keep:]
        for bucket in given:
            owners[bucket] = None
    free = (bucket for bucket, owner in enumerate(owners) if owner is None)
    missing = {name: target - owners.count(name) for name, target in targets.items()}
    takers = [*(name for name in targets if name != champion), champion]
    for name in takers:
        for _ in range(missing[name]):
            owners[next(free)] = name
    found, low = [], 0
    for owner, run in groupby(owners):
        high = low + len(list(run))
        found.append((low, high, str(owner)))
        low = high
    return tuple(found)


def _buckets(weights: Mapping[str, float]) -> dict[str, int]:
    """Whole buckets for weights, by the largest remainder; they sum to `N_BUCKETS`."""
    exact = {name: weight * N_BUCKETS for name, weight in weights.items()}
    # a weight such as 0.29 is a hair below its bucket
    whole = {name: int(value + 1e-6) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: whole[name] - exact[name])
    for name in by_remainder[: N_BUCKETS - sum(whole.values())]:
        whole[name] += 1
    return whole


def _variant(variants: list[Variant], ref: BundleRef) -> Variant:
    """The variant of a version, appended to `variants` under a free name when it is new."""
    for variant in variants:
        if variant.manifest_sha256 == ref.manifest_sha256:
            return variant
    fields = {"version": ref.version, "bundle": ref.uri, "manifest_sha256": ref.manifest_sha256, "weight": 0.0}
    variants.append(Variant.model_validate({"name": _free_name(variants), **fields}))
    return variants[-1]


def _free_name(variants: Iterable[Variant]) -> str:
    taken = {variant.name for variant in variants}
    return next(name for name in (*NAMES, *(f"v{i}" for i in range(1, len(taken) + 2))) if name not in taken)


def _settled(
    variants: Sequence[Variant],
    fields: Mapping[str, object],
    *,
    ranges: tuple[tuple[int, int, str], ...],
    moves: bool = False,
) -> Traffic:
    """The traffic of these variants, the active first: with these ranges, or as near to them as new weights let it.

    The champion is the first active variant.
    """
    draft = _checked({**fields, "variants": tuple(variants)})
    weighted = [variant for variant in draft.variants if variant.weight]
    unweighted = [variant for variant in draft.variants if not variant.weight]
    unweighted.sort(key=lambda variant: variant.name not in draft.active)
    settled = {**fields, "variants": (*weighted, *unweighted)}
    plain = _checked(settled)
    # rounded ranges may differ from their weights by a whole bucket, which is no reason to move anybody
    shares = reallocate(ranges, {variant.name: variant.weight for variant in weighted}) if moves else ranges
    if shares == plain.ranges:
        return plain
    return _checked({**settled, "layout": tuple(Share(end=high, variant=name) for _, high, name in shares)})


def _loaded(current: Traffic) -> list[Variant]:
    """What a change of pins or shadows starts from: the active variants and a few idle ones."""
    idle = [variant for variant in current.variants if variant.name not in current.active]
    return [variant for variant in current.variants if variant not in idle[MAX_IDLE:]]


def _kept(current: Traffic) -> dict[str, object]:
    """What a change leaves as it is unless it is about that."""
    return {
        "pins": current.pins,
        "shadows": current.shadows,
        "salt": current.salt,
        "experiment": current.experiment,
    }


def _experiment(name: str | None) -> dict[str, object]:
    return {"experiment": name, "salt": f"attrition:{name}" if name else "attrition"} if name is not None else {}


def _checked(fields: Mapping[str, object]) -> Traffic:
    """A validated traffic.

    Raises
    ------
    ConfigError
        The wish is no possible traffic.
    """
    try:
        return Traffic.model_validate(dict(fields))
    except ValidationError as error:
        raise ConfigError(config_faults("traffic", error, Traffic)) from error
