"""Did the kernel count losses that we did not see?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ctobserve.analysis.drops import LOSS_COUNTERS, balance
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import see_losses
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict

COUNTERS = tuple(name for name in LOSS_COUNTERS if name != "clash_resolve")  # which counts packets that were saved
EACH_PACKET = ("invalid", "error")  # seen only where every packet is looked at
# Of a counter: where packets are lost all the time, no instant is quiet enough to read counters and events as of the same one.
SKEW = 0.01


def judge(evidence: Evidence) -> RuleResult:
    """The kernel's counters of lost and INVALID packets, of each namespace, against the events of the same time."""
    if evidence.filtered:
        return Unjudged("the kernel's counters count what the filter hides, too")
    counted = [namespace for namespace in evidence.namespaces.values() if namespace.counters]
    if not counted:
        return Unjudged(evidence.uncounted or "the kernel's counters could not be read in any namespace")
    unseen = {namespace.inum: found for namespace in counted if (found := _unseen(evidence, namespace))}
    if not unseen:
        uncounted = len(evidence.counts.keys() - {namespace.inum for namespace in counted})
        reopened = _reopened(evidence, counted)
        if reopened is None and uncounted:
            return Unjudged(f"the kernel's counters of {plural(uncounted, 'namespace')} with entries could not be compared")
        return reopened
    namespace = evidence.namespace(max(unseen, key=lambda inum: max(unseen[inum].values())))
    found = unseen[namespace.inum]
    # The counters overlap: their largest is the least number of packets.
    listed = ", ".join(f"{name} {count}" for name, count in found.items())
    sentence = (
        f"the kernel counted losses in {namespace.label} that were not seen, at least {max(found.values())}: {listed} "
        "(a packet can move more than one of these counters)"
    )
    if evidence.events_lost:
        sentence += "; records were lost, and these may be among them"
    severity = Severity.NOTICE if evidence.events_lost else Severity.WARNING
    return Verdict(severity, sentence, _numbers(evidence, namespace, len(unseen), found), (see_losses(namespace),))


def _reopened(evidence: Evidence, counted: list[NamespaceEvidence]) -> Verdict | None:
    """INVALID packets that only reopened connections may explain: what their SYNs count as depends on the kernel."""
    doubtful = {
        namespace.inum: found for namespace in counted if (found := _unseen(evidence, namespace, forgiving=False).get("invalid"))
    }
    if not doubtful:
        return None
    namespace = evidence.namespace(max(doubtful, key=lambda inum: doubtful[inum]))
    numbers = _numbers(evidence, namespace, len(doubtful), {"invalid": doubtful[namespace.inum]})
    sentence = (
        f"the kernel counted {plural(doubtful[namespace.inum], 'INVALID packet')} in {namespace.label} that nobody saw; "
        f"{plural(numbers['tcp_reuse'], 'SYN')} reopened closed connections, which Linux before 5.17 counts as INVALID and later "
        "kernels do not: which of both these are cannot be told"
    )
    return Verdict(Severity.NOTICE, sentence, numbers, (see_losses(namespace),))


def _numbers(evidence: Evidence, namespace: NamespaceEvidence, namespaces: int, found: Mapping[str, int]) -> VerdictEvidence:
    return {
        "netns": namespace.inum,
        "namespaces": namespaces,
        "invalid_unseen": found.get("invalid", 0),
        "error_unseen": found.get("error", 0),
        "drop_unseen": found.get("drop", 0),
        "early_drop_unseen": found.get("early_drop", 0),
        "insert_failed_unseen": found.get("insert_failed", 0),
        "chaintoolong_unseen": found.get("chaintoolong", 0),
        "tcp_reuse": evidence.destroys.get(namespace.inum, Counter())["tcp_reuse"],
    }


def _unseen(evidence: Evidence, namespace: NamespaceEvidence, forgiving: bool = True) -> dict[str, int]:
    """Counters that moved by more than our events explain, and by how much; `forgiving` counts SYNs that reopen among these."""
    watched = {name for name in COUNTERS if evidence.invalid or name not in EACH_PACKET}
    gained = Counter({name: count for name, count in (namespace.counters or {}).items() if name in watched})
    destroys = evidence.destroys.get(namespace.inum, Counter())
    reasons = evidence.drops.get(namespace.inum, Counter()) + Counter(early_drop=destroys["early_drop"])
    if forgiving:
        # Before 5.17 the SYN that reopens a connection counts as invalid, too: "don't increment invalid counter on NF_REPEAT".
        gained["invalid"] -= min(gained["invalid"], destroys["tcp_reuse"])
    missing = balance(reasons, gained).unaccounted
    return {name: count for name, count in missing.items() if count > SKEW * gained[name]}


RULES = (Rule("unseen", judge),)
