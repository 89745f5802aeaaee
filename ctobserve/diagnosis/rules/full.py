"""Is a namespace at its limit, or on the way to it?"""

from __future__ import annotations

import math

from ctobserve.diagnosis.evidence import Evidence, Explained, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import raise_limit, set_global
from ctobserve.diagnosis.rules.unlisted import counted_and_listed, missing, see_holders
from ctobserve.diagnosis.rules.words import during, hidden, percent, plural, share, span, unreadable
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.event import DropReason, drop_name
from ctobserve.model import IPS_ASSURED

LEAP, LEAST = 0.05, 200  # of the limit, gained meanwhile, and entries: no burst of a moment, however little was there
MASS, HURRY_S = 10_000, 120  # entries, and to full: no start of traffic either, however large the table
HOUR_S = 3600
SIGMAS = 5  # of what comes and goes by chance: a rise by more is one
NEARLY = 0.8  # of the limit: the gc worker begins to evict at 0.95, and a burst needs room
SOON_S = 600  # to full: time enough to look, not enough to wait
HALF = 0.5  # of the limit: below it a rise over a few seconds says little
GROWING = 20  # entries: fewer are noise


def judge_full(evidence: Evidence) -> RuleResult:
    """Packets refused because the namespace had nf_conntrack_max entries and none could be evicted."""
    lost = {inum: evidence.lost(inum, DropReason.TABLE_FULL) for inum in evidence.drops}
    worst = max(lost, key=lambda inum: lost[inum], default=0)
    if not lost or not lost[worst]:
        return hidden(evidence)
    namespace, packets = evidence.namespace(worst), lost[worst]
    here = evidence.entries[evidence.entries["netns"] == worst]
    # A filter shows some of the entries; and a limit is as old as its reading, which is not of the end then.
    assured = None if evidence.filtered else int(((here["status"] & IPS_ASSURED) != 0).sum())
    limit = None if evidence.uncounted else namespace.limit
    others = sum(lost.values()) - packets
    of_them = "" if assured is None else f", {assured} of them assured"
    holds = (
        f"it holds {namespace.count if namespace.count is not None else len(here)}{f' of {limit}' if limit else ''} entries"
        f"{of_them}{of_them and ', which early drop never takes'}"
    )
    if namespace.account.counted is None:
        which = "of its entries pass the filter" if evidence.filtered else "entries of it are listed"
        holds = f"{len(here)} {which}{of_them}; how many it counted is not known"
    if unlisted := missing(namespace):
        holds = counted_and_listed(namespace, unlisted)
    sentence = (
        f"the table of {namespace.label} is full: {plural(packets, 'packet')} of new connections refused "
        f"{during(evidence, packets)}; {holds}"
    )
    if others:
        sentence += f"; {plural(others, 'packet')} more in other namespaces"
    numbers: VerdictEvidence = {
        "netns": worst,
        "packets": packets,
        "packets_per_s": evidence.rate(packets),
        "packets_elsewhere": others,
        "entries": namespace.count,
        "limit": limit,
        "entries_assured": assured,
        "kernel_drop": None if namespace.counters is None else namespace.counters.get("drop"),
    }
    explains = Explained((drop_name(DropReason.TABLE_FULL),))
    return Verdict(Severity.CRITICAL, sentence, numbers, _room(evidence, namespace), explains)


def judge_filling(evidence: Evidence) -> RuleResult:
    """Near the limit, or growing towards it; silent where packets are refused or entries evicted already."""
    known = [namespace for namespace in evidence.namespaces.values() if namespace.count is not None and namespace.limit]
    if not known:
        return Unjudged("no namespace has a limit (nf_conntrack_max) that could be read")
    found = [(namespace, growth) for namespace in known if (growth := _growth(evidence, namespace)) is not None]
    if not found:
        return unreadable(evidence, "nf_conntrack_max")
    namespace, growth = min(found, key=lambda pair: _urgency(evidence, *pair))
    count, limit = namespace.count or 0, namespace.limit or 0
    per_s = growth / evidence.duration_s if evidence.duration_s else 0.0
    left_s = (limit - count) / per_s if growth >= GROWING and per_s > 0 else None
    sentence = f"the table of {namespace.label} is {percent(count, limit)} full, {count} of {limit} entries"
    if left_s is None:
        sentence += f", and not growing to speak of ({growth:+} in {evidence.duration_s:.1f} s)"
    else:
        sentence += f", and grows by {per_s:.1f} entries per s: full in {span(left_s)} at this rate"
    if len(found) > 1:
        sentence += f"; {plural(len(found) - 1, 'namespace')} more like it"
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "entries": count,
        "limit": limit,
        "share_of_limit": share(count, limit),
        "growth_per_s": round(per_s, 3),
        "inserts_per_s": evidence.rate(evidence.inserts.get(namespace.inum, 0)),
        "time_to_full_s": None if left_s is None else round(left_s, 1),
    }
    return Verdict(Severity.WARNING, sentence, numbers, _room(evidence, namespace))


def _growth(evidence: Evidence, namespace: NamespaceEvidence) -> int | None:
    """Entries gained meanwhile, of a namespace that is filling; None for others."""
    if evidence.lost(namespace.inum, DropReason.TABLE_FULL) or any(evidence.evicted(namespace.inum)):
        return None
    count, limit = namespace.count or 0, namespace.limit or 1
    growth = _gained(evidence, namespace)
    rising = count >= HALF * limit and _left_s(evidence, namespace, growth) <= SOON_S
    return growth if rising or count >= NEARLY * limit else None


def _urgency(evidence: Evidence, namespace: NamespaceEvidence, growth: int) -> tuple[float, float]:
    """The one that is full first; of those that are not soon, the fullest."""
    left_s = _left_s(evidence, namespace, growth)
    return left_s if left_s <= SOON_S else math.inf, -(namespace.count or 0) / (namespace.limit or 1)


def _gained(evidence: Evidence, namespace: NamespaceEvidence) -> int:
    """Entries in chains, and those in none, which count as well."""
    listed = evidence.inserts.get(namespace.inum, 0) - sum(evidence.destroys.get(namespace.inum, {}).values())
    if namespace.unlisted is None or namespace.unlisted_before is None:
        return listed
    return listed + missing(namespace) - min(namespace.unlisted_before, missing(namespace))


def _left_s(evidence: Evidence, namespace: NamespaceEvidence, growth: int) -> float:
    """Until it is full, if it goes on growing so."""
    room = max((namespace.limit or 0) - (namespace.count or 0), 0)
    return room * evidence.duration_s / growth if growth >= GROWING and namespace.limit else math.inf


def soon_full(evidence: Evidence) -> str | None:
    """Which namespace will be full within the hour, if it goes on so, and does not rise by chance: not yet a reason to warn."""
    found = []
    for namespace in evidence.namespaces.values():
        growth = _gained(evidence, namespace)
        moved = evidence.inserts.get(namespace.inum, 0) + sum(evidence.destroys.get(namespace.inum, {}).values())
        left_s = _left_s(evidence, namespace, growth)
        limit = namespace.limit or 1
        from_half = (namespace.count or 0) >= HALF * limit and left_s <= HOUR_S
        leap = growth >= max(LEAP * limit, LEAST) and left_s <= SOON_S
        mass = growth >= MASS and left_s <= HURRY_S
        if growth > SIGMAS * math.sqrt(moved) and (from_half or leap or mass):
            found.append((left_s, namespace.label))
    if not found:
        return None
    left_s, label = min(found)
    so = f"if it went on as in these {evidence.duration_s:.1f} s"
    return f"{label} would be full in {span(left_s)} {so}; watch longer (--duration 60)"


def _room(evidence: Evidence, namespace: NamespaceEvidence) -> tuple[str, ...]:
    """A larger table; where entries in no chain fill it, first who holds them, and nothing else where they are the most."""
    if not (unlisted := missing(namespace)):
        return _larger(evidence, namespace)
    most = 2 * unlisted >= (namespace.count or 0)
    return see_holders(namespace) if most else (*see_holders(namespace), *_larger(evidence, namespace))


def _larger(evidence: Evidence, namespace: NamespaceEvidence) -> tuple[str, ...]:
    """Room for twice what is there, and buckets to match, so that chains stay as short as the kernel's defaults have them."""
    count = max(namespace.count or 0, namespace.limit or 0, 1)
    wanted = 1 << (2 * count - 1).bit_length()
    lines = raise_limit(evidence, namespace, wanted)
    if wanted > len(evidence.lengths.of_bucket):
        lines += (set_global(evidence, "nf_conntrack_buckets", wanted),)
    return lines


RULES = (Rule("table_full", judge_full), Rule("table_filling", judge_filling))
