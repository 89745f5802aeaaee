"""The kinds of hours that a host of a fleet has: captures made of rows of real recordings, so many and with such other ports.

All are of one host with three namespaces, whose limit and hash are the same, unless that is what is wrong. In each the table is
as full at the end as at the begin; what a host gains it gains between two recordings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from ctobserve.analysis.drops import COUNTED, sums
from ctobserve.capture.capture import NamespaceState
from ctobserve.clock import NS_PER_S
from ctobserve.event import DestroyReason, DropReason, Events, Kind
from ctobserve.host.counters import NAMES, Reading
from ctobserve.model import Entries, join, pick
from tests.fleet.real import ORIGINAL_DST, ORIGINAL_SRC, REPLY_DST, REPLY_SRC, others, place, real, repeated
from tests.scripted import CLOCK, ScriptedCapture, events
from tests.unit.recordings import in_time

LIMIT, BUCKETS, FEW_BUCKETS = 4096, 16384, 512
HEALTHY = {"small": 4, "middle": 10, "large": 24}  # how often the connections of a real host
CROWDED, LEAST, MOST, CHURNED = 64, 30, 330, 40  # the same: in a small hash, of a growing host at first and at last, per service
REFUSED, RACES_LOST, CPUS = 113, 41, 2
LIVED_S = 1.5
MOST_GOING = 6  # a host that has more connections has them for longer
ABUSER, RESOLVER, SERVICE = (198, 51, 100, 77), (10, 96, 0, 10), (10, 20, 0, 80)
DNS_PORT, SERVICE_PORT = 53, 9200
CLIENT, SERVER = real("healthy").netns("client"), real("healthy").netns("server")
Make = Callable[[], ScriptedCapture]


def busy(times: int, buckets: int = BUCKETS, more: Events | None = None, full: Entries | None = None) -> ScriptedCapture:
    """The connections of the healthy host so often, and some of them again as they come and go.

    `more` happens beside them; the entries `full` are there all the time.
    """
    found = real("healthy")
    entries = repeated(found.entries, times, buckets)
    parts = [going(found.events, times + number, number, buckets) for number in range(min(max(times // 4, 1), MOST_GOING))]
    happened = join(parts if more is None else [*parts, more])
    entries = entries if full is None else join([entries, full])
    happened = pick(happened, np.argsort(happened["entry"]["seen_ns"], kind="stable"))
    happened["cpu"] = happened["entry"]["ct"] % CPUS
    counted = {inum: int(np.count_nonzero(entries["netns"] == inum)) for inum in found.states}
    return ScriptedCapture(
        batches=in_time(happened),
        entries=entries,
        readings=[counters(happened[:0]), counters(happened)],
        states={inum: with_sizes(state, buckets) for inum, state in found.states.items()},
        accounted=[{inum: one._replace(counted=counted[inum]) for inum, one in then.items()} for then in found.accounts],
        rulesets={inum: state.ruleset for inum, state in found.states.items() if state.ruleset},
        host=found.host,
        buckets=buckets,
    )


def going(happened: Events, number: int, turn: int, buckets: int) -> Events:
    """What happened to these connections, as others, and their end."""
    made = happened.copy()
    others(made["entry"], number, buckets)
    made["entry"]["seen_ns"] += np.uint64(turn % 8 * NS_PER_S // 10)
    return join([made, *ended(made)])


def ended(happened: Events) -> list[Events]:
    """They leave by their timeout."""
    left = pick(happened, happened["kind"] == Kind.INSERT)["entry"].copy()
    born = left["seen_ns"].copy()
    left["seen_ns"] += np.uint64(LIVED_S * NS_PER_S)
    made = events(Kind.DESTROY, left, reason=DestroyReason.TIMEOUT, born_ns=born)
    made["entry"]["seen_ns"] = left["seen_ns"]
    return [made]


def counters(happened: Events) -> Reading:
    """What the kernel counts of these, on each CPU."""
    found = {(inum, 1, cpu): Counter(dict.fromkeys(NAMES, 0)) for inum in real("healthy").states for cpu in range(CPUS)}
    for (inum, cpu), reasons in sums(happened).items():
        for reason, count in reasons.items():
            found[inum, 1, cpu].update(dict.fromkeys(COUNTED[reason], count))
    return Reading(found)


def with_sizes(state: NamespaceState, buckets: int) -> NamespaceState:
    return state._replace(sysctls={**state.sysctls, "nf_conntrack_max": LIMIT, "nf_conntrack_buckets": buckets})


def abused() -> ScriptedCapture:
    """One source fills the table, and packets of others and its own are refused."""
    times = HEALTHY["middle"]
    few = len(repeated(real("healthy").entries, times, BUCKETS)) // 2
    flood = repeated(real("greedy_source").entries, 12, BUCKETS)[: LIMIT - few]
    spread(flood)
    of_source(flood, ABUSER)
    losses = pick(real("table_full").events, np.arange(REFUSED) % len(real("table_full").events)).copy()
    of_source(losses["entry"], ABUSER)
    losses["entry"]["port"][:, ORIGINAL_SRC] = 40000 + np.arange(REFUSED)
    losses["entry"]["seen_ns"] = CLOCK.monotonic_ns + np.linspace(0.5, 3.5, REFUSED) * NS_PER_S
    losses["scanned"] = (8, 0, 0, 0)
    return busy(times, more=losses, full=flood)


def spread(flood: Entries) -> None:
    """Each with a tuple of its own."""
    at = np.arange(len(flood))
    for port in (ORIGINAL_SRC, REPLY_DST):
        flood["port"][:, port] = 1024 + at
    flood["ct"] = (at + 1) * 64 + (1 << 50)
    place(flood, BUCKETS)


def of_source(entries: Entries, source: tuple[int, ...]) -> None:
    entries["netns"] = CLIENT
    for at in (ORIGINAL_SRC, REPLY_DST):
        entries["addr"][:, at, :4] = source


def raced() -> ScriptedCapture:
    """Two questions leave at once from one port: of some races the kernel keeps both packets, of others one is lost."""
    found = real("udp_race").events.copy()
    entries = found["entry"]
    entries["netns"] = CLIENT
    for src, dst in ((ORIGINAL_SRC, ORIGINAL_DST), (REPLY_DST, REPLY_SRC)):
        entries["addr"][:, src, :4] = (10, 1, 0, 1)
        entries["addr"][:, dst, :4] = RESOLVER
        entries["port"][:, dst] = DNS_PORT
    place(entries, BUCKETS)
    resolved = np.flatnonzero(found["kind"] == Kind.RESOLVED)[:RACES_LOST]
    found["kind"][resolved], found["reason"][resolved] = Kind.DROP, DropReason.CLASH
    return busy(HEALTHY["middle"], more=join([found, *ended(found)]))


def churning() -> ScriptedCapture:
    """One service whose connections come and go."""
    base = real("healthy").events
    tcp = pick(base, (base["entry"]["protonum"] == 6) & (base["entry"]["netns"] == CLIENT)).copy()
    for addr in (ORIGINAL_DST, REPLY_SRC):
        tcp["entry"]["addr"][:, addr, :4] = SERVICE
        tcp["entry"]["port"][:, addr] = SERVICE_PORT
    return busy(HEALTHY["middle"], more=join([going(tcp, 1000 + turn, turn, BUCKETS) for turn in range(CHURNED)]))


def grown(share: float) -> Make:
    """The growing host, from its begin (0) to its end (1)."""
    return partial(busy, round(LEAST + share * (MOST - LEAST)))


KINDS: Mapping[str, Make] = {
    **{name: partial(busy, times) for name, times in HEALTHY.items()},
    "abused": abused,
    "raced": raced,
    "crowded": partial(busy, CROWDED, FEW_BUCKETS),
    "churning": churning,
}
