"""Which INVALID packets pass NAT, and leave with an address that was to be translated?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ctobserve.diagnosis.evidence import Evidence, Explained, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.nft import Chain, add_chain, add_rule, add_table
from ctobserve.diagnosis.rules.past import (
    FEW_ARE_NORMAL,
    Gone,
    connections,
    left_before,
    listed,
    longer,
    numbers_of,
    unfinished,
    ways,
    where,
)
from ctobserve.diagnosis.rules.paste import look_inside, see_losses
from ctobserve.diagnosis.rules.tuples import address, connection, original
from ctobserve.diagnosis.rules.words import NOT_WATCHED, among, counted, during, hidden, plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.event import NO_DIRECTION, DropReason
from ctobserve.model import IPS_DST_NAT, IPS_SRC_NAT, NF_HOOKS, Entries, Mask, NDArray, join, pick

SEVERAL = 5  # packets: below it the last of a connection that was slow to end, as behind any NAT
TABLE = "invalid_out"
PASSES, SENT_PASSES = ("prerouting", "forward", "postrouting"), ("output", "postrouting")
OUTPUT = NF_HOOKS.index("output")
FORWARDED = Chain(TABLE, "forwarded", "forward", "filter")
SENT = Chain(TABLE, "sent", "output", "filter")


def leaking(evidence: Evidence) -> Mask:
    """INVALID packets whose connection was translated, in the direction in which their source was: NAT leaves them as they are.

    Of one whose entry left that is known by the entry; else by others of its namespace, which are translated from this source and
    to this destination. Not where a rule ends the way of all that is INVALID.
    """
    losses = evidence.losses
    bad = (losses["reason"] == DropReason.INVALID) & (losses["direction"] == NO_DIRECTION) & ~evidence.past_us
    leaks: Mask = bad & (_was_translated(losses["entry"], losses["left"]) | (~left_before(losses) & _as_others(evidence)))
    for way, stops in _ways_out(evidence, leaks):
        if stops is None:
            leaks &= ~way
    return leaks


def judge(evidence: Evidence) -> RuleResult:
    """Where the rules cannot say whether these packets leave, it says so."""
    if not evidence.invalid:
        return Unjudged(NOT_WATCHED)
    rows = leaking(evidence)
    if not rows.any():
        return hidden(evidence)
    surely = np.zeros(len(rows), np.bool_)
    told: dict[int, str] = {}
    for way, words in _ways_out(evidence, rows):
        inum = int(evidence.losses["entry"]["netns"][way][0])
        told[inum] = words if words == NOTHING_STOPS else told.get(inum, words or "")
        surely |= way if words == NOTHING_STOPS else False
    # What still comes of a connection that is over is normal behind any NAT.
    surely &= unfinished(evidence.losses) | ~left_before(evidence.losses)
    # Of namespaces where it is certain the one with the most.
    namespace, certain, _ = where(evidence, surely if surely.any() else rows)
    mine: Mask = rows & (evidence.losses["entry"]["netns"] == namespace.inum)
    packets, elsewhere = pick(evidence.losses, mine), int(rows.sum() - mine.sum())
    stops = told[namespace.inum]
    found, known = ways(namespace, packets), pick(packets, left_before(packets))
    hosts = sorted({address(one, "src") for one in packets["entry"][:: max(1, len(packets) // 50)]})
    others = f" and {plural(len(hosts) - 1, 'other')}" if len(hosts) > 1 else ""
    sentence = (
        f"{plural(len(packets), 'INVALID packet')} passed the NAT of {namespace.label} untranslated "
        f"{among(evidence, DropReason.INVALID) or during(evidence, len(packets))}, with the source {hosts[0]}{others}: {stops}; "
        f"the first is {connection(packets[0]['entry'])}"
    )
    if len(known):
        sentence += f"; entries of {plural(connections(known), 'connection')} had left before: {listed(found)}"
    if len(known) < len(packets):
        sentence += f"; of {len(packets) - len(known)} no entry was seen to leave, but others translate their sources"
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        **counted(evidence, len(packets), DropReason.INVALID),
        "packets_elsewhere": elsewhere,
        "connections": connections(known),
        "packets_without_past": len(packets) - len(known),
        "hook": NF_HOOKS[int(packets["hook"][0])],
        **numbers_of(packets, found),
        **original(packets[0]["entry"]),
    }
    chain = SENT if (packets["hook"] == OUTPUT).all() else FORWARDED
    do = (
        see_losses(namespace),
        look_inside(namespace, "nft", "list", "ruleset"),
        add_table(namespace, TABLE),
        add_chain(namespace, chain),
        add_rule(namespace, chain, "ct", "state", "invalid", "drop"),
        *longer(namespace, [(gone, count) for gone, count in found if _is_short(gone)]),
    )
    sure = surely.any() and certain.sum() >= SEVERAL
    if not sure and stops == NOTHING_STOPS:
        sentence += f"; {FEW_ARE_NORMAL}"
    return Verdict(Severity.WARNING if sure else Severity.NOTICE, sentence, numbers, do, Explained(rows=rows))


NOTHING_STOPS = "no rule drops what is INVALID, so they leave as they are, and whoever gets them knows no such connection"


def _ways_out(evidence: Evidence, rows: Mask) -> Iterator[tuple[Mask, str | None]]:
    """These rows of the losses by namespace, address family, and whether the host itself sent them; and what stops those."""
    entries, sent = evidence.losses["entry"], evidence.losses["hook"] == OUTPUT
    ways = np.stack([entries["netns"].astype(np.int64), entries["l3num"], sent], axis=1)
    for way in np.unique(ways[rows], axis=0):
        inum, l3num, by_host = way.tolist()
        yield rows & (ways == way).all(axis=1), _stops(evidence.namespace(inum), l3num, SENT_PASSES if by_host else PASSES)


def _stops(namespace: NamespaceEvidence, l3num: int, passes: tuple[str, ...]) -> str | None:
    """What the rules say of packets on their way out through these hooks; None where they all end before."""
    rules = namespace.ruleset
    if rules is None or rules.unread:
        return "whether a rule drops them is not known, as the rules could not be read"
    on_the_way = [rule for rule in rules.refusing if rule.sees(l3num) and (rule.hook is None or rule.hook in passes)]
    if any(rule.every_invalid and rule.hook for rule in on_the_way):
        return None
    if not on_the_way:
        return NOTHING_STOPS
    first = on_the_way[0]
    return f"whether they left cannot be told, as {first.family} {first.table} {first.chain} may drop some of them"


def _was_translated(packets: Entries, left: NDArray[np.void]) -> Mask:
    """The source was translated in this packet's direction, by SNAT of the original or DNAT that the reply takes back."""
    before, status = left["original"], left["status"]
    source = (packets["addr"][:, 0] == before["addr"][:, 0]).all(axis=1) & (packets["port"][:, 0] == before["port"][:, 0])
    target = (packets["addr"][:, 1] == before["addr"][:, 1]).all(axis=1) & (packets["port"][:, 1] == before["port"][:, 1])
    original_way = source & target & (status & IPS_SRC_NAT != 0)
    answers = (packets["addr"][:, 1] == before["addr"][:, 0]).all(axis=1) & (packets["port"][:, 1] == before["port"][:, 0])
    itself = (packets["addr"][:, 0] == before["addr"][:, 1]).all(axis=1) & (packets["port"][:, 0] == before["port"][:, 1])
    reply_way = answers & ~itself & (status & IPS_DST_NAT != 0) & (left["at_ns"] != 0)
    found: Mask = original_way | reply_way
    return found


def _as_others(evidence: Evidence) -> Mask:
    """Packets from a source and to a destination that entries of the same namespace translate."""
    known = join([pick(rows, rows["status"] & IPS_SRC_NAT != 0) for rows in (evidence.entries, evidence.before)])
    packets = evidence.losses["entry"]
    # Of a million entries few have the source of such a packet: only those are compared whole.
    known = pick(known, np.isin(_halves(known, 0), _halves(packets, 0)))
    if not len(known):
        return np.zeros(len(packets), np.bool_)
    return np.isin(_hosts(packets, 0), _hosts(known, 0)) & np.isin(_hosts(packets, 1), _hosts(known, 1))


def _halves(rows: Entries, at: int) -> NDArray[np.uint64]:
    """The lower eight bytes of one end's address and the upper ones, mixed: equal where the address is."""
    halves: NDArray[np.uint64] = np.ascontiguousarray(rows["addr"][:, at]).view("<u8")
    return halves[:, 0] ^ halves[:, 1]


def _hosts(rows: Entries, at: int) -> NDArray[np.void]:
    """Namespace, family and address of one end of each, as so many bytes."""
    made = np.zeros(len(rows), [("netns", "<u4"), ("l3num", "u1"), ("addr", "u1", (16,))])
    made["netns"], made["l3num"], made["addr"] = rows["netns"], rows["l3num"], rows["addr"][:, at]
    hosts: NDArray[np.void] = made.view("V21")
    return hosts


def _is_short(gone: Gone) -> bool:
    """Ended by a timeout below the default."""
    timeout = gone.timeout
    return bool(timeout and timeout.default and timeout.value is not None and timeout.value < timeout.default)


RULES = (Rule("untranslated", judge),)
