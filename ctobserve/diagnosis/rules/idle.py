"""Do dead connections stay for days?"""

from __future__ import annotations

import numpy as np

from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.rules.paste import remark, set_sysctl
from ctobserve.diagnosis.rules.words import DAY_S, percent, share, span, unreadable
from ctobserve.diagnosis.verdict import Finding, Rule, Severity, Unjudged, Verdict
from ctobserve.model import IPS_OFFLOAD, TCP, TCP_STATES

SYSCTL = "nf_conntrack_tcp_timeout_established"
LONG_S = DAY_S  # without a packet: keepalives, where there are any, come after two hours
TENTH = 0.1  # of the namespace's entries
QUARTER = 0.25  # of its limit
CONSIDERABLE = 100  # entries
NOT_AT_ONCE = remark("an entry gets the new time with its next packet: those idle now keep what they have")
ESTABLISHED = TCP_STATES.index("ESTABLISHED")


def judge(evidence: Evidence) -> Finding:
    """ESTABLISHED entries that saw no packet for a day: what they have left, against what a packet would give them."""
    if not any(SYSCTL in space.sysctls for space in evidence.spaces.values()):
        return Unjudged(f"{SYSCTL} could not be read in any namespace")
    rows = evidence.entries
    held = (rows["protonum"] == TCP) & (rows["tcp_state"] == ESTABLISHED) & ((rows["status"] & IPS_OFFLOAD) == 0)
    worst: Verdict | None = None
    for inum in evidence.counts:
        space = evidence.space(inum)
        if SYSCTL not in space.sysctls:
            continue
        idle = space.sysctls[SYSCTL] - evidence.remaining_s[held & (rows["netns"] == inum)]
        long = idle[idle >= LONG_S]
        entries, whole, limit = len(long), evidence.counts[inum], space.limit
        if entries < CONSIDERABLE or entries < TENTH * whole or (worst and entries <= worst.evidence["entries"]):
            continue
        median = float(np.median(long))
        sentence = (
            f"{space.label} keeps {entries} ESTABLISHED entries ({percent(entries, whole)} of its table) that saw no packet "
            f"for a day, half of them for {span(median)} "
            f"and one for {span(float(long.max()))}; each stays for {span(space.sysctls[SYSCTL])}"
        )
        numbers = {
            "netns": inum,
            "entries": entries,
            "share_of_entries": share(entries, whole),
            "share_of_limit": None if limit is None else share(entries, limit),
            "idle_median_s": int(median),
            "idle_max_s": int(long.max()),
            "timeout_s": space.sysctls[SYSCTL],
        }
        severe = limit is not None and entries >= QUARTER * limit
        do = (set_sysctl(space, SYSCTL, LONG_S), NOT_AT_ONCE)
        worst = Verdict(Severity.WARNING if severe else Severity.NOTICE, sentence, numbers, do)
    return worst or unreadable(evidence, SYSCTL)


RULES = (Rule("idle_established", judge),)
