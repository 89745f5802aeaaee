"""bpf/*.c to BPF instructions, by bcc, in a process of its own (compiler.py).

An image serves every kernel of one machine, so it can come with the sources (`make image`): compiled on any, since nothing of a
machine is in it but its header, bpf/arch/MACHINE.h. Where it does not, or they are not what it was made of, the compiler costs
100 MB and seconds; neither stays with the observer, and the result is kept (cache.py).
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ctobserve.errors import CtobserveError, KernelLacks
from ctobserve.host import cache, executables, kernel
from ctobserve.host.kernel import digest, read_text, release
from ctobserve.model import printable
from ctobserve.programs import arch, compiler
from ctobserve.programs.constants import CONSTANTS
from ctobserve.programs.given import NAMES

SOURCES = (
    *("ctobserve.h", "attach.h", "chains.h", "insert.c", "evict.c", "destroy.c", "drops.c", "counts.c", "update.c", "packets.c"),
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
    """Instructions, and for each that loads a map's address its index and the map's name.

    `given`: for each that loads a number of given.py, its index and the number's.
    """

    code: bytes
    map_loads: list[tuple[int, str]]
    given: list[tuple[int, int]]


class Image(NamedTuple):
    """Everything that one form of hooks compiles to, on any kernel."""

    maps: dict[str, MapSpec]
    programs: dict[str, Program]


def source_dir() -> Path:
    """bpf/ of the installed package, or of the checkout; raises CtobserveError when neither has it."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "bpf", package.parent / "bpf"):
        if (candidate / SOURCES[0]).exists():
            return candidate
    raise CtobserveError(f"the BPF sources are missing beside {package}; reinstall ctobserve")


class Source(NamedTuple):
    """What the compiler is given for one form of hooks on one machine, and the digest of all that decides what comes of it.

    `image` is where that stands if it came with the sources (`make image`).
    """

    directory: Path
    image: Path
    text: str
    flags: list[str]
    digest: str

    @classmethod
    def read(cls, trampolines: bool, machine: str) -> Source:
        """From bpf/ and from the numbers that it shares with Python; raises CtobserveError where it is not there."""
        directory = source_dir()
        headers = directory / "headers"
        text = "".join(f'#line 1 "{name}"\n' + read_text(directory / name) for name in (f"arch/{machine}.h", *SOURCES))
        # In hexadecimal, which C takes as unsigned where it must be.
        numbers = CONSTANTS | {"TRAMPOLINE": int(trampolines)}
        flags = [f"-D{name}={value:#x}" for name, value in sorted(numbers.items())]
        flags += [
            f"-DGIVEN_MARK={compiler.GIVEN_MARK:#x}ULL",
            *(f"-D{name}=GIVEN({number})" for number, name in enumerate(NAMES)),
        ]
        included = [f"{path.relative_to(headers)} {read_text(path)}" for path in sorted(headers.rglob("*.h"))]
        image = directory / "images" / f"{machine}-{'fentry' if trampolines else 'kprobe'}.json"
        return cls(directory, image, text, flags, digest(text, *flags, *included, read_text(COMPILER), machine))

    @classmethod
    def here(cls, trampolines: bool) -> Source:
        """For this machine; raises KernelLacks where it is one that we do not know."""
        arch.here()
        return cls.read(trampolines, kernel.machine())


def shipped(source: Source) -> Image | None:
    """The image that came with these very sources; None where there is none, or it is of other sources or another machine."""
    with suppress(OSError, ValueError, TypeError, AttributeError, LookupError):
        found = json.loads(read_text(source.image))
        return decoded(found, None) if found["digest"] == source.digest else None
    return None


def build(trampolines: bool) -> Image:
    """Take what came compiled, or was kept, or compile; raises KernelLacks without bcc, CtobserveError on its errors."""
    source = Source.here(trampolines)
    image = shipped(source)
    if image is not None:
        return image
    bcc = bcc_version()
    return cache.kept("image-" + source.digest, lambda: compiled(source), lambda found: decoded(found, bcc))


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


def compiled(source: Source) -> dict[str, Any]:
    """As it is kept: plain values, among them the digest, the compiler's version and the kernel it ran on; raises as `build`."""
    result = executables.run(
        Path(sys.executable),
        "-I",
        str(COMPILER),
        given=json.dumps({"text": source.text, "flags": source.flags}).encode(),
        BCC_KERNEL_SOURCE=str(source.directory / "headers"),
    )
    if result.returncode == compiler.NO_BCC:
        raise KernelLacks("Python cannot import bcc, which compiles the BPF programs; try: apt install python3-bpfcc")
    if result.returncode:
        lines = [printable(line, SHOWN_CHARACTERS) for line in result.stderr.strip().splitlines()]
        errors = [line for line in lines if "error" in line.lower()] or lines or [f"it ended with {result.returncode}"]
        raise CtobserveError("bcc cannot compile the BPF programs: " + " | ".join(errors[:4]))
    return {"digest": source.digest, "bcc": bcc_version(), "release": release(), **json.loads(result.stdout)}


def decoded(found: Any, bcc: str | None) -> Image:
    """An image as it was kept; raises ValueError when another bcc made it than there is, and as cache.kept allows."""
    if bcc not in (None, found["bcc"]):
        raise ValueError(f"made by bcc {found['bcc']}")
    maps = {name: MapSpec(**spec) for name, spec in found["maps"].items()}
    return Image(maps, {name: _program(item) for name, item in found["programs"].items()})


def _program(found: Any) -> Program:
    loads, given = found["map_loads"], found["given"]
    return Program(bytes.fromhex(found["code"]), [(at, name) for at, name in loads], [(at, number) for at, number in given])
