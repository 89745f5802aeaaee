"""What a record says, an EVENT says: each kind by itself, and nothing that an earlier record left in the ring."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ctobserve.capture.decoder import Decoder
from ctobserve.capture.records import FLAG_COUNTERS, FLAG_ENTRY, FLAG_KILLED, FLAG_REPLY, FLAG_TEXT, RecordKind, entries_of
from ctobserve.event import (
    EVENT,
    HAS_COUNTERS,
    HAS_TEXT,
    NO_DIRECTION,
    ORIGINAL,
    REPLY,
    TEXT_BYTES,
    DestroyReason,
    DropReason,
    Events,
    Kind,
    entries_in,
)
from ctobserve.model import GRE, ICMP, TCP, UDP
from tests.unit.samples import packed, record, records

FUNCTIONS = [
    *("nf_ct_gc_expired.part.0", "early_drop", "nf_ct_iterate_cleanup", "act_ct", "kill_all", "gc_worker"),
    *("nf_conntrack_tcp_packet", "ctnetlink_del_conntrack", "device_cmp", "ip_vs_conn_drop_conntrack"),
    *("nf_ct_kill_acct", "nf_nat_inet_fn"),
]
AT = {name: number for number, name in enumerate(FUNCTIONS, 1)}
SIGNED = 1 << 54  # what arm64 may add to a return address in a frame
SYMBOLS = SimpleNamespace(containing=dict(enumerate(FUNCTIONS, 1)).get, unsigned=lambda address: address & ~SIGNED)
STALE = b"eth0\0stale bytes"


def decode(*made: np.void) -> Events:
    return Decoder(SYMBOLS).decode(records(*made)).events


def reason(**fields: object) -> tuple[DestroyReason, str]:
    (event,) = decode(record(RecordKind.DESTROY, 1, **fields))
    return DestroyReason(event["reason"]), event["detail"].decode()


def test_the_kinds_have_the_numbers_of_the_kernel_side():
    assert all(RecordKind[kind.name] == kind for kind in Kind)


def test_every_record_becomes_the_entry_it_copied():
    made = [
        record(RecordKind.INSERT, 1, ts=5),
        record(RecordKind.DROP, 2, has_ct=2, zone=3),
        record(RecordKind.UPDATE, 3, mark=4),
    ]
    for chosen in (made[:1], made):
        every = np.arange(len(chosen))
        assert entries_in(decode(*chosen), every).tobytes() == entries_of(records(*chosen)).tobytes()


def test_an_insert_says_nothing_but_its_entry():
    (event,) = decode(record(RecordKind.INSERT, 1, cpu=3, caller=9, portid=7, pid=5, comm=b"x", device=STALE, extra=255, hook=2))
    silent = np.zeros(1, EVENT)
    silent["entry"], silent["kind"], silent["cpu"] = event["entry"], Kind.INSERT, 3
    assert event.tobytes() == silent.tobytes()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"caller": AT["nf_ct_gc_expired.part.0"]}, (DestroyReason.TIMEOUT, "")),
        ({"caller": AT["early_drop"], "eviction": 7}, (DestroyReason.EARLY_DROP, "")),
        ({"caller": AT["gc_worker"]}, (DestroyReason.GC_EARLY_DROP, "")),
        ({"caller": AT["ctnetlink_del_conntrack"], "portid": 9}, (DestroyReason.DELETED, "")),
        ({"caller": AT["nf_conntrack_tcp_packet"]}, (DestroyReason.TCP_REUSE, "")),
        ({"caller": AT["nf_conntrack_tcp_packet"], "flags": FLAG_KILLED}, (DestroyReason.OTHER, "TCP RST before any reply")),
        (
            {"caller": AT["nf_ct_kill_acct"], "flags": FLAG_KILLED, "iterator": AT["nf_conntrack_tcp_packet"] | SIGNED},
            (DestroyReason.OTHER, "TCP RST before any reply"),
        ),
        (
            {"caller": AT["nf_ct_kill_acct"], "flags": FLAG_KILLED, "iterator": AT["nf_nat_inet_fn"]},
            (DestroyReason.OTHER, "output interface changed under masquerade"),
        ),
        (
            {"caller": AT["nf_nat_inet_fn"], "flags": FLAG_KILLED},
            (DestroyReason.OTHER, "output interface changed under masquerade"),
        ),
        ({"caller": AT["nf_ct_kill_acct"]}, (DestroyReason.OTHER, "nf_ct_kill_acct")),
        ({"caller": AT["ip_vs_conn_drop_conntrack"]}, (DestroyReason.IPVS, "")),
        ({"caller": AT["act_ct"]}, (DestroyReason.OTHER, "act_ct")),
        ({"caller": 99}, (DestroyReason.OTHER, "")),
        ({"caller": AT["nf_ct_iterate_cleanup"], "iterator": AT["kill_all"]}, (DestroyReason.NETNS_EXIT, "")),
        ({"caller": AT["nf_ct_iterate_cleanup"], "iterator": 99, "portid": 9}, (DestroyReason.FLUSHED, "")),
        ({"caller": AT["nf_ct_iterate_cleanup"], "iterator": 99}, (DestroyReason.OTHER, "")),
        ({"caller": AT["nf_ct_iterate_cleanup"], "iterator": AT["act_ct"]}, (DestroyReason.OTHER, "act_ct")),
        (
            {"caller": AT["nf_ct_iterate_cleanup"], "iterator": AT["device_cmp"]},
            (DestroyReason.OTHER, "masquerade interface went down"),
        ),
    ],
)
def test_why_an_entry_left(fields, expected):
    assert reason(**fields) == expected


def test_many_that_left_each_have_their_own_reason():
    made = [
        record(RecordKind.DESTROY, ct, caller=1 + ct % 6, portid=9 * (ct % 4 == 0), iterator=5 * (ct % 5 == 0))
        for ct in range(60)
    ]
    alone = [(event["reason"], event["detail"]) for one in made for event in decode(one)]
    assert [(event["reason"], event["detail"]) for event in decode(*made)] == alone


def test_a_freed_entry_was_never_confirmed_whatever_lay_in_its_record():
    (event,) = decode(record(RecordKind.FREE, 1, caller=AT["early_drop"], portid=9, eviction=7))
    assert (event["reason"], event["detail"], event["portid"]) == (DestroyReason.UNCONFIRMED, b"", 0)


def test_traffic_and_process_of_an_entry_that_leaves():
    traffic = np.zeros(TEXT_BYTES, np.uint8)
    traffic[:32] = np.array([3, 300, 2, 200], "<u8").view(np.uint8)
    fields = {"caller": 1, "extra": traffic, "pid": 4, "comm": b"conntrack\0stale", "portid": 8}
    counted, bare = decode(
        record(RecordKind.DESTROY, 1, flags=FLAG_COUNTERS, **fields), record(RecordKind.DESTROY, 2, **(fields | {"pid": 0}))
    )
    assert (counted["packets"].tolist(), counted["bytes"].tolist()) == ([3, 2], [300, 200]) and counted["has"] == HAS_COUNTERS
    assert (counted["pid"], counted["comm"], counted["portid"]) == (4, b"conntrack", 8)
    assert (bare["packets"].tolist(), bare["bytes"].tolist(), bare["has"], bare["comm"]) == ([0, 0], [0, 0], 0, b"")


def test_a_lost_packet_has_its_reason_process_and_device_without_stale_bytes():
    scanned = (1, 2, 3, 4)
    (full,) = decode(
        record(RecordKind.DROP, 0, has_ct=2, reason=DropReason.TABLE_FULL, hook=3, scanned=scanned, pid=3, comm=STALE)
    )
    assert (full["reason"], full["scanned"].tolist(), full["direction"], full["hook"]) == (
        DropReason.TABLE_FULL,
        [1, 2, 3, 4],
        ORIGINAL,
        0,
    )
    assert (full["pid"], full["comm"], full["device"]) == (3, b"eth0", b"")
    (clash,) = decode(record(RecordKind.DROP, 1, reason=DropReason.CLASH, ts=50, since=20, ifindex=2, device=STALE, extra=65))
    assert (clash["since_alloc_ns"], clash["ifindex"], clash["device"], clash["text"], clash["has"]) == (30, 2, b"eth0", b"", 0)
    assert clash["scanned"].tolist() == [0, 0, 0, 0]


def test_an_invalid_packet_has_the_kernels_words_its_hook_and_its_direction():
    words = np.frombuffer(b"invalid new\0left by another".ljust(TEXT_BYTES, b"!"), np.uint8)
    fields = {"has_ct": 0, "reason": DropReason.INVALID, "hook": 3, "extra": words, "tcp_flags": 0x14}
    unknown, reply, silent = decode(
        record(RecordKind.DROP, 0, proto=TCP, flags=FLAG_TEXT, **fields),
        record(RecordKind.DROP, 0, flags=FLAG_TEXT | FLAG_ENTRY | FLAG_REPLY, **fields),
        record(RecordKind.DROP, 0, flags=FLAG_ENTRY, **fields),
    )
    assert (unknown["text"], unknown["has"], unknown["hook"]) == (b"invalid new", HAS_TEXT, 3)
    assert [event["direction"] for event in (unknown, reply, silent)] == [NO_DIRECTION, REPLY, ORIGINAL]
    assert [event["tcp_flags"] for event in (unknown, reply, silent)] == [0x14, 0, 0], "UDP has none"
    assert (silent["text"], silent["has"]) == (b"", 0)


def test_a_packet_that_a_helper_drops_has_the_helpers_words_and_its_direction():
    words = np.frombuffer(b"cannot add expectation\0and more".ljust(TEXT_BYTES, b"!"), np.uint8)
    fields = {
        "reason": DropReason.HELPER,
        "extra": words,
        "ifindex": 2,
        "device": np.frombuffer(b"eth0".ljust(16, b"\0"), "S16")[0],
    }
    asked, answered = decode(
        record(RecordKind.DROP, 1, flags=FLAG_TEXT | FLAG_ENTRY, **fields),
        record(RecordKind.DROP, 1, flags=FLAG_TEXT | FLAG_ENTRY | FLAG_REPLY, **fields),
    )
    assert (asked["text"], asked["has"], asked["device"]) == (b"cannot add expectation", HAS_TEXT, b"eth0")
    assert (asked["direction"], answered["direction"], asked["entry"]["has_ct"], asked["hook"]) == (ORIGINAL, REPLY, 1, 0)


def test_a_refused_icmp_error_has_the_tuple_of_the_packet_that_it_is_about():
    """Where an entry has its reply tuple; ports are those of protocols that have some."""
    error = {"has_ct": 0, "reason": DropReason.ERROR, "proto": ICMP, "src": "fd00::1", "dst": "fd00::2"}
    error |= {"sport": 0, "dport": 0x0304}
    about = {"protonum1": UDP, "l3num1": 10, "sport1": 77, "dport1": 53}
    told, tunnelled, silent, other, lost = decode(
        record(RecordKind.DROP, 0, **error | about),
        record(RecordKind.DROP, 0, **error | about | {"protonum1": GRE}),
        record(RecordKind.DROP, 0, **error | {"l3num1": 0}),
        record(RecordKind.DROP, 0, **error | about | {"proto": GRE}),
        record(RecordKind.DROP, 0, **error | about | {"reason": DropReason.DYING}),
    )
    inner = told["inner"]
    assert (inner["l3num"], inner["protonum"], inner["port"].tolist()) == (10, UDP, [77, 53])
    assert inner["addr"].tolist() == [packed("fd00::2"), packed("fd00::1")]
    assert (tunnelled["inner"]["protonum"], tunnelled["inner"]["port"].tolist()) == (GRE, [0, 0])
    assert [event["inner"]["l3num"] for event in (silent, other, lost)] == [0, 0, 0]
    assert [event["entry"]["port"][:2].tolist() for event in (told, other)] == [[0, 0x0304], [0, 0]]


def test_confirms_and_updates():
    confirm, unknown, update = decode(
        record(RecordKind.CONFIRM, 1, ts=50, since=20),
        record(RecordKind.CONFIRM, 1, ts=50),
        record(RecordKind.UPDATE, 1, changes=1 << 5),
    )
    assert (confirm["since_alloc_ns"], unknown["since_alloc_ns"], update["changes"]) == (30, 0, 1 << 5)
    assert update["portid"] == 0
