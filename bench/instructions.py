"""How many instructions did this machine execute, or this process?

Sound only in a guest of one CPU under QEMU's `-icount shift=0,sleep=off` (lab.py --icount): its clock advances by one
nanosecond per instruction executed, and, while the CPU is idle, jumps to the next timer. So instructions = time passed - time
idle, for the whole machine: kernel, interrupts, kernel threads and every process, whoever they are accounted to. The kernel
adds up its idle time in nanoseconds on every entry to and exit from the idle loop, interrupts in it excluded; /proc/stat shows
the same number in steps of 10 ms, /proc/timer_list shows it whole. A busy host changes nothing. One caveat: QEMU counts `rep
stosb` and its like once per byte, where a CPU is far quicker, so clearing and copying whole pages (page faults, large buffers)
looks dearer than it is. Reading the numbers costs instructions too: they are read outside of the measured span, or alike in all
spans that are compared.
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from pathlib import Path

IDLE = re.compile(rb"\.idle_sleeptime *: (\d+) nsecs")
QUIET_NS = 60_000_000
SLEEP_S = 0.02
_libc = ctypes.CDLL(None)


def idle_ns() -> int:
    """Time that this machine's only CPU has been idle."""
    found = IDLE.findall(Path("/proc/timer_list").read_bytes())
    if len(found) != 1:
        raise RuntimeError(f"/proc/timer_list tells the idle time of {len(found)} CPUs, not of one: start with lab.py --icount")
    return int(found[0])


class Meter:
    """Instructions of the whole machine since it was made."""

    def __init__(self) -> None:
        self._idle = idle_ns()
        self._clock = time.monotonic_ns()

    def read(self) -> int:
        """So far; the clock is read first, so that nothing idle lies between the two readings."""
        clock = time.monotonic_ns()
        return clock - self._clock - (idle_ns() - self._idle)


def wait_quiet(quiet_ns: int = QUIET_NS) -> None:
    """Until the CPU has been idle this long in all: three of the observer's polls, so whoever had work to do has done it."""
    begun = idle_ns()
    while idle_ns() - begun < quiet_ns:
        time.sleep(SLEEP_S)


def of_process(pid: int) -> int:
    """Instructions of a process until now, user and system, all its threads: its clock, clock_getcpuclockid(3).

    Raises OSError where there is no such process.
    """
    clock = ctypes.c_int()
    error = _libc.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise OSError(error, os.strerror(error))
    return time.clock_gettime_ns(clock.value)


def of_child(pid: int) -> int:
    """Wait for a child: the instructions of all its threads, user and system, exact (they are the scheduler's run time)."""
    _, status, used = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"process {pid} ended with status {status}")
    return round((used.ru_utime + used.ru_stime) * 1e9)
