"""``attrition experiment``: a challenger beside the control, judged at any time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from attrition.cli.console import JsonFlag, JustificationOption, emit, open_workspace, say, write_file

app = typer.Typer(help="Compare a challenger with the version that answers now, soundly.", no_args_is_help=True)

NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="Experiment; by default the running or the last one.", show_default=False),
]
PageOption = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the page with plots here.")]


@app.command()
def plan(
    ctx: typer.Context,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=CONTROL:CHALLENGER[:MARGIN][~SPREAD]",
            help="Any metric of a plan, such as false_positive_rate, latency_p95_ms or score_mean; repeatable. With a "
            "margin it is a guardrail. By default a published case.",
            show_default=False,
        ),
    ] = None,
    design: Annotated[
        Literal["split", "shadow"] | None,
        typer.Option(help="How the challenger meets the people; by default both.", show_default=False),
    ] = None,
    share: Annotated[float, typer.Option(help="Challenger's share of the traffic in a split.")] = 0.5,
    alpha: Annotated[float, typer.Option(help="Probability of any wrong decision.")] = 0.05,
    leave_rate: Annotated[float, typer.Option(help="Share of persons who leave within the horizon.")] = 0.16,
    correlation: Annotated[
        float, typer.Option(help="How alike both versions judge the same person, 0 to 1; for a shadow.")
    ] = 0.7,
    per_day: Annotated[float | None, typer.Option(help="Persons scored in a day, for the duration.")] = None,
    horizon_days: Annotated[int, typer.Option(min=1, help="Days until a label is known.")] = 180,
    as_json: JsonFlag = False,
) -> None:
    """Tell how many records it takes until each metric is decided, by one look and by looking at any time.

    Example: attrition experiment plan --expect false_positive_rate=0.12:0.08 --per-day 500
    """
    from attrition.cli.experiment_views import parse_expectation, sizes_view
    from attrition.experiments.plan import Design

    expectations = [parse_expectation(each) for each in expect or ()]
    sizes = open_workspace(ctx).experiments.plan(
        expectations or None,
        design=Design(design) if design else None,
        share=share,
        alpha=alpha,
        leave_rate=leave_rate,
        correlation=correlation,
        per_day=per_day,
        horizon_days=horizon_days,
    )
    emit([size.to_dict() for size in sizes], sizes_view(sizes, share=share, correlation=correlation), as_json=as_json)


@app.command()
def start(
    ctx: typer.Context,
    plan_file: Annotated[
        str, typer.Option("--plan", metavar="FILE", help="YAML of versions, weights and metrics, or the shipped one.")
    ] = "experiment",
    name: Annotated[
        str | None, typer.Option(help="Instead of the plan's, to run the same plan again.", show_default=False)
    ] = None,
    keep_traffic: Annotated[
        bool, typer.Option("--keep-traffic", help="Leave weights and shadows as they are.")
    ] = False,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Begin an experiment and give both versions their part of the traffic.

    Example: attrition experiment start --plan serve_configs/experiment.yaml --name autumn
    """
    from attrition.cli.experiment_views import experiment_view

    experiment = open_workspace(ctx).experiments.start(
        plan_file, name=name, change_traffic=not keep_traffic, justification=justification
    )
    emit(experiment.to_dict(), experiment_view(experiment), as_json=as_json)


@app.command()
def status(ctx: typer.Context, name: NameArgument = None, page: PageOption = None, as_json: JsonFlag = False) -> None:
    """Show an experiment and what its last look found.

    Example: attrition experiment status
    """
    from attrition.cli.experiment_views import experiment_view

    experiments = open_workspace(ctx).experiments
    experiment = experiments.status(name)
    if page is not None:
        write_file(page, experiments.page(name))
    emit(experiment.to_dict(), experiment_view(experiment), as_json=as_json)


@app.command("list")
def list_(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """List the experiments, oldest first.

    Example: attrition experiment list
    """
    from attrition.cli.experiment_views import experiments_view

    found = open_workspace(ctx).experiments.list()
    emit([each.to_dict() for each in found], experiments_view(found), as_json=as_json)


@app.command()
def analyze(ctx: typer.Context, name: NameArgument = None, page: PageOption = None, as_json: JsonFlag = False) -> None:
    """Look at an experiment now, as often as you like: PROMOTE, ROLL_BACK, CONTINUE or INCONCLUSIVE, and why.

    Example: attrition experiment analyze --html experiment.html
    """
    from attrition.cli.experiment_views import look_view

    experiments = open_workspace(ctx).experiments
    look = experiments.analyze(name)
    if page is not None:
        write_file(page, experiments.page(look.analysis.experiment))
    document = look.to_dict()
    emit(document, look_view(document), as_json=as_json)


@app.command()
def stop(
    ctx: typer.Context, name: NameArgument = None, justification: JustificationOption = None, as_json: JsonFlag = False
) -> None:
    """End an experiment; the traffic stays as it is.

    Example: attrition experiment stop --justification "decided by the board"
    """
    from attrition.cli.experiment_views import experiment_view

    experiment = open_workspace(ctx).experiments.stop(name, justification=justification)
    emit(experiment.to_dict(), experiment_view(experiment), as_json=as_json)
    say("The traffic is as it was. Change it with `attrition traffic set` or `attrition traffic shadow --stop`.")
