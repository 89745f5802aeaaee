"""The evidence that a report makes of a capture: counted by namespace and reason, and bounded, whatever comes."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from ipaddress import ip_network
from typing import Any

import numpy as np
import pytest

from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.diagnosis.collect import KEPT, SYSCTLS, Collector, Kept
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.event import NO_EVENTS, DestroyReason, DropReason, Events, Kind
from ctobserve.host.account import Account
from ctobserve.host.counters import Reading
from ctobserve.host.ip_packets import IpPackets
from ctobserve.host.queues import Queue
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import join
from tests.scripted import ScriptedCapture, events, reading
from tests.unit.cases import HELPED, expectations
from tests.unit.tables import CLOCK, NETNS, entries, tcp

OTHER = 8
BOTH = {
    NETNS: NamespaceState(NETNS, "blue", init=True),
    OTHER: NamespaceState(OTHER, "green", names=("green",), pid=12),
}


def test_a_flood_of_losses_keeps_so_many_of_each_reason_and_no_more():
    batch = np.repeat(events(Kind.DROP, entries(1)), 20_000)
    batch["entry"]["ct"] = np.arange(len(batch))
    batch["reason"] = np.where(np.arange(len(batch)) % 10 == 0, 7, 1)
    kept = Kept()
    tracemalloc.start()
    try:
        for _ in range(20):
            kept.add(batch)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept.rows()) == 2 * KEPT
    assert held < 3 * KEPT * batch.itemsize
    assert kept.rows()["entry"]["ct"][:3].tolist() == [1, 2, 3], "the first that came"


def collected(*batches: Events, only: Filter = Filter(), invalid: bool = True, **scripted: Any) -> Evidence:  # noqa: B008
    """Of a capture in which this happens; `scripted` as ScriptedCapture has it."""
    return judged(ScriptedCapture(batches, **({"states": BOTH} | scripted)), only, invalid)


def judged(capture: ScriptedCapture, only: Filter = Filter(), invalid: bool = True) -> Evidence:  # noqa: B008
    capture.follow()
    collector = Collector(capture, only, invalid)
    while len(batch := capture.step()):
        collector.add(batch)
    capture.wait(5.0)
    collector.end()
    return collector.evidence()


# What comes until the first reading is none of the incident.
BEFORE = (NO_EVENTS, NO_EVENTS)
MIXED = join(
    [
        events(Kind.INSERT, entries(3)),
        events(Kind.INSERT, entries(2, netns=OTHER, ct=[1, 2])),
        events(Kind.DROP, entries(4, src="10.9.9.9"), reason=DropReason.TABLE_FULL),
        events(Kind.DROP, entries(1, netns=OTHER), reason=DropReason.TABLE_FULL),
        events(Kind.DROP, entries(2), reason=99),
        events(Kind.RESOLVED, entries(2)),
        events(Kind.CONFIRM, entries(2), reason=DropReason.CLASH),
        events(Kind.UPDATE, entries(2)),
        events(Kind.DESTROY, entries(2), reason=DestroyReason.TIMEOUT),
        events(Kind.DESTROY, entries(1, netns=OTHER, ct=[1]), reason=DestroyReason.EARLY_DROP),
        events(Kind.DESTROY, entries(5, ct=np.arange(5) + 50), reason=DestroyReason.UNCONFIRMED),
    ]
)


def test_events_are_counted_by_namespace_and_reason():
    made = collected(*BEFORE, MIXED)
    assert made.inserts == {NETNS: 3, OTHER: 2}
    assert made.drops == {NETNS: {"table_full": 4, "reason_99": 2, "clash_resolved": 2}, OTHER: {"table_full": 1}}
    assert made.destroys == {NETNS: {"timeout": 2}, OTHER: {"early_drop": 1}}, "what never entered the table did not leave it"
    assert Counter(made.losses["kind"].tolist()) == {Kind.DROP: 7, Kind.RESOLVED: 2}
    assert made.duration_s == 5.0 and made.events_seen == len(MIXED)
    assert (made.narrowed, made.filtered, made.blind_to_losses, made.init.inum) == (False, False, False, NETNS)


def test_what_happened_until_the_first_reading_is_in_the_table_and_none_of_the_incident():
    made = collected(MIXED, NO_EVENTS)
    assert not made.inserts and not made.drops and not made.destroys and not len(made.losses)
    assert len(made.before) == 2 and made.events_seen == len(MIXED)


def test_of_one_namespace_nothing_of_others_is_counted_and_the_first_is_known():
    made = collected(*BEFORE, MIXED, only=Filter(netns=OTHER))
    assert made.inserts == {OTHER: 2}
    assert made.drops == {OTHER: {"table_full": 1}} and made.destroys == {OTHER: {"early_drop": 1}}
    assert set(made.losses["entry"]["netns"].tolist()) == set(made.entries["netns"].tolist()) == {OTHER}
    assert set(made.namespaces) == {OTHER} and made.init.inum == NETNS and made.narrowed and not made.filtered


def test_a_filter_hides_losses_and_entries_but_neither_inserts_nor_destroys():
    made = collected(*BEFORE, MIXED, only=Filter(src=ip_network("10.9.0.0/16")))
    assert made.drops == {NETNS: {"table_full": 4}} and len(made.losses) == 4
    assert made.inserts == {NETNS: 3, OTHER: 2} and made.destroys == {NETNS: {"timeout": 2}, OTHER: {"early_drop": 1}}
    assert not len(made.entries) and made.filtered and not made.narrowed


@pytest.mark.parametrize(
    ("only", "invalid", "blind"),
    [
        (Filter(mark=5), False, True),
        (Filter(state="ASSURED"), False, True),
        (Filter(zone=3), True, True),
        (Filter(zone=3), False, False),
        (Filter(proto=6), True, False),
    ],
)
def test_filters_that_no_packet_without_an_entry_passes(only, invalid, blind):
    assert collected(only=only, invalid=invalid).blind_to_losses is blind


def test_entries_that_died_before_the_table_are_kept_bounded_and_of_what_the_filter_lets_pass():
    died = events(Kind.DESTROY, entries(3, netns=[NETNS, NETNS, OTHER], sport=[1, 2, 3]), reason=DestroyReason.UNCONFIRMED)
    left = events(Kind.DESTROY, entries(2), reason=DestroyReason.TIMEOUT)
    assert collected(*BEFORE, join([died, left])).unconfirmed["entry"]["port"][:, 0].tolist() == [1, 2, 3]
    assert collected(*BEFORE, died, only=Filter(netns=OTHER)).unconfirmed["entry"]["port"][:, 0].tolist() == [3]
    assert collected(*BEFORE, died, only=Filter(sport=(2, 9))).unconfirmed["entry"]["port"][:, 0].tolist() == [2, 3]
    flood = np.repeat(died[:1], KEPT + 1000)
    assert len(collected(*BEFORE, flood, flood).unconfirmed) == KEPT


def test_expectations_are_those_of_the_namespaces_that_are_judged():
    rows = expectations(3).rows
    rows["netns"][2] = OTHER
    made = {"expected": rows, "helpers": HELPED}
    assert len(collected(**made).expected.rows) == 3 and collected(**made).expected.helpers == HELPED
    assert collected(only=Filter(netns=OTHER), **made).expected.rows["port"][:, 1].tolist() == [7002]


def test_victims_that_were_held_back_are_counted_with_the_last_reading():
    held = events(Kind.DESTROY, entries(2), reason=DestroyReason.EARLY_DROP)
    capture = ScriptedCapture(BEFORE, states=BOTH)
    capture.follow()
    collector = Collector(capture, Filter(), invalid=True)
    capture.held = held
    collector.end()
    assert collector.evidence().destroys == {NETNS: {"early_drop": 2}}


def test_what_comes_after_the_end_is_no_part_of_the_evidence():
    capture = ScriptedCapture(BEFORE, states=BOTH)
    capture.follow()
    collector = Collector(capture, Filter(), invalid=True)
    collector.end()
    capture.held = MIXED
    made = collector.evidence()
    assert not made.drops and made.events_seen == 0


def test_the_table_is_read_once_more_at_the_end():
    """As for timeouts, which no event tells."""
    before, now = tcp(3, left_s=100), tcp(4, left_s=200)
    made = collected(entries=before, kernel=now)
    assert len(made.before) == 3 and len(made.entries) == 4
    assert made.remaining_s.tolist() == [195] * 4
    assert made.clock.monotonic_ns == CLOCK.monotonic_ns + 5 * 10**9


def test_a_namespace_says_what_was_asked_and_what_its_counters_gained():
    known = dict.fromkeys(SYSCTLS, 5) | {"nf_conntrack_acct": None, "nf_conntrack_frag6_timeout": 60}
    states = {
        NETNS: BOTH[NETNS]._replace(sysctls=known),
        OTHER: BOTH[OTHER]._replace(sysctls=known),
        9: NamespaceState(9, "nobody's"),
    }
    made = collected(states=states, readings=[reading(drop=7), reading(drop=9, invalid=1)])
    blue, green, lost = made.namespaces.values()
    assert {name: count for name, count in blue.counters.items() if count} == {"drop": 2, "invalid": 1}
    assert green.counters is None, "no counter of it was read"
    assert blue.sysctls == green.sysctls == dict.fromkeys(set(SYSCTLS) - {"nf_conntrack_acct"}, 5)
    assert (blue.prefix, green.prefix, lost.prefix) == ((), ("ip", "netns", "exec", "green"), None), "we are in blue"
    assert (blue.init, green.init) == (True, False)


def test_rules_are_asked_for_only_where_there_are_many_entries():
    rows = join([entries(99), entries(100, netns=OTHER, ct=np.arange(100) + 9000)])
    made = collected(entries=rows, rulesets={NETNS: Ruleset(1), OTHER: Ruleset(2)})
    assert made.namespaces[NETNS].ruleset is None and made.namespaces[OTHER].ruleset == Ruleset(2)
    none_pass = collected(entries=rows, rulesets={OTHER: Ruleset(2)}, only=Filter(dst=ip_network("10.7.0.0/16")))
    assert none_pass.namespaces[OTHER].ruleset is None


def test_what_is_counted_beside_what_is_listed_and_what_passed_meanwhile():
    def accounts(count: int | None, v4: int) -> dict[int, Account]:
        return {NETNS: Account(count, IpPackets(v4, 1)), OTHER: Account(queues=(Queue(0, 7, 3),))}

    made = collected(
        *BEFORE,
        events(Kind.INSERT, entries(4, ct=np.arange(4) + 9000)),
        entries=entries(3),
        accounted=[accounts(5, 10), accounts(97, 17)],
        states={NETNS: BOTH[NETNS]._replace(sysctls={"nf_conntrack_count": 96}), OTHER: BOTH[OTHER], 9: NamespaceState(9, "red")},
        only=Filter(dst=ip_network("10.7.0.0/16")),
    )
    blue, green, red = made.namespaces.values()
    assert (blue.count, blue.listed, blue.unlisted, blue.unlisted_before) == (97, 7, 90, 2), "whatever the filter"
    assert blue.passed == IpPackets(7, 0)
    assert (green.listed, green.unlisted, green.unlisted_before, green.passed) == (0, None, None, None)
    assert green.account.queues == (Queue(0, 7, 3),)
    assert (red.account, red.listed, red.unlisted) == (Account(), 0, None)


def test_what_comes_or_leaves_while_namespaces_count_is_not_missing():
    """The count is read after the first of these, and the table is read before and behind it."""
    made = collected(entries=entries(9), kernel=entries(20), accounted=[{NETNS: Account(9)}, {NETNS: Account(12)}])
    assert (made.namespaces[NETNS].listed, made.namespaces[NETNS].unlisted) == (20, 0)


@pytest.mark.parametrize(
    ("scripted", "only", "asked"),
    [
        ({}, Filter(netns=OTHER), {OTHER}),
        ({}, Filter(), {NETNS}),
        ({"entries": entries(1, netns=OTHER)}, Filter(netns=OTHER), set()),
        ({"entries": entries(1, netns=OTHER)}, Filter(), {NETNS}),
        ({"batches": MIXED}, Filter(), set()),
    ],
)
def test_where_nothing_is_tracked_rules_may_say_why(scripted, only, asked):
    happened = [*BEFORE, scripted.pop("batches")] if "batches" in scripted else []
    made = collected(*happened, only=only, rulesets={NETNS: Ruleset(1), OTHER: Ruleset(2)}, **scripted)
    assert {inum for inum, one in made.namespaces.items() if one.ruleset} == asked


def readings(*cookies: dict[int, int]) -> list[Reading]:
    """Of namespaces with these cookies, in turn."""
    return [Reading({(inum, cookie, 0): Counter(drop=0) for inum, cookie in now.items()}) for now in cookies]


@pytest.mark.parametrize(
    ("afterwards", "cookies", "label"),
    [
        ({}, {}, "green (ended)"),
        ({OTHER: BOTH[OTHER]._replace(label="red")}, {OTHER: 3}, "green, then red"),
        ({OTHER: BOTH[OTHER]}, {OTHER: 2}, "green"),
    ],
)
def test_what_a_namespace_was_called_that_is_no_more(afterwards, cookies, label):
    """Its number may be another's by now, which the cookie says."""
    batch = events(Kind.DROP, entries(1, netns=OTHER), reason=DropReason.TABLE_FULL)
    capture = ScriptedCapture([*BEFORE, batch], states=BOTH, readings=readings({NETNS: 1, OTHER: 2}, {NETNS: 1} | cookies))
    capture.follow()
    collector = Collector(capture, Filter(), invalid=True)
    collector.add(capture.step())
    capture.states = {NETNS: BOTH[NETNS]} | afterwards
    collector.end()
    assert collector.evidence().namespace(OTHER).label == label


def test_what_makes_the_capture_doubtful_is_part_of_the_evidence():
    capture = ScriptedCapture(states=BOTH)
    blind = ("nf_ct_helper_log",)
    capture.told = capture.told._replace(lost={"insert": 3, "drop": 4}, uncertain_ns=1_500_000_000, unread=2, not_attached=blind)
    made = judged(capture)
    assert (made.events_lost, made.uncertain_s, made.unread, made.not_attached) == (7, 1.5, 2, blind)


def test_others_in_which_nothing_is_tracked_are_asked_for_their_rules_those_with_most_packets():
    many = {inum: NamespaceState(inum, str(inum)) for inum in range(100, 120)}
    rules = dict.fromkeys((*many, NETNS, OTHER), Ruleset(1, 0, 0))

    def accounts(packets: int) -> dict[int, Account]:
        passing = {inum: Account(0, IpPackets((inum - 99) * packets, 0)) for inum in many}
        return {**passing, NETNS: Account(3, IpPackets(9 * packets, 0)), OTHER: Account(0, IpPackets(packets // 2, 0))}

    made = collected(*BEFORE, entries=entries(3), states={**BOTH, **many}, rulesets=rules, accounted=[accounts(0), accounts(10)])
    asked = {inum for inum, one in made.namespaces.items() if one.ruleset}
    assert asked == set(range(112, 120)), "eight, and none with entries, none with a few packets"
    assert made.asked == NETNS


def test_who_took_entries_out_is_kept_whatever_the_filter():
    gone = events(Kind.DESTROY, entries(4), pid=7, comm=b"conntrack")
    gone["reason"] = [DestroyReason.FLUSHED, DestroyReason.DELETED, DestroyReason.TIMEOUT, DestroyReason.UNCONFIRMED]
    made = collected(*BEFORE, gone, only=Filter(dst=ip_network("10.7.0.0/16")))
    assert sorted(made.removed["reason"].tolist()) == [DestroyReason.DELETED, DestroyReason.FLUSHED]
    assert made.destroys == {NETNS: {"flushed": 1, "deleted": 1, "timeout": 1}}


def test_a_namespace_that_nobody_can_enter_is_there_with_its_entries():
    rows = np.concatenate([entries(3), entries(2, netns=77, ct=[900, 901])])
    made = collected(*BEFORE, entries=rows)
    assert (made.namespaces[77].label, made.namespaces[77].count, made.namespaces[77].listed) == ("77", 2, 2)
    assert made.namespaces[77].prefix is None and made.namespaces[77].cap == made.init.own_limit
