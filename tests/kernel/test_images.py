"""The programs as they come compiled need neither bcc nor its compiler; where none came, this kernel's machine compiles them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ctobserve.host import kernel
from ctobserve.programs.arch import MACHINES
from ctobserve.programs.compile import Source
from ctobserve_lab.traffic import send_udp

ROOT = Path(__file__).parents[2]
# Mounted over, in a mount namespace of its own: the images that came with the sources; bcc, and all that compiles.
IMAGES = (Source.here(trampolines=True).image.parent,)
BCC = Path("/usr/lib/python3/dist-packages/bcc")
LIBRARIES = ("libbcc*", "libLLVM*", "libclang*")
COMPILERS = (BCC, *(path for name in LIBRARIES for path in Path("/usr/lib").glob(f"*-linux-gnu/{name}") if path.is_file()))


def run(hidden: tuple[Path, ...], site: Path, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ctobserve", *arguments]
    mounts = [f"mount -t tmpfs none {path}" if path.is_dir() else f"mount --bind /dev/null {path}" for path in hidden]
    script = " && ".join([*mounts, f"exec {' '.join(command)}"])
    environment = os.environ | {"CTOBSERVE_CACHE_DIR": str(cache), "PYTHONPATH": str(site)}
    shell = ["unshare", "-m", "sh", "-c", script]
    return subprocess.run(shell, capture_output=True, text=True, check=False, env=environment, cwd="/")


def bcc_finding(hidden: tuple[Path, ...], site: Path, cache: Path) -> dict[str, object]:
    body = json.loads(run(hidden, site, cache, "check", "--json").stdout)
    return next(item for item in body["findings"] if item["name"] == "bcc")


def test_images_came_with_the_sources():
    """The runner makes them before it boots (make image): else every kernel test would compile."""
    expected = {f"{machine}-{form}.json" for machine in MACHINES for form in ("fentry", "kprobe")}
    assert {path.name for path in IMAGES[0].iterdir()} == expected


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel that the runner made, unpacked: what pip would put into site-packages."""
    (wheel,) = (ROOT / ".lab/wheel").glob("ctobserve-*.whl")
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    return site


def test_the_wheel_observes_without_bcc_and_llvm_on_a_kernel_it_was_not_made_on(net, installed, tmp_path, form):
    space = net.space("compiled")
    send_udp(space, 307)
    image = json.loads((installed / f"ctobserve/bpf/images/{kernel.machine()}-{form}.json").read_text())
    assert image["release"] != os.uname().release
    assert BCC.is_dir() and len(COMPILERS) > 2, COMPILERS
    assert bcc_finding(COMPILERS, installed, tmp_path)["ok"]
    asked = ("verify", "--json", "--duration", "0.5", "--attach", form, "--netns", space.name)
    found = run(COMPILERS, installed, tmp_path, *asked)
    assert found.returncode == 0, found.stderr
    body = json.loads(found.stdout)
    assert (body["equal"], body["ours"], body["meta"]["attach"]) == (True, 307, form)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("image")]


def test_without_images_they_are_compiled_here_and_kept(net, tmp_path):
    space = net.space("compiles")
    send_udp(space, 307)
    assert bcc_finding(IMAGES, ROOT, tmp_path)["ok"]
    found = run(IMAGES, ROOT, tmp_path, "verify", "--json", "--duration", "0.5", "--netns", space.name)
    assert found.returncode == 0, found.stderr
    body = json.loads(found.stdout)
    assert (body["equal"], body["ours"]) == (True, 307)
    came = json.loads((IMAGES[0] / f"{kernel.machine()}-{body['meta']['attach']}.json").read_text())
    kept = json.loads((tmp_path / f"image-{came['digest']}").read_text().partition("\n")[2])
    # Whatever machine compiled it: the one that made the images may be another, with another compiler.
    assert kept["maps"] == came["maps"] and kept["programs"].keys() == came["programs"].keys()
