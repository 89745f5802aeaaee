"""Every line that README.md and the pages tell people to type: it is understood, and it runs on a recording where it can."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from ctobserve_lab.cli import cli as lab
from ctobserve_lab.scenarios import SCENARIOS
from tests.unit.typed import COMMANDS, parse, run

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "lab.md"),
]  # tests/kernel has that
RECORDING = ROOT / "ctobserve_lab/recordings/table_full.ctobserve"
BEGINS = re.compile(r"^ {4}(?:# |sudo )*ctobserve ([a-z]+)(.*)$", re.M)
ENDS = re.compile(r" {2,}| [|>&#]")  # what a line says of itself, or what a shell does with what it prints
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")  # between words, a line that is folded included
VERB = re.compile(r"make (?:-C \S+ )?([a-z][a-z -]*)")
SESSION = re.compile(r"^```.*?^```$", re.M | re.S)  # tests/kernel/test_lab_doc.py replays those
WORDS_OF_OURS = re.compile(r"[A-Z]{2,}")  # NAME, FILE, COMMAND: whoever types puts in a word of his own
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


def spans() -> list[tuple[str, str]]:
    """What stands between words of a page, and each line that is set apart, without what it says of itself: page and text."""
    found = []
    for page in (*PAGES, ROOT / "docs/lab.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"):
        text = SESSION.sub("", page.read_text())
        found += [(page.name, " ".join(span.split())) for span in SPAN.findall(text)]
        found += [(page.name, re.split(r" {2,}| #", line)[0]) for line in re.findall(r"^ {4}(?:# )?(\S.*)$", text, re.M)]
    return found


SPANS = spans()


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


def test_commands_between_words_are_understood_too(capsys):
    """Those with words of ours in them are not: a name of a file is no address."""
    typed = {text for _, text in SPANS if re.match(r"ctobserve [a-z]+ -{0,2}[\w:.]", text) and not WORDS_OF_OURS.search(text)}
    assert "ctobserve top --by src,dport" in typed
    for text in typed:
        _, command, *words = shlex.split(ENDS.split(text)[0])
        assert stands_alone(Typed("", command, tuple(words))) or parse(command, *words)[0] == 0, (text, capsys.readouterr().err)


def test_verbs_of_make_are_there():
    told = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    named = {verb for _, text in SPANS for verbs in VERB.findall(text.split(" && ")[-1]) for verb in verbs.split()}
    assert len(named) > 10
    assert not named - told


def test_a_file_of_ours_that_is_typed_can_be_run():
    """As it is written: as a program, or as a module of the Python of .venv, since Debian has none that is called python."""
    texts = [text for page, text in SPANS if page != "SECURITY.md"]
    assert not [text for text in texts if text.startswith("python ")]
    programs = [
        text.split()[0] for text in texts if re.match(r"[a-z]+/\S+(\.sh$| )", text) and (ROOT / text.split()[0]).is_file()
    ]
    assert programs and not [name for name in programs if not os.access(ROOT / name, os.X_OK)]
    modules = {found[1] for text in texts if (found := re.match(r"\.venv/bin/python -m ((?:tests|bench)[\w.]*)", text))}
    assert {"bench", "tests.fleet", "tests.json_doc", "tests.told"} <= modules
    paths = [ROOT / name.replace(".", "/") for name in modules]
    assert not [path for path in paths if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists())]


def test_the_lab_knows_what_is_asked_of_it():
    asked = {tuple(text.split()[1:3]) for _, text in SPANS if text.startswith("ctobserve-lab ")}
    assert ("guide", "table_full") in asked
    for name, *scenario in asked:
        assert name in lab.commands and set(scenario) <= {"NAME", *SCENARIOS}


def test_incidents_are_looked_for_where_the_unit_keeps_them():
    (started,) = re.findall(r"^ExecStart=(.*)$", (ROOT / "systemd/ctobserve-recorder.service").read_text(), re.M)
    named = {place for page in PAGES for place in re.findall(r"(/[\w/-]+)/incident-", page.read_text())}
    assert named == {started.split()[-1]}


# What they observe is the kernel; packets by state no shipped recording has, and what was is ready: tests/kernel runs these. Of
# `fleet` it is a dataset.
@pytest.mark.parametrize(
    "line",
    sorted(
        {
            line._replace(page="")
            for line in LINES
            if not stands_alone(line)
            and line.command not in ("record", "export", "check", "fleet")
            and not {"--packets", "--ready-file"} & set(line.words)
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
