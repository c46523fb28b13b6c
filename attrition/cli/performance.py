"""``attrition performance``: what versions are worth in production."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace, say, write_file

EXIT_HELD = 3

app = typer.Typer()

PolicyOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="YAML of a performance policy. [default: alert below AUC 0.82]")
]

NotifyFlag = Annotated[bool, typer.Option("--notify", help="Send alerts to ATTRITION_ALERT_URLS, each once a day.")]


@app.callback(invoke_without_command=True)
def measure(
    ctx: typer.Context,
    version: Annotated[str | None, typer.Option(help="Version or alias. [default: all in the log]")] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="Day up to which outcomes are complete. [default: the latest observed]"
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="month or quarter.")] = "month",
    policy: PolicyOption = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with the plot, too.")] = None,
    notify: NotifyFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure versions on the predictions whose outcomes are known; exits 3 when an alert fires.

    Example: attrition performance --version champion --by quarter
    """
    if ctx.invoked_subcommand is not None:
        return
    from attrition.cli.performance_views import performance_view

    report = open_workspace(ctx).performance.measure(version, as_of=as_of, by=by, policy=policy, notify=notify)
    if html is not None:
        write_file(html, report.to_html())
    emit(report.to_dict(), performance_view(report), as_json=as_json)
    _alarm(report.alerts)


@app.command()
def estimate(
    ctx: typer.Context,
    version: Annotated[str, typer.Option(help="Version or alias.")] = "champion",
    window: Annotated[str, typer.Option(help="30d, 24h, 2w or DATE..DATE.")] = "30d",
    policy: PolicyOption = None,
    notify: NotifyFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Estimate a version's performance before labels mature, blind to concept drift; exits 3 when it lies too low.

    Example: attrition performance estimate --window 30d --version champion
    """
    from attrition.cli.performance_views import estimate_view

    found = open_workspace(ctx).performance.estimate(version, window=window, policy=policy, notify=notify)
    emit(found.to_dict(), estimate_view(found), as_json=as_json)
    _alarm(found.alerts)


def _alarm(alerts: Sequence[str]) -> None:
    for alert in alerts:
        say(f"ALERT: {alert}.")
    if alerts:
        raise typer.Exit(EXIT_HELD)
