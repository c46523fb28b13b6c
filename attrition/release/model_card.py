"""The model card of a version: what it is for, what it was made from, how good and how fair it is, where it ends.

After Mitchell et al. (2019), Model Cards for Model Reporting. Everything is read from the verified package and from the
registry, so the card of a version can be made at any time and says the same; what is for people to know and not in any
file, purpose and misuse, is written here. The card is Markdown; its HTML is that Markdown in one self-contained page.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from attrition.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Template
    from matplotlib.figure import Figure

    from attrition.data.schema import Feature, FeatureSchema
    from attrition.evaluation.explanations import GlobalImportance
    from attrition.evaluation.intervals import Estimate
    from attrition.registry.package import Package
    from attrition.registry.records import ModelVersion
    from attrition.settings import Settings
    from attrition.training.candidate import Lineage

PURPOSE = (
    "It estimates how likely each employee is to leave within the horizon, so that people who are responsible for them "
    "can look at working conditions, workload, pay and development in time. A person reads the estimate, with its "
    "explanation and its uncertainty, as one hint among others."
)

MISUSES = (
    "to decide about a person automatically, or as the main ground of a decision (GDPR article 22);",
    "to the disadvantage of the people it flags;",
    "for people unlike those it learned from: other countries, companies, contracts or job markets than in the data;",
    "to explain why somebody leaves: it knows what goes along with leaving, not what causes it;",
    "without telling the workforce and, where the law asks for it, without agreement of its representatives.",
)

_FEW = 500
"""Leavers in the holdout below which the card points at the width of the intervals."""


class _Picture(NamedTuple):
    alt: str
    source: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A version's card.

    Attributes
    ----------
    version : str
    markdown : str
        Complete, with its plots as data addresses.
    """

    version: str
    markdown: str

    @property
    def html(self) -> str:
        """One page that needs no other file and no network."""
        from markdown_it import MarkdownIt

        # html off: mark-up that comes with a label stays text
        body = MarkdownIt("commonmark", {"html": False}).enable("table").render(self.markdown)
        title = f"Model card {escape(self.version)}"
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
            f"<body>{body}</body></html>\n"
        )

    def _repr_html_(self) -> str:
        return self.html


def model_card(name: str, version: ModelVersion, package: Package) -> ModelCard:
    """The card of a registered version.

    Parameters
    ----------
    name
        Of the registered model.
    version, package
        As the registry gives them; the package is verified.
    """
    document = package.document("candidate.json")
    schema, evaluation, fairness = package.schema, package.evaluation, package.fairness
    quality, verdict, lineage = package.quality, package.verdict, package.lineage
    importance = _importance(package)
    from attrition.evaluation.explanations import trend_words
    from attrition.evaluation.plots import fairness_plot
    from attrition.training.families import family_named

    markdown = _template().render(
        name=name,
        version=version,
        package=package,
        lineage=lineage,
        headline=_headline(schema, lineage),
        family_title=family_named(package.facts["family"]).title,
        parameters=", ".join(f"{key}={_short(value)}" for key, value in package.facts["parameters"].items())
        or "scikit-learn's defaults",
        objective=_objective(document["objective"]),
        gates=f"{version.verdict}; waived: {version.waived}" if version.waived else version.verdict,
        purpose=PURPOSE,
        misuses=MISUSES,
        data_rows=_data_rows(package),
        findings=quality.findings if quality else (),
        schema=schema,
        holdout=_holdout(package),
        evaluation=evaluation,
        evaluation_figures=_pictures(evaluation.plots()),
        importance=importance,
        importance_rows=[
            (row["feature"], f"{row['mean_absolute']:.4f}", f"{row['share']:.1%}", trend_words(row["trend"]))
            for row in (importance.table() if importance else ())
        ],
        importance_figures=_pictures(importance.plots()) if importance else (),
        fairness=fairness,
        fairness_figures=_pictures({f"fairness by {r.attribute}": fairness_plot(r) for r in fairness if r.groups}),
        mitigation=document.get("mitigation"),
        verdict=verdict,
        limits=_limits(package),
    )
    return ModelCard(version.version, _compact(markdown))


def log_card(settings: Settings, run_id: str, card: ModelCard) -> None:
    """Keep a card with the run of its version, as ``model_card.html`` and ``model_card.md``.

    Raises
    ------
    TrackingUnreachable
        MLflow does not answer.
    """
    from attrition.training.connection import connect

    client = connect(settings)
    client.log_text(run_id, card.html, "model_card.html")
    client.log_text(run_id, card.markdown, "model_card.md")


def _importance(package: Package) -> GlobalImportance | None:
    """What the version relies on; None when it was registered before that was stored."""
    try:
        return package.importance
    except NotFound:
        return None


def _headline(schema: FeatureSchema, lineage: Lineage) -> str:
    source = f"from {cell(lineage.snapshot.source)} " if lineage.snapshot and lineage.snapshot.source else ""
    return (
        f"Estimates from {len(schema.names)} features how likely an employee is to leave within {schema.horizon_days} "
        f"days. Learned {source}with the plan {cell(lineage.plan)}."
    )


def _objective(objective: Mapping[str, Any]) -> str:
    words = str(objective["kind"]).replace("_", " ")
    if objective["kind"] != "top_share":
        words += f" with a recall of at least {objective['min_recall']:g}"
    reached = objective["reached"]
    return f"{words}; out of fold it reached recall {reached['recall']:.3f}, precision {reached['precision']:.3f}"


def _data_rows(package: Package) -> list[tuple[str, str]]:
    lineage, evaluation, quality = package.lineage, package.evaluation, package.quality
    snapshot, split = lineage.snapshot, lineage.split
    rows = []
    if snapshot is not None:
        period = f"{snapshot.first_date} to {snapshot.last_date}" if snapshot.first_date else "without dates"
        rows += [
            ("Source", snapshot.source or "not recorded"),
            ("Snapshot", f"version {snapshot.version}, {snapshot.n_rows:,} rows, {period}"),
            ("Content", f"sha256 {snapshot.content_hash}"),
        ]
    if quality is not None and quality.n_positive is not None:
        rows.append(("Left within the horizon", f"{quality.n_positive:,} of {quality.n_rows:,} rows"))
    if split is not None:
        how = f"from {split.cutoff}, training ends {split.embargo_days} days before" if split.cutoff else "at random"
        rows.append(("Holdout", f"{evaluation.n:,} rows of persons the model has not seen, {how}"))
    rows.append(("Employee ids", "replaced by keyed pseudonyms before anything is stored"))
    return rows


def _holdout(package: Package) -> str:
    evaluation = package.evaluation
    return (
        f"On {evaluation.n:,} rows it has not seen, {evaluation.n_positive:,} of which left "
        f"({evaluation.n_positive / evaluation.n:.1%})."
    )


def _limits(package: Package) -> list[str]:
    """What a reader should hold against the figures; each follows from a fact of this version."""
    from attrition.data.schema import FeatureSchema
    from attrition.evaluation.gates import Outcome

    lineage, evaluation = package.lineage, package.evaluation
    horizon = f"The probability is about leaving within {package.schema.horizon_days} days of the snapshot"
    found = [f"{horizon}; it says nothing about later, and 0.3 means that seven of ten such people stay."]
    missing = [name for name in FeatureSchema.default().names if name not in package.schema.names]
    if missing:
        found.append(f"The data had no {cell(', '.join(missing))}: the model does not know it.")
    if lineage.split is not None and lineage.split.cutoff is None:
        found.append(
            "The holdout is of the same time as the training rows: how the figures hold up later was not measured."
        )
    if lineage.surrogate_ids:
        found.append("The data had no employee ids: the same person may be in training and in the holdout.")
    if evaluation.n_positive < _FEW:
        found.append(f"The holdout has {evaluation.n_positive:,} leavers: read the intervals, not the points.")
    doubtful = [r.gate.replace("_", " ") for r in package.verdict.results if r.outcome is Outcome.INCONCLUSIVE]
    if doubtful:
        found.append(f"The holdout is too small to tell: {cell(', '.join(doubtful))}.")
    found += [
        f"By {cell(attribute)}, groups with {sum(groups.values()):,} rows in all are too small to report."
        for attribute, groups in evaluation.small_slices.items()
        if groups
    ]
    weak = [f for f in (package.quality.warnings if package.quality else ()) if f.column]
    if weak:
        names = ", ".join(dict.fromkeys(str(f.column) for f in weak))
        found.append(f"The data checks warn about {cell(names)}; see Data.")
    return found


def _pictures(figures: Mapping[str, Figure]) -> list[_Picture]:
    from attrition.evaluation.plots import figure_png

    return [
        _Picture(name.replace("_", " "), f"data:image/png;base64,{b64encode(figure_png(figure)).decode('ascii')}")
        for name, figure in figures.items()
    ]


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    # Markdown, not HTML: escaping is `cell`, and the page is made with HTML switched off
    environment = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)  # noqa: S701
    environment.filters |= {"cell": cell, "estimate": _estimate, "plausible": _plausible}
    source = files("attrition.release").joinpath("model_card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def cell(value: object) -> str:
    r"""Text that is neither mark-up nor the end of a table cell.

    Examples
    --------
    >>> cell("R&D | <b>x</b>\n*")
    'R&D \\| \\<b\\>x\\</b\\> \\*'
    """
    text = " ".join(str(value).split())
    return "".join(f"\\{character}" if character in r"\`*_[]<>|#~!" else character for character in text)


def _estimate(estimate: Estimate) -> str:
    return cell(estimate) if estimate.defined else "undefined"


def _plausible(feature: Feature) -> str:
    if feature.categories:
        return f"{len(feature.categories)} known codes"
    if feature.kind == "category":
        return "codes seen in training"
    low, high = feature.bounds
    if low == -inf and high == inf:
        return "any"
    return f"at least {low:g}" if high == inf else f"at most {high:g}" if low == -inf else f"{low:g} to {high:g}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _compact(markdown: str) -> str:
    """At most one empty line in a row: what the template's conditions leave behind."""
    lines: list[str] = []
    for line in markdown.splitlines():
        if line.strip() or (lines and lines[-1]):
            lines.append(line.rstrip())
    return "\n".join(lines).rstrip() + "\n"


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0;font-size:.9rem}"
    "th,td{border:1px solid #ddd;padding:.3rem .6rem;text-align:left;vertical-align:top;overflow-wrap:break-word}"
    "td:first-child{white-space:nowrap}"
    "th{background:#f5f5f5}img{max-width:100%;width:26rem}h2{border-bottom:1px solid #ddd;margin-top:2.5rem}"
    "@media print{body{margin:0}h2{break-after:avoid}}"
)
