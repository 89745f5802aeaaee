"""What a capture could be made of on this host: looks that leave nothing attached and change nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Protocol

from ctobserve.capture import read_via
from ctobserve.capture.read_via import ReadVia
from ctobserve.errors import CtobserveError, KernelLacks, NotPermitted
from ctobserve.host import capabilities, kernel, kernel_build, netlink, preemption, restrictions
from ctobserve.host.btf import BtfId
from ctobserve.host.capabilities import Use
from ctobserve.host.layout import OPTIONAL
from ctobserve.host.symbols import HASH, Symbols
from ctobserve.programs.attachment import preempt_count
from ctobserve.programs.compile import Source, shipped
from ctobserve.programs.hooks import FUNCTIONS, Planned, Purpose, few, lacking, plan, without_btf
from ctobserve.programs.trial import admit_program, trampoline_refusal, try_features


@dataclass(frozen=True)
class Occupancy:
    """The table of the network namespace we are in: entries, the most there may be, buckets; None where there is no number."""

    count: int | None
    max: int | None
    buckets: int | None


@dataclass(frozen=True)
class Plan:
    """All hooks, as they would be attached. `lacking` is a function that is missing and without which nothing can be followed.

    `untyped` are functions on which trampolines should hang and of which the kernel's BTF knows nothing; none where the kernel
    has no BTF of any, unless trampolines were asked for.
    """

    hooks: tuple[Planned, ...]
    lacking: str | None
    untyped: tuple[str, ...]

    @property
    def some_untyped(self) -> str:
        """The first of them, and how many more there are."""
        return few(self.untyped)

    @property
    def blind(self) -> tuple[str, ...]:
        """Functions that this kernel lacks: what they would tell is not seen."""
        return tuple(item.hook.name for item in self.hooks if item.function is None)


class Prospect(Protocol):
    """Looks at one host. Whatever keeps a look from being taken is raised by it: CtobserveError, OSError, or a fault of ours."""

    @property
    def release(self) -> str:
        """As uname -r."""
        ...

    @property
    def machine(self) -> str:
        """As uname -m."""
        ...

    def uid(self) -> int:
        """Who we are."""
        ...

    def without(self) -> tuple[Use, ...]:
        """Capabilities that we lack, with what each is for."""
        ...

    def occupancy(self) -> Occupancy | None:
        """None when nf_conntrack is not loaded."""
        ...

    def entry_bytes(self) -> int:
        """Size of struct nf_conn; raises KernelLacks where a member that is read of it is not there."""
        ...

    def absent(self) -> Mapping[str, str]:
        """Members of it that this kernel was built without, and by which option: each value is 0; raises as `entry_bytes`."""
        ...

    def has_types(self) -> bool:
        """Whether BTF describes nf_conntrack's functions; raises as `entry_bytes`."""
        ...

    def symbols(self) -> int:
        """How many of conntrack's functions and variables have an address."""
        ...

    def unnamed(self) -> list[str]:
        """Variables of the hash that have no address, so that no chain is counted; raises as `symbols`."""
        ...

    def names_processes(self) -> bool:
        """Whether it can be told that a process acts, and which; raises as `entry_bytes` and `symbols`."""
        ...

    def reads_via(self) -> ReadVia:
        """How the table would be read; raises KernelLacks where it cannot be, and as `symbols`."""
        ...

    def plan(self, attach: str) -> Plan:
        """With the probes that --attach asks for; raises as `entry_bytes` and `symbols`."""
        ...

    def comes_compiled(self) -> bool | None:
        """Whether the programs came compiled with ctobserve, in every form; False: of other sources, None: they did not come."""
        ...

    def has_bcc(self) -> bool:
        """Whether Python can import it."""
        ...

    def admit_program(self) -> None:
        """Load one that does nothing, and let go of it; raises CtobserveError where the kernel refuses."""
        ...

    def lockdown(self) -> str | None:
        """`integrity` or `confidentiality`; None where the kernel is not locked down."""
        ...

    def try_features(self) -> None:
        """Use once what every command needs of BPF; raises CtobserveError where the kernel has it not."""
        ...

    def trampoline_refusal(self, plan: Plan) -> str | None:
        """What the kernel says against a fentry or fexit program of this plan; None where it takes all, tried by idle ones."""
        ...

    def preemption(self) -> str | None:
        """How a task can be taken off its CPU in the kernel; None where it cannot, or where that is no reason for kprobes."""
        ...

    def probes_off(self) -> str | None:
        """What keeps programs from running that are attached, and what to do about it; None where nothing does."""
        ...

    def probes_hide_missed(self) -> bool:
        """Whether the kernel is known not to say how many calls a kprobe missed."""
        ...

    def has_netlink(self) -> bool:
        """Whether nf_conntrack_netlink is there."""
        ...


def plan_all(symbols: Symbols, function_ids: Mapping[str, BtfId], attach: str, preempted: bool) -> Plan:
    """Every hook that some command attaches on this kernel; of those that listings need, the ones of the way that is used.

    `preempted`: the kernel may be. Commands that do not mind use trampolines there, all the same.
    """
    ids = {} if attach == "kprobe" or (attach == "auto" and preempted) else dict(function_ids)
    everything = ~(Purpose.PROC | Purpose.NETLINK)
    with suppress(KernelLacks):
        everything |= read_via.choose("auto", symbols).purpose
    hooks = plan(symbols, ids, everything)
    return Plan(tuple(hooks), lacking(hooks), tuple(without_btf(hooks, ids)) if ids or attach == "fentry" else ())


class LiveProspect:
    """A Prospect of this host, now."""

    @property
    def release(self) -> str:
        """As uname -r."""
        return kernel.release()

    @property
    def machine(self) -> str:
        """As uname -m."""
        return kernel.machine()

    @cached_property
    def _build(self) -> kernel_build.KernelBuild:
        return kernel_build.read(FUNCTIONS)

    @cached_property
    def _symbols(self) -> Symbols:
        return Symbols.read()

    def uid(self) -> int:
        """Who we are."""
        return os.geteuid()

    def without(self) -> tuple[Use, ...]:
        """Capabilities that we lack, with what each is for."""
        return capabilities.missing()

    def occupancy(self) -> Occupancy | None:
        """None when nf_conntrack is not loaded."""
        if not kernel.conntrack_loaded():
            return None
        return Occupancy(*(kernel.sysctl(f"nf_conntrack_{name}") for name in ("count", "max", "buckets")))

    def entry_bytes(self) -> int:
        """Size of struct nf_conn."""
        return self._build.layout.ct_bytes

    def absent(self) -> Mapping[str, str]:
        """Members of it that this kernel was built without, and by which option."""
        return {member: OPTIONAL[member] for member in self._build.layout.absent}

    def has_types(self) -> bool:
        """Whether BTF describes nf_conntrack's functions."""
        return bool(self._build.function_ids)

    def symbols(self) -> int:
        """How many of conntrack's functions and variables have an address."""
        return len(self._symbols.addresses)

    def unnamed(self) -> list[str]:
        """Variables of the hash that have no address."""
        return self._symbols.lacks(*HASH)

    def names_processes(self) -> bool:
        """Whether it can be told that a process acts, and which."""
        return preempt_count(self._symbols, self._build.layout) != 0

    def reads_via(self) -> ReadVia:
        """How the table would be read."""
        return read_via.choose("auto", self._symbols)

    def plan(self, attach: str) -> Plan:
        """With the probes that --attach asks for."""
        return plan_all(self._symbols, self._build.function_ids, attach, self.preemption() is not None)

    def comes_compiled(self) -> bool | None:
        """Whether the programs came compiled with ctobserve, in every form."""
        sources = [Source.here(trampolines) for trampolines in (True, False)]
        if not all(source.image.exists() for source in sources):
            return None
        return all(map(shipped, sources))

    def has_bcc(self) -> bool:
        """Whether Python can import it."""
        return find_spec("bcc") is not None

    def admit_program(self) -> None:
        """Load one that does nothing, and let go of it."""
        try:
            admit_program()
        except CtobserveError as error:
            why = str(error).split(";")[0]
            raise NotPermitted(f"{why}; use a kernel that admits BPF programs; the sources have one in a VM: make lab") from error

    def lockdown(self) -> str | None:
        """How far the kernel is locked down."""
        return restrictions.lockdown()

    def try_features(self) -> None:
        """Use once what every command needs of BPF."""
        try_features()

    def trampoline_refusal(self, plan: Plan) -> str | None:
        """What the kernel says against a fentry or fexit program of this plan."""
        return trampoline_refusal(plan.hooks)

    def preemption(self) -> str | None:
        """How a task can be taken off its CPU, where that is a reason for kprobes."""
        return preemption.reckoned_with(not self.probes_hide_missed())

    def probes_off(self) -> str | None:
        """What keeps programs from running that are attached."""
        return restrictions.probes_off()

    def probes_hide_missed(self) -> bool:
        """Whether the kernel is known not to say how many calls a kprobe missed."""
        with suppress(CtobserveError, OSError):
            return not self._build.layout.probes_tell_missed
        return False

    def has_netlink(self) -> bool:
        """Whether nf_conntrack_netlink is there."""
        return netlink.available()
