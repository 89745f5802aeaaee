"""A document of a recording is that of what was recorded, for every command, and of any instant."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import pytest

from ctobserve.capture.capture import Capture, NamespaceState, PacketCount
from ctobserve.capture.event_filter import EventFilter
from ctobserve.capture.extensions import EXTENSION
from ctobserve.capture.filters import Filter
from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import NS_PER_S
from ctobserve.commands.sought import parse
from ctobserve.documents import buckets, drops, events, expectations, report, top, verify, why
from ctobserve.documents import list as table
from ctobserve.documents.request import Request
from ctobserve.errors import CtobserveError
from ctobserve.event import DestroyReason, DropReason, Kind
from ctobserve.host.account import Account
from ctobserve.host.counters import Reading
from ctobserve.host.ip_packets import IpPackets
from ctobserve.host.owner import Owner, OwnerKind
from ctobserve.host.queues import Queue
from ctobserve.host.ruleset import Ruleset
from ctobserve.host.whose import Whose
from ctobserve.model import IPS_EXPECTED, IPS_HELPER, join, pick
from ctobserve.render.jsonout import plain
from tests import scripted
from tests.scripted import CLOCK, FIDELITY, NETNS, NO_EVENTS, ScriptedCapture, reading
from tests.unit import test_collect, test_commands
from tests.unit.cases import CASES
from tests.unit.recordings import DURATION_S, at_end, capture_of, in_time, record, replay
from tests.unit.tables import entries, tcp

OTHER = 8
STATES = {
    NETNS: NamespaceState(
        NETNS, "blue", init=True, sysctls={"nf_conntrack_max": 10, "nf_conntrack_count": 7, "nf_conntrack_x": None}
    ),
    OTHER: NamespaceState(OTHER, "green", ("green", "g\udcff"), pid=4711, writable=frozenset(("nf_conntrack_max",))),
}


def busy(**more: Any) -> ScriptedCapture:
    """Entries that come, change and leave in two namespaces, losses of every reason, an address that is used again."""
    born = entries(40, ct=np.arange(1, 41) * 4096, sport=range(1000, 1040), netns=[NETNS, OTHER] * 20, bucket=(3, 5))
    again = entries(5, ct=born["ct"][:5], sport=range(2000, 2005))
    lost = entries(9, has_ct=0, sport=range(3000, 3009))
    by_whom = {"comm": b"nc\x1b[2J", "device": b"eth0"}
    happened = [
        scripted.events(Kind.INSERT, born, at_s=np.linspace(0.11, 0.91, 40)),
        join(
            [
                scripted.events(Kind.UPDATE, born[:9], at_s=2.1, changes=1 << 3),
                scripted.events(Kind.DESTROY, born[:7], at_s=2.2, reason=DestroyReason.TIMEOUT, detail=b"gc"),
                scripted.events(Kind.INSERT, again, at_s=2.3),
                scripted.events(Kind.DROP, lost, at_s=2.4, reason=list(DropReason), direction=255, **by_whom),
            ]
        ),
        scripted.events(Kind.RESOLVED, born[20:22], at_s=3.01),
        scripted.events(Kind.DESTROY, born[30:32], at_s=4.01, reason=DestroyReason.EARLY_DROP, cpu=3),
    ]
    given: dict[str, Any] = {
        "batches": in_time(join(happened)),
        "entries": join([tcp(90, ct=np.arange(1, 91), master=7), entries(9, ct=np.arange(500, 509), bucket=(2, 3), netns=OTHER)]),
        "states": STATES,
        "readings": [reading(), reading(drop=9, early_drop=2, insert_failed=2)],
        "accounted": [
            {NETNS: Account(90, IpPackets(10, 20))},
            {NETNS: Account(93, IpPackets(90, 25), (Queue(1, 2, 3, 4, "nc"),))},
        ],
        "rulesets": {NETNS: Ruleset(7, 0, 3, families=frozenset(("ip", "ip6")))},
        "counted": [PacketCount(NETNS, 0, 2, 17)],
    }
    return ScriptedCapture(**(given | more))


CAPTURES: dict[str, Callable[[], ScriptedCapture]] = {
    "busy": busy,
    "quiet": ScriptedCapture,
    "few": lambda: test_commands.made(held=NO_EVENTS),
    "lossy": lambda: busy(told=FIDELITY._replace(lost={"insert": 3, "destroy": 2}, uncertain_ns=10**9, unpaired=2, unread=1)),
    "helped": lambda: busy(entries=tcp(9, status=IPS_HELPER | IPS_EXPECTED), with_helper={}),
    "mixed": lambda: ScriptedCapture(
        batches=(*test_collect.BEFORE, test_collect.MIXED), entries=entries(9), states=test_collect.BOTH
    ),
}
Asks = Callable[[Capture, Stretch], Any]
HERE, HOSTS = Request(filter=Filter(netns=NETNS)), Request(limit=3)


def of(found: object) -> Any:
    """The document without who says it."""
    said = plain(found)
    said.pop("meta")
    return said


def rows(capture: Capture, stretch: Stretch, request: Request) -> list[Any]:
    wanted = EventFilter(list(Kind), request.filter)
    return [row for some in events.collect(capture, request, stretch, wanted) for row in plain(some)]


def counted(capture: Capture) -> list[Any]:
    return [plain(row) for row in events.collect_packets(capture, Request())]


def frames(capture: Capture, stretch: Stretch, by: tuple[str, ...], order: str) -> list[Any]:
    return [plain(frame) for frame in top.collect(capture, Request(), stretch, top.View(by, order, 1.0))]


def listed(capture: Capture, stretch: Stretch) -> Any:
    said = of(table.collect(capture, Request(), stretch))
    said["entries"].sort(key=json.dumps)
    return said


def of_host(view: Capture, _: Stretch) -> Any:
    return of(expectations.collect(view, None, None))


OF_A_STRETCH: dict[str, Asks] = {
    "report": lambda capture, stretch: of(report.collect(capture, Request(), stretch, invalid=True)),
    "report of one": lambda capture, stretch: of(report.collect(capture, HERE, stretch, invalid=True)),
    "why": lambda capture, stretch: of(why.collect(capture, Request(limit=200), stretch, parse("10.0.0.2"), True)),
    "why, one": lambda capture, stretch: of(why.collect(capture, HERE, stretch, parse("10.0.0.1:1002-:53/udp"), True)),
    "drops": lambda capture, stretch: of(drops.collect(capture, Request(), stretch)),
    "drops of one": lambda capture, stretch: of(drops.collect(capture, HERE, stretch)),
    "events": lambda capture, stretch: rows(capture, stretch, Request()),
    "events, three": lambda capture, stretch: rows(capture, stretch, HOSTS),
    "packets": lambda capture, stretch: (rows(capture, stretch, Request()), counted(capture)),
    "top": lambda capture, stretch: frames(capture, stretch, ("src",), "entries"),
    "top by lost": lambda capture, stretch: frames(capture, stretch, ("dport", "netns"), "lost"),
    "verify": lambda capture, stretch: of(verify.collect(capture, Request(), stretch)),
}
OF_AN_INSTANT: dict[str, Asks] = {
    "list": listed,
    "buckets": lambda capture, stretch: of(buckets.collect(capture, Request(), stretch)),
    "list --expect": of_host,
}


@pytest.mark.parametrize("asked", OF_A_STRETCH)
@pytest.mark.parametrize("name", CAPTURES)
def test_a_document_of_a_stretch_is_that_of_its_recording(tmp_path, name, asked):
    live, kept = CAPTURES[name](), CAPTURES[name]()
    live.follow()
    said = OF_A_STRETCH[asked](live, Stretch(DURATION_S))
    record(kept, tmp_path / "one", keyframe_s=60)
    assert OF_A_STRETCH[asked](replay(tmp_path / "one"), Stretch()) == said


@pytest.mark.parametrize("asked", OF_AN_INSTANT)
@pytest.mark.parametrize("name", CAPTURES)
def test_a_document_of_the_end_is_that_of_its_recording(tmp_path, name, asked):
    live = CAPTURES[name]()
    record(live, tmp_path / "one")
    assert OF_AN_INSTANT[asked](at_end(tmp_path / "one"), Stretch()) == OF_AN_INSTANT[asked](live, Stretch())


@pytest.mark.parametrize("name", CASES)
def test_what_a_rule_says_it_says_of_a_recording(tmp_path, name):
    evidence = CASES[name][0]
    live = capture_of(evidence)
    live.follow()
    said = OF_A_STRETCH["report"](live, Stretch(DURATION_S))
    record(capture_of(evidence), tmp_path / "one")
    assert OF_A_STRETCH["report"](replay(tmp_path / "one"), Stretch()) == said


def test_readings_of_the_table_on_the_way_change_no_document(tmp_path):
    for seconds in (60, 1):
        record(busy(), tmp_path / str(seconds), keyframe_s=seconds)
    for asked in (OF_A_STRETCH[name] for name in ("events", "top", "verify")):
        assert asked(replay(tmp_path / "1"), Stretch()) == asked(replay(tmp_path / "60"), Stretch())
    assert len(replay(tmp_path / "1").keyframes) > 4


def test_a_hash_that_is_resized_all_the_time_ends_no_recording(tmp_path):
    class Resized(ScriptedCapture):
        def snapshot(self, extensions: bool = False) -> NoReturn:
            raise CtobserveError("the hash table was resized")

    given = vars(busy())
    made = Resized(**{name: given[name] for name in ("batches", "entries", "states", "readings")})
    assert record(made, tmp_path / "one", keyframe_s=1).keyframes == 1
    found = replay(tmp_path / "one")
    assert not found.finished
    assert rows(found, Stretch(), Request()) == rows(busy(), Stretch(DURATION_S), Request())


POD = Owner(OwnerKind.POD, "web-0", "8a")


def test_a_namespace_has_its_name_from_its_first_event_on(tmp_path):
    class Coming(ScriptedCapture):
        def names(self) -> dict[int, str]:
            return super().names() if self.now_ns() > CLOCK.monotonic_ns else {}

    made = Coming(batches=in_time(scripted.events(Kind.INSERT, entries(1), at_s=2.5)), owners={NETNS: POD})
    record(made, tmp_path / "one")
    at_ns = CLOCK.monotonic_ns + round(2.5 * NS_PER_S)
    assert replay(tmp_path / "one", at_ns, at_ns).names() == {NETNS: "blue"}
    assert replay(tmp_path / "one", at_ns, at_ns).whose() == {NETNS: Whose("blue", POD)}
    assert replay(tmp_path / "one", at_ns - 1, at_ns).names() == {}


def test_each_namespace_keeps_its_rules_whichever_is_the_first(tmp_path):
    rules = {NETNS: Ruleset(7, 0, 3), OTHER: Ruleset(2, 1, 1)}
    record(ScriptedCapture(entries=tcp(3), states=STATES, rulesets=rules), tmp_path / "one")
    found = at_end(tmp_path / "one").namespaces(rules_of=rules)
    assert {inum: state.ruleset for inum, state in found.items()} == rules


def test_in_a_flood_the_table_is_read_more_often(monkeypatch, tmp_path):
    monkeypatch.setattr("ctobserve.capture.recorder.MOST_EVENTS", 20)
    assert record(busy(), tmp_path / "one").keyframes == 4


def test_a_table_at_a_late_instant_needs_no_memory_for_what_came_before(tmp_path):
    happened = np.repeat(scripted.events(Kind.UPDATE, entries(1), at_s=1), 40_000)
    record(ScriptedCapture(batches=in_time(happened), entries=entries(9)), tmp_path / "one")
    tracemalloc.start()
    at_end(tmp_path / "one")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < happened.nbytes


def instants() -> Iterator[float]:
    yield from np.random.default_rng(17).uniform(0, DURATION_S, 40).tolist()


@pytest.mark.parametrize("keyframe_s", [60, 1])
def test_the_table_at_any_instant_is_what_events_had_made_of_it(tmp_path, keyframe_s):
    record(busy(), tmp_path / "one", keyframe_s=keyframe_s)
    told = join(list(busy().batches))
    for at_s in instants():
        at_ns = CLOCK.monotonic_ns + round(at_s * NS_PER_S)
        plainly = ScriptedCapture(entries=busy().entries)
        plainly.follow()
        plainly.table.apply(pick(told, told["entry"]["seen_ns"] <= at_ns))
        found = replay(tmp_path / "one", at_ns, at_ns).table.entries()
        ours, theirs = ({one.tobytes() for one in nameless(rows)} for rows in (found, plainly.table.entries()))
        assert ours == theirs


def test_what_is_told_late_is_of_the_instant_at_which_it_happened(tmp_path):
    held = entries(3, ct=[1, 2, 3])
    late = join(
        [
            scripted.events(Kind.INSERT, entries(1, ct=9, sport=7), at_s=3.4),
            scripted.events(Kind.DESTROY, held[:1], at_s=2.6, reason=DestroyReason.TIMEOUT),
        ]
    )
    record(ScriptedCapture(batches=(NO_EVENTS, NO_EVENTS, late), entries=held), tmp_path / "one")
    for at_s, left in ((2.5, 3), (3.0, 2), (3.5, 3)):
        at_ns = CLOCK.monotonic_ns + round(at_s * NS_PER_S)
        assert len(replay(tmp_path / "one", at_ns, at_ns).table) == left


def nameless(rows: Any) -> Any:
    """Without what a recording keeps of addresses, and when it was looked at."""
    made = rows.copy()
    for name in ("ct", "master", "seen_ns"):
        made[name] = 0
    return made


def test_no_address_of_the_kernel_is_kept(tmp_path):
    secret = 0xFFFF_8881_DEAD_BEE0
    made = ScriptedCapture(
        batches=in_time(scripted.events(Kind.INSERT, entries(3, ct=secret + 256, master=secret), at_s=1)),
        entries=entries(2, ct=[secret, secret + 64]),
        touched=[secret],
    )
    record(made, tmp_path / "one")
    found = replay(tmp_path / "one")
    (born,) = watch(found, Stretch())
    first = 1 << 12 | secret & 4095  # of the page a number, and the place in it
    assert set(born["entry"]["master"].tolist()) == {first}
    assert set(found.table.entries()["ct"].tolist()) == {first, first + 64, first + 256}
    assert found.snapshot().touched.tolist() == [first]


def test_of_a_part_nothing_is_compared_with_counters_that_were_read_at_begin_and_end(tmp_path):
    record(busy(), tmp_path / "one")
    since = CLOCK.monotonic_ns + NS_PER_S
    found = of(drops.collect(replay(tmp_path / "one", since, since + 2 * NS_PER_S), Request(), Stretch()))
    assert found["by_reason"] == {reason.name.lower(): 1 for reason in DropReason} and not found["kernel_counters"]
    part = replay(tmp_path / "one", since, since + 2 * NS_PER_S)
    assert part.accounts() == {} and part.counters() == Reading({}, frozenset(STATES), CLOCK.monotonic_ns)
    mine = int((part.table.entries()["netns"] == NETNS).sum())
    assert part.namespaces(("nf_conntrack_count",))[NETNS].sysctls == {"nf_conntrack_count": mine}
    settable = {asked: part.namespaces((asked,))[OTHER].writable for asked in ("nf_conntrack_max", "nf_conntrack_count")}
    assert settable == {"nf_conntrack_max": {"nf_conntrack_max"}, "nf_conntrack_count": frozenset()}


def test_what_a_recording_lacks_is_said_in_one_line(tmp_path):
    record(busy(), tmp_path / "one")
    middle = replay(tmp_path / "one").begin_ns + 2 * NS_PER_S
    with pytest.raises(CtobserveError, match=r"has no reading of the table .* give --at 2023-11-14T22:13:25"):
        replay(tmp_path / "one", middle, middle).snapshot(extensions=True)
    with pytest.raises(CtobserveError, match="has no listings of the kernel's; give --source walk"):
        replay(tmp_path / "one").listing(NETNS, ReadVia.PROC)
    assert replay(tmp_path / "one").dumps() is None


def test_the_last_reading_has_what_the_kernel_prints(tmp_path):
    more = np.zeros(9, EXTENSION)
    more["packets"], more["has_counters"], more["has_ext"], more["use"] = 7, True, True, 1
    made = ScriptedCapture(entries=entries(9), extensions=more)
    record(made, tmp_path / "one")
    listing = table.collect_listing(at_end(tmp_path / "one"), Request(), Stretch())
    assert listing.extensions.tobytes() == more.tobytes() and len(listing.entries) == 9
