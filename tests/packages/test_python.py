"""Wheel and source distribution, by pip into a venv outside the checkout, in clean roots: nothing of development is there."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import struct
import subprocess
import termios
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from ctobserve import __version__
from ctobserve_lab.machine import PROGRAMS
from ctobserve_lab.recordings import recording
from tests.packages.root import CHECKOUT, SUITES, Root

NEEDED = ("python3-venv", "python3-click", "python3-numpy", "python3-pyroute2")
VENV = "/opt/ctobserve"
COMMAND = f"{VENV}/bin/ctobserve"
RELEASED_ON = "bookworm"  # docs/release.md


@cache
def root_of(suite: str) -> Root:
    return Root(suite, "pip")


@pytest.fixture(params=SUITES)
def root(request):
    return root_of(request.param)


def built(pattern: str) -> Path:
    (found,) = (CHECKOUT / ".lab").glob(pattern)
    return found


def installed(root: Root, package: str, *options: str) -> None:
    """By pip, of nothing but this file and Debian's packages; then used."""
    root.run("rm", "-rf", VENV)
    root.run("python3", "-m", "venv", "--system-site-packages", VENV)
    root.run(f"{VENV}/bin/pip", "install", "--no-index", *options, package)
    assert root.run(COMMAND, "--version") == f"ctobserve, version {__version__}\n"
    assert "table_full" in root.run(COMMAND, "report", "--from", root.give(recording("table_full")))
    assert "came compiled" in root.run("sh", "-c", f"{COMMAND} check 2> /dev/null || true")
    (modules,) = (root.path / VENV[1:]).glob("lib/python3.*/site-packages")
    assert root.lacking("ctobserve", f"{modules}") + root.lacking("ctobserve_lab", f"{modules}") == []
    assert "No module named" in root.run(f"{VENV}/bin/python", "-c", "import pytest", code=1)


def test_the_wheel(root):
    root.install(*NEEDED, recommended=False)
    print(root.fetched())
    installed(root, root.give(built("wheel/ctobserve-*.whl")))
    full = root.give(recording("table_full"))
    assert "full" in root.run(COMMAND, "top", "--from", full)
    assert "pyarrow" in root.run(COMMAND, "convert", full, "/tmp/tables", code=3)


def test_the_source_distribution(root):
    root.install("python3-hatchling", recommended=False)
    installed(root, root.give(built("sdist/ctobserve-*.tar.gz")), "--no-build-isolation")
    shutil.rmtree(root.path)


@pytest.mark.parametrize("suite", SUITES)
def test_the_checkout_by_make_tool(suite):
    """As it is cloned: without compiled programs. Then, where releases are made, the packages are built of it."""
    root = Root(suite, "tool")
    root.install("ca-certificates", "git", "make", recommended=False)
    root.run("tar", "-xzf", root.give(built("sdist/ctobserve-*.tar.gz")), "-C", "/srv", "--no-same-owner")
    tree = f"/srv/ctobserve-{__version__}"
    root.run("rm", "-r", f"{tree}/bpf/images")
    root.run("make", "-C", tree, "tool")
    print(root.fetched())
    root.run("which", *PROGRAMS)
    assert "table_full" in root.run(f"{tree}/.venv/bin/ctobserve", "report", "--from", root.give(recording("table_full")))
    if suite == RELEASED_ON:
        root.run("make", "-C", tree, "deb")
        assert (root.path / tree[1:] / f".lab/deb/ctobserve_{__version__}_all.deb").exists()
    shutil.rmtree(root.path)


def test_extras_bring_what_they_say(tmp_path):
    """From the index that pip is set to, on this machine: what they bring Debian does not have, or not new enough."""
    venv, wheel = tmp_path / "venv", built("wheel/ctobserve-*.whl")
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--system-site-packages", venv], check=True)
    subprocess.run([venv / "bin/pip", "install", "--quiet", f"{wheel}[tui,fleet,export]"], check=True, cwd="/")
    command, full = venv / "bin/ctobserve", recording("table_full")
    subprocess.run([command, "convert", full, tmp_path / "tables"], check=True, cwd="/")
    assert (tmp_path / "tables/events.parquet").stat().st_size > 0
    subprocess.run([command, "convert", full, tmp_path / "fleet", "--dataset", "--host", "web-17"], check=True, cwd="/")
    asked = subprocess.run([command, "fleet", "losses", tmp_path / "fleet"], capture_output=True, text=True, check=True, cwd="/")
    assert re.search(r"^web-17 +table_full +23 ", asked.stdout, re.M)
    subprocess.run([venv / "bin/python", "-I", "-c", "import bcrypt, prometheus_client, yaml"], check=True)
    fills_a_terminal(str(command), str(full))


def fills_a_terminal(command: str, recorded: str) -> None:
    """Of 24 lines of 80 columns: the full screen comes, and q ends it."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "env": {"TERM": "xterm-256color"}}
    with subprocess.Popen([command, "top", "--from", recorded], cwd="/", **terminal) as shown:
        os.close(theirs)
        said = b""
        while b"\x1b[?1049h" not in said:
            said += os.read(ours, 1 << 16)
        os.write(ours, b"q")
        with suppress(OSError):  # when nobody holds the other end any more
            while os.read(ours, 1 << 16):
                pass
        assert shown.wait(120) == 0
    os.close(ours)
