"""``attrition certify``: the compliance certificate of a version, and whether one is genuine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, JustificationOption, emit, open_workspace, say, write_file
from attrition.errors import UsageError

EXIT_GATE_HELD = 3


def certify(
    ctx: typer.Context,
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="1.0.0, or an alias.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write. [default: certificate-VERSION.json]")] = None,
    verify: Annotated[Path | None, typer.Option(metavar="FILE", help="Check a certificate instead; offline.")] = None,
    public_key: Annotated[Path | None, typer.Option(help="With --verify: the issuer's public key.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="With --verify: files of the version or its bundle, compared too.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: what a check that is NOT CHECKED does, hold or warn.")
    ] = None,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the eight checks of a version and write its signed certificate; exits 3 when a check fails.

    Example: attrition certify 1.0.0, then anywhere: attrition certify --verify certificate-1.0.0.json
    """
    from attrition.cli.views import assessment_view, certificate_view

    if (version is None) == (verify is None):
        raise UsageError("Give a version to certify, or --verify with a file.")
    certificates = open_workspace(ctx).certificates
    if verify is not None:
        genuine = certificates.verify(verify, public_key=public_key, folder=folder)
        emit(genuine.to_dict(), certificate_view(genuine), as_json=as_json)
        return
    assert version is not None
    if out is not None and not os.access(out.parent, os.W_OK):  # before it is issued: it exists only in its file
        raise UsageError(f"{out} cannot be written; check the path.")
    assessment, certificate = certificates.issue(version, policy=policy, justification=justification)
    emit(assessment.to_dict(), assessment_view(assessment), as_json=as_json)
    if certificate is None:
        say("No certificate was issued.")
        raise typer.Exit(EXIT_GATE_HELD)
    for check in assessment.unchecked:
        say(f"NOT CHECKED, as the certificate states: {check.name}. To do: {check.remedy}.")
    path = out or Path(f"certificate-{certificate.subject.version}.json")
    write_file(path, certificate.to_json())
