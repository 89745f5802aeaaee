"""What the full screen looks at, without a screen: a capture that goes on, and a recording at any instant."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from ctobserve.capture.capture import Fidelity, NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.capture.recorded import RecordedCapture
from ctobserve.capture.store.joined import opened
from ctobserve.capture.watch import Stretch
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents import verify
from ctobserve.documents.request import Request
from ctobserve.documents.verdicts import collect_verdicts
from ctobserve.errors import CtobserveError
from ctobserve.event import NO_EVENTS, DestroyReason, DropReason, Events, Kind
from ctobserve.host.owner import Owner, OwnerKind
from ctobserve.host.whose import Whose
from ctobserve.model import UDP, join
from ctobserve.programs.hooks import Purpose
from ctobserve.terminal.entries import MOST, listed, of_group, sought_of
from ctobserve.terminal.judging import AGAIN_NS, GONE_NS
from ctobserve.terminal.live import RECENT, Live
from ctobserve.terminal.page import Looks, page
from ctobserve.terminal.proving import proved
from ctobserve.terminal.recorded import SEEING, Recorded
from ctobserve.terminal.seen import Seen
from ctobserve_lab.recordings import recording
from ctobserve_lab.scenarios import SCENARIOS
from tests.scripted import CLOCK, NETNS, ScriptedCapture, events
from tests.unit.tables import entries, tcp
from tests.unit.terminals import WISH, live, recorded, settled

TABLE = join(
    [entries(12, src="10.0.0.1", bucket=[3, 4]), tcp(8, src="10.0.0.2", ct=np.arange(1, 9) * 4096, dport=443, bucket=[3, 5])]
)
LIMITED = {
    NETNS: NamespaceState(
        NETNS, "blue", init=True, sysctls={"nf_conntrack_max": 20, "nf_conntrack_count": 20, "nf_conntrack_acct": 1}
    )
}


def losing(at_s: float, count: int = 5) -> Events:
    """Packets that found the table full."""
    lost = entries(count, src="10.0.0.9", ct=np.zeros(count, np.uint64), has_ct=2)
    return events(Kind.DROP, lost, reason=DropReason.TABLE_FULL, at_s=at_s)


class Timed(ScriptedCapture):
    """What happens comes when its time has come, so many seconds after the start."""

    def __init__(
        self, happening: Sequence[tuple[float, Events]], states: Mapping[int, NamespaceState] = LIMITED, **given: Any
    ) -> None:
        super().__init__(**{"entries": TABLE, "states": states} | given)
        self._happening = deque(happening)

    def step(self) -> Events:
        now_s = (self.now_ns() - CLOCK.monotonic_ns) / NS_PER_S
        parts = [NO_EVENTS]
        while self._happening and self._happening[0][0] <= now_s:
            parts.append(self._happening.popleft()[1])
        return self._told(join(parts))


def until(engine: Live, holds: Callable[[Seen], object]) -> Seen:
    """What is seen when that is so, within so many turns as are in ten minutes."""
    for _ in range(30_000):
        seen = engine.turn()
        if seen is not None and holds(seen):
            return seen
    raise AssertionError("it never came")


def grave(seen: Seen) -> set[str]:
    return {one.row.id for one in seen.verdicts.standing if one.grave} if seen.verdicts else set()


def test_the_first_look_is_at_once_and_the_next_after_an_interval():
    engine = live(Timed([(0.2, losing(0.2))]))
    first = engine.turn()
    assert first is not None and first.moment.frame.entries == 20 and first.verdicts is None
    second = until(engine, lambda seen: seen.moment is not first.moment)
    assert second.moment.frame.lost_by_reason == {"table_full": 5} and second.moment.frame.interval_s == pytest.approx(
        1, abs=0.05
    )
    assert second.moment.frame.full_in_s_by_netns == {str(NETNS): 0.0}


def test_verdicts_come_stay_and_go():
    engine = live(Timed([(at / 2, losing(at / 2)) for at in range(30)]))
    found = until(engine, lambda seen: "table_full" in grave(seen))
    (one,) = (one for one in found.verdicts.standing if one.row.id == "table_full")
    assert one.row.severity is Severity.CRITICAL and found.verdicts.of_s == pytest.approx(3, abs=0.2)
    again = until(engine, lambda seen: seen.at_ns > found.at_ns + AGAIN_NS + NS_PER_S)
    assert next(one for one in again.verdicts.standing if one.row.id == "table_full").since == one.since, "since it came first"
    gone = until(engine, lambda seen: seen.verdicts and "table_full" not in grave(seen))
    (late,) = (one for one in gone.verdicts.standing if one.row.id == "table_full")
    assert late.gone is not None and late.gone > one.since and not late.grave
    left = until(engine, lambda seen: "table_full" not in {one.row.id for one in seen.verdicts.standing})
    assert left.at_ns - gone.at_ns > GONE_NS - NS_PER_S


SPREAD = entries(20, src="10.0.0.1", bucket=np.arange(40).reshape(20, 2))
EVICTED = (Kind.DESTROY, DestroyReason.EARLY_DROP)


@pytest.mark.parametrize(
    ("what", "says"), [((Kind.DROP, DropReason.TABLE_FULL), "5 packets lost"), (EVICTED, "5 entries evicted")]
)
def test_nothing_is_called_healthy_once_something_speaks_against_it(what, says):
    kind, reason = what
    roomy = {NETNS: LIMITED[NETNS]._replace(sysctls={"nf_conntrack_max": 200, "nf_conntrack_count": 20})}
    happened = entries(5, src="10.0.0.9", ct=np.arange(1, 6) << 20)
    engine = live(Timed([(at, events(kind, happened, reason=reason, at_s=at)) for at in range(5, 40)], roomy, entries=SPREAD))
    before = until(engine, lambda seen: seen.verdicts)
    assert "healthy" in {one.row.id for one in before.verdicts.standing} and not before.verdicts.doubt
    seen = until(engine, lambda seen: seen.moment.frame.lost_per_s or seen.moment.frame.gone_per_s)
    assert seen.verdicts.doubt == says and "healthy" not in {one.row.id for one in seen.verdicts.standing}
    words = "\n".join(one.text for one in page(seen, seen, Looks(), 80, 24))
    assert f"JUDGING   healthy until {before.verdicts.at[11:19]}Z; since then {says}" in words and "HEALTHY" not in words
    judged = until(engine, grave)
    assert judged.at_ns - seen.at_ns < 2 * NS_PER_S, "and it is judged anew at once"


def test_nothing_is_called_healthy_while_a_namespace_is_full():
    roomy = {NETNS: LIMITED[NETNS]._replace(sysctls={"nf_conntrack_max": 40, "nf_conntrack_count": 20})}
    came = events(Kind.INSERT, entries(20, src="10.0.0.9", ct=np.arange(1, 21) << 20), at_s=5)
    engine = live(Timed([(5, came)], roomy, entries=SPREAD))
    seen = until(engine, lambda seen: seen.moment.frame.entries == 40)
    assert seen.verdicts.doubt == "blue is full"


def test_a_judgement_that_cannot_be_had_is_passed_over():
    class Resizing(ScriptedCapture):
        def follow(self) -> None:
            if self._followed and self.now_ns() - CLOCK.monotonic_ns < 8 * NS_PER_S:
                raise CtobserveError("the hash table was resized during every attempt to read it")
            super().follow()

    seen = until(live(Resizing(entries=TABLE, states=LIMITED)), lambda seen: seen.verdicts)
    assert seen.at_ns - CLOCK.monotonic_ns > 12 * NS_PER_S


def test_the_table_is_proved_at_the_start_and_when_somebody_wants_it_and_again(monkeypatch):
    capture = ScriptedCapture(entries=TABLE, states=LIMITED)
    engine = live(capture)
    monkeypatch.setattr("ctobserve.terminal.proving.AGAIN_NS", 5 * NS_PER_S)
    first = until(engine, lambda seen: seen.proved).proved
    assert first.equal is True and first.says == "20 entries"
    capture.kernel = TABLE[:19]
    engine.prove()
    second = until(engine, lambda seen: seen.proved.at_ns > first.at_ns).proved
    assert second.equal is False and second.says == "20 entries here, 19 in the kernel"
    third = until(engine, lambda seen: seen.proved.at_ns > second.at_ns).proved
    assert third.at_ns - second.at_ns >= 5 * NS_PER_S


def test_while_a_proof_waits_for_entries_in_flux_what_comes_is_taken():
    class Coming(ScriptedCapture):
        def step(self) -> Events:
            return self._told(events(Kind.INSERT, entries(1, ct=[10**9 + self._ns], src="10.0.0.8")))

    capture = Coming(entries=TABLE, kernel=TABLE[:19], states=LIMITED)
    capture.follow()
    took: list[Events] = []

    def pause(seconds: float) -> None:
        capture.wait(seconds)
        took.append(capture.step())

    assert proved(capture, pause).equal is False
    assert len(took) == 4, "between five looks"


def test_a_reading_that_cannot_be_had_is_no_proof():
    class Unreadable(ScriptedCapture):
        def snapshot(self, extensions: bool = False):
            raise CtobserveError("it is resized again and again")

    capture = Unreadable(entries=TABLE)
    assert proved(capture)[1:] == (None, "it is resized again and again")


def test_lost_records_are_told_by_their_kind():
    engine = live(ScriptedCapture(entries=TABLE, told=Fidelity("fentry", lost={"insert": 2, "drop": 0})))
    assert engine.turn().lost == {"insert": 2}


def test_the_end_of_the_stretch_ends_it():
    engine = live(ScriptedCapture(entries=TABLE), seconds=2.0)
    assert not engine.over
    while not engine.over:
        engine.turn()
    stopped = ScriptedCapture(entries=TABLE)
    stopped.follow()
    asked = Live(stopped, Stretch(stopped=lambda: True), WISH, 1.0, invalid=False)
    assert asked.over
    unloaded = live(ScriptedCapture(entries=TABLE, over=True))
    assert unloaded.over


def test_another_wish_is_of_other_entries_at_once():
    engine = live(ScriptedCapture(entries=TABLE, states=LIMITED))
    first = engine.turn()
    assert [group.values for group in first.moment.frame.groups] == [("10.0.0.1", 53), ("10.0.0.2", 443)]
    engine.wish(WISH._replace(only=Filter(proto=UDP), by=("proto",)))
    seen = until(engine, lambda seen: seen.wish != WISH)
    assert [(group.values, group.entries) for group in seen.moment.frame.groups] == [(("udp",), 12)]
    assert until(engine, lambda seen: seen.verdicts).verdicts.of_s == pytest.approx(3, abs=0.2), "judged anew"


def test_a_group_leads_to_its_entries_and_one_of_them_to_its_life():
    left = events(Kind.DESTROY, TABLE[:1], reason=DestroyReason.DELETED, at_s=0.1)
    engine = live(Timed([(0.1, left)]))
    engine.turn()
    found = engine.group(("src", "dport"), ("10.0.0.1", 53))
    assert found.title == "10.0.0.1 53" and found.total == len(found.lines) == 12
    assert found.lines[0].startswith("blue udp 10.0.0.1:1024 > 10.0.0.2:53")
    before = engine.life(found.entries[:1])
    assert before.title == "10.0.0.1:1024 > 10.0.0.2:53 udp" and "It lives" in "\n".join(before.lines)
    until(engine, lambda seen: seen.moment.frame.entries == 19)
    after = "\n".join(engine.life(found.entries[:1]).lines)
    assert "deleted" in after and "It lives" not in after
    engine.leave()
    assert "deleted" in "\n".join(engine.life(found.entries[:1]).lines), "from what came lately"
    assert engine.group(("src", "dport"), ("10.0.0.77", 53)).total == 0


def test_what_came_lately_is_bounded():
    many = [events(Kind.INSERT, entries(5000, ct=np.arange(5000) * 256 + at)) for at in range(10)]
    engine = live(ScriptedCapture(many, states=LIMITED))
    for _ in range(20):
        engine.turn()
    assert sum(map(len, engine._recent)) <= RECENT


def test_a_bucket_leads_to_who_is_in_it():
    engine = live(ScriptedCapture(entries=TABLE, states=LIMITED))
    assert engine.bucket(5).total == 8 and engine.bucket(3).total == 20 and engine.bucket(9).lines == ()
    assert dict(engine.namespaces()) == {NETNS: "blue"}


def test_lists_are_bounded():
    found = listed("many", entries(MOST + 5), {})
    assert (len(found.entries), len(found.lines), found.total) == (MOST, MOST, MOST + 5)
    by = ("src", "sport")
    assert of_group(TABLE, by, ("10.0.0.1", 1030), {}).total == 1
    pod = Whose("blue", Owner(OwnerKind.POD, "web-0", "8a"))
    assert of_group(TABLE, ("owner",), ("pod/web-0",), {int(TABLE["netns"][0]): pod}).title == "pod/web-0"
    assert of_group(TABLE, ("owner",), ("pod/web-0",), {int(TABLE["netns"][0]): pod}).total == len(TABLE)
    assert of_group(TABLE, ("owner",), ("pod/web-0",), {}).total == 0


def test_an_entry_is_sought_by_both_its_ends():
    (six,) = (entries(1, src="2001:db8::1", dst="2001:db8::2", l3num=10),)
    assert sought_of(six).typed == "[2001:db8::1]:1024 > [2001:db8::2]:53 udp"
    assert sought_of(entries(1, proto=1)).typed == "10.0.0.1 > 10.0.0.2 icmp" and sought_of(entries(1, proto=1)).one.port is None
    for one in (six, TABLE[:1], TABLE[-1:]):
        assert sought_of(one).entries(one).all()


def at_s(engine: Recorded, seen: Seen) -> float:
    return (seen.at_ns - seen.place.begin_ns) / NS_PER_S


def test_a_recording_begins_where_it_is_asked_to_and_goes_anywhere():
    with recorded("long_chains", at=0.5) as engine:
        half = settled(engine)
        assert 0 < half.moment.frame.entries < 12068 and not half.place.at_end
        engine.seek(half.place.end_ns + 5 * NS_PER_S)
        end = settled(engine)
        assert end.moment.frame.entries == 12068 and end.place.at_end and end.moment.frame.longest_bucket == 226
        engine.seek(0)
        begin = settled(engine)
        assert at_s(engine, begin) == 0 and begin.moment.frame.entries < half.moment.frame.entries
        assert begin.place.looked == 1 and begin.place.bins.everywhere.new.sum() > 12_000


@pytest.mark.parametrize("name", SCENARIOS)
def test_at_the_end_of_a_recording_it_says_what_report_and_verify_say(name):
    with recorded(name) as engine:
        seen = settled(engine)
        for width, height in ((80, 24), (160, 50), (30, 8)):
            lines = page(seen, seen, Looks(), width, height)
            assert len(lines) == height and {one.wide for one in lines} == {width}
    with closing(opened(recording(name))) as reader:
        reported = collect_verdicts(RecordedCapture(reader, SEEING), Request(), Stretch(), invalid=True).verdicts
        verified = verify.collect(RecordedCapture(reader, Purpose.TABLE), Request(), Stretch())
    assert {one.row.id: one.row for one in seen.verdicts.standing} == {row.id: row for row in reported}
    assert (seen.proved.equal, seen.at_ns) == (verified.equal, seen.place.end_ns)


def test_before_anything_happened_nothing_is_grave():
    with recorded("long_chains", at=0.0) as engine:
        assert grave(settled(engine)) == set()


def test_a_recording_plays_as_fast_as_it_is_asked_to_and_stands_at_the_end():
    with recorded("long_chains", at=0.0) as engine:
        settled(engine)
        engine.play(100)
        seen = settled(engine)
        while seen.place.speed or seen.busy:
            seen = engine.turn() or seen
        assert seen.place.at_end and seen.place.speed == 0 and grave(seen) == {"chain_too_long", "few_buckets"}
        engine.play(2)
        again = engine.turn()
        assert at_s(engine, again) == 0, "at the end it begins anew"
        while not 0 < at_s(engine, again) < 3:
            again = engine.turn() or again
        assert again.place.speed == 2
        engine.play(0)
        assert settled(engine).place.speed == 0


def test_losses_are_found_one_after_the_other_and_back():
    with recorded("long_chains", at=0.0) as engine:
        settled(engine)
        places = []
        for _ in range(3):
            engine.find("loss", True)
            places.append(settled(engine).at_ns)
        assert places == sorted(set(places))
        engine.find("loss", False)
        assert settled(engine).at_ns == places[1]
    with recorded("asymmetric_routing", at=0.0) as engine:
        settled(engine)
        engine.find("loss", True)
        assert settled(engine).place.at_end, "of INVALID packets nobody knows that they were lost"


def test_the_next_verdict_is_where_one_comes_that_did_not_stand():
    with recorded("long_chains", at=0.0) as engine:
        settled(engine)
        engine.find("verdict", True)
        found = settled(engine)
        assert grave(found) and not found.place.at_end
        engine.find("verdict", True)
        later = settled(engine)
        assert later.at_ns > found.at_ns and grave(later) > grave(found)
        engine.find("verdict", False)
        assert settled(engine).at_ns < later.at_ns


def test_a_search_ends_when_somebody_wants_that():
    with recorded("long_chains", at=0.0) as engine:
        settled(engine)
        engine.find("verdict", True)
        seen = engine.turn()
        assert seen.busy == "looking for the next verdict; esc ends that"
        engine.play(0)
        assert settled(engine).at_ns == seen.place.begin_ns


def test_of_a_recording_a_group_a_bucket_and_a_life_are_of_that_instant():
    with recorded("old_udp_mapping") as engine:
        settled(engine)
        found = engine.group(("src", "dport"), ("10.1.0.1", 514))
        assert found.total == 7
        text = "\n".join(engine.life(found.entries[:1]).lines)
        assert "events since" in text and "It lives" in text
        engine.leave()
        assert engine.bucket(engine._moment.frame.longest_bucket).total >= 1
        assert "host" in engine.namespaces().values()
        engine.wish(WISH._replace(only=Filter(dport=(1, 1))))
        assert settled(engine).moment.frame.groups == ()
        engine.prove()
        assert settled(engine).proved.equal is True


def test_the_stretch_that_is_judged_is_no_longer_than_can_be_gone_through_in_a_moment(monkeypatch):
    with recorded("long_chains") as engine:
        seen = settled(engine)
        begin_ns, length_ns = seen.place.begin_ns, seen.at_ns - seen.place.begin_ns
        assert engine._since(seen.at_ns, 12_217, length_ns) == engine._since(seen.at_ns, 10**9, 10 * length_ns) == begin_ns
        assert engine._since(seen.at_ns, 3000, length_ns) == begin_ns, "ten seconds whatever happens"
        monkeypatch.setattr("ctobserve.terminal.recorded.SHORTEST_NS", NS_PER_S // 5)
        fewer = [engine._since(seen.at_ns, most, length_ns) for most in (12_217, 6000, 3000, 1)]
        assert fewer == sorted(fewer) and fewer[0] < fewer[1] < fewer[-1] <= seen.at_ns - NS_PER_S // 5
        assert engine._since(begin_ns, 3000, length_ns) == begin_ns


def test_live_a_recordings_keys_do_nothing():
    engine = live(ScriptedCapture(entries=TABLE))
    engine.seek(0)
    engine.play(5)
    engine.find("loss", True)
    assert engine.turn().place is None
