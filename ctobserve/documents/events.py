"""ctobserve events: what happens, batch by batch, and packets counted by state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ctobserve.capture.capture import Capture
from ctobserve.capture.event_filter import EventFilter
from ctobserve.capture.watch import Stretch, watch
from ctobserve.documents.base import EventRows, doc
from ctobserve.documents.request import Request
from ctobserve.event import Events
from ctobserve.model import NF_HOOKS

# By enum ip_conntrack_info; replies are ESTABLISHED or RELATED like the packets they answer. INVALID is of our own making.
CTINFO = ("ESTABLISHED", "RELATED", "NEW", "ESTABLISHED", "RELATED", None, None, "UNTRACKED", "INVALID")


@dataclass(frozen=True)
class PacketsRow:
    """Packets of one conntrack state at one hook since the start."""

    event: str = doc("`packets`")
    ts: str = doc("ISO 8601, UTC, ns: when they were counted")
    netns: int | None = doc("inode number; null: unknown")
    hook: str = doc("prerouting, input, forward, output or postrouting")
    state: str = doc("NEW, ESTABLISHED, RELATED, INVALID or UNTRACKED; replies as the packets that they answer")
    packets: int = doc("so many")


def collect(capture: Capture, request: Request, stretch: Stretch, wanted: EventFilter) -> Iterator[EventRows]:
    """Those wanted of each batch, which may be none of it; it ends with the stretch, or when `--limit` is reached."""
    left = request.limit
    for events in _all(capture, stretch):
        rows = wanted.select(events)[:left]
        yield EventRows(rows, capture.started)
        if left is not None:
            left -= len(rows)
            if not left:
                return


def _all(capture: Capture, stretch: Stretch) -> Iterator[Events]:
    """And at the end what was held back."""
    yield from watch(capture, stretch)
    yield capture.drain()


def collect_packets(capture: Capture, request: Request) -> tuple[PacketsRow, ...]:
    """The counts of packets until now, in the order of namespace, hook, state."""
    counts: Counter[tuple[int, int, str]] = Counter()
    for netns, hook, state, packets in capture.packets():
        if request.filter.netns in (None, netns):
            counts[netns, hook, CTINFO[state] or str(state)] += packets
    clock = capture.clock()
    ts = clock.iso(clock.monotonic_ns)
    return tuple(
        PacketsRow("packets", ts, netns or None, NF_HOOKS[hook], state, packets)
        for (netns, hook, state), packets in sorted(counts.items())
    )
