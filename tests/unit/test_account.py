"""What a namespace says beside its entries: packets of IP, packets that wait in queues, bridges that IP hooks see."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctobserve.host import account, bridges, ip_packets, queues
from ctobserve.host.account import Account
from ctobserve.host.bridges import IPV4, IPV6, Bridge, of_messages
from ctobserve.host.ip_packets import IpPackets, of_snmp, of_snmp6
from ctobserve.host.netns import CLONE_NEWNET
from ctobserve.host.queues import Queue

NOBODY = 4_999_999  # no process has this id


@pytest.fixture
def own_space() -> Iterator[None]:
    """A network namespace of this thread's own."""
    assert os.geteuid() == 0, "only root can make network namespaces: run the tests as root"
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNET) == 0
    yield
    assert libc.setns(before, CLONE_NEWNET) == 0
    os.close(before)


def test_packets_that_pass_over_loopback_are_sent_and_delivered(own_space):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    before = ip_packets.read()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        for sender, address in ((one, "127.0.0.1"), (other, "::1")):
            # Bound to itself, so that no ICMP error comes.
            sender.bind((address, 0))
            for _ in range(7):
                sender.sendto(b"x", sender.getsockname()[:2])
    assert before and ip_packets.read().since(before) == IpPackets(14, 14)


def test_neighbour_discovery_is_no_packet_that_conntrack_would_see():
    names = {
        "Ip6InDelivers": 9,
        "Ip6OutForwDatagrams": 2,
        "Ip6OutRequests": 7,
        "Icmp6InMsgs": 6,
        "Icmp6OutMsgs": 5,
        "Ip6InNoRoutes": 3,
    }
    assert of_snmp6("".join(f"{name}   \t{value}\n" for name, value in names.items())) == 7
    assert IpPackets(5, 1).since(IpPackets(2, 3)) == IpPackets(3, 0)


def test_a_forwarded_packet_is_counted_once_though_older_kernels_have_it_among_those_sent():
    older = "Ip: ForwDatagrams InDelivers InDiscards OutRequests\nIp: 11 2 3 15\nIcmp: InMsgs\nIcmp: 9\n"
    newer = "Ip: ForwDatagrams InDelivers InDiscards OutRequests OutTransmits\nIp: 11 2 3 4 15\nIcmp: InMsgs\nIcmp: 9\n"
    assert of_snmp(older) == of_snmp(newer) == 17


@pytest.mark.parametrize("text", ["", "Ip: InDelivers\n", "Ip: InDelivers\nIp: x\n", "Ip: Forwarding\nIp: 1\n"])
def test_counters_of_another_form_are_none(tmp_path, monkeypatch, text):
    (tmp_path / "snmp").write_text(text)
    monkeypatch.setattr(ip_packets, "V4", tmp_path / "snmp")
    assert ip_packets.read() is None


def test_queues_with_what_waits_in_them():
    """As Linux 6.1 prints them."""
    text = "    0  23395    97 1     0     0     0       97  1\n    7      0     0 2 65531     3     0       12  1\n"
    assert queues.parse(text) == (Queue(0, 23395, 97), Queue(7, 0, 0))


def test_the_reader_of_a_queue_is_told_where_it_holds_the_socket(tmp_path, monkeypatch):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as reader:
        # Not the process id: a process may have many such sockets.
        reader.bind((4_294_000_000, 0))
        portid = reader.getsockname()[0]
        (tmp_path / "queue").write_text(f"5 {portid} 3 1 0 0 0 0 1\n6 {portid} 0 1 0 0 0 0 1\n8 {NOBODY} 2 1 0 0 0 0 1\n")
        monkeypatch.setattr(queues, "QUEUES", tmp_path / "queue")
        found = queues.read()
    comm = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    assert found == (Queue(5, portid, 3, os.getpid(), comm), Queue(6, portid, 0), Queue(8, NOBODY, 2))
    assert queues.read()[0].pid is None, "it holds the socket no more"


HOLDS = """
import ctypes, socket
ctypes.CDLL(None).prctl(15, b"\\x1b[2Jq")
one = socket.socket(16, 3, 12)
one.bind((0, 0))
print(flush=True)
input()
"""


def test_a_readers_name_is_shown_and_nothing_more(tmp_path, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin and reader.stdout
        reader.stdout.readline()
        (tmp_path / "queue").write_text(f"5 {reader.pid} 3 1 0 0 0 0 1\n")
        monkeypatch.setattr(queues, "QUEUES", tmp_path / "queue")
        assert queues.read() == (Queue(5, reader.pid, 3, reader.pid, "\\x1b[2Jq"),)
        reader.stdin.close()


def test_no_queue_where_nobody_asked_for_one(own_space):
    assert account.read_here().queues == ()


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", len(body) + 16, kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def link(index: int, name: bytes, *attributes: bytes) -> bytes:
    return message(16, struct.pack("=BxHiII", 0, 1, index, 0, 0) + attribute(3, name + b"\0") + b"".join(attributes))


def kind_of(kind: bytes, *options: bytes) -> bytes:
    return attribute(18, attribute(1, kind + b"\0") + attribute(2, b"".join(options)))


def master(index: int) -> bytes:
    return attribute(10, struct.pack("=i", index))


def address(index: int, own: str, prefix: int) -> bytes:
    family = socket.AF_INET6 if ":" in own else socket.AF_INET
    return message(20, struct.pack("=BBBBi", family, prefix, 0, 0, index) + attribute(1, socket.inet_pton(family, own)))


LINKS = b"".join(
    [
        link(1, b"lo"),
        link(2, b"br0", kind_of(b"bridge")),
        link(3, b"v1", master(2), kind_of(b"veth")),
        link(4, b"v2", master(2)),
        link(5, b"own\xff", kind_of(b"bridge", attribute(36, b"\1"), attribute(37, b"\0"))),
        link(6, b"v3", master(5)),
        link(7, b"idle", kind_of(b"bridge")),
        link(8, b"bond0", kind_of(b"bond")),
        link(9, b"v4", master(8)),
        message(3, bytes(4)),
    ]
)
ADDRESSES = address(2, "10.0.0.1", 24) + address(1, "127.0.0.1", 8) + address(2, "fd00::1", 64)


def test_bridges_with_ports_and_who_calls_ip_hooks():
    assert list(of_messages(LINKS, ADDRESSES, frozenset({IPV4, IPV6}))) == [
        Bridge("br0", 2, ("10.0.0.1/24", "fd00::1/64"), frozenset({IPV4, IPV6})),
        Bridge("own\\xff", 1, (), frozenset({IPV4, IPV6}), frozenset({IPV4})),
    ]
    assert [bridge.families for bridge in of_messages(LINKS, ADDRESSES, frozenset())] == [frozenset(), frozenset({IPV4})]


def test_the_kernels_own_bridge(own_space, tmp_path, monkeypatch):
    for words in ("add br7 type bridge", "add port type veth peer name other", "set port master br7"):
        subprocess.run(["ip", "link", *words.split()], check=True)
    subprocess.run(["ip", "addr", "add", "10.7.0.1/28", "dev", "br7"], check=True)
    monkeypatch.setattr(bridges, "SYSCTLS", tmp_path)
    assert bridges.read() == (), "no value of br_netfilter is on"
    (tmp_path / "bridge-nf-call-ip6tables").write_text("1\n")
    (tmp_path / "bridge-nf-call-iptables").write_text("0\n")
    assert bridges.read() == (Bridge("br7", 1, ("10.7.0.1/28",), frozenset({IPV6})),)
    monkeypatch.setattr(bridges, "SYSCTLS", tmp_path / "missing")
    assert bridges.read() == ()


def test_accounts_of_all_namespaces_or_of_one():
    here = os.stat("/proc/self/ns/net").st_ino
    (one,) = account.read(here).items()
    assert one[0] == here and isinstance(one[1], Account) and one[1].packets is not None
    assert here in account.read() and account.read(7) == {}
