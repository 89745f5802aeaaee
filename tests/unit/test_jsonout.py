"""How documents become JSON: fields in their order, rows written out, nothing that is no value of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pytest

from ctobserve.documents.base import EntryRows, doc
from ctobserve.render.jsonout import document, line, plain
from ctobserve.render.rows import entry_rows
from tests.scripted import CLOCK
from tests.unit.tables import entries


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Part:
    value: float | None = doc("a value")


@dataclass(frozen=True)
class Whole:
    later: str = doc("comes first, whatever its name")
    colour: Colour = doc("one of a few words")
    parts: tuple[Part, ...] = doc("some")
    by_number: Mapping[int, Part] = doc("by number")


WHOLE = Whole("x", Colour.RED, (Part(1.5), Part(None)), {7: Part(2)})
WRITTEN = '{"later":"x","colour":"red","parts":[{"value":1.5},{"value":null}],"by_number":{"7":{"value":2}}}'


def test_a_document_is_an_object_in_the_order_of_its_fields():
    assert line(WHOLE) == WRITTEN
    assert document(WHOLE) == json.dumps(json.loads(WRITTEN), indent=2)


def test_entries_name_their_masters():
    shown, master = entries(3, master=[0, 77, 4096]), entries(1, ct=4096, dport=21)
    rows = plain(EntryRows(shown, CLOCK, master))
    expected = entry_rows(shown, CLOCK)
    expected[2]["master"] = {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1024, "dport": 21}
    assert rows == expected and [row["master"] is None for row in rows] == [True, True, False]
    assert plain(EntryRows(shown, CLOCK)) == entry_rows(shown, CLOCK)


@pytest.mark.parametrize("value", [np.float64(1), np.bool_(True), np.int64(2), np.str_("x"), np.zeros(2), b"x", {1}, 1j, Part])
def test_nothing_else_has_a_form_in_json(value):
    with pytest.raises(TypeError, match="has no form in JSON"):
        plain([value])
