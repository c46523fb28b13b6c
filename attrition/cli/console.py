"""Where the commands print: data to stdout, talk to stderr; and the Workspace that the shared options describe."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from attrition.workspace import Workspace

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]

JustificationOption = Annotated[
    str | None, typer.Option("--justification", "--reason", help="Why; kept in the audit log.", show_default=False)
]


def open_workspace(ctx: typer.Context) -> Workspace:
    """The Workspace of the shared options; libraries' chatter is kept out of the command's output."""
    from attrition.governance.traces import log_to_stderr
    from attrition.workspace import Workspace

    log_to_stderr()
    for name in ("alembic", "mlflow", "ray", "optuna"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    root = ctx.find_root()
    workspace = Workspace(**(root.obj or {}))
    root.call_on_close(workspace.close)
    return workspace


def talk() -> Console:
    """Console on stderr: progress and remarks."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False)


def emit(document: Any, view: RenderableType | None = None, *, as_json: bool = False) -> None:
    """Print a result on stdout: its rich view, or `document` as JSON."""
    if as_json:
        typer.echo(json.dumps(document, indent=2, default=str))
    elif view is not None:
        from rich.console import Console

        # piped output is not squeezed into 80 columns
        width = None if sys.stdout.isatty() else 160
        # without markup: what a path or a name has in [brackets] is no style
        Console(highlight=False, markup=False, width=width).print(view)


def write_file(path: Path, text: str) -> None:
    """Write what a command was asked to write.

    Raises
    ------
    UsageError
        It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(Fault(str(path), f"cannot be written ({error.strerror})", "", "check the path")) from error
    say(f"Wrote {path}")


def say(message: str) -> None:
    """One remark on stderr."""
    talk().print(message)


def say_heading(message: str) -> None:
    """The heading of a step on stderr, after an empty line."""
    from rich.text import Text

    talk().print(Text(f"\n{message}", "bold"))


def confirm(question: str) -> None:
    """Return when the person at the terminal says yes.

    Raises
    ------
    UsageError
        They do not, or there is nobody to ask.
    """
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:  # the end of stdin, which may have held the argument
        typer.echo(err=True)
        agreed = False
    if not agreed:
        raise UsageError("Nothing was done. Answer yes, or give --yes where nobody can answer.")


def say_error(message: str) -> None:
    """One error message on stderr, its lines below each other."""
    from rich.text import Text

    talk().print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)


@contextmanager
def busy(message: str) -> Iterator[None]:
    """A spinner on stderr while the block runs; one plain line when stderr is not a terminal."""
    from rich.text import Text

    console = talk()
    if not console.is_terminal:
        console.print(f"{message} ...")
        yield
        return
    with console.status(Text(message)):
        yield
