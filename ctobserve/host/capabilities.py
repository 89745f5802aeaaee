"""Which capabilities we run with, and what each is for: the kernel asks for these, never for root."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from ctobserve.errors import NotPermitted
from ctobserve.host.kernel import read_text

STATUS = Path("/proc/thread-self/status")


class Capability(IntEnum):
    """Numbers of include/uapi/linux/capability.h, of those that any of our commands can use."""

    DAC_READ_SEARCH = 2
    NET_ADMIN = 12
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    SYS_RESOURCE = 24
    PERFMON = 38
    BPF = 39

    @property
    def word(self) -> str:
        """As everybody writes it."""
        return f"CAP_{self.name}"


class Use(NamedTuple):
    """What a capability is for. Without it nothing can be observed (`required`), or `blind` is what is not seen."""

    capability: Capability
    purpose: str
    blind: str = ""

    @property
    def required(self) -> bool:
        """Whether nothing can be observed without it."""
        return not self.blind


# CAP_SYSLOG is asked for only where sysctls hide addresses (kallsyms_show_value): symbols.py says so where it reads them.
# bpf_capable() and perfmon_capable() also take CAP_SYS_ADMIN (include/linux/capability.h).
IN_ITS_PLACE = {Capability.BPF: Capability.SYS_ADMIN, Capability.PERFMON: Capability.SYS_ADMIN}
USES = (
    Use(Capability.BPF, "maps and programs"),
    Use(Capability.PERFMON, "programs on kernel functions, which read what those are called with"),
    # ns_capable() in netns_install(); bpf_btf_get_fd_by_id(); Debian's perf_event_open().
    Use(
        Capability.SYS_ADMIN,
        "other network namespaces, BTF of modules",
        "counters, limits and rules of other network namespaces; kprobes, which cost more, take the place of fentry, "
        "and Debian forbids those, too, while kernel.perf_event_paranoid is 3",
    ),
    # ptrace_may_access() in proc_ns_readlink() and its like
    Use(
        Capability.SYS_PTRACE,
        "/proc/PID/ns of other users",
        "network namespaces that only processes of other users hold; which is the first",
    ),
    Use(Capability.NET_ADMIN, "listings and rules by netlink", "expectations, rule sets, entries by netlink"),
    Use(Capability.DAC_READ_SEARCH, "files of root", "/proc/net/nf_conntrack, slab sizes, whether kprobes are switched off"),
)


def effective() -> frozenset[Capability]:
    """Those that this thread has (CapEff), all where the kernel does not say."""
    try:
        bits = int(re.findall(r"^CapEff:\s*([0-9a-f]+)$", read_text(STATUS), re.M)[0], 16)
    except (OSError, IndexError):
        return frozenset(Capability)
    return frozenset(one for one in Capability if bits >> one & 1)


def missing() -> tuple[Use, ...]:
    """Uses of those that this thread has not, nor another in their place."""
    given = effective()
    return tuple(use for use in USES if use.capability not in given and IN_ITS_PLACE.get(use.capability) not in given)


def words(uses: Iterable[Use]) -> str:
    """Names of capabilities, each with what it is for."""
    return ", ".join(f"{use.capability.word} ({use.purpose})" for use in uses)


def require() -> None:
    """Raises NotPermitted unless we may load programs that observe."""
    if lacking := [use for use in missing() if use.required]:
        raise NotPermitted(f"no {words(lacking)}; try: sudo ctobserve ..., or grant what `ctobserve check` names")


def notes(listing: bool = True) -> Iterator[str]:
    """A line for each that is missing and without which something is not seen; `listing`: by netlink, too."""
    for use in missing():
        if use.blind and (listing or use.capability != Capability.NET_ADMIN):
            yield f"without {use.capability.word} not seen: {use.blind}"
