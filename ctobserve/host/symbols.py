"""Where the kernel's functions and variables lie: /proc/kallsyms, of which we need a small part."""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_right
from functools import cached_property
from pathlib import Path
from typing import Any

from ctobserve.errors import KernelLacks, NotPermitted
from ctobserve.host import cache
from ctobserve.host.kernel import BOOT_ID, KALLSYMS, SYS_MODULE, read_text
from ctobserve.host.restrictions import hides_addresses
from ctobserve.model import PROTOCOLS

LOADED = Path("/proc/modules")
TRACKER = "nf_conntrack_l4proto_"
ALL_BITS = (1 << 64) - 1
NAME = r"(?!__pfx_)(\S+)"  # from Linux 6.2 on, the padding before each function has a name, too: nothing runs there
COPY = re.compile(r"(constprop|isra|part)\.\d+(\.(constprop|isra|part)\.\d+)*")  # gcc's names: a kind, and which of it
RENAMED = re.compile(r"llvm\.\d+")  # clang's, of a static function that another file's code was made to call: it is the whole one
CORE = ("__per_cpu_offset", "__preempt_count", "pcpu_hot")
HASH = ("nf_conntrack_hash", "nf_conntrack_htable_size")  # without both no bucket can be read
# Modules whose functions call into conntrack's delete path, or hold functions we attach to.
MODULES = ("nf_conntrack", "nf_conntrack_netlink", "nf_nat", "act_ct", "openvswitch", "ip_vs", "nf_conntrack_pptp")


class Symbols:
    """/proc/kallsyms, cut to the conntrack modules, or to the functions of the whole kernel where conntrack is built in."""

    def __init__(self, addresses: dict[str, int]) -> None:
        self.addresses = addresses

    @classmethod
    def read(cls) -> Symbols:
        """As they are, or as they were kept since these modules were loaded: the kernel writes 10 MB of them each time.

        Raises NotPermitted when addresses are hidden, KernelLacks when nf_conntrack is not loaded, or there are no symbols.
        """
        try:
            known = _identity()
        except FileNotFoundError as error:
            raise KernelLacks(f"no {error.filename}; this kernel names no functions to attach to (CONFIG_KALLSYMS)") from None
        return cls(cache.kept("symbols", lambda: _encoded(_read(), known), lambda found: decoded(found, known)))

    def lacks(self, *names: str) -> list[str]:
        """Those of these that have no address here: without CONFIG_KALLSYMS_ALL no variable has one."""
        return [name for name in names if name not in self.addresses]

    def copies(self, name: str) -> dict[str, frozenset[str]]:
        """The function of this name and the copies that a compiler made of it, each with the kinds of copy it is; plain: none.

        Never a .cold part: nobody calls that.
        """
        plain = {name: frozenset[str]()} if name in self.addresses else {}
        return plain | self._copies.get(name, {})

    def trackers(self) -> frozenset[int]:
        """Protocol numbers that this kernel has a tracker for; to all others it is generic (nf_ct_l4proto_find)."""
        if f"{TRACKER}generic" not in self.addresses:
            return frozenset(PROTOCOLS)
        return frozenset(number for number, name in PROTOCOLS.items() if TRACKER + name in self.addresses)

    def unsigned(self, address: int) -> int:
        """A return address as it was before arm64 signed it: a signature lies in bits that all kernel addresses have set."""
        return address | self._leading

    @cached_property
    def _leading(self) -> int:
        kernels = (address for address in self.addresses.values() if address >> 63)
        return -1 << max(((~address & ALL_BITS).bit_length() for address in kernels), default=64) & ALL_BITS

    @cached_property
    def _copies(self) -> dict[str, dict[str, frozenset[str]]]:
        found: dict[str, dict[str, frozenset[str]]] = {}
        for symbol in self.addresses:
            name, dot, suffix = symbol.partition(".")
            if dot and COPY.fullmatch(suffix):
                found.setdefault(name, {})[symbol] = frozenset(suffix.split(".")[::2])
            elif dot and RENAMED.fullmatch(suffix):
                found.setdefault(name, {})[symbol] = frozenset()
        return found

    @cached_property
    def _sorted(self) -> tuple[array[int], list[str]]:
        """Addresses, and the name at each; as pairs those of a whole kernel take four times the memory."""
        names = sorted(self.addresses, key=lambda name: (self.addresses[name], name))
        return array("Q", map(self.addresses.__getitem__, names)), names

    def containing(self, address: int) -> str | None:
        """Name of the function that holds this address, or None."""
        addresses, names = self._sorted
        at = bisect_right(addresses, address) - 1
        if at < 0 or address - addresses[at] > 1 << 16:
            return None
        return names[at]


def _encoded(addresses: dict[str, int], known: list[str]) -> dict[str, Any]:
    """Names as one text, and their addresses: of a whole kernel that is read four times as fast as an object of both."""
    return {"of": known, "names": " ".join(addresses), "addresses": list(addresses.values())}


def decoded(found: Any, known: list[str]) -> dict[str, int]:
    """As they were kept; raises what cache.kept allows where they are of another boot, or of other modules."""
    if found["of"] != known:
        raise ValueError("symbols of another boot, or of other modules")
    return dict(zip(found["names"].split(" "), found["addresses"], strict=True))


def _identity() -> list[str]:
    """What changes whenever an address may: boot, the file itself, and each load of a module.

    /proc/modules says where a module's text lies and if it is there already; its data may come to lie elsewhere the next time
    while the text does not. Each load makes its directory in sysfs anew, and kernfs numbers are not given out again.
    """
    status = os.stat(KALLSYMS)
    lines = read_text(LOADED).splitlines() if LOADED.exists() else []
    loaded = [(words[0], *words[4:6], _load_of(words[0])) for words in map(str.split, lines) if words[0] in MODULES]
    return [read_text(BOOT_ID).strip(), f"{status.st_dev}:{status.st_ino}", *sorted(map(" ".join, loaded))]


def _load_of(module: str) -> str:
    try:
        return str(os.stat(SYS_MODULE / module).st_ino)
    except FileNotFoundError:
        return "-"


def _read() -> dict[str, int]:
    text = read_text(KALLSYMS)
    # Symbols of modules come last: the long part before them is only searched for a few names.
    modules = max(text.find("\t["), 0)
    found: dict[str, int] = {}
    for module in MODULES:
        found |= _of_module(text, module, modules)
    for name in CORE:
        at = text.find(f" {name}\n", 0, modules or len(text))
        if at > 0:
            found[name] = int(text[text.rfind("\n", 0, at) + 1 : at].split()[0], 16)
    if "nf_conntrack_in" not in found:
        built_in = re.findall(rf"^([0-9a-f]+) (?:[tTwW]|\w(?= nf_conntrack_)) {NAME}$", text, re.M)
        found |= {name: int(address, 16) for address, name in built_in}
    if "nf_conntrack_in" not in found:
        raise KernelLacks("nf_conntrack is not loaded, so this kernel tracks nothing; try: modprobe nf_conntrack")
    if not any(found.values()):
        raise NotPermitted(f"{KALLSYMS} hides addresses: {hides_addresses()}")
    return found


def _of_module(text: str, module: str, modules: int) -> dict[str, int]:
    """Its symbols, which lie together; nothing where it is not loaded. `modules`: where those of all modules begin, or before."""
    tag = f"\t[{module}]\n"
    first = text.find(tag, modules)
    if first < 0:
        return {}
    lines = text[text.rfind("\n", 0, first) + 1 : text.rfind(tag) + len(tag)]
    return {name: int(address, 16) for address, name in re.findall(rf"^([0-9a-f]+) \w {NAME}\t\[{module}\]$", lines, re.M)}
