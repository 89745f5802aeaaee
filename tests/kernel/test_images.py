"""The programs as they come compiled need neither bcc nor its compiler; where none came, this kernel's machine compiles them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctobserve.programs.compile import image_path
from ctobserve_lab.traffic import send_udp

# Mounted over, in a mount namespace of its own: the images that came with the sources; bcc, and the library that compiles.
IMAGES = image_path(trampolines=True).parent
BCC = Path("/usr/lib/python3/dist-packages/bcc")


def run(hidden: Path, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ctobserve", *arguments]
    mounted = f"mount -t tmpfs none {hidden} && exec {' '.join(command)}"
    environment = os.environ | {"CTOBSERVE_CACHE_DIR": str(cache)}
    return subprocess.run(["unshare", "-m", "sh", "-c", mounted], capture_output=True, text=True, check=False, env=environment)


def bcc_finding(hidden: Path, cache: Path) -> dict[str, object]:
    body = json.loads(run(hidden, cache, "check", "--json").stdout)
    return next(item for item in body["findings"] if item["name"] == "bcc")


def test_images_came_with_the_sources():
    """The runner makes them before it boots (make image): else every kernel test would compile."""
    assert sorted(path.name for path in IMAGES.iterdir()) == ["x86_64-fentry.json", "x86_64-kprobe.json"]


@pytest.mark.parametrize("form", ["fentry", "kprobe"])
def test_what_came_compiled_needs_no_bcc(net, tmp_path, form):
    space = net.space("compiled")
    send_udp(space, 307)
    assert BCC.is_dir() and bcc_finding(BCC, tmp_path)["ok"]
    found = run(BCC, tmp_path, "verify", "--json", "--duration", "0.5", "--attach", form, "--netns", space.name)
    assert found.returncode == 0, found.stderr
    body = json.loads(found.stdout)
    assert (body["equal"], body["ours"], body["meta"]["attach"]) == (True, 307, form)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("image")]


def test_without_images_they_are_compiled_here_and_kept(net, tmp_path):
    space = net.space("compiles")
    send_udp(space, 307)
    assert bcc_finding(IMAGES, tmp_path)["ok"]
    found = run(IMAGES, tmp_path, "verify", "--json", "--duration", "0.5", "--netns", space.name)
    assert found.returncode == 0, found.stderr
    body = json.loads(found.stdout)
    assert (body["equal"], body["ours"]) == (True, 307)
    assert len([path.name for path in tmp_path.iterdir() if path.name.startswith("image")]) == 1
