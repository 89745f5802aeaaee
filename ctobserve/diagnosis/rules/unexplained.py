"""Which losses does no other rule explain?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ctobserve.analysis.groups import divide, key
from ctobserve.capture.records import DropReason
from ctobserve.diagnosis.evidence import RESOLVED, Evidence, Losses, reason_name
from ctobserve.diagnosis.rules.paste import see_losses
from ctobserve.diagnosis.rules.words import during, end, hidden, plural
from ctobserve.diagnosis.verdict import Finding, Rule, Severity, Verdict
from ctobserve.model import NF_HOOKS, TCP, WITH_PORTS, Entries, printable, protocol_name

Kind = dict[str, str | None]
TOLD = 3  # kinds in the sentence; the rest is a number
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")  # byte 13 of a TCP header, lowest bit first


def judge(evidence: Evidence) -> Finding:
    """Asked with what the verdicts of all other rules leave: each such packet is a reason to warn. Resolved clashes cost none."""
    rows = evidence.losses.only(evidence.losses.reason != RESOLVED)
    beyond = sum(evidence.not_kept.values(), Counter[str]())
    packets = len(rows.entries)
    if not packets:
        return _beyond(evidence, beyond) if beyond else hidden(evidence)
    (inum, most), *_ = Counter(rows.entries["netns"].tolist()).most_common()
    space, kinds = evidence.space(inum), _kinds(rows)
    by_reason = Counter(map(reason_name, rows.reason.tolist()))
    numbers = {
        "netns": inum,
        "packets": packets,
        "packets_per_s": None if beyond else evidence.rate(packets),
        "packets_elsewhere": packets - most,
        **dict(by_reason.most_common()),
        "packets_not_kept": beyond.total(),
        "kinds": len(kinds),
        **kinds[0][0],
        **_ends(rows.entries),
    }
    often = f"in {evidence.duration_s:.1f} s" if beyond else during(evidence, packets)
    sentence = (
        f"{plural(packets, 'packet')} lost or INVALID {often} that no other verdict explains, most in {space.label}: "
        f"{_listed(by_reason)}; {_told(kinds, numbers)}"
    )
    if beyond:
        sentence += f"; of {plural(beyond.total(), 'packet')} more only the reason was kept: {_listed(beyond)}"
    return Verdict(Severity.WARNING, sentence, numbers, (see_losses(space),))


def _beyond(evidence: Evidence, reasons: Counter[str]) -> Verdict:
    """Packets beyond those kept, where other verdicts explain all that were: worth knowing, as the others warn already."""
    packets = reasons.total()
    space = evidence.space(max(evidence.not_kept, key=lambda inum: evidence.not_kept[inum].total()))
    sentence = (
        f"of {plural(packets, 'packet')} lost or INVALID {during(evidence, packets)} only the reason was kept, most in "
        f"{space.label}: {_listed(reasons)}; whether other verdicts explain them cannot be told"
    )
    rate = evidence.rate(packets)
    numbers = {"netns": space.inum, "packets_not_kept": packets, "packets_not_kept_per_s": rate, **dict(reasons.most_common())}
    return Verdict(Severity.NOTICE, sentence, numbers, (see_losses(space),))


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in reasons.most_common())


def _told(kinds: list[tuple[Kind, int]], numbers: Mapping[str, Any]) -> str:
    """What the headers say."""
    listed = ", ".join(f"{count} {_words(kind)}" for kind, count in kinds[:TOLD])
    more = f" and {plural(len(kinds) - TOLD, 'other kind')}" if len(kinds) > TOLD else ""
    return (
        f"{listed}{more}; {numbers['src_packets']} come from {numbers['src']}, {numbers['dst_packets']} go to "
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
