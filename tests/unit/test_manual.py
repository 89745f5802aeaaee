"""The manual: a page for every command, with every option of it, that both formatters of manual pages take without a word."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ctobserve import __version__
from ctobserve.errors import ExitStatus
from ctobserve_lab.scenarios import SCENARIOS
from manual import told, words
from manual.pages import pages
from manual.roff import Page, escaped, marked
from tests.unit.typed import COMMANDS, OPTIONS

ROOT = Path(__file__).parents[2]
PAGES = dict(pages())
TITLES = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "FIELDS",
    "OVERHEAD",
    "CAVEATS",
    "EXIT STATUS",
    "SECURITY",
    "EXAMPLES",
    "SEE ALSO",
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("man")
    for name, text in PAGES.items():
        (directory / f"{name}.8").write_text(text)
    return directory


def shown(path: Path) -> str:
    """As a reader sees it on a wide terminal; raises where a formatter has a complaint."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "400", "MANROFFOPT": "", "MAN_KEEP_FORMATTING": ""}
    result = subprocess.run(["man", "--warnings", "-l", str(path)], capture_output=True, text=True, check=True, env=environment)
    assert result.stderr == ""
    return re.sub(".\b", "", result.stdout)


def test_there_is_a_page_for_each_command():
    assert list(PAGES) == ["ctobserve", *(f"ctobserve-{name}" for name in COMMANDS), "ctobserve-lab"]


@pytest.mark.parametrize("name", PAGES)
def test_man_shows_it_without_a_warning(written, name):
    text = shown(written / f"{name}.8")
    assert __version__ in text and f"{name} - " in text


def test_a_complaint_of_man_would_be_heard(tmp_path):
    (tmp_path / "bad.8").write_text('.TH BAD 8 "2026-01-01"\n.SH NAME\nbad\n.NOSUCH macro\n')
    with pytest.raises(AssertionError, match="NOSUCH"):
        shown(tmp_path / "bad.8")


def test_mandoc_finds_nothing(written):
    result = subprocess.run(["mandoc", "-T", "lint", *written.glob("*.8")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_all_sections_options_examples_and_exit_codes(written, name):
    text = shown(written / f"ctobserve-{name}.8")
    assert re.findall(r"^[A-Z][A-Z ]+$", text, re.M) == TITLES
    options = {option for command, option in OPTIONS if command == name}
    assert options <= set(re.findall(r"^ +(?:-h, )?(--[a-z-]+)", text, re.M))
    assert all(example.line in text for example in COMMANDS[name].examples)
    section = text.partition("EXIT STATUS")[2].partition("SECURITY")[0]
    assert re.findall(r"^ {7}(\d) ", section, re.M) == [str(int(status)) for status in ExitStatus]


def test_only_commands_that_there_are_have_words_of_their_own():
    assert set(words.EXIT) == set(ExitStatus)
    assert {*words.OVERHEAD, *words.CAVEATS} <= set(COMMANDS)


@pytest.mark.parametrize("name", ["report", "drops", "list", "events", "buckets", "top", "size", "why", "diff"])
def test_an_output_is_one_that_was_recorded(written, name):
    typed, first, *_ = told.session(name)
    text = shown(written / f"ctobserve-{name}.8")
    assert typed in text and first in text
    assert typed in told.SESSION.read_text() and first in told.SESSION.read_text()


def test_the_first_page_has_what_readme_and_security_say(written):
    text = " ".join(shown(written / "ctobserve.8").split())
    for page, begin in (("README.md", "Cost:"), ("README.md", "Blind to:"), ("README.md", "Environment:")):
        assert told.paragraph(page, begin).replace("`", "") in text
    for promise, _ in told.table("SECURITY.md", "| promise | held to it by |"):
        assert promise.replace("`", "") in text


def test_the_lab_has_all_incidents(written):
    text = shown(written / "ctobserve-lab.8")
    assert all(re.search(rf"^ +{name}\b", text, re.M) for name in SCENARIOS)


def test_what_is_not_there_is_an_error():
    with pytest.raises(LookupError, match="nowhere"):
        told.paragraph("README.md", "nowhere")
    with pytest.raises(LookupError, match="nothing"):
        list(told.table("README.md", "| nothing |"))


@pytest.mark.parametrize("text", ["\\fB", ".SH NAME", "'quoted'", "-x ~/^`", "a\\b"])
def test_any_text_is_shown_as_it_is(text, tmp_path):
    page = Page("any", "2026-01-01", "x")
    page.section("Name")
    page.line("any \\- thing")
    page.paragraph(escaped(text))
    page.copied([text])
    (tmp_path / "any.8").write_text(page.text())
    assert shown(tmp_path / "any.8").count(text) == 2


def test_marks_are_faces():
    assert marked("`a-b` is **not** [there](x.md)") == "\\fBa\\-b\\fR is not there"
