"""`ctobserve list --expect` on expectations that are made up: as text, CSV and JSON, and what it refuses."""

from __future__ import annotations

import csv
import json
from contextlib import nullcontext

import pytest

from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.read_via import ReadVia
from ctobserve.documents.expectations import ExpectationsDocument, collect
from ctobserve.errors import KernelLacks
from ctobserve.model import GRE, UNTIMED, join
from ctobserve.render.expectations import expectation_csv, expectation_lines, expectation_notes
from ctobserve.render.jsonout import document, plain
from tests.scripted import NETNS, ScriptedCapture
from tests.unit.cases import expectations
from tests.unit.samples import packed
from tests.unit.typed import run


def rows():
    """One of FTP; one that any address may come from, without an end, of a helper with a hostile name; a tunnel; one by IPv6."""
    made = join([expectations(4).rows])
    made["helper"] = [b"ftp", b"\x1b[2J", b"pptp", b""]
    made["left_s"][1], made["flags"][1], made["class"][1] = UNTIMED, 3, 2
    made["addr"][1, ::2] = 0
    made["protonum"][2], made["port"][2, :4] = GRE, (0, 7, 0, 0xFFFF)
    made["l3num"][3] = 10
    for place, address in enumerate(("fd00::2", "fd00::1", "ffff::", "ffff::", "fd00::1", "fd00::2")):
        made["addr"][3, place] = packed(address)
    return made


def view(via=ReadVia.NETLINK) -> ScriptedCapture:
    made = rows()
    if via is ReadVia.PROC:
        made["netns"], made["has_master"] = 0, False
        made["addr"][:, 2:], made["port"][:, 2:], made["class"] = 0, 0, 0
    states = {NETNS: NamespaceState(NETNS, "blue", init=True, sysctls={"nf_conntrack_expect_max": 4096})}
    return ScriptedCapture(states=states, expected=made, expected_via=via)


def found(via=ReadVia.NETLINK, netns=None, limit=None) -> ExpectationsDocument:
    return collect(view(via), netns, limit)


MASK = "mask 255.255.255.255:0 > 255.255.255.255:65535"
MASTER = "master 10.0.0.1:5000 > 10.0.0.2:21"


def test_text():
    assert "\n".join(expectation_lines(found())).split("\n") == [
        "NETNS PROTO    LEFT  TUPLE, MASK, MASTER",
        f"blue  tcp       299  10.0.0.2:0 > 10.0.0.1:7000 {MASK} {MASTER} class=0 helper=ftp",
        "blue  tcp         -  0.0.0.0:0 > 10.0.0.1:7001 mask 0.0.0.0:0 > 255.255.255.255:65535 "
        r"master 0.0.0.0:5000 > 10.0.0.2:21 class=2 helper=\x1b[2J flags=permanent+inactive",
        "blue  gre       299  10.0.0.2 > 10.0.0.1 srckey 0 dstkey 7 mask 255.255.255.255 > 255.255.255.255 srckey 0 dstkey 65535 "
        f"{MASTER} class=0 helper=pptp",
        "blue  tcp       299  [fd00::2]:0 > [fd00::1]:7003 mask [ffff::]:0 > [ffff::]:65535 "
        "master [fd00::1]:5000 > [fd00::2]:21 class=0",
    ]
    assert list(expectation_notes(found())) == [
        "4 expectations by netlink; each namespace may have 4096 (nf_conntrack_expect_max)"
    ]


def test_text_of_proc_says_what_is_missing():
    _, shown = expectation_lines(found(ReadVia.PROC))
    assert shown.split("\n")[0] == "-     tcp       299  10.0.0.2:0 > 10.0.0.1:7000 helper=ftp"
    assert list(expectation_notes(found(ReadVia.PROC)))[1].endswith("only nf_conntrack_netlink tells, which is not loaded")


def test_on_a_terminal_rows_are_folded():
    lines = "\n".join(expectation_lines(found(), 80)).split("\n")
    assert max(map(len, lines)) <= 80 and f"        {MASTER} class=0 helper=ftp" in lines


def test_json():
    body = json.loads(document(found(limit=1)))
    assert body["meta"]["command"] == "list" and body["meta"]["netns"] == "all"
    del body["meta"]
    assert body == {
        "netns_names": {"7": "blue"},
        "source": "netlink",
        "max": 4096,
        "expectations": [
            {
                "netns": 7,
                "l3": "ipv4",
                "proto": "tcp",
                "protonum": 6,
                "timeout_s": 299,
                "tuple": {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 0, "dport": 7000},
                "mask": {"src": "255.255.255.255", "dst": "255.255.255.255", "sport": 0, "dport": 65535},
                "master": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 5000, "dport": 21},
                "helper": "ftp",
                "class": 0,
                "flags": [],
            }
        ],
        "expectations_not_shown": 3,
    }
    _, loose, tunnel, six = plain(found())["expectations"]
    assert (loose["timeout_s"], loose["flags"], loose["helper"]) == (None, ["permanent", "inactive"], r"\x1b[2J")
    assert tunnel["tuple"] == {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": None, "dport": None, "srckey": 0, "dstkey": 7}
    assert (six["l3"], six["helper"], six["master"]["src"]) == ("ipv6", None, "fd00::1")
    unknown = plain(found(ReadVia.PROC))["expectations"][0]
    assert {name for name, value in unknown.items() if value is None} == {"netns", "mask", "master", "class"}


def test_csv_has_the_same():
    read = list(csv.DictReader("\n".join(expectation_csv(found())).split("\n")))
    assert (read[0]["tuple.dport"], read[0]["master.src"], read[1]["flags"], read[1]["timeout_s"]) == (
        *("7000", "10.0.0.1"),
        *("permanent+inactive", ""),
    )
    assert len(read) == 4 and len(read[0]) == len(next(expectation_csv(found())).split(","))


def test_none_at_all():
    empty = collect(ScriptedCapture(), None, None)
    assert list(expectation_lines(empty)) == ["NETNS PROTO    LEFT  TUPLE, MASK, MASTER"] and empty.max is None
    assert len(list(expectation_csv(empty))) == 1 and list(expectation_notes(empty)) == ["0 expectations by netlink"]


def test_of_one_namespace_alone_only_where_it_is_known_whose_they_are():
    assert len(found(netns=NETNS).expectations) == 4 and len(found(netns=8).expectations) == 0
    with pytest.raises(KernelLacks, match="only nf_conntrack_netlink tells"):
        found(ReadVia.PROC, netns=NETNS)


@pytest.fixture
def typed(monkeypatch, capsys):
    monkeypatch.setattr("ctobserve.commands.list.viewed", lambda _recording: nullcontext(view()))
    monkeypatch.setattr("ctobserve.commands.values.NETNS._parse", int)
    return lambda *words: run(monkeypatch, capsys, "list", "--expect", *words)


def test_what_is_printed(typed):
    code, out, err = typed()
    assert code == 0 and out == "".join(f"{line}\n" for line in expectation_lines(found()))
    assert err == "4 expectations by netlink; each namespace may have 4096 (nf_conntrack_expect_max)\n"
    assert json.loads(typed("--json", "--netns", "7")[1])["meta"]["netns"] == 7
    assert typed("--format", "csv", "--limit", "2")[1].count("\n") == 3
    assert typed("--limit", "1")[2].startswith("1 expectations by netlink, 3 more not shown (--limit);")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--state", "ASSURED"], "--state"),
        (["--src", "10.0.0.1"], "--src"),
        (["--mark", "0"], "--mark"),
        (["--zone", "0"], "--zone"),
        (["--duration", "1"], "--duration"),
        (["--source", "walk"], "--source"),
        (["--ring-mib", "64"], "--ring-mib"),
        (["--fail-on-loss"], "--fail-on-loss"),
        (["--format", "kernel"], "--format kernel"),
    ],
)
def test_what_has_no_effect_is_refused(typed, words, named):
    code, out, err = typed(*words)
    assert (code, out) == (2, "") and err.count("\n") == 1 and f"{named}" in err
