"""Does one source, or one namespace, hold most of what all must share?"""

from __future__ import annotations

from collections.abc import Iterator

from ctobserve.analysis.groups import divide, key
from ctobserve.diagnosis.evidence import Evidence, Space
from ctobserve.diagnosis.rules.paste import inside, only, paste
from ctobserve.diagnosis.rules.words import percent, share
from ctobserve.diagnosis.verdict import Finding, Rule, Severity, Unjudged, Verdict

MOST = 0.5  # of the entries
QUARTER = 0.25  # of the limit: four such sources fill the table
CONSIDERABLE = 100  # entries: of fewer, any share is small
CROWDED = 1.0  # nodes per bucket: from there on others' lookups walk over the big one's entries


def judge_source(evidence: Evidence) -> Finding:
    """One source address with more than half of a namespace's entries, and a good part of its limit."""
    unknown: Unjudged | None = None
    for space, source, entries in _largest(evidence):
        if "nf_conntrack_max" not in space.sysctls:
            unknown = Unjudged(f"{source} holds most entries of {space.label}, whose limit could not be read")
        if space.limit and entries >= QUARTER * space.limit:
            return _say(evidence, space, source, entries, space.limit)
    return unknown


def _largest(evidence: Evidence) -> Iterator[tuple[Space, str, int]]:
    """Sources that have most of their namespace's entries, with how many."""
    sources = divide(evidence.entries, ("netns", "src"))
    for at in sources.largest():
        entries, first = int(sources.counts[at]), evidence.entries[sources.first[at]]
        if entries < CONSIDERABLE:
            return
        space = evidence.space(int(first["netns"]))
        if entries >= MOST * evidence.counts[space.inum]:
            yield space, str(key(first, "src")), entries


def _say(evidence: Evidence, space: Space, source: str, entries: int, limit: int) -> Verdict:
    whole = evidence.counts[space.inum]
    sentence = (
        f"{source} holds {entries} of the {whole} entries of {space.label} ({percent(entries, whole)}), "
        f"{percent(entries, limit)} of its limit of {limit}"
    )
    numbers = {
        "netns": space.inum,
        "src": source,
        "entries": entries,
        "share_of_entries": share(entries, whole),
        "share_of_limit": share(entries, limit),
        "limit": limit,
    }
    counted = ("ip6" if ":" in source else "ip", "saddr", source, "ct", "count", "over", max(limit // 10, 1), "drop")
    do = (
        paste("ctobserve", "list", "--src", source, "--limit", 20),
        inside(space, "nft", "add", "table", "inet", "calm"),
        inside(space, "nft", "add chain inet calm fwd { type filter hook forward priority 0; }"),
        inside(space, "nft", "add", "rule", "inet", "calm", "fwd", *counted),
    )
    return Verdict(Severity.WARNING, sentence, numbers, do)


def judge_netns(evidence: Evidence) -> Finding:
    """One namespace with most entries of the hash that all namespaces share."""
    if evidence.narrowed:
        return Unjudged("only one namespace was looked at (--netns)")
    whole, load = len(evidence.entries), evidence.lengths.nodes / len(evidence.lengths.of_bucket)
    holders = {inum: count for inum, count in evidence.counts.items() if count}
    if whole < CONSIDERABLE or len(holders) < 2:
        return None
    largest = max(holders, key=lambda inum: holders[inum])
    entries, space = holders[largest], evidence.space(largest)
    if entries < MOST * whole or load < CROWDED:
        return None
    sentence = (
        f"{space.label} holds {entries} of the {whole} entries of all {len(holders)} namespaces ({percent(entries, whole)}) in a "
        f"hash with {load:.1f} nodes in each bucket: the lookups of all others walk over them"
    )
    numbers = {
        "netns": largest,
        "entries": entries,
        "entries_all": whole,
        "namespaces": len(holders),
        "share_of_entries": share(entries, whole),
        "load_factor": round(load, 3),
    }
    return Verdict(Severity.WARNING, sentence, numbers, (paste("ctobserve", "report", *only(space)),))


RULES = (Rule("source_share", judge_source), Rule("netns_share", judge_netns))
