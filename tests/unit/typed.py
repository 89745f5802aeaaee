"""What is typed, parsed as `ctobserve.cli.main` does it but not run, or run; all commands and options, found by introspection."""

from __future__ import annotations

import sys

import click
import pytest

from ctobserve.commands.cli import cli, ended, main
from ctobserve.commands.options import Request, request_of

CONTEXT = click.Context(cli, info_name="ctobserve")


def _command(name: str) -> click.Command:
    found = cli.get_command(CONTEXT, name)
    assert found
    return found


COMMANDS = {name: _command(name) for name in cli.list_commands(CONTEXT)}


def options_of(command: click.Command) -> list[click.Parameter]:
    """All but what stands without a name: the file of `record`."""
    return [one for one in command.params if not isinstance(one, click.Argument)]


OPTIONS = [(name, option.opts[0]) for name, command in COMMANDS.items() for option in options_of(command)]


def run(patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a run in this process, whose doors somebody has put something else behind."""
    patch.setattr(sys, "argv", ["ctobserve", *arguments])
    code = main()
    return code, *captured.readouterr()


def parse(command: str, *arguments: str) -> tuple[int, Request | None]:
    """Exit code, and the Request where there is one; complaints go to stderr."""
    made: list[Request] = []

    def run() -> None:
        try:
            context = COMMANDS[command].make_context(command, list(arguments), parent=CONTEXT)
        except click.exceptions.Exit:  # of --help
            return
        made.append(request_of(dict(context.params)))

    return ended(run), made[0] if made else None
