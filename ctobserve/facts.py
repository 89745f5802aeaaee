"""What was read of this kernel once: layout of its objects and ids of its functions, kept until the kernel changes."""

from __future__ import annotations

from dataclasses import dataclass

from ctobserve import cache, kernel
from ctobserve.btf import BTF_DIR, Btf
from ctobserve.hooks import HOOKS
from ctobserve.layout import Layout

MODULE = "nf_conntrack"


@dataclass(frozen=True)
class Facts:
    """`function_ids` are BTF ids for trampolines, by function; they belong to the module's BTF object if `in_module`."""

    layout: Layout
    function_ids: dict[str, int]
    in_module: bool


def read() -> Facts:
    """From /sys/kernel/btf, or as kept for this very kernel; raises KernelLacks without BTF or with an unknown layout."""
    fields = "-".join(sorted(Layout.__dataclass_fields__))
    names = sorted({name for hook in HOOKS for name in hook.functions})
    key = "facts-" + kernel.digest(kernel.build_id(), fields, *names)
    found = cache.load(key)
    if found is not None:
        return Facts(Layout(**found["layout"]), found["function_ids"], found["in_module"])
    vmlinux = Btf.load()
    in_module = BTF_DIR.joinpath(MODULE).exists()
    btf = Btf.load(MODULE, vmlinux) if in_module else vmlinux
    ids = {name: btf_id for name in names if (btf_id := btf.function(name)) is not None}
    facts = Facts(Layout.read(btf), ids, in_module)
    cache.store(key, {"layout": facts.layout.as_dict(), "function_ids": ids, "in_module": in_module})
    return facts
