"""What the kernel's allocator takes for an entry, and where that is known from."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import NamedTuple

from ctobserve.errors import CtobserveError
from ctobserve.host.btf import BTF_DIR, Btf
from ctobserve.host.kernel import read_text

SYSFS = Path("/sys/kernel/slab/nf_conntrack")
SLABINFO = Path("/proc/slabinfo")
PAGE_BYTES = resource.getpagesize()
CACHE_LINE = 64  # SLAB_HWCACHE_ALIGN
POINTER_BYTES = 8


class Slab(NamedTuple):
    """The cache `nf_conntrack`, which is shared by all namespaces. None is what the source does not tell.

    `object_bytes` is the nf_conn, `slot_bytes` what it takes with alignment and the allocator's own; `objects` are in use.
    """

    source: str
    object_bytes: int | None
    slot_bytes: int
    slab_bytes: int
    objects_per_slab: int
    objects: int | None
    slabs: int | None


def read() -> Slab | None:
    """From sysfs or slabinfo, which only root may read, else the size of the struct from BTF; None when nothing tells."""
    return _sysfs() or _slabinfo() or _btf()


def _sysfs() -> Slab | None:
    try:
        number = {
            name: int(read_text(SYSFS / name).split()[0])
            for name in ("object_size", "slab_size", "order", "objs_per_slab", "objects", "slabs")
        }
    except (OSError, ValueError, IndexError):
        return None
    slab_bytes = PAGE_BYTES << number["order"]
    return Slab(
        str(SYSFS),
        number["object_size"],
        number["slab_size"],
        slab_bytes,
        number["objs_per_slab"],
        number["objects"],
        number["slabs"],
    )


def _slabinfo() -> Slab | None:
    try:
        return parse_slabinfo(read_text(SLABINFO))
    except OSError:
        return None


def parse_slabinfo(text: str) -> Slab | None:
    """The line `nf_conntrack` of /proc/slabinfo (format 2.1); its object size is that of the slot."""
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == "nf_conntrack":
            active, _, slot, per_slab, pages = (int(word) for word in words[1:6])
            slabs = int(words[words.index("slabdata") + 2]) if "slabdata" in words else None
            return Slab(str(SLABINFO), None, slot, pages * PAGE_BYTES, per_slab, active, slabs)
    return None


def _btf() -> Slab | None:
    try:
        vmlinux = Btf.load()
        size = (Btf.load("nf_conntrack", vmlinux) if BTF_DIR.joinpath("nf_conntrack").exists() else vmlinux).size("nf_conn")
    except (CtobserveError, OSError):
        return None
    # SLAB_TYPESAFE_BY_RCU: a free one may still be read, so what links it to the next free one lies behind it (calculate_sizes).
    slot = -(-(size + POINTER_BYTES) // CACHE_LINE) * CACHE_LINE
    return Slab("BTF", size, slot, PAGE_BYTES, PAGE_BYTES // slot, None, None)
