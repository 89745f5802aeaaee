"""Run one command, or a shell, on a real kernel: boot a Debian kernel in QEMU's software emulation, this host's files its root.

Usage: lab.py [--machine NAME] [--kernel VMLINUZ] [--timeout S] [--memory SIZE] [--cpus N] [--append WORDS]
              [--icount] -- COMMAND ...
       lab.py [--machine NAME] [--kernel VMLINUZ] [--memory SIZE] [--cpus N] [--append WORDS] --shell
       lab.py --machines

The command runs as root in the guest, in this directory; its output is ours as it comes, its exit code is ours. The guest
sees this host's files but cannot change them; what it writes is gone afterwards. With --machine (machines.py; --machines lists
them) the guest has another kernel, and may have another Debian release as its root, with that one's Python and bcc, and this
checkout at its place. With --kernel it is this image that boots, with its modules in lib/modules beside its boot directory.
With --icount it has one CPU, and
its clock counts instructions: one takes one nanosecond, and idle time costs no time here (bench/). With --append its kernel is
given these words, too: possible_cpus=512 makes room for so many CPUs. With --shell there is a shell
on this terminal instead of a command, until it ends.
Exit 124: the time was up. Exit 125: the VM did not come up, or died. With either comes what its kernel said last. Nothing is left
running. The host kernel is not touched and no KVM is used.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import arm64
from kernels import modules_beside
from machines import HOST, MACHINES, Machine
from suite import CHECKOUT

BOOT_S = 400  # Linux 5.10 takes twice as long as others
ICOUNT = "-icount shift=0,sleep=off"
# QEMU 7.2 emulates AVX2 wrongly: NumPy 2, which sorts with it, gets wrong orders and crashes.
CPU = "-cpu max,avx2=off"
# QEMU goes through "rep stosb" a byte at a time: without ERMS the kernel clears and copies eight at once. Nor does it hold
# the clocks of several CPUs to be one unless told so: each look at the time is then a call of one emulated timer, in turn.
FASTER, CLOCK = ",erms=off,fsrm=off", "tsc=reliable"
TIMED_OUT, NOT_UP = 124, 125
CONSOLE_LINES = 150
GUEST = """\
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONPYCACHEPREFIX=/run/pycache PYTHONUNBUFFERED=1 CTOBSERVE_LAB=1
ip link set lo up
mkdir -p /run/netns
{mounts}
for module in nf_conntrack nf_conntrack_netlink; do modprobe $module || exit 1; done
cd {cwd}
touch {out}/ready
"""
COMMAND = """\
{command} > {out}/output 2>&1 < /dev/null
echo $? > {out}/status.part
mv {out}/status.part {out}/status
"""
# Kernel messages stay in dmesg: on the console they would come between the lines one reads.
SHELL = """\
dmesg -n 1
mkdir /run/lab
for name in ctobserve ctobserve_lab; do
	printf '#!/bin/sh\\nexec env PYTHONPATH=%s python3 -P -m %s "$@"\\n' {checkout} $name > /run/lab/${{name/_/-}}
done
chmod +x /run/lab/*
echo 'What happens here is gone afterwards. Begin with: ctobserve-lab list'
PATH=/run/lab:$PATH PS1='lab# ' exec bash --norc -i
"""


class _Cached:
    """Directories that the guest mounts again, with their names and pages kept: without that every import asks the host anew.

    One that is not there has its place made in an empty directory over its parent: the modules of a kernel that is no root's own.
    """

    def __init__(self, directories: dict[Path, Path]) -> None:
        numbered = list(enumerate(directories.items()))
        self.devices = " ".join(
            f"-virtfs local,path={theirs},mount_tag=cached{n},security_model=none,readonly=on,multidevs=remap"
            for n, (_, theirs) in numbered
        )
        self.mounts = "\n".join(
            f"[ -d {ours} ] || {{ mount -t tmpfs none {ours.parent} && mkdir {ours} || exit 1; }}\n"
            f"mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=524288 cached{n} {ours} || exit 1"
            for n, (ours, _) in numbered
        )


class Lab:
    """A guest that runs one command, a context manager, so that QEMU ends with us; or, by shell(), one that gives a shell."""

    def __init__(
        self, machine: Machine, kernel: Path, command: list[str], memory: str, cpus: int, root: Path, icount: bool, append: str
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="ctobserve-lab-", dir="/dev/shm")
        self._out = Path(self._directory.name)
        (self._out / "output").touch()
        self._script = self._out / "guest.sh"
        self._script.touch(mode=0o755)
        directories = {Path("/usr"): root / "usr", CHECKOUT: CHECKOUT}
        modules = modules_beside(kernel)
        if modules and not modules.is_relative_to(root.resolve() / "usr"):
            directories[Path("/usr/lib/modules") / modules.name] = modules
        cached = _Cached({} if machine.arm64 else directories)
        here = shlex.quote(os.getcwd())
        guest = GUEST + (COMMAND if command else SHELL)
        words = {"cwd": here, "out": self._out, "command": shlex.join(command), "mounts": cached.mounts, "checkout": CHECKOUT}
        self._script.write_text(guest.format(**words))
        self._tools = Path(sys.executable).parent
        self._environment = os.environ | {"PATH": f"{self._tools}:{os.environ['PATH']}"}
        if machine.arm64:
            self._arguments = arm64.arguments(kernel, root, self._out, self._script, memory, cpus, append)
            return
        self._arguments = [
            str(self._tools / "vng"),
            "--disable-kvm",
            "--cpus",
            "1" if icount else str(cpus),
            "-m",
            memory,
            "--cwd",
            str(root),
        ]
        if command:
            # The kernel's warnings, oopses and panics on the console; a shell's terminal stays free of them.
            self._arguments += ["--verbose", "--append=loglevel=5"]
        self._arguments += [f"--append={words}" for words in (CLOCK, append) if words]
        self._arguments += ["--rwdir", f"{self._out}={self._out}"]
        if root != Path("/"):
            self._arguments += ["--root", str(root)]
        devices = " ".join((cached.devices, CPU + ("" if icount else FASTER), *([ICOUNT] if icount else [])))
        self._arguments += [f"--qemu-opts={devices}", "--run", str(kernel)]
        self._arguments += ["--", f"bash {self._script}"] if command else ["--shell", str(self._script)]

    def shell(self) -> int:
        """Give this terminal to a shell in the guest until that ends."""
        with self._directory:
            return subprocess.run(self._arguments, env=self._environment, check=False).returncode

    def __enter__(self) -> Lab:
        self._start()
        return self

    def _start(self) -> None:
        # vng wants its output read: QEMU reopens a plain file by name and truncates it.
        self._console: list[bytes] = []
        self._vm = subprocess.Popen(
            self._arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=self._environment,
        )
        self._reader = threading.Thread(target=self._read_console, daemon=True)
        self._reader.start()

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._directory.cleanup()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._vm.pid, signal.SIGKILL)
        self._vm.wait()

    def _read_console(self) -> None:
        assert self._vm.stdout
        for line in self._vm.stdout:
            self._console.append(line)
            del self._console[:-CONSOLE_LINES]

    def run(self, timeout: float) -> int:
        """Wait for the guest, then for its command, copying its output; the command's exit code, or one of ours."""
        if not self._boots():
            return NOT_UP
        with (self._out / "output").open("rb") as output:
            done = self._wait("status", time.monotonic() + timeout, lambda: self._copy(output.read()))
            self._copy(output.read())
        if done:
            return int((self._out / "status").read_text())
        if self._vm.poll() is None:
            self._complain(f"not finished after {timeout:.0f} s")
            return TIMED_OUT
        self._complain("the VM died")
        return NOT_UP

    def _boots(self) -> bool:
        """Now and then an emulated CPU's timer stands still, and the kernel waits for it at boot: then another one is begun."""
        for again in (True, False):
            if self._wait("ready", time.monotonic() + BOOT_S):
                return True
            hangs = self._vm.poll() is None
            self._complain(f"the VM did not come up in {BOOT_S} s" if hangs else "the VM ended at boot")
            if not hangs or not again:
                return False
            self._kill()
            self._start()
        return False

    def _complain(self, what: str) -> None:
        """Why a run has no exit code of its command, and what the guest's kernel said last: a panic, a stalled CPU."""
        self._reader.join(1)
        sys.stderr.write(f"lab: {what}; its console ends:\n" + b"".join(self._console).decode(errors="replace"))

    def _wait(self, name: str, until: float, meanwhile=lambda: None) -> bool:
        path = self._out / name
        while not path.exists():
            meanwhile()
            if time.monotonic() > until or (self._vm.poll() is not None and not path.exists()):
                return False
            time.sleep(0.2)
        return True

    @staticmethod
    def _copy(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", choices=MACHINES, default=HOST)
    parser.add_argument("--machines", action="store_true")
    parser.add_argument("--kernel", type=Path)
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--memory", default="3G")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--append", default="", help="words for the guest's kernel")
    parser.add_argument("--icount", action="store_true")
    parser.add_argument("--shell", action="store_true")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    if options.machines:
        print("\n".join(MACHINES))
        return 0
    if bool(options.command) == options.shell:
        parser.error("give a command, or --shell")
    if options.shell and not sys.stdin.isatty():
        parser.error("--shell needs a terminal; try: script -qec 'make lab' /dev/null")
    if MACHINES[options.machine].arm64 and (options.shell or options.icount):
        parser.error("an arm64 machine runs commands, on a clock of its own: neither --shell nor --icount")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        machine = MACHINES[options.machine]
        root = machine.root()
        kernel = options.kernel or machine.kernel(root)
        lab = Lab(machine, kernel, options.command, options.memory, options.cpus, root, options.icount, options.append)
        if options.shell:
            return lab.shell()
        with lab:
            return lab.run(options.timeout)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
