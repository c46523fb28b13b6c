"""The eight checks of a certificate, each from evidence to a finding that says where it comes from. Pure.

============== ======================================================================================================
metadata       the version says what it is, from which data, split, plan and committed code it was made
performance    no gate about its quality failed, and the gates admit it
fairness       it was compared between groups, and no fairness gate failed
explainability what it relies on is stored, and single explanations add up to what it answers
audit trail    the audit log is intact, and has the import, the training and the registration
security       every file is what was registered, and no pinned dependency has a known vulnerability; NOT CHECKED
               where no scanner could look
privacy        it reads neither ids nor sensitive attributes, its sample shows neither, and the pseudonym key is safe
approval       somebody who may, and who did not make it, approved exactly these bytes
============== ======================================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attrition.errors import AttritionError, NotFound
from attrition.evaluation.gates import Outcome as GateOutcome
from attrition.governance.actions import Action
from attrition.governance.audit_events import Outcome
from attrition.release.certificate import Check, CheckOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attrition.evaluation.gates import GateResult
    from attrition.governance.audit_chain import Verification
    from attrition.governance.audit_events import Record
    from attrition.registry.package import Package
    from attrition.registry.records import ModelVersion
    from attrition.registry.records import Verification as FileVerification
    from attrition.release.dependencies import Scan

QUALITY_GATES = ("auc", "accuracy", "calibration_error", "data_quality", "latency", "champion")
"""Gates of the check ``performance``."""

_is_pseudonym = re.compile(r"[0-9a-f]{32}(-\d+)?").fullmatch


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about a version, from the stores.

    Attributes
    ----------
    version : ModelVersion
    package : Package
        Verified.
    files : Verification of the registry
    trail : sequence of Record
        Events of the audit log about this version, its run and its data, in order.
    log : Verification of the audit log
    sample : tuple of (columns, employee ids), or None
        Of the rows that were logged as a sample; None when the run has none.
    sensitive : frozenset of str
        Sensitive attributes of the training data.
    key_exposed : bool or None
        Whether others than its owner can read the pseudonym key or the signing key; None when neither is a file of this
        machine.
    four_eyes : bool
        Whether the approver must not be an author.
    scan : Scan
        Of the installed dependencies.
    """

    version: ModelVersion
    package: Package
    files: FileVerification
    trail: Sequence[Record]
    log: Verification
    sample: tuple[tuple[str, ...], tuple[str, ...]] | None
    sensitive: frozenset[str]
    key_exposed: bool | None
    four_eyes: bool
    scan: Scan


class _Findings:
    """Collects what a check sees."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.faults: list[str] = []
        self.unchecked: list[str] = []
        self.remedies: list[str] = []

    def note(self, ok: bool, good: str, bad: str, remedy: str) -> None:
        """Record `good` when `ok`, else `bad` with what to do."""
        if ok:
            self.seen.append(good)
        else:
            self.faults.append(bad)
            self.remedies.append(remedy)

    def miss(self, what: str, remedy: str) -> None:
        """Record what could not be looked at, with what makes that possible."""
        self.unchecked.append(what)
        self.remedies.append(remedy)

    def check(self, name: str, *sources: str) -> Check:
        """What was collected; the faults first."""
        outcome = CheckOutcome.NOT_CHECKED if self.unchecked else CheckOutcome.PASS
        if self.faults:
            outcome = CheckOutcome.FAIL
        remedy = "; ".join(dict.fromkeys(self.remedies))
        return Check(name, outcome, (*self.faults, *self.unchecked, *(s for s in self.seen if s)), sources, remedy)


def metadata(evidence: Evidence) -> Check:
    """Whether the version says what it is and where it comes from."""
    lineage, facts, found = evidence.package.lineage, evidence.package.facts, _Findings()
    snapshot = lineage.snapshot
    found.note(
        snapshot is not None and lineage.split is not None,
        f"Trained on snapshot {snapshot.version} ({snapshot.n_rows:,} rows)." if snapshot else "",
        "The training data have no version, or the split is not recorded.",
        "import the data with attrition data import and train on the snapshot",
    )
    code = lineage.code_version
    found.note(
        ".dirty" not in code and code not in {"", "unknown"},
        f"Code {code}.",
        f"Trained by code that is in no repository ({code or 'unknown'}).",
        "commit the code, train and register again",
    )
    undescribed = [feature.name for feature in evidence.package.schema.features if not feature.description]
    found.note(
        not undescribed,
        f"{len(evidence.package.schema.names)} features, each described.",
        f"No description of {', '.join(undescribed)}.",
        "describe each feature in the schema",
    )
    bare = [name for name, metric in facts["metrics"].items() if metric["value"] is not None and metric["low"] is None]
    found.note(
        not bare,
        f"{len(facts['metrics'])} metrics with intervals.",
        f"No interval of {', '.join(bare)}.",
        "validate again",
    )
    return found.check("metadata", _file(evidence, "candidate.json"), f"run {evidence.version.run_id}")


def performance(evidence: Evidence) -> Check:
    """Whether the gates admit it and none about its quality failed."""
    verdict, found = evidence.package.verdict, _Findings()
    results = [result for result in verdict.results if result.gate in QUALITY_GATES]
    _judge_gates(found, results)
    waived = f" It was registered all the same: {evidence.version.waived}." if evidence.version.waived else ""
    found.note(
        verdict.admits,
        "The gates admit it.",
        f"The gates hold it ({verdict.outcome}).{waived}",
        "train a candidate that the gates admit",
    )
    return found.check("performance", _file(evidence, "verdict.json"), _file(evidence, "evaluation.json"))


def fairness(evidence: Evidence) -> Check:
    """Whether groups were compared and no fairness gate failed."""
    package, found = evidence.package, _Findings()
    compared = [report.attribute for report in package.fairness if report.ratio is not None]
    found.note(
        bool(compared),
        f"Compared by {', '.join(compared)}.",
        "No two groups were large enough to compare.",
        "bring data with departments or sensitive attributes, and enough people in each group",
    )
    _judge_gates(found, [result for result in package.verdict.results if result.gate.startswith("fairness")])
    mitigation = package.document("candidate.json").get("mitigation")
    if mitigation:
        found.seen.append(f"Mitigated {mitigation['summary']}.")
    return found.check("fairness", _file(evidence, "fairness.json"))


def _judge_gates(found: _Findings, results: Sequence[GateResult]) -> None:
    failed = [r for r in results if r.outcome is GateOutcome.FAIL or r.holds]
    doubtful = [r.gate for r in results if r.outcome is GateOutcome.INCONCLUSIVE and not r.holds]
    passed = [r.gate for r in results if r.outcome is GateOutcome.PASS]
    for result in failed:
        found.note(False, "", f"{result.gate}: {result.message}", "train a candidate that passes this gate")
    if passed:
        found.seen.append(f"Passed: {', '.join(passed)}.")
    if doubtful:
        found.seen.append(f"Too few people to tell, which warns: {', '.join(doubtful)}.")


def explainability(evidence: Evidence) -> Check:
    """Whether what the model relies on is stored and explanations add up to its answers."""
    package, found = evidence.package, _Findings()
    remedy = "train and register it again with this version of attrition"
    try:
        top = [feature.feature for feature in package.importance.features[:3]]
        explainer = package.explainer(evidence.version.version)
        rows = _probes(len(package.schema.names), explainer.background.quartiles)
        for row in rows:
            explainer.explain(row)
    except NotFound:
        found.note(False, "", "It was registered without what explanations need.", remedy)
    except AttritionError as error:
        found.note(False, "", f"An explanation does not hold: {error}", remedy)
    else:
        found.seen.append(f"It relies most on {', '.join(top)}.")
        found.seen.append(f"{len(rows)} explanations add up to the probability that is answered.")
    return found.check("explainability", _file(evidence, "shap.json"))


def _probes(n: int, quartiles: Sequence[tuple[float, float, float] | None]) -> list[list[float]]:
    """Records to explain: the quartiles of the training rows, each value missing in turn, all missing."""
    quartile_rows = [[q[i] if q else 0.0 for q in quartiles] for i in range(3)]
    gaps = [[np.nan if i == j else value for j, value in enumerate(quartile_rows[1])] for i in range(n)]
    return [*quartile_rows, *gaps, [np.nan] * n]


def audit_trail(evidence: Evidence) -> Check:
    """Whether the log is intact and has what led to this version."""
    found = _Findings()
    found.note(
        evidence.log.intact,
        f"The chain of {evidence.log.last:,} events and {evidence.log.n_heads:,} signed heads is intact.",
        f"The audit log was tampered with: {evidence.log}",
        "keep a copy of the database, run attrition audit verify and find out what happened",
    )
    sources = []
    for action, what in (
        (Action.DATA_IMPORT, "the import of its data"),
        (Action.TRAIN, "its training"),
        (Action.REGISTER, "its registration"),
    ):
        events = _succeeded(evidence.trail, action)
        sources += [f"event {event.sequence}" for event in events[-1:]]
        found.note(
            bool(events),
            f"{what[0].upper()}{what[1:]} is recorded (by {events[-1].actor})." if events else "",
            f"The log does not have {what}.",
            "import, train and register under this audit log",
        )
    return found.check("audit trail", *sources)


def security(evidence: Evidence) -> Check:
    """Whether every file is what was registered and no dependency is known to be vulnerable."""
    found, files, scan = _Findings(), evidence.files, evidence.scan
    found.seen.append(f"{files.n_files} files, each as its SHA-256 in the manifest says.")
    found.seen.append(f"Scorer and pipeline differ by at most {evidence.package.parity.max_difference:.1e}.")
    if scan.is_done:
        found.note(
            not scan.vulnerable,
            scan.summary,
            f"Known vulnerabilities: {', '.join(scan.vulnerable)}.",
            "upgrade these dependencies",
        )
    else:
        remedy = "install pip-audit beside attrition (pip install pip-audit) where it can ask its service"
        found.miss(scan.summary, remedy)
    return found.check("security", f"manifest sha256 {files.manifest_sha256}")


def privacy(evidence: Evidence) -> Check:
    """Whether neither the model nor what is logged with it shows who somebody is."""
    from attrition.data.schema import RESERVED

    found = _Findings()
    names = set(evidence.package.schema.names)
    forbidden = sorted(names & (RESERVED | evidence.sensitive))
    found.note(
        not forbidden,
        "It reads neither ids nor sensitive attributes.",
        f"It reads {', '.join(forbidden)}.",
        "take these columns out of the schema and train again",
    )
    if evidence.sample is None:
        found.seen.append("Its run holds no sample of rows.")
    else:
        columns, ids = evidence.sample
        shown = sorted(set(columns) & evidence.sensitive)
        raw = sum(1 for value in ids if not _is_pseudonym(value))
        found.note(
            not shown and not raw,
            f"The sample in its run has {len(ids)} pseudonyms and no sensitive attribute.",
            f"The sample in its run shows {', '.join(shown) or f'{raw} ids that are no pseudonyms'}.",
            "delete the artifact sample.csv of the run",
        )
    if evidence.key_exposed is None:
        found.seen.append("The keys are not in files of this machine.")
    else:
        found.note(
            not evidence.key_exposed,
            "Only their owner can read the pseudonym key and the signing key.",
            "Others can read the pseudonym key or the signing key.",
            "chmod 600 the files under keys",
        )
    return found.check("privacy", _file(evidence, "schema.json"))


def approval(evidence: Evidence) -> Check:
    """Whether somebody else approved exactly this version."""
    found, version = _Findings(), evidence.version
    remedy = f"have somebody else run attrition models approve {version.version} --justification TEXT"
    events = _succeeded(evidence.trail, Action.APPROVE)
    bound = [event for event in events if event.details.get("manifest_sha256") == version.manifest_sha256]
    if not bound:
        found.note(False, "", "Nobody approved it." if not events else "Other files were approved.", remedy)
        return found.check("approval")
    last = bound[-1]
    authors = {author.strip().casefold() for author in version.authors}
    own = last.actor.strip().casefold() in authors
    lent = [name for name in last.details.get("key_from", ()) if str(name).strip().casefold() in authors]
    if own:
        fault = f"Approved by {last.actor}, who made it."
    elif lent:
        fault = f"Approved by {last.actor}, whose key comes from {lent[0]}, who made it."
    else:
        fault = "Who made it is not recorded."
    found.note(
        not (evidence.four_eyes and (own or lent or not authors)),
        f"Approved by {last.actor} on {last.time[:10]}: {last.justification}.",
        fault,
        remedy,
    )
    return found.check("approval", f"event {last.sequence}")


CHECKS: tuple[Callable[[Evidence], Check], ...] = (
    metadata,
    performance,
    fairness,
    explainability,
    audit_trail,
    security,
    privacy,
    approval,
)
"""In the order of the report."""


def _succeeded(trail: Sequence[Record], action: Action) -> list[Record]:
    return [event for event in trail if event.action == action and event.outcome == Outcome.SUCCEEDED]


def _file(evidence: Evidence, path: str) -> str:
    entry = evidence.package.manifest.files.get(path)
    return f"{path} sha256 {entry.sha256}" if entry else f"{path} (absent)"
