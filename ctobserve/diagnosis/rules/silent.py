"""Is nothing tracked at all, and why?"""

from __future__ import annotations

from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.nft import delete_rule
from ctobserve.diagnosis.rules.paste import look_inside
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.host.ruleset import Notrack, Ruleset

ID = "nothing_tracked"
FEW = 10  # packets: fewer prove nothing
# Families of rules that see IPv4, and IPv6.
IPV4, IPV6 = frozenset({"ip", "inet", "bridge"}), frozenset({"ip6", "inet", "bridge"})


def judge(evidence: Evidence) -> RuleResult:
    """A namespace with no entry and no event: its rule set was asked for, and says why as far as it can.

    One through which no packet went at all is nobody's question where another has entries or events; nor, but for the one that is
    looked at, is one in which no rule wants what is tracked: as in most containers.
    """
    if evidence.damaged:
        return Unjudged("what cannot be read of the recording would look like nothing")
    silent = [namespace for namespace in evidence.namespaces.values() if namespace.ruleset and _is_silent(evidence, namespace)]
    if any(not _is_silent(evidence, namespace) for namespace in evidence.namespaces.values()):
        silent = [namespace for namespace in silent if namespace.passed is None or any(namespace.passed)]
    found = [(namespace.inum, _verdict(evidence, namespace, namespace.ruleset or Ruleset())) for namespace in silent]
    severe = [verdict for _, verdict in found if verdict.severity is Severity.WARNING]
    asked = [verdict for inum, verdict in found if inum == evidence.asked]
    return next(iter((*severe, *asked)), None)


def _is_silent(evidence: Evidence, namespace: NamespaceEvidence) -> bool:
    """No entry is counted or listed, none came or left, no packet was lost or INVALID: whatever the filter."""
    inum = namespace.inum
    nothing_there = namespace.account.counted == 0 and not namespace.listed and not evidence.counts.get(inum)
    return nothing_there and not any(inum in known for known in (evidence.inserts, evidence.destroys, evidence.drops))


def _verdict(evidence: Evidence, namespace: NamespaceEvidence, rules: Ruleset) -> Verdict:
    v4, v6 = namespace.passed or (0, 0)
    avoiding = next((one for one in rules.notracks if one.every_packet), next(iter(rules.notracks), None))
    # Packets that hooks of conntrack see, as a rule of their family asks for it.
    seen = v4 * bool(rules.families & IPV4) + v6 * bool(rules.families & IPV6)
    # A notrack rule for some packets is meant; and where no rule says why, packets may be dropped before conntrack sees them.
    severe = seen >= FEW and avoiding is not None and avoiding.every_packet and not rules.unread
    passed = "how many packets passed is not known" if namespace.passed is None else f"{plural(v4 + v6, 'IP packet')} passed"
    sentence = (
        f"nothing is tracked in {namespace.label}, where {passed} in {evidence.duration_s:.1f} s: no entry is there, none came "
        f"and none left, because {_why(rules, seen, avoiding, v4, v6)}"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "entries": 0,
        "packets_passed": None if namespace.passed is None else v4 + v6,
        "rules": rules.rules,
        "rules_needing": rules.needing,
        "nat_chains": rules.chains,
        "tracked_families": sorted(rules.families),
        "notrack_chain": _place(avoiding) if avoiding else None,
        "built_in": list(rules.built_in),
    }
    severity = Severity.WARNING if severe else Severity.NOTICE
    return Verdict(severity, sentence, numbers, _do(namespace, avoiding if severe else None))


def _why(rules: Ruleset, seen: int, avoiding: Notrack | None, v4: int, v6: int) -> str:
    if rules.unread:
        return f"of what cannot be known: {rules.unread}"
    if not rules.families:
        return (
            f"{_none(rules)} asks for a connection's state, a helper or NAT, and conntrack sees packets only where one does; "
            "if one should, it was not loaded"
        )
    if v4 + v6 and not seen:
        there = " and ".join(words for words, count in (("IPv4", v4), ("IPv6", v6)) if count)
        return f"its rules ask for it in {', '.join(sorted(rules.families))} only, and what passed was {there}"
    if avoiding is not None:
        which = "every packet" if avoiding.every_packet else "some packets, which may be all that passed,"
        return f"a notrack rule in {_place(avoiding)} takes {which} out before: rules about connections and NAT do not see them"
    if seen:
        return (
            f"of what cannot be known: {plural(rules.needing, 'rule')} and {plural(rules.chains, 'NAT chain')} ask for it, and "
            "no notrack rule of nft is there; one of iptables (CT --notrack) cannot be told from others, and packets may be "
            "dropped before an entry is confirmed"
        )
    return "nothing that could be tracked passed"


def _none(rules: Ruleset) -> str:
    built_in = f" (unless {' or '.join(rules.built_in)}, built into this kernel, is in use)" if rules.built_in else ""
    return f"none of its {plural(rules.rules, 'firewall rule')}{built_in}" if rules.rules else f"no rule is there{built_in} that"


def _place(one: Notrack) -> str:
    return f"{one.family} {one.table} {one.chain}"


def _do(namespace: NamespaceEvidence, avoiding: Notrack | None) -> tuple[str, ...]:
    looks = (look_inside(namespace, "nft", "-a", "list", "ruleset"),)
    if avoiding is None:
        return looks
    return (*looks, delete_rule(namespace, avoiding.family, avoiding.table, avoiding.chain, avoiding.handle))


RULES = (Rule(ID, judge),)
