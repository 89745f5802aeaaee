"""Where the table is read from: the hash itself, or, where its address is hidden, one of the kernel's own listings."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from ctobserve.errors import KernelLacks
from ctobserve.host import netlink
from ctobserve.host.symbols import HASH, Symbols
from ctobserve.programs.hooks import FILLED, Purpose, attachable

PROC = Path("/proc/self/net/nf_conntrack")


class ReadVia(Enum):
    """In order of preference; a listing is read while a probe on the kernel's listing function sends what it lists."""

    WALK = "walk"
    PROC = "proc"
    NETLINK = "netlink"

    @property
    def purpose(self) -> Purpose:
        """The hook that this source needs while it is read."""
        return {ReadVia.WALK: Purpose(0), ReadVia.PROC: Purpose.PROC, ReadVia.NETLINK: Purpose.NETLINK}[self]

    @property
    def words(self) -> str:
        """For people."""
        return {
            ReadVia.WALK: "walked in the kernel, all namespaces in one pass",
            ReadVia.PROC: f"read by a probe while the kernel writes {PROC}: dearer than a walk, same entries",
            ReadVia.NETLINK: "read by a probe during a netlink dump of each namespace: dearer than a walk, no reply-only entries",
        }[self]


def missing(source: ReadVia, symbols: Symbols) -> str | None:
    """What this kernel lacks for reading the table that way; None when it lacks nothing."""
    if source is ReadVia.WALK:
        lacks = symbols.lacks(*HASH)
        return f"no {' and '.join(lacks)} in /proc/kallsyms (CONFIG_KALLSYMS_ALL)" if lacks else None
    function = "ct_seq_show" if source is ReadVia.PROC else FILLED
    if source is ReadVia.PROC and not PROC.exists():
        return f"no {PROC} (CONFIG_NF_CONNTRACK_PROCFS)"
    if source is ReadVia.NETLINK and not netlink.available():
        return "nf_conntrack_netlink is not loaded"
    return None if attachable(function, symbols) else f"no function {function} to attach to"


def choose(wanted: str, symbols: Symbols) -> ReadVia:
    """The source of this name, or with `auto` the first that this kernel offers; raises KernelLacks with what is missing."""
    candidates = list(ReadVia) if wanted == "auto" else [ReadVia(wanted)]
    lacking = []
    for source in candidates:
        lack = missing(source, symbols)
        if lack is None:
            return source
        lacking.append(lack)
    raise KernelLacks(f"the table cannot be read here: {', '.join(lacking)}; ask `ctobserve check` what this kernel offers")
