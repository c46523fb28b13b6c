"""What a replica serves at one moment: verified model versions and the split between them, never changed in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from attrition.errors import Fault, IntegrityError, ServingError
from attrition.serving.records import RecordCodec, request_schema, selector
from attrition.serving.traffic import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from attrition.data.schema import FeatureSchema
    from attrition.scoring.scorer import Scorer
    from attrition.serving.batcher import Batcher
    from attrition.serving.traffic import Split, Traffic, Variant


class Bundle(Protocol):
    """What serving needs from a loaded version; :class:`attrition.registry.bundle.Bundle` provides it."""

    @property
    def version(self) -> str:
        """Semantic version."""

    @property
    def scorer(self) -> Scorer:
        """The compiled model."""

    @property
    def schema(self) -> FeatureSchema:
        """The features that it reads."""

    @property
    def threshold(self) -> float:
        """Probability from which a person is expected to leave."""


@dataclass(frozen=True, slots=True)
class PlacedBundle:
    """What the gateway keeps of a version that a deployment of its own scores: all but the scorer, and its memory."""

    version: str
    schema: FeatureSchema
    threshold: float

    @property
    def scorer(self) -> Scorer:
        """There is none.

        Raises
        ------
        ServingError
            Always.
        """
        raise ServingError(Fault(f"version {self.version}", "is scored by its own deployment, not in this process"))


@dataclass(frozen=True, slots=True)
class Lane:
    """One variant, ready to score.

    Attributes
    ----------
    variant : Variant
        Name, version and weight.
    bundle : Bundle
        The verified version.
    select : callable
        Takes the version's features, in its order, from a decoded record.
    labels : tuple of (str, str)
        Version and name, the labels of its metrics.
    headers : tuple of (bytes, bytes)
        Response headers that name it.
    features : tuple of str
        Names of what `select` takes, in order.
    threshold : float
        The version's decision threshold.
    batcher : Batcher or None
        The line to its own deployment; None when it is scored here.
    """

    variant: Variant
    bundle: Bundle
    select: Callable[[Any], tuple[float | None, ...]]
    labels: tuple[str, str]
    headers: tuple[tuple[bytes, bytes], ...]
    features: tuple[str, ...]
    threshold: float
    batcher: Batcher | None = None

    @classmethod
    def of(cls, variant: Variant, bundle: Bundle, batcher: Batcher | None = None) -> Lane:
        """The lane of a variant and the version that it names."""
        headers = ((b"x-model-version", variant.version.encode()), (b"x-variant", variant.name.encode()))
        names = bundle.schema.names
        labels = (variant.version, variant.name)
        return cls(variant, bundle, selector(names), labels, headers, names, bundle.threshold, batcher)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation of traffic with everything loaded that it needs.

    Attributes
    ----------
    traffic : Traffic
        As deployed.
    lanes : mapping of str to Lane
        Every variant by name, also those without traffic.
    split : Split
        Assignment of records to variants.
    sole : Lane or None
        The lane that takes all traffic, if one does: no hash is needed then.
    shadows : tuple of Lane
        Lanes that score a copy of every record.
    codec : RecordCodec
        Decoder for records that any variant may answer.
    sole_reason : Reason
        Why `sole` answers.
    placed : bool
        A variant has a deployment of its own: scoring has to be awaited.
    """

    traffic: Traffic
    lanes: Mapping[str, Lane]
    split: Split
    sole: Lane | None
    shadows: tuple[Lane, ...]
    codec: RecordCodec
    sole_reason: Reason = Reason.SOLE
    placed: bool = False

    @property
    def schema(self) -> FeatureSchema:
        """Features that a request may have."""
        return self.codec.schema

    @property
    def batchers(self) -> frozenset[Batcher]:
        """The lines to placed variants."""
        return frozenset(lane.batcher for lane in self.lanes.values() if lane.batcher is not None)


def load_snapshot(
    traffic: Traffic,
    load: Callable[[str, str], Bundle],
    *,
    max_records: int,
    previous: Snapshot | None = None,
    reach: Callable[[Variant], Batcher] | None = None,
) -> Snapshot:
    """Load and verify every version of `traffic`, then build the snapshot; versions of `previous` are reused.

    Parameters
    ----------
    load
        From a bundle's folder and digest to the verified version.
    max_records
        Largest number of records in one request.
    reach
        Opens the line to the deployment of a placed variant; None where there is no such thing.

    Raises
    ------
    AttritionError
        A version cannot be loaded or is not the one that was announced; nothing has changed then.
    """
    warm = {_scored_by(lane.variant): lane for lane in previous.lanes.values()} if previous else {}
    lanes: dict[str, Lane] = {}
    for variant in traffic.variants:
        place = _scored_by(variant)
        known = warm.get(place)
        if known is None:
            known = Lane.of(variant, *_load(variant, load, reach))
            warm[place] = known
        if known.bundle.version != variant.version:
            raise IntegrityError(
                Fault(
                    f"variant {variant.name}",
                    f"the bundle holds version {known.bundle.version}, the traffic announces {variant.version}",
                    remedy="export the bundle again",
                )
            )
        lanes[variant.name] = Lane.of(variant, known.bundle, known.batcher)
    split = traffic.split
    return Snapshot(
        traffic=traffic,
        lanes=lanes,
        split=split,
        sole=lanes[split.sole.name] if split.sole else None,
        shadows=tuple(lanes[name] for name in traffic.shadows),
        codec=_codec(lanes.values(), max_records, previous),
        placed=any(lane.batcher is not None for lane in lanes.values()),
    )


def _scored_by(variant: Variant) -> tuple[object, ...]:
    """What two variants have in common when one loaded version, and one line to it, serves both."""
    if not variant.is_placed:
        return (variant.manifest_sha256,)
    return variant.manifest_sha256, variant.bundle, variant.options.model_dump_json()


def _load(
    variant: Variant, load: Callable[[str, str], Bundle], reach: Callable[[Variant], Batcher] | None
) -> tuple[Bundle, Batcher | None]:
    bundle = load(variant.bundle, variant.manifest_sha256)
    if not variant.is_placed:
        return bundle, None
    if reach is None:
        raise ServingError(Fault(f"variant {variant.name}", "has a deployment of its own, which is not reached here"))
    return PlacedBundle(bundle.version, bundle.schema, bundle.threshold), reach(variant)


def _codec(lanes: Iterable[Lane], max_records: int, previous: Snapshot | None) -> RecordCodec:
    """Decoder of the merged schema; a change of weights alone reuses the generated structs."""
    schema = request_schema([_accepted(lane) for lane in lanes])
    if previous and previous.codec.schema == schema and previous.codec.max_records == max_records:
        return previous.codec
    return RecordCodec(schema, max_records=max_records)


def _accepted(lane: Lane) -> FeatureSchema:
    """What a lane adds to the request: one without traffic must not make a feature required for everybody."""
    schema = lane.bundle.schema
    if lane.variant.weight:
        return schema
    optional = tuple(feature.model_copy(update={"required": False}) for feature in schema.features)
    return schema.model_copy(update={"features": optional})
