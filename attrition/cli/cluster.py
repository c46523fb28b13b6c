"""``attrition cluster``: Ray on Kubernetes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attrition.cli.console import JsonFlag, JustificationOption, busy, emit, open_workspace, say
from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from attrition.cluster.ray_objects import RayObject

EXIT_PLATFORM = 5

app = typer.Typer(help="Run and change Ray clusters on Kubernetes (KubeRay).", no_args_is_help=True)

NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Kubernetes namespace.", show_default="that of the context")
]
ContextOption = Annotated[
    str | None, typer.Option(help="Context of the kubeconfig.", show_default="the current one, or the pod's own")
]
ServiceOption = Annotated[
    str | None,
    typer.Option(
        help="RayService, NAME or NAMESPACE/NAME.", envvar="ATTRITION_RAY_SERVICE", show_default="that of the settings"
    ),
]


@app.command()
def up(
    ctx: typer.Context,
    manifests: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Manifests; - is standard input.", show_default=False)
    ],
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    force: Annotated[bool, typer.Option("--force", help="Take fields over from other managers.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Have the server check all and store nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return once Ray objects are ready.")] = True,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for each.")] = 1800.0,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Apply manifests and wait for their RayClusters, RayServices and RayJobs; exits 5 when one fails.

    A served application keeps its traffic. Manifests are what `kubectl kustomize kuberay/overlays/staging` prints.

    Example: attrition cluster up staging.yaml
    """
    from attrition.cli.cluster_views import objects_view
    from attrition.cluster.kuberay import read_manifests

    documents = [each for name in manifests for each in read_manifests(_text(name), name)]
    found = open_workspace(ctx).cluster.up(
        documents,
        namespace=namespace,
        context=context,
        force=force,
        dry_run=dry_run,
        wait=wait,
        timeout_seconds=timeout,
        on_change=_say_state,
        justification=justification,
    )
    say(f"{len(documents)} objects {'would be' if dry_run else 'are'} applied.")
    emit([one.to_dict() for one in found], objects_view(found) if found else None, as_json=as_json)
    if wait and any(one.failed for one in found):
        raise typer.Exit(EXIT_PLATFORM)


@app.command()
def status(
    ctx: typer.Context, namespace: NamespaceOption = None, context: ContextOption = None, as_json: JsonFlag = False
) -> None:
    """Show RayServices, RayClusters and RayJobs and how they are; exits 5 when one has failed.

    Example: attrition cluster status --namespace attrition-staging
    """
    from attrition.cli.cluster_views import objects_view

    found = open_workspace(ctx).cluster.status(namespace=namespace, context=context)
    emit([one.to_dict() for one in found], objects_view(found), as_json=as_json)
    if any(one.failed for one in found):
        raise typer.Exit(EXIT_PLATFORM)


@app.command()
def deploy(
    ctx: typer.Context,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Version or alias.")],
    service: ServiceOption = None,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Have a RayService answer with a version; no pod is replaced, pins and shadows stay.

    Example: attrition cluster deploy 1.1.0 --service attrition-staging/attrition
    """
    with busy("Waiting for every replica"):
        change = open_workspace(ctx).cluster.deploy(version, service=service, justification=justification)
    emit(change.to_dict(), as_json=as_json)
    say(f"Generation {change.generation} answers with {version}, after {change.seconds:.1f} s.")


@app.command()
def traffic(
    ctx: typer.Context,
    shares: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VERSION=SHARE]...", help="New split; none: show.", show_default=False),
    ] = None,
    service: ServiceOption = None,
    experiment: Annotated[str | None, typer.Option(help="Name of a new comparison.", show_default=False)] = None,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show or change the split of a RayService between versions, in spec.serveConfigV2 alone.

    Example: attrition cluster traffic 1.0.0=70 1.1.0=30 --service attrition-staging/attrition
    """
    from attrition.cli.traffic import parse_shares
    from attrition.cli.traffic_views import change_view, traffic_view

    cluster = open_workspace(ctx).cluster
    if not shares:
        state = cluster.traffic(service=service)
        emit(state.to_dict(), traffic_view(state), as_json=as_json)
        return
    wanted = parse_shares(shares)
    with busy("Waiting for every replica"):
        change = cluster.shift(wanted, service=service, experiment=experiment, justification=justification)
    emit(change.to_dict(), change_view(change), as_json=as_json)


@app.command()
def down(
    ctx: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="KIND/NAME", help="rayservice/attrition, say.")],
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Delete a RayService, RayCluster or RayJob with its pods, and return when it is gone.

    Example: attrition cluster down rayservice/attrition --namespace attrition-staging --yes
    """
    kind, slash, name = ref.partition("/")
    if not slash or not name:
        raise UsageError(Fault(ref, "names no object", "KIND/NAME, as in rayservice/attrition"))
    if not yes:
        typer.confirm(f"Delete {ref} and stop what it serves?", abort=True, err=True)
    with busy("Deleting"):
        deleted = open_workspace(ctx).cluster.down(
            kind, name, namespace=namespace, context=context, justification=justification
        )
    emit({"deleted": deleted}, as_json=as_json)
    say(f"{ref} is gone." if deleted else f"There is no {ref}.")


def _text(name: str) -> str:
    if name == "-":
        return sys.stdin.read()
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(Fault(name, f"cannot be read ({getattr(error, 'strerror', None) or 'no text'})")) from error


def _say_state(one: RayObject) -> None:
    say(f"{one.ref}: {one.state}{f' ({one.message})' if one.message else ''}")
