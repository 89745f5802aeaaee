"""Makes the fixtures of one kernel: of its BTF and its kallsyms what ctobserve looks for, and nothing else.

    python -m tests.unit.kernels.cut NAME VMLINUZ MODULES KALLSYMS

VMLINUZ is the kernel's image, MODULES its directory /lib/modules/RELEASE, KALLSYMS a copy of /proc/kallsyms, read as root while
that kernel ran with the modules of `LOADED`. Nothing of it is run. What comes of it is written to NAME/ beside this file.
"""

from __future__ import annotations

import lzma
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from ctobserve.capture.destroy_reasons import CALLERS, ITERATORS
from ctobserve.host.symbols import CORE, MODULES, TRACKER
from ctobserve.programs.hooks import FUNCTIONS
from tests.unit.kernels.btf_types import (
    ENUM,
    FUNC,
    MAGIC,
    STRUCT,
    UNION,
    Type,
    parse,
    references,
    renumbered,
    strings_of,
    written,
)

HERE = Path(__file__).parent
LOADED = ("nf_conntrack", "nf_conntrack_netlink", *(name for name in MODULES if not name.startswith("nf_conntrack")))
TYPED = ("nf_conntrack", "nf_conntrack_netlink")
FUNCTION_NAMES = frozenset(FUNCTIONS)
# Structs that are kept whole, and of the large ones the members that are read.
WHOLE = frozenset({"nf_conn", "nf_conntrack_tuple", "nf_conntrack_tuple_hash", "nf_ct_ext", "hlist_nulls_node", "nf_hook_state"})
PARTS = {
    "sk_buff": {"_nfct", "dev", "head", "tail", "network_header"},
    "net": {"ns"},
    "ns_common": {"inum"},
    "net_device": {"ifindex", "name"},
    "task_struct": {"flags", "thread_info"},
    "thread_info": {"flags", "preempt_count"},
    "pcpu_hot": {"preempt_count"},
}
ENUMS = frozenset({"nf_ct_ext_id"})
VARIABLES = (*CORE, "nf_conntrack_hash", "nf_conntrack_htable_size", "nf_conntrack_generation", "register_ftrace_direct")
PACKED = {b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b\x08": "gzip"}


def unpacked(image: bytes) -> Iterator[bytes]:
    """The image itself, and whatever in it was compressed."""
    yield image
    for mark, kind in PACKED.items():
        for found in re.finditer(re.escape(mark), image):
            data = image[found.start() :]
            try:
                if kind == "xz":
                    yield lzma.LZMADecompressor().decompress(data)
                elif kind == "gzip":
                    yield zlib.decompressobj(31).decompress(data)
                else:
                    yield subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=False).stdout
            except (lzma.LZMAError, zlib.error):
                continue


def btf_of(image: bytes) -> bytes:
    """The largest BTF in an image: its header says how long it is."""
    best = b""
    for content in unpacked(image):
        for found in re.finditer(re.escape(struct.pack("<HBBI", MAGIC, 1, 0, 24)), content):
            type_at, types, string_at, strings = struct.unpack_from("<IIII", content, found.start() + 8)
            length = 24 + string_at + strings
            if type_at == 0 and string_at == types and len(best) < length <= len(content) - found.start():
                best = content[found.start() : found.start() + length]
    assert best, "no BTF"
    return best


def section(module: bytes, wanted: str) -> bytes | None:
    """A section of an ELF file of 64 bits; None where it has none of this name."""
    at, size, count, names = struct.unpack_from("<40xQ10xHHH", module)[0], *struct.unpack_from("<HHH", module, 58)
    headers = [struct.unpack_from("<II8x8xQQ", module, at + size * number) for number in range(count)]
    _, _, strings, _ = headers[names]
    for name, _, offset, length in headers:
        start = strings + name
        if module[start : module.index(b"\0", start)].decode() == wanted:
            return module[offset : offset + length]
    return None


class Cut:
    """Types of one file on top of another's: those that are asked for, and what they are made of."""

    def __init__(self, types: list[Type], base: Cut | None = None) -> None:
        self._types = types
        self._base = base
        self._first: int = base.end if base else 1
        self.end: int = self._first + len(types)
        self.kept: list[int] = []
        self._known: set[int] = set()

    def ask(self) -> None:
        """Everything that ctobserve wants by name."""
        for number, item in enumerate(self._types, self._first):
            wanted = {STRUCT: WHOLE | PARTS.keys(), UNION: WHOLE | PARTS.keys(), ENUM: ENUMS, FUNC: FUNCTION_NAMES}.get(item.kind)
            if wanted and item.name.split(".")[0] in wanted:
                self.keep(number)

    def at(self, number: int) -> Type:
        """A type by its number, with what is not looked at taken away: where a pointer leads, most members of large structs."""
        item = self._types[number - self._first]
        if item.kind == 2:
            return item._replace(size=0)
        if item.kind in (STRUCT, UNION) and item.name in PARTS:
            kept = [
                part
                for part in item.members
                if part.name in PARTS[item.name] or (not part.name and self._holds(part.words[0], item))
            ]
            return item._replace(members=tuple(kept))
        return item

    def _holds(self, number: int, within: Type) -> bool:
        """Whether an anonymous member leads to one that is read."""
        if self._base and number < self._first:
            return self._base._holds(number, within)
        item = self._types[number - self._first]
        names = PARTS[within.name]
        return any(part.name in names or (not part.name and self._holds(part.words[0], within)) for part in item.members)

    def keep(self, number: int) -> None:
        """A type and all that it is made of, by depth first."""
        if number == 0 or number in self._known:
            return
        if self._base and number < self._first:
            self._base.keep(number)
            return
        self._known.add(number)
        item = self.at(number)
        for other in references(item):
            self.keep(other)
        self.kept.append(number)

    def numbered(self) -> dict[int, int]:
        """The new number of each type that is kept, also of the base."""
        below = self._base.numbered() if self._base else {0: 0}
        return below | {old: len(below) + place for place, old in enumerate(sorted(self.kept))}

    def types(self) -> list[Type]:
        """What is kept, in the old order, with new numbers."""
        numbers = self.numbered()
        return [renumbered(self.at(number), numbers) for number in sorted(self.kept)]


def module_bytes(modules: Path, name: str) -> bytes:
    """A module's ELF file, which may be compressed."""
    (path,) = modules.rglob(f"{name}.ko*")
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def kallsyms(text: str) -> str:
    """Lines of functions that are hooked or call those that are, whatever the compiler made of their names, and of variables."""
    stems = FUNCTION_NAMES | CALLERS.keys() | ITERATORS.keys()
    wanted = re.compile(rf"(__pfx_)?({'|'.join(sorted(stems))})(\.\w+)*|{TRACKER}\w+|{'|'.join(VARIABLES)}")
    return "".join(line for line in text.splitlines(keepends=True) if wanted.fullmatch(line.split()[2]))


def main(name: str, vmlinuz: Path, modules: Path, symbols: Path) -> None:
    """Write the fixtures of one kernel."""
    whole = btf_of(vmlinuz.read_bytes())
    strings = strings_of(whole)
    base = Cut(parse(whole))
    base.ask()
    above = {}
    for module in TYPED:
        data = section(module_bytes(modules, module), ".BTF")
        if data is not None:
            above[module] = Cut(parse(data, strings), base)
            above[module].ask()
    made = {"vmlinux": written(base.types())}
    length = len(strings_of(made["vmlinux"]))
    made |= {module: written(cut.types(), length) for module, cut in above.items()}
    directory = HERE / name
    directory.mkdir(exist_ok=True)
    for file, content in {
        **{f"{key}.btf": value for key, value in made.items()},
        "kallsyms": kallsyms(symbols.read_text()).encode(),
    }.items():
        (directory / f"{file}.xz").write_bytes(lzma.compress(content, preset=9))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))
