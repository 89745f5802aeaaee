"""Why entries left: every way out of the table, and death before it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctobserve_lab.traffic import open_tcp, send_udp
from ctobserve_lab.world import run

SYNS = 13


def of(events: list[dict], reason: str) -> list[dict]:
    return [event for event in events if event["reason"] == reason]


def test_deleted_flushed_expired_and_gone_with_the_namespace(net, start, form):
    space, doomed = net.space("leave"), net.space("doomed")
    space.sysctl("nf_conntrack_acct", 1)
    running = start("events", "--json", "--events", "destroy", "--attach", form)
    send_udp(space, 11)
    space.run("conntrack", "-D", "-p", "udp", "--dport", "10003")
    space.run("conntrack", "-F")
    space.sysctl("nf_conntrack_udp_timeout", 1)
    send_udp(space, 17, first_port=30000, source_port=5353)
    send_udp(doomed, 19)
    run("ip", "netns", "del", doomed.name)
    running.wait_for(11 + 19)
    end = time.monotonic() + 60
    while len(running.lines()) < 11 + 19 + 17 and time.monotonic() < end:
        # A packet of the same tuple meets its expired entry and reaps it, if the gc worker was not first.
        time.sleep(1.5)
        send_udp(space, 17, first_port=30000, source_port=5353)
    events = running.events()
    here = [event for event in events if event["netns"] == space.inum]
    (deleted,) = of(here, "deleted")
    assert deleted["original"]["dport"] == 10003
    assert deleted["process"]["comm"] == "conntrack" and deleted["portid"]
    assert deleted["packets"] == {"original": 1, "reply": 0} and deleted["bytes"]["original"] == 29
    assert deleted["age_s"] > 0
    flushed = of(here, "flushed")
    assert sorted(event["original"]["dport"] for event in flushed) == [port for port in range(10000, 10011) if port != 10003]
    assert {event["process"]["comm"] for event in flushed} == {"conntrack"}
    expired = of(here, "timeout")
    assert {event["original"]["dport"] for event in expired} == set(range(30000, 30017))
    assert all(event["process"] is None for event in expired)
    assert len(of([event for event in events if event["netns"] == doomed.inum], "netns_exit")) == 19
    assert {event["reason"] for event in here} == {"deleted", "flushed", "timeout"}


def test_tcp_port_reuse(net, start):
    client, server = net.space("client"), net.space("server")
    _, target = net.link(client, server)
    running = start("events", "--json", "--events", "insert,destroy", "--netns", client.name)

    def once(listener: socket.socket) -> None:
        def connect() -> socket.socket:
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("10.1.0.1", 5555))
            one.connect((target, 80))
            return one

        one = client.inside(connect)
        other = listener.accept()[0]
        other.close()
        one.recv(1)
        one.close()

    listener = server.inside(lambda: socket.create_server((target, 80)))
    once(listener)
    once(listener)
    listener.close()
    running.wait_for(3)
    events = running.events()
    assert [event["event"] for event in events] == ["insert", "destroy", "insert"]
    assert events[1]["reason"] == "tcp_reuse"
    assert events[1]["tcp_state"] in ("TIME_WAIT", "CLOSE", "LAST_ACK")


def test_reset_before_any_reply(net, start):
    """A SYN that the peer's kernel answers with RST: conntrack forgets the connection at once."""
    space = net.space("reset")
    running = start("events", "--json", "--events", "insert,destroy", "--netns", space.name)
    for port in range(7001, 7008):
        with pytest.raises(ConnectionRefusedError):
            space.inside(lambda port=port: socket.create_connection(("127.0.0.1", port)))
    running.wait_for(14)
    events = running.events()
    destroyed = [event for event in events if event["event"] == "destroy"]
    assert [(event["reason"], event["detail"]) for event in destroyed] == [("other", "TCP RST before any reply")] * 7
    assert space.count() == 0


def virtual_server(service: tuple[str, int], real: tuple[str, int], seconds: int) -> None:
    """A UDP service of IPVS in this thread's namespace, by masquerading, whose connections end after so long: linux/ip_vs.h."""
    add, add_destination, set_timeouts = 1154, 1159, 1162  # IP_VS_SO_SET_*
    words = (socket.IPPROTO_UDP, socket.inet_aton(service[0]), socket.htons(service[1]), 0, b"rr", 0, 0, 0xFFFFFFFF)
    described = struct.pack("=H2x4sH2xI16sIII", *words)
    destination = struct.pack("=4sH2x4I", socket.inet_aton(real[0]), socket.htons(real[1]), 0, 1, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as opened:
        opened.setsockopt(socket.IPPROTO_IP, add, described)
        opened.setsockopt(socket.IPPROTO_IP, add_destination, described + destination)
        opened.setsockopt(socket.IPPROTO_IP, set_timeouts, struct.pack("=3i", 0, 0, seconds))


@pytest.fixture
def ipvs() -> Iterator[None]:
    """Its modules, which keep conntrack from being unloaded: they go with the namespaces, whose end comes a while later."""
    modules = "ip_vs_rr", "ip_vs"
    run("modprobe", "-a", *modules)
    yield
    end = time.monotonic() + 60
    while Path("/sys/module/ip_vs").exists() and time.monotonic() < end:
        # Not modprobe -r, which takes away whatever nobody else needs: conntrack itself.
        run("rmmod", *modules, check=False)
        time.sleep(0.5)
    assert not Path("/sys/module/ip_vs").exists(), run("lsmod")


def test_an_entry_goes_with_its_ipvs_connection(ipvs, net, start):
    client, director = net.space("client"), net.space("director")
    _, virtual = net.link(client, director)
    director.run("ip", "address", "add", "10.99.0.1/32", "dev", "lo")
    director.run("sysctl", "-w", "net.ipv4.vs.conntrack=1")
    director.inside(lambda: virtual_server((virtual, 5353), ("10.99.0.1", 7000), 1))
    running = start("events", "--json", "--events", "destroy", "--netns", director.name)
    client.inside(lambda: send_each(virtual, 5353, 11))
    running.wait_for(11)
    gone = running.events()
    assert [(event["reason"], event["detail"]) for event in gone] == [("ipvs", None)] * 11
    assert {event["original"]["dport"] for event in gone} == {5353}
    assert {(event["reply"]["src"], event["reply"]["sport"]) for event in gone} == {("10.99.0.1", 7000)}


def send_each(address: str, port: int, count: int) -> None:
    """As many datagrams, each from a port of its own."""
    for _ in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"x", (address, port))


def test_syn_dropped_by_a_rule_dies_before_the_table(net, start):
    space = net.space("wall")
    space.nft("table inet wall { chain out { type filter hook output priority 10; tcp dport 9999 drop; }; }")
    running = start("events", "--json", "--netns", space.name)

    def knock() -> None:
        for _ in range(SYNS):
            with socket.socket() as one:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", 9999))

    space.inside(knock)
    running.wait_for(SYNS)
    events = running.events()
    assert [(event["event"], event["reason"], event["detail"]) for event in events] == [("destroy", "unconfirmed", None)] * SYNS
    assert {event["original"]["dport"] for event in events} == {9999}
    assert space.count() == 0


def test_a_related_entry_names_its_master(net, start, report):
    client, server = net.space("client"), net.space("server")
    _, target = net.link(client, server)
    run("modprobe", "nf_conntrack_ftp")
    client.nft(
        'table ip ftp { ct helper std { type "ftp" protocol tcp; };\n'
        " chain out { type filter hook output priority 0; tcp dport 21 ct helper set std; }; }"
    )
    running = start("events", "--json", "--events", "insert", "--netns", client.name)
    control, peer, *_ = open_tcp(server, client, target, 21)
    # The helper looks for commands only behind a line end that it has seen.
    peer.sendall(b"220 ready\r\n")
    control.recv(100)
    peer.sendall(b"227 Entering Passive Mode (10,1,0,2,200,7).\r\n")
    control.recv(100)
    open_tcp(server, client, target, 200 * 256 + 7)
    running.wait_for(2)
    first, second = running.events()
    assert first["master"] is None
    assert second["original"]["dport"] == 200 * 256 + 7
    assert "expected" in second["status"]
    assert second["master"] == first["original"]
    listed = {entry["original"]["dport"]: entry for entry in report("list", "--netns", client.name)["entries"]}
    assert listed[51207]["master"] == listed[21]["original"] and "helper" in listed[21]["status"]
