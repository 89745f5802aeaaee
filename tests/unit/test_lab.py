"""ctobserve-lab where it may do nothing: names, help, and the refusal of a machine that is no lab."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ctobserve_lab
from ctobserve.commands.cli import ended
from ctobserve.errors import KernelLacks
from ctobserve_lab import machine
from ctobserve_lab.cli import WIDTH, wait_for_ready
from ctobserve_lab.errors import LabError
from ctobserve_lab.recordings import recording
from ctobserve_lab.scenarios import SCENARIOS
from ctobserve_lab.world import run
from tests.kernel.sessions import sessions
from tests.lab_index import PAGE, filled

ROOT = Path(__file__).parents[2]
FILES = sorted(path.stem for path in Path(ctobserve_lab.__file__).parent.joinpath("scenarios").glob("*.py"))


def lab(*arguments: str | bytes) -> tuple[int, str, str]:
    elsewhere = {name: value for name, value in os.environ.items() if name != machine.VARIABLE}
    command = [sys.executable, "-m", "ctobserve_lab", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=elsewhere)
    return result.returncode, result.stdout, result.stderr


def test_list_has_every_scenario_file_once():
    code, out, _ = lab("list")
    assert code == 0
    assert sorted(line.split()[0] for line in out.splitlines()) == [name for name in FILES if name != "__init__"]


def test_list_leads_from_what_people_see_to_the_scenario():
    _, out, _ = lab("list")
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [[name, one.symptom] for name, one in SCENARIOS.items()]
    assert max(map(len, out.splitlines())) <= WIDTH
    assert len({one.symptom for one in SCENARIOS.values()}) == len(SCENARIOS), "each looks like one incident"


def test_the_index_of_the_guide_is_made_of_the_scenarios():
    assert PAGE.read_text() == filled(PAGE.read_text()), "make json-doc"


def test_the_list_of_commands_cuts_nothing_off():
    code, out, _ = lab("--help")
    commands = out.partition("Commands:\n")[2]
    assert code == 0 and [line.split()[0] for line in commands.splitlines()] == ["guide", "list", "recording", "run", "show"]
    assert "..." not in commands


def test_a_ready_file_that_was_there_before_is_said_to_be(tmp_path, capsys):
    ready = tmp_path / "\x1b[2J"
    ready.touch()
    wait_for_ready(ready)
    said = capsys.readouterr().out
    assert (
        said.startswith(f"{tmp_path}/\\x1b[2J was there before: not waiting; where an earlier run left it") and "\x1b" not in said
    )


def test_a_recording_is_where_it_is_said_to_be():
    assert lab("recording", "table_full") == (0, f"{recording('table_full')}\n", "")
    assert recording("table_full").is_file()


@pytest.mark.parametrize("name", SCENARIOS)
def test_show_says_what_it_does_and_how_to_mend_it(name):
    code, out, _ = lab("show", name)
    scenario = SCENARIOS[name]
    assert code == 0 and out.startswith(f"{name}: {scenario.title}\n")
    for line in (*scenario.look, *scenario.fix):
        assert f"    # {line}\n" in out
    assert bool(scenario.fix) == (name not in ("healthy", "one_way_udp", "offloaded", "resize", "flush")), (
        "what goes wrong has a fix"
    )


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["run", "earthquake"], "earthquake"),
        (["run"], "NAME"),
        *(
            (["run", "healthy", "--hold", value], "--hold")
            for value in ("-1", "nan", "inf", "1e300", "1_0", "\u00b2", " 1", b"\xff")
        ),
        ([b"\xff"], r"\udcff"),
        (["run", "\x1b[2J\n"], r"\x1b[2J\n"),
        (["--\x1b[2J\n"], r"\x1b[2J\n"),
        (["frobnicate"], "frobnicate"),
        (["run", "healthy"], "--here"),
        (["guide", "healthy"], "make lab"),
    ],
)
def test_bad_input_or_no_lab_machine_is_one_clear_line_and_exit_2(arguments, names):
    if machine.MARKER.exists():
        pytest.skip("this is a lab machine")
    code, out, err = lab(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("ctobserve-lab: ") and err.count("\n") == 1 and names in err


def test_the_guide_tells_every_scenario_with_its_present_lines():
    shown = sessions()
    assert shown.keys() == SCENARIOS.keys()
    for name, scenario in SCENARIOS.items():
        typed = [line.removeprefix("# ") for line in shown[name].splitlines() if line.startswith("# ")]
        assert [line for line in typed if not line.startswith("ctobserve ")] == [*scenario.look, *scenario.fix]


def test_a_program_may_say_any_byte(capsys):
    assert run("printf", r"\377\n") == "\\xff\n"
    fails = "sh", "-c", r"printf '\377\033' >&2; exit 3"
    assert ended(lambda: run(*fails), "ctobserve-lab") == 1
    said = capsys.readouterr().err
    assert said.startswith("ctobserve-lab: sh -c ") and said.endswith(": \\xff\\x1b\n") and said[:-1].isprintable()


def test_a_program_that_is_missing_is_named():
    with pytest.raises(LabError, match=r"^there is no program frobnicate here$"):
        run("frobnicate", check=False)


def words_run() -> set[str]:
    """What scenarios run as a program, and what their lines begin with, inside a namespace or outside."""
    root = Path(ctobserve_lab.__file__).parent
    calls = re.findall(r"\brun\(\s*\"([a-z]+)\"", "\n".join(path.read_text() for path in root.rglob("*.py")))
    lines = [line for scenario in SCENARIOS.values() for line in (*scenario.look, *scenario.fix)]
    return {*calls, *(re.sub(r"^ip netns exec \S+ ", "", line).split()[0] for line in lines)}


def test_every_program_that_a_scenario_runs_is_asked_for_before():
    always = {"cat", "ctobserve", "dmesg", "kill", "sh"}  # base-files of every Debian, and what this lab is of
    assert words_run() - always == machine.PROGRAMS.keys()


def test_what_is_asked_for_comes_with_the_package_and_with_make_tool():
    (depends,) = re.findall(r"^Package: ctobserve-lab$.*?^Depends: (.*?)$", (ROOT / "debian/control").read_text(), re.M | re.S)
    tool = re.findall(r"^(\S+) .*\btool\b", (ROOT / "packages.apt").read_text(), re.M)
    assert set(machine.PROGRAMS.values()) <= set(depends.split(", ")) & set(tool)


def test_programs_that_are_missing_are_named_with_their_packages_before_anything_is_done(monkeypatch, tmp_path):
    for program in machine.PROGRAMS.keys() - {"ping", "modprobe", "rmmod"}:
        (tmp_path / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "TRACKING", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(KernelLacks, match=r"^there is no modprobe, ping, rmmod here; try: apt install iputils-ping kmod$"):
        machine.admit(here=True)
