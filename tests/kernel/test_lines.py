"""`list --format kernel` beside /proc/net/nf_conntrack, line for line."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections import Counter
from pathlib import Path

import pytest

from ctobserve.analysis.printed import printed
from ctobserve.capture.filters import Filter
from ctobserve.capture.live import LiveCapture, Options
from ctobserve.programs.hooks import Purpose
from ctobserve.render.kernel_lines import kernel_lines
from ctobserve_lab.traffic import open_tcp, send_udp
from tests.kernel.warm import told

TRIES = 5
LEFT = re.compile(r"^(\S+ +\d+ \S+ +\d+ )(\d+) ")
AGE = re.compile(r"delta-time=(\d+) ")
GENERIC = 253
SCTP_INIT = struct.pack("!HHIIBBHIIHHI", 7000, 7001, 0, 0, 1, 0, 20, 1, 1500, 1, 1, 1)
DCCP_REQUEST = struct.pack("!HHBBHBBHII", 7100, 7101, 5, 0, 0, 1, 0, 0, 1, 0)
UDPLITE = struct.pack("!HHHH", 7200, 7201, 8, 0xFFFF)
GRE_PLAIN, GRE_PPTP = struct.pack("!HH", 0, 0x0800), struct.pack("!HHHH", 0x2001, 0x880B, 0, 0xBEEF)


def send_raw(space, target, protocol, *payloads):
    def send():
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as raw:
            for payload in payloads:
                raw.sendto(payload, (target, 0))

    space.inside(send)


@pytest.fixture
def world(net):
    """Client, router, server: every tracker, both families, NAT, zones, a mark; counters in one, start times in another."""
    client, router, server = net.space("client"), net.space("router"), net.space("server")
    client.sysctl("nf_conntrack_acct", 1)
    router.sysctl("nf_conntrack_timestamp", 1)
    router.sysctl("nf_conntrack_acct", 1)
    for name in ("sctp_timeout_closed", "sctp_timeout_cookie_wait", "gre_timeout", "dccp_timeout_request"):
        client.run("sh", "-c", f"cd /proc/sys/net/netfilter; test ! -e nf_conntrack_{name} || echo 900 > nf_conntrack_{name}")
        router.run("sh", "-c", f"cd /proc/sys/net/netfilter; test ! -e nf_conntrack_{name} || echo 901 > nf_conntrack_{name}")
        server.run("sh", "-c", f"cd /proc/sys/net/netfilter; test ! -e nf_conntrack_{name} || echo 902 > nf_conntrack_{name}")
    near, gate = net.link(client, router)
    _, target = net.link(router, server)
    client.run("ip", "route", "add", "default", "via", gate)
    client.run("ip", "-6", "route", "add", "default", "via", "fd00:1::2")
    server.run("ip", "-6", "route", "add", "default", "via", "fd00:2::1")
    router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    router.nft(
        "table ip nat {"
        f" chain pre {{ type nat hook prerouting priority dstnat; tcp dport 8080 dnat to {target}:80; }}\n"
        f" chain post {{ type nat hook postrouting priority srcnat; ip saddr {near} masquerade; }}\n }}"
    )
    client.nft(
        "table inet zones { chain before { type filter hook output priority raw;"
        " udp dport 20000-20002 ct zone set 9; udp dport 20010-20012 ct original zone set 5;"
        " udp dport 20020-20021 ct reply zone set 6; }\n"
        " chain marks { type filter hook output priority 0; udp dport 20030 ct mark set 0xfffffffe; }\n }"
    )
    open_tcp(server, client, target, 4040, 3)
    open_tcp(server, client, "fd00:2::2", 4141, 2)
    listener = server.inside(lambda: socket.create_server((target, 80)))
    client.sockets += [client.inside(lambda: socket.create_connection((gate, 8080), 30)), listener]
    for first, count in ((20000, 3), (20010, 3), (20020, 2), (20030, 2)):
        send_udp(client, count, first, target)
    client.run("ping", "-c2", target)
    client.run("ping", "-6", "-c1", "fd00:2::2")
    send_raw(client, target, GENERIC, b"generic")
    send_raw(client, target, socket.IPPROTO_GRE, GRE_PLAIN, GRE_PPTP)
    send_raw(client, target, socket.IPPROTO_SCTP, SCTP_INIT)
    send_raw(client, target, 33, DCCP_REQUEST)
    send_raw(client, target, socket.IPPROTO_UDPLITE, UDPLITE + b"lite")
    return {"client": client, "router": router, "server": server}


def proc(space) -> list[str]:
    return space.inside(Path("/proc/thread-self/net/nf_conntrack").read_text).splitlines()


def still(line: str) -> str:
    """The line without what time alone changes."""
    return AGE.sub("delta-time=* ", LEFT.sub(r"\1* ", line))


def times(lines: list[str]) -> dict[str, list[tuple[int, int]]]:
    """Seconds left, and seconds since the start, of the lines that are else alike."""
    found: dict[str, list[tuple[int, int]]] = {}
    for line in lines:
        left, age = LEFT.match(line), AGE.search(line)
        found.setdefault(still(line), []).append((int(left[2]) if left else -1, int(age[1]) if age else -1))
    return {name: sorted(pairs) for name, pairs in found.items()}


def test_every_line_as_the_kernel_prints_it(world):
    with LiveCapture(Options(Purpose(0))) as capture:
        seen = ""
        for space in world.values():
            for _ in range(TRIES):  # A packet between the two readings is a race, not a difference.
                begin = time.monotonic()
                walk = capture.snapshot(extensions=True)
                theirs = proc(space)
                between = time.monotonic() - begin
                clock = capture.clock()
                keep = printed(walk.entries, clock) & Filter(netns=space.inum).mask(walk.entries)
                ours = "\n".join(kernel_lines(walk.entries[keep], walk.extensions[keep], clock, capture.host)).splitlines()
                if Counter(map(still, ours)) == Counter(map(still, theirs)):
                    break
            assert sorted(map(still, ours)) == sorted(map(still, theirs))
            mine, kernels = times(ours), times(theirs)
            for line, pairs in mine.items():
                for (left, age), (left_too, age_too) in zip(pairs, kernels[line], strict=True):
                    assert left_too - 1 <= left <= left_too + 1 + between, line
                    assert age_too - 1 - between <= age <= age_too + 1, line
            assert len(ours) > 10
            seen += "\n".join(ours) + "\n"
        print(seen)
    for word in (
        *("tcp ", "udp ", "icmp ", "icmpv6 ", "unknown  253 ", "gre ", "sctp ", "ipv6     10", "dstkey=0xbeef"),
        *("zone=9 ", "zone-orig=5 ", "zone-reply=6 ", "mark=4294967294 ", "packets=", "delta-time=", "[UNREPLIED]", "[ASSURED]"),
    ):
        assert word in seen, word
    assert "packets=" not in "\n".join(proc(world["server"]))


def test_the_command_prints_them(world):
    for role, space in world.items():
        before = proc(space)
        ours = told("list", "--format", "kernel", "--netns", space.name).splitlines()
        after = proc(space)
        names = Counter(map(still, before)) & Counter(map(still, after))
        assert Counter(map(still, ours)) & names == names, role
        early, mine, late = times(before), times(ours), times(after)
        for line in names:
            for (first, _), (left, _), (last, _) in zip(early[line], mine[line], late[line], strict=True):
                assert first + 1 >= left >= last - 1, line


def test_csv_has_a_row_per_entry(world):
    space = world["client"]
    head, *rows = told("list", "--format", "csv", "--netns", space.name).splitlines()
    assert head.startswith("netns,l3,proto,")
    assert len(rows) == space.count()
    assert all(row.split(",")[0] == str(space.inum) for row in rows)
