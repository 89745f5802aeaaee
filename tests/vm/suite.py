"""The root directory of another Debian release, with its kernel, its Python and its bcc, for lab VMs to boot.

Made once, in .lab/SUITE of the checkout, from the packages that packages.apt names for the guest; about a minute and 0.7 GB.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def packages() -> list[str]:
    """Names marked `guest`."""
    lines = (CHECKOUT / "packages.apt").read_text().splitlines()
    return sorted(line.split()[0] for line in lines if not line.startswith("#") and "guest" in line.split()[1:])


def root_of(suite: str) -> Path:
    """Directory of the release, made if it is not there or was made of other packages; ends the process when it cannot be."""
    root = CHECKOUT / ".lab" / suite
    stamp = root / "etc" / "ctobserve-lab"
    wanted = "\n".join(packages())
    if not stamp.exists() or stamp.read_text() != wanted:
        _make(suite, root)
        stamp.write_text(wanted)
    # A place for this checkout, which the guest mounts at the same path; it may have moved since.
    root.joinpath(*CHECKOUT.parts[1:]).mkdir(parents=True, exist_ok=True)
    return root


def _make(suite: str, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(exist_ok=True)
    print(f"lab: making a root of Debian {suite} in {root.relative_to(CHECKOUT)}, about a minute", file=sys.stderr, flush=True)
    options = ["--variant=minbase", f"--include={','.join(packages())}", "--aptopt=APT::Install-Recommends false"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
    result = subprocess.run(["mmdebstrap", "--quiet", *options, suite, str(root)], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"lab: mmdebstrap of {suite} failed:\n{result.stderr}")
