"""``attrition drift``: whether the people that are scored are still those that a version learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace, say, write_file

EXIT_DRIFTED, EXIT_INSUFFICIENT = 3, 4

app = typer.Typer(help="Compare what is scored now with what a version learned from.", no_args_is_help=True)

PageOption = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the page with plots here.")]


@app.command()
def run(
    ctx: typer.Context,
    window: Annotated[
        str, typer.Option(help="7d, 24h or DATE..DATE of the prediction log; or a file of employees.")
    ] = "7d",
    reference: Annotated[str, typer.Option(help="Version or alias, or a file.")] = "champion",
    policy: Annotated[Path | None, typer.Option(help="YAML of what counts as drift.")] = None,
    schema: Annotated[Path | None, typer.Option(help="Feature schema of a reference that is a file.")] = None,
    page: PageOption = None,
    notify: Annotated[bool, typer.Option("--notify", help="Send alerts to ATTRITION_ALERT_URLS.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare a window with a reference and store the report; exits 3 when it drifted, 4 with too few rows to say.

    Example: attrition drift run --window 7d --reference champion
    """
    from attrition.cli.drift_views import report_view

    with open_workspace(ctx) as workspace:
        stored = workspace.monitoring.drift(window, reference, policy=policy, schema=schema, notify=notify)
        if page is not None:
            write_file(page, workspace.monitoring.drift_page(stored.report.report_id))
    emit(stored.to_dict(), report_view(stored), as_json=as_json)
    level = stored.report.level
    if level.drifted:
        raise typer.Exit(EXIT_DRIFTED)
    if level == "INSUFFICIENT":
        say("There are too few rows to say whether anything drifted.")
        raise typer.Exit(EXIT_INSUFFICIENT)


@app.command()
def live(
    ctx: typer.Context,
    last: Annotated[int | None, typer.Option(min=1, help="Predictions in view.", show_default="5000")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Version or alias.", show_default="the version that answered most of them")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the drift of the last predictions, as the monitor exports it; exits 3 when they drifted, 4 with too few.

    Example: attrition drift live --last 2000
    """
    from attrition.cli.drift_views import live_view

    found = open_workspace(ctx).monitoring.live(last, reference=reference)
    emit(found.to_dict(), live_view(found), as_json=as_json)
    if found.level.drifted:
        raise typer.Exit(EXIT_DRIFTED)
    if found.level == "INSUFFICIENT":
        raise typer.Exit(EXIT_INSUFFICIENT)


@app.command("list")
def list_(
    ctx: typer.Context,
    last: Annotated[int, typer.Option(min=1, help="Newest reports to show.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List the stored reports, newest first.

    Example: attrition drift list
    """
    from attrition.cli.drift_views import reports_view

    reports = open_workspace(ctx).monitoring.drift_reports(last)
    emit([stored.to_dict() for stored in reports], reports_view(reports), as_json=as_json)
    if not reports:
        say("No drift run was made yet: attrition drift run")


@app.command()
def show(
    ctx: typer.Context,
    report: Annotated[str, typer.Argument(metavar="REPORT", help="Id as in the list, or its beginning.")],
    page: PageOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a stored report, feature by feature and department by department.

    Example: attrition drift show 4f1c09 --html drift.html
    """
    from attrition.cli.drift_views import report_view

    monitoring = open_workspace(ctx).monitoring
    stored = monitoring.drift_report(report)
    if page is not None:
        write_file(page, monitoring.drift_page(stored.report.report_id))
    emit(stored.to_dict(), report_view(stored), as_json=as_json)
