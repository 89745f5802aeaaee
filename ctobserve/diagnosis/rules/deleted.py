"""Did somebody take living entries out of the table?"""

from __future__ import annotations

import numpy as np

from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import look, netns_option
from ctobserve.diagnosis.rules.words import during, percent, plural, share
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.event import DestroyReason, destroy_name
from ctobserve.model import printable

ID = "entries_deleted"
REASONS = tuple(map(destroy_name, (DestroyReason.FLUSHED, DestroyReason.DELETED)))
SEVERAL = 5  # entries: a few are what kube-proxy deletes as a backend goes
TENTH = 0.1  # of what the namespace had


def judge(evidence: Evidence) -> RuleResult:
    """By a flush (conntrack -F) or one by one (conntrack -D, an agent): their connections are picked up anew, without their NAT.

    No counter moves, and where nf_conntrack_tcp_loose lets TCP begin in the middle no packet is INVALID either.
    """
    removed = {inum: [reasons[name] for name in REASONS] for inum, reasons in evidence.destroys.items()}
    worst = max(removed, key=lambda inum: sum(removed[inum]), default=0)
    if not removed or not (entries := sum(removed[worst])):
        return None
    namespace, (flushed, deleted) = evidence.namespace(worst), removed[worst]
    had = entries + (namespace.count or 0)
    rows = evidence.removed[evidence.removed["entry"]["netns"] == worst]
    asked, counts = np.unique(rows[["comm", "pid"]][rows["pid"] != 0], return_counts=True)
    by = asked[counts.argmax()] if len(asked) else None
    who = f", most by {printable(bytes(by['comm']))}[{by['pid']}]" if by is not None else ""
    how = " and ".join(f"{count} {words}" for count, words in ((flushed, "by a flush"), (deleted, "one by one")) if count)
    sentence = (
        f"{plural(entries, 'living entry', 'living entries')} of {namespace.label} ({percent(entries, had)}) taken out of the "
        f"table {during(evidence, entries)}, {how}{who}: their connections lose their NAT and their state"
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
    severity = Severity.WARNING if entries >= SEVERAL and entries >= TENTH * had else Severity.NOTICE
    return Verdict(severity, sentence, numbers, (look("ctobserve", "events", "--events", "destroy", *netns_option(namespace)),))


RULES = (Rule(ID, judge),)
