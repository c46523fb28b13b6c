"""Which version answers for which employee: pins, the split between variants, shadows; pure and deterministic.

Notation: a person's *bucket* is SHA-256(salt ‖ employee_id) mod `N_BUCKETS`, and the *layout* says which range of
buckets belongs to which variant. Without a layout the first variant is the champion; the others, the challengers, take
consecutive ranges from 0 upwards, and the champion keeps the rest. Raising a challenger's share then only moves people
away from the champion, never back to it, and lowering it to the old share restores exactly the old assignment. With
more than two variants consecutive ranges would shift, so a change (``attrition.serving.changes``) writes a layout that
moves as few buckets as the new weights need.

Order of precedence: a pin that matches a request header, then the bucket of the employee, then chance for a record
without an id, which cannot be kept together with its person. The reason of every answer says which it was. A shadow
variant has no weight and no pin: it scores copies and never answers.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from attrition.serving.placement import PlacedOptions, Placement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from attrition.registry.bundle import BundleRef

N_BUCKETS = 10_000
"""Resolution of a share: one hundredth of a per cent."""

CHAMPION = "blue"
"""Name of the variant that :meth:`Traffic.single` makes."""

SMOKE_HEADER = "x-attrition-smoke"
"""Header of the pin by which an idle variant is tried before it gets traffic."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]


class Reason(StrEnum):
    """Why a variant answered; part of every response."""

    SOLE = "sole"
    """There is only one variant with traffic."""
    STICKY = "sticky"
    """The employee's bucket lies in the variant's range."""
    RANDOM = "random"
    """The record has no employee id and was drawn."""
    REQUESTED = "requested"
    """The request's path names the version."""
    PINNED = "pin"
    """A request header is pinned to the variant."""
    SMOKE = "smoke"
    """A smoke test asked an idle variant; the record is invented and is not logged."""
    SHADOW = "shadow"
    """A copy that a shadow scored; never part of a response."""


class Variant(BaseModel):
    """One model version behind the endpoint, and its share of the traffic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    """Role of the version: ``blue``, ``green``, ``challenger``; label of its metrics."""
    version: Annotated[str, Field(min_length=1, max_length=64)]
    """Semantic version of the model."""
    bundle: Annotated[str, Field(min_length=1)]
    """Folder or URI of the exported bundle that a replica loads."""
    manifest_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the bundle's manifest: a replica loads these bytes or nothing."""
    weight: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Share of the traffic, in [0, 1]; 0 keeps the version loaded without traffic."""
    placement: Placement = Placement.IN_PROCESS
    """Whether the gateway scores it, or a deployment of its own."""
    deployment: PlacedOptions | None = None
    """Size and limits of that deployment; None means their defaults."""

    @model_validator(mode="after")
    def _has_options_for_a_deployment_alone(self) -> Self:
        if self.deployment is not None and not self.is_placed:
            raise ValueError(f"{self.name} has options of a deployment, but its placement is {self.placement}")
        return self

    @property
    def is_placed(self) -> bool:
        """It has a deployment of its own."""
        return self.placement is Placement.DEPLOYMENT

    @property
    def options(self) -> PlacedOptions:
        """Of its own deployment."""
        return self.deployment or PlacedOptions()


class Pin(BaseModel):
    """A request header that decides alone: ``x-user-group: pilot`` always meets the variant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: Annotated[str, Field(pattern=r"^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$")]
    """Name of the header, in lower case."""
    value: Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,254}[!-~])?$")]
    """Value, compared exactly; printable ASCII."""
    variant: Name
    """Variant that answers."""


class Share(BaseModel):
    """A range of buckets, from the end of the one before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    end: Annotated[int, Field(ge=1, le=N_BUCKETS)]
    """Exclusive upper end."""
    variant: Name
    """Variant that answers for the people in it."""


class Traffic(BaseModel):
    """The traffic as it is deployed: the champion first, then the challengers, the shadows and the idle variants.

    Examples
    --------
    >>> blue = Variant(name="blue", version="1.0.0", bundle="b/1", manifest_sha256="0" * 64, weight=0.9)
    >>> green = Variant(name="green", version="1.1.0", bundle="b/2", manifest_sha256="1" * 64, weight=0.1)
    >>> Traffic(variants=(blue, green)).split.assign("E-1", draw=0)[1]
    <Reason.STICKY: 'sticky'>
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    """Champion first. Weights sum to 1."""
    generation: Annotated[int, Field(ge=0)] = 0
    """Counts the changes; a replica shows the generation that it serves."""
    salt: Annotated[str, Field(max_length=128)] = "attrition"
    """Prefix of the hashed id; another salt draws another, independent assignment."""
    experiment: Annotated[str, Field(max_length=64)] = ""
    """Name of the comparison that this split is for; empty when there is none."""
    pins: tuple[Pin, ...] = ()
    """Decide before the split; the first that matches wins."""
    shadows: tuple[Name, ...] = ()
    """Variants that score a copy of every record after the response; without weight and without pin."""
    layout: tuple[Share, ...] = ()
    """Ranges of buckets in ascending order; empty means consecutive ranges in the order of the variants."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        names = [variant.name for variant in self.variants]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"variants named twice: {', '.join(repeated)}")
        total = sum(variant.weight for variant in self.variants)
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"the weights sum to {total:.6g}; they must sum to 1")
        return self

    @model_validator(mode="after")
    def _refers_to_variants(self) -> Self:
        named = {*self.shadows, *(pin.variant for pin in self.pins), *(share.variant for share in self.layout)}
        unknown = sorted(named - {variant.name for variant in self.variants})
        if unknown:
            raise ValueError(f"no variant is named {', '.join(unknown)}")
        conditions = [(pin.header, pin.value) for pin in self.pins]
        twice = sorted({f"{header}={value}" for header, value in conditions if conditions.count((header, value)) > 1})
        if twice:
            raise ValueError(f"pinned twice: {', '.join(twice)}")
        answering = {variant.name for variant in self.variants if variant.weight} | {pin.variant for pin in self.pins}
        torn = sorted(answering & set(self.shadows))
        if torn:
            raise ValueError(f"a shadow never answers, but {', '.join(torn)} has weight or a pin")
        return self

    @model_validator(mode="after")
    def _layout_fits_the_weights(self) -> Self:
        if not self.layout:
            return self
        ends = [share.end for share in self.layout]
        if ends != sorted(set(ends)) or ends[-1] != N_BUCKETS:
            raise ValueError(f"the layout's ends must ascend to {N_BUCKETS}")
        for variant in self.variants:
            width = sum(high - low for low, high, name in self.ranges if name == variant.name)
            if abs(width - variant.weight * N_BUCKETS) > 1 + 1e-6 or (not variant.weight and width):
                raise ValueError(f"the layout gives {variant.name} {width} buckets for the weight {variant.weight:g}")
        return self

    @classmethod
    def single(cls, version: str, bundle: str, manifest_sha256: str, *, generation: int = 0) -> Traffic:
        """All traffic to one version."""
        variant = Variant(name=CHAMPION, version=version, bundle=bundle, manifest_sha256=manifest_sha256)
        return cls(variants=(variant,), generation=generation)

    @property
    def ranges(self) -> tuple[tuple[int, int, str], ...]:
        """Ranges of buckets with a variant: low, exclusive high, name; ascending, without gaps and empty ones."""
        if self.layout:
            ends = [(share.end, share.variant) for share in self.layout]
        else:
            challengers = self.variants[1:]
            bounds = accumulate(variant.weight for variant in challengers)
            ends = [(round(bound * N_BUCKETS), v.name) for bound, v in zip(bounds, challengers, strict=True)]
            ends.append((N_BUCKETS, self.variants[0].name))
        lows = (0, *(end for end, _ in ends))
        return tuple((low, high, name) for low, (high, name) in zip(lows, ends, strict=False) if low < high)

    @property
    def active(self) -> frozenset[str]:
        """Names of the variants that do something: have weight or a pin, or are shadows. The others are kept warm."""
        weighted = {variant.name for variant in self.variants if variant.weight}
        return frozenset(weighted | {pin.variant for pin in self.pins} | set(self.shadows))

    def role(self, name: str) -> str:
        """What a variant does: ``answers``, ``shadow``, or ``loaded`` when it is only kept warm."""
        if name in self.shadows:
            return "shadow"
        return "answers" if name in self.active else "loaded"

    def variant(self, name: str) -> Variant:
        """The variant of a name.

        Raises
        ------
        KeyError
            There is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise KeyError(name)

    @property
    def split(self) -> Split:
        """The traffic, compiled for assignment."""
        ranges = self.ranges
        return Split(
            variants=tuple(self.variant(name) for _, _, name in ranges),
            bounds=tuple(high for _, high, _ in ranges[:-1]),
            salt=self.salt.encode(),
            pins={
                (pin.header.encode(), pin.value.encode()): (rank, self.variant(pin.variant), _pin_reason(pin))
                for rank, pin in enumerate(self.pins)
            },
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A :class:`Traffic` compiled for the request path.

    Attributes
    ----------
    variants : tuple of Variant
        One per range of buckets, ascending; a variant may have several.
    bounds : tuple of int
        Ascending upper ends (exclusive) of the ranges but the last, which ends at `N_BUCKETS`.
    salt : bytes
        Prefix of the hashed id.
    pins : mapping of (bytes, bytes) to (int, Variant, Reason)
        Header name and value to precedence, variant and reason.
    """

    variants: tuple[Variant, ...]
    bounds: tuple[int, ...]
    salt: bytes
    pins: Mapping[tuple[bytes, bytes], tuple[int, Variant, Reason]] = field(default_factory=dict)

    @property
    def sole(self) -> Variant | None:
        """The variant that takes every bucket, or None when the traffic is split."""
        names = {variant.name for variant in self.variants}
        return self.variants[0] if len(names) == 1 else None

    def bucket(self, employee_id: str) -> int:
        """Bucket of an employee, in [0, `N_BUCKETS`), the same in every process."""
        digest = hashlib.sha256(self.salt + employee_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % N_BUCKETS

    def buckets(self, employee_ids: Sequence[str]) -> NDArray[np.int64]:
        """Bucket of each employee, shape (n,), as :meth:`bucket` gives it, in half the time."""
        import numpy as np

        salt = self.salt
        try:
            digests = [hashlib.sha256(salt + name.encode()).digest() for name in employee_ids]
        except UnicodeEncodeError:
            digests = [hashlib.sha256(salt + name.encode("utf-8", "surrogatepass")).digest() for name in employee_ids]
        # the first of the four big-endian words of every digest
        return (np.frombuffer(b"".join(digests), ">u8")[::4] % N_BUCKETS).astype(np.int64)

    def assign(self, employee_id: str | None, *, draw: int) -> tuple[Variant, Reason]:
        """Variant for a record of a request that no pin decides, and why.

        Parameters
        ----------
        employee_id
            The same id always gives the same variant.
        draw
            Random number in [0, `N_BUCKETS`), used when there is no id; drawn by the caller so that this stays pure.
        """
        if employee_id is None:
            return self.variants[bisect_right(self.bounds, draw)], Reason.RANDOM
        return self.variants[bisect_right(self.bounds, self.bucket(employee_id))], Reason.STICKY

    def pinned(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[Variant, Reason] | None:
        """Variant that a request's headers are pinned to, and why; None when the records decide.

        Parameters
        ----------
        headers
            Names in lower case, as ASGI has them.
        """
        pins = self.pins
        found = [pins[key] for name, value in headers if (key := (name, value.strip())) in pins]
        if not found:
            return None
        _, variant, reason = min(found, key=itemgetter(0))
        return variant, reason


def single_variant(bundle: BundleRef) -> Traffic:
    """All traffic to one exported version."""
    return Traffic.single(bundle.version, bundle.uri, bundle.manifest_sha256)


def _pin_reason(pin: Pin) -> Reason:
    return Reason.SMOKE if pin.header == SMOKE_HEADER else Reason.PINNED
