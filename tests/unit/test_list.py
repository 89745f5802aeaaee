"""`list` on a scripted capture: its whole document as text, JSON and CSV, and the kernel's own lines."""

from __future__ import annotations

import json
from csv import DictReader

import numpy as np
import pytest

from ctobserve import __version__
from ctobserve.capture.capture import Host, NamespaceState
from ctobserve.capture.extensions import EXTENSION
from ctobserve.capture.filters import Filter
from ctobserve.capture.watch import Stretch
from ctobserve.documents.list import collect, collect_listing
from ctobserve.documents.request import Request
from ctobserve.event import Kind
from ctobserve.host.dump import HELPED
from ctobserve.host.owner import Owner, OwnerKind
from ctobserve.model import IPS_CONFIRMED, IPS_HELPER, UNKNOWN_BUCKET, join
from ctobserve.render.jsonout import document
from ctobserve.render.list import csv, listing_lines, listing_notes, table_lines
from tests.scripted import CLOCK, HOST, ScriptedCapture, events
from tests.unit.tables import entries, tcp

NOW = {"seen_ns": CLOCK.monotonic_ns}
# An FTP connection, the data connection that its helper expected, a question without an answer.
CONTROL = tcp(1, ct=4096, dport=21, bucket=(3, 5), **NOW)
DATA = tcp(1, ct=4352, master=4096, sport=20, dport=40_000, bucket=(3, 6), mark=9, zone=2, **NOW)
QUESTION = entries(1, ct=4608, status=IPS_CONFIRMED, left_s=29, bucket=(7, 7), sport=5353, **NOW)
TABLE = join([CONTROL, DATA, QUESTION])


def started(capture, **asked):
    """A capture as opened() gives it, and what goes with it."""
    request = Request(**asked)
    capture.follow()
    return capture, request, Stretch(request.duration)


META = {
    "command": "list",
    "version": __version__,
    "schema": 1,
    "kernel": "6.1.0-test",
    "started": "2023-11-14T22:13:20.000000000Z",
    "ended": "2023-11-14T22:13:20.000000000Z",
    "duration_s": 0.0,
    "netns": "all",
    "netns_names": {"7": "blue"},
    "attach": "fentry",
    "not_attached": [],
    "table_source": "walk",
    "events_seen": 0,
    "events_lost": 0,
    "lost_by_kind": {},
    "evictions_unpaired": 0,
    "table_age_s": 0.0,
    "table_uncertain_s": 0.0,
    "buckets_unread": 0,
    "events_seen_in_netns": None,
    "from_recording": None,
    "netns_owners": {"7": None},
}


def test_the_whole_document_as_json():
    pair = {"src": "10.0.0.1", "dst": "10.0.0.2"}, {"src": "10.0.0.2", "dst": "10.0.0.1"}
    common = {"netns": 7, "l3": "ipv4"}
    answered = ["seen_reply", "assured", "confirmed"]
    of_tcp = {"status": answered, "timeout_s": 431_990, "tcp_state": "ESTABLISHED"}
    wanted = {
        "meta": META,
        "entries": [
            common
            | {"proto": "tcp", "protonum": 6, "zone": 0, "mark": 0}
            | {"original": pair[0] | {"sport": 1024, "dport": 21}, "reply": pair[1] | {"sport": 21, "dport": 1024}}
            | of_tcp
            | {"bucket": {"original": 3, "reply": 5}, "chain": {"original": 2, "reply": 1}, "master": None},
            common
            | {"proto": "tcp", "protonum": 6, "zone": 2, "mark": 9}
            | {"original": pair[0] | {"sport": 20, "dport": 40_000}, "reply": pair[1] | {"sport": 40_000, "dport": 20}}
            | of_tcp
            | {"bucket": {"original": 3, "reply": 6}, "chain": {"original": 2, "reply": 1}}
            | {"master": pair[0] | {"sport": 1024, "dport": 21}},
            common
            | {"proto": "udp", "protonum": 17, "zone": 0, "mark": 0}
            | {"original": pair[0] | {"sport": 5353, "dport": 53}, "reply": pair[1] | {"sport": 53, "dport": 5353}}
            | {"status": ["confirmed"], "timeout_s": 29, "tcp_state": None}
            | {"bucket": {"original": 7, "reply": 7}, "chain": {"original": 2, "reply": 2}, "master": None},
        ],
    }
    wanted["entries"] = [entry | {"zone_dir": None, "helper": None, "owner": None} for entry in wanted["entries"]]
    found = document(collect(*started(ScriptedCapture(entries=TABLE))))
    assert found == json.dumps(wanted, indent=2), "to the byte: keys in this order"


def test_the_whole_document_as_text():
    assert "\n".join(table_lines(collect(*started(ScriptedCapture(entries=TABLE))))).split("\n") == [
        "NETNS PROTO    LEFT       BUCKETS  CHAINS  TUPLE, STATE",
        "blue  tcp    431990           3/5     2/1  10.0.0.1:1024 > 10.0.0.2:21 ESTABLISHED,ASSURED",
        "blue  tcp    431990           3/6     2/1  10.0.0.1:20 > 10.0.0.2:40000 ESTABLISHED,ASSURED zone=2 mark=9 "
        "master 10.0.0.1:1024 > 10.0.0.2:21",
        "blue  udp        29           7/7     2/2  10.0.0.1:5353 > 10.0.0.2:53 UNREPLIED",
    ]


def test_the_whole_document_as_csv():
    heading, *rows = "\n".join(csv(collect(*started(ScriptedCapture(entries=DATA))))).split("\n")
    assert heading.startswith("netns,l3,proto,protonum,zone,mark,original.src,") and heading.endswith(
        ",master.srckey,master.dstkey,zone_dir,helper,owner"
    )
    assert rows == [
        "7,ipv4,tcp,6,2,9,10.0.0.1,10.0.0.2,20,40000,,,,,,10.0.0.2,10.0.0.1,40000,20,,,,,,"
        "seen_reply assured confirmed,431990,ESTABLISHED,3,6,1,1,,,,,,,,,,,,"
    ], "its master is not in the table"


POD = Owner(OwnerKind.POD, 'a,"b', "8a", "c" * 64)


def test_who_owns_their_namespaces_has_a_column_where_it_is_not_the_host_alone():
    others = QUESTION.copy(), QUESTION.copy()
    for at, other in enumerate(others):
        other["netns"], other["ct"] = 8 + at, 8192 + 256 * at
    states = {7: NamespaceState(7, "init", init=True), 8: NamespaceState(8, "blue"), 9: NamespaceState(9, "green")}

    def listed(*parts):
        return collect(*started(ScriptedCapture(entries=join(parts), states=states, owners={7: Owner(OwnerKind.HOST), 8: POD})))

    of_all = listed(QUESTION, *others)
    heading, *rows = "\n".join(table_lines(of_all)).split("\n")
    assert heading == "NETNS OWNER    PROTO    LEFT       BUCKETS  CHAINS  TUPLE, STATE"
    assert [row[:21] for row in rows] == ["init  host     udp   ", 'blue  pod/a,"b udp   ', "green -        udp   "]
    assert [row["owner"] for row in json.loads(document(of_all))["entries"]] == ["host", 'pod/a,"b', None]
    narrow = "\n".join(table_lines(of_all, 49)).split("\n")
    assert narrow[0].startswith("NETNS PROTO "), "where no room is for the column it is said in the row, but of the host"
    assert ["owner=" in row for row in "\n".join(narrow).split("UNREPLIED")[1:]] == [False, True, False]
    table = [*DictReader("\n".join(csv(of_all)).split("\n"))]
    assert [row["owner"] for row in table] == ["host", 'pod/a,"b', ""], "as one cell, whatever is in it"
    told = json.loads(document(of_all))["meta"]["netns_owners"]
    assert told["8"] == {"owner": 'pod/a,"b', "kind": "pod", "name": 'a,"b', "pod_uid": "8a", "container": "c" * 64}
    assert told["9"] is None
    assert next(iter("\n".join(table_lines(listed(QUESTION))).split("\n"))).startswith("NETNS PROTO "), "the host's alone"


def test_entries_that_have_a_helper_say_which():
    control = CONTROL.copy()
    control["status"] |= IPS_HELPER
    told = np.zeros(1, HELPED)
    for name in ("l3num", "protonum", "addr", "port"):
        told[name] = control[name]
    told["helper"] = b"ftp"
    capture = ScriptedCapture(entries=join([control, DATA, QUESTION]), with_helper={7: told, 8: told[:0]})
    found = collect(*started(capture))
    assert [row["helper"] for row in json.loads(document(found))["entries"]] == ["ftp", None, None]
    lines = "\n".join(table_lines(found)).split("\n")
    assert lines[1].endswith(" > 10.0.0.2:21 ESTABLISHED,ASSURED,helper helper=ftp") and "helper=" not in lines[2] + lines[3]
    rows = "\n".join(csv(found)).split("\n")
    assert [row.split(",")[-2] for row in rows] == ["helper", "ftp", "", ""]
    for told["zone"], told["port"][0, 0] in ((2, 1024), (0, 77)):
        other = collect(*started(ScriptedCapture(entries=control, with_helper={7: told})))
        assert json.loads(document(other))["entries"][0]["helper"] is None, "it is another entry's"


def test_where_netlink_cannot_be_asked_or_need_not_no_helper_is_known():
    control = CONTROL.copy()
    control["status"] |= IPS_HELPER
    assert json.loads(document(collect(*started(ScriptedCapture(entries=control)))))["entries"][0]["helper"] is None
    unasked = ScriptedCapture(entries=TABLE)
    unasked.helped = pytest.fail
    assert len(collect(*started(unasked)).entries) == 3


def test_filter_and_limit_choose_what_is_shown_and_not_what_chains_are_counted():
    found = collect(*started(ScriptedCapture(entries=TABLE), limit=1, filter=Filter(proto=6))).entries
    assert found.entries["ct"].tolist() == [4096] and found.entries["chain"].tolist() == [[2, 1]]


def test_after_a_stretch_of_time_the_table_is_read_anew():
    fresh = QUESTION.copy()
    fresh["status"] |= 1 << 1
    born = entries(1, ct=8192, bucket=(9, 9), **NOW)
    capture = ScriptedCapture([events(Kind.INSERT, born)], QUESTION, kernel=join([fresh, born]))
    found = collect(*started(capture, duration=2.0))
    assert found.entries.entries["status"][0] == fresh["status"][0], "as it is now, not as it was"
    assert (found.meta.duration_s, found.meta.events_seen, len(found.entries)) == (2.0, 1, 2)


def listing(extensions, table=TABLE, host=HOST, **asked):
    capture = ScriptedCapture(entries=table, extensions=extensions, host=host)
    return collect_listing(capture, Request(**asked), Stretch())


def extended(count, **given):
    made = np.zeros(count, EXTENSION)
    made["use"] = 1
    for name, value in given.items():
        made[name] = value
    return made


def test_what_is_left_of_a_timeout_is_counted_from_when_it_was_read():
    stays = entries(1, left_s=100)
    found = collect(*started(ScriptedCapture(entries=stays, kernel=stays), duration=7.0))
    assert json.loads(document(found))["entries"][0]["timeout_s"] == 93


def test_the_kernels_own_lines_are_in_the_order_of_buckets():
    found = listing(extended(3), TABLE[::-1])
    assert list(listing_notes(found)) == []
    assert "\n".join(listing_lines(found)).split("\n") == [
        "ipv4     2 tcp      6 431990 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=20 dport=40000 "
        "src=10.0.0.2 dst=10.0.0.1 sport=40000 dport=20 [ASSURED] mark=9 use=2",
        "ipv4     2 tcp      6 431990 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1024 dport=21 "
        "src=10.0.0.2 dst=10.0.0.1 sport=21 dport=1024 [ASSURED] mark=0 use=2",
        "ipv4     2 udp      17 29 src=10.0.0.1 dst=10.0.0.2 sport=5353 dport=53 [UNREPLIED] "
        "src=10.0.0.2 dst=10.0.0.1 sport=53 dport=5353 mark=0 use=2",
    ]


def test_what_the_kernel_would_not_print_is_left_out_and_counted():
    expired = entries(1, ct=16, left_s=-1, **NOW)
    hidden = entries(1, ct=32, reply_only=1, bucket=(UNKNOWN_BUCKET, 1), **NOW)
    found = listing(extended(3), join([QUESTION, expired, hidden]), filter=Filter(proto=17), limit=5)
    assert found.entries["ct"].tolist() == [4608] and len(found.extensions) == 1
    assert list(listing_notes(found)) == ["left out, as the kernel would: 2 entries, expired or hashed by their reply alone"]
    assert len(listing(extended(3), limit=2).entries) == 2


def test_a_security_id_without_a_name_is_noted():
    marked = extended(3, secmark=[0, 5, 5])
    missing = "secctx= is missing where an entry has a security id that only the kernel can name"
    assert list(listing_notes(listing(marked))) == [missing]
    named = Host("6.1.0-test", "x86_64", 7, security_contexts={5: "system_u:object_r:x_t:s0"})
    found = listing(marked, host=named)
    assert list(listing_notes(found)) == []
    assert "mark=9 secctx=system_u:object_r:x_t:s0 use=2" in "\n".join(listing_lines(found))
    assert list(listing_notes(listing(marked, limit=1))) == [], "it is not shown"
