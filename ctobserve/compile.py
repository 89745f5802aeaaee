"""bpf/*.c to BPF instructions, by bcc: the only module that imports it, in a process of its own.

The compiler costs 100 MB and a fraction of a second; neither stays with the observer, and the result is kept (cache.py).
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctobserve import cache
from ctobserve.errors import CtobserveError, KernelLacks
from ctobserve.kernel import digest

SOURCES = (
    *("ctobserve.h", "attach.h", "chains.h", "insert.c", "evict.c", "destroy.c", "drops.c", "update.c", "packets.c"),
    *("walk.c", "lengths.c", "listed.c", "clock.c"),
)
PSEUDO_MAP_FD = 1
LD_IMM64 = 0x18


@dataclass(frozen=True)
class MapSpec:
    """A map as bcc declared it: type number, sizes in bytes."""

    kind: int
    key_bytes: int
    value_bytes: int
    entries: int
    flags: int


@dataclass(frozen=True)
class Program:
    """Instructions, and for each that loads a map's address its index and the map's name."""

    code: bytes
    maps: list[tuple[int, str]]


@dataclass(frozen=True)
class Image:
    """Everything one set of options compiles to."""

    maps: dict[str, MapSpec]
    programs: dict[str, Program]


def source_dir() -> Path:
    """bpf/ of the installed package, or of the checkout; raises CtobserveError when neither has it."""
    here = Path(__file__).resolve().parent
    for candidate in (here / "bpf", here.parent / "bpf"):
        if (candidate / SOURCES[0]).exists():
            return candidate
    raise CtobserveError(f"the BPF sources are missing beside {here}; reinstall ctobserve")


def build(defines: dict[str, int]) -> Image:
    """Compile with these -D integers, or take what was kept; raises KernelLacks without bcc, CtobserveError on its errors."""
    directory = source_dir()
    text = "".join(f'#line 1 "{name}"\n' + directory.joinpath(name).read_text() for name in SOURCES)
    flags = [f"-D{name}={value}" for name, value in sorted(defines.items())]
    key = "image-" + digest(text, *flags)
    found = cache.load(key)
    if found is None:
        found = _run({"text": text, "flags": flags, "headers": str(directory / "headers")})
        cache.store(key, found)
    return _image(found)


def _run(request: dict[str, Any]) -> Any:
    result = subprocess.run(
        [sys.executable, "-m", "ctobserve.compile"],
        input=json.dumps(request).encode(),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "BCC_KERNEL_SOURCE": request["headers"]},
        check=False,
    )
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    if result.returncode == 3:
        raise KernelLacks("Python cannot import bcc, which compiles the BPF programs; try: apt install python3-bpfcc")
    if result.returncode:
        errors = [line for line in lines if "error" in line.lower()] or lines or ["no message"]
        raise CtobserveError("bcc cannot compile the BPF programs: " + " | ".join(errors[:4]))
    return json.loads(result.stdout)


def _image(found: Any) -> Image:
    programs = {
        name: Program(base64.b64decode(item["code"]), [(at, map_) for at, map_ in item["maps"]])
        for name, item in found["programs"].items()
    }
    return Image({name: MapSpec(**spec) for name, spec in found["maps"].items()}, programs)


def main() -> int:
    """Read a request from stdin, compile, write maps and programs as JSON. Runs in the child process."""
    try:
        from bcc import BPF, lib
    except ImportError:
        return 3
    request = json.load(sys.stdin)
    module = BPF(text=request["text"], cflags=request["flags"]).module
    lib.bpf_num_tables.argtypes = [ctypes.c_void_p]
    lib.bpf_table_name.restype, lib.bpf_table_name.argtypes = ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_size_t]
    for function in ("fd", "key_size", "leaf_size"):
        getattr(lib, f"bpf_table_{function}_id").argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    names = {}
    maps = {}
    for i in range(lib.bpf_num_tables(module)):
        name = lib.bpf_table_name(module, i)
        names[lib.bpf_table_fd_id(module, i)] = name.decode()
        maps[name.decode()] = {
            "kind": lib.bpf_table_type_id(module, i),
            "key_bytes": lib.bpf_table_key_size_id(module, i),
            "value_bytes": lib.bpf_table_leaf_size_id(module, i),
            "entries": lib.bpf_table_max_entries_id(module, i),
            "flags": lib.bpf_table_flags_id(module, i),
        }
    programs = {}
    for i in range(lib.bpf_num_functions(module)):
        function = lib.bpf_function_name(module, i)
        code = _instructions(lib, module, function)
        programs[function.decode()] = {"code": base64.b64encode(code).decode(), "maps": _map_loads(code, names)}
    json.dump({"maps": maps, "programs": programs}, sys.stdout)
    return 0


def _instructions(lib: Any, module: Any, function: bytes) -> bytes:
    return ctypes.string_at(lib.bpf_function_start(module, function), lib.bpf_function_size(module, function))


def _map_loads(code: bytes, names: dict[int, str]) -> list[tuple[int, str]]:
    """bcc writes the descriptors of its own maps into the instructions; remember which map each one was."""
    loads = []
    for at in range(0, len(code), 8):
        if code[at] == LD_IMM64 and code[at + 1] >> 4 == PSEUDO_MAP_FD:
            loads.append((at // 8, names[int.from_bytes(code[at + 4 : at + 8], "little")]))
    return loads


if __name__ == "__main__":
    sys.exit(main())
