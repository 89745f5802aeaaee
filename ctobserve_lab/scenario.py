"""What a scenario is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from ctobserve_lab.stage import Stage
from ctobserve_lab.world import Space

# Builds its world and yields the namespace to be watched (None: all); makes its incident and yields again; then sends the
# same traffic once more, as it will after a fix.
Play = Generator[Space | None, None, None]


@dataclass(frozen=True)
class Scenario:
    """An incident in small, with exact numbers.

    `expected` and `notices` are ids of the report's verdicts: all those of severity warning and above (none after the fix), and
    lesser ones that must be there besides. `symptom` is what people see before anybody knows why, in one line; no two are alike.
    `look` and `fix` are lines to type while its world stands. `lines_mend`: the lines that those verdicts offer are enough, too.
    """

    title: str
    symptom: str
    does: str
    expect: str
    play: Callable[[Stage], Play]
    expected: frozenset[str] = field(default_factory=frozenset)
    notices: frozenset[str] = field(default_factory=frozenset)
    look: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    lines_mend: bool = False
    observe: str = "report"
