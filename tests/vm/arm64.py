"""An emulated arm64 machine: its root directory, and how QEMU boots that here, where nothing of it can run.

The root is a Debian release for arm64 in .lab/aarch64-SUITE of the checkout, unpacked and not configured: maintainer scripts are
arm64 programs. What they would have done and a guest needs is done here. The kernel is the release's own; a small initramfs of
ours loads what it takes to mount the root over 9p, mounts this checkout and the lab's directory at their places, and runs the
lab's script, in a session that is not that of the kernel's threads.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
import sys
from pathlib import Path

from suite import CHECKOUT, kept, packages, unpack

# The most that QEMU emulates (max) takes half as long again: pointer authentication is dear without the hardware for it. The
# older cortex-a72 has no pages of 16 KiB.
QEMU, CPU = "qemu-system-aarch64", "cortex-a76"
# What a root over 9p takes and is no part of the kernel everywhere, in any order; each brings what it stands on.
MODULES = ("virtio_pci", "9pnet_virtio", "9p")
APPLETS = ("sh", "mount", "mkdir", "ln", "insmod", "setsid", "switch_root", "cat")
# Python's compiled files of this machine, kept over boots: to compile them takes a minute.
PYCACHE = CHECKOUT / ".lab" / "aarch64-pycache"
INIT = """\
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module || echo "init: cannot load $module"; done
share() {{
	mkdir -p $2
	mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,$3 $1 $2 || echo "init: cannot mount $1"
}}
share root /root ro,cache=loose
for directory in tmp run var/cache var/log var/tmp root; do mount -t tmpfs tmpfs /root/$directory; done
for directory in proc sys dev; do mount --move /$directory /root/$directory; done
mkdir -p /root/dev/shm /root/dev/pts
ln -s /proc/self/fd /root/dev/fd
for at in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${{at%:*}} /root/dev/${{at#*:}}; done
mount -t tmpfs tmpfs /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t debugfs debugfs /root/sys/kernel/debug
mount -t tracefs tracefs /root/sys/kernel/tracing
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
share checkout /root{checkout} ro,cache=loose
share pycache /root/run/pycache cache=loose
share out /root{out} rw
exec setsid switch_root /root /bin/bash {script}
"""


def root_of(suite: str, flavour: str) -> Path:
    """Directory of the release with its kernel, the generic one where `flavour` is empty, as suite.kept."""

    def make(root: Path) -> None:
        # ?essential: else there are no links such as /bin, and no shell.
        unpack(suite, root, names, "--arch=arm64", "--variant=extract", "--include=?essential")
        _configure(root)

    machine = f"-arm64-{flavour}".rstrip("-")
    names = ["base-files", "base-passwd", "bash", "dash", *(name.replace("-amd64", machine) for name in packages())]
    return kept(CHECKOUT / ".lab" / f"aarch64-{suite}-{flavour}".rstrip("-"), names, make)


def kernel_of(root: Path) -> Path:
    """Its one kernel image."""
    (kernel,) = root.joinpath("boot").glob("vmlinuz-*")
    return kernel


def arguments(kernel: Path, root: Path, out: Path, script: Path, memory: str, cpus: int, words: str) -> list[str]:
    """QEMU's command line: a guest that runs `script`, which lies in `out`; both and the checkout are where they are here.

    `words` are for its kernel, whose modules the root has.
    """
    if not shutil.which(QEMU):
        sys.exit(f"lab: there is no {QEMU}; try: tests/vm/apt-install matrix")
    initramfs = out / "initramfs"
    _write_initramfs(initramfs, root, kernel.name.removeprefix("vmlinuz-"), out, script)
    PYCACHE.mkdir(parents=True, exist_ok=True)
    command = [QEMU, "-M", "virt", "-cpu", CPU, "-accel", "tcg,thread=multi", "-smp", str(cpus), "-m", memory]
    command += ["-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot", "-kernel", str(kernel), "-initrd", str(initramfs)]
    command += ["-append", f"console=ttyAMA0 loglevel=5 panic=-1 {words}"]
    for tag, path, more in (
        ("root", root, ",readonly=on"),
        ("checkout", CHECKOUT, ",readonly=on"),
        ("pycache", PYCACHE, ""),
        ("out", out, ""),
    ):
        command += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{more}"]
        command += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return command


def _configure(root: Path) -> None:
    """What maintainer scripts do: merged /usr (usrmerge of Debian 12), users, alternatives, indexes of kernel modules."""
    for name in ("bin", "sbin", "lib"):
        if not root.joinpath(name).is_symlink():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
            root.joinpath(name).symlink_to(f"usr/{name}")
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    libraries = root / "usr/lib/aarch64-linux-gnu"
    for link, target in (
        (root / "usr/bin/awk", "mawk"),
        (libraries / "libblas.so.3", "blas/libblas.so.3"),
        (libraries / "liblapack.so.3", "lapack/liblapack.so.3"),
    ):
        link.symlink_to(target)
    for modules in root.glob("usr/lib/modules/*"):
        subprocess.run(["depmod", "-b", root, modules.name], check=True)


def _write_initramfs(path: Path, root: Path, release: str, out: Path, script: Path) -> None:
    from virtme.cpiowriter import CpioWriter

    base = root / "usr/lib/modules" / release
    with path.open("wb") as file:
        archive = CpioWriter(file)
        for name in ("bin", "proc", "sys", "dev", "root", "modules"):
            archive.mkdir(name.encode(), 0o755)
        archive.mkchardev(b"dev/console", (5, 1), mode=0o600)
        archive.mkchardev(b"dev/null", (1, 3), mode=0o666)
        archive.write_file(b"bin/busybox", body=root.joinpath("usr/bin/busybox").read_bytes(), mode=0o755)
        for name in APPLETS:
            archive.symlink(b"busybox", f"bin/{name}".encode())
        order = []
        for module in _in_order(base.joinpath("modules.dep").read_text()):
            body, name = base.joinpath(module).read_bytes(), Path(module).name
            if name.endswith(".xz"):
                body, name = lzma.decompress(body), name.removesuffix(".xz")
            archive.write_file(f"modules/{name}".encode(), body=body, mode=0o644)
            order.append(name)
        archive.write_file(b"modules/order", body="\n".join(order).encode(), mode=0o644)
        init = INIT.format(checkout=CHECKOUT, out=out, script=script)
        archive.write_file(b"init", body=init.encode(), mode=0o755)
        archive.write_trailer()


def _in_order(dependencies: str) -> list[str]:
    """Files of MODULES and of what they stand on, that first, from the text of modules.dep; what is built in is not in it."""
    needs = {name: rest.split() for name, _, rest in (line.partition(":") for line in dependencies.splitlines())}
    order: dict[str, None] = {}

    def add(name: str) -> None:
        for needed in reversed(needs[name]):
            add(needed)
        order.setdefault(name)

    for wanted in MODULES:
        for name in needs:
            if Path(name).name.partition(".")[0] == wanted:
                add(name)
    return list(order)
