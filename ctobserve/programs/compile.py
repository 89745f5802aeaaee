"""bpf/*.c to BPF instructions, by bcc, in a process of its own (compiler.py).

The compiler costs 100 MB and a fraction of a second; neither stays with the observer, and the result is kept (cache.py).
"""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ctobserve.errors import CtobserveError, KernelLacks
from ctobserve.host import cache, executables
from ctobserve.host.kernel import digest, machine, read_text
from ctobserve.model import printable
from ctobserve.programs import compiler
from ctobserve.programs.constants import CONSTANTS

SOURCES = (
    *("ctobserve.h", "attach.h", "chains.h", "insert.c", "evict.c", "destroy.c", "drops.c", "update.c", "packets.c"),
    *("walk.c", "lengths.c", "listing.c", "clock.c"),
)
COMPILER = Path(compiler.__file__).resolve()
SHOWN_CHARACTERS = 200


class MapSpec(NamedTuple):
    """A map as bcc declared it: type number, sizes in bytes."""

    map_type: int
    key_bytes: int
    value_bytes: int
    entries: int
    flags: int


class Program(NamedTuple):
    """Instructions, and for each that loads a map's address its index and the map's name."""

    code: bytes
    map_loads: list[tuple[int, str]]


class Image(NamedTuple):
    """Everything one set of options compiles to."""

    maps: dict[str, MapSpec]
    programs: dict[str, Program]


def source_dir() -> Path:
    """bpf/ of the installed package, or of the checkout; raises CtobserveError when neither has it."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "bpf", package.parent / "bpf"):
        if (candidate / SOURCES[0]).exists():
            return candidate
    raise CtobserveError(f"the BPF sources are missing beside {package}; reinstall ctobserve")


def build(defines: dict[str, int]) -> Image:
    """Compile with these -D integers, or take what was kept; raises KernelLacks without bcc, CtobserveError on its errors."""
    directory = source_dir()
    headers = directory / "headers"
    text = "".join(f'#line 1 "{name}"\n' + read_text(directory / name) for name in SOURCES)
    # In hexadecimal, which C takes as unsigned where it must be.
    flags = [f"-D{name}={value:#x}" for name, value in sorted((CONSTANTS | defines).items())]
    included = [f"{path.relative_to(headers)} {read_text(path)}" for path in sorted(headers.rglob("*.h"))]
    key = "image-" + digest(text, *flags, *included, read_text(COMPILER), machine())
    bcc = bcc_version()
    return cache.kept(
        key, lambda: {"bcc": bcc, **_compiled({"text": text, "flags": flags}, headers)}, lambda found: decoded(found, bcc)
    )


def bcc_version() -> str | None:
    """Of the bcc that Python would import; None where there is none. Nothing of it is run."""
    found = find_spec("bcc")
    if found is None or found.origin is None:
        return None
    try:
        said = re.search(r"""__version__ = ["'](.+)["']""", read_text(Path(found.origin).with_name("version.py")))
    except OSError:
        said = None
    return said[1] if said else "unknown"


def _compiled(request: dict[str, Any], headers: Path) -> dict[str, Any]:
    result = executables.run(
        Path(sys.executable), "-I", str(COMPILER), given=json.dumps(request).encode(), BCC_KERNEL_SOURCE=str(headers)
    )
    if result.returncode == compiler.NO_BCC:
        raise KernelLacks("Python cannot import bcc, which compiles the BPF programs; try: apt install python3-bpfcc")
    if result.returncode:
        lines = [printable(line, SHOWN_CHARACTERS) for line in result.stderr.strip().splitlines()]
        errors = [line for line in lines if "error" in line.lower()] or lines or [f"it ended with {result.returncode}"]
        raise CtobserveError("bcc cannot compile the BPF programs: " + " | ".join(errors[:4]))
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def decoded(found: Any, bcc: str | None) -> Image:
    """An image as it was kept; raises ValueError when another bcc made it than there is, and as cache.kept allows."""
    if bcc not in (None, found["bcc"]):
        raise ValueError(f"made by bcc {found['bcc']}")
    maps = {name: MapSpec(**spec) for name, spec in found["maps"].items()}
    return Image(maps, {name: _program(item) for name, item in found["programs"].items()})


def _program(found: Any) -> Program:
    return Program(bytes.fromhex(found["code"]), [(at, name) for at, name in found["map_loads"]])
