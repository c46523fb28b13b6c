"""``attrition traffic``: which version answers which request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from attrition.cli.console import JsonFlag, JustificationOption, emit, open_workspace, say
from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from attrition.serving.placement import PlacedOptions
    from attrition.serving.traffic_history import TrafficChange

EXIT_GATE_HELD = 3

app = typer.Typer(help="Split traffic between versions, pin, shadow, switch and roll back.", no_args_is_help=True)

VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="1.0.0, or an alias such as challenger.")]


@app.command()
def show(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Show the served versions, their shares, pins and shadows.

    Example: attrition traffic show
    """
    from attrition.cli.traffic_views import traffic_view

    state = open_workspace(ctx).traffic.show()
    emit(state.to_dict(), traffic_view(state), as_json=as_json)


@app.command("set")
def set_(
    ctx: typer.Context,
    shares: Annotated[
        list[str],
        typer.Argument(metavar="VERSION=SHARE...", help="Per cent that sum to 100, or shares that sum to 1."),
    ],
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Begin a new comparison: people are assigned anew.")
    ] = None,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Split the traffic between versions; a version alone gets all of it.

    Example: attrition traffic set 1.0.0=70 1.1.0=30
    """
    _emit(
        open_workspace(ctx).traffic.set(parse_shares(shares), experiment=experiment, justification=justification),
        as_json=as_json,
    )


@app.command()
def pin(
    ctx: typer.Context,
    condition: Annotated[str, typer.Argument(metavar="HEADER=VALUE", help="Request header and its value.")],
    version: VersionArgument,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Have requests with a header answered by one version, whatever the shares say.

    Example: attrition traffic pin x-user-group=pilot 1.1.0
    """
    header, value = _condition(condition)
    if value is None:
        raise UsageError(Fault(condition, "has no value", "HEADER=VALUE, such as x-user-group=pilot"))
    _emit(open_workspace(ctx).traffic.pin(header, value, version, justification=justification), as_json=as_json)


@app.command()
def unpin(
    ctx: typer.Context,
    condition: Annotated[str, typer.Argument(metavar="HEADER[=VALUE]", help="As pinned; a header alone means all.")],
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove a pin.

    Example: attrition traffic unpin x-user-group=pilot
    """
    _emit(open_workspace(ctx).traffic.unpin(*_condition(condition), justification=justification), as_json=as_json)


@app.command()
def shadow(
    ctx: typer.Context,
    versions: Annotated[
        list[str] | None, typer.Argument(metavar="[VERSION...]", help="Versions that score copies.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop all shadows.")] = False,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Have versions score a copy of every record after the response, without answering.

    Example: attrition traffic shadow 1.1.0
    """
    if stop == bool(versions):
        raise UsageError(Fault("traffic shadow", "needs either versions or --stop"))
    _emit(open_workspace(ctx).traffic.shadow(versions or [], justification=justification), as_json=as_json)


@app.command()
def place(
    ctx: typer.Context,
    version: VersionArgument,
    placement: Annotated[
        Literal["in_process", "deployment"], typer.Argument(help="In the gateway, or in replicas of its own.")
    ],
    replicas: Annotated[int | None, typer.Option(min=1, help="Replicas of its deployment.")] = None,
    max_replicas: Annotated[int | None, typer.Option(min=1, help="Let their number grow with the load.")] = None,
    options: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML of size, resources, runtime environment and limits.")
    ] = None,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Give a version a Serve deployment of its own, or bring it back into the gateway.

    Example: attrition traffic place 1.1.0 deployment --replicas 2
    """
    from attrition.serving.placement import Placement

    placed = read_options(options, num_replicas=replicas, max_replicas=max_replicas)
    traffic = open_workspace(ctx).traffic
    _emit(traffic.place(version, Placement(placement), placed, justification=justification), as_json=as_json)


@app.command()
def switch(
    ctx: typer.Context,
    version: VersionArgument,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Smoke-test a version beside the others, then give it all traffic; exits 3 when a test fails.

    Example: attrition traffic switch 1.1.0
    """
    from attrition.cli.traffic_views import switch_view

    switched = open_workspace(ctx).traffic.switch(version, justification=justification)
    emit(switched.to_dict(), switch_view(switched), as_json=as_json)
    if switched.change is None:
        say("The traffic is what it was.")
        raise typer.Exit(EXIT_GATE_HELD)


@app.command()
def rollback(
    ctx: typer.Context,
    to: Annotated[int | None, typer.Option(metavar="GENERATION", help="As in the history; the one before.")] = None,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Put the traffic before the last change back; a second time undoes that.

    Example: attrition traffic rollback
    """
    _emit(open_workspace(ctx).traffic.rollback(to, justification=justification), as_json=as_json)


@app.command()
def history(
    ctx: typer.Context,
    last: Annotated[int, typer.Option(min=1, help="Newest changes to show.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List the changes of traffic, newest first: who, when, what, and whether it was applied.

    Example: attrition traffic history
    """
    from attrition.cli.traffic_views import history_view

    changes = open_workspace(ctx).traffic.history()[::-1][:last]
    emit([change.to_dict() for change in changes], history_view(changes), as_json=as_json)


def parse_shares(texts: list[str]) -> dict[str, float]:
    """Version → share, from ``1.0.0=70`` or one version alone.

    Raises
    ------
    UsageError
        Not in this form, or a version twice; all faults at once.
    """
    if len(texts) == 1 and "=" not in texts[0]:
        return {texts[0]: 1.0}
    shares: dict[str, float] = {}
    faults = []
    for text in texts:
        name, _, share = text.partition("=")
        try:
            number = float(share.removesuffix("%"))
        except ValueError:
            faults.append(Fault(text, "is no share", "VERSION=SHARE, such as 1.1.0=30"))
            continue
        if not name or name in shares:
            faults.append(Fault(text, "names no version" if not name else "names a version again"))
        shares[name] = number
    if faults:
        raise UsageError(faults)
    return shares


def read_options(path: Path | None, **given: int | None) -> PlacedOptions | None:
    """Options of a deployment: those of a file, with what is given beside it; None when neither is there.

    Raises
    ------
    ConfigError
        No such file, an unknown key, or a value out of range; all faults at once.
    """
    from pydantic import ValidationError

    from attrition.errors import ConfigError
    from attrition.serving.placement import PlacedOptions
    from attrition.settings import config_faults, load_yaml

    flags = {name: value for name, value in given.items() if value is not None}
    if path is None and not flags:
        return None
    options = PlacedOptions() if path is None else load_yaml(path, PlacedOptions)
    try:
        return PlacedOptions.model_validate({**options.model_dump(), **flags})
    except ValidationError as error:
        raise ConfigError(config_faults(str(path or "options"), error, PlacedOptions)) from error


def _condition(text: str) -> tuple[str, str | None]:
    header, separator, value = text.partition("=")
    return header, value if separator else None


def _emit(change: TrafficChange, *, as_json: bool) -> None:
    from attrition.cli.traffic_views import change_view

    emit(change.to_dict(), change_view(change), as_json=as_json)
