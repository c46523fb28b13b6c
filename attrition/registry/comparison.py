"""Two versions side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attrition.evaluation.display import html_table, text_table
from attrition.evaluation.intervals import Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

Row = tuple[str, str, str]

_PARAMETER = "parameter "


@dataclass(frozen=True, slots=True)
class Comparison:
    """What distinguishes two versions. The figures are each version's own, on its own holdout.

    Attributes
    ----------
    first, second : str
        Versions, or runs that are not registered.
    metrics : tuple of rows
        Name, first, second; each figure with its interval.
    differences : tuple of rows
        Name, first, second: family, parameters by name, calibration, threshold, features, gates, data, plan, code;
        only what differs, at the precision shown.
    """

    first: str
    second: str
    metrics: tuple[Row, ...]
    differences: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "first": self.first,
            "second": self.second,
            "metrics": {name: [first, second] for name, first, second in self.metrics},
            "differences": {name: [first, second] for name, first, second in self.differences},
        }

    def __str__(self) -> str:
        header = ("", self.first, self.second)
        return "\n\n".join(text_table(title, header, rows) for title, rows in self._parts())

    def _repr_html_(self) -> str:
        header = ("", self.first, self.second)
        return "".join(html_table(title, header, rows) for title, rows in self._parts())

    def _parts(self) -> list[tuple[str, tuple[Row, ...]]]:
        return [("Metrics", self.metrics), ("Differences", self.differences or (("none", "", ""),))]


def compare_facts(
    first: str, first_facts: Mapping[str, Any], second: str, second_facts: Mapping[str, Any]
) -> Comparison:
    """The comparison of two packages by the facts of their manifests."""
    mine, other = first_facts["metrics"], second_facts["metrics"]
    metrics = tuple(
        (name.replace("_", " "), _figure(mine.get(name)), _figure(other.get(name))) for name in {**mine, **other}
    )
    left, right = _described(first_facts), _described(second_facts)
    parameters = sorted({name for facts in (left, right) for name in facts if name.startswith(_PARAMETER)})
    others = [name for name in left if not name.startswith(_PARAMETER)]
    names = [name for name in (*others[:1], *parameters, *others[1:]) if left.get(name) != right.get(name)]
    differences = tuple((name, left.get(name, "not set"), right.get(name, "not set")) for name in names)
    return Comparison(first, second, metrics, differences)


def _figure(document: Mapping[str, Any] | None) -> str:
    return "" if document is None else str(Estimate.from_dict(document))


def _value(value: Any) -> str:
    """A hyperparameter to four digits: a sampled one has seventeen, and nobody reads them."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _described(facts: Mapping[str, Any]) -> dict[str, str]:
    lineage = facts["lineage"]
    snapshot = lineage["snapshot"] or {}
    return {
        "family": facts["family"],
        **{f"{_PARAMETER}{name}": _value(value) for name, value in facts["parameters"].items()},
        "calibration": facts["calibration"],
        "threshold": f"{facts['threshold']:.4f}",
        "features": ", ".join(facts["features"]),
        "schema": facts["schema_digest"][:12],
        "model": facts["model_digest"][:12],
        "gates": facts["verdict"],
        "data version": str(snapshot.get("version", "unversioned")),
        "data hash": str(snapshot.get("content_hash", ""))[:12],
        "data rows": str(snapshot.get("n_rows", "")),
        "data from": str(snapshot.get("source", "")),
        "plan": f"{lineage['plan']} {lineage['plan_digest'][:12]}",
        "code": lineage["code_version"],
        "seed": str(lineage["seed"]),
    }
