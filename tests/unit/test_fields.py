"""The tables of fields: what they promise of names, types and null holds for what is printed."""

from __future__ import annotations

from typing import get_args, get_origin

import pytest

from ctobserve.event import Kind
from ctobserve.render.entry_fields import ENTRY_FIELDS, LISTED_FIELDS, TUPLE_FIELDS
from ctobserve.render.event_fields import EVENT, OF_KIND, TS
from ctobserve.render.event_rows import event_rows
from ctobserve.render.fields import Field, Object, flat_names
from ctobserve.render.rows import entry_rows
from tests.scripted import CLOCK as STREAM
from tests.unit import test_event_rows, test_same_facts_of_events
from tests.unit.test_same_facts import CLOCK, OWNERS, everything, helpers

# Each once.
EVENT_FIELDS = (EVENT, TS, *dict.fromkeys(member for members in OF_KIND.values() for member in members))


def every(members):
    for member in members:
        yield member
        if isinstance(member, Object):
            yield from every(member.members)


def fits(value, hint):
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(fits(one, get_args(hint)[0]) for one in value)
    return type(value) is hint


def check(members, row):
    """Each field is of its type, null where that may be, missing where not all have it."""
    for member in members:
        if member.name not in row:
            assert member.has is not None, member.name
        elif row[member.name] is None:
            assert member.known is not None, member.name
        elif isinstance(member, Field):
            assert fits(row[member.name], member.type.json), (member.name, row[member.name])
        else:
            check(member.members, row[member.name])
    assert row.keys() <= {member.name for member in members}


def happened():
    rows = event_rows(test_same_facts_of_events.HAPPENED, STREAM)
    assert not [row for row in rows if "owner" in row], "who follows events does not ask"
    return rows + [row for made, _, _ in test_event_rows.CASES.values() for row in event_rows(made, STREAM)]


def test_entries_are_as_their_fields_say():
    entries = everything(1000)
    for row in entry_rows(entries, CLOCK, entries, helpers(1000), OWNERS):
        check(LISTED_FIELDS, row)
        assert [*row] == [member.name for member in LISTED_FIELDS]


def test_events_are_as_their_fields_say():
    for row in happened():
        members = (EVENT, TS, *ENTRY_FIELDS, *OF_KIND.get(Kind[row["event"].upper()], ()))
        check(members, row)
        assert [*row] == [member.name for member in members]


@pytest.mark.parametrize("members", [LISTED_FIELDS, EVENT_FIELDS], ids=["entry", "event"])
def test_each_field_is_there_once_and_says_what_it_is(members):
    names = [*flat_names(members)]
    assert len(names) == len(set(names))
    assert all(member.says and not member.says.endswith(".") for member in every(members))
    assert all(rule.says for member in every(members) for rule in (member.has, member.known) if rule)


def test_every_field_that_may_be_null_is_null_somewhere_and_known_somewhere():
    entries = everything(1000)
    rows = [*entry_rows(entries, CLOCK, entries, helpers(1000), OWNERS), *happened()]
    met = {
        (member.name, value is None)
        for row in rows
        for member in (*EVENT_FIELDS, *LISTED_FIELDS)
        if member.name in row
        for value in (row[member.name],)
    }
    for member in (*EVENT_FIELDS, *LISTED_FIELDS):
        assert (member.name, False) in met
        assert ((member.name, True) in met) == (member.known is not None), member.name


def test_columns_of_csv_are_named_with_dots():
    assert [*flat_names(LISTED_FIELDS)][:8] == [
        "netns",
        "l3",
        "proto",
        "protonum",
        "zone",
        "mark",
        "original.src",
        "original.dst",
    ]
    assert [*flat_names(TUPLE_FIELDS)] == ["src", "dst", "sport", "dport", "type", "code", "id", "srckey", "dstkey"]
