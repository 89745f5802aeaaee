"""The machines that lab.py boots: of each its name, the release whose files are its root, and where its kernel comes from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import arm64
from kernels import newest_of, unpacked
from suite import root_of


class Machine(NamedTuple):
    """`suite` is the Debian release of the root; None: this host's own files, Debian 12.

    `kernel_from` are suites: the newest kernel that any of them carries. Without, it is the root's own. `flavour` is Debian's
    name for another configuration of it: 16k has pages of so many bytes, rt is PREEMPT_RT, where softirqs are threads.
    """

    suite: str | None
    kernel_from: tuple[str, ...] = ()
    arm64: bool = False
    flavour: str = ""

    def root(self) -> Path:
        """Its root directory, made where it is not there yet."""
        if self.suite is None:
            return Path("/")
        if self.arm64:
            return arm64.root_of(self.suite, self.flavour)
        # A flavour boots in the root of the generic kernel, which has that: else the two would be made anew in turn.
        return root_of(self.suite, kernel=not self.kernel_from or bool(self.flavour))

    def kernel(self, root: Path) -> Path:
        """Its kernel image, brought where it is not there yet; its modules are beside it in lib/modules."""
        if self.arm64:
            return arm64.kernel_of(root)
        return newest_of(unpacked(self.kernel_from, self.flavour) if self.kernel_from else root)


# Debian 11 has the oldest kernel that we know, without BTF of modules. The newest has new bcc, LLVM and Python beside it.
MACHINES = {
    "x86_64-5.10": Machine(None, ("bullseye", "bullseye-security")),
    "x86_64-6.1": Machine(None),
    "x86_64-6.12": Machine("trixie"),
    "x86_64-6.12-rt": Machine("trixie", ("trixie", "trixie-security"), flavour="rt"),
    "x86_64-newest": Machine("sid", ("sid", "trixie-backports", "experimental")),
    "aarch64-6.1": Machine("bookworm", arm64=True),
    "aarch64-6.12": Machine("trixie", arm64=True),
    "aarch64-6.12-16k": Machine("trixie", arm64=True, flavour="16k"),
}
HOST = "x86_64-6.1"
