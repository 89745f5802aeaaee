"""The Debian packages in clean roots: an older one upgraded, used, used on a real kernel, purged. `make package-test`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from ctobserve import __version__
from ctobserve.commands.cli import COMMANDS
from ctobserve_lab.machine import PROGRAMS
from ctobserve_lab.recordings import recording
from ctobserve_lab.scenarios import SCENARIOS
from tests.packages.root import CHECKOUT, SUITES, Root

BUILT = CHECKOUT / ".lab/deb"
MODULES = "usr/lib/python3/dist-packages"
OBSOLETE = f"{MODULES}/ctobserve/gone.py"
# As if that were the machine's own root: a mount, which `ip netns exec` asks for, with places to write to.
IN_GUEST = """
for root in %s; do
	mount --bind $root $root
	for place in proc sys dev; do mount --rbind /$place $root/$place; done
	for place in var/cache/ctobserve run tmp; do mount -t tmpfs -o mode=755 tmpfs $root/$place; done
	chroot $root ctobserve check | tail -n 3
	chroot $root ctobserve-lab run healthy --here > /run/said 2>&1 &
	until grep -q Done: /run/said; do kill -0 $! || { cat /run/said; exit 1; }; sleep 1; done
	chroot $root ctobserve report --duration 2
	chroot $root ctobserve list --limit 3
	chroot $root ctobserve verify
	kill -INT $!
	wait $!
	echo "used in $root"
done
"""


def built(name: str) -> Path:
    return BUILT / f"{name}_{__version__}_all.deb"


def older(directory: Path) -> Path:
    """The package as an older version of it: a lower number, and a file that this one has no more."""
    tree = directory / "tree"
    subprocess.run(["dpkg-deb", "-R", built("ctobserve"), tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 0.1.0", control.read_text(), flags=re.M))
    (tree / OBSOLETE).write_text("")
    made = directory / "ctobserve_0.1.0_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, made], check=True, capture_output=True)
    return made


@cache
def root_of(suite: str) -> Root:
    return Root(suite)


@pytest.fixture(params=SUITES)
def root(request):
    return root_of(request.param)


def test_an_older_one_is_installed_and_upgraded(root, tmp_path):
    assert not list(root.of_ours())
    root.install(root.give(older(tmp_path)))
    print(root.fetched())
    assert (root.path / OBSOLETE).exists() and root.run("dpkg-query", "-W", "-f", "${Version}", "ctobserve") == "0.1.0"
    root.install(root.give(built("ctobserve")))
    assert not (root.path / OBSOLETE).exists()
    assert root.run("ctobserve", "--version") == f"ctobserve, version {__version__}\n"


def test_no_compiler_came_with_it(root):
    installed = root.run("dpkg-query", "-W", "-f", "${Package}\n").split()
    assert "ctobserve" in installed
    assert not [
        name for name in installed if re.match(r"python3-bpfcc|libbpfcc|libllvm|libclang|gcc-\d+$|clang|linux-headers", name)
    ]


def test_a_recording_is_reported_on(root):
    said = root.run("ctobserve", "report", "--from", root.give(recording("table_full")))
    assert "CRITICAL  table_full: the table of full is full: 23 packets" in said


def test_check_says_in_one_line_what_this_kernel_lacks_or_that_nothing_does(root):
    code = root.run("sh", "-c", "ctobserve check > /tmp/said 2> /tmp/why; echo $?").strip()
    why = (root.path / "tmp/why").read_text()
    assert (code, why) == ("0", "") or (code in ("3", "4") and why.startswith("ctobserve: ") and why.count("\n") == 1)
    assert "came compiled" in (root.path / "tmp/said").read_text()


def test_everything_is_where_debian_puts_it(root):
    for name in ("", *(f"-{name}" for name in COMMANDS)):
        assert (root.path / f"usr/share/man/man8/ctobserve{name}.8.gz").exists()
    for path in ("bash-completion/completions/ctobserve", "zsh/vendor-completions/_ctobserve"):
        assert (root.path / "usr/share" / path).exists()
    assert (root.path / "usr/share/fish/vendor_completions.d/ctobserve.fish").exists()
    assert (root.path / "usr/bin/ctobserve").read_text().startswith("#! /usr/bin/python3 -I\n")
    assert (root.path / "var/cache/ctobserve").is_dir()
    units = {path.name for path in root.path.glob("usr/lib/systemd/system/ctobserve-*")}
    assert units == {"ctobserve-export.service", "ctobserve-recorder.service"}
    assert not list(root.path.glob("etc/systemd/system/**/ctobserve-*"))
    assert root.lacking("ctobserve", MODULES) == []


def test_the_lab_is_a_package_of_its_own(root):
    assert not (root.path / "usr/bin/ctobserve-lab").exists()
    root.install(root.give(built("ctobserve-lab")))
    assert root.run("ctobserve-lab", "list").count("\n") == len(SCENARIOS)
    assert "this is no lab machine" in root.run("ctobserve-lab", "run", "healthy", code=2)
    assert root.lacking("ctobserve_lab", MODULES) == []
    root.run("which", *PROGRAMS)


def test_they_observe_a_real_kernel():
    roots = [str(root_of(suite).path) for suite in SUITES]
    script = IN_GUEST % " ".join(roots)
    lab = [sys.executable, CHECKOUT / "tests/vm/lab.py", "--timeout", "1200", "--", "sh", "-eux", "-c", script]
    result = subprocess.run(lab, capture_output=True, text=True, check=False)
    print(result.stdout, result.stderr)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.findall(r"^used in (.*?)\r?$", result.stdout, re.M) == roots


def test_nothing_is_left_of_what_is_purged(root):
    for directory in ("var/cache/ctobserve", "var/lib/ctobserve"):
        (root.path / directory).mkdir(exist_ok=True)
        (root.path / directory / "kept").write_text("")
    root.run("apt-get", "remove", "-y", "ctobserve", "ctobserve-lab")
    assert (root.path / "var/lib/ctobserve/kept").exists()
    root.run("apt-get", "purge", "-y", "ctobserve", "ctobserve-lab")
    assert not list(root.of_ours())
    shutil.rmtree(root.path)
