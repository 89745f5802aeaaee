"""Are the chains too long, unequal, or too few?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.lookup import KERNEL_LIMIT, uneven
from ctobserve.analysis.poisson import LEAST_CHANCE, fit
from ctobserve.diagnosis.evidence import Evidence, Explained
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import look, set_global
from ctobserve.diagnosis.rules.words import during, plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.event import DropReason, drop_name

NEAR_LIMIT = 40
CROWDED = 4.0  # nodes per bucket: twice what the kernel's defaults give a full table (max = buckets, two nodes an entry)
DEFAULT_LOAD = 2.0
BUCKETS = look("ctobserve", "buckets", "--limit", 10)


def judge_long(evidence: Evidence) -> RuleResult:
    """New entries refused because of the length of a chain, or a chain that is near where that begins."""
    longest = int(evidence.lengths.of_bucket.max(initial=0))
    lost = {inum: evidence.lost(inum, DropReason.CHAINTOOLONG) for inum in evidence.drops}
    packets = sum(lost.values())
    if not packets and longest < NEAR_LIMIT:
        return _nothing_wrong(evidence)
    numbers: VerdictEvidence = {
        "packets": packets,
        "packets_per_s": evidence.rate(packets),
        "netns": max(lost, key=lambda inum: lost[inum]) if packets else None,
        "max_chain": longest,
        "limit_from": KERNEL_LIMIT,
        "load_factor": _load(evidence),
        "buckets": len(evidence.lengths.of_bucket),
    }
    if packets:
        namespace = evidence.namespace(max(lost, key=lambda inum: lost[inum]))
        sentence = (
            f"{plural(packets, 'packet')} of new connections lost {during(evidence, packets)} because a hash chain was too long, "
            f"most in {namespace.label}; the longest chain now has {longest} nodes"
        )
        return Verdict(
            Severity.CRITICAL, sentence, numbers, _more_buckets(evidence), Explained((drop_name(DropReason.CHAINTOOLONG),))
        )
    sentence = f"the longest hash chain has {longest} nodes; from {KERNEL_LIMIT} on the kernel refuses new entries in it"
    return Verdict(Severity.WARNING, sentence, numbers, _more_buckets(evidence))


def judge_skew(evidence: Evidence) -> RuleResult:
    """Chains unlike those of a hash that spreads well: more than chance gives, and enough to cost something."""
    found = fit(evidence.lengths.of_bucket)
    if found is None or not uneven(found):
        return _nothing_wrong(evidence)
    longest = int(evidence.lengths.of_bucket.max())
    sentence = (
        f"entries crowd in some buckets: a lookup visits {found.mean_visited:.1f} nodes instead of "
        f"{found.expected_visited:.1f}, the longest chain has {longest}; "
        f"chance does that once in {_odds(min(found.chi_square_p, found.max_chain_p))} tables"
    )
    numbers: VerdictEvidence = {
        "max_chain": longest,
        "load_factor": _load(evidence),
        "variance_over_mean": round(found.dispersion, 3),
        "chi_square_p": found.chi_square_p,
        "max_chain_p": found.max_chain_p,
        "nodes_per_lookup": round(found.mean_visited, 3),
        "nodes_per_lookup_expected": round(found.expected_visited, 3),
    }
    return Verdict(Severity.WARNING, sentence, numbers, (BUCKETS,))


def judge_few(evidence: Evidence) -> RuleResult:
    """Too few buckets for the nodes: every packet pays."""
    load, buckets = _load(evidence), len(evidence.lengths.of_bucket)
    if load < CROWDED:
        return _nothing_wrong(evidence)
    sentence = (
        f"{evidence.lengths.nodes} nodes lie in only {buckets} buckets, {load:.1f} in each: a lookup of a new connection visits "
        f"{load:.1f} nodes, one of a known connection {1 + load / 2:.1f}; the kernel's own sizes give 2 at most"
    )
    numbers: VerdictEvidence = {
        "nodes": evidence.lengths.nodes,
        "buckets": buckets,
        "load_factor": load,
        "nodes_per_hit": round(1 + load / 2, 3),
        "nodes_per_miss": load,
    }
    return Verdict(Severity.WARNING, sentence, numbers, _more_buckets(evidence))


def _nothing_wrong(evidence: Evidence) -> RuleResult:
    """Chains of no nodes say nothing where there are entries: a listing does not say in which buckets they are."""
    return Unjudged("the buckets of the entries are not known") if len(evidence.entries) and not evidence.lengths.nodes else None


def _load(evidence: Evidence) -> float:
    return round(evidence.lengths.nodes / len(evidence.lengths.of_bucket), 3)


def _more_buckets(evidence: Evidence) -> tuple[str, ...]:
    """As many as bring the load to what a full table has by default."""
    wanted = 1 << int(np.ceil(np.log2(max(evidence.lengths.nodes / DEFAULT_LOAD, 1))))
    if wanted <= len(evidence.lengths.of_bucket):
        return (BUCKETS,)
    return (set_global(evidence, "nf_conntrack_buckets", wanted),)


def _odds(chance: float) -> str:
    return f"{1 / chance:.0e}" if chance >= LEAST_CHANCE else f"more than {1 / LEAST_CHANCE:.0e}"


RULES = (Rule("chain_too_long", judge_long), Rule("chain_skew", judge_skew), Rule("few_buckets", judge_few))
