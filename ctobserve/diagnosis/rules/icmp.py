"""Which ICMP errors were refused, about which packets, and why did those have no entry?"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.analysis.invalid import Like, begins_with, likeness
from ctobserve.diagnosis.evidence import Evidence, Explained, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.nft import insert_rule
from ctobserve.diagnosis.rules.past import Gone, left_before, listed, numbers_of, ways, where
from ctobserve.diagnosis.rules.paste import see_losses
from ctobserve.diagnosis.rules.tuples import CONNECTION, address, connection, port
from ctobserve.diagnosis.rules.words import NOT_WATCHED, hidden, plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.event import Events
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import ENTRY, ICMP, WITH_PORTS, Entries, Mask, NDArray, pick, protocol_name

MANY = 10  # errors: below it a few that came after the end of what they are about, as on any network
AGAIN = 2  # the same packet's sender did not heed the first
ON_THE_WAY = ("prerouting", "input", "forward", None)
# Types by number, as nft calls them: icmp_is_err and icmpv6_is_err.
NAMES4 = {3: "destination-unreachable", 4: "source-quench", 5: "redirect", 11: "time-exceeded", 12: "parameter-problem"}
NAMES6 = {1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem"}
DISTRUSTED = (4, 5)  # whoever sends such a redirect asks for a route, and nobody heeds a source quench (RFC 6633)
OTHER_END = b"outer daddr"  # how nf_conntrack_inet_error begins its complaint of an error that is sent to somebody else
TUNNELS = {4: "IPIP", 41: "IPv6 in IP", 47: "GRE", 50: "ESP"}


class Error(NamedTuple):
    """Its protocol, type and code."""

    protonum: int
    kind: int
    code: int

    @property
    def too_big(self) -> bool:
        """It tells the sender a smaller MTU of the path."""
        return (self.kind, self.code) == (3, 4) if self.protonum == ICMP else self.kind == 2

    @property
    def words(self) -> str:
        """As people call it."""
        if self.too_big:
            return "fragmentation needed" if self.protonum == ICMP else "packet too big"
        names = NAMES4 if self.protonum == ICMP else NAMES6
        return f"{names.get(self.kind, f'type {self.kind}').replace('-', ' ')} (code {self.code})"


def judge(evidence: Evidence) -> RuleResult:
    """Errors about packets of no known connection; what tells a smaller MTU is not heeded when it comes again for one of them."""
    if not evidence.invalid:
        return Unjudged(NOT_WATCHED)
    losses = evidence.losses
    rows = likeness(losses) == Like.ICMP_ERROR
    if not rows.any():
        return hidden(evidence)
    # Others may have more, and none of them told twice.
    heedless = rows.copy()
    heedless[rows] = _told(pick(losses, rows)) >= AGAIN
    namespace, *_ = where(evidence, heedless if heedless.any() else rows)
    mine: Mask = rows & (losses["entry"]["netns"] == namespace.inum)
    packets, elsewhere = pick(losses, mine), int(rows.sum() - mine.sum())
    errors = Counter(map(_error, packets["entry"]))
    inner = _inner(packets)
    flows = divide(inner, CONNECTION)
    most = inner[flows.first[flows.largest(1)[0]]]
    found = ways(namespace, packets)
    kinds = ", ".join(f"{count} {error.words}" for error, count in errors.most_common(3))
    again = int(_told(packets).max())
    sentence = (
        f"{plural(len(packets), 'ICMP error')} refused in {namespace.label} in {evidence.duration_s:.1f} s: {kinds}, about "
        f"packets of {plural(len(flows.counts), 'connection')} without an entry, {int(flows.counts.max())} of them about "
        f"{connection(most)}: {_why(namespace, packets, found)}"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "packets": len(packets),
        "packets_per_s": evidence.rate(len(packets)),
        "packets_elsewhere": elsewhere,
        "too_big": sum(count for error, count in errors.items() if error.too_big),
        "too_big_again": again,
        "inner_connections": len(flows.counts),
        "inner_proto": protocol_name(int(most["protonum"])),
        "inner_src": address(most, "src"),
        "inner_dst": address(most, "dst"),
        "inner_sport": port(most, "sport") if most["protonum"] in WITH_PORTS else None,
        "inner_dport": port(most, "dport") if most["protonum"] in WITH_PORTS else None,
        "src": address(packets[0]["entry"], "src"),
        **numbers_of(packets, found),
    }
    explains, looks = Explained(rows=rows), (see_losses(namespace),)
    if again < AGAIN and len(packets) < MANY:
        sentence += "; so few are normal"
        return Verdict(Severity.NOTICE, sentence, numbers, looks, explains)
    if again >= AGAIN:
        sentence += f"; its sender goes on sending too much, a path MTU black hole: {_dropped(namespace, set(errors))}"
    return Verdict(Severity.WARNING, sentence, numbers, looks + _accepting(namespace, set(errors)), explains)


def _error(packet: np.void) -> Error:
    number = port(packet, "dport")
    return Error(int(packet["protonum"]), number >> 8, number & 0xFF)


def _inner(packets: Events) -> Entries:
    """What they are about, as rows of entries of which only the tuple is known."""
    made = np.zeros(len(packets), ENTRY)
    tuples = packets["inner"]
    made["addr"][:, :2], made["port"][:, :2] = tuples["addr"], tuples["port"]
    made["l3num"], made["protonum"], made["netns"] = tuples["l3num"], tuples["protonum"], packets["entry"]["netns"]
    return made


def _told(packets: Events) -> NDArray[np.int64]:
    """Of each, how many errors about the same connection tell a smaller MTU."""
    flows = divide(_inner(packets), CONNECTION)
    return flows.sums(np.array([_error(packet).too_big for packet in packets["entry"]]))[flows.labels]


def _why(namespace: NamespaceEvidence, packets: Events, found: list[tuple[Gone, int]]) -> str:
    """Of those that had one, how it left; of the others, what is seen of the reason."""
    elsewhere = begins_with(packets["text"], (OTHER_END,))
    before = left_before(packets) & ~elsewhere
    rest = ~before & ~elsewhere
    parts = []
    if before.any():
        parts.append(f"{int(before.sum())} had one that left: {listed(found)}")
    if elsewhere.any():
        parts.append(f"{int(elsewhere.sum())} have one, of which neither end has the address that the error was sent to")
    if rest.any():
        which = "they" if rest.all() else str(int(rest.sum()))
        parts.append(f"{which} had none while this was watched{_hint(namespace, packets[rest])}")
    return "; ".join(parts)


def _hint(namespace: NamespaceEvidence, packets: Events) -> str:
    """What may keep what they are about out of the table."""
    tunnels = [TUNNELS[number] for number in np.unique(packets["inner"]["protonum"]).tolist() if number in TUNNELS]
    if tunnels:
        return f" (they are {' and '.join(tunnels)}, and who sent them may be tracked inside alone)"
    rules = namespace.ruleset
    if rules and rules.notracks:
        first = rules.notracks[0]
        return f" (a notrack rule in {first.family} {first.table} {first.chain} may keep them out of the table)"
    return " (notrack, another way out, or older than this observation)"


def _dropped(namespace: NamespaceEvidence, errors: set[Error]) -> str:
    """Why the errors are not heard, as far as the rules say."""
    rules = namespace.ruleset
    if rules is None or rules.unread:
        return "if a rule drops what is INVALID, the errors are lost here"
    families = {2 if error.protonum == ICMP else 10 for error in errors if error.too_big}
    found = [rule for rule in rules.refusing if rule.hook in ON_THE_WAY and any(map(rule.sees, families))]
    if not found:
        return "no rule here drops what is INVALID, so they are lost behind this host, or not heeded"
    first = found[0]
    return f"{first.family} {first.table} {first.chain} {'drops' if first.every_invalid else 'may drop'} what is INVALID"


def _accepting(namespace: NamespaceEvidence, errors: set[Error]) -> tuple[str, ...]:
    """Lines that let these errors pass before the rules that drop them, where those are known."""
    rules = namespace.ruleset or Ruleset()
    lines = []
    for rule in rules.refusing:
        if rule.hook not in ON_THE_WAY or not rule.handle:
            continue
        for words, l3num, names in (("icmp type", 2, NAMES4), ("icmpv6 type", 10, NAMES6)):
            kinds = sorted({error.kind for error in errors if (error.protonum == ICMP) == (l3num == 2)} & names.keys())
            kinds = [kind for kind in kinds if l3num != 2 or kind not in DISTRUSTED]
            # Each alone: iptables-nft reads a set in a rule as whatever ICMP there is, and saves it so.
            lines += [insert_rule(namespace, rule, f"{words} {names[kind]} accept") for kind in kinds if rule.sees(l3num)]
    return tuple(dict.fromkeys(line for line in lines if line))


RULES = (Rule("icmp_refused", judge),)
