"""Do dead connections stay for days?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import remark, set_sysctl
from ctobserve.diagnosis.rules.words import DAY_S, percent, share, span, unreadable
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.model import IPS_OFFLOAD, TCP, TCP_STATES, NDArray

SYSCTL = "nf_conntrack_tcp_timeout_established"
IN_FLIGHT = ("nf_conntrack_tcp_timeout_unacknowledged", "nf_conntrack_tcp_timeout_max_retrans")
IN_FLIGHT_S = 300  # the kernel's default of both
LONG_S = DAY_S  # without a packet: keepalives, where there are any, come after two hours
TENTH = 0.1  # of the namespace's entries
QUARTER = 0.25  # of its limit
CONSIDERABLE = 100  # entries
NOT_AT_ONCE = remark("an entry gets the new time with its next packet: those idle now keep what they have")
ESTABLISHED = TCP_STATES.index("ESTABLISHED")


def judge(evidence: Evidence) -> RuleResult:
    """ESTABLISHED entries that saw no packet for a day: what they have left, against what a packet would give them."""
    if not any(SYSCTL in namespace.sysctls for namespace in evidence.namespaces.values()):
        return Unjudged(f"{SYSCTL} could not be read in any namespace")
    rows = evidence.entries
    held = (rows["protonum"] == TCP) & (rows["tcp_state"] == ESTABLISHED) & ((rows["status"] & IPS_OFFLOAD) == 0)
    worst: Verdict | None = None
    most = CONSIDERABLE - 1
    for inum, remaining_s in _by_namespace(rows["netns"][held], evidence.remaining_s[held]):
        namespace = evidence.namespace(inum)
        if SYSCTL not in namespace.sysctls:
            continue
        idle = namespace.sysctls[SYSCTL] - remaining_s[remaining_s > _in_flight_s(namespace)]
        long = idle[idle >= LONG_S]
        entries, whole, limit = len(long), evidence.counts[inum], namespace.limit
        if entries <= most or entries < TENTH * whole:
            continue
        median = float(np.median(long))
        sentence = (
            f"{namespace.label} keeps {entries} ESTABLISHED entries ({percent(entries, whole)} of its table) that saw no packet "
            f"for a day, half of them for {span(median)} "
            f"and one for {span(float(long.max()))}; each stays for {span(namespace.sysctls[SYSCTL])}"
        )
        numbers: VerdictEvidence = {
            "netns": inum,
            "entries": entries,
            "share_of_entries": share(entries, whole),
            "share_of_limit": None if limit is None else share(entries, limit),
            "idle_median_s": int(median),
            "idle_max_s": int(long.max()),
            "timeout_s": namespace.sysctls[SYSCTL],
        }
        severe = limit is not None and entries >= QUARTER * limit
        do = (set_sysctl(namespace, SYSCTL, LONG_S), NOT_AT_ONCE)
        most, worst = entries, Verdict(Severity.WARNING if severe else Severity.NOTICE, sentence, numbers, do)
    return worst or unreadable(evidence, SYSCTL)


def _in_flight_s(namespace: NamespaceEvidence) -> int:
    """What the kernel leaves to a connection whose data is not acknowledged yet, whenever its last packet was (tcp_packet)."""
    return max(namespace.sysctls.get(name, IN_FLIGHT_S) for name in IN_FLIGHT)


def _by_namespace(netns: NDArray[np.uint32], remaining_s: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Those of each, lowest inode number first: by one sorting, for there may be thousands."""
    order = np.argsort(netns, kind="stable")
    inums, first = np.unique(netns[order], return_index=True)
    return zip(inums.tolist(), np.split(remaining_s[order], first[1:]), strict=False)


RULES = (Rule("idle_established", judge),)
