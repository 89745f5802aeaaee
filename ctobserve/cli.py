"""The command line: parse, wire, exit."""

from __future__ import annotations

import os
import sys
import traceback
from typing import ClassVar

import click

from ctobserve import __version__
from ctobserve.errors import CtobserveError, ExitStatus


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
    """Run a command; every failure is one line on stderr and an exit code."""
    debug = "--debug" in sys.argv
    try:
        result = cli.main(standalone_mode=False, prog_name="ctobserve")
        return result if isinstance(result, int) else ExitStatus.DONE
    except click.UsageError as error:
        _complain(f"{_lower(error.format_message())}; try: {error.ctx.command_path if error.ctx else 'ctobserve'} --help")
        return ExitStatus.USAGE
    except CtobserveError as error:
        if debug:
            traceback.print_exc()
        _complain(str(error))
        return error.exit_status
    except (KeyboardInterrupt, click.Abort):
        return ExitStatus.DONE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.DONE
    except OSError as error:
        if debug:
            traceback.print_exc()
        _complain(f"{error.strerror}: {error.filename}" if error.filename else str(error))
        return ExitStatus.FAILURE


def _complain(message: str) -> None:
    click.echo(f"ctobserve: {message}", err=True)


def _lower(message: str) -> str:
    message = message.rstrip(".").replace("\n", " ")
    return message[:1].lower() + message[1:]
