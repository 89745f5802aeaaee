"""The small world of a kernel test: network namespaces, links between them, traffic with exact counts."""

from __future__ import annotations

import ctypes
import re
import secrets
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ctobserve.netns import Namespace, run_inside

T = TypeVar("T")
CTOBSERVE = (sys.executable, "-m", "ctobserve")
TRACKING = "table inet track {{ chain {hook} {{ type filter hook {hook} priority 0; ct state new accept; }}; }}"


def run(*command: str, check: bool = True, **more: object) -> str:
    """Output of a command; its words on failure are the test's message."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert not check or result.returncode == 0, f"{' '.join(map(str, command))}: {result.stderr or result.stdout}"
    return str(result.stdout)


def bpf_program_ids() -> set[int]:
    """Ids of all BPF programs in the kernel (BPF_PROG_GET_NEXT_ID)."""
    libc = ctypes.CDLL(None, use_errno=True)
    ids, last = set(), 0
    while True:
        attributes = bytearray(struct.pack("<III", last, 0, 0))
        if libc.syscall(321, 11, (ctypes.c_char * 12).from_buffer(attributes), 12) < 0:
            return ids
        last = struct.unpack_from("<I", attributes, 4)[0]
        ids.add(last)


class Space:
    """One network namespace with loopback up and tracking on."""

    def __init__(self, role: str) -> None:
        self.name = f"{role}-{secrets.token_hex(3)}"
        run("ip", "netns", "add", self.name)
        self.path = Path("/run/netns") / self.name
        self.inum = self.path.stat().st_ino
        self.sockets: list[socket.socket] = []
        self.run("ip", "link", "set", "lo", "up")
        self.nft("\n".join(TRACKING.format(hook=hook) for hook in ("input", "output", "forward")))
        # Emulated CPUs are slow: nothing may expire while a test looks at it.
        self.sysctl("nf_conntrack_udp_timeout", 900)
        self.sysctl("nf_conntrack_icmp_timeout", 900)
        self.sysctl("nf_conntrack_icmpv6_timeout", 900)
        self.sysctl("nf_conntrack_generic_timeout", 900)

    def run(self, *command: str, check: bool = True) -> str:
        return run("ip", "netns", "exec", self.name, *command, check=check)

    def nft(self, rules: str) -> None:
        self.run("nft", rules)

    def sysctl(self, name: str, value: int) -> None:
        self.run("sh", "-c", f"echo {value} > /proc/sys/net/netfilter/{name}")

    def inside(self, function: Callable[[], T]) -> T:
        """Call in a thread that lives in this namespace."""
        return run_inside(Namespace(self.inum, self.path), function)

    def counters(self) -> dict[str, int]:
        """`conntrack -S`, summed over CPUs."""
        total: dict[str, int] = {}
        for name, value in re.findall(r"(\w+)=(\d+)", self.run("conntrack", "-S")):
            total[name] = total.get(name, 0) + int(value)
        return total

    def count(self) -> int:
        """`conntrack -C`."""
        return int(self.run("conntrack", "-C"))

    def listed(self, *options: str) -> list[str]:
        """Lines of `conntrack -L` of one address family."""
        return self.run("conntrack", "-L", *options).splitlines()


class Net:
    """Context manager for namespaces and the veth pairs between them."""

    def __init__(self) -> None:
        self._spaces: list[Space] = []
        self._subnets = 0

    def __enter__(self) -> Net:
        return self

    def __exit__(self, *_: object) -> None:
        for space in self._spaces:
            for one in space.sockets:
                one.close()
            run("ip", "netns", "del", space.name, check=False)

    def space(self, role: str) -> Space:
        self._spaces.append(Space(role))
        return self._spaces[-1]

    def link(self, one: Space, other: Space) -> tuple[str, str]:
        """A veth pair 10.N.0.1 - 10.N.0.2 and fd00:N::1 - fd00:N::2; returns the two IPv4 addresses."""
        self._subnets += 1
        n = self._subnets
        names = f"v{n}a", f"v{n}b"
        run("ip", "link", "add", names[0], "netns", one.name, "type", "veth", "peer", "name", names[1], "netns", other.name)
        for space, name, host in ((one, names[0], 1), (other, names[1], 2)):
            space.run("ip", "addr", "add", f"10.{n}.0.{host}/24", "dev", name)
            space.run("ip", "addr", "add", f"fd00:{n}::{host}/64", "dev", name, "nodad")
            space.run("ip", "link", "set", name, "up")
        return f"10.{n}.0.1", f"10.{n}.0.2"


def send_udp(space: Space, count: int, first_port: int = 10000, target: str = "127.0.0.1", source_port: int = 0) -> int:
    """One datagram to each of `count` ports from one socket: as many new entries. Returns how many the kernel refused."""

    def send() -> int:
        refused = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("", source_port))
            for port in range(first_port, first_port + count):
                try:
                    sender.sendto(b"x", (target, port))
                except PermissionError:
                    refused += 1
        return refused

    return space.inside(send)


def open_tcp(server: Space, client: Space, address: str, port: int, count: int = 1) -> list[socket.socket]:
    """`count` established connections, open until the test ends: the clients' sockets, the accepted ones, the listener."""
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
