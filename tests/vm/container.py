"""The root of the container image as the Dockerfile has it, made by mmdebstrap: .lab/image of the checkout, for tests/kernel.

usage: container.py

The packages are those that packages.apt marks `image`, as there, and its other commands run as they stand. It takes the
wheel (make wheel), a minute or two, and 0.2 GB; it is made anew when a package, the Dockerfile or the wheel is another.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from suite import CHECKOUT, marked, unpack

ROOT = CHECKOUT / ".lab/image"
DOCKERFILE = CHECKOUT / "deploy/container/Dockerfile"
STAMP = "etc/ctobserve-image"


def steps() -> tuple[str, list[str]]:
    """The Debian release that the Dockerfile begins with, and the commands that it runs, without that which installs packages."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    (suite,) = re.findall(r"^FROM debian:(\w+)-slim$", text, re.M)
    commands = re.findall(r"^RUN (.*)$", text, re.M)
    installing = [command for command in commands if "apt-get install" in command]
    if len(installing) != 1:
        sys.exit(f"{DOCKERFILE.name}: packages are installed by one RUN")
    return suite, [command for command in commands if command not in installing]


def wheel() -> Path:
    """The package with its compiled programs."""
    wheels = sorted(CHECKOUT.glob(".lab/wheel/ctobserve-*.whl"))
    if len(wheels) != 1:
        sys.exit("lab: no wheel in .lab/wheel, or several; try: make wheel")
    return wheels[0]


def main() -> None:
    """Make it, where it is not there as it should be."""
    suite, commands = steps()
    names, package = marked("image"), wheel()
    wanted = hashlib.sha256("\n".join((suite, *names, *commands)).encode() + package.read_bytes()).hexdigest()
    stamp = ROOT / STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return
    unpack(suite, ROOT, names, "--variant=minbase")
    shutil.copy(package, ROOT / "tmp")
    for command in commands:
        subprocess.run(["chroot", ROOT, "sh", "-eu", "-c", command], check=True, stdin=subprocess.DEVNULL)
    # Places for what is mounted: a container's root is not written to.
    for place in ("run/netns", "proc", "sys", "dev"):
        ROOT.joinpath(place).mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)


if __name__ == "__main__":
    main()
