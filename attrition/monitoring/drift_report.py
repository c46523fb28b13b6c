"""What a drift run found, as a document; pure.

A report is known by what it compared: reference, window and policy. Repeating a run gives the same report with the same
id, so a retried job stores it once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from attrition.errors import IntegrityError
from attrition.monitoring.alerts import Alert, Severity
from attrition.monitoring.domain_classifier import Separability
from attrition.monitoring.drift import DriftPolicy, FeatureDrift, Level, compare, overall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.evaluation.references import DriftReference
    from attrition.monitoring.run import Sketched
    from attrition.monitoring.windows import Window

FORMAT = "attrition.drift/1"


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a window against the same segment of the reference.

    Attributes
    ----------
    code : str
    level : Level
    n_window : int
    features : tuple of FeatureDrift
    """

    code: str
    level: Level
    n_window: int
    features: tuple[FeatureDrift, ...]


@dataclass(frozen=True, slots=True)
class DriftReport:
    """A window against a reference.

    Attributes
    ----------
    report_id : str
        16 hexadecimal digits, of reference, window and policy.
    created_at : datetime
    reference : str
        Version, or name of a file.
    model_version : str
        Empty when the reference is a file.
    reference_digest : str
        SHA-256 of its distributions.
    window : str
        As asked for.
    start, end : datetime or None
        Of a period.
    n_reference, n_window, n_left_out : int
        Rows; of the window those that count, and those that do not.
    level : Level
        The gravest of any feature, the score included; segments and the classifier of sides do not decide.
    features : tuple of FeatureDrift
    segment_feature : str
        What the segments are codes of.
    segments : tuple of Segment
    separability : Separability or None
        None where rows of the reference cannot be read, or are too few.
    policy : DriftPolicy
    notes : tuple of str
        What a reader should know besides, as sentences.
    """

    report_id: str
    created_at: datetime
    reference: str
    model_version: str
    reference_digest: str
    window: str
    start: datetime | None
    end: datetime | None
    n_reference: int
    n_window: int
    n_left_out: int
    level: Level
    features: tuple[FeatureDrift, ...]
    segment_feature: str
    segments: tuple[Segment, ...]
    separability: Separability | None
    policy: DriftPolicy
    notes: tuple[str, ...] = ()

    @property
    def drifted(self) -> tuple[str, ...]:
        """Features that drifted, the one with the largest stability index first."""
        found = [each for each in self.features if each.level.drifted]
        return tuple(each.feature for each in sorted(found, key=lambda each: -(each.psi or 0.0)))

    def __str__(self) -> str:
        """One sentence."""
        what = {
            Level.INSUFFICIENT: "has too few rows to be compared",
            Level.STABLE: "is stable",
        }.get(self.level, f"drifted ({self.level.value}) in {', '.join(self.drifted)}")
        return f"Window {self.window} ({self.n_window:,} rows) {what} against {self.reference}."

    def to_alerts(self) -> tuple[Alert, ...]:
        """The notification of a drifted window; empty otherwise."""
        if not self.level.drifted:
            return ()
        figures = {each.feature: f"{each.feature} (PSI {each.psi or 0:.2f})" for each in self.features}
        body = (
            f"{self}\n{', '.join(figures[name] for name in self.drifted)}\nLook: attrition drift show {self.report_id}"
        )
        severity = Severity.CRITICAL if self.level is Level.MAJOR else Severity.WARNING
        return (Alert(f"{scope(self.reference)}level", f"Drift against {self.reference}", body, severity),)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document; no value in it is NaN or infinite."""
        plain = {
            name: getattr(self, name)
            for name in ("report_id", "reference", "model_version", "reference_digest", "window")
        }
        counts = {name: getattr(self, name) for name in ("n_reference", "n_window", "n_left_out")}
        return {
            "format": FORMAT,
            **plain,
            "created_at": self.created_at.isoformat(),
            "start": None if self.start is None else self.start.isoformat(),
            "end": None if self.end is None else self.end.isoformat(),
            **counts,
            "level": self.level.value,
            "drifted": list(self.drifted),
            "features": [each.to_dict() for each in self.features],
            "segment_feature": self.segment_feature,
            "segments": [
                {
                    "code": segment.code,
                    "level": segment.level.value,
                    "n_window": segment.n_window,
                    "features": [each.to_dict() for each in segment.features],
                }
                for segment in self.segments
            ],
            "separability": None if self.separability is None else self.separability.to_dict(),
            "policy": self.policy.model_dump(mode="json"),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`.

        Raises
        ------
        IntegrityError
            A document of another format.
        """
        if document.get("format") != FORMAT:
            raise IntegrityError(f"This is no drift report that can be read; {FORMAT} is expected.")
        values = {name: document[name] for name in cls.__slots__}
        separable = document["separability"]
        return cls(
            **{
                **values,
                "created_at": datetime.fromisoformat(document["created_at"]),
                "start": document["start"] and datetime.fromisoformat(document["start"]),
                "end": document["end"] and datetime.fromisoformat(document["end"]),
                "level": Level(document["level"]),
                "features": tuple(map(FeatureDrift.from_dict, document["features"])),
                "segments": tuple(
                    Segment(
                        each["code"],
                        Level(each["level"]),
                        each["n_window"],
                        tuple(map(FeatureDrift.from_dict, each["features"])),
                    )
                    for each in document["segments"]
                ),
                "separability": None if separable is None else Separability.from_dict(separable),
                "policy": DriftPolicy.model_validate(document["policy"]),
                "notes": tuple(document["notes"]),
            }
        )


def scope(reference: str) -> str:
    """Prefix of the keys of alerts about drift against a reference."""
    return f"drift/{reference}/"


def report_id(reference_digest: str, window: Window, policy: DriftPolicy) -> str:
    """16 hexadecimal digits that are the same for the same comparison."""
    essence = [FORMAT, reference_digest, window.fingerprint, policy.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(essence, sort_keys=True).encode()).hexdigest()[:16]


def make_report(
    reference: DriftReference,
    window: Window,
    found: Sketched,
    *,
    name: str,
    model_version: str,
    policy: DriftPolicy,
    now: datetime,
    separability: Separability | None = None,
    notes: tuple[str, ...] = (),
) -> DriftReport:
    """Report on a window whose sketches are `found`.

    Parameters
    ----------
    name
        Of the reference: a version, or the name of a file.
    model_version
        Empty when it is a file.
    now
        With a time zone.
    """
    features = _compared(reference, "", found, policy)
    segments = []
    for code in reference.segments:
        drifts = _compared(reference, code, found, policy)
        n_rows = max((drift.n_window for drift in drifts), default=0)
        segments.append(Segment(code, overall(drifts), n_rows, drifts))
    digest = reference.digest
    return DriftReport(
        report_id=report_id(digest, window, policy),
        created_at=now,
        reference=name,
        model_version=model_version,
        reference_digest=digest,
        window=window.text,
        start=window.start,
        end=window.end,
        n_reference=reference.n_rows,
        n_window=found.n_rows,
        n_left_out=found.n_left_out,
        level=overall(features),
        features=features,
        segment_feature=reference.segment_feature,
        segments=tuple(segments),
        separability=separability,
        policy=policy,
        notes=notes,
    )


def _compared(
    reference: DriftReference, segment: str, found: Sketched, policy: DriftPolicy
) -> tuple[FeatureDrift, ...]:
    sketches = reference.within(segment, found.sketches)
    references = reference.segments[segment] if segment else reference.features
    return compare({name: each for name, each in references.items() if name in sketches}, sketches, policy)
