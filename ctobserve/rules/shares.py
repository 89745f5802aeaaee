"""Does one source, or one namespace, hold most of what all must share?"""

from __future__ import annotations

from ctobserve.analysis.groups import divide, key
from ctobserve.evidence import Evidence
from ctobserve.rules.words import percent, share
from ctobserve.verdict import Finding, Rule, Severity, Unjudged, Verdict

MOST = 0.5  # of the entries
QUARTER = 0.25  # of the limit: four such sources fill the table
CONSIDERABLE = 100  # entries: of fewer, any share is small
CROWDED = 1.0  # nodes per bucket: from there on others' lookups walk over the big one's entries


def judge_source(evidence: Evidence) -> Finding:
    """One source address with more than half of a namespace's entries, and a good part of its limit."""
    rows = evidence.entries
    if len(rows) < CONSIDERABLE:
        return None
    sources = divide(rows, ("netns", "src"))
    for at in sources.largest():
        entries, first = int(sources.counts[at]), rows[sources.first[at]]
        if entries < CONSIDERABLE:
            return None
        space = evidence.space(int(first["netns"]))
        whole, limit = evidence.counts[space.inum], space.limit
        if limit is None or entries < MOST * whole or entries < QUARTER * limit:
            continue
        source = key(first, "src")
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
        allowed = max(limit // 10, 1)
        family = "ip6" if ":" in str(source) else "ip"
        do = (
            f"ctobserve list --src {source} --limit 20",
            f"{space.prefix}nft add table inet calm",
            f"{space.prefix}nft 'add chain inet calm fwd {{ type filter hook forward priority 0; }}'",
            f"{space.prefix}nft add rule inet calm fwd {family} saddr {source} ct count over {allowed} drop",
        )
        return Verdict(Severity.WARNING, sentence, numbers, do)
    return None


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
    return Verdict(Severity.WARNING, sentence, numbers, (f"ctobserve report --netns {space.label}",))


RULES = (Rule("source_share", judge_source), Rule("netns_share", judge_netns))
