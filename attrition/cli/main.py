"""The ``attrition`` command: options shared by all commands, the groups, and how errors become exit codes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from attrition import __version__
from attrition.cli import (
    access,
    alerts,
    audit,
    certify,
    cluster,
    data,
    drift,
    experiment,
    explain,
    jobs,
    models,
    outcomes,
    performance,
    predictions,
    privacy,
    quickstart,
    release,
    retrain,
    score,
    serve,
    simulate,
    traffic,
    training,
)
from attrition.cli.console import say_error
from attrition.errors import AttritionError, PlatformError, UsageError
from attrition.governance.traces import report_without_values

EXIT_USAGE, EXIT_INPUT, EXIT_PLATFORM, EXIT_INTERRUPTED = 2, 4, 5, 130


class ErrorMappingGroup(TyperGroup):
    """A group that turns attrition's errors into one readable message and their exit code, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors that are bugs keep their traceback."""
        try:
            return super().invoke(ctx)
        except AttritionError as error:
            say_error(str(error))
            if isinstance(error, PlatformError):
                code = EXIT_PLATFORM
            else:
                code = EXIT_USAGE if isinstance(error, UsageError) else EXIT_INPUT
            raise typer.Exit(code) from None
        except KeyboardInterrupt:
            say_error("Interrupted.")
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    cls=ErrorMappingGroup,
    name="attrition",
    help="Predict which employees are likely to leave, and run that model responsibly on Ray.",
    epilog="Exit codes: 0 done, 2 usage, 3 gate held or drift, 4 bad data or configuration or not permitted, "
    "5 platform (Ray, MLflow, Serve, a database).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(*, value: bool) -> None:
    if value:
        typer.echo(f"attrition {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(help="Folder of the embedded stores.", envvar="ATTRITION_HOME", show_default=".attrition"),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow server.", envvar="MLFLOW_TRACKING_URI", show_default="SQLite under the home"),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to join.", envvar=["ATTRITION_RAY_ADDRESS", "RAY_ADDRESS"], show_default="an embedded one"
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Predict which employees are likely to leave, and run that model responsibly on Ray."""
    del version
    ctx.obj = {"home": home, "tracking_uri": tracking_uri, "ray_address": ray_address}


app.command()(quickstart.quickstart)
app.command()(training.tune)
app.command()(training.train)
app.command()(training.validate)
app.command()(score.score)
app.command()(simulate.simulate)
app.command()(certify.certify)
app.command()(explain.explain)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(serve.app, name="serve")
app.add_typer(predictions.app, name="predictions")
app.add_typer(outcomes.app, name="outcomes")
app.add_typer(performance.app, name="performance")
app.add_typer(retrain.app, name="retrain")
app.add_typer(alerts.app, name="alerts")
app.add_typer(privacy.app, name="privacy")
app.add_typer(traffic.app, name="traffic")
app.add_typer(access.app, name="access")
app.add_typer(audit.app, name="audit")
app.add_typer(drift.app, name="drift")
app.add_typer(jobs.app, name="jobs")
app.add_typer(cluster.app, name="cluster")
app.add_typer(experiment.app, name="experiment")
app.add_typer(release.app, name="release")


def main() -> None:
    """Entry point of the ``attrition`` script."""
    # a supervisor's SIGTERM must clean up as Ctrl-C does: an embedded Ray is a dozen processes
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report_without_values()
    # not app(): it would put Typer's own report of exceptions, with their words, back
    typer.main.get_command(app)()
