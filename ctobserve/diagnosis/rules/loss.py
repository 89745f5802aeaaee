"""Is what we say of the table the whole truth?"""

from __future__ import annotations

from collections import Counter

from ctobserve.diagnosis.evidence import Evidence, Explained
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import look
from ctobserve.diagnosis.rules.words import during, hidden, plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict

OTHERWISE = ("no_memory", "dying")


def judge(evidence: Evidence) -> RuleResult:
    """Records that found the ring full, probes that were off, and what could not be read, of buckets or a recording.

    Others may count too little.
    """
    if not evidence.events_lost and not evidence.unread:
        return None
    came = evidence.events_lost - evidence.damaged - evidence.probes_off_s
    off = f"probes were switched off for about {plural(evidence.probes_off_s, 'second')}, " if evidence.probes_off_s else ""
    damage = f"{plural(evidence.damaged, 'row')} of the recording or more cannot be read, " if evidence.damaged else ""
    sentence = (
        f"this report is incomplete: {off}{damage}{plural(came, 'record')} of {came + evidence.events_seen} found the ring full, "
        f"{plural(evidence.unread, 'bucket')} could not be read, and the table was uncertain for "
        f"{evidence.uncertain_s:.1f} s before it was read again; counts may be too low"
    )
    numbers: VerdictEvidence = {
        "events_lost": evidence.events_lost,
        "probes_off_s": evidence.probes_off_s,
        "events_seen": evidence.events_seen,
        "table_uncertain_s": round(evidence.uncertain_s, 3),
        "buckets_unread": evidence.unread,
    }
    do = (look("ctobserve", "report", "--ring-mib", 256),) if came or evidence.unread else ()
    if evidence.probes_off_s:
        do = (look("sysctl", "kernel.ftrace_enabled"), *do)
    return Verdict(Severity.WARNING, sentence, numbers, do)


def judge_otherwise(evidence: Evidence) -> RuleResult:
    """Packets lost for reasons that no other rule speaks of: no memory for the entry, or the entry dying already."""
    lost = Counter({inum: sum(reasons[name] for name in OTHERWISE) for inum, reasons in evidence.drops.items()})
    packets = lost.total()
    if not packets:
        return hidden(evidence)
    namespace = evidence.namespace(lost.most_common(1)[0][0])
    no_memory, dying = (sum(reasons[name] for reasons in evidence.drops.values()) for name in OTHERWISE)
    sentence = (
        f"{plural(packets, 'packet')} lost {during(evidence, packets)}, most in {namespace.label}: {no_memory} "
        f"as the kernel had no memory for their entry, {dying} as it was removed before it was confirmed"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "packets": packets,
        "packets_per_s": evidence.rate(packets),
        "no_memory": no_memory,
        "dying": dying,
    }
    do = (look("grep", "-i", "-e", "memfree", "-e", "slab", "/proc/meminfo"), look("ctobserve", "drops"))
    return Verdict(Severity.CRITICAL, sentence, numbers, do, Explained(OTHERWISE))


RULES = (Rule("records_lost", judge), Rule("lost_otherwise", judge_otherwise))
