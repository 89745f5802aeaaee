"""The head of an HTTP request: bytes to a method, a path and what of its fields is heard."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

HEAD_BYTES = 8192
END = b"\r\n\r\n"
_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,2000}) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")


class Refused(Exception):
    """A request that is answered by this status alone, and ends the connection."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Request(NamedTuple):
    """`fields` by lower-case name, several of one name joined as RFC 9110 has it; `stays`: the connection outlives the answer."""

    method: str
    path: str
    fields: Mapping[str, str]
    stays: bool


def parse(head: bytes) -> Request:
    """Of everything up to END, which it ends with. Raises Refused for what is no request, and for one with a body."""
    first, *rest = head.removesuffix(END).split(b"\r\n")
    line = _LINE.fullmatch(first)
    if not line:
        raise Refused(HTTPStatus.BAD_REQUEST)
    fields: dict[str, str] = {}
    for one in rest:
        field = _FIELD.fullmatch(one)
        if not field:
            raise Refused(HTTPStatus.BAD_REQUEST)
        name, value = field[1].decode("latin-1", "replace").lower(), field[2].decode("latin-1", "replace").strip()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    asked = fields.get("connection", "").lower()
    stays = "close" not in asked if line[3] == b"1" else "keep-alive" in asked
    return Request(line[1].decode("latin-1", "replace"), line[2].decode("latin-1", "replace").partition("?")[0], fields, stays)
