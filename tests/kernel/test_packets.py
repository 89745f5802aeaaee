"""Packets: how many of each state, and every invalid one with the kernel's words."""

from __future__ import annotations

import json
import socket
import struct

from ctobserve_lab.traffic import bound, checksum, next_sequence, open_tcp, send_segments


def test_invalid_packets_have_tuple_and_the_kernels_words(net, start, form):
    client, server = net.space("client"), net.space("server")
    source, target = net.link(client, server)
    sockets = open_tcp(server, client, target, 4040)
    port = sockets[0].getsockname()[1]
    running = start("drops", "--json", "--invalid", "--attach", form)
    before = {space.inum: space.counters() for space in (client, server)}
    # Far outside the window: judged where it is sent, and again where it arrives.
    send_segments(client, 11, (source, port), (target, 4040), 0x10, (next_sequence(sockets[0]) + (1 << 29)) & 0xFFFFFFFF)
    # SYN and FIN at once, judged in both namespaces, as are the 5 RST that answer; a wrong checksum shows on arrival only.
    send_segments(client, 5, (source, 6000), (target, 80), 0x03, 1)
    send_segments(client, 7, (source, 6001), (target, 81), 0x02, 1, spoil=1)
    after = {space.inum: space.counters() for space in (client, server)}
    report = json.loads(running.end())
    found = {
        space.inum: [row for row in report["drops"] if row["netns"] == space.inum and row["reason"] == "invalid"]
        for space in (client, server)
    }
    for space, expected in ((client, 11 + 5 + 5), (server, 11 + 5 + 5 + 7)):
        assert after[space.inum]["invalid"] - before[space.inum]["invalid"] == expected
        assert len(found[space.inum]) == expected
        assert report["by_netns"][str(space.inum)]["by_reason"]["invalid"] == expected
    assert report["unaccounted"] == {}
    outside = [row for row in found[client.inum] if row["original"]["dport"] == 4040]
    assert len(outside) == 11
    assert {(row["original"]["src"], row["original"]["sport"], row["hook"]) for row in outside} == {(source, port, "output")}
    said = {row["text"].split(" upper bound")[0] for row in outside}
    assert said in ({"SEQ is over"}, {"SEQ is over the"}), "the latter is Linux 5.10"
    assert {(row["direction"], row["zone"]) for row in outside} == {("original", 0)}
    flags = [row for row in found[server.inum] if row["original"]["dport"] == 80]
    assert {row["text"] for row in flags} == {"invalid tcp flag combination"}
    assert {(row["hook"], row["interface"]) for row in flags} == {("prerouting", "v1b")}
    bad = [row for row in found[server.inum] if row["original"]["dport"] == 81]
    assert len(bad) == 7 and {row["text"] for row in bad} == {"bad checksum"}


def test_icmp_of_unknown_type_is_an_error(net, start):
    client, server = net.space("client"), net.space("server")
    _, target = net.link(client, server)
    running = start("drops", "--json", "--invalid", "--netns", server.name)
    before = server.counters()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            for _ in range(7):
                raw.sendto(struct.pack(">BBHI", 42, 0, checksum(struct.pack(">BBHI", 42, 0, 0, 0)), 0), (target, 0))

    client.inside(send)
    after = server.counters()
    report = json.loads(running.end())
    assert after["error"] - before["error"] == 7
    assert report["by_reason"] == {"error": 7}
    assert report["unaccounted"] == {}
    assert {row["original"]["type"] for row in report["drops"]} == {42}


def too_big4(target: str, about: bytes) -> None:
    """Fragmentation needed, from a raw socket."""
    head = struct.pack(">BBHHH", 3, 4, 0, 0, 1300)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(head[:2] + struct.pack(">H", checksum(head + about)) + head[4:] + about, (target, 0))


def too_big6(target: str, about: bytes) -> None:
    """Packet too big; the kernel makes the checksum."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        raw.sendto(struct.pack(">BBHI", 2, 0, 0, 1300) + about, (target, 0))


def test_a_refused_icmp_error_says_what_it_is_about(net, start, form):
    client, server = net.space("client"), net.space("server")
    _, target = net.link(client, server)
    ends4 = socket.inet_aton(target) + socket.inet_aton("192.0.2.9")
    ends6 = socket.inet_pton(socket.AF_INET6, "fd00:1::2") + socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    udp, tcp = struct.pack(">HHHH", 5353, 53, 8, 0), struct.pack(">HHI", 40_000, 443, 1)
    options = struct.pack(">BBHHHBBH", 0x46, 0, 1400, 1, 0x4000, 63, socket.IPPROTO_TCP, 0) + ends4 + bytes(4)
    plain = struct.pack(">BBHHHBBH", 0x45, 0, 1400, 1, 0x4000, 63, socket.IPPROTO_UDP, 0) + ends4
    six = struct.pack(">IHBB", 6 << 28, 1400, socket.IPPROTO_TCP, 63) + ends6
    # Neighbours first: the first packet must not wait for them.
    for address in (target, "fd00:1::2"):
        client.run("ping", "-c1", address)
    running = start("drops", "--json", "--invalid", "--attach", form, "--netns", server.name)
    before = server.counters()["error"]
    for _ in range(3):
        client.inside(lambda: too_big4(target, plain + udp))
    for _ in range(5):
        client.inside(lambda: too_big4(target, options + tcp))
    for _ in range(7):
        client.inside(lambda: too_big6("fd00:1::2", six + tcp))
    # Of this one the kernel itself finds no ports.
    client.inside(lambda: too_big4(target, plain + udp[:4]))
    assert server.counters()["error"] - before == 16
    report = json.loads(running.end())
    assert report["by_reason"] == {"error": 16} and report["unaccounted"] == {}
    found = [json.dumps(row["inner"], sort_keys=True) for row in report["drops"]]
    of_udp = {"proto": "udp", "src": target, "dst": "192.0.2.9", "sport": 5353, "dport": 53}
    of_tcp = {"proto": "tcp", "src": target, "dst": "192.0.2.9", "sport": 40_000, "dport": 443}
    of_six = {"proto": "tcp", "src": "fd00:1::2", "dst": "2001:db8::9", "sport": 40_000, "dport": 443}
    assert [found.count(json.dumps(one, sort_keys=True)) for one in (of_udp, of_tcp, of_six, None)] == [3, 5, 7, 1]
    assert {row["like"] for row in report["drops"] if row["inner"]} == {"icmp_error"}


def test_a_late_packet_says_which_entry_it_had_and_who_deleted_it(net, start, form):
    client, server = net.space("client"), net.space("server")
    source, target = net.link(client, server)
    sockets = open_tcp(server, client, target, 4040)
    port = sockets[0].getsockname()[1]
    running = start("drops", "--json", "--invalid", "--attach", form, "--netns", server.name)
    server.run("conntrack", "-D", "-p", "tcp")
    # A FIN begins no connection. The sequence number is far off: the server's own socket answers with an ACK, which does.
    send_segments(client, 5, (source, port), (target, 4040), 0x11, next_sequence(sockets[0]) + (1 << 29) & 0xFFFFFFFF)
    send_segments(client, 3, (source, 6000), (target, 4040), 0x11, 1)
    rows = json.loads(running.end())["drops"]
    first = next(row for row in rows if row["original"]["sport"] == port)
    assert (first["like"], first["tcp_flags"], first["hook"]) == ("late", ["FIN", "ACK"], "prerouting")
    left = first["left"]
    assert (left["reason"], left["tcp_state"], left["process"]["comm"]) == ("deleted", "ESTABLISHED", "conntrack")
    assert left["original"] == {"src": source, "dst": target, "sport": port, "dport": 4040} and 0 <= left["before_s"] < 600
    others = [row for row in rows if row["original"]["sport"] == 6000]
    assert len(others) == 3 and {(row["like"], row["left"]) for row in others} == {("no_start", None)}


def test_packets_by_state(net, start, form):
    client, server = net.space("client"), net.space("server")
    source, target = net.link(client, server)
    # The kernel's own neighbour and router solicitations, which come when they like, are untracked packets too.
    for space in (client, server):
        space.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    client.nft("table ip raw { chain out { type filter hook output priority raw; udp dport 30000-30999 notrack; }; }")
    # Neighbours first: ARP is no conntrack matter, but the first packet must not wait for it.
    client.run("ping", "-c1", target)
    receivers = server.inside(lambda: [bound(target, port) for port in (*range(20000, 20013), *range(30000, 30017))])
    sender = client.inside(lambda: bound(source, 5353))
    running = start("events", "--json", "--packets", "--events", "insert", "--attach", form)
    for port in (*range(20000, 20013), *range(30000, 30017)):
        sender.sendto(b"x", (target, port))
    for receiver in receivers[:13]:
        receiver.sendto(b"y", receiver.recvfrom(10)[1])
    # Nobody listens on port 80: each answer is a RST, invalid too.
    send_segments(client, 5, (source, 6000), (target, 80), 0x03, 1)
    events = running.events()
    counted = {
        (event["netns"], event["hook"], event["state"]): event["packets"]
        for event in events
        if event["event"] == "packets" and event["netns"] in (client.inum, server.inum)
    }
    assert counted == {
        (client.inum, "output", "NEW"): 13,
        (client.inum, "output", "UNTRACKED"): 17,
        (client.inum, "output", "INVALID"): 5,
        (client.inum, "prerouting", "ESTABLISHED"): 13,
        (client.inum, "prerouting", "INVALID"): 5,
        (server.inum, "prerouting", "NEW"): 13 + 17,
        (server.inum, "prerouting", "INVALID"): 5,
        (server.inum, "output", "ESTABLISHED"): 13,
        (server.inum, "output", "INVALID"): 5,
    }
    for one in [sender, *receivers]:
        one.close()
