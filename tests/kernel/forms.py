"""The two forms of our programs: a kernel without the one has to say so, and is held to it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from ctobserve.host import kernel_build
from ctobserve.host.preemption import reckoned_with
from ctobserve.programs.hooks import FUNCTIONS
from tests.kernel.tool import CTOBSERVE

FORMS = ("fentry", "kprobe")
MODULE_BTF = Path("/sys/kernel/btf/nf_conntrack")
KALLSYMS = Path("/proc/kallsyms")


def has_types() -> bool:
    """Whether nf_conntrack's functions are described: modules have BTF (CONFIG_DEBUG_INFO_BTF_MODULES, Linux 5.11)."""
    return MODULE_BTF.exists()


def has_fentry() -> bool:
    """Whether trampolines can hang on them: direct calls, too (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS, on arm64 Linux 6.4)."""
    return has_types() and " register_ftrace_direct\n" in KALLSYMS.read_text()


def probes_tell_missed() -> bool:
    """Whether the kernel says how many calls a kprobe missed (Linux 6.7); that it does is test_updates' affair."""
    return kernel_build.read(FUNCTIONS).layout.probes_tell_missed


def auto_is_fentry() -> bool:
    """Whether `auto` hangs trampolines for every command: not where they would miss calls, as the kernel may be preempted."""
    return has_fentry() and reckoned_with(probes_tell_missed()) is None


def assert_fentry_is_refused() -> str:
    """Asked for it, ctobserve says in one line what this kernel lacks, and what to do; the line."""
    result = subprocess.run([*CTOBSERVE, "events", "--attach", "fentry"], capture_output=True, text=True, check=False)
    (line,) = result.stderr.splitlines()
    why = r"has no BTF of \w+(, \w+)*( and \d+ more)?"
    if has_types():
        why = r"attaches no f(entry|exit) on \w+: Not supported \(ENOTSUPP\)"
    assert re.fullmatch(rf"ctobserve: --attach fentry: this kernel {why}; try: --attach kprobe", line), line
    assert (result.returncode, result.stdout) == (3, "")
    return line
