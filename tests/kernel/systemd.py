"""A systemd in namespaces of its own that knows our units and no others: they run as on a host, sandbox and all."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

from ctobserve_lab.errors import LabError
from ctobserve_lab.world import run
from tests.kernel.tool import CTOBSERVE

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"
# What a service is ordered after unless it says otherwise.
TARGETS = ("sysinit", "basic", "shutdown", "local-fs", "network", "lab")
START_S = 60
# /usr/bin and the directories of state and cache are this systemd's alone; what is in STATE can be seen from outside.
INSIDE = """\
set -e
mkdir {work}/upper {work}/made
mount -t overlay -o lowerdir=/usr/bin,upperdir={work}/upper,workdir={work}/made overlay /usr/bin
cp {work}/ctobserve /usr/bin/ctobserve
mount --bind {state} /var/lib
mount -t tmpfs -o mode=755 tmpfs /var/cache
umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=lab SYSTEMD_UNIT_PATH={work}/units PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    /lib/systemd/systemd --system --unit=lab.target --log-target=console
"""
WRAPPER = '#!/bin/sh\nexec env PYTHONPATH={root} PYTHONPYCACHEPREFIX=/run/pycache {command} "$@"\n'


class Systemd:
    """It runs, as a context manager; `work` is an empty directory of ours where an overlay can be, such as in /run."""

    def __init__(self, work: Path) -> None:
        self.state = work / "state"
        self._log = work / "log"
        for directory in (work / "units", self.state):
            directory.mkdir()
        for unit in UNITS.iterdir():
            (work / "units" / unit.name).write_text(unit.read_text())
        for name in TARGETS:
            (work / "units" / f"{name}.target").write_text(f"[Unit]\nDescription={name}\nDefaultDependencies=no\n")
        wrapper = work / "ctobserve"
        wrapper.write_text(WRAPPER.format(root=ROOT, command=" ".join(("/usr/bin/python3", "-P", *CTOBSERVE[1:]))))
        wrapper.chmod(0o755)
        inside = work / "inside"
        inside.write_text(INSIDE.format(work=work, state=self.state))
        # As on a host: a network namespace that is named later is seen by those that run already.
        unshared = ("unshare", "--fork", "--pid", "--mount", "--propagation", "slave", "--mount-proc", "--cgroup")
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen([*unshared, "bash", str(inside)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __enter__(self) -> Self:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                self.ctl("is-active", "lab.target")
            except LabError:
                time.sleep(0.2)
            else:
                return self
        self.__exit__()
        raise AssertionError(f"systemd did not start: {self.log()}")

    def __exit__(self, *_: object) -> None:
        for pid in self._inner():
            os.kill(pid, signal.SIGKILL)
        self._outer.wait()

    def _inner(self) -> list[int]:
        """The one process that unshare started: with it all others of its namespace end."""
        pid = self._outer.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def ctl(self, *words: str) -> str:
        """What systemctl says; raises LabError where it fails."""
        pids = self._inner() or [self._outer.pid]
        return run("nsenter", "--target", str(pids[0]), "--mount", "--pid", "--cgroup", "systemctl", "--no-pager", *words)

    def log(self) -> str:
        """What it and its services said."""
        return self._log.read_text()

    def asked(self, unit: str, key: str) -> str:
        """What systemd knows of a unit."""
        return self.ctl("show", unit, f"--property={key}", "--value").strip()

    def pid(self, unit: str) -> int:
        """Of its main process, as it is called outside."""
        group = self.asked(unit, "ControlGroup")
        (found,) = Path(f"/proc/{self._inner()[0]}/root/sys/fs/cgroup{group}/cgroup.procs").read_text().split()
        return int(found)
