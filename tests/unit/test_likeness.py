"""What an INVALID packet is most like: the kernel's words first, then what it is about, then its past."""

from __future__ import annotations

import pytest

from ctobserve.analysis.invalid import Like, likeness
from ctobserve.event import NO_DIRECTION, ORIGINAL, DestroyReason, DropReason
from ctobserve.model import ICMP, ICMPV6, TCP
from tests.unit.samples import departed, entry, tuple_of
from tests.unit.tables import entries, losses

LEFT = departed(entry(1), DestroyReason.TIMEOUT)
INNER = tuple_of(entry(1))
ANSWER = {"proto": ICMP, "dport": 0}
CASES = [
    ({}, {"text": b"bad checksum", "left": LEFT}, Like.BAD_CHECKSUM),
    (ANSWER, {"text": b"bad hw icmp checksum", "inner": INNER}, Like.BAD_CHECKSUM),
    ({"proto": ICMPV6}, {"text": b"ICMPv6 checksum failed"}, Like.BAD_CHECKSUM),
    ({"proto": 132}, {"text": b"nf_ct_sctp: bad CRC "}, Like.BAD_CHECKSUM),
    ({"proto": TCP}, {"text": b"SEQ is over upper bound", "direction": ORIGINAL}, Like.OUT_OF_WINDOW),
    ({"proto": TCP}, {"text": b"ACK is under lower bound", "direction": ORIGINAL}, Like.OUT_OF_WINDOW),
    (ANSWER, {"inner": INNER, "left": LEFT}, Like.ICMP_ERROR),
    ({"proto": TCP}, {"text": b"invalid tcp flag combination"}, Like.MALFORMED),
    ({"proto": TCP}, {"text": b"invalid state", "direction": ORIGINAL, "left": LEFT}, Like.UNEXPECTED),
    ({"proto": TCP}, {"left": LEFT}, Like.LATE),
    ({"proto": TCP}, {"left": LEFT, "text": b"invalid new "}, Like.LATE),
    (ANSWER, {"left": LEFT}, Like.LATE),
    (ANSWER, {}, Like.UNASKED_REPLY),
    ({"proto": ICMPV6}, {}, Like.UNASKED_REPLY),
    ({"proto": TCP}, {}, Like.NO_START),
    ({"proto": TCP}, {"text": b"invalid new"}, Like.NO_START),
    ({"proto": 47}, {}, Like.NO_START),
]


@pytest.mark.parametrize(("tuple_", "columns", "like"), CASES)
def test_a_packet_is_like_the_first_that_is_true_of_it(tuple_, columns, like):
    made = losses(entries(3, **tuple_), DropReason.INVALID, **{"direction": NO_DIRECTION} | columns)
    assert likeness(made).tolist() == [like] * 3


def test_nothing_is_like_nothing():
    assert likeness(losses()).tolist() == []
