"""What to say when nothing is wrong: the same numbers, in peace."""

from __future__ import annotations

from ctobserve.evidence import Evidence
from ctobserve.rules.words import percent, plural
from ctobserve.verdict import Severity, Verdict

ID = "healthy"


def judge(evidence: Evidence) -> Verdict:
    """Asked only where no rule found anything critical or a reason to warn."""
    known = [space for space in evidence.spaces.values() if space.count is not None and space.limit]
    fullest = max(known, key=lambda space: (space.count or 0) / (space.limit or 1), default=None)
    inserts, lengths = sum(evidence.inserts.values()), evidence.lengths
    entries = len(evidence.entries)
    words = "nothing is known of limits"
    if fullest is not None:
        share = percent(fullest.count or 0, fullest.limit or 1)
        words = f"{fullest.label} is the fullest with {fullest.count} of {fullest.limit} ({share})"
    longest = int(lengths.of_bucket.max(initial=0))
    sentence = (
        f"{plural(entries, 'entry', 'entries')} in {plural(len(evidence.counts), 'namespace')}, {words}; no packet lost "
        f"and no entry evicted in {evidence.duration_s:.1f} s, with {evidence.rate(inserts):.1f} new entries per s; "
        f"longest chain {longest}"
    )
    numbers = {
        "entries": entries,
        "namespaces": len(evidence.counts),
        "netns_fullest": None if fullest is None else fullest.inum,
        "entries_fullest": None if fullest is None else fullest.count,
        "limit_fullest": None if fullest is None else fullest.limit,
        "inserts_per_s": evidence.rate(inserts),
        "load_factor": round(lengths.nodes / len(lengths.of_bucket), 3),
        "max_chain": longest,
    }
    return Verdict(Severity.HEALTHY, sentence, numbers)
