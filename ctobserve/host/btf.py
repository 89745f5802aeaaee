"""Offsets and function ids from the kernel's own type information, /sys/kernel/btf.

The format is Documentation/bpf/btf.rst. A module's file continues the numbering of types and strings of vmlinux (split BTF).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctobserve.errors import KernelLacks
from ctobserve.model import NDArray

BTF_DIR = Path("/sys/kernel/btf")
MAGIC = 0xEB9F
KIND_ARRAY, KIND_STRUCT, KIND_UNION, KIND_ENUM, KIND_FUNC = 3, 4, 5, 6, 12
_HEADER = struct.Struct("<HBBIIIII")
# Bytes after the 12-byte type header, by kind: fixed part, and part per vlen (include/uapi/linux/btf.h).
_FIXED = np.zeros(32, np.uint32)
_FIXED[[1, 3, 14, 17]] = [4, 12, 4, 4]
_PER_VLEN = np.zeros(32, np.uint32)
_PER_VLEN[[4, 5, 6, 13, 15, 19]] = [12, 12, 8, 8, 12, 12]
LEAPS = 5
LONGEST = 64  # typedefs and qualifiers before a type; the kernel has a handful
_TRANSPARENT = (8, 9, 10, 11, 18)  # typedef, volatile, const, restrict, type_tag


class Field(NamedTuple):
    """Where a member lies in its outermost struct: offset and size in bytes."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """Offset of the first byte after the member."""
        return self.offset + self.size


class BtfId(NamedTuple):
    """A function's id, and the module whose BTF has it; `vmlinux` where conntrack is built in."""

    module: str
    number: int


class Btf:
    """The types of vmlinux, or of one module on top of it (`base`)."""

    def __init__(self, data: bytes, base: Btf | None = None) -> None:
        magic, version, _, hdr_len, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic == MAGIC >> 8 | (MAGIC & 0xFF) << 8:
            raise KernelLacks("this machine is big-endian, as its BTF says; ctobserve knows little-endian ones alone")
        if (magic, version) != (MAGIC, 1):
            raise KernelLacks("the kernel's BTF has an unknown format; ctobserve reads BTF version 1")
        self._base = base
        self.count: int
        self.str_end: int
        self._first_id = base.count if base else 1
        self._first_str = base.str_end if base else 0
        self._types = data[hdr_len + type_off : hdr_len + type_off + type_len]
        self._strs = data[hdr_len + str_off : hdr_len + str_off + str_len]
        self._offsets: dict[str, int | None] = {}
        self._starts = _type_starts(self._types)
        words = np.frombuffer(self._types, "<u4")
        at = self._starts // 4
        self._names = words[at]
        self._kinds = (words[at + 1] >> 24) & 31
        self.count = self._first_id + len(self._starts)
        self.str_end = self._first_str + len(self._strs)

    @classmethod
    def load(cls, module: str = "vmlinux", base: Btf | None = None) -> Btf:
        """Read /sys/kernel/btf/`module`; raises KernelLacks when it is not there."""
        path = BTF_DIR / module
        try:
            return cls(path.read_bytes(), base)
        except FileNotFoundError:
            raise KernelLacks(
                f"no {path}: this kernel was built without BTF (CONFIG_DEBUG_INFO_BTF); use a distribution kernel >= 5.10"
            ) from None

    def find(self, kind: int, name: str) -> int | None:
        """Id of the first type of this kind and name in this file alone, or None."""
        offset = self.string_offset(name)
        if offset is None:
            return None
        hits = np.nonzero((self._names == offset) & (self._kinds == kind))[0]
        return int(hits[0]) + self._first_id if hits.size else None

    def string_offset(self, name: str) -> int | None:
        """Offset of an exact string, as types have it, in this file or in its base; None where neither has it."""
        if name not in self._offsets:
            whole = name.encode() + b"\0"
            # A module's strings begin with one that no NUL stands before: that of vmlinux' does.
            at = 0 if self._strs.startswith(whole) else self._strs.find(b"\0" + whole) + 1 or -1
            inherited = self._base.string_offset(name) if at < 0 and self._base else None
            self._offsets[name] = inherited if at < 0 else at + self._first_str
        return self._offsets[name]

    def function(self, name: str) -> int | None:
        """Id of a FUNC of this file, for an fentry or fexit program; None when the file has none."""
        return self.find(KIND_FUNC, name)

    def size(self, struct_name: str) -> int:
        """sizeof(struct `struct_name`) in bytes; raises KernelLacks when the kernel has no such type."""
        return self._size(self._struct(struct_name))

    def field(self, path: str) -> Field:
        """Field of a dotted path such as `nf_conn.proto.tcp.state`; array indexes are written as names (`tuplehash.1`).

        Anonymous structs and unions are searched. Raises KernelLacks when a member does not exist.
        """
        head, *rest = path.split(".")
        type_id, offset = self._struct(head), 0
        for name in rest:
            found = self._member(type_id, name)
            if found is None:
                raise KernelLacks(f"this kernel's struct {head} has no member {'.'.join(rest)}: layout not supported")
            type_id, offset = found[0], offset + found[1]
        return Field(offset, self._size(type_id))

    def has(self, path: str) -> bool:
        """Whether the dotted path exists."""
        try:
            self.field(path)
        except KernelLacks:
            return False
        return True

    def enum(self, name: str) -> dict[str, int]:
        """Names and values of enum `name`; empty when the kernel has none."""
        type_id = self.find(KIND_ENUM, name)
        if type_id is None:
            return self._base.enum(name) if self._base else {}
        _, vlen, _, at = self._header(type_id)
        pairs = (struct.unpack_from("<Ii", self._types, at + 12 + 8 * i) for i in range(vlen))
        return {self._string(name_off): value for name_off, value in pairs}

    def _struct(self, name: str) -> int:
        for kind in (KIND_STRUCT, KIND_UNION):
            type_id = self.find(kind, name)
            if type_id is not None:
                return type_id
        if self._base:
            return self._base._struct(name)
        raise KernelLacks(f"this kernel's BTF does not describe struct {name}: is nf_conntrack built for it?")

    def _header(self, type_id: int) -> tuple[int, int, int, int]:
        """kind, vlen, size or type, and position of a type of this file."""
        at = int(self._starts[type_id - self._first_id])
        _, info, size = struct.unpack_from("<III", self._types, at)
        return (info >> 24) & 31, info & 0xFFFF, size, at

    def _resolve(self, type_id: int) -> tuple[Btf, int]:
        """The file and id of a type with typedefs and qualifiers taken off."""
        owner = self
        for _ in range(LONGEST):
            while owner._base and type_id < owner._first_id:
                owner = owner._base
            kind, _, target, _ = owner._header(type_id)
            if kind not in _TRANSPARENT:
                return owner, type_id
            type_id = target
        raise ValueError("typedefs without end")

    def _size(self, type_id: int) -> int:
        owner, type_id = self._resolve(type_id)
        kind, _, size, at = owner._header(type_id)
        if kind == KIND_ARRAY:
            element, _, count = struct.unpack_from("<III", owner._types, at + 12)
            return owner._size(element) * int(count)
        return 8 if kind in (2, 13) else size  # pointer, function

    def _member(self, type_id: int, name: str) -> tuple[int, int] | None:
        """Type and byte offset of a member, through anonymous members."""
        owner, type_id = self._resolve(type_id)
        kind, vlen, _, at = owner._header(type_id)
        if kind == KIND_ARRAY and name.isdigit():
            element = struct.unpack_from("<I", owner._types, at + 12)[0]
            return element, owner._size(element) * int(name)
        if kind not in (KIND_STRUCT, KIND_UNION):
            return None
        bitfields = struct.unpack_from("<I", owner._types, at + 4)[0] >> 31
        for i in range(vlen):
            name_off, member, offset = struct.unpack_from("<III", owner._types, at + 12 + 12 * i)
            offset = (offset & 0xFFFFFF if bitfields else offset) // 8
            if name_off:
                if owner._string(name_off) == name:
                    return member, offset
            else:
                inner = owner._member(member, name)
                if inner:
                    return inner[0], offset + inner[1]
        return None

    def _string(self, offset: int) -> str:
        if offset < self._first_str and self._base:
            return self._base._string(offset)
        offset -= self._first_str
        return self._strs[offset : self._strs.index(b"\0", offset)].decode(errors="surrogateescape")


def _type_starts(types: bytes) -> NDArray[np.intp]:
    """Position of every type. Each length says where the next type begins, so they are followed from the first.

    From every word a leap over 2^LEAPS lengths is made first, as if a type began there: so few leaps need be followed one by one.
    """
    info = np.frombuffer(types, "<u4")[1:]
    kind = (info >> 24) & 31
    length = (12 + _FIXED[kind] + _PER_VLEN[kind] * (info & 0xFFFF)) // 4
    end = len(info) + 1
    # From each word: where the type after it begins, the end, or what lies behind it and leads nowhere.
    leap = np.full(end + 1, end, np.intp)
    np.minimum(np.arange(end - 1) + length, end, out=leap[: end - 1])
    leaps = [leap]
    for _ in range(LEAPS):
        leaps.append(leaps[-1].take(leaps[-1]))
    at, met = 0, []
    while at < end:
        met.append(at)
        at = int(leaps[-1][at])
    starts = np.array(met, np.intp)
    for leap in reversed(leaps[:-1]):
        starts = np.concatenate([starts, leap.take(starts)])
    starts.sort()
    return 4 * starts[: starts.searchsorted(end)]
