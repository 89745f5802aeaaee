"""The command line: parse, wire, exit."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import ClassVar

import click

from ctobserve import __version__
from ctobserve.errors import CtobserveError, ExitStatus

SHOWN = 500  # characters of a complaint


class Commands(click.Group):
    """Commands by name; each module is imported when it is asked for, so that `--help` needs no NumPy."""

    MODULES: ClassVar = {
        "check": "check",
        "events": "events",
        "list": "list:list_entries",
        "buckets": "buckets",
        "drops": "drops",
        "verify": "verify",
        "size": "size",
        "report": "report",
        "top": "top",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.MODULES:
            return None
        from importlib import import_module

        module, _, attribute = self.MODULES[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"ctobserve.commands.{module}"), attribute or module)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ctobserve")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """See what the kernel's connection tracking (nf_conntrack) does: its table, its hash buckets, every loss with its reason.

    Only observes: nothing is flushed, deleted, loaded or configured.
    """


def main() -> int:
    """Run the command that was typed; its exit code."""
    return ended(lambda: cli.main(standalone_mode=False, prog_name="ctobserve"))


def ended(run: Callable[[], object]) -> int:
    """Exit code of a run; every failure is one line on stderr, after --debug with its traceback."""
    try:
        result = run()
        return result if isinstance(result, int) else ExitStatus.DONE
    except (KeyboardInterrupt, click.Abort):
        return ExitStatus.DONE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.DONE
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        message, status = _complaint(error)
        click.echo(f"ctobserve: {_shown(message)}", err=True)
        return status


def _complaint(error: Exception) -> tuple[str, ExitStatus]:
    if isinstance(error, click.UsageError):
        message = error.format_message().rstrip(".")
        where = error.ctx.command_path if error.ctx else "ctobserve"
        return f"{message[:1].lower()}{message[1:]}; try: {where} --help", ExitStatus.USAGE
    if isinstance(error, CtobserveError):
        return str(error), error.exit_status
    if isinstance(error, OSError):
        return f"{error.strerror}: {error.filename}" if error.filename else str(error), ExitStatus.FAILURE
    what = f"internal error: {type(error).__name__}: {error}"
    return f"{what}; this is our fault: run ctobserve --debug ... and report it", ExitStatus.FAILURE


def _shown(message: str) -> str:
    """What a terminal can only show, in one line, whatever was typed; of a long one the beginning and the end."""
    text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in message)
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"
