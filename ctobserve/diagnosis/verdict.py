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


class Verdict(NamedTuple):
    """One sentence with the numbers in it; `evidence` has them by their names; `do` are lines to paste.

    `explains` are the losses it speaks of: what no verdict explains is a reason to warn.
    """

    severity: Severity
    sentence: str
    evidence: VerdictEvidence
    do: tuple[str, ...] = ()
    explains: Explained = Explained()


class Unjudged(NamedTuple):
    """The rule lacks data: it stays silent, and the report names it."""

    why: str


# None: nothing to say.
RuleResult = Verdict | Unjudged | None


class Rule(NamedTuple):
    """`judge` is pure: the same evidence, the same result."""

    id: str
    judge: Callable[[Evidence], RuleResult]
