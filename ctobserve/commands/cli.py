"""The command line: parse, wire, exit."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TextIO

import click

from ctobserve import __version__
from ctobserve.commands.help import Example, write_examples
from ctobserve.errors import CtobserveError, ExitStatus

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHOWN = 500  # characters of a complaint


class Group(click.Group):
    """Commands by name. A word that names none is refused, whatever it begins with: click shows its help for some."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command {args[0]!r}.")
        return super().resolve_command(ctx, args)


class Listed(NamedTuple):
    """A command: where it is found below ctobserve.commands, and what it is in one line of 80 columns."""

    module: str
    function: str
    short_help: str


# In the order in which an incident asks for them: what is wrong, what became of a connection, which packets, who fills the table,
# whose entries those are, why they come and go, is it the hash; then what to set, and at the end whether to trust us.
COMMANDS = {
    "report": Listed("report", "report", "What is wrong, gravest first, with numbers and lines to paste."),
    "why": Listed("why", "why", "What became of a connection: why it died, was refused, lives on."),
    "drops": Listed("drops", "drops", "Lost packets and evicted entries, each with its reason."),
    "top": Listed("top", "top", "Who fills the table, live: rates, losses, heaviest groups."),
    "list": Listed("list", "list_entries", "The table now, entry by entry."),
    "events": Listed("events", "events", "Why entries come, change and leave: one line per event."),
    "buckets": Listed("buckets", "buckets", "How the hash is filled: chain lengths, the longest chains."),
    "size": Listed("size", "size", "What to set: memory, limits, timeouts, and what other values do."),
    "verify": Listed("verify", "verify", "Prove the table rebuilt from events equal to the kernel's."),
    "record": Listed("record", "record", "Keep all of it in a file, for every command with --from FILE."),
    "export": Listed("export", "export", "Numbers for Prometheus, counted in the kernel, for months."),
    "diff": Listed("diff", "diff", "What is different between two recordings, or since a time in one."),
    "convert": Listed("convert", "convert", "A recording as Parquet or JSON lines, for other programs."),
    "fleet": Listed("fleet", "fleet", "One question to the recordings of many hosts."),
    "anonymise": Listed("anonymise", "anonymise", "A recording with other addresses and names, for sharing."),
    "check": Listed("check", "check", "What this kernel offers, which hooks are used, what stays blind."),
}
EXAMPLES = (
    Example("what is wrong here, looked at for 5 seconds", "ctobserve report"),
    Example("what a command can do", "ctobserve drops --help"),
)


class Commands(Group):
    """The commands of ctobserve; each module is imported when it is asked for, so that `--help` needs no NumPy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        module, function, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"ctobserve.commands.{module}"), function)
        if not gc.isenabled():  # start() says why
            gc.freeze()
            gc.enable()
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [name for name in COMMANDS if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=COMMANDS[name].short_help) for name in names]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, listed.short_help) for name, listed in COMMANDS.items()])
        click.Command.format_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(EXAMPLES, formatter)


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    options_metavar="", subcommand_metavar="COMMAND [OPTIONS]",
)  # fmt: skip
@click.version_option(__version__, prog_name="ctobserve", help="Show the version and exit.")
@click.option("--debug", is_flag=True, help="Show tracebacks: ctobserve --debug COMMAND.")
def cli(debug: bool) -> None:
    """See what the kernel's connection tracking (nf_conntrack) does: its table, its hash buckets, every loss with its reason.

    Only observes: nothing is flushed, deleted, loaded or configured. Who looks at this host needs root, but for size.
    """


def main() -> int:
    """Run the command that was typed; its exit code."""
    return ended(lambda: typed(cli, "ctobserve"))


def typed(group: click.Group, name: str) -> object:
    """Run what was typed after the program's name. group.main() would make exit code 1 of a reader that has seen enough."""
    if sys.argv[1:2] == ["--complete"]:
        from ctobserve.commands.completing import complete

        return complete(group, name, sys.argv[2:])
    try:
        with group.make_context(name, sys.argv[1:]) as context:
            return group.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code


def ended(run: Callable[[], object], name: str = "ctobserve") -> int:
    """Exit code of a run of this program; every failure is one line on stderr, after --debug with its traceback."""
    try:
        result = run()
        sys.stdout.flush()
        return result if isinstance(result, int) else ExitStatus.DONE
    except (KeyboardInterrupt, BrokenPipeError):
        return ExitStatus.DONE
    except Exception as error:
        message, status = _complaint(error, name)
        with suppress(OSError):  # where no word can be written, the exit code still tells
            if "--debug" in sys.argv:
                import traceback

                traceback.print_exc()
            click.echo(f"{name}: {_shown(message)}", err=True)
        return status
    finally:
        for stream in (sys.stdout, sys.stderr):
            _let_go(stream)


def _let_go(stream: TextIO) -> None:
    """What it does not take is lost here: Python would try once more at its end, complain, and choose another exit code."""
    try:
        stream.flush()
    except (OSError, KeyboardInterrupt):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _complaint(error: Exception, name: str) -> tuple[str, ExitStatus]:
    if isinstance(error, click.UsageError):
        message = error.format_message().replace("\n\t", " ").rstrip(".")  # click sets choices below each other
        where = error.ctx.command_path if error.ctx else name
        return f"{message[:1].lower()}{message[1:]}; try: {where} --help", ExitStatus.USAGE
    if isinstance(error, CtobserveError):
        return str(error), error.exit_status
    if isinstance(error, OSError):
        why = error.strerror or str(error)
        return f"{why}: {error.filename}" if error.filename else why, ExitStatus.FAILURE
    what = f"internal error: {type(error).__name__}: {error}"
    return f"{what}; this is our fault: run {name} --debug ... and report it", ExitStatus.FAILURE


def _shown(message: str) -> str:
    """What a terminal can only show, in one line, whatever was typed; of a long one the beginning and the end."""
    text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in message)
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"
