"""Which losses does no other rule explain?"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, cast

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import RESOLVED, Evidence, loss_name
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import see_losses
from ctobserve.diagnosis.rules.tuples import address, end, port
from ctobserve.diagnosis.rules.words import during, hidden, plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.event import FOUND_BAD, Events
from ctobserve.model import NF_HOOKS, TCP, TCP_FLAGS, WITH_PORTS, Entries, pick, printable, protocol_name

LISTED = 3  # kinds in the sentence; the rest is a number


class PacketKind(NamedTuple):
    """What packets are alike in. Hook and flags are those of a packet found bad on arrival; other losses have none."""

    reason: str
    proto: str
    tcp_flags: str | None
    hook: str | None
    kernel_says: str | None


def judge(evidence: Evidence) -> RuleResult:
    """Asked with what the verdicts of all other rules leave: each such packet is a reason to warn. Resolved clashes cost none."""
    rows = pick(evidence.losses, evidence.losses["reason"] != RESOLVED)
    beyond = sum(evidence.not_kept.values(), Counter[str]())
    packets = len(rows)
    if not packets:
        return _beyond(evidence, beyond) if beyond else hidden(evidence)
    (inum, most), *_ = Counter(rows["entry"]["netns"].tolist()).most_common()
    namespace, kinds, ends = evidence.namespace(inum), _kinds(rows), _ends(rows["entry"]) | _devices(rows)
    by_reason = Counter(map(loss_name, rows["reason"].tolist()))
    numbers: VerdictEvidence = {
        "netns": inum,
        "packets": packets,
        "packets_per_s": None if beyond else evidence.rate(packets),
        "packets_elsewhere": packets - most,
        **_by_reason(by_reason),
        "packets_not_kept": beyond.total(),
        "kinds": len(kinds),
        "reason": kinds[0][0].reason,
        "proto": kinds[0][0].proto,
        "tcp_flags": kinds[0][0].tcp_flags,
        "hook": kinds[0][0].hook,
        "kernel_says": kinds[0][0].kernel_says,
        **ends,
    }
    often = f"in {evidence.duration_s:.1f} s" if beyond else during(evidence, packets)
    sentence = (
        f"{plural(packets, 'packet')} lost or INVALID {often} that no other verdict explains, most in {namespace.label}: "
        f"{_listed(by_reason)}; {_in_words(kinds, ends)}"
    )
    if beyond:
        sentence += f"; of {plural(beyond.total(), 'packet')} more only the reason was kept: {_listed(beyond)}"
    return Verdict(Severity.WARNING, sentence, numbers, (see_losses(namespace),))


def _beyond(evidence: Evidence, reasons: Counter[str]) -> Verdict:
    """Packets beyond those kept, where other verdicts explain all that were: worth knowing, as the others warn already."""
    packets = reasons.total()
    namespace = evidence.namespace(max(evidence.not_kept, key=lambda inum: evidence.not_kept[inum].total()))
    sentence = (
        f"of {plural(packets, 'packet')} lost or INVALID {during(evidence, packets)} only the reason was kept, most in "
        f"{namespace.label}: {_listed(reasons)}; whether other verdicts explain them cannot be told"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "packets_not_kept": packets,
        "packets_not_kept_per_s": evidence.rate(packets),
        **_by_reason(reasons),
    }
    return Verdict(Severity.NOTICE, sentence, numbers, (see_losses(namespace),))


def _by_reason(reasons: Counter[str]) -> VerdictEvidence:
    """The commonest first. The words for reasons are keys of the evidence."""
    return cast(VerdictEvidence, dict(reasons.most_common()))


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in reasons.most_common())


def _in_words(kinds: list[tuple[PacketKind, int]], ends: VerdictEvidence) -> str:
    """What the headers say."""
    listed = ", ".join(f"{count} {_words(kind)}" for kind, count in kinds[:LISTED])
    more = f" and {plural(len(kinds) - LISTED, 'other kind')}" if len(kinds) > LISTED else ""
    others = f" and {plural(ends['devices'] - 1, 'other device')}" if ends["devices"] > 1 else ""
    by = f", by {ends['device']}{others}" if ends["device"] else ""
    return (
        f"{listed}{more}; {ends['src_packets']} come from {ends['src']}, {ends['dst_packets']} go to {ends['dst']}{by}; the "
        f"first is {end(ends['first_src'], ends['first_sport'])} > {end(ends['first_dst'], ends['first_dport'])}"
    )


def _kinds(losses: Events) -> list[tuple[PacketKind, int]]:
    """Each with how many packets are of it, the commonest first."""
    columns = (losses["reason"], losses["entry"]["protonum"], losses["tcp_flags"], losses["hook"], losses["text"])
    alike = Counter(zip(*(column.tolist() for column in columns), strict=True))
    return [(_kind(*values), count) for values, count in alike.most_common()]


def _kind(reason: int, protonum: int, flags: int, hook: int, text: bytes) -> PacketKind:
    bad = reason in FOUND_BAD
    names = [name for bit, name in enumerate(TCP_FLAGS) if flags >> bit & 1]
    return PacketKind(
        reason=loss_name(reason),
        proto=protocol_name(protonum),
        tcp_flags="+".join(names) if names and protonum == TCP else None,
        hook=NF_HOOKS[hook] if bad and hook < len(NF_HOOKS) else None,
        kernel_says=printable(text) or None,
    )


def _words(kind: PacketKind) -> str:
    """Like: invalid tcp RST at prerouting (bad checksum)."""
    hook, said = kind.hook and f"at {kind.hook}", kind.kernel_says and f"({kind.kernel_says})"
    return " ".join(filter(None, (kind.reason, kind.proto, kind.tcp_flags, hook, said)))


def _ends(rows: Entries) -> VerdictEvidence:
    """The commonest source and the commonest destination, and the tuple of the first packet."""
    (src, src_packets), (dst, dst_packets) = _commonest(rows, "src"), _commonest(rows, "dst")
    first = rows[rows["seen_ns"].argmin()]
    with_ports = first["protonum"] in WITH_PORTS
    return {
        "src": src,
        "src_packets": src_packets,
        "dst": dst,
        "dst_packets": dst_packets,
        "first_src": address(first, "src"),
        "first_sport": port(first, "sport") if with_ports else None,
        "first_dst": address(first, "dst"),
        "first_dport": port(first, "dport") if with_ports else None,
    }


def _devices(losses: Events) -> VerdictEvidence:
    """The device of most of them: by which they came in or, where they came by none, were to leave."""
    devices = Counter(printable(one) for one in losses["device"].tolist() if one)
    return {"device": devices.most_common(1)[0][0] if devices else None, "devices": len(devices)}


def _commonest(rows: Entries, column: str) -> tuple[str, int]:
    """An address, and how many packets have it."""
    groups = divide(rows, (column,))
    most = groups.largest(1)[0]
    return address(rows[groups.first[most]], column), int(groups.counts[most])


RULE = Rule("unexplained", judge)
