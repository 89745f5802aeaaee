"""Did somebody take living entries out of the table?"""

from __future__ import annotations

import numpy as np

from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import look, netns_option
from ctobserve.diagnosis.rules.words import during, percent, plural, share
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.event import DestroyReason, Events, destroy_name
from ctobserve.model import TCP, TCP_STATES, pick, printable

ID = "entries_deleted"
REASONS = tuple(map(destroy_name, (DestroyReason.FLUSHED, DestroyReason.DELETED)))
SEVERAL = 5  # entries: a few are what kube-proxy deletes as a backend goes
TENTH = 0.1  # of what the namespace had
MANY = 1000  # entries: whatever share of the table that is
ENDED = [TCP_STATES.index(name) for name in ("TIME_WAIT", "CLOSE")]


def judge(evidence: Evidence) -> RuleResult:
    """By a flush (conntrack -F) or one by one (conntrack -D, an agent): their connections are picked up anew, without their NAT.

    No counter moves, and where nf_conntrack_tcp_loose lets TCP begin in the middle no packet is INVALID either.
    """
    removed = {inum: [reasons[name] for name in REASONS] for inum, reasons in evidence.destroys.items()}
    removed = {inum: counts for inum, counts in removed.items() if sum(counts)}
    if not removed:
        return None
    worst = max(removed, key=lambda inum: (_grave(evidence, inum, sum(removed[inum])), sum(removed[inum])))
    namespace, (flushed, deleted) = evidence.namespace(worst), removed[worst]
    entries = flushed + deleted
    had = entries + (namespace.count or 0)
    rows = _rows(evidence, worst)
    asked, counts = np.unique(rows[["comm", "pid"]][rows["pid"] != 0], return_counts=True)
    by = asked[counts.argmax()] if len(asked) else None
    who = f", most by {printable(bytes(by['comm']))}[{by['pid']}]" if by is not None else ""
    how = " and ".join(f"{count} {words}" for count, words in ((flushed, "by a flush"), (deleted, "one by one")) if count)
    loses = "their connections lose their NAT and their state"
    if ended := _ended(rows):
        loses = f"{ended} of their connections had ended (TIME_WAIT, CLOSE), others lose their NAT and their state"
    sentence = (
        f"{plural(entries, 'living entry', 'living entries')} of {namespace.label} ({percent(entries, had)}) taken out of the "
        f"table {during(evidence, entries)}, {how}{who}: {loses}"
    )
    numbers: VerdictEvidence = {
        "netns": worst,
        "entries": entries,
        "flushed": flushed,
        "deleted": deleted,
        "share_of_entries": share(entries, had),
        "removed_by": None if by is None else printable(bytes(by["comm"])),
        "removed_by_pid": None if by is None else int(by["pid"]),
        "removed_elsewhere": sum(map(sum, removed.values())) - entries,
    }
    severity = Severity.WARNING if _grave(evidence, worst, entries) else Severity.NOTICE
    return Verdict(severity, sentence, numbers, (look("ctobserve", "events", "--events", "destroy", *netns_option(namespace)),))


def _rows(evidence: Evidence, inum: int) -> Events:
    return pick(evidence.removed, evidence.removed["entry"]["netns"] == inum)


def _grave(evidence: Evidence, inum: int, entries: int) -> bool:
    """Whether so many connections lose something by it that it is much of the table, or many in any."""
    had = entries + (evidence.namespace(inum).count or 0)
    return entries - _ended(_rows(evidence, inum)) >= min(max(SEVERAL, TENTH * had), MANY)


def _ended(rows: Events) -> int:
    """Of those that were kept, whose connections had ended already."""
    known = rows["entry"]
    return int(((known["protonum"] == TCP) & np.isin(known["tcp_state"], ENDED)).sum())


RULES = (Rule(ID, judge),)
