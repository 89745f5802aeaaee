"""What was read of this kernel once: layout of its objects and ids of its functions, kept until the kernel changes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ctobserve.errors import KernelLacks
from ctobserve.host import cache, kernel, layout
from ctobserve.host.btf import BTF_DIR, Btf, BtfId
from ctobserve.host.layout import Layout

MODULES = ("nf_conntrack", "nf_conntrack_netlink")


class KernelBuild(NamedTuple):
    """`function_ids`: what trampolines can hang on, by function name; empty when the kernel has no BTF of modules."""

    layout: Layout
    function_ids: dict[str, BtfId]


def read(functions: Iterable[str]) -> KernelBuild:
    """Layout, and the ids of these functions, from /sys/kernel/btf, or as kept for this very kernel.

    Raises KernelLacks without BTF or with an unknown layout.
    """
    present = [module for module in MODULES if BTF_DIR.joinpath(module).exists()]
    names = sorted(set(functions))
    key = "facts-" + kernel.digest(kernel.build_id(), kernel.read_text(Path(layout.__file__)), *names, *present)
    return cache.kept(key, lambda: _read(present, names), decoded)


def decoded(found: Any) -> KernelBuild:
    """As they were kept; raises what cache.kept allows."""
    ids = {name: BtfId(module, number) for name, (module, number) in found["function_ids"].items()}
    return KernelBuild(Layout(**found["layout"]), ids)


def _read(present: list[str], names: list[str]) -> dict[str, Any]:
    try:
        return _understood(present, names)
    except (ValueError, IndexError, struct.error, RecursionError) as error:
        raise KernelLacks(f"the BTF in {BTF_DIR} cannot be understood, and may be damaged ({error})") from error


def _understood(present: list[str], names: list[str]) -> dict[str, Any]:
    vmlinux = Btf.load()
    # Where conntrack is built in, its functions are vmlinux', whatever of it is a module.
    files = {} if "nf_conntrack" in present else {"vmlinux": vmlinux}
    files |= {module: Btf.load(module, vmlinux) for module in present}
    ids = {
        name: (module, number) for module, btf in files.items() for name in names if (number := btf.function(name)) is not None
    }
    found = Layout.read(files.get("nf_conntrack", vmlinux))
    return {"layout": found.as_dict(), "function_ids": ids}
