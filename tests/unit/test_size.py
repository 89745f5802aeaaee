"""Memory, defaults, what other timeouts free, and how the entries and their rate are read, of made hosts and captures."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from ctobserve.analysis import size as sums
from ctobserve.analysis.time_left import of_listing, of_walk
from ctobserve.capture.capture import Allocation, NamespaceState
from ctobserve.capture.extensions import EXTENSION
from ctobserve.capture.read_via import ReadVia
from ctobserve.documents.size import SizeRequest, collect
from ctobserve.documents.size_parts import change_of, need_of, real, textbook
from ctobserve.errors import KernelLacks, NotPermitted
from ctobserve.event import Kind
from ctobserve.host import listing, slab
from ctobserve.host.listing import of_proc, parse_line
from ctobserve.host.slab import Slab, parse_slabinfo
from ctobserve.host.sysctls import SYSCTLS, timeout_of
from ctobserve.model import IPS_ASSURED, IPS_CONFIRMED, IPS_OFFLOAD, IPS_SEEN_REPLY
from ctobserve.programs.hooks import Purpose
from ctobserve.render.size import size_lines
from tests.scripted import HOST, NETNS, ScriptedCapture, events
from tests.unit.tables import CLOCK, entries

MIB, GIB = 1 << 20, 1 << 30
SLAB = Slab("sysfs", 248, 256, 4096, 16, 100, 7)
VALUES = {
    "nf_conntrack_acct": 0,
    "nf_conntrack_buckets": 65536,
    "nf_conntrack_count": 6000,
    "nf_conntrack_max": 262144,
    "nf_conntrack_novelty": 5,
    "nf_conntrack_tcp_timeout_time_wait": 120,
    "nf_conntrack_unreadable": None,
}
WRITABLE = frozenset(VALUES) - {"nf_conntrack_count"}
TIME_WAIT = "nf_conntrack_tcp_timeout_time_wait"
SEEN, SURE = IPS_CONFIRMED | IPS_SEEN_REPLY, IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_ASSURED
PROC = """\
ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 \
[ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 100 TIME_WAIT src=10.0.0.1 dst=10.0.0.2 sport=3 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=3 \
[ASSURED] mark=0 zone=0 use=2
ipv4     2 udp      17 29 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 use=2
ipv4     2 gre      47 170 timeout=30, stream_timeout=180 src=10.0.0.1 dst=10.0.0.2 srckey=0x0 dstkey=0x0 src=10.0.0.2 use=2
ipv4     2 tcp      6 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 [OFFLOAD] use=2
ipv4     2 unknown  253 599 src=10.0.0.1 dst=10.0.0.2 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 mark=0 zone=0 use=2
"""


def made(values=VALUES, writable=WRITABLE, limits_chains=True, slab=SLAB, memory_bytes=2 * GIB, **scripted):
    """A host on which namespace 7 has these sysctls."""
    state = NamespaceState(NETNS, "blue", init=True, sysctls=values, writable=writable)
    host = {"host": HOST._replace(limits_chains=limits_chains), "allocated": Allocation(memory_bytes, slab)}
    return ScriptedCapture(**({"states": {NETNS: state}} | host | scripted))


def said(view, opens=None, **wanted):
    """The document. `opens` refuses unless given: then it says what it was asked for."""

    @contextmanager
    def opened(purpose):
        if opens is None:
            raise NotPermitted("needs root")
        opens.append(purpose)
        yield view

    return collect(view, opened, SizeRequest(**wanted))


def new(count, at_s=0, **given):
    return events(Kind.INSERT, entries(count, **given), at_s=at_s)


def test_the_textbook_figure():
    memory = textbook(524288, 131072)
    assert (memory.entries_bytes, memory.heads_bytes) == (524288 * 376, 131072 * 16)
    assert memory.total_bytes == 190 * MIB


def test_the_real_figure_counts_whole_slabs_and_pages():
    memory = real(524288, 131072, SLAB)
    assert (memory.entries_bytes, memory.heads_bytes, memory.extensions_bytes) == (128 * MIB, MIB, 64 * MIB)
    assert real(17, 1, SLAB).entries_bytes == 2 * 4096
    assert real(17, 1, SLAB).heads_bytes == 4096
    assert sums.whole_buckets(1000) == 1024


@pytest.mark.parametrize(
    ("memory", "limits_chains", "buckets", "limit"),
    [
        (64 * MIB, True, 1024, 1024),
        (512 * MIB, True, 4096, 4096),
        (2 * GIB, True, 65536, 65536),
        (24 * GIB, True, 262144, 262144),
        (64 * MIB, False, 512, 2048),
        (2 * GIB, False, 16384, 65536),
        (24 * GIB, False, 65536, 262144),
    ],
)
def test_defaults_by_memory(memory, limits_chains, buckets, limit):
    assert sums.default_sizes(memory, limits_chains) == (buckets, limit)
    found = said(made(memory_bytes=memory, limits_chains=limits_chains)).defaults
    assert (found.buckets, found.max, found.factor, found.memory_bytes) == (buckets, limit, limit // buckets, memory)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ((6, "TIME_WAIT", True, True), "tcp_timeout_time_wait"),
        ((6, "SYN_SENT2", False, False), None),
        ((6, None, False, False), None),
        ((17, None, True, False), "udp_timeout"),
        ((17, None, True, True), "udp_timeout_stream"),
        ((136, None, True, False), "udp_timeout_stream"),
        ((47, None, False, False), "gre_timeout"),
        ((132, "ESTABLISHED", True, True), "sctp_timeout_established"),
        ((33, "OPEN", True, True), "dccp_timeout_open"),
        ((1, None, False, False), "icmp_timeout"),
        ((58, None, False, False), "icmpv6_timeout"),
        ((253, None, False, False), "generic_timeout"),
    ],
)
def test_which_timeout_holds_an_entry(entry, name):
    assert timeout_of(*entry) == (name and f"nf_conntrack_{name}")
    assert name is None or name in SYSCTLS


def test_what_another_timeout_frees():
    table = of_listing([(6, "TIME_WAIT", SURE, left) for left in (120, 90, 89, 0, 300)] + [(17, None, IPS_CONFIRMED, 1)])
    found = change_of(TIME_WAIT, 120, 30, table)
    assert (found.entries, found.gone, found.unknown) == (5, 3, 1), "idle 30 s or longer would be gone; 300 left of 120: unknown"
    assert change_of(TIME_WAIT, 120, 600, table).gone == 0
    for unknown in (change_of(TIME_WAIT, 120, 30, None), change_of(TIME_WAIT, None, 30, table)):
        assert unknown.gone is None and unknown.unknown is None
    assert change_of("nf_conntrack_icmp_timeout", 30, 3, table).gone == 0


def test_need_is_rate_times_lifetime():
    found = need_of(None, 100.0, 6000, 2.0)
    assert (found.lifetime_s, found.entries, found.max) == (60, 6000, 12000)
    assert need_of(1000.0, 100.0, 6000, 1.5).max == 90000
    for nothing in (need_of(None, None, 6000, 2), need_of(50.0, None, 6000, 2), need_of(None, 0.0, 6000, 2)):
        assert (nothing.lifetime_s, nothing.entries, nothing.max) == (None, None, None)


def test_lines_of_proc():
    seen = [parse_line(line) for line in PROC.splitlines()]
    assert [(one[0], one[1], one[3]) for one in seen] == [
        (6, "ESTABLISHED", 431999), (6, "TIME_WAIT", 100), (17, None, 29), (47, None, 170), (6, None, 0), (253, None, 599),
    ]  # fmt: skip
    assert seen[0][2] == IPS_SEEN_REPLY | IPS_ASSURED and seen[2][2] == 0 and seen[4][2] & IPS_OFFLOAD
    assert parse_line("nonsense") is None


def test_the_table_by_proc(monkeypatch, tmp_path):
    (tmp_path / "table").write_text(PROC)
    monkeypatch.setattr(listing, "PROC", tmp_path / "table")
    found = {group: left.tolist() for group, left in of_listing(of_proc()).items()}
    assert found == {
        ("tcp", "ESTABLISHED", "nf_conntrack_tcp_timeout_established"): [431999],
        ("tcp", "TIME_WAIT", "nf_conntrack_tcp_timeout_time_wait"): [100],
        ("udp", None, "nf_conntrack_udp_timeout"): [29],
        ("gre", None, "nf_conntrack_gre_timeout_stream"): [170],
        ("tcp", "OFFLOAD", None): [0],
        ("unknown", None, "nf_conntrack_generic_timeout"): [599],
    }


def test_the_listing_of_proc_is_opened_at_once_and_read_when_somebody_wants_it(monkeypatch, tmp_path):
    """Opened by a thread in the namespace that is asked about, read outside of it: never is the whole table held."""
    (tmp_path / "table").write_text("")
    monkeypatch.setattr(listing, "PROC", tmp_path / "table")
    found = of_proc()
    (tmp_path / "table").write_text(PROC)
    monkeypatch.setattr(listing, "PROC", tmp_path / "none")
    assert list(found) == list(map(parse_line, PROC.splitlines()))
    with pytest.raises(FileNotFoundError):
        of_proc()


WALKED = entries(
    7,
    proto=[6, 17, 17, 17, 132, 6, 17],
    tcp_state=[7, 0, 0, 0, 0, 3, 0],
    status=[SURE, SURE, SEEN, IPS_CONFIRMED, SEEN, SURE | IPS_OFFLOAD, SURE],
    left_s=[29, 29, 29, 29, 29, 29, -1],
    seen_ns=CLOCK.monotonic_ns,
)
EXTENSIONS = np.zeros(7, EXTENSION)
EXTENSIONS["state"][4], EXTENSIONS["has_ext"] = 4, [1, 1, 0, 0, 0, 1, 0]


def test_the_table_by_a_walk():
    found = of_walk(WALKED, EXTENSIONS, CLOCK)
    assert {group: left.tolist() for group, left in found.items()} == {
        ("tcp", "TIME_WAIT", "nf_conntrack_tcp_timeout_time_wait"): [29],
        ("tcp", "OFFLOAD", None): [29],
        ("udp", None, "nf_conntrack_udp_timeout"): [29, 29],
        ("udp", None, "nf_conntrack_udp_timeout_stream"): [29],
        ("sctp", "ESTABLISHED", "nf_conntrack_sctp_timeout_established"): [29],
    }
    assert of_walk(WALKED[:0], EXTENSIONS[:0], CLOCK) == {}


def test_a_walk_tells_of_this_namespace_alone_and_who_has_extensions():
    others = entries(3, netns=8, proto=1)
    more = np.zeros(10, EXTENSION)
    more[:7], more["has_ext"][7:] = EXTENSIONS, True
    opens = []
    found = said(made(entries=np.concatenate([WALKED, others]), extensions=more), opens, via=(ReadVia.WALK,))
    assert opens == [Purpose(0)], "nothing is attached"
    assert (found.entries_from, found.entries_with_extensions) == ("walk", 3)
    assert [(row.proto, row.state, row.entries) for row in found.entries] == [
        ("udp", None, 2), ("sctp", "ESTABLISHED", 1), ("tcp", "OFFLOAD", 1), ("tcp", "TIME_WAIT", 1), ("udp", None, 1),
    ]  # fmt: skip


LISTED = [(6, "TIME_WAIT", SURE, 100), (6, "TIME_WAIT", SURE, 20), (6, None, SURE | IPS_OFFLOAD, 0)]


def test_the_entries_are_read_by_the_first_way_that_works_and_a_note_says_what_did_not():
    missing = FileNotFoundError(2, "No such file or directory", "/proc/thread-self/net/nf_conntrack")
    found = said(made(listings={ReadVia.PROC: missing, ReadVia.NETLINK: LISTED}), via=tuple(ReadVia))
    assert found.entries_from == "netlink" and sum(row.entries for row in found.entries) == 3
    assert found.entries_with_extensions is None
    assert found.notes == (
        "entries by walk: needs root",
        "entries by proc: [Errno 2] No such file or directory: '/proc/thread-self/net/nf_conntrack'",
    )
    refused = {ReadVia.PROC: missing, ReadVia.NETLINK: KernelLacks("nf_conntrack_netlink is not loaded")}
    found = said(made(listings=refused), via=tuple(ReadVia))
    assert (found.entries_from, found.entries) == (None, None) and len(found.notes) == 3
    assert said(made(listings={ReadVia.PROC: []}), via=(ReadVia.PROC,)).entries == (), "read, and empty"


def test_of_a_listing_that_breaks_off_nothing_is_taken_and_a_note_says_so():
    def breaking():
        yield from LISTED
        raise OSError(14, "Bad address")

    found = said(made(listings={ReadVia.PROC: breaking(), ReadVia.NETLINK: LISTED[:1]}), via=(ReadVia.PROC, ReadVia.NETLINK))
    assert found.notes == ("entries by proc: [Errno 14] Bad address",)
    assert (found.entries_from, [row.entries for row in found.entries]) == ("netlink", [1])


def test_the_rate_is_that_of_inserts_in_this_namespace_while_it_is_measured():
    gone = events(Kind.DESTROY, entries(5, ct=np.arange(5) + 1))
    opens = []
    view = made(batches=[new(100), new(30), np.concatenate([gone, new(3, netns=8)]), new(10, ct=np.arange(10) + 90_000)])
    found = said(view, opens, duration=10.0)
    assert opens == [Purpose.TABLE]
    assert found.need.rate_per_s == pytest.approx(4.0, rel=0.01), "40 in 10 s; the first 100 were there before"
    assert found.need.entries == 6000 and found.notes == ()
    assert found.meta.duration_s == pytest.approx(10, rel=0.01)
    lossy = made(told=ScriptedCapture().told._replace(lost={"insert": 7, "destroy": 5}))
    found = said(lossy, [], duration=1.0)
    assert found.notes == ("rate: 7 inserts of all namespaces were lost, so it is higher",)
    assert (found.need.rate_per_s, found.need.entries) == (0, None)
    assert said(made(), duration=1.0).notes == ("rate of new entries: needs root",)


def test_slabinfo():
    line = "nf_conntrack        1210   1216    256   16    1 : tunables    0    0    0 : slabdata     76     76      0\n"
    found = parse_slabinfo("slabinfo - version: 2.1\n# name ...\nnf_conntrack_expect 0 0 216 18 1\n" + line)
    assert (found.slot_bytes, found.objects_per_slab, found.objects, found.slabs, found.object_bytes) == (256, 16, 1210, 76, None)
    assert parse_slabinfo("slabinfo - version: 2.1\n") is None


def test_the_need_is_of_what_was_there_when_the_rate_was_known(monkeypatch):
    """An empty table that begins to fill needs more than nothing."""
    counts = iter((0, 60))
    view = made(batches=[new(0), new(30)])
    namespaces = view.namespaces

    def asked(*given, **more):
        count = next(counts)
        return {
            inum: state._replace(sysctls={**state.sysctls, "nf_conntrack_count": count})
            for inum, state in namespaces(*given, **more).items()
        }

    monkeypatch.setattr(view, "namespaces", asked)
    found = said(view, [], duration=10.0, headroom=3.0)
    assert (found.now.count, found.need.entries, found.need.max) == (0, 60, 180)


@pytest.mark.parametrize(("entry_bytes", "slot_bytes"), [(240, 256), (248, 256), (249, 320), (256, 320)])
def test_behind_an_entry_lies_where_the_next_free_one_is(monkeypatch, tmp_path, entry_bytes, slot_bytes):
    """SLAB_TYPESAFE_BY_RCU; 256 bytes is what an entry of Debian's 5.10 has."""
    monkeypatch.setattr(slab, "SYSFS", tmp_path)
    monkeypatch.setattr(slab, "SLABINFO", tmp_path / "none")
    monkeypatch.setattr(slab.Btf, "load", lambda *_: SimpleNamespace(size=lambda _: entry_bytes))
    assert slab.read() == Slab("BTF", entry_bytes, slot_bytes, 4096, 4096 // slot_bytes, None, None)


def test_nothing_readable_is_unknown_not_zero(monkeypatch, tmp_path):
    monkeypatch.setattr(slab, "SYSFS", tmp_path)
    monkeypatch.setattr(slab, "SLABINFO", tmp_path / "none")
    monkeypatch.setattr(slab.Btf, "load", lambda *_: (_ for _ in ()).throw(OSError()))
    assert slab.read() is None
    found = said(made(slab=None, memory_bytes=None))
    assert (found.full.real, found.defaults, found.now.slab_bytes, found.entries) == (None, None, None, None)
    assert any(line.split() == ["real", *"------"] for line in size_lines(found))
