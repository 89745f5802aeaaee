"""Memory, defaults, what other timeouts free, and the report of `size`, on made inputs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from ctobserve.analysis import size as sums
from ctobserve.analysis.lifetimes import of_listing, of_walk
from ctobserve.analysis.size_report import Known, Wish, report
from ctobserve.capture.records import Kind, entries_of
from ctobserve.commands.size import size
from ctobserve.host import counters, kernel, listing, slab
from ctobserve.host.listing import of_proc, parse_line
from ctobserve.host.slab import Slab, parse_slabinfo
from ctobserve.host.sysctls import SYSCTLS, timeout_of
from ctobserve.model import IPS_ASSURED, IPS_CONFIRMED, IPS_OFFLOAD, IPS_SEEN_REPLY
from ctobserve.render.size import size_lines
from tests.unit.samples import record, records
from tests.unit.test_lines import CLOCK, SEEN, SURE, made

MIB, GIB = 1 << 20, 1 << 30
SLAB = Slab("sysfs", 248, 256, 4096, 16, 100, 7)
VALUES = {
    "nf_conntrack_acct": (0, True),
    "nf_conntrack_buckets": (65536, True),
    "nf_conntrack_count": (6000, False),
    "nf_conntrack_max": (262144, True),
    "nf_conntrack_novelty": (5, True),
    "nf_conntrack_tcp_timeout_time_wait": (120, True),
    "nf_conntrack_unreadable": (None, True),
}
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


def known(**fields):
    found = {"values": VALUES, "slab": SLAB, "defaults": sums.Defaults(65536, 65536, 1), "memory_bytes": 2 * GIB}
    return Known(**(found | fields))


def wish(**fields):
    return Wish(**({"max": None, "buckets": None, "timeouts": {}, "rate": None, "headroom": 2.0} | fields))


def test_the_textbook_figure():
    memory = sums.textbook(524288, 131072)
    assert (memory.entries_bytes, memory.heads_bytes) == (524288 * 376, 131072 * 16)
    assert memory.total_bytes == 190 * MIB


def test_the_real_figure_counts_whole_slabs_and_pages():
    memory = sums.real(524288, 131072, SLAB)
    assert (memory.entries_bytes, memory.heads_bytes, memory.extensions_bytes) == (128 * MIB, MIB, 64 * MIB)
    assert sums.real(17, 1, SLAB).entries_bytes == 2 * 4096
    assert sums.real(17, 1, SLAB).heads_bytes == 4096
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
    found = sums.defaults(memory, limits_chains)
    assert (found.buckets, found.max) == (buckets, limit)


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
    name = "nf_conntrack_tcp_timeout_time_wait"
    table = {
        ("tcp", "TIME_WAIT", name): np.array([120, 90, 89, 0, 300]),
        ("udp", None, "nf_conntrack_udp_timeout"): np.array([1]),
    }
    found = sums.change(name, 120, 30, table)
    assert (found.entries, found.gone, found.unknown) == (5, 3, 1), "idle 30 s or longer would be gone; 300 left of 120: unknown"
    assert sums.change(name, 120, 600, table).gone == 0
    for unknown in (sums.change(name, 120, 30, None), sums.change(name, None, 30, table)):
        assert unknown.gone is None and unknown.unknown is None
    assert sums.change("nf_conntrack_icmp_timeout", 30, 3, table).gone == 0


def test_need_is_rate_times_lifetime():
    found = sums.need(None, 100.0, 6000, 2.0)
    assert (found.lifetime_s, found.entries, found.max) == (60, 6000, 12000)
    assert sums.need(1000.0, 100.0, 6000, 1.5).max == 90000
    for nothing in (sums.need(None, None, 6000, 2), sums.need(50.0, None, 6000, 2), sums.need(None, 0.0, 6000, 2)):
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


def test_the_table_by_a_walk():
    from ctobserve.capture.extensions import extensions_dtype, extensions_of
    from ctobserve.capture.records import join
    from tests.unit.samples import LAYOUT

    walked = join(
        [
            made(ct=1, proto=6, tcp_state=7, status=SURE),
            made(ct=2, status=SURE),
            made(ct=3, status=SEEN),
            made(ct=4, status=IPS_CONFIRMED),
            made(ct=5, proto=132, raw={"sctp_state": 4}),
            made(ct=6, proto=6, tcp_state=3, status=SURE | IPS_OFFLOAD),
            made(ct=7, timeout=0xFFFFFE00),
        ]
    )
    found = of_walk(entries_of(walked), extensions_of(walked, extensions_dtype(LAYOUT)), CLOCK)
    assert {group: left.tolist() for group, left in found.items()} == {
        ("tcp", "TIME_WAIT", "nf_conntrack_tcp_timeout_time_wait"): [29],
        ("tcp", "OFFLOAD", None): [29],
        ("udp", None, "nf_conntrack_udp_timeout"): [29, 29],
        ("udp", None, "nf_conntrack_udp_timeout_stream"): [29],
        ("sctp", "ESTABLISHED", "nf_conntrack_sctp_timeout_established"): [29],
    }
    empty = records(record(Kind.WALK, 1))[:0]
    assert of_walk(entries_of(empty), extensions_of(empty, extensions_dtype(LAYOUT)), CLOCK) == {}


def test_slabinfo():
    line = "nf_conntrack        1210   1216    256   16    1 : tunables    0    0    0 : slabdata     76     76      0\n"
    found = parse_slabinfo("slabinfo - version: 2.1\n# name ...\nnf_conntrack_expect 0 0 216 18 1\n" + line)
    assert (found.slot_bytes, found.objects_per_slab, found.objects, found.slabs, found.object_bytes) == (256, 16, 1210, 76, None)
    assert parse_slabinfo("slabinfo - version: 2.1\n") is None


def test_nothing_readable_is_unknown_not_zero(monkeypatch, tmp_path):
    monkeypatch.setattr(slab, "SYSFS", tmp_path)
    monkeypatch.setattr(slab, "SLABINFO", tmp_path / "none")
    monkeypatch.setattr(slab.Btf, "load", lambda *_: (_ for _ in ()).throw(OSError()))
    assert slab.read() is None
    found = report(known(slab=None, defaults=None, memory_bytes=None), wish())
    assert (found["full"]["real"], found["defaults"], found["now"]["slab_bytes"], found["entries"]) == (None, None, None, None)
    text = list(size_lines({"meta": {"netns": 7}} | found))
    assert any(line.split() == ["real", *"------"] for line in text)


def test_no_line_to_paste_asks_for_what_the_kernel_cannot_hold():
    most = (1 << 31) - 1
    paste = report(known(), wish(max=most))["paste"]
    assert paste["sysctl_d"] == ["net.netfilter.nf_conntrack_buckets = 268434944", f"net.netfilter.nf_conntrack_max = {most}"]
    measured = known(rate_per_s=1.0, values=VALUES | {"nf_conntrack_count": (1000, False)})
    paste = report(measured, wish(rate=1e9))["paste"]
    assert f"net.netfilter.nf_conntrack_max = {most}" in paste["sysctl_d"]


def test_the_report_and_its_lines():
    name = "nf_conntrack_tcp_timeout_time_wait"
    table = {("tcp", "TIME_WAIT", name): np.array([100, 20]), ("tcp", "OFFLOAD", None): np.array([0])}
    seen = known(table=table, table_source="walk", rate_per_s=100.0, notes=["nothing at all, " * 12])
    found = report(seen, wish(max=524288, buckets=131072, timeouts={name: 30}))
    assert json.loads(json.dumps(found)) == found
    assert found["full"]["textbook"]["total_bytes"] == 190 * MIB and found["full"]["mean_chain"] == 8
    assert found["timeouts"] == [{"name": name, "before": 120, "after": 30, "entries": 2, "gone": 1, "unknown": 0}]
    assert found["paste"]["sysctl_d"] == [
        "net.netfilter.nf_conntrack_buckets = 131072",
        "net.netfilter.nf_conntrack_max = 524288",
        f"net.netfilter.{name} = 30",
    ]
    assert found["paste"]["modprobe_d"] == ["options nf_conntrack hashsize=131072"]
    rows = {row["name"]: row for row in found["sysctls"]}
    assert (rows["nf_conntrack_novelty"]["default"], rows["nf_conntrack_novelty"]["meaning"]) == (None, None)
    assert rows["nf_conntrack_max"]["default"] == 65536
    text = list(size_lines({"meta": {"netns": 7}} | found))
    assert max(map(len, text)) < 100
    whole = "\n".join(text)
    assert "190.0 MiB" in whole and "129.0 MiB" in whole and "1 of 2 entries would be gone" in whole
    assert "100.0/s x 60.0 s mean lifetime = 6,000 entries; x 2 = max 12,000" in whole
    assert [line.split()[:3] for line in text if "unreadable" in line] == [["unreadable", "-", "-"]]
    assert any(line.startswith("* max ") for line in text)


def test_buckets_are_pasted_for_the_module_alone_where_they_cannot_be_set():
    values = VALUES | {"nf_conntrack_buckets": (65536, False)}
    paste = report(known(values=values), wish(buckets=1000))["paste"]
    assert paste == {"sysctl_d": [], "modprobe_d": ["options nf_conntrack hashsize=1024"], "buckets_settable_here": False}
    assert report(known(), wish())["paste"]["modprobe_d"] == []


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A made /proc."""
    directory = tmp_path / "netfilter"
    directory.mkdir()
    for name, (value, _) in VALUES.items():
        (directory / name).write_text("words" if value is None else f"{value}\n")
    (tmp_path / "meminfo").write_text("MemTotal:       2097152 kB\n")
    (tmp_path / "stat").write_text("entries  clashres found new invalid ignore delete chainlength insert\n")
    (tmp_path / "table").write_text(PROC)
    monkeypatch.setattr(kernel, "SYSCTL", directory)
    monkeypatch.setattr(kernel, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(counters, "PROC", tmp_path / "stat")
    monkeypatch.setattr(listing, "PROC", tmp_path / "table")
    monkeypatch.setattr(slab, "read", lambda: SLAB)
    return directory


def test_the_command_as_json(host):
    arguments = ["--json", "--source", "proc", "--timeout", "tcp_timeout_time_wait=20", "--max", "524288", "--buckets", "131072"]
    found = json.loads(CliRunner().invoke(size, arguments, catch_exceptions=False).output)
    assert found["meta"]["command"] == "size"
    assert found["now"]["count"] == 6000 and found["defaults"]["buckets"] == 65536
    assert found["full"]["textbook"]["total_bytes"] == 190 * MIB
    assert found["timeouts"][0]["gone"] == 1
    assert found["entries_from"] == "proc" and len(found["entries"]) == 6
    assert found["need"]["rate_per_s"] is None and found["notes"] == []


def test_the_command_says_what_it_cannot_read(host, tmp_path):
    (tmp_path / "table").unlink()
    (tmp_path / "stat").unlink()
    output = (
        CliRunner().invoke(size, ["--source", "proc", "--timeout", "nf_conntrack_udp_timeout=5"], catch_exceptions=False).output
    )
    assert "how many would be gone is not known" in output
    assert "Not known: entries by proc:" in output and "Not known: the kernel's defaults:" in output
    assert max(map(len, output.splitlines())) < 100


def test_without_conntrack_the_command_says_what_to_do(host):
    for path in host.iterdir():
        path.unlink()
    result = CliRunner().invoke(size, [])
    assert result.exception.exit_status == 3 and "modprobe nf_conntrack" in str(result.exception)
