"""Lines in the kernel's own format and CSV, beside what ct_seq_show prints of such entries."""

from __future__ import annotations

import csv
import socket
import struct

import numpy as np
import pytest

from ctobserve.analysis.printed import printed
from ctobserve.capture.capture import Host
from ctobserve.capture.extensions import EXTENSION, extensions_dtype, extensions_of
from ctobserve.capture.records import FLAG_COUNTERS, FLAG_EXT, FLAG_START, HEADER_BYTES, RecordKind, entries_of
from ctobserve.clock import Clock
from ctobserve.host.symbols import Symbols
from ctobserve.model import ENTRY, IPS_ASSURED, IPS_CONFIRMED, IPS_HW_OFFLOAD, IPS_OFFLOAD, IPS_SEEN_REPLY, PROTOCOLS, join, pick
from ctobserve.render.addresses import addresses
from ctobserve.render.columns import joined
from ctobserve.render.csvout import HEADER, csv_lines
from ctobserve.render.kernel_lines import kernel_lines
from ctobserve.render.lines import entry_lines
from ctobserve.render.rows import entry_rows
from tests.unit.reading import flat
from tests.unit.samples import LAYOUT, packed, record, records

S = 1_000_000_000
CLOCK = Clock(monotonic_ns=S, wall_ns=1_700_000_000 * S, jiffies=0xFFFFFF00, hz=250)
KERNEL = Host("6.1.0-test", "x86_64", 7, trackers=frozenset(PROTOCOLS))
SEEN, SURE = IPS_CONFIRMED | IPS_SEEN_REPLY, IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_ASSURED


def made(**fields):
    """A walked record with 29 s to live, no zone, the reference of the hash table."""
    defaults = {"ts": S, "status": SEEN, "timeout": 0xFFFFFF00 + 29 * 250 - (1 << 32), "zone_dir": 3, "bucket": (1, 2)}
    use = fields.pop("use", 1)
    nat = fields.pop("raw", {})
    flags, extra = fields.pop("flags", 0), fields.pop("extra", b"")
    one = records(record(RecordKind.WALK, fields.pop("ct", 1), **(defaults | fields)))
    one["flags"] = flags
    one["extra"][0, : len(extra)] = np.frombuffer(extra, np.uint8)
    raw = one.view(extensions_dtype(LAYOUT))
    raw["use"] = use
    for name, value in nat.items():
        raw[name] = value
    return one


def lines(*some, kernel=KERNEL, clock=CLOCK):
    all_ = join(some)
    text = "\n".join(kernel_lines(entries_of(all_), extensions_of(all_, extensions_dtype(LAYOUT)), clock, kernel))
    return text.split("\n")


def test_tcp_with_state_and_assured():
    assert lines(made(proto=6, tcp_state=3, status=SURE, sport=40000, dport=80, mark=7)) == [
        "ipv4     2 tcp      6 29 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=40000 dport=80 "
        "src=10.0.0.2 dst=10.0.0.1 sport=80 dport=40000 [ASSURED] mark=7 zone=0 use=2"
    ]


def test_nat_is_the_reply_as_it_is():
    entry = made(status=SEEN | 1 << 5, dst1=packed("192.0.2.9"), dport1=1024)
    assert lines(entry)[0].endswith("sport=1000 dport=53 src=10.0.0.2 dst=192.0.2.9 sport=53 dport=1024 mark=0 zone=0 use=2")


def test_ipv6_is_written_out_in_full():
    assert lines(made(src="fd00:1::1", dst="fd00:1::2", status=IPS_CONFIRMED)) == [
        "ipv6     10 udp      17 29 src=fd00:0001:0000:0000:0000:0000:0000:0001 dst=fd00:0001:0000:0000:0000:0000:0000:0002 "
        "sport=1000 dport=53 [UNREPLIED] src=fd00:0001:0000:0000:0000:0000:0000:0002 "
        "dst=fd00:0001:0000:0000:0000:0000:0000:0001 sport=53 dport=1000 mark=0 zone=0 use=2"
    ]


@pytest.mark.parametrize(
    ("fields", "between"),
    [
        ({"proto": 1, "sport": 77, "dport": 0x0800}, "icmp     1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=77 src="),
        ({"proto": 58, "sport": 5, "dport": 0x8000}, "icmpv6   58 29 src=10.0.0.1 dst=10.0.0.2 type=128 code=0 id=5 src="),
        ({"proto": 253, "sport": 0, "dport": 0}, "unknown  253 29 src=10.0.0.1 dst=10.0.0.2 src="),
        ({"proto": 136}, "udplite  136 29 src=10.0.0.1 dst=10.0.0.2 sport=1000 dport=53 src="),
        (
            {"proto": 132, "raw": {"sctp_state": 4}},
            "sctp     132 29 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1000 ",
        ),
        ({"proto": 132, "raw": {"sctp_state": 77}}, "sctp     132 29 77 src="),
        ({"proto": 33, "raw": {"dccp_state": 3}}, "dccp     33 29 PARTOPEN src=10.0.0.1 dst=10.0.0.2 sport=1000 dport=53 src="),
        (
            {"proto": 47, "sport": 0, "dport": 0xBEEF, "raw": {"gre_timeout": 30 * 250, "gre_stream_timeout": 180 * 250}},
            "gre      47 29 timeout=30, stream_timeout=180 src=10.0.0.1 dst=10.0.0.2 srckey=0x0 dstkey=0xbeef src=",
        ),
    ],
)
def test_what_each_tracker_prints(fields, between):
    (line,) = lines(made(**fields))
    assert line.startswith("ipv4     2 " + between)


def test_a_protocol_without_tracker_is_generic():
    (line,) = lines(made(proto=33, raw={"dccp_state": 3}), kernel=KERNEL._replace(trackers=frozenset((1, 6, 17, 58))))
    assert line.startswith("ipv4     2 unknown  33 29 src=10.0.0.1 dst=10.0.0.2 src=10.0.0.2 ")


@pytest.mark.parametrize(("bits", "word"), [(IPS_OFFLOAD, "[OFFLOAD]"), (IPS_OFFLOAD | IPS_HW_OFFLOAD, "[HW_OFFLOAD]")])
def test_offloaded_entries_have_no_timeout_and_no_state(bits, word):
    (line,) = lines(made(proto=6, tcp_state=3, status=SURE | bits))
    assert line.startswith("ipv4     2 tcp      6 src=10.0.0.1 ")
    assert line.endswith(f"dport=1000 {word} mark=0 zone=0 use=2")


def test_zones_by_direction():
    both, original, reply = (lines(made(zone=9, zone_dir=direction))[0] for direction in (3, 1, 2))
    assert both.endswith("dport=1000 mark=0 zone=9 use=2")
    assert "dport=53 zone-orig=9 src=" in original and original.endswith("dport=1000 mark=0 use=2")
    assert reply.endswith("dport=1000 zone-reply=9 mark=0 use=2")


def test_counters_start_and_references():
    extra = struct.pack("<QQQQQB", 3, 300, 2, 1 << 40, CLOCK.wall_ns - 61 * S, 112)
    plain, counted = lines(
        made(status=IPS_CONFIRMED), made(status=IPS_CONFIRMED, flags=FLAG_COUNTERS | FLAG_START | FLAG_EXT, extra=extra, use=4)
    )
    assert plain.endswith("dport=53 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=53 dport=1000 mark=0 zone=0 use=2")
    assert counted.endswith(
        "dport=53 packets=3 bytes=300 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=53 dport=1000 "
        "packets=2 bytes=1099511627776 mark=0 zone=0 delta-time=61 use=5"
    )


def test_extensions_that_were_not_copied_are_zero():
    (detail,) = extensions_of(made(extra=b"\xff" * 41), extensions_dtype(LAYOUT))
    assert (detail["packets"].tolist(), detail["start_ns"], detail["ext_bytes"], detail["has_ext"]) == ([0, 0], 0, 0, False)
    (detail,) = extensions_of(made(flags=FLAG_EXT, extra=b"\0" * 40 + b"\x70"), extensions_dtype(LAYOUT))
    assert (detail["ext_bytes"], detail["has_ext"], detail["has_counters"]) == (112, True, False)


def test_picked_and_joined_records_are_whole():
    one, two = made(ct=1, use=7), made(ct=2, use=8)
    both = join([one, two])
    assert extensions_of(pick(both, np.array([False, True])), extensions_dtype(LAYOUT))["use"].tolist() == [8]
    assert extensions_of(both[:0], extensions_dtype(LAYOUT))["use"].tolist() == []


def test_details_of_a_kernel_without_some_members():
    layout = LAYOUT.__class__(**(LAYOUT.as_dict() | {"extensions": {"use": 0}}))
    (detail,) = extensions_of(made(proto=132), extensions_dtype(layout))
    assert (detail["use"], detail["state"], detail["secmark"]) == (1, 0, 0)
    assert extensions_dtype(layout).itemsize == HEADER_BYTES + layout.raw_bytes


def test_security_contexts_that_are_known():
    kernel = KERNEL._replace(security_contexts={0: "system_u:object_r:unlabeled_t:s0"})
    none, named = lines(made(raw={"secmark": 5}), made(), kernel=kernel)
    assert none.endswith("mark=0 zone=0 use=2") and named.endswith("mark=0 secctx=system_u:object_r:unlabeled_t:s0 zone=0 use=2")


def test_in_order_of_buckets_without_what_the_kernel_would_not_print():
    some = join(
        [
            made(ct=1, bucket=(7, 1), dport=7),
            made(ct=2, bucket=(3, 1), dport=3),
            made(ct=3, dport=1, timeout=0xFFFFFF00),
            made(ct=4, dport=2, reply_only=1),
        ]
    )
    assert printed(entries_of(some), CLOCK).tolist() == [True, True, False, False]
    assert [line.split("dport=")[1].split()[0] for line in lines(some[:2])] == ["3", "7"]


def test_trackers_are_those_with_a_symbol():
    names = ("generic", "tcp", "udp", "icmp")
    assert Symbols({f"nf_conntrack_l4proto_{name}": 1 for name in names}).trackers() == {1, 6, 17}
    assert Symbols({"nf_conntrack_in": 1}).trackers() == frozenset(PROTOCOLS)


def test_csv_has_the_facts_of_json():
    some = join(
        [
            made(ct=1, proto=6, tcp_state=3, zone=4, mark=5, chain=(1, 3)),
            made(ct=2, proto=1, sport=77, dport=0x0800, bucket=(0xFFFFFFFF, 8)),
            made(ct=3, src="fd00::1", dst="fd00::2", netns=0),
            made(ct=4, proto=47, dport=9),
            made(ct=5, proto=253, master=1, status=SURE | 1),
        ]
    )
    entries = entries_of(some)
    rows = entry_rows(entries, CLOCK)
    rows[4]["master"] = rows[0]["original"]
    read = list(csv.DictReader("\n".join(csv_lines(entries, entries[:1], CLOCK)).split("\n")))
    assert list(read[0]) == list(HEADER)
    assert [{name: value for name, value in row.items() if value} for row in read] == [flat(row) for row in rows]


def test_no_entry_of_a_large_table_is_left_out():
    entries = np.zeros(50_000, ENTRY)
    entries["addr"][:, :, :4] = np.random.default_rng(1).integers(0, 255, (len(entries), 4, 4))
    entries["port"] = np.random.default_rng(2).integers(0, 65535, (len(entries), 4))
    entries["l3num"], entries["protonum"], entries["zone_dir"], entries["has_ct"] = 2, 6, 3, 1
    count = sum(text.count("\n") + 1 for text in kernel_lines(entries, np.zeros(len(entries), EXTENSION), CLOCK, KERNEL))
    assert count == len(entries)
    count = sum(text.count("\n") + 1 for text in csv_lines(entries, entries[:0], CLOCK))
    assert count == len(entries) + 1


def test_every_address_is_written_as_the_c_library_writes_it():
    random = np.random.default_rng(3)
    groups = random.integers(0, 65536, (20_000, 8)) * (random.random((20_000, 8)) < random.random((20_000, 1)))
    groups[random.random(groups.shape) < 0.2] &= 255
    special = ("::", "::1", "::ffff:192.0.2.1", "::192.0.2.1", "fe80::", "1:0:0:2:0:0:0:3", "1:0:0:2:3:0:0:4", "0:1:2:3:4:5:6:7")
    some = np.concatenate([groups.astype(">u2").view(np.uint8), np.array([packed(one) for one in special], np.uint8)])
    for families in ((2,), (10,), (2, 10)):
        entries = np.zeros(len(some), ENTRY)
        entries["addr"][:, 2], entries["l3num"] = some, random.choice(families, len(some))
        size = {2: 4, 10: 16}
        kept = [(family, one.tobytes()[: size[family]]) for family, one in zip(entries["l3num"].tolist(), some, strict=True)]
        short = [socket.inet_ntop(*one) for one in kept]
        full = [one.hex(":", 2) if family == 10 else socket.inet_ntop(family, one) for family, one in kept]
        six = entries["l3num"] == 10
        assert joined([addresses(entries["addr"][:, 2], six)]).split("\n") == short
        assert joined([addresses(entries["addr"][:, 2], six, full=True)]).split("\n") == full
        pairs = (addresses(entries["addr"][at : at + 2, 2], six[at : at + 2]) for at in range(0, 200, 2))
        few = [joined([pair], count=2).split("\n") for pair in pairs]
        assert [one for pair in few for one in pair] == short[:200]
    assert len(addresses(entries["addr"][:0, 0], six[:0])) == 0


def test_an_offloaded_entry_has_no_timeout_in_any_format():
    entry = entries_of(made(proto=6, tcp_state=3, status=SURE | IPS_OFFLOAD))
    (read,) = csv.DictReader("\n".join(csv_lines(entry, entry[:0], CLOCK)).split("\n"))
    (row,) = entry_rows(entry, CLOCK)
    _, line = entry_lines(entry, CLOCK, {})
    assert (read["timeout_s"], row["timeout_s"], line.split()[2]) == ("", None, "-")
    assert line.endswith(" ASSURED,OFFLOAD") and "ESTABLISHED" not in line, "nor a state, in text"
    hard = entries_of(made(proto=6, tcp_state=3, status=SURE | IPS_OFFLOAD | IPS_HW_OFFLOAD))
    assert list(entry_lines(hard, CLOCK, {}))[1].endswith(" ASSURED,OFFLOAD,HW_OFFLOAD")
