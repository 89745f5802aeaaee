"""A request on stdin, compiled by bcc, the answer on stdout: the only file that imports bcc. compile.py runs it as a program.

It stands alone, so that it needs no search path but that of the distribution's packages.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

NO_BCC = 3
GIVEN_MARK = 0xC401CE  # upper half of a constant that stands for a number that programs are given (bpf/ctobserve.h)
PSEUDO_MAP_FD = 1
LD_IMM64 = 0x18


def main() -> int:
    """Read a request from stdin, compile, write maps and programs as JSON; NO_BCC where Python cannot import bcc."""
    try:
        from bcc import BPF, lib
    except (ImportError, OSError):  # the second: its library is not there
        return NO_BCC
    request = json.load(sys.stdin)
    module = BPF(text=request["text"], cflags=request["flags"]).module
    lib.bpf_num_tables.argtypes = [ctypes.c_void_p]
    lib.bpf_table_name.restype, lib.bpf_table_name.argtypes = ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_size_t]
    for function in ("fd", "key_size", "leaf_size"):
        getattr(lib, f"bpf_table_{function}_id").argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    names = {}
    maps = {}
    for i in range(lib.bpf_num_tables(module)):
        name = _text(lib.bpf_table_name(module, i))
        names[lib.bpf_table_fd_id(module, i)] = name
        maps[name] = {
            "map_type": lib.bpf_table_type_id(module, i),
            "key_bytes": lib.bpf_table_key_size_id(module, i),
            "value_bytes": lib.bpf_table_leaf_size_id(module, i),
            "entries": lib.bpf_table_max_entries_id(module, i),
            "flags": lib.bpf_table_flags_id(module, i),
        }
    programs = {}
    for i in range(lib.bpf_num_functions(module)):
        function = lib.bpf_function_name(module, i)
        code = _instructions(lib, module, function)
        programs[_text(function)] = {"code": code.hex(), "map_loads": _map_loads(code, names), "given": _given(code)}
    json.dump({"maps": maps, "programs": programs}, sys.stdout)
    return 0


def _text(name: bytes) -> str:
    return name.decode("ascii", "replace")


def _instructions(lib: Any, module: Any, function: bytes) -> bytes:
    return ctypes.string_at(lib.bpf_function_start(module, function), lib.bpf_function_size(module, function))


def _map_loads(code: bytes, names: dict[int, str]) -> list[tuple[int, str]]:
    """bcc writes the descriptors of its own maps into the instructions; remember which map each one was."""
    loads = []
    for at in range(0, len(code), 8):
        if code[at] == LD_IMM64 and code[at + 1] >> 4 == PSEUDO_MAP_FD:
            loads.append((at // 8, names[int.from_bytes(code[at + 4 : at + 8], "little")]))
    return loads


def _given(code: bytes) -> list[tuple[int, int]]:
    """Where a number is to be written when the program is loaded, and which."""
    wide = [at for at in range(0, len(code), 8) if code[at] == LD_IMM64]
    marked = [at for at in wide if int.from_bytes(code[at + 12 : at + 16], "little") == GIVEN_MARK]
    return [(at // 8, int.from_bytes(code[at + 4 : at + 8], "little")) for at in marked]


if __name__ == "__main__":
    sys.exit(main())
