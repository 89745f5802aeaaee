"""Pages for those who change the code: what they name is there."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from ctobserve.event import DestroyReason, DropReason
from tests.unit.test_structure import ROOMS

ROOT = Path(__file__).parents[2]
PAGES = ["docs/architecture.md", "CONTRIBUTING.md"]
# A path begins with one of these, or is a file of the root. NAME in it stands for any name.
PLACES = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
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
def test_what_is_said_to_be_in_a_file_is_in_it(page):
    said = [(name, path) for name, path in SAID_OF.findall(text_of(page)) if "NAME" not in path]
    assert not [(name, path) for name, path in said if not re.search(rf"\b{name}\b", (ROOT / path).read_text())]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.M) if linked.suffix == ".md" else []
        assert linked.exists() and (not anchor or anchor in {title.lower().replace(" ", "-") for title in titles})


def test_every_room_is_in_the_table_in_its_order():
    page = text_of("docs/architecture.md")
    at = [page.index(f"| ctobserve/{room}") for room in ROOMS if room != "__main__"]
    assert all(first < second for first, second in pairwise(at))


@pytest.mark.parametrize("page", ["README.md", "docs/json.md"])
@pytest.mark.parametrize("reasons", [DropReason, DestroyReason])
def test_every_reason_is_explained(page, reasons):
    assert not [reason.name for reason in reasons if not re.search(rf"\b{reason.name.lower()}\b", text_of(page))]
