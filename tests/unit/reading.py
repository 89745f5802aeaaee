"""Text read back: a tuple as a line shows it, as the object that the JSON contract has for it."""

from __future__ import annotations

import re

ANSWERS = {"icmp": {8: 0, 13: 14, 15: 16, 17: 18}, "icmpv6": {128: 129, 139: 140}}
TUPLE = r"\S+ > \S+(?: (?:type|code|id|srckey|dstkey) \d+)*"


def as_read(tuple_text):
    """Of a text like `10.0.0.1:1000 > 10.0.0.2:53` or `10.0.0.1 > 10.0.0.2 type 8 code 0 id 7`."""
    one, other, more = re.fullmatch(r"(\S+) > (\S+)((?: [a-z]+ \d+)*)", tuple_text).groups()
    words = more.split()
    found = {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}
    if "type" in found:
        return {"src": one, "dst": other} | found
    ends = [re.fullmatch(r"\[(\S+)\]:(\d+)|([\d.]+):(\d+)", end) for end in (one, other)]
    if not all(ends):
        return {"src": one, "dst": other, "sport": None, "dport": None} | found
    (src, sport), (dst, dport) = ((end[1] or end[3], int(end[2] or end[4])) for end in ends)
    return {"src": src, "dst": dst, "sport": sport, "dport": dport}


def mirror(tuple_, proto):
    """What answers it."""
    turned = {"src": "dst", "dst": "src", "sport": "dport", "dport": "sport", "srckey": "dstkey", "dstkey": "srckey"}
    found = {name: tuple_[turned.get(name, name)] for name in tuple_}
    if "type" in found:
        pairs = ANSWERS[proto]
        found["type"] = (pairs | {answer: asked for asked, answer in pairs.items()}).get(found["type"], found["type"])
    return found


def flat(row):
    """A row of the JSON contract as CSV has it: names with dots, no cell for what is unknown."""
    found = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": part for inner, part in value.items()}
        else:
            found[name] = " ".join(value) if isinstance(value, list) else value
    return {name: str(value) for name, value in found.items() if value is not None}
