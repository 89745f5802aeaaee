"""The root directory of another Debian release, with its kernel, its Python and its bcc, for lab VMs to boot.

Made once, in .lab/SUITE of the checkout, from the packages that packages.apt names for the guest; about a minute and 0.7 GB.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def marked(place: str) -> list[str]:
    """Names that packages.apt marks for a place."""
    lines = (CHECKOUT / "packages.apt").read_text().splitlines()
    return sorted(line.split()[0] for line in lines if not line.startswith("#") and place in line.split()[1:])


def packages(kernel: bool = True) -> list[str]:
    """Names marked `guest`; with or without the release's own kernel."""
    return [name for name in marked("guest") if kernel or not name.startswith("linux-image-")]


def root_of(suite: str, kernel: bool) -> Path:
    """Directory of the release, as `kept`. Without `kernel`, one of another release is to boot in it."""

    def make(root: Path) -> None:
        unpack(suite, root, names, "--variant=minbase")
        root.joinpath("usr/lib/modules").mkdir(exist_ok=True)

    names = packages(kernel)
    return kept(CHECKOUT / ".lab" / suite, names, make)


def kept(root: Path, names: list[str], make: Callable[[Path], None]) -> Path:
    """This root, made if it is not there or was made of other packages; ends the process when it cannot be."""
    stamp = root / "etc" / "ctobserve-lab"
    wanted = "\n".join(names)
    if not stamp.exists() or stamp.read_text() != wanted:
        make(root)
        stamp.write_text(wanted)
    # A place for this checkout, which the guest mounts at the same path; it may have moved since.
    root.joinpath(*CHECKOUT.parts[1:]).mkdir(parents=True, exist_ok=True)
    return root


def unpack(suite: str, root: Path, names: list[str], *options: str) -> None:
    """These packages of a release and what they need, by mmdebstrap; ends the process where that fails."""
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(exist_ok=True)
    print(f"lab: making a root of Debian {suite} in {root.relative_to(CHECKOUT)}, minutes", file=sys.stderr, flush=True)
    chosen = [*options, f"--include={','.join(names)}", "--aptopt=APT::Install-Recommends false"]
    # Whether a mirror may lag behind is this host's decision.
    dated = subprocess.run(["apt-config", "dump", "Acquire::Check-Valid-Until"], capture_output=True, text=True, check=True)
    chosen += [f"--aptopt={dated.stdout.strip()}"] if dated.stdout else []
    chosen += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
    result = subprocess.run(["mmdebstrap", "--quiet", *chosen, suite, str(root)], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"lab: mmdebstrap of {suite} failed:\n{result.stderr}")
