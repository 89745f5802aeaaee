"""Which kernel functions are hooked, for what, and in which form: the plan that `check` shows and loader.py carries out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, Flag, auto
from typing import NamedTuple

from ctobserve.errors import KernelLacks
from ctobserve.host.btf import BtfId
from ctobserve.host.symbols import Symbols


class Purpose(Flag):
    """What a command wants to know; hooks that serve none of it stay off."""

    TABLE = auto()
    REASONS = auto()
    UPDATES = auto()
    DROPS = auto()
    UNCONFIRMED = auto()
    CONFIRMS = auto()
    INVALID = auto()
    PACKETS = auto()
    PROC = auto()
    NETLINK = auto()
    COUNTS = auto()


class Form(Enum):
    """How a program hangs on a function."""

    FENTRY = "fentry"
    FEXIT = "fexit"
    KPROBE = "kprobe"
    KRETPROBE = "kprobe + kretprobe"


class Hook(NamedTuple):
    """A program of bpf/*.c and the kernel function it wants, by its name in the kernel's source: see `attachable`.

    `kprobe_only`: it needs the return address on the stack, or the function has no BTF, variable arguments or one that fentry
    programs may not read.
    `each` says how often it runs.
    """

    program: str
    name: str
    at_return: bool
    serves: Purpose
    each: str
    tells: str
    kprobe_only: bool = False
    required: bool = False


class Planned(NamedTuple):
    """A hook as it will be attached on this kernel; `function` is None where the kernel has none that tells all."""

    hook: Hook
    function: str | None
    form: Form
    btf: BtfId | None = None


DELETE, LOCK, FILLED = "nf_ct_delete", "nf_conntrack_double_lock", "ctnetlink_fill_info"
# Copies that a compiler makes of a function, by the words it adds to the name. In constprop and isra it leaves out arguments that
# are the same in every call, or that nobody reads; part is what is left of a function whose beginning its callers have inlined.
CONSTPROP_OR_ISRA, PART = frozenset({"constprop", "isra"}), frozenset({"part"})
# What does as well as the plain function: a copy of which it is known where every argument is that our program reads.
COPIES = {
    # After the test of IPS_DYING; all three arguments are passed on (5.10, 7.2).
    DELETE: PART,
    # Its first argument, which nobody reads, is gone (5.10 - 6.12): the program looks what comes first.
    LOCK: CONSTPROP_OR_ISRA,
    # What its callers leave the same lies behind the entry (7.2; arm64 6.12).
    FILLED: CONSTPROP_OR_ISRA,
    # All their arguments differ from call to call, and are read.
    "early_drop": CONSTPROP_OR_ISRA,
    "nf_ct_resolve_clash": CONSTPROP_OR_ISRA,
    "__nf_conntrack_hash_insert": CONSTPROP_OR_ISRA,
}
COUNTS = Purpose.COUNTS
REMOVALS = Purpose.TABLE | Purpose.REASONS | Purpose.DROPS
INSERTS = Purpose.TABLE
ALLOCATIONS = Purpose.DROPS | Purpose.CONFIRMS
REASON_HOOKS = Purpose.REASONS | Purpose.DROPS | Purpose.COUNTS
PER_PACKET = Purpose.INVALID | Purpose.PACKETS
# In the order in which they are attached: what a call does last comes first. So whoever takes a mark is there before whoever
# leaves it, and a destroy is seen of every entry whose insert was: no order of events leaves a row, a mark or a depth behind.
HOOKS = (
    Hook("free_entry", "nf_conntrack_free", False, Purpose.REASONS, "freed entry", "entries that die before the table"),
    Hook("some_free", "nf_conntrack_free", False, Purpose.UNCONFIRMED, "freed entry", "some entries that die before the table"),
    Hook("destroy", DELETE, False, REMOVALS, "leaving entry", "entries leaving, and by whom", True, required=True),
    Hook("count_destroy", DELETE, False, COUNTS, "leaving entry", "entries leaving, counted", True, required=True),
    Hook("iterate", "nf_ct_iterate_cleanup", False, REASON_HOOKS, "flush", "flush or end of a namespace", True),
    Hook("kill", "nf_ct_kill_acct", False, REASON_HOOKS, "killed entry", "entries killed by a packet"),
    Hook("confirm", "__nf_conntrack_confirm", True, ALLOCATIONS, "new entry", "clashes, long chains, dying entries"),
    Hook("count_confirm", "__nf_conntrack_confirm", True, COUNTS, "new entry", "packets lost there, counted"),
    Hook("lock", LOCK, False, Purpose.DROPS, "new entry", "chains that are too long", True),
    Hook("alloc", "__nf_conntrack_alloc", True, ALLOCATIONS, "new entry", "packets without room or memory"),
    Hook("count_early_drop", "early_drop", True, COUNTS, "eviction", "table full, counted"),
    Hook("early_drop", "early_drop", True, Purpose.DROPS, "eviction", "table full, nothing to evict"),
    Hook("early_drop_begin", "early_drop", False, Purpose.DROPS, "eviction", "which eviction a victim belongs to"),
    Hook("resolve_clash", "nf_ct_resolve_clash", True, INSERTS | Purpose.DROPS, "clash", "clashes, reply-only entries"),
    Hook("count_clash", "nf_ct_resolve_clash", True, COUNTS, "clash", "clashes, counted"),
    Hook("clash_begin", "nf_ct_resolve_clash", False, Purpose.REASONS, "clash", "entries that lost a clash"),
    Hook("resize", "nf_conntrack_hash_resize", True, Purpose.TABLE, "resize", "changes of the number of buckets"),
    Hook("insert", "__nf_conntrack_hash_insert", False, INSERTS, "new entry", "entries entering the table", required=True),
    Hook("count_insert", "__nf_conntrack_hash_insert", False, COUNTS, "new entry", "entries entering, counted", required=True),
    Hook("update", "ctnetlink_conntrack_event", False, Purpose.UPDATES, "change", "status, TCP state, mark, helper"),
    Hook("helper_log", "nf_ct_helper_log", False, Purpose.DROPS, "packet dropped", "packets that helpers drop", True),
    Hook("count_helper", "nf_ct_helper_log", False, COUNTS, "packet dropped", "packets that helpers drop, counted", True),
    Hook("packet", "nf_conntrack_in", True, PER_PACKET, "packet", "invalid packets; packets by state"),
    Hook("icmp_error", "nf_conntrack_icmpv4_error", True, PER_PACKET, "ICMP packet", "ICMP errors refused"),
    Hook("icmp_error", "nf_conntrack_icmpv6_error", True, PER_PACKET, "ICMPv6 packet", "ICMPv6 errors refused"),
    Hook("log_of_entry", "nf_ct_l4proto_log_invalid", False, Purpose.INVALID, "bad packet", "why it is invalid", True),
    Hook("log_of_packet", "nf_l4proto_log_invalid", False, Purpose.INVALID, "bad packet", "why it is invalid", True),
    Hook("line", "ct_seq_show", False, Purpose.PROC, "entry listed", "the table, while /proc lists it", required=True),
    Hook("filled", FILLED, False, Purpose.NETLINK, "entry listed", "the table, in a dump", True, required=True),
)

# Functions that run with softirqs on: where the kernel may be preempted, a task can be taken off its CPU in the midst of them.
PREEMPTED = frozenset(
    (
        *("__nf_conntrack_alloc", "early_drop", "__nf_conntrack_confirm", "nf_conntrack_free", "nf_ct_kill_acct"),
        *("ctnetlink_conntrack_event", "nf_conntrack_in", "nf_conntrack_icmpv4_error", "nf_conntrack_icmpv6_error"),
        "ct_seq_show",
    )
)
# Who wants no more than numbers, or some of many, is told how many calls were missed, and is spared what kprobes cost.
CONTENT = COUNTS | Purpose.UNCONFIRMED

FUNCTIONS = sorted({hook.name for hook in HOOKS})


def preempted(purpose: Purpose, how: str | None) -> bool:
    """Whether a trampoline's program for this purpose misses calls where the kernel may be preempted so (host/preemption.py).

    While a task that was taken off its CPU is in such a program, the kernel runs it for nobody else there
    (__bpf_prog_enter_recur). With kprobes nobody can be taken off there: only in bpf(2), while a map is looked into, which keeps
    all of them from running on that CPU. Under PREEMPT_RT a task can be taken off also with softirqs off (from Linux 6.18 on).
    """
    if how is None:
        return False
    return any((how == "rt" or hook.name in PREEMPTED) and hook.serves & purpose & ~CONTENT for hook in HOOKS)


def attachable(name: str, symbols: Symbols) -> str | None:
    """The symbol on which a program for this function sees all of its calls, with arguments that are known.

    None where the kernel has none, where arguments may have moved, and where some calls go to one copy, others to another.
    """
    found = symbols.copies(name)
    inner = [symbol for symbol, kinds in found.items() if kinds == PART]
    # Whoever calls the whole function comes to its part, too.
    if COPIES.get(name) == PART and len(inner) == 1 and found.keys() <= {name, *inner}:
        return inner[0]
    if len(found) != 1:
        return None
    ((symbol, kinds),) = found.items()
    return symbol if kinds <= COPIES.get(name, frozenset()) else None


def lacking(planned: Iterable[Planned]) -> str | None:
    """The first function of a plan that is missing and without which the table cannot be followed; None where all are there."""
    return next((item.hook.name for item in planned if item.function is None and item.hook.required), None)


def without_btf(planned: Iterable[Planned], function_ids: dict[str, BtfId]) -> list[str]:
    """Functions of a plan on which trampolines should hang, and of which the kernel's BTF knows nothing."""
    wanted = {item.function for item in planned if item.function and not item.hook.kprobe_only}
    return sorted(wanted - function_ids.keys())


def check(planned: Iterable[Planned], function_ids: dict[str, BtfId], attach: str) -> None:
    """Raises KernelLacks where this plan cannot keep the table true, or is not what --attach asked for."""
    planned = list(planned)
    missing = lacking(planned)
    if missing:
        raise KernelLacks(f"this kernel has no function {missing} to attach to: without it the table cannot be followed")
    untyped = without_btf(planned, function_ids) if attach == "fentry" else []
    if untyped:
        raise KernelLacks(f"--attach fentry: this kernel has no BTF of {few(untyped)}; try: --attach kprobe")


def few(names: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def plan(symbols: Symbols, function_ids: dict[str, BtfId], purpose: Purpose) -> list[Planned]:
    """The hooks that serve `purpose`, in the order in which they are to be attached; `function_ids` are empty where trampolines
    cannot be used.

    Trampolines for all that may have one, or for none: the programs are compiled for one form.
    """
    chosen = [(hook, attachable(hook.name, symbols)) for hook in HOOKS if hook.serves & purpose]
    trampolines = all(function in function_ids for hook, function in chosen if function and not hook.kprobe_only)
    return [_planned(hook, function, function_ids if trampolines else {}) for hook, function in chosen]


def _planned(hook: Hook, function: str | None, function_ids: dict[str, BtfId]) -> Planned:
    btf = None if hook.kprobe_only else function_ids.get(function or "")
    if btf:
        return Planned(hook, function, Form.FEXIT if hook.at_return else Form.FENTRY, btf)
    return Planned(hook, function, Form.KRETPROBE if hook.at_return else Form.KPROBE)
