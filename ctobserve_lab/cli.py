"""The command line of ctobserve-lab: incidents of connection tracking to learn from, each made and undone by one command."""

from __future__ import annotations

import signal
import textwrap
import time
from pathlib import Path

import click

from ctobserve import __version__
from ctobserve.commands.cli import Group, ended, typed
from ctobserve.commands.ready import SHOWN_CHARACTERS
from ctobserve.commands.values import PATH, real
from ctobserve.model import printable
from ctobserve_lab import guide
from ctobserve_lab.machine import admit
from ctobserve_lab.recordings import recording
from ctobserve_lab.scenario import Scenario
from ctobserve_lab.scenarios import SCENARIOS
from ctobserve_lab.stage import Ended, Stage, end_by_exception

NAME = "ctobserve-lab"
WIDTH = 98
name_argument = click.argument("name", type=click.Choice(list(SCENARIOS)), metavar="NAME")
here_option = click.option("--here", is_flag=True, help="This machine may be hurt: limits that all its namespaces share change.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=NAME)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Make an incident of connection tracking in network namespaces of its own, look at it, undo it.

    Refuses machines that are no lab: start one by `make lab` or `vagrant up`. docs/lab.md is a guided session.
    """


@cli.command("list")
def list_scenarios() -> None:
    """Names of all scenarios, each with what people see of it."""
    width = max(map(len, SCENARIOS)) + 2
    for name, scenario in SCENARIOS.items():
        click.echo(f"{name:<{width}}{scenario.symptom}")


@cli.command(short_help="What a scenario does, what to type meanwhile, and the fix.")
@name_argument
def show(name: str) -> None:
    """What a scenario does, what to expect, what to type meanwhile, and the fix."""
    scenario = SCENARIOS[name]
    _introduce(name, scenario)
    for title, lines in (("Look:", scenario.look), ("Fix:", scenario.fix)):
        if lines:
            click.echo("\n".join([title, *(f"    # {line}" for line in lines)]))


@cli.command(short_help="Make the incident, leave it standing to be looked at, undo it.")
@name_argument
@click.option("--ready-file", type=PATH, metavar="PATH", help="Wait until this file exists, as ctobserve's option makes it.")
@click.option("--hold", type=real(0), metavar="SECONDS", help="How long the world stands afterwards; else until Ctrl-C.")
@here_option
def run(name: str, ready_file: Path | None, hold: float | None, here: bool) -> None:
    """Make the incident, leave the world standing to be looked at, then undo everything.

    Beside it, in another shell or with & after the first line: ctobserve report --ready-file PATH.
    """
    admit(here)
    scenario = SCENARIOS[name]
    _introduce(name, scenario)
    with Stage() as stage:
        play = scenario.play(stage)
        next(play)
        click.echo(f"Namespaces: {' '.join(stage.net.names)}")
        if ready_file:
            wait_for_ready(ready_file)
        next(play)
        for line in stage.said:
            click.echo(f"Done: {line}")
        click.echo("Ctrl-C undoes it." if hold is None else f"In {hold:g} s it is undone.")
        _hold(hold)
    click.echo("Undone.")


@cli.command("guide", short_help="The whole story: incident, ctobserve, usual tools, fix, undo.")
@name_argument
@here_option
def guided(name: str, here: bool) -> None:
    """Tell the whole story: the incident with ctobserve beside it, the usual tools, the fix, the same again, and undo it."""
    admit(here)
    with Stage() as stage:
        for line in guide.tell(SCENARIOS[name], stage):
            click.echo(line)


@cli.command("recording", short_help="Where its recording lies, to be asked by ctobserve --from.")
@name_argument
def recorded(name: str) -> None:
    """Print the path of a recording of this incident, which ctobserve reads by --from on any machine."""
    click.echo(recording(name))


def _introduce(name: str, scenario: Scenario) -> None:
    click.echo(f"{name}: {scenario.title}")
    for title, words in (("Seen:   ", scenario.symptom), ("Does:   ", scenario.does), ("Expect: ", scenario.expect)):
        click.echo(textwrap.fill(words, WIDTH, initial_indent=title, subsequent_indent=" " * 8))


def wait_for_ready(ready: Path) -> None:
    """One that is there already may be of an observer that began before us, or have been left by an earlier run: that is said."""
    shown = printable(str(ready), SHOWN_CHARACTERS)
    if ready.exists():
        click.echo(
            f"{shown} was there before: not waiting; where an earlier run left it, end this one, remove it and begin again"
        )
    else:
        click.echo(f"Waiting for {shown}")
        guide.wait_for(ready)


def _hold(seconds: float | None) -> None:
    """Until the time is up, or a signal ends it."""
    try:
        if seconds is None:
            signal.pause()
        else:
            time.sleep(seconds)
    except Ended as ended:
        if ended.number != signal.SIGINT:
            raise


def main() -> int:
    """Run the command that was typed; its exit code. Ctrl-C is a normal end, other signals are told."""
    try:
        end_by_exception()
        return ended(lambda: typed(cli, NAME), NAME)
    except Ended as by:
        return 0 if by.number == signal.SIGINT else 128 + by.number
