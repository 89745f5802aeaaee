"""What can be typed next: `ctobserve --complete WORD...`, which the shells ask at TAB (completions/).

Each answer is a line: `word`, a word, what it is; or `file`, where the name of a file fits; with tabs between. A shell puts such
a word into the line of who is root, so none holds anything that means something there. Whatever is wrong, nothing is said: an
answer is only help.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress

import click
from click.shell_completion import CompletionItem, ShellComplete

from ctobserve.model import printable

LIMIT_S = 5.0  # somebody waits
# `fill>=90%` has a character that shells take for more than itself; the scripts quote it.
WORD = re.compile(r"[A-Za-z0-9@_+.,:/%=>-]{1,255}")


class Complete(ShellComplete):
    """What click finds out, in our lines in place of a shell's."""

    def format_completion(self, item: CompletionItem) -> str:
        """One answer."""
        return f"word\t{item.value}\t{printable(item.help or '')}" if item.type == "plain" else "file"


def complete(group: click.Group, name: str, words: Iterable[str]) -> int:
    """Answer for what is typed after the program's name, of which the last word is not done yet; the exit code, always 0."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    with suppress(Exception):
        click.echo("".join(f"{line}\n" for line in answers(group, name, list(words))), nl=False)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


def answers(group: click.Group, name: str, words: list[str]) -> Iterator[str]:
    """Lines; raises what click raises for words that no command would take."""
    *before, last = words or [""]
    asked = Complete(group, {}, name, "")
    # click answers for what comes behind `--name=`; a shell replaces the whole word.
    option = last[: last.index("=") + 1] if last.startswith("--") and "=" in last else ""
    for item in asked.get_completions(before, last):
        item.value = f"{option}{item.value}"
        if item.type != "plain" or WORD.fullmatch(item.value):
            yield asked.format_completion(item)
