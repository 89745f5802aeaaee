"""What the running kernel is and offers: modules, sysctls, build id. It never compares version numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

from ctobserve.errors import KernelLacks
from ctobserve.model import printable

KALLSYMS = Path("/proc/kallsyms")
SYSCTL = Path("/proc/sys/net/netfilter")
NOTES = (Path("/sys/kernel/notes"), Path("/sys/module/nf_conntrack/notes/.note.gnu.build-id"))
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MEMINFO = Path("/proc/meminfo")
SYS_MODULE = Path("/sys/module")
SETTING_BYTES = 4096  # more than any sysctl shows
# A function of each module that may be built in, which no compiler renames.
BUILT_IN = {
    "nf_conntrack_netlink": "ctnetlink_conntrack_event",
    "nf_tables": "nft_do_chain",
    "openvswitch": "ovs_ct_execute",
    "act_ct": "tcf_ct_act",
    "ip_vs": "ip_vs_conn_new",
    "nf_conntrack_pptp": "conntrack_pptp_help",
}
UNLABELED = Path("/sys/fs/selinux/initial_contexts/unlabeled")


def read_text(path: Path) -> str:
    """A file of /proc or /sys: bytes that are no UTF-8, which other users may have put there, stay as surrogates.

    What of it is shown goes through model.printable. Raises OSError.
    """
    return path.read_bytes().decode("utf-8", "surrogateescape")


def release() -> str:
    """As uname -r."""
    return os.uname().release


def machine() -> str:
    """As uname -m."""
    return os.uname().machine


def boot_id() -> str | None:
    """The random number of this boot; None where it cannot be read."""
    try:
        return printable(read_text(BOOT_ID).strip())
    except OSError:
        return None


def digest(*parts: str) -> str:
    """Short hash of these words."""
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


def build_id() -> str:
    """Hash that changes whenever the kernel or its nf_conntrack module does."""
    notes = [path.read_bytes().hex() for path in NOTES if path.exists()]
    return digest(release(), os.uname().version, *notes)


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
        found = re.findall(rf" [tT] ({'|'.join(BUILT_IN.values())})$", read_text(KALLSYMS), re.M)
        return frozenset(name for name, function in BUILT_IN.items() if function in found)


def sysctl(name: str) -> int | None:
    """Value of net.netfilter.`name` in this thread's network namespace, or None where the kernel has none."""
    return sysctls_of((name,)).get(name)


def sysctls_of(names: Iterable[str]) -> dict[str, int]:
    """Values of net.netfilter.* of this thread's network namespace, by name, without those that the kernel has not."""
    try:
        with _directory() as opened:
            return {name: value for name in names if (value := _number(name, opened)) is not None}
    except OSError:
        return {}


def may_set(name: str) -> bool:
    """Whether net.netfilter.NAME may be set in this thread's network namespace: its file has a write bit."""
    try:
        with _directory() as opened:
            return _has_write_bit(name, opened)
    except OSError:
        return False


@contextmanager
def _directory() -> Iterator[int]:
    """That of net.netfilter.*, looked up once: each namespace has its own, and a look-up goes through them all.

    In the kernel's cache of names they hang in one chain, /proc/sys/net/netfilter of every namespace that was ever asked.
    """
    opened = os.open(SYSCTL, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield opened
    finally:
        os.close(opened)


def _has_write_bit(name: str, directory: int) -> bool:
    return bool(os.stat(name, dir_fd=directory).st_mode & 0o200)


def _number(name: str, directory: int) -> int | None:
    try:
        opened = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            return int(os.read(opened, SETTING_BYTES))
        finally:
            os.close(opened)
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
    try:
        with _directory() as opened:
            names = sorted(path.name for path in SYSCTL.glob("nf_conntrack_*"))
            return {name: (_number(name, opened), _has_write_bit(name, opened)) for name in names}
    except OSError:
        return {}


def memory_bytes() -> int | None:
    """Memory the kernel manages (totalram_pages)."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", read_text(MEMINFO), re.M) if MEMINFO.exists() else None
    return int(found[1]) * 1024 if found else None


def htable_size() -> int:
    """Number of buckets of the hash table now."""
    value = sysctl("nf_conntrack_buckets")
    if value is None:
        raise KernelLacks("net.netfilter.nf_conntrack_buckets is gone: nf_conntrack was unloaded; try: modprobe nf_conntrack")
    return value
