"""``attrition simulate``: what the closed loop is worth, on a company that does not exist."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace, say

if TYPE_CHECKING:
    from attrition.retraining.simulation_report import Quarter


def simulate(
    ctx: typer.Context,
    quarters: Annotated[int, typer.Option(min=1, max=40, help="Quarters to report on.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal companies.")] = 42,
    scenario: Annotated[str, typer.Option(help="Drift scenario, or none.")] = "flexible_hours",
    drift_quarter: Annotated[int, typer.Option(help="Quarter in which it starts; 0 and below: before the report.")] = 2,
    employees: Annotated[int, typer.Option(min=500, help="Headcount.")] = 4_000,
    policy: Annotated[
        str, typer.Option(help="Retraining policy: a YAML file or a shipped name.")
    ] = "retraining-simulation",
    serve: Annotated[bool, typer.Option("--serve", help="Score over HTTP by Ray Serve, not in batches.")] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Its own project. [default: HOME/simulation]")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the whole loop on a simulated company, with and without retraining; a few minutes for eight quarters.

    Writes simulation.json, simulation.png and simulation.html beside the simulated project.

    Example: attrition simulate --quarters 8 --scenario flexible_hours
    """
    from attrition.cli.retraining_views import simulation_view

    def told(quarter: Quarter) -> None:
        say(f"{quarter.name}: version {quarter.version}, AUC {quarter.auc}, {quarter.verdict}. {quarter.note}")

    with open_workspace(ctx) as workspace:
        report, paths = workspace.simulate(
            output,
            quarters=quarters,
            seed=seed,
            scenario=scenario,
            drift_quarter=drift_quarter,
            employees=employees,
            policy=policy,
            serve=serve,
            on_quarter=told,
            on_step=say,
        )
    emit(report.to_dict(), simulation_view(report), as_json=as_json)
    for path in paths:
        say(f"Wrote {path}")
