"""`verify` on a scripted capture: the proof, what it finds, what it forgives, and its whole document as text and JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ctobserve.analysis.verify import compare
from ctobserve.capture.watch import Stretch
from ctobserve.diagnosis.proof import PAUSE_S, ROUNDS, prove
from ctobserve.documents.request import Request
from ctobserve.documents.verify import collect
from ctobserve.event import Kind
from ctobserve.host.dump import DUMPED
from ctobserve.model import UNKNOWN_BUCKET, UNKNOWN_CHAIN, join
from ctobserve.render.jsonout import document, plain
from ctobserve.render.verify import verify_lines
from tests.scripted import CLOCK, FIDELITY, ScriptedCapture, events
from tests.unit.tables import entries

TABLE = entries(3, ct=[256, 512, 768], bucket=[(0, 2), (2, 3), (4, 7)], chain=UNKNOWN_CHAIN, seen_ns=CLOCK.monotonic_ns)
ELSEWHERE = entries(1, ct=8192, netns=8, dport=443, bucket=(1, 1), chain=UNKNOWN_CHAIN, seen_ns=CLOCK.monotonic_ns)


def following(capture):
    capture.follow()
    return capture


def dumped(rows):
    made = np.zeros(len(rows), DUMPED)
    for name in ("zone", "l3num", "protonum", "addr", "port", "status"):
        made[name] = rows[name]
    return made


def changed(rows, at, **fields):
    made = rows.copy()
    for name, value in fields.items():
        made[name][at] = value
    return made


def test_equal_tables_are_equal_at_once():
    capture = following(ScriptedCapture(entries=TABLE, dumped={7: dumped(TABLE)}))
    proof = prove(capture)
    assert (proof.equal, proof.ours, proof.kernel, proof.not_dumped) == (True, 3, 3, ())
    assert capture.now_ns() == CLOCK.monotonic_ns, "nobody had to wait"
    assert prove(following(ScriptedCapture(entries=TABLE))).unlike is None, "nf_conntrack_netlink is not loaded"


def test_what_events_touched_meanwhile_is_not_compared():
    kernel = TABLE[1:]
    assert prove(following(ScriptedCapture(entries=TABLE, kernel=kernel, touched=[256]))).equal
    proof = prove(following(ScriptedCapture(entries=TABLE, kernel=kernel, touched=[512])))
    assert not proof.equal and proof.differences.only_ours["ct"].tolist() == [256]


class Passing(ScriptedCapture):
    """Whoever waits long enough sees the kernel's table and the dumps become ours."""

    def wait(self, seconds):
        super().wait(seconds)
        if self.now_ns() - CLOCK.monotonic_ns >= 2 * PAUSE_S * 10**9:
            self.kernel = None
            self.dumped = self.dumped and {7: dumped(TABLE)}


@pytest.mark.parametrize("kernel", [TABLE[1:], join([TABLE, ELSEWHERE]), changed(TABLE, 1, zone=5)])
def test_a_difference_that_passes_was_an_entry_in_flux(kernel):
    assert prove(following(Passing(entries=TABLE, kernel=kernel))).equal


@pytest.mark.parametrize("told", [TABLE[1:], join([TABLE, ELSEWHERE])])
def test_a_difference_to_a_dump_that_passes_was_an_entry_in_flux(told):
    assert prove(following(Passing(entries=TABLE, dumped={7: dumped(told)}))).equal
    assert not prove(following(ScriptedCapture(entries=TABLE, dumped={7: dumped(told)}))).equal


def test_a_difference_that_lasts_is_found_after_a_few_rounds():
    kernel = changed(join([TABLE[1:], ELSEWHERE]), 1, bucket=(2, 5), port=(1, 2, 3, 4))
    capture = following(ScriptedCapture(entries=TABLE, kernel=kernel))
    found = prove(capture).differences
    assert found.only_ours["ct"].tolist() == [256] and found.only_kernel["ct"].tolist() == [8192]
    assert found.fields == [
        (768, "port", (1026, 53, 53, 1026), (1, 2, 3, 4)),
        (768, "bucket", (4, 7), (2, 5)),
    ]
    assert capture.now_ns() - CLOCK.monotonic_ns == (ROUNDS - 1) * round(PAUSE_S * 10**9)


def test_entries_of_namespaces_that_cannot_be_entered_are_not_compared_with_dumps():
    proof = prove(following(ScriptedCapture(entries=join([TABLE, ELSEWHERE]), dumped={7: dumped(TABLE)})))
    assert proof.equal and proof.not_dumped == (8,)


def test_a_dump_shows_no_entry_without_an_original_node():
    hidden = entries(1, ct=4096, reply_only=1, bucket=(UNKNOWN_BUCKET, 1))
    assert prove(following(ScriptedCapture(entries=join([TABLE, hidden]), dumped={7: dumped(TABLE)}))).equal


def test_one_namespace_alone_can_be_proved():
    capture = ScriptedCapture(entries=join([TABLE, ELSEWHERE]), kernel=TABLE, dumped={7: dumped(TABLE[1:]), 8: dumped(TABLE[:0])})
    proof = prove(following(capture), only=8)
    assert (proof.equal, proof.ours, proof.kernel) == (False, 1, 0)
    assert [len(side) for side in proof.unlike] == [1, 0]
    capture = replace(capture, kernel=join([TABLE, ELSEWHERE]), dumped={7: dumped(TABLE[1:]), 8: dumped(ELSEWHERE)})
    assert prove(following(capture), only=8).equal


def verified(capture, **asked):
    request = Request(**({"duration": 1.0} | asked))
    return collect(following(capture), request, Stretch(request.duration))


# Three entries left without a word to us, two others are new in the kernel, and of the one that both have the buckets differ.
NEW = entries(2, ct=[4096, 4352], dport=80, bucket=(1, 1), chain=UNKNOWN_CHAIN, seen_ns=CLOCK.monotonic_ns)
WRONG = {
    "entries": join([TABLE, ELSEWHERE]),
    "kernel": join([changed(TABLE, 0, bucket=(5, 6))[:1], NEW]),
    "dumped": {7: dumped(join([TABLE[:1], NEW]))},
    "told": FIDELITY._replace(read_via="proc"),
}


def test_the_whole_document_as_json():
    found = verified(ScriptedCapture(**WRONG), limit=1)
    pair = {"src": "10.0.0.1", "dst": "10.0.0.2"}, {"src": "10.0.0.2", "dst": "10.0.0.1"}

    def entry(sport, dport, buckets):
        return {
            "netns": 7, "l3": "ipv4", "proto": "udp", "protonum": 17, "zone": 0, "mark": 0,
            "original": pair[0] | {"sport": sport, "dport": dport}, "reply": pair[1] | {"sport": dport, "dport": sport},
            "status": ["seen_reply", "assured", "confirmed"], "timeout_s": 100, "tcp_state": None,
            "bucket": dict(zip(("original", "reply"), buckets, strict=True)), "chain": {"original": None, "reply": None},
            "master": None,
            "zone_dir": None,
            "helper": None,
            "owner": None,
        }  # fmt: skip

    wanted = {
        "meta": plain(found.meta),
        "equal": False,
        "ours": 4,
        "kernel": 3,
        "only_ours": [entry(1025, 53, (2, 3))],
        "only_kernel": [entry(1024, 80, (1, 1))],
        "field_diffs": [{"ct": "0x100", "field": "bucket", "ours": [0, 2], "kernel": [5, 6]}],
        "differences": {"only_ours": 3, "only_kernel": 2, "field_diffs": 1},
        "netlink": {"only_ours": 2, "only_kernel": 2},
        "not_dumped": [8],
    }
    assert (wanted["meta"]["command"], wanted["meta"]["duration_s"]) == ("verify", 3.4), "one second, and the pauses"
    assert document(found) == json.dumps(wanted, indent=2), "to the byte: keys in this order"


def test_the_whole_document_as_text():
    assert list(verify_lines(verified(ScriptedCapture(**WRONG), limit=2))) == [
        "NOT EQUAL: 4 entries here, 3 in a listing of the kernel's table, and netlink dumps of those that could be entered",
        "  only here: blue udp 10.0.0.1:1025 > 10.0.0.2:53 ASSURED bucket=2/3",
        "  only here: blue udp 10.0.0.1:1026 > 10.0.0.2:53 ASSURED bucket=4/7",
        "  only in the kernel: blue udp 10.0.0.1:1024 > 10.0.0.2:80 ASSURED bucket=1/1",
        "  only in the kernel: blue udp 10.0.0.1:1025 > 10.0.0.2:80 ASSURED bucket=1/1",
        "  0x100 bucket: here [0, 2], kernel [5, 6]",
        "  ... and 1 more (--limit)",
        "  netlink: 2 entries only here, 2 only in the dumps",
        "  netlink: no dump of network namespaces 8, which could not be entered",
    ]


def test_what_follows_events_is_equal():
    born = entries(1, ct=4096, bucket=(1, 1))
    capture = ScriptedCapture([events(Kind.INSERT, born), events(Kind.DESTROY, TABLE[:1])], TABLE, kernel=join([TABLE[1:], born]))
    assert list(verify_lines(verified(capture))) == ["EQUAL: 3 entries here, 3 in a walk of the kernel's table"]
    empty = verified(ScriptedCapture(dumped={}))
    assert list(verify_lines(empty)) == ["EQUAL: 0 entries here, 0 in a walk of the kernel's table, and netlink dumps"]


def test_on_a_terminal_no_line_is_longer_than_it():
    found = verified(ScriptedCapture(**WRONG))
    whole, folded = (list(verify_lines(found, columns)) for columns in (None, 60))
    rows = slice(1, len(whole) - 1)  # the verdict and what could not be entered are running text
    assert max(map(len, whole[rows])) > 60 >= max(len(line) for row in folded[rows] for line in row.split("\n"))
    assert " ".join("\n".join(folded).split()) == " ".join("\n".join(whole).split()), "the same words in the same order"


def test_a_second_row_of_one_address_is_one_that_the_other_side_lacks():
    one, twice = entries(2, ct=[1, 2]), entries(3, ct=[1, 2, 2])
    for ours, kernel, names in ((one, twice, {(2, "only_kernel")}), (twice, one, {(2, "only_ours")}), (twice, twice, None)):
        found = compare(ours, kernel)
        assert found.names() == (names or {(2, "only_ours"), (2, "only_kernel")})
