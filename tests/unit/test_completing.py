"""What can be typed next, asked of ctobserve, and of the scripts in real shells: plain words alone, and never a complaint."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ctobserve.capture.capture import NamespaceState
from ctobserve.commands import values
from ctobserve.commands.cli import cli
from ctobserve.commands.completing import answers, complete
from ctobserve.host import netns
from ctobserve.host.netns import Namespace
from ctobserve_lab.cli import cli as lab
from ctobserve_lab.recordings import recording
from ctobserve_lab.scenarios import SCENARIOS
from tests.unit.typed import COMMANDS, OPTIONS

COMPLETIONS = Path(__file__).parents[2] / "completions"
FULL = str(recording("table_full"))
HOSTILE = ["$(reboot)", "`reboot`", "a b", "a;reboot", "-rf", "a\nb", "\x1b[2J", "*", "~root", "a'b", 'a"b', "a\\b", "a>b", "é"]


def offered(typed: str, group=cli) -> list[str]:
    """Words, for what is typed after the program's name; a blank at the end begins a new one."""
    words = [*shlex.split(typed), *([""] if typed.endswith(" ") or not typed else [])]
    return [line.split("\t")[1] if "\t" in line else line for line in answers(group, "ctobserve", words)]


def test_commands_and_every_option_are_offered():
    assert offered("") == list(COMMANDS)
    for name in COMMANDS:
        assert {option for command, option in OPTIONS if command == name} <= set(offered(f"{name} --"))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("re", ["report", "record"]),
        ("top --by src,d", ["src,dst", "src,dport"]),
        ("top --by=src,d", ["--by=src,dst", "--by=src,dport"]),
        ("list --state EST", ["ESTABLISHED"]),
        ("list --proto ud", ["udp", "udplite"]),
        ("events --events destroy,", ["destroy,insert", "destroy,confirm", "destroy,update", "destroy,drop"]),
        ("record --on f", ["fill>=90%"]),
        ("record --on verdict:table", ["verdict:table_full", "verdict:table_filling"]),
        ("report --format ", ["text", "json", "html"]),
        ("report --from x", ["file"]),
        (f"list --from {FULL} --netns ", ["init", "full", "all"]),
        (f"size --from {FULL} --netns ", ["init", "full"]),
        ("list --duration ", []),
    ],
)
def test_words_that_an_option_takes(typed, words):
    assert offered(typed) == words


def test_the_lab_offers_its_incidents():
    assert offered("guide ", lab) == list(SCENARIOS)


@pytest.mark.parametrize(
    "typed", ["frobnicate ", "list --frobnicate x", "list --from /none --netns ", "list --at --at ", "list --src x y "]
)
def test_whatever_is_wrong_nothing_is_said(typed, capfd):
    assert complete(cli, "ctobserve", [*typed.split(), ""]) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_means_something_to_a_shell_is_offered_as_its_number(name, monkeypatch):
    there = {7: Namespace(7, Path("/proc/1/ns/net"), (name,)), 8: Namespace(8, Path("/proc/1/ns/net"), ("plain",))}
    monkeypatch.setattr(netns, "discover", lambda: there)
    lines = list(answers(cli, "ctobserve", ["list", "--netns", ""]))
    assert [line.split("\t")[1] for line in lines] == ["7", "plain", "all"]
    assert all(line.replace("\t", "").isprintable() for line in lines)


def test_the_same_of_names_that_a_recording_holds_and_of_one_that_two_have():
    spaces = {number: NamespaceState(number, name) for number, name in enumerate([*HOSTILE, "twice", "twice", "once"])}
    found = [one.value for one in values._spaces(spaces, "")]
    assert found == [*map(str, range(len(HOSTILE) + 2)), "once", "all"]


@pytest.fixture
def shell(tmp_path):
    """Runs a script in a shell whose PATH has a ctobserve of ours, which answers as the real one or as it is told."""

    def run(name: str, script: str, answer: str | None = None) -> str:
        program = tmp_path / "bin/ctobserve"
        program.parent.mkdir(exist_ok=True)
        real = f'exec {sys.executable} -m ctobserve "$@"\n'
        program.write_text("#!/bin/sh\n" + (real if answer is None else f"printf '%s' {shlex.quote(answer)}\n"))
        program.chmod(0o755)
        found = shutil.which(name)
        assert found, f"{name} is in packages.apt"
        environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
        environment["PYTHONPATH"] = str(COMPLETIONS.parent)
        result = subprocess.run([found, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
        assert not result.stderr
        return result.stdout

    return run


BASH = f"""
. {COMPLETIONS}/bash/ctobserve
compopt() {{ COMPREPLY+=("compopt $*"); }}
COMP_WORDS=(%s) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_ctobserve "${{COMP_WORDS[0]}}"
[ ${{#COMPREPLY[@]}} -eq 0 ] || printf '%%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = f"""
compadd() {{ while [[ $1 != -- ]]; do shift; done; shift; (( ! $# )) || print -rl -- "$@"; }}
_files() {{ print files; }}
words=(%s) CURRENT=${{#words}}
. {COMPLETIONS}/zsh/_ctobserve
"""
FISH = f"source {COMPLETIONS}/fish/ctobserve.fish; complete -C '%s'"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("ctobserve re", ["report", "record"]),
        ("ctobserve top --by src,d", ["src,dst", "src,dport"]),
        ("ctobserve record --on fi", ["fill\\>=90%"]),
        ("ctobserve record --on verdict : tabl", ["table_full", "table_filling"]),
        ("ctobserve top --by = src,dp", ["src,dport"]),
        ("ctobserve top --by = ''", None),
        ("ctobserve list --from x", ["compopt -o default"]),
        ("ctobserve frobnicate x", []),
        ("/some/where/ctobserve anon", ["anonymise"]),
    ],
)
def test_bash(shell, typed, words):
    found = shell("bash", BASH % typed).splitlines()
    assert found == words if words is not None else found[:2] == ["src", "dst"]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("ctobserve re", ["report", "record"]),
        ("ctobserve top --by=src,d", ["--by=src,dst", "--by=src,dport"]),
        ("ctobserve 'record' --on fi", ["fill>=90%"]),
        ("ctobserve list --from x", ["files"]),
    ],
)
def test_zsh(shell, typed, words):
    assert shell("zsh", ZSH % typed).splitlines() == words


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("ctobserve re", ["record", "report"]),
        ("ctobserve top --by=src,d", ["--by=src,dport", "--by=src,dst"]),
        ("ctobserve record --on fi", ["fill>=90%"]),
        ("ctobserve report --from bin/cto", ["bin/ctobserve"]),
    ],
)
def test_fish(shell, typed, words):
    assert [line.split("\t")[0] for line in shell("fish", FISH % typed).splitlines()] == words


ANSWER = "".join(f"word\t{word}\tx\n" for word in ("$(touch sprung)", "`touch sprung`", "*", "a;touch sprung"))


@pytest.mark.parametrize(
    ("name", "script"), [("bash", BASH % "ctobserve ''"), ("zsh", ZSH % "ctobserve ''"), ("fish", FISH % "ctobserve ")]
)
def test_no_answer_is_run_or_widened_by_a_shell(shell, name, script, tmp_path):
    said = shell(name, script, ANSWER)
    assert "touch" in said and "bin" not in said.split()
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_nothing_of_the_current_directory_is_run(shell, name, tmp_path):
    (tmp_path / "ctobserve").write_text("#!/bin/sh\ntouch sprung\n")
    (tmp_path / "ctobserve").chmod(0o755)
    typed = "./ctobserve re"
    script = {"bash": BASH % typed, "zsh": ZSH % typed, "fish": FISH % typed}[name]
    shell(name, script)
    before = {"bash": "PATH=.:$PATH;", "zsh": "PATH=.:$PATH;", "fish": "set -x PATH . $PATH;"}[name]
    shell(name, before + script.replace("./ctobserve re", "ctobserve re"))
    assert not (tmp_path / "sprung").exists()
    assert os.access(tmp_path / "ctobserve", os.X_OK)
