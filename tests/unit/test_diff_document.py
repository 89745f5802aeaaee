"""The whole document of what is different: two hosts, boots, namespaces, settings, counters, what is doubtful."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from contextlib import chdir
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctobserve import __version__
from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.clock import NS_PER_S
from ctobserve.documents.diff import DiffDocument, DiffSetting, collect
from ctobserve.documents.instant import take
from ctobserve.host.counters import Reading
from ctobserve.host.owner import Owner, OwnerKind
from ctobserve.model import join
from ctobserve.render.diff import diff_lines
from ctobserve.render.jsonout import document
from tests.scripted import FIDELITY, HOST, NETNS, ScriptedCapture, reading
from tests.unit.recordings import at_end, record
from tests.unit.tables import entries, many, tcp
from tests.unit.test_diff import SRC

# Those that are in tests.scripted.reading.
COUNTERS = tuple(next(iter(reading().counts.values())))
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


def test_by_owner_pods_are_counted_wherever_they_live(tmp_path):
    """green is there again under another inode number; where a namespace went on and its owner did not, the later one counts."""
    pods = [Owner(OwnerKind.POD, name, uid) for name, uid in (("web-0", "8a"), ("web-1", "9b"), ("db-0", "7c"))]
    first = morning(owners={NETNS: pods[0], 8: pods[2]})
    there = {NETNS: BLUE, 9: GREEN._replace(inum=9)}
    rows = join([tcp(70), tcp(30, src="10.0.0.9", netns=9, ct=np.arange(1, 31) * 65_536)])
    second = noon(entries=rows, states=there, owners={NETNS: pods[1], 9: pods[2]})
    before, after = (take(at_end(path), Filter()) for path in recorded(tmp_path, first, second))
    found = collect(before, after, ("owner",), 5)
    counted = [(group.values, group.first, group.second) for group in found.groups]
    assert counted == [(("pod/web-1",), 100, 70), (("pod/db-0",), 20, 30)]


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
            warned = any(
                line.startswith("The second is the earlier of the two: what came here has gone") for line in diff_lines(found)
            )
            assert warned == (at > to)
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
