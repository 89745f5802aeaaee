"""What differs between machines, on our side; bpf/arch/MACHINE.h has what differs in the programs."""

from __future__ import annotations

import sys
from typing import NamedTuple

from ctobserve.errors import KernelLacks
from ctobserve.host import kernel


class Arch(NamedTuple):
    """Numbers of system calls (asm/unistd.h), and whether loads and stores keep their order by themselves (total store order)."""

    bpf: int
    perf_event_open: int
    membarrier: int
    ordered: bool


# By uname -m, as is bpf/arch/MACHINE.h.
MACHINES = {
    "x86_64": Arch(bpf=321, perf_event_open=298, membarrier=324, ordered=True),
    "aarch64": Arch(bpf=280, perf_event_open=241, membarrier=283, ordered=False),
}


def here() -> Arch:
    """Of this machine; raises KernelLacks on one that we do not know, and in a process of 32 bits, whose calls differ."""
    if sys.maxsize < 1 << 32:
        raise KernelLacks(f"a Python of 32 bits cannot observe a kernel of {kernel.machine()}; use one of 64 bits")
    try:
        return MACHINES[kernel.machine()]
    except KeyError:
        raise KernelLacks(f"ctobserve does not know {kernel.machine()}; it runs on {' and '.join(MACHINES)}") from None
