"""Expectations as the kernel tells them: by netlink, and in /proc."""

from __future__ import annotations

import socket
import struct

import numpy as np
import pytest

from ctobserve.host import expectations
from ctobserve.host.dump import WITH_HELPER, decode
from ctobserve.host.expectations import ROWS, parse
from ctobserve.model import EXPECTATION, UNTIMED
from tests.unit.test_dump import V4, V6, attribute, message, nested, ports, side, udp


def expected(family: int, src: str, dst: str, dport: int, *more: bytes) -> bytes:
    mask = "255.255.255.255" if family == V4 else ":".join(["ffff"] * 8)
    return message(
        family,
        side(1, family, dst, src, 6, *ports(40001, 21)),
        side(2, family, src, dst, 6, *ports(0, dport)),
        side(3, family, mask, mask, 6, *ports(0, 65535)),
        attribute(4, struct.pack(">I", 298)),
        attribute(5, struct.pack(">I", 77)),
        *more,
    )


def text(kind: int, word: bytes) -> bytes:
    return attribute(kind, word + b"\0")


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def test_messages_become_rows():
    first = expected(V4, "10.9.0.2", "10.9.0.1", 7680, text(6, b"ftp"), number(8, 0), number(9, 0))
    second = expected(V6, "fd09::2", "fd09::1", 6446, text(6, b"sip-5061"), number(8, 3), number(9, 2))
    found = decode(first + second + message(0, kind=3), ROWS)
    assert found["helper"].tolist() == [b"ftp", b"sip-5061"]
    assert found["port"].tolist() == [[0, 7680, 0, 65535, 40001, 21], [0, 6446, 0, 65535, 40001, 21]]
    assert found["l3num"].tolist() == [V4, V6] and found["protonum"].tolist() == found["master_protonum"].tolist() == [6, 6]
    assert (found["left_s"].tolist(), found["flags"].tolist(), found["class"].tolist()) == ([298, 298], [0, 3], [0, 2])
    assert found["addr"][0, 0].tobytes() == found["addr"][0, 5].tobytes() == socket.inet_pton(V4, "10.9.0.2").ljust(16, b"\0")
    assert found["addr"][1, 4].tobytes() == socket.inet_pton(V6, "fd09::1")
    assert found["addr"][0, 3].tobytes() == b"\xff" * 4 + bytes(12)


def test_a_helper_without_a_name_is_none_and_a_long_one_is_cut():
    assert decode(expected(V4, "10.9.0.2", "10.9.0.1", 1), ROWS)["helper"].tolist() == [b""]
    assert decode(expected(V4, "10.9.0.2", "10.9.0.1", 1, text(6, b"x" * 40)), ROWS)["helper"].tolist() == [b"x" * 16]


def test_entries_come_with_their_helpers():
    helped = udp(1000, nested(5, text(1, b"tftp")))
    found = decode(udp(999) + helped + udp(1001, attribute(18, b"\0\7")), WITH_HELPER)
    assert found["helper"].tolist() == [b"", b"tftp", b""] and found["port"][:, 0].tolist() == [999, 1000, 1001]


LISTED = """\
298 l3proto = 2 proto=6 src=10.9.0.2 dst=10.9.0.1 sport=0 dport=7680 ftp
- l3proto = 2 proto=17 src=0.0.0.0 dst=10.9.0.1 sport=0 dport=5060 PERMANENT,INACTIVE sip/signalling
12 l3proto = 2 proto=47 src=10.9.0.2 dst=10.9.0.1 srckey=0x0 dstkey=0x1f pptp
3 l3proto = 10 proto=6 src=fd09:0000:0000:0000:0000:0000:0000:0002 dst=fd09::1 sport=0 dport=9 Q.931
5 l3proto = 2 proto=6 src=10.9.0.2 dst=10.9.0.1 sport=1 dport=2 USERSPACE
what no kernel says
"""


def test_lines_of_proc_become_rows_that_say_nothing_of_masters():
    found = parse(LISTED.splitlines())
    assert found["helper"].tolist() == [b"ftp", b"sip", b"pptp", b"Q.931", b""]
    assert found["left_s"].tolist() == [298, UNTIMED, 12, 3, 5]
    assert found["flags"].tolist() == [0, 3, 0, 0, 4]
    assert found["protonum"].tolist() == [6, 17, 47, 6, 6] and found["l3num"].tolist() == [V4, V4, V4, V6, V4]
    assert found["port"][:, :2].tolist() == [[0, 7680], [0, 5060], [0, 31], [0, 9], [1, 2]]
    assert not found["has_master"].any() and not found["netns"].any()
    assert found["addr"][3, 0].tobytes() == socket.inet_pton(V6, "fd09::2")
    assert len(parse([])) == 0 and parse([]).dtype == EXPECTATION


def test_what_proc_and_netlink_say_of_one_expectation_is_the_same():
    ours = decode(expected(V4, "10.9.0.2", "10.9.0.1", 7680, text(6, b"ftp"), number(8, 0)), ROWS)
    theirs = parse(LISTED.splitlines()[:1])
    for name in ("helper", "left_s", "flags", "l3num", "protonum"):
        assert (ours[name] == theirs[name]).all(), name
    for name in ("addr", "port"):
        assert np.array_equal(ours[name][:, :2], theirs[name][:, :2])


def test_a_file_that_is_not_there_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(expectations, "PROC", tmp_path / "none")
    with pytest.raises(OSError, match="No such file"):
        expectations.of_proc()
