"""The index of docs/lab.md, from what people see to the scenario that makes it: `make json-doc`."""

from __future__ import annotations

import re
from pathlib import Path

from ctobserve_lab.scenario import Scenario
from ctobserve_lab.scenarios import SCENARIOS

PAGE = Path(__file__).parents[1] / "docs" / "lab.md"
MARKED = re.compile(r"(<!-- index -->\n).*?(<!-- end -->)", re.DOTALL)
SECTION = re.compile(r"^## (.+)\n(?:(?!## ).*\n)*?<!-- (\w+) -->", re.MULTILINE)
HEAD = "| what people see | scenario | verdicts |\n| --- | --- | --- |\n"


def filled(page: str) -> str:
    """The page with its index made anew. Raises KeyError for a scenario that has no section there."""
    titles = {name: title for title, name in SECTION.findall(page)}
    rows = [f"| {one.symptom} | [{name}](#{_anchor(titles[name])}) | {_verdicts(one)} |\n" for name, one in SCENARIOS.items()]
    return MARKED.sub(lambda mark: f"{mark[1]}\n{HEAD}{''.join(rows)}\n{mark[2]}", page)


def _anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _verdicts(scenario: Scenario) -> str:
    return ", ".join(sorted(scenario.expected) or sorted(scenario.notices | {"healthy"}))
