"""The whole document of a size, as text and as JSON, and the command on a host."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ctobserve import __version__
from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.read_via import ReadVia
from ctobserve.commands.size import size
from ctobserve.errors import CtobserveError, KernelLacks, UsageError
from ctobserve.host import counters, kernel, listing, slab
from ctobserve.host.slab import Slab
from ctobserve.render.jsonout import document, plain
from ctobserve.render.size import size_lines
from tests.scripted import NETNS
from tests.unit.test_size import LISTED, MIB, PROC, SLAB, TIME_WAIT, VALUES, WRITABLE, made, new, said

MAX = (1 << 31) - 1


def test_no_line_to_paste_asks_for_what_the_kernel_cannot_hold():
    paste = said(made(), max=MAX).paste
    assert paste.sysctl_d == ("net.netfilter.nf_conntrack_buckets = 268434944", f"net.netfilter.nf_conntrack_max = {MAX}")
    measured = made(VALUES | {"nf_conntrack_count": 1000}, batches=[new(0), new(1)])
    paste = said(measured, [], duration=1.0, rate_per_s=1e9).paste
    assert f"net.netfilter.nf_conntrack_max = {MAX}" in paste.sysctl_d


def test_the_document_and_its_lines():
    failed = KernelLacks("nothing at all, " * 12)
    view = made(listings={ReadVia.PROC: failed, ReadVia.NETLINK: LISTED}, batches=[new(0), new(100)])
    ways, twice = (ReadVia.PROC, ReadVia.NETLINK), ((TIME_WAIT, 99), (TIME_WAIT, 30))
    found = said(view, [], max=524288, buckets=131072, timeouts=twice, via=ways, duration=1.0)
    assert json.loads(document(found)) == plain(found)
    assert found.full.textbook.total_bytes == 190 * MIB and found.full.mean_chain == 8
    assert plain(found.timeouts) == [{"name": TIME_WAIT, "before": 120, "after": 30, "entries": 2, "gone": 1, "unknown": 0}]
    assert found.paste.sysctl_d == (
        "net.netfilter.nf_conntrack_buckets = 131072",
        "net.netfilter.nf_conntrack_max = 524288",
        f"net.netfilter.{TIME_WAIT} = 30",
    )
    assert found.paste.modprobe_d == ("options nf_conntrack hashsize=131072",)
    rows = {row.name: row for row in found.sysctls}
    assert (rows["nf_conntrack_novelty"].default, rows["nf_conntrack_novelty"].meaning) == (None, None)
    assert rows["nf_conntrack_max"].default == 65536
    text = list(size_lines(found))
    assert max(map(len, text)) < 100
    whole = "\n".join(text)
    assert "190.0 MiB" in whole and "129.0 MiB" in whole and "1 of 2 entries would be gone" in whole
    assert "100.0/s x 60.0 s mean lifetime = 6,000 entries; x 2 = max 12,000" in whole
    assert [line.split()[:3] for line in text if "unreadable" in line] == [["unreadable", "-", "-"]]
    assert any(line.startswith("* max ") for line in text)


def test_buckets_are_pasted_for_the_module_alone_where_they_cannot_be_set():
    paste = plain(said(made(writable=WRITABLE - {"nf_conntrack_buckets"}), buckets=1000).paste)
    assert paste == {"sysctl_d": [], "modprobe_d": ["options nf_conntrack hashsize=1024"], "buckets_settable_here": False}
    assert said(made()).paste.modprobe_d == ()


@pytest.mark.parametrize(
    ("states", "error", "words"),
    [
        ({}, UsageError, f"no process and no name holds network namespace {NETNS}, so it cannot be looked into"),
        ({NETNS: NamespaceState(NETNS, "blue")}, KernelLacks, "modprobe nf_conntrack"),
        (
            {NETNS: NamespaceState(NETNS, "blue", not_entered="cannot look into blue: no")},
            CtobserveError,
            "cannot look into blue",
        ),
    ],
)
def test_a_namespace_that_cannot_be_sized_is_an_error(states, error, words):
    with pytest.raises(error, match=words) as raised:
        said(made(states=states), netns=NETNS)
    assert raised.type is error, "it has the exit code of that"


WHOLE_TEXT = """\
netns 7: 6,000 of 262,144 entries (2.3 %)
                      NOW      DEFAULT
buckets            65,536       65,536
max               262,144       65,536
Default for 2,048.0 MiB of memory: max = 1 x buckets; 8 x with hashsize=
In use: hash 512 KiB; slabs - for - entries of all namespaces

Memory of a full table, 524,288 entries in 65,536 buckets:
              ENTRY  BUCKET      ENTRIES       HASH        TOTAL     EXTENSIONS
textbook      376 B    16 B    188.0 MiB    1.0 MiB    189.0 MiB              -
real          256 B     8 B    128.0 MiB    512 KiB    128.5 MiB  + <= 64.0 MiB
Mean chain when full: 16.0 nodes (two nodes an entry; the kernel's default is 2)
Why they differ (real: from BTF):
  - an nf_conn of 248 bytes takes 256 bytes of a slab here, not 376: newer kernels keep less there
  - a bucket is one pointer, 8 bytes, not 16: a list's head has no way back
  - what NAT, accounting, events, helpers add lies outside: 128 bytes for an entry with any of
    them

Entries by protocol and state (read by netlink):
  PROTO    STATE                ENTRIES   LEFT s TIMEOUT s  HELD BY
  tcp      TIME_WAIT                  2       60       120  nf_conntrack_tcp_timeout_time_wait
  tcp      OFFLOAD                    1        0         -  -

With other timeouts, of the entries there are now:
  nf_conntrack_tcp_timeout_time_wait 120 -> 30 s: 1 of 2 entries would be gone

Need: 100.0/s x 60.0 s mean lifetime = 6,000 entries; x 2 = max 12,000

net.netfilter.nf_conntrack_... (timeouts in seconds; * = not the default):
  NAME                                 VALUE    DEFAULT  MEANING
  buckets                              65536      65536  size of the hash, which all namespaces
                                                         share
  count                                 6000          -  entries now, read only
* max                                 262144      65536  most entries; beyond, evict or lose
  tcp_timeout_time_wait                  120        120  TCP in TIME_WAIT
  unreadable                               -          -  -

# /etc/sysctl.d/90-conntrack.conf (holds only once nf_conntrack is loaded)
net.netfilter.nf_conntrack_max = 524288
net.netfilter.nf_conntrack_tcp_timeout_time_wait = 30
# /etc/modprobe.d/90-conntrack.conf (buckets from the moment it is loaded)
options nf_conntrack hashsize=524288
# max and buckets are global here: set them in the initial network namespace, on the host
Not known: entries by proc: it is not there
"""
WHOLE_JSON = {
    "meta": {
        "command": "size",
        "version": __version__,
        "schema": 1,
        "kernel": "6.1.0-test",
        "started": "2023-11-14T22:13:20.000000000Z",
        "ended": "2023-11-14T22:13:21.000000000Z",
        "duration_s": 1.0,
        "netns": 7,
    },
    "now": {
        "count": 6000,
        "max": 262144,
        "buckets": 65536,
        "fill": 0.02288818359375,
        "objects_all_netns": None,
        "slab_bytes": None,
        "hash_bytes": 524288,
    },
    "defaults": {"buckets": 65536, "max": 65536, "factor": 1, "memory_bytes": 2147483648},
    "full": {
        "max": 524288,
        "buckets": 65536,
        "mean_chain": 16.0,
        "textbook": {
            "object_bytes": 376,
            "head_bytes": 16,
            "entries_bytes": 197132288,
            "heads_bytes": 1048576,
            "extensions_bytes": None,
            "total_bytes": 198180864,
        },
        "real": {
            "object_bytes": 256.0,
            "head_bytes": 8,
            "entries_bytes": 134217728,
            "heads_bytes": 524288,
            "extensions_bytes": 67108864,
            "total_bytes": 134742016,
        },
        "real_from": "BTF",
        "why": [
            "an nf_conn of 248 bytes takes 256 bytes of a slab here, not 376: newer kernels keep less there",
            "a bucket is one pointer, 8 bytes, not 16: a list's head has no way back",
            "what NAT, accounting, events, helpers add lies outside: 128 bytes for an entry with any of them",
        ],
    },
    "entries_from": "netlink",
    "entries_with_extensions": None,
    "entries": [
        {"proto": "tcp", "state": "TIME_WAIT", "timeout": TIME_WAIT, "timeout_s": 120, "entries": 2, "median_left_s": 60.0},
        {"proto": "tcp", "state": "OFFLOAD", "timeout": None, "timeout_s": None, "entries": 1, "median_left_s": 0.0},
    ],
    "timeouts": [{"name": TIME_WAIT, "before": 120, "after": 30, "entries": 2, "gone": 1, "unknown": 0}],
    "need": {"rate_per_s": 100.0, "lifetime_s": 60.0, "entries": 6000, "headroom": 2.0, "max": 12000},
    "sysctls": [
        {
            "name": "nf_conntrack_buckets",
            "value": 65536,
            "default": 65536,
            "unit": "buckets",
            "writable": False,
            "meaning": "size of the hash, which all namespaces share",
        },
        {
            "name": "nf_conntrack_count",
            "value": 6000,
            "default": None,
            "unit": "entries",
            "writable": False,
            "meaning": "entries now, read only",
        },
        {
            "name": "nf_conntrack_max",
            "value": 262144,
            "default": 65536,
            "unit": "entries",
            "writable": False,
            "meaning": "most entries; beyond, evict or lose",
        },
        {"name": TIME_WAIT, "value": 120, "default": 120, "unit": "s", "writable": True, "meaning": "TCP in TIME_WAIT"},
        {"name": "nf_conntrack_unreadable", "value": None, "default": None, "unit": None, "writable": False, "meaning": None},
    ],
    "paste": {
        "sysctl_d": ["net.netfilter.nf_conntrack_max = 524288", f"net.netfilter.{TIME_WAIT} = 30"],
        "modprobe_d": ["options nf_conntrack hashsize=524288"],
        "buckets_settable_here": False,
    },
    "notes": ["entries by proc: it is not there"],
}


def test_the_whole_document_as_text_and_as_json():
    """What only root may read is missing, one way to read the entries fails, and another namespace may not set what is global."""
    values = {name: value for name, value in VALUES.items() if name not in ("nf_conntrack_acct", "nf_conntrack_novelty")}
    view = made(
        values,
        frozenset((TIME_WAIT,)),
        slab=Slab("BTF", 248, 256, 4096, 16, None, None),
        listings={ReadVia.PROC: KernelLacks("it is not there"), ReadVia.NETLINK: LISTED},
        batches=[new(0), new(100)],
    )
    ways = (ReadVia.PROC, ReadVia.NETLINK)
    found = said(view, [], max=524288, timeouts=((TIME_WAIT, 30),), via=ways, duration=1.0)
    assert "\n".join(size_lines(found)) + "\n" == WHOLE_TEXT
    assert document(found) == json.dumps(WHOLE_JSON, indent=2)


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A made /proc."""
    directory = tmp_path / "netfilter"
    directory.mkdir()
    for name, value in VALUES.items():
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


def test_what_is_global_has_no_write_bit_in_a_namespace(host):
    (host / "nf_conntrack_max").chmod(0o444)
    assert kernel.may_set("nf_conntrack_buckets") and not kernel.may_set("nf_conntrack_max")
    assert not kernel.may_set("nf_conntrack_no_such")


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
