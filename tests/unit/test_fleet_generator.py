"""A made fleet is honest: what was planted is there, and nowhere else, as the simplest look at the rows tells."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from ctobserve.clock import iso
from ctobserve.fleet.layout import day_of
from ctobserve.fleet.listing import Listing, listing
from ctobserve.fleet.schema import TABLES
from tests.fleet.fleet import make
from tests.fleet.planted import DAY_NS, HOSTS_WITH, planned

HOSTS, HOURS, EVERY, SEED = 12, 24, 8, 5


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("fleet") / "ds"
    return out, make(out, HOSTS, HOURS, EVERY, SEED)


@pytest.fixture(scope="module")
def found(fleet) -> Listing:
    return listing(str(fleet[0]), TABLES)


def rows(found: Listing, table: str) -> list[dict[str, Any]]:
    return [
        {"host": file.place.host, **row}
        for file in found.files[table]
        for row in parquet.ParquetFile(file.path).read().to_pylist()
    ]


def test_each_file_is_one_of_a_dataset(fleet, found):
    _, said = fleet
    assert not found.skipped
    assert {table: sum(file.rows for file in files) for table, files in found.files.items()} == said["rows"]
    assert {table: len(files) for table, files in found.files.items()} == dict.fromkeys(TABLES, HOSTS * 3)


def test_packets_are_lost_where_it_says_and_as_it_says(fleet, found):
    _, said = fleet
    lost: dict[str, Counter[str]] = {}
    for row in rows(found, "events"):
        if row["event"] == "drop":
            lost.setdefault(row["host"], Counter())[row["reason"]] += 1
    assert lost == said["lost"]
    planted = said["planted"]
    assert set(lost) == {*planted["abusive_source"]["hosts"], *planted["resolver_race"]["hosts"]}


def test_the_source_fills_those_hosts_alone(fleet, found):
    planted = fleet[1]["planted"]["abusive_source"]
    full = Counter(row["host"] for row in rows(found, "snapshots") if row["original.src"] == planted["source"])
    assert sorted(full) == planted["hosts"] and min(full.values()) > 3900
    others = Counter((row["host"], row["recording"], row["number"], row["original.src"]) for row in rows(found, "snapshots"))
    assert max(count for key, count in others.items() if key[-1] != planted["source"]) < 200


def test_settings_differ_on_those_hosts_alone(fleet, found):
    planted = fleet[1]["planted"]["small_hash"]
    of = {(row["host"], row["netns_name"], row["name"]): row["value"] for row in rows(found, "settings")}
    common = Counter((netns, name, value) for (_, netns, name), value in of.items())
    usual = {(netns, name): value for (netns, name, value), count in common.items() if count > HOSTS // 2}
    differ = {(host, name, value) for (host, netns, name), value in of.items() if usual[netns, name] != value}
    assert differ == {(host, planted["setting"], planted["value"]) for host in planted["hosts"]}
    assert len({row["buckets"] for row in rows(found, "namespaces") if row["host"] not in planted["hosts"]}) == 1


def test_no_host_grows_but_one(fleet, found):
    planted = fleet[1]["planted"]
    held: dict[tuple[str, str], list[int]] = {}
    for row in sorted(rows(found, "namespaces"), key=lambda row: row["wall_ns"]):
        held.setdefault((row["host"], row["netns_name"]), []).append(row["entries"])
        assert row["entries_limit"] == fleet[1]["limit"]
    (growing,) = planted["growing"]["hosts"]
    gained = {host for (host, _), counts in held.items() if counts != sorted(counts)[:1] * len(counts)}
    assert gained == {growing, *planted["abusive_source"]["hosts"]}
    assert held[growing, "client"] == [count for count in planted["growing"]["entries"] for _ in range(2)]
    least, *_, most = planted["growing"]["entries"]
    assert (fleet[1]["limit"] - most) / (most - least) < 1.5  # full within a day
    for host in planted["abusive_source"]["hosts"]:
        assert held[host, "client"][0] == held[host, "client"][-1]


def test_verdicts_are_those_of_the_kinds(fleet, found):
    _, said = fleet
    of: dict[str, Counter[str]] = {host: Counter() for host in said["verdicts"]}
    for row in rows(found, "verdicts"):
        if row["severity"] != "notice":
            of[row["host"]][row["id"]] += 1
        assert json.loads(row["evidence"]) is not None
    assert of == said["verdicts"]
    planted = said["planted"]
    grave = {"abusive_source": "source_share", "resolver_race": "clash_race", "small_hash": "few_buckets"}
    for cause, verdict in grave.items():
        assert sorted(host for host, ids in of.items() if verdict in ids) == planted[cause]["hosts"]
    hosts = {host for cause in planted.values() for host in cause["hosts"]} - set(planted["churning_service"]["hosts"])
    assert {host for host, ids in of.items() if set(ids) != {"healthy"}} | set(planted["growing"]["hosts"]) == hosts


def test_a_verdict_speaks_of_the_addresses_of_its_host(fleet, found):
    planted = fleet[1]["planted"]
    said = [row for row in rows(found, "verdicts") if row["id"] in ("source_share", "clash_race")]
    address = {"source_share": planted["abusive_source"]["source"], "clash_race": planted["resolver_race"]["resolver"]}
    assert said and all(address[row["id"]] in row["sentence"] and address[row["id"]] in row["evidence"] for row in said)


def test_the_kernel_changes_where_it_says(fleet, found):
    planted = fleet[1]["planted"]["image"]
    of: dict[str, list[tuple[Any, ...]]] = {}
    for row in sorted(rows(found, "recordings"), key=lambda row: row["began_wall_ns"]):
        of.setdefault(row["host"], []).append(
            (row["boot_id"], row["kernel"], row["image"], iso(row["began_wall_ns"]) > planted["at"])
        )
    assert sorted(host for host, told in of.items() if len({boot for boot, *_ in told}) == 2) == planted["hosts"]
    for host in planted["hosts"]:
        assert [(kernel, image) for _, kernel, image, _ in of[host]] == [
            (planted["kernel"][later], planted["image"][later]) for *_, later in of[host]
        ]
    assert len({told[0][0] for told in of.values()}) == HOSTS


def test_one_service_churns(fleet, found):
    planted = fleet[1]["planted"]["churning_service"]
    gone = Counter((row["host"], row["original.dst"]) for row in rows(found, "events") if row["event"] == "insert")
    assert {key for key, count in gone.items() if count > 500} == {(host, planted["service"]) for host in planted["hosts"]}


def test_counters_never_fall_and_gain_what_was_lost(fleet, found):
    _, said = fleet
    series: dict[tuple[Any, ...], list[int]] = {}
    for row in sorted(rows(found, "counters"), key=lambda row: row["wall_ns"]):
        series.setdefault((row["host"], row["boot_id"], row["netns"], row["cpu"]), []).append(row["drop"])
    assert all(values == sorted(values) for values in series.values())
    gained: Counter[str] = Counter()
    for (host, *_), values in series.items():
        gained[host] += values[-1] - values[0]
    assert +gained == {host: sum(reasons.values()) for host, reasons in said["lost"].items()}


def test_hosts_are_seen_at_times_and_from_addresses_of_their_own(fleet, found):
    began = Counter(row["began_wall_ns"] for row in rows(found, "recordings"))
    assert len(began) == HOSTS * 3
    sources = {host: set() for host in fleet[1]["verdicts"]}
    for row in rows(found, "snapshots"):
        sources[row["host"]].add(row["original.src"])
        assert row["ts"] == iso(row["wall_ns"])
    shared = Counter(source for those in sources.values() for source in those)
    assert max(count for source, count in shared.items() if source.startswith("10.")) <= 2


def test_the_same_seed_makes_the_same_bytes_and_another_others(fleet, tmp_path):
    out, said = fleet
    assert make(tmp_path / "again", HOSTS, HOURS, EVERY, SEED) == said
    assert make(tmp_path / "other", HOSTS, HOURS, EVERY, SEED + 1)["planted"] != said["planted"]
    paths = [path.relative_to(out) for path in out.rglob("*.parquet")]
    assert len(paths) == len(TABLES) * HOSTS * 3
    assert all((out / path).read_bytes() == (tmp_path / "again" / path).read_bytes() for path in paths)


@pytest.mark.parametrize(("hosts", "share"), [(10, 0.05), (100, 0.5), (200, 1), (1000, 1)])
def test_each_cause_is_on_hosts_of_its_own(hosts, share):
    plan = planned(hosts, 24, 8, 3)
    of = [host for those in plan.of_cause.values() for host in those]
    assert len(set(of)) == len(of) <= hosts and len(plan.hosts) == hosts
    assert {cause: len(those) for cause, those in plan.of_cause.items()} == {
        cause: max(1, round(count * share)) for cause, count in HOSTS_WITH.items()
    }


@pytest.mark.parametrize(("hours", "every"), [(24, 8), (72, 6), (5, 1), (2, 8), (7, 3)])
def test_no_recording_goes_beyond_its_day_or_the_time_of_the_fleet(hours, every):
    plan = planned(20, hours, every, 2)
    for those in plan.hosts.values():
        assert len(those) == max(hours // every, 2)
        for one in those:
            assert plan.begin_ns <= one.at_ns < plan.end_ns and day_of(one.at_ns) == day_of(one.at_ns + 6_000_000_000)
        assert [one.at_ns for one in those] == sorted(one.at_ns for one in those)
    assert plan.begin_ns % DAY_NS == 0
