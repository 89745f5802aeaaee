"""Can a task be taken off its CPU while it is in the kernel, and others run there meanwhile?"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ctobserve.host.kernel import read_text

MODE = Path("/sys/kernel/debug/sched/preempt")  # kernel/sched/debug.c, sched_dynamic_show: `none (voluntary) full lazy`
AT_POINTS = ("none", "voluntary")  # only where the kernel's code says so: never in the midst of what we observe
REALTIME, ALWAYS, CHOSEN = "PREEMPT_RT", ("PREEMPT", "PREEMPT_LAZY"), "PREEMPT_DYNAMIC"
NOT_KNOWN = "not known"


def preemption() -> str | None:
    """How: `full`, `lazy`, `rt`, or NOT_KNOWN where a mode is chosen at run time and is not shown to us; None where it cannot.

    From debugfs, else from what the kernel says of how it was built (uname -v; init/Makefile).
    """
    words = os.uname().version.split()
    if REALTIME in words:
        return "rt"
    try:
        found = re.search(r"\((\w+)\)", read_text(MODE))
    except OSError:
        found = None
    if found:
        return None if found[1] in AT_POINTS else found[1]
    if any(word in words for word in ALWAYS):
        return "full"
    return NOT_KNOWN if CHOSEN in words else None


def reckoned_with(probes_tell_missed: bool) -> str | None:
    """What `preemption` says, where kprobes are the safer choice for it; None where trampolines are.

    Not knowing is no reason where kprobes do not say what they miss (before Linux 6.7): trampolines do.
    """
    how = preemption()
    return None if how == NOT_KNOWN and not probes_tell_missed else how
