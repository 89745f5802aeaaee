"""Entries: every one is seen, in the right bucket, with both tuples, and leaves when it dies."""

from __future__ import annotations

import re
import socket
import time

import numpy as np

from ctobserve.analysis.buckets import distribution
from ctobserve.capture.live import LiveCapture, Options
from ctobserve.event import Kind
from ctobserve.model import UNKNOWN_BUCKET
from ctobserve.programs.hooks import Purpose
from ctobserve_lab.traffic import open_tcp, send_udp

COUNT = 5003


def by_address(entries):
    # Stable: NumPy 2's vectorised argsort gives wrong orders on QEMU 7.2's emulated AVX2.
    return entries[np.argsort(entries["ct"], kind="stable")]


def test_every_new_entry_once_and_in_its_bucket(net, form):
    space = net.space("flood")
    with LiveCapture(Options(Purpose.TABLE, form, chains=True)) as capture:
        assert capture.fidelity().attach == form
        capture.follow()
        capture.step()
        send_udp(space, COUNT)
        events = capture.step()
        inserted = events["entry"][events["kind"] == Kind.INSERT]
        ours = inserted[inserted["netns"] == space.inum]
        assert len(ours) == COUNT
        assert capture.fidelity().lost == {}
        rebuilt = capture.table.entries()
        walk = capture.snapshot()
        rebuilt, walked = by_address(rebuilt), by_address(walk.entries)
        rebuilt, walked = rebuilt[rebuilt["netns"] == space.inum], walked[walked["netns"] == space.inum]
        for field in ("ct", "bucket", "addr", "port", "netns", "l3num", "protonum", "zone"):
            assert (rebuilt[field] == walked[field]).all(), field
        assert walk.unread == 0
        # The chain at the last insert into a bucket is the chain's length now: nothing left meanwhile.
        lengths = np.bincount(walk.entries["bucket"].ravel(), minlength=walk.buckets)
        last = {int(bucket): int(chain) for row in ours for bucket, chain in zip(row["bucket"], row["chain"], strict=True)}
        assert all(lengths[bucket] == chain for bucket, chain in last.items())
        found = distribution(capture.lengths(), 3, capture.chain)
        assert sum(found.histogram.values()) == found.buckets == walk.buckets
        assert sum(length * n for length, n in found.histogram.items()) == found.nodes == 2 * len(walk.entries)
        for chain in found.longest:
            inside = by_address(walk.entries[(walk.entries["bucket"] == chain.bucket).any(axis=1)])
            assert (by_address(chain.entries)[["ct", "bucket"]] == inside[["ct", "bucket"]]).all()


def test_list_and_buckets_show_what_events_said(net, start, report):
    space = net.space("flood")
    running = start("events", "--json", "--events", "insert", "--netns", space.name)
    send_udp(space, COUNT)
    running.wait_for(COUNT)
    events = running.events()
    assert len(events) == COUNT
    assert {event["event"] for event in events} == {"insert"}
    listed = report("list", "--netns", space.name)
    assert len(listed["entries"]) == COUNT
    bucket_of = {entry["original"]["dport"]: entry["bucket"] for entry in listed["entries"]}
    assert bucket_of == {event["original"]["dport"]: event["bucket"] for event in events}
    found = report("buckets")
    histogram = {int(length): count for length, count in found["histogram"].items()}
    assert sum(histogram.values()) == found["buckets"]
    assert sum(length * count for length, count in histogram.items()) == found["nodes"] == 2 * found["entries"]
    assert found["entries"] >= COUNT
    assert found["meta"]["events_lost"] == 0


def tuples(lines: list[str]) -> list[tuple[str, ...]]:
    """Protocol number and both tuples' numbers of `conntrack -L` lines, as words."""
    return sorted(
        (line.split()[1], *re.findall(r"(?:src|dst|sport|dport|type|code|id|srckey|dstkey)=(\S+)", line)) for line in lines
    )


def words(entries: list[dict]) -> list[tuple[str, ...]]:
    """The same words of our entries."""
    return sorted(
        (
            str(entry["protonum"]),
            *(str(value) for side in ("original", "reply") for value in entry[side].values() if value is not None),
        )
        for entry in entries
    )


def test_protocols_families_and_nat_as_conntrack_lists_them(net, report):
    client, router, server = net.space("client"), net.space("router"), net.space("server")
    near, gate = net.link(client, router)
    far, target = net.link(router, server)
    client.run("ip", "route", "add", "default", "via", gate)
    client.run("ip", "-6", "route", "add", "default", "via", "fd00:1::2")
    router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    server.run("ip", "-6", "route", "add", "default", "via", "fd00:2::1")
    router.nft(
        "table ip nat {"
        f" chain pre {{ type nat hook prerouting priority dstnat; tcp dport 8080 dnat to {target}:80; }}\n"
        f" chain post {{ type nat hook postrouting priority srcnat; ip saddr {near} masquerade; }}\n }}"
    )
    open_tcp(server, client, target, 4040)
    open_tcp(server, client, "fd00:2::2", 4141)

    def through_dnat() -> socket.socket:
        return socket.create_connection((gate, 8080), 30)

    listener = server.inside(lambda: socket.create_server((target, 80)))
    client.sockets += [client.inside(through_dnat), listener]
    client.run("ping", "-c1", target)
    client.run("ping", "-6", "-c1", "fd00:2::2")

    def send_generic() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) as raw:
            raw.sendto(b"generic", (target, 0))

    client.inside(send_generic)
    for space in (client, router, server):
        listed = report("list", "--netns", space.name)
        theirs = tuples(space.listed("-f", "ipv4") + space.listed("-f", "ipv6"))
        assert words(listed["entries"]) == theirs
        assert {entry["netns"] for entry in listed["entries"]} == {space.inum}
        assert listed["meta"]["netns_names"][str(space.inum)] == space.name
    router_rows = report("list", "--netns", router.name, "--proto", "tcp")["entries"]
    by_port = {row["original"]["dport"]: row for row in router_rows}
    dnat, snat = by_port[8080], by_port[4040]
    assert {"src_nat", "dst_nat", "assured"} <= set(dnat["status"])
    assert (dnat["original"]["dst"], dnat["reply"]["src"], dnat["reply"]["sport"]) == (gate, target, 80)
    assert "src_nat" in snat["status"] and "dst_nat" not in snat["status"]
    assert (snat["original"]["src"], snat["reply"]["dst"]) == (near, far)
    assert by_port[4141]["l3"] == "ipv6" and by_port[4141]["tcp_state"] == "ESTABLISHED"


def test_entries_before_us_are_seeded_and_the_dead_leave(net):
    old, new = net.space("old"), net.space("new")
    send_udp(old, 101)
    with LiveCapture(Options(Purpose.TABLE)) as capture:
        capture.follow()
        send_udp(new, 211)
        send_udp(old, 53, first_port=20000)
        old.run("conntrack", "-D", "-p", "udp", "--dport", "10007")
        new.run("conntrack", "-F")
        send_udp(new, 17, first_port=30000)
        capture.step()
        netns = capture.table.entries()["netns"]
        for space, expected in ((old, 101 + 53 - 1), (new, 17)):
            assert np.count_nonzero(netns == space.inum) == expected == space.count()
        new.sysctl("nf_conntrack_udp_timeout", 1)
        send_udp(new, 29, first_port=40000)
        end = time.monotonic() + 30
        while new.listed() and time.monotonic() < end:
            new.run("conntrack", "-D", "-p", "udp", "--sport", "1", check=False)
            if np.count_nonzero(capture.step()["kind"] == Kind.DESTROY) >= 29:
                break
            time.sleep(0.5)
        netns = capture.table.entries()["netns"]
        assert np.count_nonzero(netns == new.inum) == 17 == new.count()
        assert capture.fidelity().lost == {}


def test_resize_is_followed(net, sysctl):
    space = net.space("resize")
    send_udp(space, 307)
    with LiveCapture(Options(Purpose.TABLE)) as capture:
        capture.follow()
        before = capture.buckets
        sysctl("nf_conntrack_buckets", before // 2)
        capture.settle()
        assert capture.buckets == before // 2
        walk = capture.snapshot()
        ours = capture.table.entries()
        assert (np.sort(ours["bucket"].ravel()) == np.sort(walk.entries["bucket"].ravel())).all()
        assert (ours["bucket"] != UNKNOWN_BUCKET).all() and (ours["bucket"] < before // 2).all()
