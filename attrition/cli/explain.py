"""``attrition explain``: why a version estimates what it does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace
from attrition.errors import Fault, InputError, UsageError


def explain(
    ctx: typer.Context,
    prediction_id: Annotated[
        str | None, typer.Argument(metavar="PREDICTION_ID", help="Of a scoring answer.", show_default=False)
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON object of a record instead; - reads stdin.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version or alias that explains the record.", show_default="champion")
    ] = None,
    of_version: Annotated[
        str | None, typer.Option("--global", metavar="VERSION", help="Explain a version or run as a whole instead.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Explain one prediction feature by feature, or what a version relies on.

    Example: attrition explain 018e2f5c-7a10-7cc3-98c4-dc0c0c07398f
    """
    from attrition.cli.explain_views import explanation_view, importance_view

    given = [name for name, value in (("ID", prediction_id), ("--record", record), ("--global", of_version)) if value]
    if len(given) != 1 or (version and not record):
        given += ["--version"] if version else []
        allowed = "PREDICTION_ID, --record (with --version if you like) or --global"
        raise UsageError(Fault("explain", f"{' and '.join(given) or 'nothing'} given", allowed))
    workspace = open_workspace(ctx)
    if of_version is not None:
        importance = workspace.explain_global(of_version)
        emit(importance.to_dict(), importance_view(importance, of_version), as_json=as_json)
        return
    explanation = workspace.explain(prediction_id, record=None if record is None else _read(record), version=version)
    emit(explanation.to_dict(), explanation_view(explanation), as_json=as_json)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = "cannot be read" if isinstance(error, OSError) else "is not JSON"
        raise InputError(Fault(str(path), found, "a JSON object of feature and value")) from error
    if not isinstance(document, dict):
        raise InputError(Fault(str(path), "is no JSON object", "one record: feature and value"))
    return document
