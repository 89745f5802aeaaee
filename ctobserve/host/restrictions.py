"""What whoever runs this host has forbidden or switched off: kernel lockdown, addresses in /proc/kallsyms, probes."""

from __future__ import annotations

import re
from pathlib import Path

from ctobserve.host.kernel import read_text

LOCKDOWN = Path("/sys/kernel/security/lockdown")  # security/lockdown/lockdown.c: `none [integrity] confidentiality`
PERF_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
KPTR_RESTRICT = Path("/proc/sys/kernel/kptr_restrict")
FTRACE = Path("/proc/sys/kernel/ftrace_enabled")
KPROBES = Path("/sys/kernel/debug/kprobes/enabled")


def lockdown() -> str | None:
    """`integrity` or `confidentiality`; None where the kernel is not locked down, or does not say."""
    try:
        found = re.search(r"\[(\w+)\]", read_text(LOCKDOWN))
    except OSError:
        return None
    return found[1] if found and found[1] != "none" else None


def hides_addresses() -> str:
    """Why root reads zeros in /proc/kallsyms, and what to do about it (kallsyms_show_value)."""
    try:
        restrict = int(read_text(KPTR_RESTRICT))
    except (OSError, ValueError):
        restrict = 0
    if restrict > 1:
        return f"kernel.kptr_restrict is {restrict}; for as long as ctobserve starts: sysctl kernel.kptr_restrict=1"
    return "CAP_SYSLOG is missing; run as root outside the container"


def forbids_kprobes() -> str:
    """Why perf_event_open(2) gave EACCES, and what to do about it.

    Debian's kernels want CAP_SYS_ADMIN of everybody while the sysctl is above 2 (perf_paranoid_any), all others CAP_PERFMON.
    """
    paranoid = _says(PERF_PARANOID)
    if paranoid and paranoid.isdecimal() and int(paranoid) > 2:
        why = f"kernel.perf_event_paranoid is {paranoid}, and CAP_SYS_ADMIN is missing, which this kernel wants then"
        return f"{why}; grant it, or: sysctl kernel.perf_event_paranoid=2"
    return "CAP_PERFMON is missing; grant it, or run as root"


def probes_off() -> str | None:
    """What keeps programs from running that were attached without an error, and what to do about it; None where nothing does.

    The kernel still attaches them: to an ftrace site that is not patched, or a kprobe that is not armed.
    """
    if _says(FTRACE) == "0":
        return "kernel.ftrace_enabled is 0, so no probe runs at a function's entry; try: sysctl kernel.ftrace_enabled=1"
    if _says(KPROBES) == "0":
        # Linux 6.1 refused every probe from then on, until it was booted anew.
        return f"all kprobes of this kernel are switched off; try: echo 1 > {KPROBES} (probes refused after that: reboot)"
    return None


def _says(path: Path) -> str | None:
    try:
        return read_text(path).strip()
    except OSError:
        return None
