"""What an arm64 machine boots with, as far as it can be looked at without booting it (tests/matrix does)."""

from __future__ import annotations

import importlib
import lzma
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

# As depmod writes it: what a module stands on comes behind it, the furthest last. virtio_pci is built in on newer kernels.
DEPENDENCIES = """\
kernel/net/9p/9pnet.ko:
kernel/fs/9p/9p.ko.xz: kernel/fs/fscache/fscache.ko kernel/fs/netfs/netfs.ko kernel/net/9p/9pnet.ko
kernel/fs/fscache/fscache.ko: kernel/fs/netfs/netfs.ko
kernel/fs/netfs/netfs.ko:
kernel/net/9p/9pnet_virtio.ko: kernel/net/9p/9pnet.ko
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko
"""
ORDER = ["9pnet.ko", "9pnet_virtio.ko", "netfs.ko", "fscache.ko", "9p.ko"]


@pytest.fixture
def arm64(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("arm64")


@pytest.fixture
def root(tmp_path) -> Path:
    """A root with nothing but what goes into an initramfs; the modules hold their own names."""
    modules = tmp_path / "root/usr/lib/modules/6.1.0"
    for line in DEPENDENCIES.splitlines():
        path = modules / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.name.removesuffix(".xz").encode()
        path.write_bytes(lzma.compress(name) if path.suffix == ".xz" else name)
    (modules / "modules.dep").write_text(DEPENDENCIES)
    busybox = tmp_path / "root/usr/bin/busybox"
    busybox.parent.mkdir(parents=True)
    busybox.write_text("busybox")
    return tmp_path / "root"


def test_the_initramfs_has_modules_in_their_order_and_every_command_of_its_init(arm64, root, tmp_path):
    arm64._write_initramfs(tmp_path / "initramfs", root, "6.1.0", Path("/dev/shm/out"), Path("/dev/shm/out/guest.sh"))
    place = tmp_path / "unpacked"
    place.mkdir()
    with (tmp_path / "initramfs").open("rb") as archive:
        subprocess.run(["busybox", "cpio", "-id"], cwd=place, stdin=archive, check=True)
    assert (place / "modules/order").read_text().split() == ORDER
    assert [(place / "modules" / name).read_text() for name in ORDER] == ORDER, "as insmod takes them: not compressed"
    assert {path.name for path in (place / "modules").iterdir()} == {*ORDER, "order"}
    init = place / "init"
    subprocess.run(["busybox", "sh", "-n", init], check=True)
    # A line's command, and the one that exec or setsid starts.
    words = set(re.findall(r"(?:^\s*|; do |\$\(|(?<=exec )|(?<=setsid ))(\w+)(?= )", init.read_text(), re.M))
    words -= {"for", "done", "exec", "share"}
    assert {"mount", "mkdir", "insmod", "setsid", "switch_root"} <= words <= {path.name for path in (place / "bin").iterdir()}
    assert "switch_root /root /bin/bash /dev/shm/out/guest.sh" in init.read_text()
    assert f"share checkout /root{arm64.CHECKOUT} ro" in init.read_text()
