"""What this kernel lets BPF do, tried with programs that do nothing, and taken off again."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ctobserve.errors import KernelLacks
from ctobserve.event import RING_MIB
from ctobserve.programs import syscalls
from ctobserve.programs.compile import Image, Program
from ctobserve.programs.hooks import Planned
from ctobserve.programs.loader import Programs, TrampolineRefused

PROBED = "nf_ct_delete"  # exported, so every kernel has it by this name; called once per entry that leaves
RETURN_0 = bytes.fromhex("b7000000000000009500000000000000")  # r0 = 0; exit
# r1 = r10 - 8; r2 = 8; r3 = 0; call bpf_probe_read_kernel (113): without it nothing that conntrack holds can be seen.
READ_MEMORY = bytes.fromhex("bfa100000000000007010000f8ffffffb702000008000000b7030000000000008500000071000000") + RETURN_0


def admit_program() -> None:
    """Load one that does nothing, and let go of it; raises CtobserveError where the kernel refuses."""
    syscalls.lock_any_memory()
    os.close(syscalls.prog_load(syscalls.PROG_TYPE_KPROBE, "probe", RETURN_0))


def try_features() -> None:
    """What commands need: kprobes, and of BPF to read memory, a ring buffer as large as theirs, to run a program at request.

    Raises KernelLacks where the kernel has one of them not, NotPermitted where lockdown forbids to read, or we may not probe.
    """
    syscalls.kprobe_type()
    reads = syscalls.prog_load(syscalls.PROG_TYPE_KPROBE, "read_memory", READ_MEMORY)
    try:
        os.close(syscalls.kprobe_attach(reads, PROBED, False))
    except OSError as error:
        raise KernelLacks(f"cannot attach a kprobe to {PROBED}: {error.strerror}; `ctobserve check` cannot go on") from error
    finally:
        os.close(reads)
    os.close(syscalls.map_create(syscalls.MAP_TYPE_RINGBUF, 0, 0, RING_MIB << 20, 0, "ring"))
    runs = syscalls.prog_load(syscalls.PROG_TYPE_RAW_TRACEPOINT, "run", RETURN_0)
    try:
        syscalls.test_run(runs, bytes(16))
    except OSError as error:
        raise KernelLacks(f"{error.strerror}: this kernel runs no program of ours at request; use one >= 5.10") from error
    finally:
        os.close(runs)


def trampoline_refusal(planned: Iterable[Planned]) -> str | None:
    """What the kernel says against the first trampoline of a plan that it refuses; None where it takes all of them.

    Each hangs where it would, by the same calls, and is taken off again. Raises NotPermitted where no program may be loaded.
    """
    trampolines = [item for item in planned if item.btf]
    idle = Image({}, {item.hook.program: Program(RETURN_0, [], []) for item in trampolines})
    programs = Programs(idle, (), 0, 0)
    try:
        programs.attach(trampolines)
    except TrampolineRefused as refused:
        return str(refused)
    finally:
        programs.close()
    return None
