"""How results look in a terminal: one function per result, from the SDK's objects to rich renderables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from attrition.admission.runs import JudgedRun
    from attrition.data.dataset import Dataset
    from attrition.data.findings import QualityReport
    from attrition.data.tables import SnapshotRef
    from attrition.evaluation.gates import Verdict
    from attrition.evaluation.reports import Evaluation
    from attrition.registry.models import Comparison, ModelVersion
    from attrition.release.certificate import Assessment, Certificate
    from attrition.serving.control import ServeStatus

_COLOURS = {
    "PASS": "green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "yellow",
    "NOT_APPLICABLE": "dim",
    "ERROR": "bold red",
    "WARNING": "yellow",
    "INFO": "dim",
}


def stacked(*views: RenderableType) -> Group:
    """Views below each other."""
    return Group(*views)


class _Titled:
    """A table below its title; rich would wrap the title at the table's width."""

    def __init__(self, title: str, table: Table) -> None:
        self._title = title
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(f"\n{self._title}", style="bold")
        yield self._table

    def add_row(self, *cells: RenderableType) -> None:
        """Append a row."""
        self._table.add_row(*cells)


def _table(title: str, *columns: str, right: Sequence[str] = (), header: bool = True) -> _Titled:
    table = Table(header_style="bold", box=None, pad_edge=False, show_header=header)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return _Titled(title, table)


def _coloured(word: str) -> Text:
    return Text(word.replace("_", " "), style=_COLOURS.get(word, ""))


def _pairs(title: str, pairs: dict[str, Any]) -> _Titled:
    table = _table(title, "", "", header=False)
    for name, value in pairs.items():
        table.add_row(Text(name, style="dim"), str(value))
    return table


def quality_view(report: QualityReport) -> RenderableType:
    """Findings, the grave ones first."""
    rows = f"{report.n_rows:,} rows" + (f", {report.n_positive:,} leavers" if report.n_positive is not None else "")
    if not report.findings:
        return Text(f"Data quality: nothing found in {rows}.")
    table = _table(f"Data quality: {rows}", "severity", "code", "column", "finding")
    for finding in sorted(report.findings, key=lambda found: ["ERROR", "WARNING", "INFO"].index(found.severity.name)):
        table.add_row(_coloured(finding.severity.name), finding.code, finding.column or "", finding.message)
    return table


def dataset_view(dataset: Dataset) -> RenderableType:
    """A stored snapshot and its findings."""
    snapshot = dataset.snapshot
    features = ", ".join(dataset.table.schema.names)
    return Group(
        _pairs(
            "Snapshot",
            {
                "version": snapshot.version,
                "content": f"sha256 {snapshot.content_hash}",
                "rows": f"{snapshot.n_rows:,}",
                "features": features,
                "sensitive": ", ".join(dataset.table.sensitive) or "none",
                "from": snapshot.source,
            },
        ),
        quality_view(dataset.quality),
        *(
            [
                Text(
                    "The data gate will hold every model of this snapshot until the errors are mended.",
                    style="bold red",
                )
            ]
            if dataset.quality.errors
            else []
        ),
    )


def snapshots_view(snapshots: Sequence[SnapshotRef]) -> RenderableType:
    """Stored snapshots."""
    if not snapshots:
        return Text("No snapshot is stored yet. Store one: attrition data import FILE")
    columns = ("version", "rows", "erased", "from", "to", "source", "content")
    table = _table("Snapshots", *columns, right=("version", "rows", "erased"))
    for ref in snapshots:
        table.add_row(
            str(ref.version),
            f"{ref.n_rows:,}",
            f"{ref.n_erased:,}",
            str(ref.first_date or "-"),
            str(ref.last_date or "-"),
            ref.source,
            ref.content_hash[:12],
        )
    return table


def evaluation_view(evaluation: Evaluation) -> RenderableType:
    """Metrics on the holdout with their intervals."""
    leavers = f"{evaluation.n_positive:,} leavers"
    title = f"Holdout: {evaluation.n:,} rows, {leavers}, decision threshold {evaluation.threshold:.3f}"
    table = _table(title, "metric", "value", "95 % interval", right=("value",))
    for name, estimate in evaluation.metrics.items():
        table.add_row(
            name.replace("_", " "), _number(estimate.value), f"{_number(estimate.low)} to {_number(estimate.high)}"
        )
    return table


def verdict_view(verdict: Verdict) -> RenderableType:
    """Gate by gate, then the whole."""
    table = _table("Gates", "gate", "outcome", "why")
    for result in verdict.results:
        outcome = _coloured(result.outcome.name)
        if result.outcome.name == "INCONCLUSIVE":
            outcome.append(" (holds)" if result.holds else " (warns)")
        table.add_row(result.gate, outcome, result.message)
    holding = [result.gate for result in verdict.results if result.holds]
    if verdict.admits:
        doubts = f", with a warning from {', '.join(r.gate for r in verdict.warnings)}" if verdict.warnings else ""
        return Group(table, Text(f"The gates admit this candidate{doubts}.", style="green"))
    whole = f"Held by {', '.join(holding)}." if holding else "Held: no gate passed."
    return Group(table, Text(f"The gates do not admit this candidate. {whole}", style="bold red"))


def assessment_view(assessment: Assessment) -> RenderableType:
    """Check by check, then what follows."""
    table = _table(f"Checks of version {assessment.subject.version}", "check", "outcome", "evidence")
    for check in assessment.checks:
        table.add_row(check.name, _coloured(str(check.outcome)), check.text)
    return table


def certificate_view(certificate: Certificate) -> RenderableType:
    """What a genuine certificate says."""
    return Group(
        _pairs(f"Certificate of version {certificate.subject.version}", dict(certificate.rows)),
        Text("The certificate is genuine.", style="green"),
    )


def run_view(run: JudgedRun, version: ModelVersion | None = None) -> RenderableType:
    """What was searched, what won, where it is logged."""
    candidate = run.candidate
    pairs = {
        "run": run.run_id,
        "family": candidate.family.replace("_", " "),
        "parameters": ", ".join(f"{name}={_short(value)}" for name, value in candidate.parameters.items()),
        "calibration": candidate.calibration,
        "decision threshold": f"{candidate.threshold:.3f}",
        "rows": f"{run.n_train:,} to train, {run.n_holdout:,} held out",
        "took": f"{run.seconds:.0f} s",
    }
    if run.search is not None:
        search = run.search
        pairs["search"] = f"{len(search.trials)} trials, {search.n_pruned} stopped early, {search.seconds:.0f} s"
    if candidate.mitigation is not None:
        pairs["mitigation"] = candidate.mitigation["summary"]
    if version is not None:
        pairs["registered"] = f"{version.version} ({', '.join(version.aliases) or 'no alias'})"
    return _pairs("Candidate", pairs)


def run_document(run: JudgedRun, version: ModelVersion | None = None) -> dict[str, Any]:
    """A judged run, JSON-ready."""
    return {
        "run_id": run.run_id,
        "family": run.candidate.family,
        "parameters": dict(run.candidate.parameters),
        "threshold": run.candidate.threshold,
        "mitigation": run.candidate.mitigation,
        "seconds": round(run.seconds, 1),
        "n_trials": len(run.search.trials) if run.search else 0,
        "evaluation": run.evaluation.to_dict(),
        "verdict": run.verdict.to_dict(),
        "version": version.to_dict() if version else None,
    }


def versions_view(versions: Sequence[ModelVersion]) -> RenderableType:
    """Registered versions."""
    if not versions:
        return Text("No version is registered yet. Make one: attrition tune --register")
    table = _table("Model versions", "version", "aliases", "family", "AUC", "accuracy", "gates", "data", "created")
    for version in versions:
        table.add_row(
            version.version,
            ", ".join(version.aliases),
            version.family.replace("_", " "),
            _number(version.metrics.get("auc")),
            _number(version.metrics.get("accuracy")),
            Text(f"{version.verdict}, waived", style="yellow") if version.waived else _coloured(str(version.verdict)),
            _data(version),
            version.created_at,
        )
    return table


def version_view(version: ModelVersion) -> RenderableType:
    """One registered version."""
    return _pairs(f"Version {version.version}", dict(version.rows))


def comparison_view(comparison: Comparison) -> RenderableType:
    """Two versions side by side."""
    return Text(str(comparison))


def status_view(status: ServeStatus) -> RenderableType:
    """What is served and where."""
    if not status.running:
        why = f" ({status.message})" if status.message else ""
        return Text(f"Nothing is served at {status.url}{why}. Start it: attrition serve up")
    return _pairs("Serving", dict(status.rows))


def predictions_view(employee_ids: pd.Series, scored: pd.DataFrame) -> RenderableType:
    """Scored employees, by the first digits of their pseudonyms."""
    columns = ("employee", "probability of leaving", "likely to leave", "version", "prediction id")
    table = _table("Ten employees, scored over HTTP", *columns, right=columns[1:2])
    for person, answer in zip(employee_ids, scored.itertuples(index=False), strict=True):
        table.add_row(
            f"{person[:8]}…",
            f"{answer.probability:.1%}",
            "yes" if answer.decision else "no",
            str(answer.model_version),
            str(answer.prediction_id),
        )
    return table


def _data(version: ModelVersion) -> str:
    snapshot = version.lineage.snapshot
    return "unknown" if snapshot is None else f"snapshot {snapshot.version}, sha256 {snapshot.content_hash[:12]}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
