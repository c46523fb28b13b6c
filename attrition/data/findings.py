"""What a check found: a stable code, a severity, the column and a count. Never a person's values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "ERROR"
    """A model of these data would be wrong or its figures untrue."""
    WARNING = "WARNING"
    """Somebody should look at it."""
    INFO = "INFO"
    """Worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found.

    Attributes
    ----------
    code : str
        Stable name of the check, such as ``null.share``; dashboards and gates refer to it.
    column : str or None
        Canonical name for a feature, name in the extract for a column of the file; None for the whole table.
    message : str
        For people: what was found and what to do.
    n_rows : int
        Rows concerned.
    share : float in [0, 1]
        Of all rows.
    """

    code: str
    severity: Severity
    column: str | None
    message: str
    n_rows: int = 0
    share: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self) | {"severity": self.severity.value}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Finding:
        """Inverse of :meth:`to_dict`."""
        return cls(**{**document, "severity": Severity(document["severity"])})


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Every finding about one table, the gravest first.

    Attributes
    ----------
    findings : tuple of Finding
    n_rows : int
    n_positive : int or None
        Leavers; None when outcomes are unknown.
    """

    findings: tuple[Finding, ...]
    n_rows: int
    n_positive: int | None = None

    @classmethod
    def of(cls, findings: Sequence[Finding], n_rows: int, n_positive: int | None) -> QualityReport:
        """Report with the findings in order of severity, otherwise in the order given."""
        return cls(tuple(sorted(findings, key=lambda item: list(Severity).index(item.severity))), n_rows, n_positive)

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{finding.severity.value}</td><td>{finding.code}</td><td>{escape(finding.column or '')}</td>"
            f"<td>{escape(finding.message)}</td></tr>"
            for finding in self.findings
        )
        head = "<tr><th>severity</th><th>code</th><th>column</th><th>finding</th></tr>"
        return f"<table><caption>{len(self.findings)} findings in {self.n_rows:,} rows</caption>{head}{rows}</table>"

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that make a model of these data wrong."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that somebody should look at."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.WARNING)

    def by_code(self, code: str) -> tuple[Finding, ...]:
        """Findings of one check; empty when it found nothing."""
        return tuple(finding for finding in self.findings if finding.code == code)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "n_rows": self.n_rows,
            "n_positive": self.n_positive,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> QualityReport:
        """Inverse of :meth:`to_dict`."""
        findings = tuple(Finding.from_dict(item) for item in document["findings"])
        return cls(findings, document["n_rows"], document["n_positive"])
