"""Losses: tuple and reason of every one, and sums equal to the kernel's counters."""

from __future__ import annotations

import json

import pytest

from tests.kernel.world import open_tcp, send_udp

FULL = 23
FORMS = ["fentry", "kprobe"]


def losses(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    names = ("drop", "early_drop", "insert_failed", "chaintoolong", "invalid", "error")
    return {name: after[name] - before[name] for name in names if after[name] != before[name]}


@pytest.mark.parametrize("form", FORMS)
def test_table_full_of_assured_entries(net, sysctl, start, form):
    space = net.space("full")
    sockets = open_tcp(space, space, "127.0.0.1", 4040, 7)
    running = start("drops", "--json", "--netns", space.name, "--attach", form)
    before = space.counters()
    sysctl("nf_conntrack_max", space.count())
    assert send_udp(space, FULL) == FULL
    after = space.counters()
    report = json.loads(running.end())
    assert losses(before, after) == {"drop": FULL}
    assert report["by_reason"] == {"table_full": FULL}
    assert {k: v for k, v in report["kernel_counters"].items() if v} == {"drop": FULL}
    assert report["unaccounted"] == {}
    assert [drop["original"]["dport"] for drop in report["drops"]] == list(range(10000, 10000 + FULL))
    assert {drop["netns"] for drop in report["drops"]} == {space.inum}
    assert all(drop["reply"] is None and drop["bucket"]["original"] is None for drop in report["drops"])
    for one in sockets:
        one.close()


def test_early_drop_makes_room(net, sysctl, start):
    space = net.space("evict")
    running = start("drops", "--json", "--netns", space.name)
    before = space.counters()
    sysctl("nf_conntrack_buckets", 512)
    sysctl("nf_conntrack_max", 503)
    refused = send_udp(space, 601)
    after = space.counters()
    report = json.loads(running.end())
    moved = losses(before, after)
    assert moved["early_drop"] > 0
    assert moved.get("drop", 0) == refused
    assert report["unaccounted"] == {}
    assert report["by_reason"]["early_drop"] == moved["early_drop"]
    assert report["by_reason"].get("table_full", 0) == refused


@pytest.mark.parametrize("form", FORMS)
def test_clash_of_nat_to_one_port(net, start, form):
    client, server = net.space("client"), net.space("server")
    _, target = net.link(client, server)
    client.nft(
        "table ip nat { chain post { type nat hook postrouting priority srcnat;"
        f" ip daddr {target} udp dport 9 snat to 10.1.0.1:7777; }}; }}"
    )
    running = start("events", "--json", "--events", "confirm,drop", "--netns", client.name, "--attach", form)
    before = client.counters()
    code = f"""
import socket
for port in range(3001, 3007):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("10.1.0.1", port))
    try:
        s.sendto(b"x", ("{target}", 9))
    except PermissionError:
        pass
"""
    client.run("/usr/bin/python3", "-c", code)
    moved = losses(before, client.counters())
    running.wait_for(11)
    events = running.events()
    assert moved == {"drop": 5, "insert_failed": 5}
    lost = [event for event in events if event["event"] == "drop"]
    assert [event["reason"] for event in lost] == ["clash"] * 5
    assert sorted(event["original"]["sport"] for event in lost) == list(range(3002, 3007))
    assert {event["reply"]["dport"] for event in lost} == {7777}
    verdicts = [event["verdict"] for event in events if event["event"] == "confirm"]
    assert sorted(verdicts) == ["accept", *["drop"] * 5]
    assert all(event["since_alloc_ns"] > 0 for event in events if event["event"] == "confirm")


@pytest.mark.parametrize("form", FORMS)
def test_chains_too_long(net, sysctl, start, form):
    space = net.space("long")
    sysctl("nf_conntrack_buckets", 512)
    running = start("drops", "--json", "--netns", space.name, "--attach", form)
    before = space.counters()
    refused = send_udp(space, 17011, first_port=20000)
    after = space.counters()
    report = json.loads(running.end())
    moved = losses(before, after)
    assert refused == moved["chaintoolong"] == moved["insert_failed"] > 0
    assert report["by_reason"] == {"chaintoolong": refused}
    assert report["unaccounted"] == {}
    assert report["meta"]["events_lost"] == 0
