"""BTF as a list of types that can be cut and changed, and written again: what tests take away from a kernel."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

HEADER = struct.Struct("<HBBIIIII")
MAGIC = 0xEB9F
ARRAY, STRUCT, UNION, ENUM, FUNC, FUNC_PROTO, DATASEC, ENUM64 = 3, 4, 5, 6, 12, 13, 15, 19
MEMBERS = {STRUCT: "nrr", UNION: "nrr", ENUM: "nr", FUNC_PROTO: "nr", DATASEC: "rrr", ENUM64: "nrr"}
FIXED = {1: 1, 14: 1, 17: 1}
REFERS = frozenset({2, 8, 9, 10, 11, 12, 13, 14, 17, 18})  # kinds whose third word is a type


class Member(NamedTuple):
    """Of a struct: name, type, offset in bits; of an enum: name, value; of a prototype: name, type."""

    name: str
    words: tuple[int, ...]


class Type(NamedTuple):
    """One type. `size` is also the type that it refers to; `rest` are the words between header and members."""

    name: str
    kind: int
    flag: int
    size: int
    members: tuple[Member, ...] = ()
    rest: tuple[int, ...] = ()
    linkage: int = 0

    def without(self, member: str) -> Type:
        """The same without a member of this name."""
        assert any(item.name == member for item in self.members), f"{self.name} has no {member}"
        return self._replace(members=tuple(item for item in self.members if item.name != member))


def parse(data: bytes, base_strings: bytes = b"") -> list[Type]:
    """The types of one file in their order; its strings go on where `base_strings` end."""
    magic, _, _, header, type_at, type_bytes, string_at, string_bytes = HEADER.unpack_from(data)
    assert magic == MAGIC
    strings = base_strings + data[header + string_at : header + string_at + string_bytes]

    def name(at: int) -> str:
        return strings[at : strings.index(b"\0", at)].decode()

    at, end, found = header + type_at, header + type_at + type_bytes, []
    while at < end:
        name_at, info, size = struct.unpack_from("<III", data, at)
        at += 12
        kind, count = info >> 24 & 31, info & 0xFFFF
        fixed = 3 if kind == ARRAY else FIXED.get(kind, 0)
        rest = struct.unpack_from(f"<{fixed}I", data, at)
        at += 4 * fixed
        members = []
        shape = MEMBERS.get(kind, "")
        for _ in range(count if shape else 0):
            words = struct.unpack_from(f"<{len(shape)}I", data, at)
            at += 4 * len(shape)
            members.append(Member(name(words[0]), words[1:]) if shape[0] == "n" else Member("", words))
        found.append(Type(name(name_at), kind, info >> 31, size, tuple(members), rest, 0 if shape else count))
    return found


def strings_of(data: bytes) -> bytes:
    """The strings of one file, for `parse` of one that goes on where it ends."""
    _, _, _, header, _, _, at, length = HEADER.unpack_from(data)
    return data[header + at : header + at + length]


def written(types: Iterable[Type], base_string_bytes: int = 0) -> bytes:
    """As the kernel has them in /sys/kernel/btf; with `base_string_bytes` as of a module on top of a vmlinux with so many."""
    strings, places = bytearray(b"" if base_string_bytes else b"\0"), {"": 0}

    def place(name: str) -> int:
        if name not in places:
            places[name] = base_string_bytes + len(strings)
            strings.extend(name.encode() + b"\0")
        return places[name]

    body = bytearray()
    for item in types:
        shape = MEMBERS.get(item.kind, "")
        count = len(item.members) if shape else item.linkage
        body += struct.pack("<III", place(item.name), item.flag << 31 | item.kind << 24 | count, item.size)
        body += struct.pack(f"<{len(item.rest)}I", *item.rest)
        for member in item.members:
            words = (place(member.name), *member.words) if shape[0] == "n" else member.words
            body += struct.pack(f"<{len(words)}I", *words)
    return HEADER.pack(MAGIC, 1, 0, HEADER.size, 0, len(body), len(body), len(strings)) + bytes(body) + bytes(strings)


def references(item: Type) -> list[int]:
    """Numbers of the types that this one is made of."""
    found = [item.size] if item.kind in REFERS else []
    if item.kind == ARRAY:
        found += item.rest[:2]
    if item.kind in MEMBERS and item.kind not in (ENUM, ENUM64):
        found += [member.words[0] for member in item.members]
    return found


def renumbered(item: Type, numbers: dict[int, int]) -> Type:
    """The same, made of types by their new numbers."""
    if item.kind in REFERS:
        item = item._replace(size=numbers[item.size])
    if item.kind == ARRAY:
        item = item._replace(rest=(numbers[item.rest[0]], numbers[item.rest[1]], item.rest[2]))
    if item.kind in MEMBERS and item.kind not in (ENUM, ENUM64):
        members = tuple(part._replace(words=(numbers[part.words[0]], *part.words[1:])) for part in item.members)
        item = item._replace(members=members)
    return item
