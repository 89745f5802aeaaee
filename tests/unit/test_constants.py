"""What is written in C and in Python is the same on both sides; what can be, is written once (programs/constants.py)."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import ctobserve
from ctobserve import event
from ctobserve.capture import records
from ctobserve.capture.extensions import extensions_dtype
from ctobserve.capture.records import record_dtype
from ctobserve.capture.table_reader import GATHERED, LENGTHS
from ctobserve.documents.events import CTINFO
from ctobserve.model import STATUS
from ctobserve.programs.attachment import PACKET_CLASS
from ctobserve.programs.constants import CONSTANTS, SLOTS, WINDOW
from ctobserve.programs.given import NAMES
from ctobserve.programs.hooks import HOOKS
from ctobserve.programs.loader import Variables
from tests.unit.csource import TYPES, compiled, defined, struct, text, texts
from tests.unit.samples import LAYOUT

ROOT = Path(ctobserve.__file__).parents[1]
HEADER = text("ctobserve.h")


def enumerated(name: str, prefix: str) -> dict[str, int]:
    """The members of an enum, their prefix left out."""
    body = re.search(rf"^enum {name} \{{(.*?)^\}};", HEADER, re.M | re.S)
    assert body
    return {member: int(value) for member, value in re.findall(rf"^\t{prefix}_(\w+) = (\d+),", body[1], re.M)}


def test_kinds_of_records_have_the_same_numbers():
    kinds = {kind.name: kind.value for kind in records.RecordKind}
    assert enumerated("kind", "KIND") == kinds | {"COUNT": max(kinds.values()) + 1}


def test_kinds_of_events_are_those_of_their_records():
    assert {kind.name: kind.value for kind in event.Kind}.items() <= enumerated("kind", "KIND").items()


def test_reasons_of_lost_packets_have_the_same_numbers():
    assert enumerated("drop_reason", "DROP") == {reason.name: reason.value for reason in event.DropReason}


def test_flags_of_a_record_have_the_same_bits():
    theirs = {name: int(value) for name, value in defined(HEADER).items() if name.startswith("FLAG_")}
    assert theirs == {name: value for name, value in vars(records).items() if name.startswith("FLAG_")}
    assert sorted(theirs.values()) == [1 << bit for bit in range(len(theirs))]


def test_the_addresses_of_this_boot_come_in_the_order_in_which_they_are_read():
    assert re.findall(r"^\tu64 (\w+);", struct(HEADER, "config"), re.M) == list(Variables._fields)
    assert struct(HEADER, "config").count(";") == len(Variables._fields) + 1, "all of them are u64"


def test_what_both_sides_use_is_written_once():
    names = [*CONSTANTS, *NAMES]
    assert len(names) == len(set(names))
    assert not set(names) & defined(texts()).keys()
    used = set(re.findall(r"\w+", re.sub(r"/\*.*?\*/", "", texts(), flags=re.S)))
    assert set(names) <= used


def test_bits_of_the_status_are_named_as_their_place_says():
    bits = {name: value for name, value in CONSTANTS.items() if name.startswith("IPS_")}
    assert bits == {name: 1 << STATUS.index(name.removeprefix("IPS_").lower()) for name in bits}


def test_bits_of_the_kernels_own_have_its_numbers():
    ours = {name: CONSTANTS[name] for name in ("IPS_ASSURED", "IPS_CONFIRMED", "IPS_DYING")}
    ours["1 << IPCT_NEW | 1 << IPCT_RELATED | 1 << IPCT_DESTROY"] = int(defined(text("update.c"))["IPCT_BEGINS_OR_ENDS"])
    assert compiled("#include <linux/netfilter/nf_conntrack_common.h>", ours) == ours


def test_protocols_have_their_numbers():
    ours = {name: number for name, number in CONSTANTS.items() if name.startswith("IPPROTO_")}
    assert ours == {name: getattr(socket, name) for name in ours} and len(ours) == 3


def test_the_maps_of_a_walk_are_read_as_they_are_written():
    sizes = f"#define SLOTS {SLOTS}\n#define WINDOW {WINDOW}\n"
    preamble = TYPES + sizes + struct(text("walk.c"), "gathered") + "\n" + struct(text("lengths.c"), "window")
    reply = GATHERED["reply"].base
    places = {
        "offsetof(struct gathered, records)": GATHERED.fields["records"][1],
        "offsetof(struct gathered, replies)": GATHERED.fields["replies"][1],
        "offsetof(struct gathered, reply)": GATHERED.fields["reply"][1],
        "offsetof(struct gathered, reply[0].ct) - offsetof(struct gathered, reply)": reply.fields["ct"][1],
        "offsetof(struct gathered, reply[0].bucket) - offsetof(struct gathered, reply)": reply.fields["bucket"][1],
        "sizeof(((struct gathered *)0)->reply[0])": reply.itemsize,
        "sizeof(struct gathered)": GATHERED.itemsize,
        "offsetof(struct window, originals)": LENGTHS.fields["originals"][1],
        "offsetof(struct window, length)": LENGTHS.fields["length"][1],
        "sizeof(((struct window *)0)->length[0])": LENGTHS["length"].base.itemsize,
        "sizeof(struct window)": LENGTHS.itemsize,
    }
    assert compiled(preamble, places) == places


def test_a_class_of_packets_is_read_as_it_is_written():
    assert re.findall(r"^\tu(\d+) (\w+);", struct(text("packets.c"), "packet_class"), re.M) == [
        ("32", "netns"),
        ("16", "hook"),
        ("16", "state"),
        ("32", "cpu"),
    ]
    assert PACKET_CLASS.format == "<IHHI"
    assert CTINFO.index("INVALID") == int(defined(text("packets.c"))["STATE_INVALID"])


def test_extensions_lie_in_a_record_where_the_walk_puts_them():
    """Each by a read of so many bytes to so many behind the beginning of `extra`."""
    both = text("destroy.c") + text("walk.c")
    reads = re.findall(r"bpf_probe_read_kernel\(record->extra(?: \+ (\w+))?, (\w+), \(void \*\)", both)
    members = extensions_dtype(LAYOUT).fields
    counters = [members[name] for name in ("packets0", "bytes0", "packets1", "bytes1")]
    assert [offset - records.EXTRA for _, offset in counters] == [0, 8, 16, 24]
    assert {(CONSTANTS.get(place, 0), CONSTANTS.get(size) or int(size)) for place, size in reads} == {
        (0, sum(kind.itemsize for kind, _ in counters)),
        *((members[name][1] - records.EXTRA, members[name][0].itemsize) for name in ("start_ns", "ext_bytes")),
    }


def test_the_tuple_inside_an_icmp_error_lies_where_an_entry_has_its_reply():
    assert defined(HEADER)["CT_INNER"] == "(CT_TUPLE + TH_BYTES)"
    fields = record_dtype(LAYOUT).fields
    for name in ("src", "sport", "l3num", "dst", "dport", "protonum"):
        assert fields[f"{name}1"][1] - fields[f"{name}0"][1] == LAYOUT.tuplehash_bytes


def test_pages_say_how_many_buckets_early_drop_scans():
    sentence = re.compile(r"(\d+) buckets (?:that early_drop|the kernel) (?:scanned|looked into)")
    pages = [ROOT / "README.md", ROOT / "bpf/evict.c", *ROOT.glob("docs/*.md")]
    said = {page.name: sentence.findall(page.read_text()) for page in pages}
    assert {"README.md", "evict.c"} <= {name for name, numbers in said.items() if numbers}
    assert {number for numbers in said.values() for number in numbers} == {defined(text("evict.c"))["RANGE"]}


def test_every_hook_has_its_program_of_the_form_that_it_says():
    written = {name: form for form, name in re.findall(r"^(ENTRY|RETURN|KPROBE_ENTRY)\((\w+), ", texts(), re.M)}
    written |= dict.fromkeys(re.findall(r"^int (\w+)\(struct pt_regs \*ctx\)$", texts(), re.M), "KPROBE_ENTRY")
    wanted = {hook.program: "RETURN" if hook.at_return else "KPROBE_ENTRY" if hook.kprobe_only else "ENTRY" for hook in HOOKS}
    assert written == wanted | {"call_begin": "KPROBE_ENTRY"}
