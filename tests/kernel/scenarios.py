"""Incidents in small, each with exact numbers in namespaces of its own.

A scenario is a generator: it builds its world, yields the namespace to be watched (None: all), is sent the running ctobserve, and
makes its incident.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kernel.test_packets import bound, checksum, next_sequence, send_segments
from tests.kernel.world import Net, Space, open_tcp, run, send_udp

Sysctl = Callable[[str, int], None]
Play = Generator[Space | None, Any, None]
SYN, ACK = 0x02, 0x10


@dataclass(frozen=True)
class Scenario:
    """`expected`: the ids of all verdicts of severity warning and above; `notices`: ids that must be there besides."""

    play: Callable[[Net, Sysctl], Play]
    expected: frozenset[str]
    notices: frozenset[str] = frozenset()


def load(
    space: Space, count: int, status: str = "SEEN_REPLY,ASSURED", proto: str = "udp", left_s: int = 900, sources: int = 250
) -> None:
    """`count` entries by netlink, as conntrackd puts them into a standby's table."""
    first = int(ipaddress.ip_address("10.50.0.1"))
    state = " --state ESTABLISHED" if proto == "tcp" else ""
    lines = [
        f"-A -t {left_s} -u {status} -s {ipaddress.ip_address(first + at % sources)} -d 10.60.0.1 -p {proto} "
        f"--sport {1024 + at} --dport {2000 + at % 17}{state}"
        for at in range(count)
    ]
    run("ip", "netns", "exec", space.name, "conntrack", "-R", "-", input="\n".join(lines) + "\n")
    assert space.count() >= count


def healthy(net: Net, sysctl: Sysctl) -> Play:
    client, server = net.space("client"), net.space("server")
    source, target = net.link(client, server)
    server.sysctl("nf_conntrack_acct", 1)
    yield server
    open_tcp(server, client, target, 443, 7)
    with server.inside(lambda: bound(target, 53)) as service, client.inside(lambda: bound(source, 5353)) as resolver:
        resolver.sendto(b"?", (target, 53))
        service.sendto(b"!", service.recvfrom(9)[1])


def full(net: Net, sysctl: Sysctl) -> Play:
    space = net.space("full")
    open_tcp(space, space, "127.0.0.1", 4040, 7)
    yield space
    sysctl("nf_conntrack_max", space.count())
    assert send_udp(space, 23) == 23


def filling(net: Net, sysctl: Sysctl) -> Play:
    space = net.space("filling")
    open_tcp(space, space, "127.0.0.1", 4040, 41)
    yield space
    # Below 95 % of the limit: above it the gc worker evicts.
    sysctl("nf_conntrack_max", space.count() + 7)


def evicting(net: Net, sysctl: Sysctl) -> Play:
    space = net.space("evict")
    sysctl("nf_conntrack_buckets", 512)
    load(space, 499, "SEEN_REPLY")
    yield space
    sysctl("nf_conntrack_max", space.count())
    assert send_udp(space, 11) == 0


def long_chains(net: Net, sysctl: Sysctl) -> Play:
    space = net.space("long")
    sysctl("nf_conntrack_buckets", 512)
    yield space
    load(space, 7001)


def port_shortage(net: Net, sysctl: Sysctl) -> Play:
    client, server = net.space("client"), net.space("server")
    source, target = net.link(client, server)
    nat = f"type nat hook postrouting priority srcnat; ip daddr {target} udp dport 9 snat to {source}:7777;"
    client.nft(f"table ip nat {{ chain post {{ {nat} }}; }}")
    yield client
    for port in range(3001, 3007):
        send_udp(client, 1, 9, target, port)


def race(net: Net, sysctl: Sysctl) -> Play:
    space = net.space("race")
    yield space
    for _ in range(20):
        space.run("/usr/bin/python3", str(Path(__file__).with_name("race.py")), "127.0.0.1", "83")
        if space.counters()["clash_resolve"]:
            return
        space.run("conntrack", "-F")
    raise AssertionError("the race never fired")


def outside_window(net: Net, sysctl: Sysctl) -> Play:
    client, server = net.space("client"), net.space("server")
    source, target = net.link(client, server)
    sockets = open_tcp(server, client, target, 4040)
    yield server
    sequence = (next_sequence(sockets[0]) + (1 << 29)) & 0xFFFFFFFF
    send_segments(client, 11, (source, sockets[0].getsockname()[1]), (target, 4040), ACK, sequence)


def one_direction(net: Net, sysctl: Sysctl) -> Play:
    client, server = net.space("client"), net.space("server")
    source, target = net.link(client, server)
    yield server
    send_segments(client, 11, (source, 443), (target, 50_000), SYN | ACK, 1)


def one_side_speaks(net: Net, sysctl: Sysctl) -> Play:
    client, server = net.space("client"), net.space("server")
    source, target = net.link(client, server)
    server.nft("table ip raw { chain out { type filter hook output priority raw; tcp flags rst drop; }; }")
    yield server
    for port in range(50_000, 50_013):
        send_segments(client, 1, (source, port), (target, 443), ACK, 1)


def scan(net: Net, sysctl: Sysctl) -> Play:
    client, server = net.space("client"), net.space("server")
    _, target = net.link(client, server)
    yield client
    send_udp(client, 113, 7000, target)


def syn_flood(net: Net, sysctl: Sysctl) -> Play:
    client, server = net.space("client"), net.space("server")
    source, target = net.link(client, server)
    server.run("ip", "route", "add", "default", "via", source)
    with server.inside(lambda: socket.create_server((target, 443))):
        yield server
        client.inside(lambda: forged_syns(target, 61))
        end = time.monotonic() + 30
        while server.count() < 61 and time.monotonic() < end:
            time.sleep(0.1)


def forged_syns(target: str, count: int) -> None:
    """One SYN from each of `count` sources."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for at in range(count):
            ends = socket.inet_aton(f"10.77.0.{at + 1}") + socket.inet_aton(target)
            body = struct.pack(">HHIIBBHHH", 40_000, 443, 1, 0, 5 << 4, SYN, 1024, 0, 0)
            summed = checksum(ends + struct.pack(">BBH", 0, 6, len(body)) + body)
            head = struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + ends
            raw.sendto(head + body[:16] + struct.pack(">HH", summed, 0), (target, 0))


def greedy_source(net: Net, sysctl: Sysctl) -> Play:
    space = net.space("greedy")
    yield space
    load(space, 421, sources=1)
    sysctl("nf_conntrack_max", 1009)


def greedy_namespace(net: Net, sysctl: Sysctl) -> Play:
    big, small = net.space("big"), net.space("small")
    sysctl("nf_conntrack_buckets", 512)
    yield None
    load(big, 601)
    load(small, 53)


def idle(net: Net, sysctl: Sysctl) -> Play:
    space = net.space("idle")
    load(space, 307, proto="tcp", left_s=172_800)
    yield space
    sysctl("nf_conntrack_max", 1009)


def stale(net: Net, sysctl: Sysctl) -> Play:
    client, server = net.space("client"), net.space("server")
    source, target = net.link(client, server)
    server.run("ip", "addr", "add", "10.1.0.3/24", "dev", "v1b")
    dnat = "table ip nat {{ chain out {{ type nat hook output priority -100; ip daddr 10.96.0.1 udp dport 53 dnat to {}; }}; }}"
    client.run("ip", "route", "add", "10.96.0.0/16", "via", target)
    client.nft(dnat.format("10.1.0.3"))
    with client.inside(lambda: bound(source, 5353)) as old, server.inside(lambda: bound(target, 53)) as service:
        old.connect(("10.96.0.1", 53))
        old.send(b"?")
        client.nft("delete table ip nat")
        client.nft(dnat.format(target))
        yield client
        time.sleep(1)
        send_past_errors(old)
        with client.inside(lambda: bound(source, 5354)) as fresh:
            fresh.sendto(b"?", ("10.96.0.1", 53))
            service.sendto(b"!", service.recvfrom(9)[1])
            assert fresh.recv(9) == b"!"


def send_past_errors(one: socket.socket) -> None:
    """An ICMP error that came for the last datagram is told at the next."""
    for _ in range(2):
        try:
            one.send(b"?")
        except ConnectionRefusedError:
            continue


def lost_records(net: Net, sysctl: Sysctl) -> Play:
    space = net.space("lost")
    running = yield space
    running.pause()
    load(space, 4001)
    running.resume()


def needless(net: Net, sysctl: Sysctl) -> Play:
    space = net.space("needless")
    space.run("nft", "flush", "ruleset")
    space.nft("table ip nat { chain post { type nat hook postrouting priority srcnat; }; }")
    space.sysctl("nf_conntrack_events", 0)
    yield space
    load(space, 127)


SCENARIOS = {
    "healthy": Scenario(healthy, frozenset()),
    "full": Scenario(full, frozenset({"table_full"})),
    "filling": Scenario(filling, frozenset({"table_filling"})),
    "evicting": Scenario(evicting, frozenset({"early_drop"})),
    "long_chains": Scenario(long_chains, frozenset({"chain_too_long", "few_buckets"})),
    "port_shortage": Scenario(port_shortage, frozenset({"snat_ports"})),
    "race": Scenario(race, frozenset(), frozenset({"clash_race"})),
    "outside_window": Scenario(outside_window, frozenset({"invalid_window"})),
    "one_direction": Scenario(one_direction, frozenset({"asymmetric_routing"})),
    "one_side_speaks": Scenario(one_side_speaks, frozenset({"asymmetric_routing"})),
    "scan": Scenario(scan, frozenset({"scan"}), frozenset({"acct_off"})),
    "syn_flood": Scenario(syn_flood, frozenset({"syn_flood"})),
    "greedy_source": Scenario(greedy_source, frozenset({"source_share"})),
    "greedy_namespace": Scenario(greedy_namespace, frozenset({"netns_share"})),
    "idle": Scenario(idle, frozenset({"idle_established"})),
    "stale": Scenario(stale, frozenset({"stale_udp"})),
    "needless": Scenario(needless, frozenset(), frozenset({"tracking_unneeded", "events_off"})),
}
