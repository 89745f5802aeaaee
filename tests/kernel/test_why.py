"""What became of a connection, told by a real kernel: each end by what really happened, from either side of NAT."""

from __future__ import annotations

import json
import re
import time
from collections import Counter

from ctobserve_lab.traffic import bound, open_tcp, send_udp

MOST, SENT = 503, 709  # entries that a table has room for, and datagrams that each want one


def test_timed_out_deleted_and_living(net, start, form):
    space = net.space("ends")
    open_tcp(space, space, "127.0.0.1", 4040)
    running = start("why", "127.0.0.1", "--json", "--netns", space.name, "--attach", form)
    send_udp(space, 1, first_port=30001, source_port=5353)
    space.run("conntrack", "-D", "-p", "udp", "--dport", "30001")
    space.sysctl("nf_conntrack_udp_timeout", 3)
    send_udp(space, 1, first_port=30000, source_port=5353)
    # A listing reaps what has expired, if the gc worker was not first.
    while space.listed("-p", "udp"):
        time.sleep(0.5)
    found = json.loads(running.end())
    assert found["ends"] == {"timeout": 1, "deleted": 1, "lives": 1} and found["connections"] == 3
    lives = {life["end"]: life for life in found["lives"]}
    expired, deleted, living = lives["timeout"], lives["deleted"], lives["lives"]
    assert re.fullmatch(
        r"It timed out(?: \(reaped by a netlink dump\))?: no packet for 3 s \(nf_conntrack_udp_timeout\) "
        r"in udp state UNREPLIED, no answer from 127\.0\.0\.1:30000 was ever seen\.",
        expired["sentence"],
    )
    assert (expired["before"], expired["idle_s"], expired["timeout"]) == (False, 3, "nf_conntrack_udp_timeout")
    assert [event["event"] for event in expired["events"]] == ["insert", "destroy"]
    assert expired["inserted"] == expired["events"][0]["ts"] and expired["ended"] == expired["events"][1]["ts"]
    assert expired["events"][0]["bucket"]["original"] is not None and expired["events"][0]["chain"]["reply"] >= 1
    assert re.fullmatch(r"It was deleted by conntrack\[\d+\]\.", deleted["sentence"])
    assert deleted["entry"][0]["original"]["dport"] == 30001
    assert re.fullmatch(r"It lives: ESTABLISHED, assured, 43[12],\d{3} s left\.", living["sentence"])
    assert (living["before"], living["events"], living["ended"]) == (True, [], None)
    assert living["entry"][0]["original"]["dport"] == 4040 and living["timeout_s"] == 432_000


def test_evicted_and_refused_in_a_full_table(net, sysctl, start):
    space = net.space("churn")
    running = start("why", "127.0.0.1/udp", "--json", "--netns", space.name, "--limit", str(SENT))
    before = space.counters()
    sysctl("nf_conntrack_max", MOST)
    refused = send_udp(space, SENT)
    evicted = space.counters()["early_drop"] - before["early_drop"]
    found = json.loads(running.end())
    assert evicted > 0
    assert (found["ends"]["early_drop"], found["ends"].get("table_full", 0)) == (evicted, refused)
    assert found["connections"] == SENT == sum(found["ends"].values()) and found["events_forgotten"] == 0
    told = Counter(life["end"] for life in found["lives"])
    assert told == found["ends"]
    said = re.compile(r"It was evicted to make room for 127\.0\.0\.1:\d+ > 127\.0\.0\.1:(\d+)/udp in the full table\.")
    for life in found["lives"]:
        if life["end"] == "early_drop":
            room = said.match(life["sentence"])
            # Ports rise: each victim is older than the packet that took its place.
            assert room and int(room[1]) > life["entry"][0]["original"]["dport"], life["sentence"]


def test_refused_where_nothing_can_be_evicted(net, sysctl, start):
    space = net.space("full")
    open_tcp(space, space, "127.0.0.1", 4040, 7)
    running = start("why", ":10007/udp", "--json", "--netns", space.name)
    sysctl("nf_conntrack_max", space.count())
    assert send_udp(space, 1, first_port=10007, source_port=5353) == 1
    assert send_udp(space, 3, first_port=10008, source_port=5353) == 3
    found = json.loads(running.end())
    assert found["ends"] == found["packets"] == {"table_full": 1}
    (life,) = found["lives"]
    assert life["sentence"] == "It was refused: the table was full, and nothing was found that could be evicted."
    assert (life["inserted"], life["ended"]) == (None, None)
    (entry,), (event,) = life["entry"], life["events"]
    ends = {"src": "127.0.0.1", "sport": 5353, "dst": "127.0.0.1", "dport": 10007}
    assert entry["original"] == ends and entry["reply"] is None and event["reason"] == "table_full"


def test_behind_dnat_it_is_found_by_the_address_that_is_seen_there(net, start):
    client, server = net.space("client"), net.space("server")
    _, target = net.link(client, server)
    server.nft(
        f"table ip nat {{ chain pre {{ type nat hook prerouting priority dstnat; udp dport 53 dnat to {target}:5353; }}; }}"
    )
    running = start("why", f"{target}:5353/udp", "--json", "--netns", server.name, "--confirms")
    answering = server.inside(lambda: bound(target, 5353))
    asking = client.inside(lambda: bound("10.1.0.1", 7777))
    asking.sendto(b"question", (target, 53))
    assert answering.recvfrom(99) == (b"question", ("10.1.0.1", 7777))
    answering.sendto(b"answer", ("10.1.0.1", 7777))
    assert asking.recvfrom(99) == (b"answer", (target, 53))
    found = json.loads(running.end())
    asking.close()
    answering.close()
    (life,) = found["lives"]
    assert re.fullmatch(r"It lives: udp state REPLIED, \d+ s left\.", life["sentence"])
    assert life["translated"] == [f"destination {target}:53 became {target}:5353"]
    assert (life["before"], life["entry"][0]["original"]["dport"]) == (False, 53)
    assert life["allocated"] < life["inserted"]
    assert [event["event"] for event in life["events"]] == ["insert", "confirm", "update"]
    assert "reply" in life["events"][2]["changes"]
