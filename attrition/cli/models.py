"""``attrition models``: the registered versions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, JustificationOption, confirm, emit, open_workspace, say, write_file

EXIT_GATE_HELD = 3

app = typer.Typer(help="Register, list, compare, name, export, approve and describe versions.", no_args_is_help=True)

RefArgument = Annotated[str, typer.Argument(metavar="VERSION", help="1.0.0, an alias such as champion, or a run id.")]


@app.command()
def register(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="MLflow run id of a tune or train command.")],
    waive: Annotated[
        str | None, typer.Option(metavar="REASON", help="Register although a gate holds it; the reason is recorded.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Register a judged run as the next semantic version; exits 3 when a gate holds it.

    Example: attrition models register 5b0e...
    """
    from attrition.cli.views import verdict_view, version_view

    models = open_workspace(ctx).models
    verdict = models.verdict(run)
    if not verdict.admits and waive is None:
        emit({"verdict": verdict.to_dict()}, verdict_view(verdict), as_json=as_json)
        say("Train a better candidate, or register it with --waive REASON.")
        raise typer.Exit(EXIT_GATE_HELD)
    version = models.register(run, waive=waive)
    emit(version.to_dict(), version_view(version), as_json=as_json)


@app.command("list")
def list_(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """List the registered versions, newest first.

    Example: attrition models list
    """
    from attrition.cli.views import versions_view

    versions = open_workspace(ctx).models.list()
    emit([version.to_dict() for version in versions], versions_view(versions), as_json=as_json)


@app.command()
def show(ctx: typer.Context, version: RefArgument, as_json: JsonFlag = False) -> None:
    """Show a version: what it is, what it was trained on, what the gates said.

    Example: attrition models show champion
    """
    from attrition.cli.views import stacked, verdict_view, version_view

    models = open_workspace(ctx).models
    found, verdict = models.show(version), models.verdict(version)
    emit(
        {**found.to_dict(), "gates": verdict.to_dict()},
        stacked(version_view(found), verdict_view(verdict)),
        as_json=as_json,
    )


@app.command()
def compare(
    ctx: typer.Context,
    first: RefArgument,
    second: RefArgument,
    as_json: JsonFlag = False,
) -> None:
    """Put two versions side by side: metrics with intervals, parameters, features, data.

    Example: attrition models compare 1.0.0 1.1.0
    """
    from attrition.cli.views import comparison_view

    comparison = open_workspace(ctx).models.compare(first, second)
    emit(comparison.to_dict(), comparison_view(comparison), as_json=as_json)


@app.command()
def verify(ctx: typer.Context, version: RefArgument, as_json: JsonFlag = False) -> None:
    """Check every file of a version against its manifest; exits 4 when one byte differs.

    Example: attrition models verify 1.0.0
    """
    result = open_workspace(ctx).models.verify(version)
    emit(result.to_dict(), str(result), as_json=as_json)


@app.command()
def approve(
    ctx: typer.Context,
    version: RefArgument,
    justification: Annotated[
        str, typer.Option("--justification", "--reason", help="Why it is fit for its purpose; kept in the audit log.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Approve a version for production; its author may not, unless the policy says otherwise.

    Example: attrition models approve 1.1.0 --justification "holdout and fairness reviewed"
    """
    from attrition.cli.views import version_view

    approved = open_workspace(ctx).models.approve(version, justification=justification)
    emit(approved.to_dict(), version_view(approved), as_json=as_json)


@app.command()
def card(
    ctx: typer.Context,
    version: RefArgument,
    out: Annotated[
        Path | None, typer.Option(help="File to write: .html a page, else Markdown. [default: model-card-VERSION.html]")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the model card: purpose, data, quality, fairness, what it relies on, limits.

    Example: attrition models card champion --out card.html
    """
    found = open_workspace(ctx).models.card(version)
    path = out or Path(f"model-card-{found.version}.html")
    write_file(path, found.html if path.suffix.lower() in {".html", ".htm"} else found.markdown)
    emit({"version": found.version, "file": str(path)}, as_json=as_json)


@app.command()
def alias(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="Lower-case letters, digits and hyphens.")],
    version: RefArgument,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Point an alias at a version; what it pointed at before loses it.

    Example: attrition models alias pilot 1.1.0
    """
    named = open_workspace(ctx).models.set_alias(name, version, justification=justification)
    emit(named.to_dict(), as_json=as_json)
    say(f"{name} is version {named.version} now.")


@app.command()
def export(
    ctx: typer.Context,
    version: RefArgument,
    directory: Annotated[
        str | None,
        typer.Option(help="Folder of bundles, or abfss://... [default: that of the project]", show_default=False),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the verified folder of a version that serving replicas load; one that exists is verified and kept.

    Example: attrition models export champion --directory /srv/bundles
    """
    bundle = open_workspace(ctx).models.export_bundle(version, directory)
    emit(asdict(bundle), f"{bundle.uri}\nmanifest sha256 {bundle.manifest_sha256}", as_json=as_json)


@app.command()
def unchanged(
    ctx: typer.Context,
    config: Annotated[str, typer.Option(help="Search plan: a YAML file or smoke, default, thorough.")] = "default",
    snapshot: Annotated[int | None, typer.Option(help="Snapshot version. [default: the latest]")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print the version that a search by this plan would make again (same data, plan and code), if there is one.

    Example: attrition models unchanged --config smoke
    """
    version = open_workspace(ctx).unchanged(config, snapshot=snapshot)
    emit(version and version.to_dict(), version.version if version else None, as_json=as_json)
    if version is None:
        say("Data, plan or code are others than those of every registered version.")


@app.command()
def delete(
    ctx: typer.Context,
    version: RefArgument,
    justification: Annotated[
        str, typer.Option("--justification", "--reason", help="Why its files may go; kept in the audit log.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete the files of a version that is neither champion nor served; its record and its number stay.

    Example: attrition models delete 1.0.0 --justification "retention of three years is over"
    """
    if not yes:
        confirm(f"Delete the files of {version} for good?")
    deleted = open_workspace(ctx).models.delete(version, justification=justification)
    emit(deleted.to_dict(), f"Deleted the files of {deleted.version}.", as_json=as_json)
