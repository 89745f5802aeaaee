"""The exporter on a real kernel: its series are the kernel's counters, and what drops and report say; it outlives conntrack."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text

from ctobserve.capture.counting import LiveCounting
from ctobserve.event import Kind
from ctobserve.programs.constants import TALLIES
from ctobserve_lab.traffic import load, open_tcp, race, send_udp
from ctobserve_lab.world import Net, Space, run
from tests.kernel.machine import machine
from tests.kernel.test_reading import unload
from tests.kernel.tool import PATIENCE_S

PORT = 9877
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Series = dict[tuple[str, ...], float]


def scrape(accept: str = "text/plain") -> Series:
    """By name and the values of its labels."""
    asked = Request(f"http://127.0.0.1:{PORT}/metrics", headers={"Accept": accept})
    with urlopen(asked, timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith(accept.partition(";")[0])
        text = answer.read().decode()
    families = (of_openmetrics if accept == OPENMETRICS else of_text)(text)
    return {(one.name, *(one.labels.values())): one.value for family in families for one in family.samples}


def of(series: Series, label: str) -> dict[tuple[str, ...], int]:
    """Those of one namespace that are not 0, without what begins every name, and without the label."""
    return {
        (name.removeprefix("ctobserve_"), *rest): int(value)
        for (name, *labels), value in series.items()
        if labels and labels[0] == label and value
        for rest in [tuple(labels[1:])]
    }


def when(found: Callable[[], bool]) -> None:
    """Waits for it."""
    end = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_every_series_is_what_happened(net, sysctl, start, form):
    """Prime numbers, each by itself, beside `conntrack -S` and what `drops` says of the same time."""
    space, other = net.space("counted"), net.space("other")
    send_udp(space, 11, first_port=1000)  # before anybody counts
    exporter = start("export", "--attach", form)
    drops = start("drops", "--json", "--netns", space.name, "--attach", form)
    events = start("events", "--json", "--events", "insert,destroy", "--netns", space.name, "--attach", form)
    before = space.counters()
    send_udp(space, 101)
    send_udp(other, 13)
    for port in range(10000, 10007):
        space.run("conntrack", "-D", "-p", "udp", "--dport", str(port))
    load(space, 17)
    open_tcp(space, space, "127.0.0.1", 4040, 3)
    for _ in range(10):
        race(space, "127.0.0.1", 199)
        if space.counters()["clash_resolve"] > before["clash_resolve"]:
            break
    maximum = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())
    # Of assured entries alone nobody can be evicted.
    space.run("conntrack", "-F")
    open_tcp(space, space, "127.0.0.1", 4041, 29)
    sysctl("nf_conntrack_max", space.count())
    assert send_udp(space, 23, first_port=30000) == 23
    sysctl("nf_conntrack_max", maximum)
    after = space.counters()
    text, openmetrics = scrape(), scrape(OPENMETRICS)
    counted = of(text, space.name)
    assert counted == of(openmetrics, space.name)
    lost = json.loads(drops.end())
    told = [event for event in events.events() if event["netns"] == space.inum]
    destroyed: dict[str, int] = {}
    for event in told:
        if event["event"] == "destroy" and event["reason"] != "unconfirmed":
            destroyed[event["reason"]] = destroyed.get(event["reason"], 0) + 1
    resolved = after["clash_resolve"] - before["clash_resolve"]
    assert counted.pop(("clashes_resolved_total",), 0) == resolved == lost["clash_resolved"]
    assert counted.pop(("inserts_total",)) == sum(event["event"] == "insert" for event in told)
    assert destroyed["deleted"] == 7 and destroyed["flushed"] > 0
    assert {
        reason: number for (name, *labels), number in counted.items() if name == "destroys_total" for reason in labels
    } == destroyed
    drop = {labels[0]: number for (name, *labels), number in counted.items() if name == "drops_total"}
    assert drop == lost["by_reason"] == {"table_full": 23}
    assert after["drop"] - before["drop"] == 23
    assert counted[("entries",)] == space.count()
    assert text["ctobserve_entries_limit", space.name] == maximum
    assert of(text, other.name) == {
        ("inserts_total",): 13, ("entries",): 13, ("entries_limit",): text["ctobserve_entries_limit", other.name]
    }  # fmt: skip
    assert text["ctobserve_programs_missed_total",] == 0 and "ctobserve_records_lost_total" not in {name for name, *_ in text}
    build = next(labels for name, *labels in text if name == "ctobserve_build_info")
    assert form in build
    exporter.end()


def test_evictions_are_the_kernels_and_those_of_drops(net, sysctl, start, form):
    space = net.space("evict")
    sysctl("nf_conntrack_buckets", 512)
    exporter = start("export", "--attach", form)
    drops = start("drops", "--json", "--netns", space.name, "--attach", form)
    before = space.counters()
    sysctl("nf_conntrack_max", 1009)
    refused = send_udp(space, 1409)
    after, found = space.counters(), scrape()
    lost = json.loads(drops.end())
    evicted = after["early_drop"] - before["early_drop"]
    assert evicted > 0
    assert found["ctobserve_early_drops_total", space.name] == evicted == lost["by_reason"]["early_drop"]
    assert found["ctobserve_destroys_total", space.name, "early_drop"] == evicted
    assert found["ctobserve_drops_total", space.name, "table_full"] == refused == lost["by_reason"].get("table_full", 0)
    exporter.end()


def test_clashes_of_nat_are_losses_as_in_drops(net, start, form):
    client, server = net.space("client"), net.space("server")
    _, target = net.link(client, server)
    client.nft(
        "table ip nat { chain post { type nat hook postrouting priority srcnat;"
        f" ip daddr {target} udp dport 9 snat to 10.1.0.1:7777; }}; }}"
    )
    exporter = start("export", "--attach", form)
    before = client.counters()
    # The one port is the first sender's: every other's tuple is the same after NAT.
    for port in range(3001, 3009):
        send_udp(client, 1, first_port=9, target=target, source_port=port, source="10.1.0.1")
    after, counted = client.counters(), of(scrape(), client.name)
    assert {name: after[name] - before[name] for name in ("drop", "insert_failed")} == {"drop": 7, "insert_failed": 7}
    assert {tuple(labels): number for (name, *labels), number in counted.items() if name == "drops_total"} == {("clash",): 7}
    exporter.end()


def test_chains_are_those_of_report_and_counts_are_verified(net, start, report):
    space = net.space("chains")
    send_udp(space, 499)
    exporter = start("export")
    when(lambda: ("ctobserve_walk_seconds",) in scrape())
    found, told = scrape(), report("buckets")
    assert (
        found["ctobserve_buckets",] == found["ctobserve_chain_length_gcount",] == found["ctobserve_chain_length_bucket", "+Inf"]
    )
    assert found["ctobserve_longest_chain",] == told["max_chain"]
    assert found["ctobserve_chain_length_gsum",] >= 2 * 499
    assert 1 <= found["ctobserve_lookup_cost",] <= found["ctobserve_longest_chain",]
    assert abs(found["ctobserve_walk_timestamp_seconds",] - time.time()) < PATIENCE_S
    when(lambda: ("ctobserve_last_verify_timestamp_seconds",) in scrape())
    assert {value for (name, *_), value in scrape().items() if name == "ctobserve_unaccounted_total"} == {0}
    exporter.end()
    assert "differ" not in exporter.errors


def test_namespaces_end_with_their_series_and_beyond_the_limit_are_others(net, start):
    first, second = net.space("first"), net.space("second")
    exporter = start("export", "--limit", "2")
    send_udp(first, 7)
    send_udp(second, 11)
    found = scrape()
    named = {labels[0] for name, *labels in found if name == "ctobserve_inserts_total"}
    assert len(named) == 3 and "other" in named, "the first namespace of all, one of these two, and the others"
    (own,) = named - {"init", "other"}
    mine, rest = ((first, 7), (second, 11)) if own == first.name else ((second, 11), (first, 7))
    assert found["ctobserve_inserts_total", own] == mine[1]
    assert found["ctobserve_inserts_total", "other"] == found["ctobserve_entries", "other"] == rest[1]
    run("ip", "netns", "del", own)
    # It lives on for a moment, though nobody can enter it: what is flushed then is of the others.
    when(lambda: ("ctobserve_inserts_total", own) not in scrape())
    send_udp(rest[0], 3, first_port=20000)
    found = scrape()
    assert found["ctobserve_inserts_total", rest[0].name] == 3, "from when it has a series of its own"
    assert found["ctobserve_inserts_total", "other"] == rest[1]
    when(lambda: scrape().get(("ctobserve_destroys_total", "other", "netns_exit")) == mine[1])
    exporter.end()


# Namespaces of every kind are numbered in one row, the lowest number that is free first; those of UTS cost next to nothing.
FILL = """
import ctypes, os, sys
first, tallies, ahead, held = *map(int, sys.argv[1:]), []
while not held or (os.fstat(held[-1]).st_ino + ahead - first) % tallies:
    ctypes.CDLL(None).unshare(0x04000000)
    held.append(os.open("/proc/self/ns/uts", os.O_RDONLY))
print(os.fstat(held[-1]).st_ino, flush=True)
sys.stdin.read()
"""


def of_one_slot(net: Net, first: Space) -> Space:
    """Another namespace whose number takes the same slot. How many numbers one takes before its own is found out."""
    ahead = 1
    for attempt in range(6):
        command = [sys.executable, "-c", FILL, str(first.inum), str(TALLIES), str(ahead)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as filling:
            assert filling.stdout
            last = int(filling.stdout.readline())
            found = net.space(f"try{attempt}")
            filling.communicate()
        if found.inum % TALLIES == first.inum % TALLIES:
            return found
        ahead = found.inum - last
    raise AssertionError("no namespace takes the slot of another")


def test_two_namespaces_of_one_slot_are_told_apart_also_where_one_is_forgotten(net):
    first = net.space("first")
    second = of_one_slot(net, first)
    with LiveCounting("auto") as counting:

        def inserts() -> list[int]:
            found = {one.netns: one.number for one in counting.counts() if one.kind == Kind.INSERT}
            return [found.get(space.inum, 0) for space in (first, second)]

        for port in (7000, 13000):
            send_udp(first, 7, first_port=port)
            send_udp(second, 13, first_port=port)
        assert inserts() == [14, 26]
        counting.forget({first.inum})
        assert inserts() == [0, 26]
        # As one that has its number then.
        send_udp(first, 3, first_port=20000)
        send_udp(second, 5, first_port=20000)
        assert inserts() == [3, 31]
        counting.forget({first.inum, second.inum})
        assert inserts() == [0, 0] and counting.missed() == 0


@pytest.fixture
def reload():
    yield
    run("modprobe", "-a", "nf_conntrack", "nf_conntrack_netlink")


def test_it_starts_before_conntrack_and_outlives_it(reload, net, start):
    unload()
    exporter = start("export", "--attach", "kprobe")
    found = scrape()
    assert not [name for name, *_ in found if name == "ctobserve_entries"]
    assert [labels for name, *labels in found if name == "ctobserve_build_info" and "none" in labels]
    inserts = 0
    for number in (19, 23):
        run("modprobe", "nf_conntrack")
        when(lambda: any(name == "ctobserve_build_info" and "kprobe" in labels for name, *labels in scrape()))
        space = net.space(f"loaded{number}")
        send_udp(space, number)
        assert scrape()["ctobserve_inserts_total", space.name] == number
        inserts += number
        run("ip", "netns", "del", space.name)
        unload()
        when(lambda: any(name == "ctobserve_build_info" and "none" in labels for name, *labels in scrape()))
    assert exporter.errors.count("nf_conntrack was unloaded") == 2
    descriptors = len(list(Path(f"/proc/{exporter.process.pid}/fd").iterdir()))
    assert descriptors < 30, "nothing is left of programs that are gone"
    exporter.end()


def test_the_flight_recorder_runs_beside_it(net, start, tmp_path, report):
    space = net.space("both")
    directory = tmp_path / "flight"
    exporter = start("export", "--record", str(directory))
    when(lambda: (directory / "").exists() and any(directory.iterdir()))
    send_udp(space, 31)
    found = scrape()
    assert found["ctobserve_inserts_total", space.name] == 31 and found["ctobserve_records_lost_total",] == 0
    time.sleep(1)
    exporter.end()
    told = report("list", "--from", str(directory))
    assert sum(entry["netns"] == space.inum for entry in told["entries"]) == 31


def test_nothing_of_the_machine_is_changed(net, start):
    before = machine()
    exporter = start("export")
    scrape()
    exporter.end()
    after = machine()
    before.pop("processes")
    after.pop("processes")
    assert after == before
