"""docs/schema.json and the tables of docs/json.md are those of the code, and what commands print is as the schema says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_type_hints

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from ctobserve.capture.read_via import ReadVia
from ctobserve.diagnosis.evidence_keys import EVIDENCE_GROUPS, EVIDENCE_KEYS
from ctobserve.documents.base import EntryRows, doc
from ctobserve.documents.list import ListDocument
from ctobserve.model import UNKNOWN_BUCKET, UNKNOWN_CHAIN, join
from ctobserve.render import schema as under_test
from ctobserve.render.jsonout import plain
from ctobserve.render.schema import DOCUMENTS, schema
from tests.json_doc import PAGE, SCHEMA, filled, published
from tests.scripted import CLOCK, ScriptedCapture
from tests.unit import (
    test_buckets,
    test_check,
    test_diff_document,
    test_drops,
    test_events,
    test_fleet_document,
    test_list_expect,
    test_recording_command,
    test_report,
    test_size,
    test_size_document,
    test_summary,
    test_top,
    test_verify,
    test_why,
)
from tests.unit.tables import entries

# Entries of all protocols: wholly known, by their tuple, by tuple and zone; without buckets and namespace, some with a master.
PROTOCOLS = [1, 6, 17, 33, 47, 58, 132, 136, 253]
KNOWN, BARE, ZONED = (entries(9, proto=PROTOCOLS, has_ct=known, ct=np.arange(1, 10), status=0xFFFF) for known in (1, 0, 2))
LOST = entries(
    9, proto=PROTOCOLS, netns=0, l3num=10, bucket=UNKNOWN_BUCKET, chain=UNKNOWN_CHAIN, tcp_state=77, master=np.arange(9)
)
SORTS = join([KNOWN, BARE, ZONED, LOST])

# What commands print in their own tests, each document and line of a stream.
PRINTED: dict[str, list[Any]] = {
    "report": [plain(test_report.reported())],
    "why": [plain(test_why.why(case.asked, case.capture())) for case in test_why.ENDINGS.values()],
    "drops": [plain(test_drops.collected())],
    "list": [plain(ListDocument(test_summary.META, EntryRows(SORTS, CLOCK, KNOWN)))],
    "expectations": [plain(test_list_expect.found(via)) for via in (ReadVia.NETLINK, ReadVia.PROC)],
    "buckets": [plain(test_buckets.small())],
    "top": plain(test_top.frames(test_top.happening())),
    "verify": [plain(test_verify.verified(ScriptedCapture(**test_verify.WRONG)))],
    "size": [plain(test_size.said(test_size.made())), test_size_document.WHOLE_JSON],
    "record": [plain(test_recording_command.recorded_document())],
    "diff": [plain(test_diff_document.compared())],
    "fleet": [plain(test_fleet_document.answered())],
    "check": [plain(test_check.told()[0])],
    "events": [*(row for rows in test_events.shown() for row in plain(rows)), *plain(test_events.packets())],
}


def closed(part: Any) -> Any:
    """The same schema, by which an object has no other keys."""
    if isinstance(part, list):
        return list(map(closed, part))
    if not isinstance(part, dict):
        return part
    made = {key: closed(inner) for key, inner in part.items()}
    return made | {"additionalProperties": False} if "properties" in part and "description" in part and "type" in part else made


CLOSED = closed(schema())


def fits(name: str, printed: Any) -> bool:
    return bool(Draft202012Validator({"$defs": CLOSED["$defs"], "$ref": f"#/$defs/{name}"}).is_valid(printed))


def test_the_published_schema_is_that_of_the_code():
    assert SCHEMA.read_text() == published(), "make json-doc"


def test_the_tables_of_the_page_are_those_of_the_code():
    assert PAGE.read_text() == filled(PAGE.read_text()), "make json-doc"


def test_it_is_a_schema_of_every_command():
    Draft202012Validator.check_schema(schema())
    assert PRINTED.keys() == {*DOCUMENTS, "events"}
    assert [part["$ref"] for part in schema()["anyOf"]] == [f"#/$defs/{name}" for name in PRINTED]


@pytest.mark.parametrize("name", PRINTED)
def test_what_a_command_prints_is_as_the_schema_says(name):
    assert PRINTED[name]
    for printed in PRINTED[name]:
        Draft202012Validator({"$defs": CLOSED["$defs"], "$ref": f"#/$defs/{name}"}).validate(printed)


def test_the_events_printed_are_of_all_kinds():
    assert {row["event"] for row in PRINTED["events"]} == {"insert", "confirm", "update", "destroy", "drop", "packets"}


@pytest.mark.parametrize("name", PRINTED)
def test_the_schema_misses_no_key_and_lets_no_other_value_pass(name):
    for printed in PRINTED[name]:
        assert not fits(name, printed | {"novelty": 1})
        for key in printed:
            assert not fits(name, {other: value for other, value in printed.items() if other != key}), key
            assert not fits(name, printed | {key: [{"wrong": [[[]]]}]}), key
            for inner in printed[key] if key == "meta" else ():
                assert not fits(name, printed | {key: {other: value for other, value in printed[key].items() if other != inner}})


def keys(part: Any) -> set[str]:
    """Of all objects that a schema describes."""
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    own = set(part["properties"]) if isinstance(part, dict) and isinstance(part.get("properties"), dict) else set()
    return own.union(*map(keys, inner))


def test_every_key_is_in_a_table_of_the_page():
    in_tables = set(re.findall(r"^\| `(?:[^`]*\.)?(\w+)` ", PAGE.read_text(), re.M))
    assert in_tables | {"meta"} == keys(schema())


def test_every_key_of_evidence_is_in_one_group():
    grouped = [key for group in EVIDENCE_GROUPS for key in get_type_hints(group)]
    assert grouped == list(EVIDENCE_KEYS), "in the order of groups"


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class LongName:
    """What it is.

    What else.
    """

    colours: tuple[Colour, ...] = doc("some")
    counts: Mapping[str, int | None] = doc("by name")
    again: LongName | None = doc("another")


def test_types_become_schemas():
    made = under_test._Definitions()
    assert made.add("whole", LongName, lambda: made.object(LongName)) == {"$ref": "#/$defs/whole"}
    assert (
        made.found["whole"]
        == made.found["long_name"]
        == {
            "description": "What it is.",
            "type": "object",
            "properties": {
                "colours": {"description": "some", "type": "array", "items": {"enum": ["red"]}},
                "counts": {"description": "by name", "type": "object", "additionalProperties": {"type": ["integer", "null"]}},
                "again": {"description": "another", "anyOf": [{"$ref": "#/$defs/long_name"}, {"type": "null"}]},
            },
            "required": ["colours", "counts", "again"],
        }
    )


@dataclass(frozen=True)
class Odd:
    """Has a field that is none of JSON."""

    odd: bytes = doc("bytes")


def test_what_has_no_form_in_json_has_no_schema():
    with pytest.raises(TypeError, match="has no form in JSON"):
        under_test._Definitions().object(Odd)
    made = under_test._Definitions()
    made.add("one", LongName, dict)
    with pytest.raises(ValueError, match="one is the name of"):
        made.add("one", Odd, dict)
