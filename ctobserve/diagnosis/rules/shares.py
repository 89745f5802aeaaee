"""Does one source, or one namespace, hold most of what all must share?"""

from __future__ import annotations

from collections.abc import Iterator

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.nft import MANGLE, Chain, for_source
from ctobserve.diagnosis.rules.paste import look, netns_option, see_entries
from ctobserve.diagnosis.rules.tuples import address
from ctobserve.diagnosis.rules.words import percent, share
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict

MOST = 0.5  # of the entries
QUARTER = 0.25  # of the limit: four such sources fill the table
CONSIDERABLE = 100  # entries: of fewer, any share is small
CROWDED = 1.0  # nodes per bucket: from there on others' lookups walk over the big one's entries
CHAINS = tuple(Chain("calm", f"{hook}_new", hook, MANGLE) for hook in ("prerouting", "output"))


def judge_source(evidence: Evidence) -> RuleResult:
    """One source address with more than half of a namespace's entries, and a good part of its limit."""
    unknown: Unjudged | None = None
    for namespace, source, entries in _largest(evidence):
        if "nf_conntrack_max" not in namespace.sysctls:
            unknown = Unjudged(f"{source} holds most entries of {namespace.label}, whose limit could not be read")
        if namespace.limit and entries >= QUARTER * namespace.limit:
            return _verdict(evidence, namespace, source, entries, namespace.limit)
    return unknown


def _largest(evidence: Evidence) -> Iterator[tuple[NamespaceEvidence, str, int]]:
    """Sources that have most of their namespace's entries, with how many."""
    sources = divide(evidence.entries, ("netns", "src"))
    for at in sources.largest():
        entries, first = int(sources.counts[at]), evidence.entries[sources.first[at]]
        if entries < CONSIDERABLE:
            return
        namespace = evidence.namespace(int(first["netns"]))
        if entries >= MOST * evidence.counts[namespace.inum]:
            yield namespace, address(first, "src"), entries


def _verdict(evidence: Evidence, namespace: NamespaceEvidence, source: str, entries: int, limit: int) -> Verdict:
    whole = evidence.counts[namespace.inum]
    sentence = (
        f"{source} holds {entries} of the {whole} entries of {namespace.label} ({percent(entries, whole)}), "
        f"{percent(entries, limit)} of its limit of {limit}"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "src": source,
        "entries": entries,
        "share_of_entries": share(entries, whole),
        "share_of_limit": share(entries, limit),
        "limit": limit,
    }
    fewer = for_source(namespace, CHAINS, source, "ct", "state", "new", "ct", "count", "over", max(limit // 10, 1), "drop")
    return Verdict(Severity.WARNING, sentence, numbers, (see_entries("--src", source), *fewer))


def judge_netns(evidence: Evidence) -> RuleResult:
    """One namespace with most entries of the hash that all namespaces share."""
    if evidence.narrowed:
        return Unjudged("only one namespace was looked at (--netns)")
    whole, load = len(evidence.entries), evidence.lengths.nodes / len(evidence.lengths.of_bucket)
    holders = {inum: count for inum, count in evidence.counts.items() if count}
    if whole < CONSIDERABLE or len(holders) < 2:
        return None
    largest = max(holders, key=lambda inum: holders[inum])
    entries, namespace = holders[largest], evidence.namespace(largest)
    if entries < MOST * whole or load < CROWDED:
        return None
    sentence = (
        f"{namespace.label} holds {entries} of the {whole} entries of all {len(holders)} namespaces "
        f"({percent(entries, whole)}) in a hash with {load:.1f} nodes in each bucket: the lookups of all others walk over them"
    )
    numbers: VerdictEvidence = {
        "netns": largest,
        "entries": entries,
        "entries_all": whole,
        "namespaces": len(holders),
        "share_of_entries": share(entries, whole),
        "load_factor": round(load, 3),
    }
    return Verdict(Severity.WARNING, sentence, numbers, (look("ctobserve", "report", *netns_option(namespace)),))


RULES = (Rule("source_share", judge_source), Rule("netns_share", judge_netns))
