"""docs/schema.json, the tables of docs/json.md and the index of docs/lab.md, made of what is told in code: `make json-doc`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_type_hints

from ctobserve.diagnosis.evidence_keys import EVIDENCE_GROUPS
from ctobserve.render.schema import Schema, schema
from tests import lab_index

SCHEMA, PAGE = (Path(__file__).parents[1] / "docs" / name for name in ("schema.json", "json.md"))
MARKED = re.compile(r"(<!-- keys of (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
# Objects with tables of their own on the page.
APART = ("entry", "event", "expectation", "tuple", "evidence", "meta")
FLAT = 24  # rows: of a longer table each object gets one of its own
Row = tuple[str, str, str]


class Shape(NamedTuple):
    """A type in words; the definition of the objects in it, and the path to one of them."""

    words: str
    object: str | None = None
    path: str = ""


def published() -> str:
    """The file docs/schema.json."""
    return json.dumps(schema(), indent=1) + "\n"


def filled(page: str) -> str:
    """The page with the tables between its marks made anew; raises KeyError for a mark of what is not there."""
    found = Tables(schema()["$defs"])
    return MARKED.sub(lambda mark: f"{mark[1]}\n{found.of(mark[2])}\n{mark[3]}", page)


class Tables:
    """Keys of objects, with their types and what they say."""

    def __init__(self, defs: dict[str, Schema]) -> None:
        self._defs = defs

    def of(self, name: str) -> str:
        """One table with the keys of all objects in it, or, where that is too long, one for each."""
        name, _, kind = name.partition("/")
        keys = self._keys(name)
        if kind:
            of_kind = next(one for one in self._defs[name]["anyOf"] if one["properties"][name] == {"const": kind})
            return _table(self._rows({key: keys[key] for key in of_kind["required"]}))
        if name == "event":
            return _table(self._rows(self._more({key: keys[key] for key in self._defs[name]["required"]}, "entry")))
        if name == "evidence":
            groups = ((group.__doc__ or "", {key: keys[key] for key in get_type_hints(group)}) for group in EVIDENCE_GROUPS)
            return "\n".join(f"{says[:-1]}:\n\n{_table(self._rows(some))}" for says, some in groups)
        whole = list(self._rows(keys))
        return _table(whole) if len(whole) <= FLAT else "\n".join(self._parts(keys))

    def _parts(self, keys: Schema) -> Iterator[str]:
        apart: dict[str, str] = {}
        for key, value in keys.items():
            name = _shape(value).object
            if name and name not in APART and key != "meta":
                apart.setdefault(name, key)
        yield _table(self._heads(keys, apart))
        for name, key in apart.items():
            yield f"#### {key}\n\n{self._defs[name]['description']}\n\n{_table(self._rows(self._keys(name)))}"

    def _heads(self, keys: Schema, apart: dict[str, str]) -> Iterator[Row]:
        """Of each key; what is of an object that another has its table of is as that."""
        for key, value in keys.items():
            shape, says = _shape(value), value["description"]
            told = apart.get(shape.object or "", key)
            if key != "meta":
                yield key, shape.words, says if told == key else f"{says}; as `{told}`"

    def _rows(self, keys: Schema, before: str = "") -> Iterator[Row]:
        """Of these keys and of those of objects in them, which are told once. Of `meta` only what others have not."""
        met: dict[str, str] = {}
        for key, value in keys.items():
            path, shape, says = f"{before}{key}", _shape(value), value["description"]
            name = shape.object
            if key == "meta":
                yield from self._rows(self._more(self._keys(name), "meta"), "meta.")
                continue
            yield path, shape.words, f"{says}; as `{met[name]}`" if name in met else says
            if name and name not in APART and name not in met:
                met[name] = path
                yield from self._rows(self._keys(name), f"{path}{shape.path}.")
            for part in (value, *value.get("anyOf", ())):
                yield from self._rows(part.get("properties", {}), f"{path}.")

    def _more(self, keys: Schema, name: str) -> Schema:
        return {key: value for key, value in keys.items() if key not in self._keys(name)}

    def _keys(self, name: str | None) -> Schema:
        keys: Schema = self._defs[name or "meta"]["properties"]
        return keys


def _shape(value: Schema, many: bool = False) -> Shape:
    if "anyOf" in value:
        parts = [_shape(part, many) for part in value["anyOf"]]
        inner = next((part for part in parts if part.object), parts[0])
        return Shape(_either([part.words for part in parts], many), inner.object, inner.path)
    for within, words, step in (("items", "list", "[]"), ("additionalProperties", "object", ".*")):
        if within in value:
            inner = _shape(value[within], True)
            return Shape(f"{_word(words, many)} of {inner.words}", inner.object, f"{step}{inner.path}")
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return Shape(_word(name if name in ("entry", "event", "expectation", "tuple") else "object", many), name)
    kinds = value.get("type", "string")  # of an enum no other
    return Shape(_either([_word(kind, many) for kind in ([kinds] if isinstance(kinds, str) else kinds)], many))


def _either(words: list[str], many: bool) -> str:
    return ("/" if many else " or ").join(words)


def _word(name: str, many: bool) -> str:
    return name if not many or name == "null" else "entries" if name == "entry" else f"{name}s"


def _table(rows: Iterator[Row]) -> str:
    cells = [("key", "type", "says"), ("---", "---", "---"), *((f"`{key}`", kind, says) for key, kind, says in rows)]
    widths = [max(len(row[at]) for row in cells) for at in (0, 1)]
    return "".join(f"| {key:<{widths[0]}} | {kind:<{widths[1]}} | {says} |\n" for key, kind, says in cells)


if __name__ == "__main__":
    SCHEMA.write_text(published())
    PAGE.write_text(filled(PAGE.read_text()))
    lab_index.PAGE.write_text(lab_index.filled(lab_index.PAGE.read_text()))
