"""What a package must fulfil to become a version: an equal scorer, and the gates' consent or a recorded reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrition.errors import Fault, ParityError, UsageError
from attrition.scoring.parity import TREES_TOLERANCE

if TYPE_CHECKING:
    from attrition.registry.package import Package


def check_parity(package: Package) -> None:
    """Raise unless the packaged scorer was found equal to its pipeline.

    Raises
    ------
    ParityError
        They differ by more than the recorded tolerance, that tolerance is laxer than any proof's, or nothing was
        compared.
    """
    parity = package.parity
    allowed = min(parity.tolerance, TREES_TOLERANCE)
    # written so that NaN counts as different
    if not (parity.max_difference <= allowed) or parity.n_rows < 1:
        found = f"differs from its pipeline by up to {parity.max_difference:.1e} on {parity.n_rows} records"
        remedy = "it cannot be registered: train again, and report it with the family and its parameters"
        raise ParityError(Fault("scorer", found, f"at most {allowed:.0e} is allowed", remedy))


def waiver(package: Package, reason: str | None) -> str:
    """The reason to record, of at most 500 characters; empty when the gates admit the candidate.

    Raises
    ------
    UsageError
        The gates hold the candidate and there is no reason.
    """
    verdict = package.verdict
    if verdict.admits:
        return ""
    if reason is None or not reason.strip():
        remedy = "train a better candidate, or give a reason with waive"
        held = [result for result in verdict.results if result.holds]
        raise UsageError(
            [Fault(f"gate {r.gate}", r.message or str(r.outcome), "", remedy) for r in held]
            or Fault("gates", f"the verdict is {verdict.outcome}", "", remedy)
        )
    return reason.strip()[:500]
