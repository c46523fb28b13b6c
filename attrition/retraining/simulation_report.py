"""The closed loop in figures: quarter by quarter the AUC with it and without it, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attrition.evaluation.display import html_table, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attrition.evaluation.intervals import Estimate

RULE = "a person approves every challenger that the gates admit, at once; it scores from the next quarter on"
"""What stands in for the person who promotes."""

REMARK = f"Here {RULE}. A decision rests on the outcomes known by then: those of predictions a year old."
"""Said wherever a report is shown."""

UNDISTURBED = "none"
"""Name of the scenario in which nothing changes."""


@dataclass(frozen=True, slots=True)
class Quarter:
    """One quarter.

    Attributes
    ----------
    number : int
    name : str
        ``2023Q3``.
    n_persons : int
        Scored, all of them with the label that became known a year later.
    share_left : float
        Of them, in [0, 1].
    version : str
        That scored.
    auc, auc_without : Estimate
        Of that version, and of the first one, on the same people.
    gain : Estimate or None
        Their difference, paired; None while they are the same.
    drift : str
        Level, or empty when it was not known.
    drifted : tuple of str
    verdict, rule, state, note : str
        Of the decision after the quarter, and what came of it.
    challenger : str
        Registered then; empty when none was.
    """

    number: int
    name: str
    n_persons: int
    share_left: float
    version: str
    auc: Estimate
    auc_without: Estimate
    gain: Estimate | None
    drift: str
    drifted: tuple[str, ...]
    verdict: str
    rule: str
    state: str
    note: str
    challenger: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {
            "auc": self.auc.to_dict(),
            "auc_without": self.auc_without.to_dict(),
            "gain": None if self.gain is None else self.gain.to_dict(),
            "drifted": list(self.drifted),
        }


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """The loop over some quarters.

    Attributes
    ----------
    scenario : str
    drift_quarter : int
        In which it starts.
    n_employees, seed : int
    plan : str
    scored_by : str
        ``batch`` or ``HTTP``.
    baseline : Estimate
        AUC of the first version at admission.
    quarters : tuple of Quarter
    seconds : float
    """

    scenario: str
    drift_quarter: int
    n_employees: int
    seed: int
    plan: str
    scored_by: str
    baseline: Estimate
    quarters: tuple[Quarter, ...]
    seconds: float

    @property
    def title(self) -> str:
        """One line."""
        change = f"scenario {self.scenario} from quarter {self.drift_quarter} on" if self.changes else "nothing changes"
        return f"{len(self.quarters)} quarters of {self.n_employees:,} simulated employees, {change}, seed {self.seed}"

    @property
    def changes(self) -> bool:
        """Whether the company is disturbed at all."""
        return self.scenario != UNDISTURBED

    @property
    def improved(self) -> tuple[Quarter, ...]:
        """Quarters in which the loop's version ranks better, with the whole interval of the paired gain above 0."""
        return tuple(each for each in self.quarters if each.gain is not None and each.gain.low > 0)

    @property
    def summary(self) -> str:
        """What the loop was worth, as a sentence."""
        later = [each for each in self.quarters if each.gain is not None]
        if not later:
            return "No other version came into charge, so both are the same."
        mean = sum(each.gain.value for each in later if each.gain) / len(later)
        return (
            f"Quarters scored by a retrained version: {len(later)}; mean gain in AUC over doing nothing {mean:+.3f}; "
            f"the whole interval of the gain lies above 0 in {len(self.improved)} of them."
        )

    header = ("quarter", "version", "AUC with the loop", "AUC without", "gain", "drift", "decision", "came to")
    """Titles of :attr:`rows`."""

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """A line per quarter, as text."""
        return [
            (
                f"{each.number} {each.name}",
                each.version,
                str(each.auc),
                str(each.auc_without),
                "" if each.gain is None else f"{each.gain.value:+.3f} [{each.gain.low:+.3f}, {each.gain.high:+.3f}]",
                f"{each.drift} {', '.join(each.drifted)}".strip(),
                each.verdict + (f": {each.rule}" if each.rule else ""),
                f"{each.state.lower()} {each.challenger}".strip() if each.state != "DECIDED" else "",
            )
            for each in self.quarters
        ]

    def __str__(self) -> str:
        return "\n".join([text_table(self.title, self.header, self.rows), self.summary, REMARK])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        plain = {
            name: getattr(self, name)
            for name in ("scenario", "drift_quarter", "n_employees", "seed", "plan", "scored_by", "seconds")
        }
        return {
            **plain,
            "rule": RULE,
            "baseline": self.baseline.to_dict(),
            "summary": self.summary,
            "quarters": [each.to_dict() for each in self.quarters],
        }

    def plot(self) -> Figure:
        """AUC with and without the loop, drift and promotions marked."""
        from matplotlib.figure import Figure

        from attrition.evaluation.plots import BLUE, GREY, ORANGE

        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.subplots()
        x = [each.number for each in self.quarters]
        label = f"at admission {self.baseline}"
        axes.axhline(self.baseline.value, color=GREY, linewidth=1.2, linestyle=(0, (5, 3)), label=label)
        axes.axhspan(self.baseline.low, self.baseline.high, color=GREY, alpha=0.12, linewidth=0)
        for name, colour, marker, shift, found in (
            (
                "without the loop: first version for ever",
                ORANGE,
                "s",
                0.06,
                [each.auc_without for each in self.quarters],
            ),
            ("with the loop", BLUE, "o", -0.06, [each.auc for each in self.quarters]),
        ):
            y = [estimate.value for estimate in found]
            spread = [[e.value - e.low for e in found], [e.high - e.value for e in found]]
            places = [place + shift for place in x]
            axes.errorbar(places, y, yerr=spread, color=colour, marker=marker, markersize=6, capsize=3, label=name)
        axes.margins(y=0.12)
        low, high = axes.get_ylim()
        if self.changes and self.drift_quarter >= 1:
            axes.axvline(self.drift_quarter - 0.5, color=GREY, linewidth=1)
            axes.annotate(
                f" {self.scenario} begins", (self.drift_quarter - 0.5, high), va="top", color=GREY, fontsize=9
            )
        versions = [each.version for each in self.quarters]
        for place, (each, before) in enumerate(zip(self.quarters, [versions[0], *versions[:-1]], strict=True)):
            if each.version != before:
                axes.axvline(x[place] - 0.5, color=BLUE, linewidth=1, linestyle=":")
                axes.annotate(f" {each.version} takes over", (x[place] - 0.5, low), va="bottom", color=BLUE, fontsize=9)
        ticks = [f"{each.name}\n{each.verdict}\n{_short(each)}" for each in self.quarters]
        axes.set_xticks(x, ticks, fontsize=8)
        axes.set_xlim(0.4, len(x) + 0.6)
        axes.set(ylabel="AUC on the labels of the year after, 95 % interval", title=self.title)
        axes.title.set_fontsize(10)
        axes.grid(axis="y", color=GREY, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(framealpha=1, edgecolor="none", fontsize="small", loc="lower left")
        return figure

    def to_html(self) -> str:
        """A page that needs no file beside it."""
        from html import escape

        from attrition.evaluation.display import html_figure
        from attrition.evaluation.plots import figure_png

        figure = html_figure(figure_png(self.plot()), "AUC with and without the loop").replace(
            'width="420"', 'width="860"'
        )
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(self.title)}</title>'
        body = f"<p>{escape(self.summary)} {escape(REMARK)}</p>{html_table(self.title, self.header, self.rows)}"
        return f'{head}<body style="font-family:sans-serif;margin:2em">{figure}{body}</body></html>'


def _short(quarter: Quarter) -> str:
    return {"REGISTERED": f"→ {quarter.challenger}", "HELD": "held by gates", "DECIDED": ""}.get(
        quarter.state, quarter.state.lower()
    )
