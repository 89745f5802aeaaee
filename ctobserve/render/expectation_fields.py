"""The fields of an expectation (docs/json.md), from which JSON, CSV and text take them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from ctobserve.model import EXPECT_FLAGS, UNTIMED, Expectations, Mask, pick
from ctobserve.render.columns import Numbers
from ctobserve.render.entry_fields import TUPLE_FIELDS, TupleView, protocol_fields
from ctobserve.render.fields import NUMBER, Field, Member, Object, Rule, bits_of, foreign


class ExpectationView:
    """Expectations on their way out."""

    def __init__(self, rows: Expectations) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, which: Mask) -> ExpectationView:
        """Those rows alone."""
        return ExpectationView(pick(self.rows, which))

    def _tuples(self, place: int, protonum: str) -> TupleView:
        places = slice(2 * place, 2 * place + 2)
        return TupleView(self.rows["addr"][:, places], self.rows["port"][:, places], self.rows["l3num"], self.rows[protonum])

    @cached_property
    def expected(self) -> TupleView:
        """What its first packet will have, where the mask has bits."""
        return self._tuples(0, "protonum")

    @cached_property
    def mask(self) -> TupleView:
        """Which bits of that must be so."""
        return self._tuples(1, "protonum")

    @cached_property
    def master(self) -> TupleView:
        """The original tuple of its master."""
        return self._tuples(2, "master_protonum")

    @cached_property
    def told(self) -> Mask:
        """Netlink told it."""
        told: Mask = self.rows["has_master"]
        return told


def _column(name: str) -> Callable[[ExpectationView], Numbers]:
    return lambda view: view.rows[name]


TOLD: Rule[ExpectationView] = Rule("netlink told it", lambda view: view.told)
NETNS = Field(
    "netns", "inode number of the network namespace", NUMBER, _column("netns"),
    Rule("netlink told it", lambda view: view.rows["netns"] != 0),
)  # fmt: skip
FAMILY, PROTO, PROTONUM = protocol_fields(_column)
TIMEOUT_S: Field[ExpectationView] = Field(
    "timeout_s", "s until it expires", NUMBER, lambda view: view.rows["left_s"].astype("u4"),
    Rule("it ever does", lambda view: view.rows["left_s"] != UNTIMED),
)  # fmt: skip
EXPECTED: Object[ExpectationView] = Object(
    "tuple", "what the first packet of the expected connection has", TUPLE_FIELDS, lambda view: view.expected
)
MASK: Object[ExpectationView] = Object(
    "mask", "bits of `tuple` that must be so; where they are 0 it may have any", TUPLE_FIELDS, lambda view: view.mask, TOLD
)
MASTER: Object[ExpectationView] = Object(
    "master", "original tuple of the entry whose helper expects it", TUPLE_FIELDS, lambda view: view.master, TOLD
)
HELPER = Field(
    "helper", "name of that helper", foreign(), _column("helper"), Rule("it has one", lambda view: view.rows["helper"] != b"")
)
CLASS = Field("class", "which of the helper's policies holds for it", NUMBER, lambda view: view.rows["class"].astype("u4"), TOLD)
FLAGS: Field[ExpectationView] = Field(
    "flags", "NF_CT_EXPECT_* bits that are set", bits_of(EXPECT_FLAGS, "+"), lambda view: view.rows["flags"].astype("u4")
)
EXPECTATION_FIELDS: tuple[Member[ExpectationView], ...] = (
    *(NETNS, FAMILY, PROTO, PROTONUM, TIMEOUT_S, EXPECTED, MASK, MASTER, HELPER, CLASS, FLAGS),
)
