"""Every line that README.md and the pages tell people to type: it is understood, and it runs on a recording where it can."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.typed import COMMANDS, parse, run

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "lab.md"),
]  # tests/kernel has that
RECORDING = ROOT / "ctobserve_lab/recordings/table_full.ctobserve"
BEGINS = re.compile(r"^ {4}(?:# |sudo )*ctobserve ([a-z]+)(.*)$", re.M)
ENDS = re.compile(r" {2,}| [|>&#]")  # what a line says of itself, or what a shell does with what it prints
THE_SAME = ("FILE", "incident.ctobserve", "incident.ctobserve.xz", "/var/lib/ctobserve")


class Typed(NamedTuple):
    """A line of a page."""

    page: str
    command: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.command} {' '.join(self.words)}"


def lines() -> list[Typed]:
    """Those that are set apart; a command with two blanks behind it is one of a list of commands, without words."""
    return [
        Typed(page.name, command, tuple(shlex.split(ENDS.split(rest)[0])))
        for page in PAGES
        for command, rest in BEGINS.findall(page.read_text())
    ]


LINES = lines()


def there(word: str, directory: Path) -> str:
    """A word of a page as one that is true here: files, and times of the recording."""
    if word in THE_SAME or word.startswith("/var/lib/ctobserve/incident"):
        return str(directory / "incident.ctobserve")
    if word in ("incident", "shared.ctobserve", "SHARED", "/srv/fleet", "s3://BUCKET/fleet"):
        return str(directory / Path(word).name)
    return re.sub(r"^-?\d+s$|^\d\d:\d\d(:\d\d)?$", "-0.2s", word)


def stands_alone(line: Typed) -> bool:
    """In a list of commands: those that need words have none there."""
    return not line.words and line.command in ("why", "record", "diff", "convert", "fleet", "anonymise")


def test_each_command_has_a_line():
    assert {line.command for line in LINES} == COMMANDS.keys()


@pytest.mark.parametrize("line", LINES, ids=str)
def test_it_is_understood(line, capsys):
    assert stands_alone(line) or parse(line.command, *line.words)[0] == 0, capsys.readouterr().err


# What they observe is the kernel; packets by state no shipped recording has: tests/kernel runs these. Of `fleet` it is a dataset.
@pytest.mark.parametrize(
    "line",
    sorted(
        {
            line._replace(page="")
            for line in LINES
            if not stands_alone(line)
            and line.command not in ("record", "export", "check", "fleet")
            and "--packets" not in line.words
        }
    ),
    ids=str,
)
def test_it_runs_on_a_recording(line, monkeypatch, capsys, tmp_path):
    shutil.copy(RECORDING, tmp_path / "incident.ctobserve")
    words = [there(word, tmp_path) for word in line.words]
    if "--from" not in words and any("--from" in option.opts for option in COMMANDS[line.command].params):
        words += ["--from", str(tmp_path / "incident.ctobserve")]
    code, out, err = run(monkeypatch, capsys, line.command, *words)
    assert code == 0 and (out or err), err
