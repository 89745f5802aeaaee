"""Which kernel functions are hooked, for what, and in which form: the plan that `check` shows and probes.py carries out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, Flag, auto

from ctobserve.errors import KernelLacks
from ctobserve.kernel import Symbols


class Purpose(Flag):
    """What a command wants to know; hooks that serve none of it stay off."""

    TABLE = auto()
    DEPARTURES = auto()
    DROPS = auto()
    CONFIRMS = auto()


class Form(Enum):
    """How a program hangs on a function."""

    FENTRY = "fentry"
    FEXIT = "fexit"
    KPROBE = "kprobe"
    KRETPROBE = "kprobe + kretprobe"


@dataclass(frozen=True)
class Hook:
    """A program of bpf/*.c and the kernel function it wants."""

    program: str
    functions: tuple[str, ...]
    at_return: bool
    serves: Purpose
    tells: str
    needs_caller: bool = False


@dataclass(frozen=True)
class Planned:
    """A hook as it will be attached on this kernel; `function` is None where the kernel has no such function."""

    hook: Hook
    function: str | None
    form: Form
    btf_id: int = 0


REMOVALS = Purpose.TABLE | Purpose.DEPARTURES | Purpose.DROPS
HOOKS = (
    Hook("insert", ("__nf_conntrack_hash_insert",), False, Purpose.TABLE, "entries entering the table"),
    Hook("resolve_clash", ("nf_ct_resolve_clash",), True, Purpose.TABLE | Purpose.DROPS, "clashes, reply-only entries"),
    Hook("resize", ("nf_conntrack_hash_resize",), True, Purpose.TABLE, "changes of the number of buckets"),
    Hook("destroy", (r"nf_ct_delete\.part\.\d+", "nf_ct_delete"), False, REMOVALS, "entries leaving, and who removed them", True),
    Hook("free_entry", ("nf_conntrack_free",), False, Purpose.DEPARTURES, "entries that die before the table"),
    Hook("early_drop", ("early_drop",), True, Purpose.DROPS, "table full, nothing to evict"),
    Hook(
        "alloc", ("__nf_conntrack_alloc",), True, Purpose.DROPS | Purpose.CONFIRMS, "packets refused for lack of room or memory"
    ),
    Hook("confirm", ("__nf_conntrack_confirm",), True, Purpose.DROPS, "packets lost by clash, long chains, dying entries"),
)


def plan(symbols: Symbols, function_ids: dict[str, int], purpose: Purpose) -> list[Planned]:
    """The hooks that serve `purpose`; `function_ids` are nf_conntrack's BTF ids, empty where trampolines cannot be used.

    Trampolines for all that may have one, or for none: the programs are compiled for one form. Raises KernelLacks when a
    function that keeps the table true is missing.
    """
    chosen = [(hook, symbols.resolve(*hook.functions)) for hook in HOOKS if hook.serves & purpose]
    lacking = [hook.functions[-1] for hook, function in chosen if function is None and hook.program in ("insert", "destroy")]
    if lacking:
        raise KernelLacks(f"this kernel has no function {lacking[0]} to attach to: without it the table cannot be followed")
    trampolines = all(function in function_ids for hook, function in chosen if function and not hook.needs_caller)
    return [_planned(hook, function, function_ids if trampolines else {}) for hook, function in chosen]


def _planned(hook: Hook, function: str | None, function_ids: dict[str, int]) -> Planned:
    btf_id = 0 if hook.needs_caller else function_ids.get(function or "", 0)
    if btf_id:
        return Planned(hook, function, Form.FEXIT if hook.at_return else Form.FENTRY, btf_id)
    return Planned(hook, function, Form.KRETPROBE if hook.at_return else Form.KPROBE)
