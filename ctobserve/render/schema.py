"""The JSON Schema of everything that ctobserve prints with --json, made from the types and texts of documents and fields.

docs/schema.json is what this gives, and the tables of docs/json.md are made of it (`make json-doc`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from itertools import chain
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ctobserve.diagnosis.evidence_keys import EVIDENCE_KEYS, VerdictEvidence
from ctobserve.documents.base import EntryRows, EventRows, ExpectationRows
from ctobserve.documents.buckets import BucketsDocument
from ctobserve.documents.check import CheckDocument
from ctobserve.documents.diff import DiffDocument
from ctobserve.documents.drops import DropsDocument
from ctobserve.documents.events import PacketsRow
from ctobserve.documents.expectations import ExpectationsDocument
from ctobserve.documents.fleet import FleetDocument
from ctobserve.documents.list import ListDocument
from ctobserve.documents.meta import SCHEMA
from ctobserve.documents.record import RecordDocument
from ctobserve.documents.report import ReportDocument
from ctobserve.documents.size import SizeDocument
from ctobserve.documents.top import Frame
from ctobserve.documents.verify import VerifyDocument
from ctobserve.documents.why import WhyDocument
from ctobserve.event import Kind
from ctobserve.render.entry_fields import ENTRY_FIELDS, LISTED_FIELDS, TUPLE_FIELDS
from ctobserve.render.event_fields import EVENT, OF_KIND, OWNER_TOLD, TS
from ctobserve.render.expectation_fields import EXPECTATION_FIELDS
from ctobserve.render.fields import Field, Member, Object

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# By command; `events` is a stream of events and packets, `list --expect` prints `expectations`.
DOCUMENTS: Mapping[str, type] = {
    "report": ReportDocument,
    "why": WhyDocument,
    "drops": DropsDocument,
    "list": ListDocument,
    "expectations": ExpectationsDocument,
    "buckets": BucketsDocument,
    "top": Frame,
    "verify": VerifyDocument,
    "size": SizeDocument,
    "record": RecordDocument,
    "diff": DiffDocument,
    "fleet": FleetDocument,
    "check": CheckDocument,
}
SCALARS: Mapping[Any, str] = {int: "integer", float: "number", str: "string", bool: "boolean", NoneType: "null"}
ROWS: Mapping[Any, str] = {EntryRows: "entry", EventRows: "event", ExpectationRows: "expectation"}


def schema() -> Schema:
    """Of `$defs` one for each command's document by the command's name, the others for what stands in these."""
    made = _Definitions()
    made.add("entry", LISTED_FIELDS, lambda: made.members("An entry of the table.", LISTED_FIELDS))
    made.add("event", EVENT, made.event)
    made.add("expectation", EXPECTATION_FIELDS, lambda: made.members("A connection that is expected.", EXPECTATION_FIELDS))
    made.add("packets", PacketsRow, lambda: made.object(PacketsRow))
    made.add("events", EventRows, lambda: {"description": "One line of the stream.", "anyOf": [_ref("event"), _ref("packets")]})
    for name, kind in DOCUMENTS.items():
        made.add(name, kind, partial(made.object, kind))
    return {
        "$schema": DIALECT,
        "$id": f"urn:ctobserve:json:{SCHEMA}",
        "title": "ctobserve --json",
        "description": f"While meta.schema is {SCHEMA}, no key goes or changes its meaning; keys may be added.",
        "anyOf": [_ref(name) for name in (*DOCUMENTS, "events")],
        "$defs": dict(sorted(made.found.items())),
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _object(says: str, keys: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    return {"description": says, "type": "object", "properties": dict(keys), "required": list(required)}


def _or_null(found: Schema) -> Schema:
    return {"type": [found["type"], "null"]} if found.keys() == {"type"} else {"anyOf": [found, {"type": "null"}]}


class _Definitions:
    """`found`: by name, in the words of JSON Schema."""

    def __init__(self) -> None:
        self.found: dict[str, Schema] = {}
        self._owners: dict[str, Any] = {}

    def add(self, name: str, owner: object, make: Callable[[], Schema]) -> Schema:
        """A reference to what is made once for its owner; raises ValueError where another has that name."""
        if self._owners.setdefault(name, owner) is not owner:
            raise ValueError(f"{name} is the name of {owner} and of {self._owners[name]}")
        if name not in self.found:
            self.found[name] = {}
            self.found[name] = make()
        return _ref(name)

    def object(self, kind: type) -> Schema:
        """Of a dataclass."""
        hints = get_type_hints(kind)
        keys = {one.name: {"description": one.metadata["doc"]} | self._of(hints[one.name]) for one in fields(kind)}
        return _object(" ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split()), keys, list(keys))

    def members(self, says: str, members: Sequence[Member[Any]]) -> Schema:
        """Of fields of entries and events."""
        keys = {member.name: self._member(member) for member in members}
        return _object(says, keys, [member.name for member in members if member.has is None])

    def event(self) -> Schema:
        """Keys that all events have, and those that their kind has."""
        of_kinds = tuple(dict.fromkeys(chain.from_iterable(OF_KIND.values())))
        says = "What happened, and the entry; of a packet without one what is known of it."
        whole = self.members(says, (EVENT, TS, *ENTRY_FIELDS, OWNER_TOLD, *of_kinds))
        kinds = {kind.name.lower(): [member.name for member in OF_KIND.get(kind, ())] for kind in (Kind.INSERT, *OF_KIND)}
        return whole | {
            "required": [member.name for member in (EVENT, TS, *ENTRY_FIELDS)],
            "anyOf": [{"properties": {"event": {"const": name}}, "required": keys} for name, keys in kinds.items()],
        }

    def _member(self, member: Member[Any]) -> Schema:
        of = f"; only of {member.has.says}" if member.has else ""
        null = f"; null unless {member.known.says}" if member.known else ""
        found = self._of(member.type.json) if isinstance(member, Field) else self._of_members(member)
        return {"description": f"{member.says}{of}{null}"} | (_or_null(found) if member.known else found)

    def _of_members(self, group: Object[Any]) -> Schema:
        if group.members is TUPLE_FIELDS:
            return self.add("tuple", TUPLE_FIELDS, lambda: self.members("One direction of an entry.", TUPLE_FIELDS))
        return {name: value for name, value in self.members("", group.members).items() if name != "description"}

    def _of(self, hint: Any) -> Schema:
        if hint in SCALARS:
            return {"type": SCALARS[hint]}
        if hint in ROWS:
            return {"type": "array", "items": _ref(ROWS[hint])}
        if hint is VerdictEvidence:
            return self.add("evidence", hint, self._evidence)
        if isinstance(hint, type) and is_dataclass(hint):
            return self.add(_snake(hint.__name__), hint, partial(self.object, hint))
        if isinstance(hint, type) and issubclass(hint, Enum):
            return {"enum": [one.value for one in hint]}
        return self._of_parts(hint, get_origin(hint), get_args(hint))

    def _of_parts(self, hint: Any, origin: Any, parts: tuple[Any, ...]) -> Schema:
        """Raises TypeError for what has no form in JSON."""
        if origin in (Union, UnionType):
            found = [self._of(part) for part in parts]
            if all(one.keys() == {"type"} for one in found):
                return {"type": [one["type"] for one in found]}
            return {"anyOf": found}
        if origin is list or (origin is tuple and parts[1:] == (...,)):
            return {"type": "array", "items": self._of(parts[0])}
        if origin is Mapping and parts[0] is str:
            return {"type": "object", "additionalProperties": self._of(parts[1])}
        raise TypeError(f"{hint} has no form in JSON Schema")

    def _evidence(self) -> Schema:
        keys = {name: {"description": says} | self._of(hint) for name, (hint, says) in EVIDENCE_KEYS.items()}
        unknown = {"^reason_[0-9]+$": {"description": "packets lost for a reason without a name", "type": "integer"}}
        return _object("What a verdict rests on; each has some of these.", keys, []) | {"patternProperties": unknown}


def _snake(name: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()
