"""One sentence on a connection: why its entry left, why its packet was refused, or that it lives on; only what is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.connections import LIVES, RESOLVED, UNSEEN, Connection, Told
from ctobserve.analysis.invalid import Like, likeness
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.rules.tuples import address, connection, end, port, protocol
from ctobserve.diagnosis.rules.words import plural
from ctobserve.event import FOUND_BAD, TEXT_BYTES, DestroyReason, Events, Kind, destroy_name, drop_name
from ctobserve.model import (
    IPS_ASSURED,
    IPS_FIXED_TIMEOUT,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    UNKNOWN_CHAIN,
    WITH_PORTS,
    pick,
    printable,
    shown_before,
    tcp_state_name,
)

BAD = frozenset(map(drop_name, FOUND_BAD))
REFUSED: Mapping[str, str] = {
    "table_full": "the table was full, and nothing was found that could be evicted",
    "no_memory": "the kernel had no memory for an entry",
    "clash": "another entry had its tuple already",
    "chaintoolong": "a chain that it had to enter was too long",
    "dying": "its entry was deleted before it was in the table",
    "confirmed": "another copy of its packet was there first",
    "helper": "its helper dropped the packet",
}

IN_A_SUM: Mapping[str, str] = {LIVES: "live on", UNSEEN: "left unseen"}


class Around(NamedTuple):
    """What is known beside its events. `left_s`: seconds until its entry expires; `sure`: no packet can have put that off since.

    `idle_s`: how long no packet had come when it timed out, None: not known; `timeout`: the sysctl of that value. `lost`:
    records, and events that are forgotten. `invalid`: INVALID packets were looked for.
    """

    left_s: int | None
    sure: bool
    idle_s: int | None
    timeout: str | None
    lost: int
    invalid: bool


def fate(one: Connection, around: Around) -> str:
    """One sentence."""
    if one.end == LIVES:
        said = _living(one.last, around)
    elif one.end == UNSEEN:
        said = _unseen(around)
    elif one.ended is None and one.end in BAD:
        return f"It has no entry: {_bad(one.packets)}{_past(one.packets)}."
    elif one.ended is None:
        said = _refused(one, around)
    else:
        said = _left(one, around)
    return f"{said}{_packets(one)}."


def answer(typed: str, told: Told, looked_through: str) -> str:
    """How all of them ended, or that there is none, and what was looked through."""
    count = told.ends.total()
    if not count:
        return f"Nothing matched {typed}: {looked_through}."
    ends = ", ".join(f"{number} {IN_A_SUM.get(word, word)}" for word, number in told.ends.most_common())
    packets = ", ".join(f"{word} {number}" for word, number in told.packets.most_common())
    lost = f"; {plural(told.packets.total(), 'packet')} refused or INVALID ({packets})" if packets else ""
    return f"{plural(count, 'connection')} matched {typed}: {ends}{lost}; {looked_through}."


def looked_through(events: int, entries: int, since: str, lost: int, forgotten: int) -> str:
    """What the answer rests on."""
    missing = f"{plural(lost, 'record')} lost, so that something may be missing" if lost else "none lost"
    kept = f", of which {forgotten} of these connections' are forgotten" if forgotten else ""
    return f"looked through {plural(events, 'event')} since {since} ({missing}){kept} and {plural(entries, 'entry', 'entries')}"


def translated(entry: np.void) -> tuple[str, ...]:
    """What NAT made of which side of a whole entry."""
    sides = (("destination", "dst", "dport", "reply_src", "reply_sport"), ("source", "src", "sport", "reply_dst", "reply_dport"))
    found = []
    for side, host, number, to_host, to_number in sides:
        before, after = (_end(entry, *columns) for columns in ((host, number), (to_host, to_number)))
        if before != after:
            found.append(f"{side} {before} became {after}")
    return tuple(found) if entry["has_ct"] == 1 else ()


def _end(entry: np.void, host: str, number: str) -> str:
    return end(address(entry, host), port(entry, number) if entry["protonum"] in WITH_PORTS else None)


def _state(entry: np.void) -> str:
    """TCP's state; of another protocol how far it was answered."""
    status = int(entry["status"])
    state = tcp_state_name(int(entry["protonum"]), int(entry["tcp_state"]))
    if state is None:
        state = "ASSURED" if status & IPS_ASSURED else "REPLIED" if status & IPS_SEEN_REPLY else "UNREPLIED"
        return f"{protocol(entry)} state {state}"
    return state


def _unanswered(entry: np.void) -> str:
    if entry["status"] & IPS_SEEN_REPLY:
        return ""
    return f", no answer from {_end(entry, 'reply_src', 'reply_sport')} was ever seen"


def _living(entry: np.void, around: Around) -> str:
    status = int(entry["status"])
    if status & IPS_OFFLOAD:
        return "It lives: a flow table has its packets, and keeps it alive"
    words = [_state(entry)]
    if status & IPS_ASSURED and protocol(entry) == "tcp":
        words.append("assured")
    if around.sure and around.left_s == 0:
        words.append("expired and about to be removed")
    elif around.left_s:
        words.append(f"{'' if around.sure else 'at least '}{around.left_s:,} s left")
    return f"It lives: {', '.join(words)}{_unanswered(entry)}"


def _unseen(around: Around) -> str:
    return f"It is in the table no more, and how it left was not seen{_missing(around)}"


def _missing(around: Around) -> str:
    return f": {plural(around.lost, 'event')} lost or forgotten" if around.lost else ""


def _refused(one: Connection, around: Around) -> str:
    packets = one.packets
    if one.end == destroy_name(DestroyReason.UNCONFIRMED):
        if (one.events["detail"] == RESOLVED).any():
            return "It lost a clash, and its packet went on with the entry that won: nothing is lost"
        if around.lost:
            return f"It died before it was in the table, and why was not seen{_missing(around)}"
        unless = "not conntrack" if around.invalid else "unless that was INVALID, which was not looked for"
        return f"It died before it was in the table: a rule, routing or a queue took its packet, {unless}"
    why = REFUSED.get(one.end, one.end)
    if len(packets):
        chains = packets["entry"]["chain"][-1]
        longest = max((int(nodes) for nodes in chains if nodes not in (0, UNKNOWN_CHAIN)), default=0)
        why += f" ({longest} nodes)" if one.end == "chaintoolong" and longest else ""
        why += f": {words}" if (words := _words(packets)) else ""
    count = len(packets)
    return f"It was refused: {why}{f'; {count} packets of it were' if count > 1 else ''}"


def _left(one: Connection, around: Around) -> str:
    """Why it left the table."""
    assert one.ended is not None
    event, entry = one.events[one.ended], one.last
    detail = shown_before(bytes(event["detail"]).decode(errors="replace"))
    aside = f" ({detail})" if detail else ""
    state = _state(entry)
    by = f" by {printable(bytes(event['comm']))}[{event['pid']}]" if event["pid"] else ""
    if one.end == "timeout":
        if entry["status"] & IPS_FIXED_TIMEOUT:
            return f"It timed out{aside} in {state}: its timeout was fixed, and no packet put it off{_unanswered(entry)}"
        by_sysctl = f" ({around.timeout})" if around.timeout else ""
        idle = "" if around.idle_s is None else f": no packet for {around.idle_s:,} s{by_sysctl}"
        return f"It timed out{aside}{idle} in {state}{_unanswered(entry)}"
    if one.end == "early_drop":
        room = connection(event["evictor"]) if event["evictor"]["l3num"] else "another, which was not seen,"
        return f"It was evicted to make room for {room} in the full table"
    said: Mapping[str, str] = {
        "gc_early_drop": "It was evicted by the gc worker, as the table was nearly full",
        "deleted": f"It was deleted{by or _by_port(event)}",
        "flushed": f"It was flushed{by or _by_port(event)}",
        "tcp_reuse": f"A new connection took its tuple: it was over, in {state}",
        "netns_exit": "It went with its network namespace",
        "ipvs": "It went with its IPVS connection",
    }
    return said.get(one.end, f"It left in {state}{f': {detail}' if detail else ', why is not known'}{by and f',{by}'}")


def _by_port(event: np.void) -> str:
    return f" by netlink port {event['portid']}" if event["portid"] else ", by whom is not known"


def _packets(one: Connection) -> str:
    """Packets that were refused or INVALID while it had an entry, before that, and since it left."""
    if not one.entered:
        return ""
    drops = one.events["kind"] == Kind.DROP
    since = np.arange(len(drops)) > (len(drops) if one.ended is None else one.ended)
    return _lost(pick(one.events, drops & ~since), "") + _lost(pick(one.events, drops & since), "since then ")


def _lost(packets: Events, when: str) -> str:
    bad = np.isin(packets["reason"], FOUND_BAD)
    said = f"; {when}{_bad(pick(packets, bad))}" if bad.any() else ""
    reasons = Counter(map(drop_name, packets["reason"][~bad].tolist()))
    listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    return f"{said}; {when}{plural(reasons.total(), 'packet')} of it refused ({listed})" if reasons else said


def _bad(packets: Events) -> str:
    """INVALID packets, and what the kernel says of the last, or what it is most like."""
    words = _words(packets) or f"most like {Like(likeness(packets[-1:])[0]).name.lower()}"
    return f"{plural(len(packets), 'packet')} of it INVALID{', the last' if len(packets) > 1 else ''}: {words}"


def _words(packets: Events) -> str:
    """The kernel's own, of the last."""
    return printable(bytes(packets["text"][-1]).strip(), 4 * TEXT_BYTES)


def _past(packets: Events) -> str:
    """The entry that their connection had."""
    left = packets["left"][-1]
    if not left["at_ns"]:
        return ""
    ago_s = (int(packets["entry"]["seen_ns"][-1]) - int(left["at_ns"])) / NS_PER_S
    state = tcp_state_name(int(left["original"]["protonum"]), int(left["tcp_state"]))
    by = f" by {printable(bytes(left['comm']))}[{left['pid']}]" if left["pid"] else ""
    return f"; its entry left {ago_s:.1f} s before ({destroy_name(int(left['reason']))}{f' in {state}' if state else ''}{by})"
