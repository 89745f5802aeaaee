"""What is different: entries and groups between two tables, whose namespaces are whose, and the whole command on recordings."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections import Counter
from contextlib import chdir, closing
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctobserve import __version__
from ctobserve.analysis.change import IDENTITY, Change, GroupChange, change
from ctobserve.analysis.groups import COLUMNS, key
from ctobserve.analysis.namesakes import Namesake, namesakes
from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.capture.recorded import RecordedCapture, RecordedView
from ctobserve.capture.store.reader import Reader
from ctobserve.clock import NS_PER_S
from ctobserve.documents.diff import DiffDocument, DiffSetting, collect
from ctobserve.documents.instant import take
from ctobserve.event import DestroyReason, Kind
from ctobserve.host.counters import Reading
from ctobserve.model import IPS_ASSURED, TCP_STATES, Entries, join
from ctobserve.programs.hooks import Purpose
from ctobserve.render.diff import diff_lines
from ctobserve.render.jsonout import document
from ctobserve_lab.recordings import recording
from ctobserve_lab.scenarios import SCENARIOS
from tests import scripted
from tests.scripted import CLOCK, FIDELITY, HOST, NETNS, ScriptedCapture, reading
from tests.unit.recordings import at_end, in_time, record, replay
from tests.unit.tables import entries, many, tcp
from tests.unit.typed import run

SRC = ("src",)
# Those that are in tests.scripted.reading.
COUNTERS = tuple(next(iter(reading().counts.values())))


def group(value: str, *counts: int) -> GroupChange:
    return GroupChange((value,), *counts)


def between(first: Entries, second: Entries, by: tuple[str, ...], limit: int) -> Change:
    return change(join([first, second]), np.arange(len(first) + len(second)) >= len(first), by, limit)


def test_who_came_who_went_and_who_stayed():
    first = entries(6, src=["10.0.0.1"] * 4 + ["10.0.0.2"] * 2)
    second = join([first[:3], entries(9, src="10.0.0.3")])
    assert between(first, second, SRC, 10) == Change(
        came=9,
        went=3,
        stayed=3,
        groups=[group("10.0.0.3", 0, 9, 9, 0), group("10.0.0.2", 2, 0, 0, 2), group("10.0.0.1", 4, 3, 0, 1)],
        more=0,
    )


def test_who_comes_again_by_another_address_of_the_kernel_stayed():
    first = entries(3)
    second = entries(3, ct=[7, 8, 9], mark=5, left_s=1)
    assert between(first, second, SRC, 10) == Change(0, 0, 3, [], 0)


@pytest.mark.parametrize(
    "other",
    [
        *({"netns": 8}, {"zone": 1}, {"src": "10.0.0.9"}, {"dst": "10.0.0.9"}, {"sport": 9}, {"dport": 9}, {"proto": 6}),
        *({"backend": "10.0.0.9"}, {"nat": ("10.0.0.9", 1024)}, {"nat": ("10.0.0.1", 9)}, {"l3num": 10}),
    ],
    ids=str,
)
def test_an_entry_is_another_one_by_namespace_zone_or_either_tuple(other):
    assert between(entries(1), entries(1, **other), (), 10)[:3] == (1, 1, 0)


def test_an_entry_that_stayed_goes_from_one_state_to_another():
    first, second = tcp(5, "SYN_SENT"), join([tcp(5, "ESTABLISHED")[:3], tcp(5, "SYN_SENT")[3:]])
    assert between(first, second, ("state",), 10) == Change(
        0, 0, 5, [group("SYN_SENT", 5, 2, 0, 3), group("ESTABLISHED", 0, 3, 3, 0)], 0
    )


def test_groups_that_changed_most_come_first_and_of_those_alike_the_busiest():
    first = entries(9, src=["10.0.0.1"] * 3 + ["10.0.0.2"] * 3 + ["10.0.0.3"] * 3, sport=range(9))
    second = entries(9, src=["10.0.0.1"] * 3 + ["10.0.0.2"] * 3 + ["10.0.0.4"] * 3, sport=[0, 1, 2, 30, 40, 50, 6, 7, 8])
    found = between(first, second, SRC, 2)
    assert found.groups == [group("10.0.0.3", 3, 0, 0, 3), group("10.0.0.4", 0, 3, 3, 0)] and found.more == 1
    assert between(first, second, SRC, 9).groups[2:] == [group("10.0.0.2", 3, 3, 3, 3)]


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 2), (2, 0)])
def test_an_empty_table_is_one(before, after):
    found = between(entries(before), entries(after), SRC, 10)
    assert found[:3] == (after, before, 0)
    assert found.groups == ([group("10.0.0.1", before, after, after, before)] if before + after else [])


def random_table(some: np.random.Generator) -> Entries:
    count = int(some.integers(0, 200))
    return entries(
        count,
        src=some.choice(["10.0.0.1", "10.0.0.2", "10.0.1.1"], count).tolist(),
        sport=some.integers(1, 9, count).tolist(),
        netns=some.integers(7, 9, count),
        zone=some.integers(0, 2, count),
        proto=some.choice([6, 17], count),
        tcp_state=some.integers(0, len(TCP_STATES), count),
        status=some.choice([0, IPS_ASSURED], count),
        mark=some.integers(0, 2, count),
    )


@pytest.mark.parametrize("seed", range(30))
def test_it_is_what_counting_one_by_one_says(seed):
    some = np.random.default_rng(seed)
    first, second = random_table(some), random_table(some)
    by = tuple(some.choice(COLUMNS, 2, replace=False).tolist())

    def counted(columns: tuple[str, ...]) -> list[Counter[Any]]:
        return [Counter(tuple(key(entry, name) for name in columns) for entry in table) for table in (first, second)]

    found = between(first, second, by, 10_000)
    before, after = counted(IDENTITY)
    assert found[:3] == ((after - before).total(), (before - after).total(), (before & after).total())
    (before, after), (one, other) = counted(by), counted((*by, *IDENTITY))
    came, went = Counter(), Counter()
    for moved, parts in ((came, other - one), (went, one - other)):
        for values, count in parts.items():
            moved[values[:2]] += count
    assert {row.values: row[1:] for row in found.groups} == {
        values: (before[values], after[values], came[values], went[values]) for values in came | went
    }
    assert all(row.second - row.first == row.came - row.went for row in found.groups)


@pytest.mark.parametrize(
    ("first", "second", "lasting", "known"),
    [
        # By name, whatever its number: it may have been made anew, or be of another boot.
        ({7: "init", 8: "blue"}, {8: "init", 9: "red"}, [], [("init", 7, 8), ("red", None, 9), ("blue", 8, None)]),
        ({8: "blue"}, {9: "blue"}, [], [("blue", 8, 9)]),
        ({8: "blue", 9: "red"}, {9: "blue", 8: "red"}, [8, 9], [("blue", 8, 9), ("red", 9, 8)]),
        # By its number, where it is called otherwise.
        ({7: "init", 8: "nc[3]"}, {7: "init", 8: "sh[5]", 9: "9"}, [7, 8], [("init", 7, 7), ("sh[5]", 8, 8), ("9", None, 9)]),
        ({8: "8"}, {8: "8"}, [8], [("8", 8, 8)]),
        # The number is another's by now.
        ({8: "old"}, {8: "new"}, [], [("new", None, 8), ("old", 8, None)]),
        # A number is no name.
        ({8: "8"}, {8: "8"}, [], [("8 (8)", None, 8), ("8 (8 at first)", 8, None)]),
        # Nor is one that several have.
        (
            {1: "x", 2: "x"},
            {2: "x"},
            [2],
            [("x (2)", 2, 2), ("x (1 at first)", 1, None)],
        ),
        # One that is known by its name is not another by its number, too.
        ({8: "a", 9: "b"}, {9: "a", 8: "c"}, [8, 9], [("a", 8, 9), ("c", None, 8), ("b", 9, None)]),
        ({}, {}, [], []),
    ],
)
def test_which_namespace_is_which(first, second, lasting, known):
    assert namesakes(first, second, lasting) == [Namesake(*one) for one in known]


LIMITED = {"nf_conntrack_max": 400, "nf_conntrack_count": 7, "nf_conntrack_buckets": 1024, "nf_conntrack_x": 1}
BLUE = NamespaceState(NETNS, "blue", init=True, sysctls=LIMITED)
GREEN, RED = NamespaceState(8, "green", ("green",)), NamespaceState(9, "red", ("red",), sysctls=LIMITED)
ONE_BOOT = HOST._replace(boot="b1")
MORNING = join([tcp(100), tcp(20, src="10.0.0.9", netns=8, ct=np.arange(1, 21) * 65_536)])
NOON = join([tcp(70), tcp(230, src=many(230), dst="10.9.9.9", sport=9, ct=np.arange(1, 231) * 65_536)])


def morning(**more: Any) -> ScriptedCapture:
    given = {"entries": MORNING, "states": {NETNS: BLUE, 8: GREEN}, "host": ONE_BOOT, "readings": [reading(drop=5)]}
    return ScriptedCapture(**(given | more))


def noon(**more: Any) -> ScriptedCapture:
    """Another size of the hash and other settings; a namespace went, another came."""
    settings = LIMITED | {"nf_conntrack_max": 800, "nf_conntrack_count": 70, "nf_conntrack_buckets": 4096, "nf_conntrack_y": 2}
    del settings["nf_conntrack_x"]
    changed = BLUE._replace(sysctls=settings)
    given = {"entries": NOON, "buckets": 4096, "readings": [reading(drop=12, early_drop=3)]}
    return morning(**(given | {"states": {NETNS: changed, 9: RED}, "told": FIDELITY} | more))


class Later(ScriptedCapture):
    """An hour after the others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._ns = 3600 * NS_PER_S
        self.started = self.clock()


def recorded(directory: Path, first: ScriptedCapture | None = None, second: ScriptedCapture | None = None) -> tuple[Path, Path]:
    for name, made in (("A", first or morning()), ("B", Later(**arguments(second or noon())))):
        record(made, directory / name, seconds=1)
    return directory / "A", directory / "B"


def arguments(made: ScriptedCapture) -> dict[str, Any]:
    return {one.name: getattr(made, one.name) for one in fields(made)}


def compared(
    first: ScriptedCapture | None = None, second: ScriptedCapture | None = None, limit: int | None = 2, **conditions: Any
) -> DiffDocument:
    """The ends of two recordings."""
    only = Filter(**conditions)
    with tempfile.TemporaryDirectory() as directory, chdir(directory):
        before, after = (take(at_end(path), only) for path in recorded(Path(), first, second))
        return collect(before, after, ("src", "netns"), limit)


def test_the_whole_document_as_json():
    assert json.loads(document(compared())) == {
        "meta": {
            "command": "diff",
            "version": __version__,
            "schema": 1,
            "kernel": "6.1.0-test",
            "started": "2023-11-14T22:13:21.000000000Z",
            "ended": "2023-11-14T23:13:21.000000000Z",
            "duration_s": 3600.0,
            "netns": "all",
        },
        "one_boot": True,
        "first": {
            "at": "2023-11-14T22:13:21.000000000Z",
            "file": "A",
            "kernel": "6.1.0-test",
            "entries": 120,
            "buckets": 1024,
            "max_chain": 240,
            "events_lost": 0,
            "table_uncertain_s": 0.0,
        },
        "second": {
            "at": "2023-11-14T23:13:21.000000000Z",
            "file": "B",
            "kernel": "6.1.0-test",
            "entries": 300,
            "buckets": 4096,
            "max_chain": 600,
            "events_lost": 0,
            "table_uncertain_s": 0.0,
        },
        "came": 230,
        "went": 50,
        "stayed": 70,
        "by": ["src", "netns"],
        "groups": [
            {"values": ["10.0.0.1", "blue"], "first": 100, "second": 70, "came": 0, "went": 30},
            {"values": ["10.0.0.9", "green"], "first": 20, "second": 0, "came": 0, "went": 20},
        ],
        "more_groups": 230,
        "namespaces": [
            {"netns": "blue", "first": 100, "second": 300, "first_max": 400, "second_max": 800},
            {"netns": "green", "first": 20, "second": None, "first_max": None, "second_max": None},
            {"netns": "red", "first": None, "second": 0, "first_max": None, "second_max": 400},
        ],
        "sysctls": [
            {"name": "nf_conntrack_buckets", "first": 1024, "second": 4096, "netns": ["blue"]},
            {"name": "nf_conntrack_max", "first": 400, "second": 800, "netns": ["blue"]},
            {"name": "nf_conntrack_x", "first": 1, "second": None, "netns": ["blue"]},
            {"name": "nf_conntrack_y", "first": None, "second": 2, "netns": ["blue"]},
        ],
        "counters": {
            "since": "2023-11-14T22:13:21.000000000Z",
            "until": "2023-11-14T23:13:21.000000000Z",
            "gained": {name: {"drop": 7, "early_drop": 3}.get(name, 0) for name in COUNTERS},
        },
    }


def test_the_whole_document_as_text():
    assert list(diff_lines(compared())) == [
        "first     2023-11-14T22:13:21.000Z  A",
        "second    2023-11-14T23:13:21.000Z  B",
        "entries   120 -> 300: 230 came, 50 went, 70 stayed",
        "buckets   1024 -> 4096",
        "chains    240 -> 600 nodes in the longest",
        "full      100 of 400 (25.0 %) -> 300 of 800 (37.5 %) in blue",
        "full      20 of - -> not there in green",
        "full      not there -> 0 of 400 (0.0 %) in red",
        "netns     came: red",
        "netns     gone: green",
        "sysctl    nf_conntrack_buckets: 1024 -> 4096 in blue",
        "sysctl    nf_conntrack_max: 400 -> 800 in blue",
        "sysctl    nf_conntrack_x: 1 -> - in blue",
        "sysctl    nf_conntrack_y: - -> 2 in blue",
        "counters  drop +7, early_drop +3 from 2023-11-14T22:13:21.000Z to 2023-11-14T23:13:21.000Z",
        "",
        "   CHANGE     FIRST    SECOND      CAME      WENT  SRC, NETNS",
        "      -30       100        70         0        30  10.0.0.1 blue",
        "      -20        20         0         0        20  10.0.0.9 green",
        "and 230 other groups that changed",
    ]


def test_where_nothing_is_different_little_is_said():
    found = compared(morning(), morning())
    assert list(diff_lines(found)) == [
        "first     2023-11-14T22:13:21.000Z  A",
        "second    2023-11-14T23:13:21.000Z  B",
        "entries   120 -> 120: 0 came, 0 went, 120 stayed",
        "full      100 of 400 (25.0 %) -> 100 of 400 (25.0 %) in blue",
        "full      20 of - -> 20 of - in green",
        "counters  none moved from 2023-11-14T22:13:21.000Z to 2023-11-14T23:13:21.000Z",
    ]
    assert (found.groups, found.more_groups, found.sysctls) == ((), 0, ())


@pytest.mark.parametrize(("cookie", "came"), [(2, 0), (3, 1)])
def test_an_inode_number_that_was_given_out_again_is_another_namespace(cookie, came):
    """Of one boot and with another name; who has the same cookie is the same."""

    def of(label: str, unique: int) -> ScriptedCapture:
        return morning(
            entries=entries(1, netns=8),
            states={NETNS: BLUE, 8: NamespaceState(8, label)},
            readings=[Reading({(NETNS, 1, 0): Counter(drop=1), (8, unique, 0): Counter(drop=unique)})],
        )

    found = compared(of("nc[3]", 2), of("sh[5]", cookie))
    assert (found.one_boot, found.came, found.went, len(found.namespaces)) == (True, came, came, 2 + came)


def test_a_namespace_that_is_made_again_is_the_same_and_its_counters_began_anew():
    again = morning(entries=entries(3, netns=9), states={NETNS: BLUE, 9: GREEN._replace(inum=9)}, readings=[reading(netns=9)])
    with tempfile.TemporaryDirectory() as directory:
        first, second = recorded(Path(directory), morning(entries=entries(3, netns=8)), again)
        before, after = take(at_end(first), Filter(netns=8)), take(at_end(second), Filter(netns=9))
        found = collect(before, after, ("netns",), None)
    assert (found.one_boot, found.stayed, found.came, found.counters) == (True, 3, 0, None)


OTHER_BOOT, NO_BOOT = HOST._replace(boot="b2", release="6.12.0-test"), HOST
RENUMBERED = {1: BLUE._replace(inum=1), 8: NamespaceState(8, "red"), 9: NamespaceState(9, "green")}


def test_of_two_boots_or_hosts_it_says_so_and_goes_by_the_names_of_namespaces():
    there = MORNING.copy()
    there["netns"] = np.where(there["netns"] == NETNS, 1, 9)
    other = {"entries": there, "host": OTHER_BOOT, "states": RENUMBERED, "readings": [reading(drop=99)]}
    found = compared(morning(), morning(**other))
    assert (found.one_boot, found.counters, found.came, found.went, found.stayed) == (False, None, 0, 0, 120)
    lines = list(diff_lines(found))
    assert lines[2:4] == [
        "Of two hosts, or of two boots of one: namespaces are matched by name alone, and counters are not",
        "  compared.",
    ]
    assert "kernel    6.1.0-test -> 6.12.0-test" in lines and "netns     came: red" in lines


@pytest.mark.parametrize("hosts", [(NO_BOOT, ONE_BOOT), (ONE_BOOT, NO_BOOT), (NO_BOOT, NO_BOOT)], ids=["first", "second", "both"])
def test_a_boot_that_nobody_knows_may_be_another(hosts):
    found = compared(morning(host=hosts[0]), noon(host=hosts[1]))
    assert found.one_boot is None and found.counters is None
    assert list(diff_lines(found))[2].startswith("It is not known whether both are of one boot: namespaces are matched by name")


def test_two_instants_of_one_recording_are_of_one_boot_whoever_knows_its_id(tmp_path):
    path, _ = recorded(tmp_path, morning(host=NO_BOOT))
    before, after = (take(at_end(path), Filter()) for _ in range(2))
    assert collect(before, after, SRC, None, one_recording=True).one_boot is True
    assert collect(before, after, SRC, None).one_boot is None


def test_only_a_later_reading_of_the_counters_has_gained(tmp_path):
    ends = [take(at_end(path), Filter()) for path in recorded(tmp_path)]
    seconds = {}
    for at, first in enumerate(ends):
        for to, second in enumerate(ends):
            found = collect(first, second, SRC, None)
            seconds[at, to] = found.meta.duration_s
            assert (found.counters is None) == (at >= to)
    assert seconds == {(0, 0): 0, (0, 1): 3600, (1, 0): -3600, (1, 1): 0}


def test_a_filter_chooses_entries_but_not_how_full_the_table_is():
    found, whole = compared(src=ip_network("10.0.0.9")), compared()
    assert (found.first.entries, found.second.entries, found.came, found.went) == (20, 0, 0, 20)
    assert (found.namespaces, found.sysctls, found.counters) == (whole.namespaces, whole.sysctls, whole.counters)
    assert found.first.max_chain == whole.first.max_chain


def test_a_namespace_has_its_own_settings_and_counters():
    two = {(NETNS, 1, 0): {"drop": 1}, (8, 2, 0): {"drop": 2}}
    readings = [Reading({place: Counter({"drop": times * at["drop"]}) for place, at in two.items()}) for times in (1, 10)]
    changed = GREEN._replace(sysctls=LIMITED | {"nf_conntrack_acct": 1})
    first = morning(readings=readings[:1], states={NETNS: BLUE, 8: GREEN._replace(sysctls=LIMITED)})
    second = morning(readings=readings[1:], states={NETNS: BLUE, 8: changed})
    setting = DiffSetting("nf_conntrack_acct", None, 1, ("green",))
    for netns, sysctls, drops in ((None, (setting,), 27), (NETNS, (), 9), (8, (setting,), 18)):
        found = compared(first, second, netns=netns)
        assert found.counters is not None and (found.sysctls, found.counters.gained["drop"]) == (sysctls, drops)
        assert found.meta.netns == (netns or "all")


def test_a_setting_that_changed_alike_in_many_namespaces_is_one_line():
    def of(value: int) -> ScriptedCapture:
        return morning(
            states={inum: NamespaceState(inum, f"n{inum:02}", sysctls={"nf_conntrack_acct": value}) for inum in range(1, 13)}
        )

    found = compared(of(0), of(1))
    assert [setting.netns for setting in found.sysctls] == [tuple(f"n{inum:02}" for inum in range(1, 13))]
    (line,) = (line for line in diff_lines(found) if line.startswith("sysctl"))
    assert line == f"sysctl    nf_conntrack_acct: 0 -> 1 in {', '.join(f'n{inum:02}' for inum in range(1, 11))} and 2 more"


def test_what_is_doubtful_of_a_table_stands_beside_its_name():
    lossy = FIDELITY._replace(lost={"insert": 3, "destroy": 4}, uncertain_ns=2 * NS_PER_S)
    found = compared(morning(told=lossy), morning())
    assert (found.first.events_lost, found.first.table_uncertain_s, found.second.events_lost) == (7, 2.0, 0)
    first, second, *_ = diff_lines(found)
    assert first == "first     2023-11-14T22:13:21.000Z  A; 7 records lost until then, the table wrong for up to 2.0 s"
    assert second == "second    2023-11-14T23:13:21.000Z  B"


def day() -> ScriptedCapture:
    """Ten entries at first; at 1 s five come, at 3 s four of the first go and two change."""
    born = entries(5, src="10.0.0.7", ct=np.arange(1, 6) * 65_536, dport=80)
    old = tcp(10)
    happened = [
        scripted.events(Kind.INSERT, born, at_s=1.0),
        scripted.events(Kind.DESTROY, old[:4], at_s=3.0, reason=DestroyReason.TIMEOUT),
        scripted.events(Kind.UPDATE, tcp(10, "CLOSE")[8:], at_s=3.0),
    ]
    return morning(batches=in_time(join(happened)), entries=old, readings=[reading(), reading(drop=4)])


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Runs `diff`, as a user that is not root, where DAY is a recording of five seconds, and A and B are two others."""

    def never(*_: object) -> None:
        raise AssertionError("a recording needs no root")

    monkeypatch.setattr("ctobserve.host.kernel.require_root", never)
    recorded(tmp_path)
    record(day(), tmp_path / "DAY", keyframe_s=2)
    monkeypatch.chdir(tmp_path)
    return lambda words: run(monkeypatch, capsys, "diff", *words.split())


@pytest.mark.parametrize(
    ("words", "moved", "groups"),
    [
        ("DAY", "10 -> 11: 5 came, 4 went, 6 stayed", ["+5 0 5 5 0 10.0.0.7", "-4 10 6 0 4 10.0.0.1"]),
        ("DAY --since 22:13:22", "15 -> 11: 0 came, 4 went, 11 stayed", ["-4 10 6 0 4 10.0.0.1"]),
        ("DAY --until -3s", "10 -> 15: 5 came, 0 went, 10 stayed", ["+5 0 5 5 0 10.0.0.7"]),
        ("DAY --since -4s --until 2023-11-14T22:13:22Z", "15 -> 15: 0 came, 0 went, 15 stayed", []),
        ("DAY --since -1s --until -1s", "11 -> 11: 0 came, 0 went, 11 stayed", []),
        (
            "DAY --by state,proto --proto tcp",
            "10 -> 6: 0 came, 4 went, 6 stayed",
            ["-6 10 4 0 6 ESTABLISHED tcp", "+2 0 2 2 0 CLOSE tcp"],
        ),
        ("DAY --by dport --limit 1", "10 -> 11: 5 came, 4 went, 6 stayed", ["+5 0 5 5 0 80", "and 1 other groups that changed"]),
        ("A B --by dport", "120 -> 300: 230 came, 50 went, 70 stayed", ["+180 120 300 230 50 53"]),
        ("A B --netns blue --sport 9", "0 -> 230: 230 came, 0 went, 0 stayed", None),
        ("B A --netns 7 --by netns", "300 -> 100: 30 came, 230 went, 70 stayed", ["-200 300 100 30 230 blue"]),
        ("A A", "120 -> 120: 0 came, 0 went, 120 stayed", []),
        ("DAY A --since 22:13:20", "10 -> 120: 110 came, 0 went, 10 stayed", None),
        ("A DAY --until 22:13:22 --src 10.0.0.7", "0 -> 5: 5 came, 0 went, 0 stayed", None),
    ],
)
def test_a_command_compares_what_was_typed(typed, words, moved, groups):
    code, out, err = typed(words)
    assert (code, err) == (0, "")
    said, _, shown = out.partition("\n\n")
    assert f"entries   {moved}" in said.splitlines()
    assert groups is None or [" ".join(line.split()) for line in shown.splitlines()[1:]] == groups


def test_the_command_says_it_as_json(typed):
    code, out, _ = typed("A B --json --limit 0")
    said = json.loads(out)
    assert code == 0 and (said["first"]["file"], said["second"]["file"], said["groups"]) == ("A", "B", [])
    assert list(said) == [one.name for one in fields(DiffDocument)]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("", 2, "missing argument 'A'; try: ctobserve diff --help"),
        ("NONE", 1, "NONE: no such file or directory"),
        ("A NONE", 1, "NONE: no such file or directory"),
        ("A B DAY", 2, "got unexpected extra argument (DAY)"),
        ("DAY --since -1s --until -2s", 2, "--since is later than --until; nothing lies between"),
        ("DAY --since 09:00", 2, "09:00 is no time of the recording, which is from 2023-11-14T22:13:20"),
        ("A B --until 22:13:21", 2, "22:13:21 is no time of the recording, which is from 2023-11-14T23:13:20"),
        ("A B --netns green", 2, "B: no network namespace is called green; there are: blue, red"),
        ("A B --netns red", 2, "A: no network namespace is called red; there are: blue, green"),
        ("A --by colour", 2, "has 'colour', which is none of src, dst"),
    ],
)
def test_what_cannot_be_is_one_line(typed, words, code, says):
    found, out, err = typed(words)
    assert (found, out) == (code, "") and err.startswith("ctobserve: ") and err.count("\n") == 1 and says in err


def test_what_cannot_be_read_of_one_of_them_is_said_once_and_counted(typed):
    with closing(sqlite3.connect("DAY", isolation_level=None)) as found:
        found.execute("UPDATE chunks SET body = x'00' WHERE kind = 'event'")
    code, out, err = typed("DAY --until 22:13:21")
    assert code == 0 and "records lost until then" in out
    assert err.startswith("ctobserve: DAY: not all could be read: ") and err.count("\n") == 1


def test_the_table_at_an_instant_is_what_a_list_of_it_shows(typed, tmp_path):
    at_ns = CLOCK.monotonic_ns + 2 * NS_PER_S
    there = replay(tmp_path / "DAY", at_ns, at_ns).table.entries()
    _, out, _ = typed("DAY --since 22:13:22 --json")
    assert json.loads(out)["first"]["entries"] == len(there) == 15


def test_a_recorded_incident_is_what_was_different(monkeypatch, capsys):
    """23 packets found a table full of 7."""
    code, out, _ = run(monkeypatch, capsys, "diff", str(recording("table_full")), "--json")
    said = json.loads(out)
    assert code == 0 and said["counters"]["gained"]["drop"] == 23
    (setting,) = said["sysctls"]
    assert (setting["name"], setting["second"]) == ("nf_conntrack_max", 7) and "full" in setting["netns"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_of_any_recorded_incident_all_that_came_and_went_is_the_difference(name):
    with closing(Reader(recording(name))) as reader:
        view = RecordedView(reader)
        ends = [RecordedCapture(reader, Purpose(0), at_ns, at_ns) for at_ns in (view.begin_ns, view.end_ns)]
        found = collect(*(take(end, Filter()) for end in ends), ("netns",), 1000, one_recording=True)
    assert found.second.entries - found.first.entries == found.came - found.went
    assert sum(group.came for group in found.groups) == found.came and found.more_groups == 0
    assert [one.entries for one in (found.first, found.second)] == [len(end.table.entries()) for end in ends]
    for side in ("first", "second"):
        assert sum(getattr(one, side) or 0 for one in found.namespaces) == getattr(found, side).entries
