"""What the running kernel is and offers: symbols, sysctls, build id. It never compares version numbers."""

from __future__ import annotations

import os
import platform
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path

from ctobserve.errors import KernelLacks, NotPermitted
from ctobserve.model import PROTOCOLS, printable

KALLSYMS = Path("/proc/kallsyms")
SYSCTL = Path("/proc/sys/net/netfilter")
NOTES = (Path("/sys/kernel/notes"), Path("/sys/module/nf_conntrack/notes/.note.gnu.build-id"))
MEMINFO = Path("/proc/meminfo")
TRACKER = "nf_conntrack_l4proto_"
SYS_MODULE = Path("/sys/module")
# A function of each module that may be built in, which no compiler renames.
BUILT_IN = {
    "nf_conntrack_netlink": "ctnetlink_conntrack_event",
    "nf_tables": "nft_do_chain",
    "openvswitch": "ovs_ct_execute",
    "act_ct": "tcf_ct_act",
    "ip_vs": "ip_vs_conn_new",
}
UNLABELED = Path("/sys/fs/selinux/initial_contexts/unlabeled")
CORE = ("__per_cpu_offset", "__preempt_count", "pcpu_hot")
# Modules whose functions call into conntrack's delete path, or hold functions we attach to.
MODULES = ("nf_conntrack", "nf_conntrack_netlink", "nf_nat", "act_ct", "openvswitch", "ip_vs", "nf_conntrack_pptp")


def read_text(path: Path) -> str:
    """A file of /proc or /sys: bytes that are no UTF-8, which other users may have put there, stay as surrogates.

    What of it is shown goes through model.printable. Raises OSError.
    """
    return path.read_text("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Symbols:
    """/proc/kallsyms, cut to the conntrack modules, or to the whole kernel where conntrack is built in."""

    addresses: dict[str, int]

    @classmethod
    def read(cls) -> Symbols:
        """Raises NotPermitted when addresses are hidden, KernelLacks when nf_conntrack is not loaded."""
        text = read_text(KALLSYMS)
        # Symbols of modules come last: the long part before them is only searched for a few names.
        modules = max(text.find("\t["), 0)
        tag = re.compile(r"^(\w+) \w (\S+)\t\[(?:" + "|".join(MODULES) + r")\]$", re.M)
        found = {name: int(address, 16) for address, name in tag.findall(text, modules and text.rindex("\n", 0, modules))}
        for name in CORE:
            at = text.find(f" {name}\n")
            if at > 0:
                found[name] = int(text[text.rfind("\n", 0, at) + 1 : at].split()[0], 16)
        if "nf_conntrack_in" not in found:
            found = {name: int(address, 16) for address, name in re.findall(r"^(\w+) \w (\S+)$", text, re.M)}
        if "nf_conntrack_in" not in found:
            raise KernelLacks("nf_conntrack is not loaded, so this kernel tracks nothing; try: modprobe nf_conntrack")
        if not any(found.values()):
            raise NotPermitted("/proc/kallsyms hides addresses; run as root, with sysctl kernel.kptr_restrict below 2")
        return cls(found)

    def resolve(self, *patterns: str) -> str | None:
        """First symbol that matches one of these regular expressions in full, never a compiler's .cold part."""
        for pattern in patterns:
            if pattern in self.addresses:
                return pattern
            exact = re.compile(pattern)
            for name in self.addresses:
                if exact.fullmatch(name):
                    return name
        return None

    def trackers(self) -> frozenset[int]:
        """Protocol numbers that this kernel has a tracker for; to all others it is generic (nf_ct_l4proto_find)."""
        if f"{TRACKER}generic" not in self.addresses:
            return frozenset(PROTOCOLS)
        return frozenset(number for number, name in PROTOCOLS.items() if TRACKER + name in self.addresses)

    @cached_property
    def _sorted(self) -> list[tuple[int, str]]:
        return sorted((address, name) for name, address in self.addresses.items())

    def containing(self, address: int) -> str | None:
        """Name of the function that holds this address, or None."""
        at = bisect_right(self._sorted, (address, "\uffff")) - 1
        if at < 0 or address - self._sorted[at][0] > 1 << 16:
            return None
        return self._sorted[at][1]


def release() -> str:
    """As uname -r."""
    return platform.release()


def digest(*parts: str) -> str:
    """Short hash of these words."""
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


def build_id() -> str:
    """Hash that changes whenever the kernel or its nf_conntrack module does."""
    notes = [path.read_bytes().hex() for path in NOTES if path.exists()]
    return digest(release(), platform.version(), *notes)


def conntrack_loaded() -> bool:
    """Whether nf_conntrack is in this kernel now, as a module or built in."""
    return SYSCTL.joinpath("nf_conntrack_max").exists()


def has_module(name: str) -> bool:
    """Whether this module's code is in the kernel: loaded, or built in, where it need not show in /sys/module."""
    return SYS_MODULE.joinpath(name).exists() or name in _built_in()


@cache
def _built_in() -> frozenset[str]:
    """Names from modules.builtin; where the kernel came without that file, those of BUILT_IN whose function is there."""
    try:
        paths = read_text(Path("/lib/modules", release(), "modules.builtin")).split()
        return frozenset(path.rpartition("/")[2].partition(".")[0].replace("-", "_") for path in paths)
    except OSError:
        found = re.findall(r" [tT] (\w+)$", read_text(KALLSYMS), re.M)
        return frozenset(name for name, function in BUILT_IN.items() if function in found)


def sysctl(name: str) -> int | None:
    """Value of net.netfilter.`name` in our network namespace, or None where the kernel has none."""
    try:
        return int(read_text(SYSCTL / name))
    except (OSError, ValueError):
        return None


def security_contexts() -> dict[int, str]:
    """Names of security ids as far as they can be known from here: SELinux's for 0. Only the kernel can name others."""
    try:
        return {0: printable(read_text(UNLABELED).rstrip("\0\n"))}
    except OSError:
        return {}


def sysctls() -> dict[str, tuple[int | None, bool]]:
    """All nf_conntrack_* of this thread's network namespace: value (None: not readable, no number), and whether it can be set.

    A namespace may not set what is global: there the file has no write bit (nf_conntrack_standalone_init_sysctl).
    """
    return {path.name: (sysctl(path.name), bool(path.stat().st_mode & 0o200)) for path in sorted(SYSCTL.glob("nf_conntrack_*"))}


def memory_bytes() -> int | None:
    """Memory the kernel manages (totalram_pages)."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", read_text(MEMINFO), re.M) if MEMINFO.exists() else None
    return int(found[1]) * 1024 if found else None


def require_root() -> None:
    """Raises NotPermitted unless we may load programs and read kernel addresses."""
    if os.geteuid() != 0:
        raise NotPermitted("ctobserve reads kernel memory with BPF and needs root; try: sudo ctobserve ...")


def htable_size() -> int:
    """Number of buckets of the hash table now."""
    value = sysctl("nf_conntrack_buckets")
    if value is None:
        raise KernelLacks("net.netfilter.nf_conntrack_buckets is gone: nf_conntrack was unloaded; try: modprobe nf_conntrack")
    return value
