"""What the lab's recordings hold, and the same rows as those of other connections."""

from __future__ import annotations

from contextlib import closing
from functools import cache
from typing import NamedTuple

import numpy as np

from ctobserve.capture.capture import Host, NamespaceState
from ctobserve.capture.recorded import RecordedView
from ctobserve.capture.store.reader import Fact, Reader
from ctobserve.clock import NS_PER_S, Clock
from ctobserve.event import EVENT, Events
from ctobserve.host.account import Account
from ctobserve.model import ENTRY, Entries, join
from ctobserve_lab.recordings import recording
from tests.scripted import CLOCK

FIRST_PORT, LAST_PORT = 32768, 60999  # net.ipv4.ip_local_port_range
ORIGINAL_SRC, ORIGINAL_DST, REPLY_SRC, REPLY_DST = range(4)  # as `addr` and `port` have them


class Real(NamedTuple):
    """A recording: its entries at the end and its events, as of the clock of scripted captures; namespaces as they ended."""

    host: Host
    entries: Entries
    events: Events
    states: dict[int, NamespaceState]
    accounts: tuple[dict[int, Account], dict[int, Account]]  # at the begin and at the end

    def netns(self, name: str) -> int:
        return next(inum for inum, state in self.states.items() if state.label == name)


@cache
def real(name: str) -> Real:
    with closing(Reader(recording(name))) as reader:
        view = RecordedView(reader)
        last = view.keyframes[-1]
        entries = reader.rows("entry", last.number, last.found.entries)
        chunks = [one for one in reader.told() if not isinstance(one, Fact) and one.kind == "event"]
        events = join([np.empty(0, EVENT), *(reader.chunk("event", one) for one in chunks)])
        states = {fact.found.inum: fact.found for fact in reader.all("namespace")}
        accounts = [fact.found for fact in reader.all("accounts")]
        clock = view.clock()
        begin_ns = view.begin_ns
    moved(entries, clock, begin_ns)
    moved(events["entry"], clock, begin_ns)
    return Real(view.host, entries, events, states, (accounts[0], accounts[-1]))


def moved(entries: Entries, clock: Clock, begin_ns: int) -> None:
    """To the other clock: who had so long to live still has."""
    left = clock.remaining_ticks(entries["timeout"], entries["seen_ns"]) * CLOCK.hz // clock.hz
    seen = entries["seen_ns"].astype(np.int64) - begin_ns
    entries["seen_ns"] = CLOCK.monotonic_ns + np.maximum(seen, 0)
    entries["timeout"] = (CLOCK.jiffies + np.maximum(seen, 0) * CLOCK.hz // NS_PER_S + left).astype(np.uint32)


def others(entries: Entries, number: int, buckets: int) -> None:
    """The same connections with other clients and client ports, each of this number with entries of its own."""
    step = np.uint16(number * 7919 % (LAST_PORT - FIRST_PORT))
    for at in (ORIGINAL_SRC, REPLY_DST):
        ports = entries["port"][:, at].astype(np.int64)
        chosen = ports >= FIRST_PORT
        entries["port"][chosen, at] = (ports[chosen] - FIRST_PORT + step) % (LAST_PORT - FIRST_PORT) + FIRST_PORT
        entries["addr"][:, at, 3] = (entries["addr"][:, at, 3].astype(np.int64) + number * 3) % 250 + 1
        entries["addr"][:, at, 2] = (entries["addr"][:, at, 2].astype(np.int64) + number // 83) % 256
    there = entries["ct"] != 0
    entries["ct"][there] += np.uint64(number + 1) << np.uint64(32)
    place(entries, buckets)


def place(entries: Entries, buckets: int) -> None:
    """In a hash of this size: where follows from namespace and tuple, as in the kernel, but by FNV, mixed once more."""
    for at in (0, 1):
        names = ("addr", "port")
        parts = [
            entries["netns"][:, None],
            *(entries[name][:, 2 * at : 2 * at + 2] for name in names),
            entries["protonum"][:, None],
        ]
        mixed = np.full(len(entries), 0xCBF29CE484222325, np.uint64)
        for part in parts:
            for column in part.reshape(len(entries), -1).T:
                mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x100000001B3)
        mixed = (mixed ^ mixed >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
        entries["bucket"][:, at] = (mixed >> np.uint64(33)) % np.uint64(buckets)
        entries["chain"][:, at] = 1


def repeated(rows: Entries, times: int, buckets: int) -> Entries:
    parts = []
    for number in range(times):
        part = rows.copy()
        others(part, number, buckets)
        parts.append(part)
    return join([np.empty(0, ENTRY), *parts])
