from __future__ import annotations

import socket
import struct

import numpy as np
import pytest

from ctobserve.analysis.verify import key_of, without
from ctobserve.host.dump import DONE, DUMPED, ERROR, NO_STATE, decode, ends

V4, V6 = socket.AF_INET, socket.AF_INET6


def attribute(kind: int, *values: bytes) -> bytes:
    """One that holds a value, or, with the nested bit, others."""
    value = b"".join(values)
    return struct.pack("=HH", len(value) + 4, kind).ljust(4) + value.ljust(len(value) + 3 & ~3, b"\0")


def nested(kind: int, *inner: bytes) -> bytes:
    return attribute(kind | 0x8000, *inner)


def side(kind: int, family: int, src: str, dst: str, proto: int, *ports: bytes) -> bytes:
    first = 1 if family == V4 else 3
    addresses = [attribute(first + at, socket.inet_pton(family, text)) for at, text in enumerate((src, dst))]
    return nested(kind, nested(1, *addresses), nested(2, attribute(1, bytes([proto])), *ports))


def message(family: int, *attributes: bytes, kind: int = 0x100) -> bytes:
    body = struct.pack("=BBH", family, 0, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 0, 0) + body


def ports(one: int, other: int) -> tuple[bytes, bytes]:
    return attribute(2, struct.pack(">H", one)), attribute(3, struct.pack(">H", other))


def udp(sport: int, *more: bytes) -> bytes:
    original = side(1, V4, "10.0.0.1", "10.0.0.2", 17, *ports(sport, 53))
    reply = side(2, V4, "10.0.0.2", "10.0.0.1", 17, *ports(53, sport))
    return message(V4, original, reply, attribute(3, struct.pack(">I", 8)), attribute(7, struct.pack(">I", 29)), *more)


def test_messages_of_one_form_and_of_others_in_order():
    zone = attribute(18, struct.pack(">H", 7))
    mark = attribute(8, struct.pack(">I", 1))
    state = nested(4, nested(1, attribute(1, b"\3"), attribute(2, b"\7")))
    tcp = message(
        V6, side(1, V6, "fd00::1", "fd00::2", 6, *ports(9, 80)), side(2, V6, "fd00::2", "fd00::1", 6, *ports(80, 9)), state
    )
    icmp = [attribute(4, b"\0\5"), attribute(5, b"\x08"), attribute(6, b"\1")]
    ping = message(V4, side(1, V4, "10.0.0.1", "10.0.0.2", 1, *icmp), side(2, V4, "10.0.0.2", "10.0.0.1", 1, *icmp))
    done = message(0, kind=3)
    found = decode(udp(1000) + udp(1001) + tcp + udp(1002, zone) + ping + udp(1003, mark) + done)
    assert found["port"][:, 0].tolist() == [1000, 1001, 9, 1002, 5, 1003]
    assert found["port"][:, 1].tolist() == [53, 53, 80, 53, 0x0801, 53]
    assert found["zone"].tolist() == [0, 0, 0, 7, 0, 0], "a mark of the same length is no zone"
    assert found["state"].tolist() == [NO_STATE, NO_STATE, 3, NO_STATE, NO_STATE, NO_STATE]
    assert found["protonum"].tolist() == [17, 17, 6, 17, 1, 17]
    assert found["l3num"].tolist() == [V4, V4, V6, V4, V4, V4]
    assert found["left_s"][0] == 29 and found["status"][0] == 8
    assert found["addr"][2, 0].tobytes() == socket.inet_pton(V6, "fd00::1")
    assert found["addr"][0, 3].tobytes() == socket.inet_pton(V4, "10.0.0.1").ljust(16, b"\0")


def last(number: int, kind: int = DONE) -> bytes:
    """The end of a dump, with its result."""
    return struct.pack("=IHHIIi", 20, kind, 2, 0, 0, number)


def test_a_dump_ends_with_its_last_message():
    assert not ends(udp(1) + udp(2))
    assert ends(last(0)) and ends(udp(1) + last(0))
    assert ends(message(0, kind=DONE))
    assert len(decode(udp(1) + last(0))) == 1


@pytest.mark.parametrize("before", [b"", udp(1), udp(1) + udp(2)])
def test_a_dump_that_the_kernel_breaks_off_is_an_error_and_not_a_table(before):
    for kind in (DONE, ERROR):
        with pytest.raises(PermissionError):
            ends(before + last(-1, kind))
        with pytest.raises(OSError, match="Cannot allocate memory"):
            ends(before + last(-12, kind))


def test_a_value_that_looks_like_the_end_is_a_value():
    looks = attribute(77, last(-1)[4:])
    assert not ends(udp(1) + udp(2, looks))


def test_no_entries():
    assert len(decode(b"")) == 0
    assert len(decode(message(0, kind=3))) == 0


def test_keys_that_others_lack():
    made = decode(udp(1) + udp(2) + udp(2) + udp(3))
    keys, others = key_of(made, 7), key_of(made[:1], 7)
    assert without(keys, others)["port"][:, 0].tolist() == [2, 2, 3]
    assert len(without(keys, keys)) == 0
    assert len(without(keys, np.concatenate([keys, others]))) == 0, "joined keys are the same bytes"
    assert len(without(keys, key_of(made, 8))) == 4, "of another namespace"
    assert len(without(np.empty(0, keys.dtype), keys)) == 0
    assert len(key_of(np.empty(0, DUMPED), 7)) == 0
