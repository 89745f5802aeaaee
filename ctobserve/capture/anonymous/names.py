"""Other names in place of those that there are: the same for the same, by a keyed hash; words that everybody has stay."""

from __future__ import annotations

import re
from functools import lru_cache
from string import ascii_letters, digits

from ctobserve.capture.anonymous.key import Key
from ctobserve.host.owner import SHORT
from ctobserve.model import printable, shown_before

LETTERS = ascii_letters + digits
REMEMBERED = 4096  # beginnings of devices' names
HASHED = 10  # hex digits: of a million names two are called the same with a chance of one half
INIT = "init"
# What the kernel, iptables and most rule sets call them: nobody is known by it.
COMMON = frozenset(
    (
        *("filter", "nat", "mangle", "raw", "security", "ip", "ip6", "inet", "arp", "bridge", "netdev"),
        *("prerouting", "input", "forward", "output", "postrouting", "ingress", "egress"),
        *("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    )
)
_OF_CONTAINER = re.compile(r"(.*)@([0-9a-f]{12})", re.DOTALL)
_OF_PROCESS = re.compile(r"(.*)\[([0-9]{1,10})\]", re.DOTALL)


class Names:
    """Of processes, namespaces, devices, rules. In a str a name is as model.printable shows it, in bytes as the kernel has it."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._exchanged = lru_cache(REMEMBERED)(self._exchange)

    def process(self, comm: str | bytes) -> str:
        """Of a thread; empty where it has none."""
        return self._hashed("p", comm)

    def rule(self, name: str) -> str:
        """Of a table, a chain, a family, a hook."""
        return name if name in COMMON else self._hashed("r", name)

    def context(self, name: str) -> str:
        """Of a security context."""
        return self._hashed("c", name)

    def namespace(self, label: str) -> str:
        """`init` and numbers stay; of comm@container and comm[pid] the comm becomes what it does as a process's."""
        shown = shown_before(label)
        if shown == INIT or (shown.isascii() and shown.isdecimal()):
            return shown
        if found := _OF_CONTAINER.fullmatch(shown):
            return f"{self.process(found[1])}@{self._hex('container', found[2], SHORT)}"
        if found := _OF_PROCESS.fullmatch(shown):
            return f"{self.process(found[1])}[{found[2]}]"
        return self._hashed("ns", shown)

    def owner(self, name: str) -> str:
        """Of a pod, a machine, a unit of systemd."""
        return self._hashed("o", name)

    def container(self, container: str) -> str:
        """A whole id; it begins as the one in a namespace's label."""
        return self._hex("container", shown_before(container)[:SHORT], SHORT) + self._hex("id", container, 64 - SHORT)

    def pod_uid(self, uid: str) -> str:
        """Of a pod."""
        return _as_uuid(self._hex("pod", uid, 32))

    def device(self, name: str | bytes) -> str:
        """As long, and devices whose names begin alike have names that do: a rule for veth* is one for the same devices.

        Signs stay, like the star of such a rule or the dot of a VLAN, and so does `lo`.
        """
        shown = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
        return shown if shown == "lo" else "".join(self._letter(shown[:at], letter) for at, letter in enumerate(shown))

    def boot(self, boot: str) -> str:
        """A random id in place of another."""
        return _as_uuid(self._hex("boot", boot, 32))

    def _letter(self, before: str, letter: str) -> str:
        if letter in LETTERS:
            return self._exchanged(before)[LETTERS.index(letter)]
        # Of another script: which one it becomes, another may become too.
        return letter if letter.isascii() and letter.isprintable() else self._exchanged(before + letter)[0]

    def _exchange(self, before: str) -> str:
        """LETTERS in another order, by a shuffle (Fisher and Yates) that goes by a digest of the beginning."""
        made, number = (
            list(LETTERS),
            int.from_bytes(self._key.digest(b"device", before.encode("utf-8", "surrogatepass")), "big"),
        )
        for at in range(len(made) - 1, 0, -1):
            number, other = divmod(number, at + 1)
            made[at], made[other] = made[other], made[at]
        return "".join(made)

    def _hashed(self, sort: str, name: str | bytes) -> str:
        shown = shown_before(name) if isinstance(name, str) else printable(name)
        return f"{sort}-{self._hex(sort, shown, HASHED)}" if shown else ""

    def _hex(self, sort: str, text: str, length: int) -> str:
        return self._key.digest(sort.encode(), text.encode()).hex()[:length]


def _as_uuid(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
