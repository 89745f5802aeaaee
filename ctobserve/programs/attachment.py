"""Our programs in the kernel: planned, compiled, loaded, attached; and the calls and records that they missed."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack

from ctobserve.errors import KernelLacks
from ctobserve.host import kernel_build, netlink, restrictions
from ctobserve.host.btf import BtfId
from ctobserve.host.layout import Layout
from ctobserve.host.preemption import reckoned_with
from ctobserve.host.symbols import HASH, Symbols
from ctobserve.programs.compile import build
from ctobserve.programs.given import Choices, given
from ctobserve.programs.hooks import FUNCTIONS, REASON_HOOKS, Planned, Purpose, check, plan, preempted
from ctobserve.programs.loader import Programs, TrampolineRefused, Variables

# Programs of which each call is a record; of most, at most.
PROGRAMS_OF = {
    "insert": ("insert", "resolve_clash"),
    "destroy": ("destroy",),
    "update": ("update",),
    "drop": ("alloc", "early_drop", "confirm", "helper_log"),
    "free": ("free_entry", "some_free"),
}
UNPAIRED = "unpaired"
UNCOUNTED = "packets"
PACKET_CLASS = struct.Struct("<IHHI")  # bpf/packets.c: namespace, hook, state, CPU


class Attachment:
    """Nothing is in the kernel before `load`, nothing after `close`. `programs` are there in between."""

    def __init__(self, purpose: Purpose, attach: str, symbols: Symbols) -> None:
        """Plan only; `attach` is auto, fentry or kprobe. Raises KernelLacks where the table could not be followed so.

        With `auto` all hooks are kprobes where the kernel may be preempted and trampolines would miss what this purpose wants.
        Also where probes are switched off: attached to no avail, they would tell that nothing happens.
        """
        self.symbols = symbols
        self.build = kernel_build.read(FUNCTIONS)
        self.plan: list[Planned] = []
        self._purpose = purpose
        how = reckoned_with(self.build.layout.probes_tell_missed)
        self._attach = "kprobe" if attach == "auto" and preempted(purpose, how) else attach
        self._unfit: list[str] = []
        self._before: Counter[str] = Counter()
        self._make_plan()
        check(self.plan, self.build.function_ids, self._attach)
        if off := self.switched_off():
            raise KernelLacks(off)
        # Without any hook the programs are compiled in the form that other commands will want, and found again.
        self.trampolines = any(item.btf for item in self.plan) or (not self.plan and bool(self._ids()))

    def switched_off(self) -> str | None:
        """Why what is attached does not run now, and what to do about it; None where it does."""
        return restrictions.probes_off() if self.plan else None

    def load(self, choices: Choices, ring_bytes: int) -> None:
        """Compile, and make what programs need; nothing is attached yet. Raises NotPermitted where the kernel refuses."""
        layout = self.build.layout
        with ExitStack() as opened:
            self.programs = Programs(build(self.trampolines), given(layout, self.symbols, choices), layout.raw_bytes, ring_bytes)
            opened.callback(self.programs.close)
            self.programs.configure(self._variables())
            self._netlink = netlink.available()
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Take every program off."""
        self._opened.close()

    def attach(self) -> None:
        """All hooks of the plan; raises CtobserveError naming the function that failed.

        A kernel may describe its functions and yet hang no trampoline on them (arm64 before 6.4 has no direct calls): with `auto`
        all hooks are then kprobes. Raises KernelLacks where fentry was asked for.
        """
        try:
            self._unfit += self.programs.attach(self.plan)
        except TrampolineRefused as refused:
            if self._attach == "fentry":
                raise KernelLacks(f"--attach fentry: this kernel attaches {refused}; try: --attach kprobe") from refused
            self._attach, self.trampolines = "kprobe", False
            self._make_plan()
            self.programs.take_form(build(trampolines=False))
            self._unfit += self.programs.attach(self.plan)

    def begin(self, kinds: Mapping[str, int]) -> None:
        """From now on misses count. `kinds`: names of the kinds of record, and their slots in the map `lost`."""
        self._kinds = kinds
        self._before = self._missed()

    def attach_late(self) -> bool:
        """Whether nf_conntrack_netlink came since: then its hooks are attached, in the form that programs are compiled for."""
        if self._netlink or not netlink.available():
            return False
        self._netlink = True
        attached = {item.hook for item in self.plan if item.function}
        self.symbols, self.build = Symbols.read(), kernel_build.read(FUNCTIONS)
        self._make_plan()
        late = [item for item in self.plan if item.function and item.hook not in attached]
        fitting = [item for item in late if item.hook.kprobe_only or bool(item.btf) == self.trampolines]
        self._unfit += [item.function for item in late if item.function and item not in fitting]
        for item in fitting:
            try:
                self._unfit += self.programs.attach([item])
            except TrampolineRefused:
                # Others hang already, in a form that was not refused: this one alone stays blind.
                self._unfit.append(item.hook.name)
        return True

    @property
    def not_attached(self) -> tuple[str, ...]:
        """Functions that a hook wants and that have none.

        This kernel lacks them or takes no probe there, or they came later and take another form.
        """
        return tuple(sorted({item.hook.name for item in self.plan if item.function is None}.union(self._unfit)))

    def missed(self) -> dict[str, int]:
        """By kind: records that found the ring full, calls that a program missed; packets that found no room. Since `begin`."""
        now = self._missed()
        return {kind: n for kind in (*self._kinds, UNCOUNTED) if (n := now[kind] - self._before[kind])}

    def unpaired(self) -> int:
        """Calls of early_drop of which the begin or the return stayed unseen, since `begin`: their victims have no evictor."""
        return self._missed()[UNPAIRED] - self._before[UNPAIRED]

    def refused(self, slot: int) -> int:
        """Records of one kind that found the ring full, since the programs were loaded."""
        return sum(self.programs.per_cpu("lost", slot))

    def packets(self) -> list[tuple[int, int, int, int]]:
        """Namespace, hook, state and number of packets so far, with Purpose.PACKETS."""
        found = Counter[tuple[int, int, int]]()
        for key, packets in self.programs.counts("packet_counts").items():
            netns, hook, state, _cpu = PACKET_CLASS.unpack(key)
            found[netns, hook, state] += packets
        return sorted((*of, packets) for of, packets in found.items())

    def _missed(self) -> Counter[str]:
        programs = self.programs
        unclassed = programs.missed(("packet",)) if Purpose.PACKETS in self._purpose else 0
        counts = {kind: self.refused(slot) + programs.missed(PROGRAMS_OF.get(kind, ())) for kind, slot in self._kinds.items()}
        counts[UNPAIRED] = sum(programs.per_cpu("unpaired", 0))
        counts[UNCOUNTED] = unclassed + sum(programs.per_cpu("unclassed", 0))
        return Counter(counts)

    def _make_plan(self) -> None:
        self.plan = plan(self.symbols, self._ids(), self._purpose) if self._purpose else []

    def _ids(self) -> dict[str, BtfId]:
        return {} if self._attach == "kprobe" else self.build.function_ids

    def choices(self, chains: bool, netns: int | None) -> Choices:
        """What the programs are to do beyond the least, for this purpose."""
        purpose = self._purpose
        return Choices(
            chains=chains and not self.symbols.lacks(*HASH),
            confirms=Purpose.CONFIRMS in purpose,
            reasons=bool(purpose & REASON_HOOKS),
            invalid=Purpose.INVALID in purpose,
            packets=Purpose.PACKETS in purpose,
            netns=netns or 0,
        )

    def _variables(self) -> Variables:
        known = self.symbols.addresses
        return Variables(
            known.get("nf_conntrack_hash", 0),
            known.get("nf_conntrack_htable_size", 0),
            known.get("__per_cpu_offset", 0),
            preempt_count(self.symbols, self.build.layout),
            known.get("nf_conntrack_generation", 0),
        )


def preempt_count(symbols: Symbols, layout: Layout) -> int:
    """Where a task has it, else where each CPU does, as PREEMPT_COUNT of bpf/arch looks for it.

    0 where it is not found: then nobody knows whether a process acts or an interrupt, and no process is named.
    """
    known = symbols.addresses
    count = known.get("__preempt_count") or known.get("pcpu_hot")
    per_cpu = count + layout.preempt_count if count and "__per_cpu_offset" in known else 0
    return layout.task_preempt_count or per_cpu
