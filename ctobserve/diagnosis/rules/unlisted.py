"""Are entries counted that are in no chain?"""

from __future__ import annotations

from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import look, look_inside, paste, remark
from ctobserve.diagnosis.rules.words import percent, plural, share
from ctobserve.diagnosis.verdict import Look, Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.event import DropReason
from ctobserve.host.queues import Queue

FEW = 10  # entries: packets under way hold some at any time
TENTH = 0.1  # of those counted; of the limit: a warning
QUARTER = 0.25  # of the entries: each packet holds one, and a reader that keeps up has some waiting at any time
QUEUES = "/proc/net/netfilter/nfnetlink_queue"


def missing(namespace: NamespaceEvidence) -> int:
    """Entries in no chain, where they are too many for packets under way; else 0."""
    unlisted = namespace.unlisted or 0
    return unlisted if unlisted >= max(FEW, TENTH * (namespace.account.counted or 0)) else 0


def judge(evidence: Evidence) -> RuleResult:
    """Unconfirmed and dying entries, which no list shows and no timeout ends: they go when the last packet lets go of them."""
    if evidence.unread:
        return Unjudged("entries in buckets that could not be read would look like entries in no chain")
    if evidence.damaged:
        return Unjudged("entries that cannot be read of the recording would look like entries in no chain")
    namespace = max(evidence.namespaces.values(), key=missing, default=None)
    if namespace is None or not (entries := missing(namespace)):
        unknown = sum(evidence.namespace(inum).unlisted is None for inum in evidence.counts)
        many = plural(unknown, "namespace")
        return Unjudged(f"how many entries are counted at the end is not known of {many} with entries") if unknown else None
    counted, limit = namespace.account.counted or 0, namespace.limit
    holder = _holder(namespace)
    sentence = (
        f"{entries} of the {counted} entries that {namespace.label} counts are in no hash chain, {_since(namespace, entries)}: "
        "unconfirmed or dying ones that packets still hold, which conntrack -L does not show and no timeout ends; "
        f"{_held(namespace, holder)}"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "entries": counted,
        "entries_listed": namespace.listed,
        "entries_unlisted": entries,
        "entries_unlisted_before": namespace.unlisted_before,
        "limit": limit,
        "share_of_limit": share(entries, limit) if limit else None,
        "queue": holder.number if holder else None,
        "packets_waiting": holder.waiting if holder else 0,
        "reader_portid": holder.portid if holder else None,
        "reader_pid": holder.pid if holder else None,
        "reader": holder.comm if holder and holder.pid else None,
    }
    refused = evidence.lost(namespace.inum, DropReason.TABLE_FULL)
    severe = refused or (limit is not None and entries >= TENTH * limit)
    return Verdict(
        Severity.WARNING if severe else Severity.NOTICE, sentence, numbers, (*see_holders(namespace), *_let_go(holder))
    )


def _since(namespace: NamespaceEvidence, entries: int) -> str:
    before = namespace.unlisted_before
    if before is None:
        return "since when is not known"
    return f"as before this observation ({before})" if before >= entries else f"{before} of them before this observation"


def _holder(namespace: NamespaceEvidence) -> Queue | None:
    """The queue in which most packets wait, if they can be what holds a good part of these entries."""
    enough = max(QUARTER * missing(namespace), 1)
    waiting = [queue for queue in namespace.account.queues if queue.waiting >= enough]
    return max(waiting, key=lambda queue: queue.waiting, default=None)


def _held(namespace: NamespaceEvidence, queue: Queue | None) -> str:
    if queue is None:
        few = sum(one.waiting for one in namespace.account.queues)
        waiting = f"only {plural(few, 'packet waits', 'packets wait')}" if few else "no packet waits"
        return (
            f"{waiting} in an NFQUEUE here, so what holds them cannot be told: a device's queue, a listener that does not "
            "take its DESTROY events, or a leak"
        )
    reader = f"{queue.comm}[{queue.pid}]" if queue.pid else f"the reader with port id {queue.portid}, of an unknown process"
    return f"in NFQUEUE {queue.number} {plural(queue.waiting, 'packet waits', 'packets wait')} for a verdict of {reader}"


def see_holders(namespace: NamespaceEvidence) -> tuple[Look, ...]:
    """Lines that show what holds such entries."""
    queue = _holder(namespace)
    if queue is None:
        # Since 5.19 (8a75a2c17410) `dying` are those of which a listener did not take the event, and no others can be listed.
        return (look_inside(namespace, "conntrack", "-L", "dying"), look_inside(namespace, "tc", "-s", "qdisc", "show"))
    reader = () if queue.pid is None else (look("cat", f"/proc/{queue.pid}/status"),)
    return (look_inside(namespace, "cat", QUEUES), look_inside(namespace, "nft", "list", "ruleset"), *reader)


def _let_go(queue: Queue | None) -> tuple[str, ...]:
    if queue is None:
        return ()
    if queue.pid is None:
        return (remark(f"end the reader of queue {queue.number}: its packets are dropped, and their entries go"),)
    why = remark("ends the reader: its packets are dropped, their entries go; start it again, or take its rule away:")
    return (why, paste("kill", queue.pid))


def counted_and_listed(namespace: NamespaceEvidence, entries: int) -> str:
    """What a full table is full of, where a good part of it is in no chain."""
    counted, limit = namespace.account.counted or 0, f" of {namespace.limit}" if namespace.limit else ""
    return (
        f"it counts {counted}{limit} entries, and {entries} of them ({percent(entries, counted)}) are in no hash chain, where "
        "nothing can be evicted: entries_unlisted says what holds them; more room fills as well"
    )


RULES = (Rule("entries_unlisted", judge),)
