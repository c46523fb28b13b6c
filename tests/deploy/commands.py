"""Our own command line, for what schedules and workflows call."""

from __future__ import annotations

import typer

from attrition.cli.main import app


def parses(arguments):
    """Whether our command line accepts arguments; runs nothing."""
    command, context, rest = typer.main.get_command(app), None, list(arguments)
    name = "attrition"
    while True:
        context = command.make_context(name, rest, parent=context)
        rest = [*context._protected_args, *context.args]
        if not hasattr(command, "resolve_command") or (command.invoke_without_command and not rest):
            return True
        name, command, rest = command.resolve_command(context, rest)
