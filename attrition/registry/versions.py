"""The semantic version of a model, by rule: a pure function of what changed.

========== ====================================================== =========
Bump       Because                                                Example
========== ====================================================== =========
initial    nothing was registered before                          1.0.0
major      other features, another horizon, or another family     2.0.0
minor      the same kind of model learned something else          1.1.0
patch      the model is the same; threshold or provenance is not  1.0.1
unchanged  nothing is different: there is no new version          1.0.0
========== ====================================================== =========

A reader of a major version has to look at what it sends; of a minor one, at the scores it gets; of a patch, at neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import total_ordering

from attrition.errors import Fault, UsageError

_PATTERN = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})", re.ASCII)


class Bump(StrEnum):
    """Which part of the version moves."""

    INITIAL = "initial"
    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"
    UNCHANGED = "unchanged"


@total_ordering
@dataclass(frozen=True, slots=True)
class SemVer:
    """A version number ``major.minor.patch``, ordered by its parts.

    Examples
    --------
    >>> SemVer.parse("1.10.0") > SemVer.parse("1.9.3")
    True
    """

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def __lt__(self, other: SemVer) -> bool:
        return (self.major, self.minor, self.patch) < (other.major, other.minor, other.patch)

    @classmethod
    def parse(cls, text: str) -> SemVer:
        """The version written as `text`.

        Raises
        ------
        UsageError
            `text` is not of the form ``1.0.0``.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise UsageError(Fault("version", repr(text[:40]), "versions look like 1.0.0"))
        return cls(*(int(part) for part in match.groups()))

    @classmethod
    def matches(cls, text: str) -> bool:
        """Whether `text` is written like a version."""
        return _PATTERN.fullmatch(text) is not None

    def bumped(self, bump: Bump) -> SemVer:
        """The version after `bump`."""
        if bump is Bump.MAJOR:
            return SemVer(self.major + 1, 0, 0)
        if bump is Bump.MINOR:
            return SemVer(self.major, self.minor + 1, 0)
        if bump is Bump.PATCH:
            return SemVer(self.major, self.minor, self.patch + 1)
        return self


FIRST = SemVer(1, 0, 0)


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What the rule looks at.

    Attributes
    ----------
    version : str
        Empty for a model that has none yet.
    family : str
    schema_digest : str
        Of feature names, order, kinds and horizon.
    model_digest : str
        Of the scorer's files: what was learned, without the threshold.
    threshold : float
    fingerprint : str
        Of data, split, plan, code and seed: provenance.
    """

    version: str
    family: str
    schema_digest: str
    model_digest: str
    threshold: float
    fingerprint: str


def next_version(previous: VersionFacts | None, new: VersionFacts) -> tuple[str, Bump]:
    """The version that `new` gets after `previous`, and why.

    Parameters
    ----------
    previous
        The highest version so far; None when there is none.
    new
        Its own `version` is not looked at.

    Returns
    -------
    tuple of str and Bump
        Greater than the previous version, or equal to it when nothing changed.

    Examples
    --------
    >>> facts = VersionFacts("1.2.0", "random_forest", "s", "m", 0.5, "f")
    >>> from dataclasses import replace
    >>> next_version(facts, replace(facts, threshold=0.4))
    ('1.2.1', <Bump.PATCH: 'patch'>)
    """
    if previous is None:
        return str(FIRST), Bump.INITIAL
    bump = _bump(previous, new)
    return str(SemVer.parse(previous.version).bumped(bump)), bump


def _bump(previous: VersionFacts, new: VersionFacts) -> Bump:
    if (previous.schema_digest, previous.family) != (new.schema_digest, new.family):
        return Bump.MAJOR
    if previous.model_digest != new.model_digest:
        return Bump.MINOR
    if (previous.threshold, previous.fingerprint) != (new.threshold, new.fingerprint):
        return Bump.PATCH
    return Bump.UNCHANGED
