"""Which version answers for which employee: the split between variants, pure and deterministic.

Notation: a person's *bucket* is SHA-256(salt ‖ employee_id) mod `N_BUCKETS`. The first variant is the champion; the
others, the challengers, take consecutive ranges of buckets from 0 upwards, and the champion keeps the rest. Raising a
challenger's share therefore only moves people away from the champion, never back to it, and lowering it to the old
share restores exactly the old assignment. A record without an id cannot be kept together with its person: it is drawn
at random, and its reason says so.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from attrition.registry.bundle import BundleRef

N_BUCKETS = 10_000
"""Resolution of a share: one hundredth of a per cent."""

CHAMPION = "blue"
"""Name of the variant that :meth:`Traffic.single` makes."""


class Reason(StrEnum):
    """Why a variant answered; part of every response."""

    SOLE = "sole"
    """There is only one variant with traffic."""
    STICKY = "sticky"
    """The employee's bucket lies in the variant's range."""
    RANDOM = "random"
    """The record has no employee id and was drawn."""


class Variant(BaseModel):
    """One model version behind the endpoint, and its share of the traffic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    """Role of the version: ``blue``, ``green``, ``challenger``; label of its metrics."""
    version: Annotated[str, Field(min_length=1, max_length=64)]
    """Semantic version of the model."""
    bundle: Annotated[str, Field(min_length=1)]
    """Folder or URI of the exported bundle that a replica loads."""
    manifest_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the bundle's manifest: a replica loads these bytes or nothing."""
    weight: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Share of the traffic, in [0, 1]; 0 keeps the version loaded without traffic."""


class Traffic(BaseModel):
    """The split as it is deployed: the champion first, then the challengers.

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

    @classmethod
    def single(cls, version: str, bundle: str, manifest_sha256: str, *, generation: int = 0) -> Traffic:
        """All traffic to one version."""
        variant = Variant(name=CHAMPION, version=version, bundle=bundle, manifest_sha256=manifest_sha256)
        return cls(variants=(variant,), generation=generation)

    @property
    def split(self) -> Split:
        """The split, compiled for assignment."""
        bounds = tuple(accumulate(variant.weight for variant in self.variants[1:]))
        return Split(
            variants=(*self.variants[1:], self.variants[0]),
            bounds=tuple(round(bound * N_BUCKETS) for bound in bounds),
            salt=self.salt.encode(),
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A :class:`Traffic` compiled for the request path.

    Attributes
    ----------
    variants : tuple of Variant
        In bucket order: challengers, then the champion.
    bounds : tuple of int
        Ascending upper ends (exclusive) of the challengers' bucket ranges; the champion's ends at `N_BUCKETS`.
    salt : bytes
        Prefix of the hashed id.
    """

    variants: tuple[Variant, ...]
    bounds: tuple[int, ...]
    salt: bytes

    @property
    def sole(self) -> Variant | None:
        """The variant that takes every bucket, or None when the traffic is split."""
        widths = [high - low for low, high in zip((0, *self.bounds), (*self.bounds, N_BUCKETS), strict=True)]
        return next((v for v, width in zip(self.variants, widths, strict=True) if width == N_BUCKETS), None)

    def bucket(self, employee_id: str) -> int:
        """Bucket of an employee, in [0, `N_BUCKETS`), the same in every process."""
        digest = hashlib.sha256(self.salt + employee_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % N_BUCKETS

    def assign(self, employee_id: str | None, *, draw: int) -> tuple[Variant, Reason]:
        """Variant for a record, and why.

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


def single_variant(bundle: BundleRef) -> Traffic:
    """All traffic to one exported version."""
    return Traffic.single(bundle.version, bundle.uri, bundle.manifest_sha256)
