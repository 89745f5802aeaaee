"""Which packets are INVALID for their checksum, and on which device did they come?"""

from __future__ import annotations

from collections import Counter

from ctobserve.analysis.invalid import Like, likeness
from ctobserve.diagnosis.evidence import Evidence, Explained
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.past import where
from ctobserve.diagnosis.rules.paste import see_losses, set_sysctl
from ctobserve.diagnosis.rules.tuples import connection, original
from ctobserve.diagnosis.rules.words import NOT_WATCHED, among, counted, during, hidden, plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.event import DropReason
from ctobserve.model import NF_HOOKS, pick, printable, protocol_name

SEVERAL = 5  # packets: cables and memory spoil one now and then


def judge(evidence: Evidence) -> RuleResult:
    """Of any protocol: TCP and UDP, ICMP, SCTP, by the words of the kernel."""
    if not evidence.invalid:
        return Unjudged(NOT_WATCHED)
    rows = likeness(evidence.losses) == Like.BAD_CHECKSUM
    if not rows.any():
        return hidden(evidence)
    namespace, mine, elsewhere = where(evidence, rows)
    packets = pick(evidence.losses, mine)
    protocols = Counter(protocol_name(number) for number in packets["entry"]["protonum"].tolist())
    devices = Counter(printable(one) for one in packets["device"].tolist() if one)
    words = sorted({printable(one.strip()) for one in packets["text"].tolist()})
    first, hook = packets[0]["entry"], NF_HOOKS[int(packets["hook"][0])]
    came = ", ".join(f"{count} on {device}" for device, count in devices.most_common(3)) or f"at {hook}"
    sentence = (
        f"{plural(len(packets), 'packet')} INVALID in {namespace.label} for their checksum "
        f"{among(evidence, DropReason.INVALID) or during(evidence, len(packets))}, {came}: "
        f"{', '.join(f'{count} {name}' for name, count in protocols.most_common(3))}, the first {connection(first)} "
        f"({', '.join(words)})"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        **counted(evidence, len(packets), DropReason.INVALID),
        "packets_elsewhere": elsewhere,
        "proto": protocols.most_common(1)[0][0],
        "device": devices.most_common(1)[0][0] if devices else None,
        "devices": len(devices),
        "hook": hook,
        "kernel_says": words,
        **original(first),
    }
    explains = Explained(rows=rows)
    if len(packets) < SEVERAL:
        sentence += "; one is spoilt now and then"
        return Verdict(Severity.NOTICE, sentence, numbers, (see_losses(namespace),), explains)
    sentence += (
        "; who sends them leaves the checksum to a device that does not make it, as tunnels and virtual devices with offloading "
        "do, and a rule that drops INVALID loses them all"
    )
    do = (see_losses(namespace), set_sysctl(namespace, "nf_conntrack_checksum", 0))
    return Verdict(Severity.WARNING, sentence, numbers, do, explains)


RULES = (Rule("bad_checksum", judge),)
