"""Random work on the table: what operators, programs and the kernel do to it, from a seed, so that a run can be replayed."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from ctobserve_lab.traffic import open_tcp, send_udp
from ctobserve_lab.world import Net, Space, run

BUCKETS = Path("/proc/sys/net/netfilter/nf_conntrack_buckets")
MARKING = """table inet marks { chain out {
 type filter hook output priority 0; udp dport 40000-65535 ct mark set numgen random mod 97; }; }"""


class Churn:
    """Operations on a few namespaces; each is one draw from the seed's sequence."""

    def __init__(self, net: Net, seed: int) -> None:
        self._net = net
        self._random = random.Random(seed)
        self._spaces: list[Space] = []
        self._open: list[tuple[socket.socket, socket.socket]] = []
        self._port = 1000
        self.done: list[str] = []
        for _ in range(2):
            self.add_namespace()
        self._work = [
            *[self.new_udp, self.new_tcp, self.reply, self.close] * 3,
            *[self.mark, self.delete, self.insert_by_netlink, self.flush, self.resize, self.add_namespace, self.end_namespace],
        ]

    def step(self) -> str:
        """Do one operation; its name."""
        operation = self._random.choice(self._work)
        operation()
        self.done.append(operation.__name__)
        return operation.__name__

    def new_udp(self) -> None:
        target = self._random.choice(["127.0.0.1", "127.0.0.9"])
        send_udp(self._space(), self._random.randint(1, 499), self._random.randint(2000, 39000), target)

    def new_tcp(self) -> None:
        space, self._port = self._space(), self._port + 1
        count = self._random.randint(1, 9)
        *ends, listener = open_tcp(space, space, self._random.choice(["127.0.0.1", "::1"]), self._port, count)
        listener.close()
        self._open += zip(ends[:count], ends[count:], strict=True)

    def reply(self) -> None:
        for one, other in self._random.sample(self._open, min(3, len(self._open))):
            one.sendall(b"question")
            other.recv(100)
            other.sendall(b"answer")
            one.recv(100)

    def close(self) -> None:
        for pair in self._random.sample(self._open, min(5, len(self._open))):
            self._open.remove(pair)
            for one in pair:
                one.close()

    def mark(self) -> None:
        send_udp(self._space(), self._random.randint(1, 99), self._random.randint(40000, 65000))

    def delete(self) -> None:
        self._space().run("conntrack", "-D", "-p", self._random.choice(["tcp", "udp"]), check=False)
        self._forget()

    def insert_by_netlink(self) -> None:
        first, second = (f"10.9.{self._random.randint(0, 255)}.{self._random.randint(1, 254)}" for _ in range(2))
        ports = ["--sport", str(self._random.randint(1, 65535)), "--dport", "53"]
        self._space().run("conntrack", "-I", "-p", "udp", "-s", first, "-d", second, *ports, "-t", "600", check=False)

    def flush(self) -> None:
        self._space().run("conntrack", "-F")
        self._forget()

    def resize(self) -> None:
        BUCKETS.write_text(str(self._random.choice([512, 1024, 4096, 16384, 65536])))

    def add_namespace(self) -> None:
        if len(self._spaces) < 5:
            space = self._net.space("churn")
            space.nft(MARKING)
            self._spaces.append(space)

    def end_namespace(self) -> None:
        if len(self._spaces) > 1:
            space = self._spaces.pop(self._random.randrange(len(self._spaces)))
            for one in space.sockets:
                one.close()
            space.sockets.clear()
            self._open = [pair for pair in self._open if pair[0].fileno() >= 0]
            run("ip", "netns", "del", space.name)

    def _space(self) -> Space:
        return self._random.choice(self._spaces)

    def _forget(self) -> None:
        """What was deleted under open connections is not spoken over again: the packets would make entries of their own."""
        for pair in self._open:
            for one in pair:
                one.close()
        self._open.clear()
