"""`top` on a real table: who fills it, who makes the most new entries, who loses packets."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from ctobserve.host.netns import discover
from ctobserve_lab.traffic import send_udp


def frames(running, count: int) -> list[dict]:
    running.wait_for(count)
    return [json.loads(line) for line in running.end().splitlines()]


def test_entries_rates_and_groups(net, start):
    space = net.space("top")
    send_udp(space, 41)
    running = start("top", "--json", "--interval", "0.5", "--by", "dst,sport", "--order", "new", "--netns", space.name)
    send_udp(space, 307, source_port=4242)
    seen = frames(running, 4)
    assert seen[-1]["entries"] == seen[-1]["entries_by_netns"][str(space.inum)] == 348
    # The rates are rounded to a tenth, the intervals to a millisecond.
    assert abs(sum(frame["new_per_s"] * frame["interval_s"] for frame in seen) - 307) < 2
    busiest = max(seen, key=lambda frame: frame["new_per_s"])["groups"][0]
    assert busiest["values"] == ["127.0.0.1", 4242] and busiest["new_per_s"] > 0
    assert all(len(frame["groups"]) <= 10 and frame["events_lost"] == 0 for frame in seen)
    assert seen[-1]["max_by_netns"][str(space.inum)] == int(space.run("cat", "/proc/sys/net/netfilter/nf_conntrack_max"))


def test_who_loses_packets(net, start, sysctl):
    space = net.space("losing")
    send_udp(space, 29)
    running = start("top", "--json", "--interval", "0.5", "--order", "lost", "--netns", space.name)
    sysctl("nf_conntrack_max", 29)
    lost = send_udp(space, 307, first_port=30000)
    seen = frames(running, 4)
    assert sum(frame["groups"][0]["lost"] for frame in seen if frame["groups"]) == lost > 0
    reasons = [frame["lost_by_reason"] for frame in seen if frame["lost_by_reason"]]
    assert {name for row in reasons for name in row} == {"table_full"}


def test_for_people_and_in_order(net, start):
    space = net.space("people")
    send_udp(space, 23)
    running = start("top", "--interval", "0.5", "--by", "proto", "--limit", "1", "--netns", space.name)
    running.wait_for(4)
    text = running.end()
    assert "23 entries" in text and f"23 in {space.name}" in text
    assert "\x1b" not in text
    assert text.splitlines()[3].split() == ["23", "0.0", "0", "udp"]


def test_a_namespace_without_a_name_is_called_by_its_first_process(start):
    with subprocess.Popen(["unshare", "-n", "sleep", "600"]) as process:
        try:
            while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
                time.sleep(0.01)
            inum = Path(f"/proc/{process.pid}/ns/net").stat().st_ino
            running = start("top", "--json", "--interval", "0.5", "--by", "netns", "--netns", f"sleep[{process.pid}]")
            running.end()
            assert discover()[inum].label == f"sleep[{process.pid}]"
        finally:
            process.kill()
