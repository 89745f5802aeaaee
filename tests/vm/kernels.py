"""Debian's kernels: the one that a root has, and the newest of other suites, brought and unpacked without being installed.

Once, into .lab/kernels of the checkout, by an apt directory of its own that asks this host's mirrors: the host's sources stay as
they are. When it is deleted, the newest is looked for anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from suite import CHECKOUT

KERNELS = CHECKOUT / ".lab/kernels"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# What a kernel's package is split into: one package up to 6.12, since then image, modules and what both need.
PART = re.compile(r"(linux-(?:image|binary|modules|base)-\S*amd64) \(= (\S+)\)")
CONFIGURATION = """\
Dir::Etc::sourcelist "{apt}/sources.list";
Dir::Etc::sourceparts "{apt}/none";
Dir::State::lists "{apt}/lists";
Dir::Cache "{apt}/cache";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
"""


def newest_of(root: Path) -> Path:
    """Debian's generic kernel with the highest version; the cloud image has no 9p and cannot boot this way."""
    images = [path for path in root.joinpath("boot").glob("vmlinuz-*-amd64") if "cloud" not in path.name]
    if not images:
        sys.exit(f"lab: no kernel image in {root / 'boot'}; try: make setup")
    return max(images, key=lambda path: [int(word) for word in re.findall(r"\d+", path.name)])


def modules_beside(kernel: Path) -> Path | None:
    """The modules that came with an image, lib/modules/RELEASE beside its boot directory; None where none did."""
    modules = kernel.absolute().parent.parent / "lib/modules" / kernel.name.removeprefix("vmlinuz-")
    return modules.resolve() if modules.is_dir() else None


def unpacked(suites: tuple[str, ...], flavour: str) -> Path:
    """A directory with boot/vmlinuz-RELEASE and lib/modules/RELEASE of the newest kernel that one of these suites carries.

    The generic one where `flavour` is empty.
    """
    place = KERNELS / f"{suites[0]}-{flavour}".rstrip("-")
    if not place.exists():
        print(f"lab: looking for the newest kernel of {', '.join(suites)}, some minutes", file=sys.stderr, flush=True)
        making = place.with_suffix(".part")
        shutil.rmtree(making, ignore_errors=True)
        (making / "apt/lists/partial").mkdir(parents=True)
        (making / "apt/cache/archives/partial").mkdir(parents=True)
        _bring(suites, f"linux-image-{flavour}-amd64".replace("--", "-"), making / "apt", making / "root")
        _tidy(making / "root")
        making.joinpath("root").rename(place)
        shutil.rmtree(making)
    return place


def _bring(suites: tuple[str, ...], image: str, apt: Path, root: Path) -> None:
    apt.joinpath("apt.conf").write_text(CONFIGURATION.format(apt=apt))
    targets = ("indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages", "Origin: Debian")
    host: dict[str, str] = dict(map(str.split, _said("apt-get", *targets)))
    release = _said("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME")[0]
    mirrors = {suite: host[f"{release}-security" if suite.endswith("-security") else release] for suite in suites}
    lines = [f"deb [signed-by={KEYRING}] {mirror} {suite} main" for suite, mirror in mirrors.items()]
    apt.joinpath("sources.list").write_text("\n".join(lines) + "\n")
    _said("apt-get", "update", "-qq", apt=apt)
    versions = [line.split("|")[1].strip() for line in _said("apt-cache", "madison", image, apt=apt)]
    wanted, brought = [(image, _highest(versions))], set()
    while wanted:
        name, version = part = wanted.pop()
        if part in brought:
            continue
        brought.add(part)
        shown = _said("apt-cache", "show", "--no-all-versions", f"{name}={version}", apt=apt)
        wanted += [found for line in shown if line.startswith("Depends:") for found in PART.findall(line)]
    archives = apt / "cache/archives"
    _said("apt-get", "download", "-qq", *(f"{name}={version}" for name, version in sorted(brought)), apt=apt, cwd=archives)
    for package in archives.glob("*.deb"):
        _said("dpkg-deb", "-x", str(package), str(root))


def _tidy(root: Path) -> None:
    """Where older packages have image and modules, whatever the age of these; and the list that modprobe needs."""
    if not root.joinpath("lib").exists():
        root.joinpath("lib").symlink_to("usr/lib")
    (modules,) = root.glob("lib/modules/*")
    image = root / "boot" / f"vmlinuz-{modules.name}"
    if not image.exists():
        image.parent.mkdir(exist_ok=True)
        shutil.copy(modules / "vmlinuz", image)
    _said("depmod", "-b", str(root), modules.name)


def _highest(versions: list[str]) -> str:
    highest = versions[0]
    for version in versions[1:]:
        newer = subprocess.run(["dpkg", "--compare-versions", version, "gt", highest], check=False).returncode == 0
        highest = version if newer else highest
    return highest


def _said(*command: str, apt: Path | None = None, cwd: Path | None = None) -> list[str]:
    """Lines of a command's output; where it fails, so do we, with what it said. `apt`: with that directory for apt's own."""
    environment = os.environ | ({"APT_CONFIG": str(apt / "apt.conf")} if apt else {})
    result = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"lab: {' '.join(command[:2])} failed:\n{result.stderr}")
    return result.stdout.splitlines()
