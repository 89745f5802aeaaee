"""The fields of an event beside its entry's (docs/json.md): which kinds have which, in what order, and when each is null."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ctobserve.analysis.invalid import Like, likeness
from ctobserve.clock import NS_PER_S, Clock
from ctobserve.documents.base import Labels
from ctobserve.event import (
    FOUND_BAD,
    HAS_COUNTERS,
    HAS_TEXT,
    NO_DIRECTION,
    TEXT_BYTES,
    Events,
    Kind,
    destroy_name,
    drop_name,
    entries_in,
    has_text,
)
from ctobserve.model import NF_HOOKS, TCP, TCP_FLAGS, TCP_STATES, Mask, pick, protocol_name
from ctobserve.render.columns import Numbers, column
from ctobserve.render.entry_fields import COUNT_FIELDS, OWNER, TUPLE_FIELDS, EntryView, PairView, TupleView, tuples_of
from ctobserve.render.fields import NUMBER, WORDS, Field, Member, Object, Rule, Type, bits_of, foreign, names_of

# IPCT_* bits, include/uapi/linux/netfilter/nf_conntrack_common.h
CHANGES = (
    "new",
    "related",
    "destroy",
    "reply",
    "assured",
    "protoinfo",
    "helper",
    "mark",
    "seqadj",
    "secmark",
    "label",
    "synproxy",
)
TEXT_CHARACTERS = 4 * TEXT_BYTES  # room for every byte escaped
REASONS = [name(number) for name in (destroy_name, drop_name) for number in range(256)]
KINDS = {kind.value: kind.name.lower() for kind in Kind}


class EventView(EntryView):
    """Events on their way out, and their entries."""

    def __init__(self, events: Events, clock: Clock, owners: Labels | None = None) -> None:
        # Side by side: columns are read from them much faster than from rows four times as long.
        super().__init__(entries_in(events, slice(None)), clock, owners=owners)
        self.events = events
        self._clock = clock

    def only(self, which: Mask) -> EventView:
        """Those rows alone."""
        return EventView(pick(self.events, which), self._clock, self.owners)

    @property
    def master(self) -> TupleView:
        """Of what `expected` says."""
        return tuples_of(self.events["master"])

    @property
    def expected(self) -> Mask:
        """Their master is known."""
        return self.events["master"]["l3num"].astype(np.bool_)

    @property
    def times(self) -> list[str]:
        """When, as ISO 8601."""
        return [self._clock.iso(ns) for ns in self.entries["seen_ns"].tolist()]

    @property
    def ages_s(self) -> list[float]:
        """Seconds since the insert, as far as `born_ns` is known."""
        ages = self.entries["seen_ns"].astype(np.int64) - self.events["born_ns"].astype(np.int64)
        return [round(ns / NS_PER_S, 3) for ns in ages.tolist()]

    @property
    def bad(self) -> Mask:
        """Packets found INVALID, or refused as an ICMP error."""
        return np.isin(self.events["reason"], FOUND_BAD)

    @property
    def before_s(self) -> list[float]:
        """Seconds since the entry left that the packet's connection had."""
        since = self.entries["seen_ns"].astype(np.int64) - self.events["left"]["at_ns"].astype(np.int64)
        return [round(ns / NS_PER_S, 3) for ns in since.tolist()]

    @property
    def reasons(self) -> Numbers:
        """Places in REASONS."""
        reasons: Numbers = self.events["reason"] + (self.events["kind"] == int(Kind.DROP)) * np.uint16(256)
        return reasons


def _column(name: str) -> Callable[[EventView], Any]:
    return lambda view: view.events[name]


def _unless_zero(name: str, says: str) -> Rule[EventView]:
    return Rule(says, lambda view: view.events[name] != 0)


EVENT = Field(
    "event", "what happened: `insert`, `confirm`, `update`, `destroy` or `drop`",
    names_of([KINDS.get(number, str(number)) for number in range(256)]), _column("kind"),
)  # fmt: skip
TS: Field[EventView] = Field("ts", "when; ISO 8601, UTC, ns", Type(str, column, list), lambda view: view.times)
OWNER_TOLD: Field[EventView] = Field(
    OWNER.name, OWNER.says, OWNER.type, OWNER.values, OWNER.known,
    Rule("losses in `drops`", lambda view: np.full(len(view), view.owners is not None)),
)  # fmt: skip
VERDICT: Field[EventView] = Field(
    "verdict", "`accept` or `drop`: what __nf_conntrack_confirm said of the packet", names_of(("accept", "drop")),
    lambda view: (view.events["reason"] != 0).view(np.uint8),
)  # fmt: skip
SINCE_ALLOC_NS = Field(
    "since_alloc_ns", "ns since the entry was allocated", NUMBER, _column("since_alloc_ns"),
    _unless_zero("since_alloc_ns", "its allocation was seen"),
)  # fmt: skip
CHANGED = Field(
    "changes", "`reply`, `assured`, `protoinfo` (TCP state), `helper`, `mark`, `seqadj`, `secmark`, `label`, `synproxy`",
    bits_of(CHANGES, ","), _column("changes"),
)  # fmt: skip
REASON: Field[EventView] = Field(
    "reason", "why the entry left; of a drop, why the packet was lost", names_of(REASONS), lambda view: view.reasons
)
DETAIL = Field(
    "detail", "what more is known of the reason", WORDS, _column("detail"),
    Rule("there is more to say", lambda view: has_text(view.events, "detail")),
)  # fmt: skip
AGE_S: Field[EventView] = Field(
    "age_s", "s since its insert", Type(float, lambda ages: column(list(map(str, ages))), list), lambda view: view.ages_s,
    _unless_zero("born_ns", "its insert was seen and is among the latest 131,072 that are remembered"),
)  # fmt: skip
COUNTED: Rule[EventView] = Rule("accounting is on", lambda view: view.events["has"] & HAS_COUNTERS != 0)
PACKETS: Object[EventView] = Object(
    "packets", "packets of it", COUNT_FIELDS, lambda view: PairView(view.events["packets"]), COUNTED
)
BYTES: Object[EventView] = Object(
    "bytes", "bytes in those packets", COUNT_FIELDS, lambda view: PairView(view.events["bytes"]), COUNTED
)
PORTID = Field(
    "portid", "netlink port of who asked for it", NUMBER, _column("portid"), _unless_zero("portid", "netlink asked for it")
)
PID = Field("pid", "its number", NUMBER, _column("pid"))
COMM = Field("comm", "name of the thread", foreign(), _column("comm"))
PROCESS: Object[EventView] = Object(
    "process", "who asked for the removal; of a drop, who sent the packet", (PID, COMM), lambda view: view,
    _unless_zero("pid", "a process did it"),
)  # fmt: skip
MADE_ROOM_FOR: Object[EventView] = Object(
    "made_room_for", "new tuple for which early_drop evicted it", TUPLE_FIELDS, lambda view: tuples_of(view.events["evictor"]),
    Rule("the reason is early_drop and that call was seen", lambda view: view.events["evictor"]["l3num"] != 0),
)  # fmt: skip
CPU = Field("cpu", "where it happened", NUMBER, _column("cpu"))
DIRECTION = Field(
    "direction", "of the packet: `original` or `reply`", names_of(("original", "reply")), _column("direction"),
    Rule("it belongs to a known entry, or would have made one", lambda view: view.events["direction"] != NO_DIRECTION),
)  # fmt: skip
INTERFACE = Field("interface", "device of the packet", foreign(), _column("device"), _unless_zero("ifindex", "it has one"))
HOOK = Field(
    "hook", "where the packet was: `prerouting`, `input`, `forward`, `output` or `postrouting`",
    names_of(NF_HOOKS), _column("hook"),
    Rule("the reason is invalid or error", lambda view: view.bad),
)  # fmt: skip
TEXT: Field[EventView] = Field(
    "text", "the kernel's own words", foreign(TEXT_CHARACTERS), lambda view: np.char.strip(view.events["text"]),
    Rule("it is INVALID, or its helper dropped it, and the kernel said why", lambda view: view.events["has"] & HAS_TEXT != 0),
)  # fmt: skip
LIKE: Field[EventView] = Field(
    "like",
    "what such a packet is most like: " + ", ".join(f"`{like.name.lower()}`" for like in Like),
    names_of(["", *(like.name.lower() for like in Like)]), lambda view: likeness(view.events),
    Rule("the reason is invalid or error", lambda view: view.bad),
)  # fmt: skip
TCP_FLAGS_SET = Field(
    "tcp_flags", "flags in its TCP header", bits_of(TCP_FLAGS, "+"), _column("tcp_flags"),
    Rule("it is INVALID and of TCP", lambda view: view.bad & (view.entries["protonum"] == TCP)),
)  # fmt: skip
INNER_PROTO: Field[TupleView] = Field(
    "proto", "its protocol", names_of([protocol_name(number) for number in range(256)]), lambda view: view.protonum
)
INNER: Object[EventView] = Object(
    "inner", "tuple of the packet that an ICMP error is about", (INNER_PROTO, *TUPLE_FIELDS),
    lambda view: tuples_of(view.events["inner"]),
    Rule("it is an ICMP error whose inner headers could be read", lambda view: view.events["inner"]["l3num"] != 0),
)  # fmt: skip
LEFT_REASON: Field[EventView] = Field("reason", "why it left", names_of(REASONS), lambda view: view.events["left"]["reason"])
BEFORE_S: Field[EventView] = Field(
    "before_s", "how long before the packet, s", Type(float, lambda ages: column(list(map(str, ages))), list),
    lambda view: view.before_s,
)  # fmt: skip
LEFT_STATE: Field[EventView] = Field(
    "tcp_state", "state that its TCP tracker had then", names_of(TCP_STATES), lambda view: view.events["left"]["tcp_state"],
    Rule("it was an entry of TCP", lambda view: view.events["left"]["original"]["protonum"] == TCP),
)  # fmt: skip
LEFT_ORIGINAL: Object[EventView] = Object(
    "original", "tuple of its original direction", TUPLE_FIELDS, lambda view: tuples_of(view.events["left"]["original"])
)
LEFT_PID: Field[EventView] = Field("pid", "its number", NUMBER, lambda view: view.events["left"]["pid"])
LEFT_COMM: Field[EventView] = Field("comm", "name of the thread", foreign(), lambda view: view.events["left"]["comm"])
LEFT_PROCESS: Object[EventView] = Object(
    "process", "who asked for the removal", (LEFT_PID, LEFT_COMM), lambda view: view,
    Rule("a process did", lambda view: view.events["left"]["pid"] != 0),
)  # fmt: skip
LEFT: Object[EventView] = Object(
    "left",
    "the last entry with this packet's tuple, or with the inner one, which is no more",
    (LEFT_REASON, BEFORE_S, LEFT_STATE, LEFT_ORIGINAL, LEFT_PROCESS), lambda view: view,
    Rule("it was seen to leave and is among the latest 25,000 that did", lambda view: view.events["left"]["at_ns"] != 0),
)  # fmt: skip


def _scanned(at: int, name: str, says: str) -> Field[EventView]:
    return Field(name, says, NUMBER, lambda view: view.events["scanned"][:, at])


SCANNED_FIELDS = (
    _scanned(0, "assured", "nodes of assured entries"),
    _scanned(1, "other_netns", "nodes of other namespaces"),
    _scanned(2, "other", "nodes of entries that are dying, or gone since"),
    _scanned(3, "empty_buckets", "buckets without a node"),
)
LOOKED_AT: Object[EventView] = Object(
    "looked_at", "what early_drop met in the 8 buckets that it scanned", SCANNED_FIELDS, lambda view: view,
    # Eight buckets never hold nothing at all, not even emptiness.
    Rule("the reason is table_full and the hash was found", lambda view: view.events["scanned"].any(axis=1)),
)  # fmt: skip

# What each kind tells beside its entry, in the order of JSON.
OF_KIND: dict[Kind, tuple[Member[EventView], ...]] = {
    Kind.CONFIRM: (VERDICT, SINCE_ALLOC_NS),
    Kind.UPDATE: (CHANGED,),
    Kind.DESTROY: (REASON, DETAIL, AGE_S, PACKETS, BYTES, PORTID, PROCESS, MADE_ROOM_FOR, CPU),
    Kind.DROP: (REASON, CPU, DIRECTION, PROCESS, INTERFACE, HOOK, TEXT, LOOKED_AT, LIKE, TCP_FLAGS_SET, INNER, LEFT),
}
