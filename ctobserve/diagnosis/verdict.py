"""What a rule says: a verdict with its evidence, or why it could not judge."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from ctobserve.diagnosis.evidence import Evidence, Explained
from ctobserve.diagnosis.evidence_keys import VerdictEvidence


class Severity(Enum):
    """How bad: packets are lost now, will be or may be, worth knowing, nothing at all. The most severe comes first."""

    CRITICAL = "critical"
    WARNING = "warning"
    NOTICE = "notice"
    HEALTHY = "healthy"


class Look(str):
    """A line to paste that only shows something, and changes nothing; paste.look and paste.look_inside make it."""

    __slots__ = ()


class Verdict(NamedTuple):
    """One sentence with the numbers in it; `evidence` has them by their names; `do` are lines to paste, those to look first.

    `explains` are the losses it speaks of: what no verdict explains is a reason to warn.
    """

    severity: Severity
    sentence: str
    evidence: VerdictEvidence
    do: tuple[str, ...] = ()
    explains: Explained = Explained()

    @property
    def do_only_looks(self) -> tuple[bool, ...]:
        """Of each line of `do`, whether it only shows something."""
        return tuple(isinstance(line, Look) for line in self.do)


class Unjudged(NamedTuple):
    """The rule lacks data: it stays silent, and the report names it."""

    why: str


# None: nothing to say.
RuleResult = Verdict | Unjudged | None


class Rule(NamedTuple):
    """`judge` is pure: the same evidence, the same result."""

    id: str
    judge: Callable[[Evidence], RuleResult]
