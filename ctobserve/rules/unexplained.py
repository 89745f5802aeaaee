"""Which losses does no other rule explain?"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ctobserve.analysis.groups import divide, key
from ctobserve.events import DropReason
from ctobserve.evidence import RESOLVED, Evidence, Losses, reason_name
from ctobserve.model import NF_HOOKS, TCP, WITH_PORTS, Entries, printable, protocol_name
from ctobserve.rules.paste import see_losses
from ctobserve.rules.words import during, end, plural
from ctobserve.verdict import Finding, Rule, Severity, Verdict

Kind = dict[str, str | None]
TOLD = 3  # kinds in the sentence; the rest is a number
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")  # byte 13 of a TCP header, lowest bit first


def judge(evidence: Evidence) -> Finding:
    """Asked with what the verdicts of all other rules leave: each such packet is a reason to warn. Resolved clashes cost none."""
    lost = {inum: reasons - Counter({reason_name(RESOLVED): reasons.total()}) for inum, reasons in evidence.drops.items()}
    packets = sum(reasons.total() for reasons in lost.values())
    if not packets:
        return None
    space = evidence.space(max(lost, key=lambda inum: lost[inum].total()))
    by_reason = sum(lost.values(), Counter[str]()).most_common()
    rows = evidence.losses.only(evidence.losses.reason != RESOLVED)
    kinds = _kinds(rows)
    sentence = (
        f"{plural(packets, 'packet')} lost or INVALID {during(evidence, packets)} that no other verdict explains, "
        f"most in {space.label}: {', '.join(f'{count} {name}' for name, count in by_reason)}"
    )
    numbers = {
        "netns": space.inum,
        "packets": packets,
        "packets_per_s": evidence.rate(packets),
        "packets_elsewhere": packets - lost[space.inum].total(),
        **dict(by_reason),
        "packets_kept": len(rows.entries),
        "kinds": len(kinds),
    }
    if kinds:
        numbers |= kinds[0][0] | _ends(rows.entries)
        sentence += _told(kinds, rows.entries, numbers)
    return Verdict(Severity.WARNING, sentence, numbers, (see_losses(space),))


def _told(kinds: list[tuple[Kind, int]], rows: Entries, numbers: dict[str, Any]) -> str:
    """What the headers say that were kept."""
    listed = ", ".join(f"{count} {_words(kind)}" for kind, count in kinds[:TOLD])
    more = f" and {plural(len(kinds) - TOLD, 'other kind')}" if len(kinds) > TOLD else ""
    of = "" if len(rows) == numbers["packets"] else f"of the {len(rows)} whose headers were kept, "
    return (
        f"; {of}{listed}{more}; {numbers['src_packets']} come from {numbers['src']}, {numbers['dst_packets']} go to "
        f"{numbers['dst']}; the first is {end(numbers['first_src'], numbers['first_sport'])} > "
        f"{end(numbers['first_dst'], numbers['first_dport'])}"
    )


def _kinds(losses: Losses) -> list[tuple[Kind, int]]:
    """Reason, protocol, TCP flags, hook, and what the kernel says, and how many packets are alike, the commonest first."""
    columns = (losses.reason, losses.entries["protonum"], losses.tcp_flags, losses.hook, losses.text)
    return [(_kind(*alike), count) for alike, count in Counter(zip(*map(np.ndarray.tolist, columns), strict=True)).most_common()]


def _kind(reason: int, protonum: int, flags: int, hook: int, text: bytes) -> Kind:
    """Hook and flags are those of a packet found bad on arrival; an entry that could not be confirmed has none."""
    bad = reason in (DropReason.INVALID, DropReason.ERROR)
    names = [name for bit, name in enumerate(TCP_FLAGS) if flags >> bit & 1]
    return {
        "reason": reason_name(reason),
        "proto": protocol_name(protonum),
        "tcp_flags": "+".join(names) if names and protonum == TCP else None,
        "hook": NF_HOOKS[hook] if bad and hook < len(NF_HOOKS) else None,
        "kernel_says": printable(text) or None,
    }


def _words(kind: Kind) -> str:
    """Like: invalid tcp RST at prerouting (bad checksum)."""
    hook, said = kind["hook"] and f"at {kind['hook']}", kind["kernel_says"] and f"({kind['kernel_says']})"
    return " ".join(filter(None, (kind["reason"], kind["proto"], kind["tcp_flags"], hook, said)))


def _ends(rows: Entries) -> dict[str, Any]:
    """The commonest source and the commonest destination, and the tuple of the first packet."""
    ends: dict[str, Any] = {}
    for name in ("src", "dst"):
        groups = divide(rows, (name,))
        most = groups.largest(1)[0]
        ends |= {name: key(rows[groups.first[most]], name), f"{name}_packets": int(groups.counts[most])}
    first = rows[rows["seen_ns"].argmin()]
    known = ("src", "sport", "dst", "dport") if first["protonum"] in WITH_PORTS else ("src", "dst")
    return ends | {f"first_{name}": key(first, name) if name in known else None for name in ("src", "sport", "dst", "dport")}


RULE = Rule("unexplained", judge)
