"""Traffic with exact counts."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
import time
from pathlib import Path

from ctobserve_lab.errors import LabError
from ctobserve_lab.world import Space

SYN, ACK = 0x02, 0x10


def send_udp(
    space: Space, count: int, first_port: int = 10000, target: str = "127.0.0.1", source_port: int = 0, source: str = ""
) -> int:
    """One datagram to each of `count` ports from one socket: as many new entries. Returns how many the kernel refused."""

    def send() -> int:
        refused = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((source, source_port))
            for port in range(first_port, first_port + count):
                try:
                    sender.sendto(b"x", (target, port))
                except PermissionError:
                    refused += 1
        return refused

    return space.inside(send)


def bound(address: str, port: int) -> socket.socket:
    """A UDP socket that waits 10 s at most."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.settimeout(10)
    one.bind((address, port))
    return one


def after_a_jiffy() -> None:
    """A timeout that a packet gives is counted in jiffies, and a report tells by it which packets keep entries alive."""
    time.sleep(1)


def count_datagrams(one: socket.socket, most: int, wait_s: float = 2.0) -> dict[int, int]:
    """Datagrams that come to this socket, by source port: `most` of them, or until none comes for that long."""
    got: dict[int, int] = {}
    one.settimeout(wait_s)
    while sum(got.values()) < most:
        try:
            port = one.recvfrom(99)[1][1]
        except TimeoutError:
            break
        got[port] = got.get(port, 0) + 1
    return got


def open_tcp(server: Space, client: Space, address: str, port: int, count: int = 1) -> list[socket.socket]:
    """`count` established connections, open as long as the world: the clients' sockets, the accepted ones, the listener."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def listen() -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(count)
        return listener

    def connect() -> list[socket.socket]:
        opened = []
        for _ in range(count):
            one = socket.socket(family, socket.SOCK_STREAM)
            one.settimeout(30)
            one.connect((address, port))
            opened.append(one)
        return opened

    listener = server.inside(listen)
    clients = client.inside(connect)
    accepted = [listener.accept()[0] for _ in range(count)]
    opened = [*clients, *accepted, listener]
    client.sockets += opened
    return opened


def ends_of(client: Space, listener: socket.socket, count: int) -> tuple[list[socket.socket], list[socket.socket]]:
    """`count` established connections to this listener, open as long as the world: the client's ends, the server's."""

    def connect() -> list[socket.socket]:
        return [socket.create_connection(listener.getsockname()[:2], timeout=30) for _ in range(count)]

    asking = client.inside(connect)
    answering = [listener.accept()[0] for _ in range(count)]
    client.sockets += [*asking, *answering]
    return asking, answering


def paired(opened: list[socket.socket]) -> list[tuple[socket.socket, socket.socket]]:
    """The ends of each connection: the client's, the accepted one. They are accepted in the order in which handshakes end."""
    half = len(opened) // 2
    accepted = {one.getpeername(): one for one in opened[half:]}
    return [(one, accepted[one.getsockname()]) for one in opened[:half]]


def checksum(data: bytes) -> int:
    """The Internet checksum of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send_segments(
    space: Space, count: int, source: tuple[str, int], target: tuple[str, int], flags: int, seq: int, spoil: int = 0
) -> None:
    """TCP segments with these flags and sequence number, from a raw socket; `spoil` is added to the checksum."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for _ in range(count):
                raw.sendto(_segment(source, target, flags, seq, spoil), (target[0], 0))

    space.inside(send)


def _segment(source: tuple[str, int], target: tuple[str, int], flags: int, seq: int, spoil: int) -> bytes:
    ends = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    body = struct.pack(">HHIIBBHHH", source[1], target[1], seq, 0, 5 << 4, flags, 1024, 0, 0)
    summed = checksum(ends + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(body)) + body)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, socket.IPPROTO_TCP, 0) + ends
    return head + body[:16] + struct.pack(">HH", (summed + spoil) & 0xFFFF, 0)


def next_sequence(connected: socket.socket) -> int:
    """The sequence number this socket will send next."""
    repair, queue, sequence, off = 19, 20, 21, -1
    connected.setsockopt(socket.IPPROTO_TCP, repair, 1)
    connected.setsockopt(socket.IPPROTO_TCP, queue, 2)
    value: int = connected.getsockopt(socket.IPPROTO_TCP, sequence)
    connected.setsockopt(socket.IPPROTO_TCP, repair, off)
    return value & 0xFFFFFFFF


def load(
    space: Space,
    count: int,
    status: str = "SEEN_REPLY,ASSURED",
    proto: str = "udp",
    left_s: int = 900,
    sources: int = 250,
    target: str = "10.60.0.1",
    tcp_state: str = "ESTABLISHED",
) -> None:
    """`count` entries by netlink, as conntrackd puts them into a standby's table."""
    first = int(ipaddress.ip_address("10.50.0.1"))
    before = space.count()
    state = f" --state {tcp_state}" if proto == "tcp" else ""
    lines = [
        f"-A -t {left_s} -u {status} -s {ipaddress.ip_address(first + at % sources)} -d {target} -p {proto} "
        f"--sport {1024 + at} --dport {2000 + at % 17}{state}"
        for at in range(count)
    ]
    space.run("conntrack", "-R", "-", text="\n".join(lines) + "\n")
    if (made := space.count() - before) < count:
        raise LabError(f"only {made} of {count} entries were made by netlink in {space.name}")


def race(space: Space, address: str, rounds: int) -> None:
    """First packets of flows, each sent twice at one instant (race.py)."""
    space.run(sys.executable, str(Path(__file__).with_name("race.py")), address, str(rounds))
