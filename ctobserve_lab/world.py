"""A small world: network namespaces with tracking on, and links between them."""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ctobserve.host.netns import Namespace, run_inside
from ctobserve_lab.errors import LabError

T = TypeVar("T")
TRACKING = "table inet track {{ chain {hook} {{ type filter hook {hook} priority 0; ct state new accept; }}; }}"


def run(*command: str, check: bool = True, text: str | None = None) -> str:
    """Output of a command that is given `text` on stdin, with bytes that are no UTF-8 as `\\xff`.

    Raises LabError where there is no such program, and with its words on failure.
    """
    try:
        result = subprocess.run(
            command, input=text, capture_output=True, encoding="utf-8", errors="backslashreplace", check=False
        )
    except FileNotFoundError:
        raise LabError(f"there is no program {command[0]} here") from None
    if check and result.returncode:
        raise LabError(f"{' '.join(map(str, command))}: {(result.stderr or result.stdout).strip()}")
    return result.stdout


class Space:
    """One network namespace with loopback up and tracking on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = Path("/run/netns") / name
        self.inum = 0
        # They stay open as long as the world stands: a closed one would change entries behind the scenario's back.
        self.sockets: list[socket.socket] = []
        self.programs: list[subprocess.Popen[str]] = []

    def set_up(self) -> None:
        """Make it, with loopback and tracking; nothing may expire while someone looks at it: emulated CPUs are slow."""
        run("ip", "netns", "add", self.name)
        self.inum = self.path.stat().st_ino
        self.run("ip", "link", "set", "lo", "up")
        self.nft("\n".join(TRACKING.format(hook=hook) for hook in ("input", "output", "forward")))
        for protocol in ("udp", "icmp", "icmpv6", "generic"):
            self.sysctl(f"nf_conntrack_{protocol}_timeout", 900)

    def run(self, *command: str, check: bool = True, text: str | None = None) -> str:
        """Output of a command in this namespace."""
        return run("ip", "netns", "exec", self.name, *command, check=check, text=text)

    def nft(self, rules: str) -> None:
        """Add rules."""
        self.run("nft", rules)

    def sysctl(self, name: str, value: int) -> None:
        """Set a net.netfilter sysctl of this namespace."""
        self.run("sh", "-c", f"echo {value} > /proc/sys/net/netfilter/{name}")

    def keep(self, *command: str) -> str:
        """Start a program in this namespace that runs as long as the world stands; its first line says that it is ready."""
        # `ip netns exec` becomes the program: they are one process.
        line = ("ip", "netns", "exec", self.name, *command)
        self.programs.append(subprocess.Popen(line, stdout=subprocess.PIPE, encoding="utf-8", errors="backslashreplace"))
        said = self.programs[-1].stdout
        if said is None or not (first := said.readline()):
            raise LabError(f"{' '.join(command)} in {self.name} ended before it was ready")
        return first.strip()

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
    """Context manager for namespaces and the veth pairs between them.

    Namespaces are called by their role, with a random suffix where a role may come more than once.
    """

    def __init__(self, suffixes: bool = True) -> None:
        self._spaces: list[Space] = []
        self._subnets = 0
        self._suffixes = suffixes

    def __enter__(self) -> Net:
        return self

    def __exit__(self, *_: object) -> None:
        for space in self._spaces:
            for one in space.sockets:
                one.close()
            for program in space.programs:
                with program:
                    program.kill()
            run("ip", "netns", "del", space.name, check=False)

    @property
    def names(self) -> list[str]:
        """Names of the namespaces."""
        return [space.name for space in self._spaces]

    def space(self, role: str) -> Space:
        """A new namespace."""
        space = Space(f"{role}-{secrets.token_hex(3)}" if self._suffixes else role)
        if space.path.exists():
            raise LabError(f"there is a network namespace called {space.name} already, and the lab would delete it in the end")
        # Ours from here on: whatever interrupts the making, the end deletes it.
        self._spaces.append(space)
        space.set_up()
        return space

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
