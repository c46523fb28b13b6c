"""``attrition alerts``: notifications."""

from __future__ import annotations

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace, say

app = typer.Typer(help="Send and list notifications.", no_args_is_help=True)


@app.command("test")
def send_test(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Send a test message to every address of ATTRITION_ALERT_URLS; exits 5 when none takes it.

    Example: attrition alerts test
    """
    notice = open_workspace(ctx).alerts.test()
    emit(notice.to_dict(), as_json=as_json)
    say(f"{notice.n_delivered} of {notice.n_delivered + notice.n_failed} addresses took the message.")


@app.command("list")
def list_(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """List the alerts that were sent, and whether they still hold.

    Example: attrition alerts list
    """
    from attrition.cli.performance_views import alerts_view

    rows = open_workspace(ctx).alerts.list()
    document = [
        {"key": row.key, "state": row.state, "sent_at": row.sent_at.isoformat(), "n_suppressed": row.n_suppressed}
        for row in rows
    ]
    emit(document, alerts_view(rows), as_json=as_json)
