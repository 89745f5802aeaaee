"""Pages for those who change the code: what they name is there."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from ctobserve.diagnosis.rules import RULES
from tests.unit.test_structure import ROOMS

ROOT = Path(__file__).parents[2]
PAGES = ["docs/architecture.md", "CONTRIBUTING.md"]
# A path begins with one of these, or is a file of the root. NAME in it stands for any name.
PLACES = ("bench", "bpf", "ctobserve", "ctobserve_lab", "deploy", "docs", "systemd", "tests", "vagrant")
PATH = re.compile(
    rf"(?<![\w/.-])(?:(?:{'|'.join(PLACES)})/[\w./-]*\w/?|[A-Z]+\.md|packages\.apt|pyproject\.toml|Makefile)(?![\w/])"
)
SAID_OF = re.compile(r"`(\w+)`[\w, ]*? in\s+(" + PATH.pattern + ")")


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_every_path_named_exists(page):
    named = set(PATH.findall(text_of(page)))
    assert len(named) > 5
    assert not [path for path in named if not list(ROOT.glob(path.replace("NAME", "*")))]


@pytest.mark.parametrize("page", PAGES)
def test_a_file_that_is_named_alone_is_somewhere(page):
    named = set(re.findall(r"(?<![\w/])(\w+\.(?:py|c|h))\b", text_of(page)))
    assert not [name for name in named if not any(list((ROOT / place).rglob(name)) for place in PLACES)]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_said_to_be_in_a_file_is_in_it(page):
    said = [(name, path) for name, path in SAID_OF.findall(text_of(page)) if "NAME" not in path]
    assert not [(name, path) for name, path in said if not re.search(rf"\b{name}\b", (ROOT / path).read_text())]


@pytest.mark.parametrize("page", PAGES)
def test_a_name_that_is_set_apart_is_somewhere(page):
    sources = [path for place in PLACES for path in (ROOT / place).rglob("*") if path.suffix in (".py", ".c", ".h")]
    known = set(re.findall(r"\w+", "\n".join(path.read_text() for path in sources)))
    assert not set(re.findall(r"`(\w+)`", text_of(page))) - known


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.M) if linked.suffix == ".md" else []
        assert linked.exists() and (not anchor or anchor in {title.lower().replace(" ", "-") for title in titles})


def test_ratios_that_readme_quotes_are_those_of_the_last_bench():
    (paragraph,) = re.findall(r"^Cost: .*?(?=^Blind to)", text_of("README.md"), re.M | re.S)
    quoted = re.findall(r"\b[\d.]+ x\b", paragraph)
    measured = re.findall(r"\| ([\d.]+ x) as cheap as conntrack -E \|", text_of("docs/cost.md"))
    assert len(quoted) == 2 and set(quoted) <= set(measured)


def test_every_room_is_in_the_table_in_its_order():
    page = text_of("docs/architecture.md")
    at = [page.index(f"| ctobserve/{room}") for room in ROOMS if room != "__main__"]
    assert all(first < second for first, second in pairwise(at))


def test_every_rule_has_a_row_in_the_page():
    (section,) = re.findall(r"^### Rules\n(.*?)^### ", text_of("docs/json.md"), re.M | re.S)
    named = {name for first in re.findall(r"^\| ([a-z_, ]+) \|", section, re.M) for name in first.split(", ")}
    assert named - {"id"} == {rule.id for rule in RULES}


def test_the_readme_is_readable_on_a_terminal_of_100_columns():
    """Rows of tables alone cannot be folded."""
    assert not [line for line in text_of("README.md").splitlines() if len(line) > 100 and not line.startswith("|")]
