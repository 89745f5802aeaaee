"""Is this a machine that is there to be hurt?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ctobserve.errors import KernelLacks, NotPermitted, UsageError

# A virtual machine as such is no lab: most servers are one.
MARKER = Path("/etc/ctobserve-lab")
VARIABLE = "CTOBSERVE_LAB"
TRACKING = Path("/proc/sys/net/netfilter/nf_conntrack_max")
# Programs that scenarios run, or have people type, beyond what every Debian has; each with the package it comes from.
PROGRAMS = {
    "conntrack": "conntrack",
    "ip": "iproute2",
    "modprobe": "kmod",
    "nft": "nftables",
    "ping": "iputils-ping",
    "rmmod": "kmod",
    "sysctl": "procps",
}


def admit(here: bool) -> None:
    """Return on a lab machine, or where we were told to; raises CtobserveError with the way out elsewhere."""
    if not (here or os.environ.get(VARIABLE) == "1" or MARKER.exists()):
        raise UsageError(
            "this is no lab machine, and scenarios lower limits that all its namespaces share; "
            "try: make lab, or vagrant up; or run it --here"
        )
    if os.geteuid():
        raise NotPermitted("scenarios need root: they make network namespaces")
    if not TRACKING.exists():
        raise UsageError("nf_conntrack is not loaded; try: modprobe nf_conntrack")
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        packages = sorted({PROGRAMS[program] for program in missing})
        raise KernelLacks(f"there is no {', '.join(missing)} here; try: apt install {' '.join(packages)}")
