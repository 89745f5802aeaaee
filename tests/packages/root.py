"""A clean root of a Debian release, to install into: what a machine has that was set up a minute ago, and nothing of this one."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SUITES = ("bookworm", "trixie")
# Mounts of its own, which end with the command: nothing that walks through .lab meets this machine's /proc there.
ENTER = """
for place in proc sys dev; do mount --rbind "/$place" "$0/$place"; done
exec chroot "$0" "$@"
"""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where a package manager keeps its own accounts.
ACCOUNTS = re.compile(r"/(proc|sys|dev|root)/|/var/(lib/(dpkg|apt)|cache/(apt|debconf|man)|log)/")


class Root:
    """A copy of the release's clean root in .lab; whatever is done to it is gone with the next."""

    def __init__(self, suite: str, name: str = "installed") -> None:
        """The clean one is made once, by mmdebstrap: essential packages and apt. The copy is called by `name` and suite."""
        clean = CHECKOUT / f".lab/clean-{suite}"
        self.path = CHECKOUT / f".lab/{name}-{suite}"
        if not (clean / "etc/ctobserve-clean").exists():
            _make(suite, clean)
        shutil.rmtree(self.path, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", clean, self.path], check=True)
        shutil.copy("/etc/resolv.conf", self.path / "etc/resolv.conf")
        self.run("apt-get", "update", "-qq")

    def run(self, *command: str, code: int = 0) -> str:
        """Both streams of a command in it, in a C locale; raises AssertionError where it ends with another code."""
        environment = {"PATH": PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
        words = ["unshare", "--mount", "sh", "-euc", ENTER, self.path, *command]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        result = subprocess.run(words, env=environment, text=True, errors="replace", check=False, cwd="/", **streams)
        assert result.returncode == code, f"{' '.join(command)}: exit code {result.returncode}\n{result.stdout}"
        return result.stdout

    def install(self, *names: str, recommended: bool = True) -> None:
        """By apt, with what Debian recommends, or without."""
        self.run("apt-get", "install", "-y", *(() if recommended else ("--no-install-recommends",)), *names)

    def fetched(self) -> str:
        """How much apt brought since this root was a clean one, but for lists of packages; in MB."""
        sizes = sum(path.stat().st_size for path in self.path.glob("var/cache/apt/archives/*.deb"))
        return f"{self.path.name}: apt fetched {sizes / 1e6:.0f} MB"

    def give(self, path: Path) -> str:
        """A file of this machine, in its /srv; the name there."""
        shutil.copy(path, self.path / "srv")
        return f"/srv/{path.name}"

    def lacking(self, package: str, where: str) -> list[str]:
        """Files of a Python package of ours that are not below `where` in it."""
        ours = [path.relative_to(CHECKOUT) for path in (CHECKOUT / package).rglob("*") if path.is_file()]
        return [f"{path}" for path in ours if "__pycache__" not in path.parts and not (self.path / where / path).exists()]

    def of_ours(self) -> Iterator[str]:
        """Every path in it that has our name, but for accounts of package managers."""
        for path in sorted(self.path.rglob("*ctobserve*")):
            inside = f"/{path.relative_to(self.path)}"
            if not ACCOUNTS.match(inside) and inside != "/etc/ctobserve-clean" and not inside.startswith("/srv/"):
                yield inside


def _make(suite: str, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(exist_ok=True)
    # Whether a mirror may lag behind is this host's decision.
    dated = subprocess.run(["apt-config", "dump", "Acquire::Check-Valid-Until"], capture_output=True, text=True, check=True)
    options = [f"--aptopt={dated.stdout.strip()}"] if dated.stdout else []
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", *options, suite, root], check=True)
    (root / "etc/ctobserve-clean").write_text(f"{suite}\n")
