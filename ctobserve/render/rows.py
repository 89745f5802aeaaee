"""Entries as plain Python values, column by column: the rows of the JSON contract."""

from __future__ import annotations

import socket
from typing import Any

from ctobserve.clock import Clock
from ctobserve.model import (
    GRE,
    L3,
    UNKNOWN_BUCKET,
    UNKNOWN_CHAIN,
    WITH_ICMP,
    WITH_PORTS,
    Entries,
    protocol_name,
    status_names,
    tcp_state_name,
)
from ctobserve.render import known

Row = dict[str, Any]


def addresses(entries: Entries, at: int) -> list[str]:
    """Printable addresses of one of the four places; each distinct one is formatted once."""
    written: dict[tuple[int, bytes], str] = {}
    packed = entries["addr"][:, at].tobytes()
    result = []
    for i, l3num in enumerate(entries["l3num"].tolist()):
        key = (l3num, packed[16 * i : 16 * i + 16])
        if key not in written:
            family, size = (socket.AF_INET, 4) if l3num == socket.AF_INET else (socket.AF_INET6, 16)
            written[key] = socket.inet_ntop(family, key[1][:size])
        result.append(written[key])
    return result


def _endpoint(protonum: int, src: str, dst: str, sport: int, dport: int) -> Row:
    if protonum in WITH_ICMP:
        return {"src": src, "dst": dst, "type": dport >> 8, "code": dport & 255, "id": sport}
    if protonum in WITH_PORTS:
        return {"src": src, "dst": dst, "sport": sport, "dport": dport}
    if protonum == GRE:
        return {"src": src, "dst": dst, "sport": None, "dport": None, "srckey": sport, "dstkey": dport}
    return {"src": src, "dst": dst, "sport": None, "dport": None}


def entry_rows(entries: Entries, clock: Clock) -> list[Row]:
    """Entries as the JSON contract has them; unknown is None. `master` is for the caller to fill, who knows other entries."""
    seconds, ticking = known.left_s(entries, clock)
    columns = zip(
        *(entries[name].tolist() for name in ("netns", "l3num", "protonum", "zone", "mark", "status", "tcp_state")),
        *(mask.tolist() for mask in (known.whole(entries), known.zoned(entries), known.tcp(entries), ticking)),
        *(addresses(entries, at) for at in range(4)),
        entries["port"].tolist(),
        entries["bucket"].tolist(),
        entries["chain"].tolist(),
        seconds.tolist(),
        strict=True,
    )
    rows = []
    for netns, l3, proto, zone, mark, status, state, *knowns, src0, dst0, src1, dst1, port, bucket, chain, left in columns:
        whole, zoned, stateful, timed = knowns
        row: Row = {
            "netns": netns or None,
            "l3": L3.get(l3, str(l3)),
            "proto": protocol_name(proto),
            "protonum": proto,
            "zone": zone if zoned else None,
            "mark": mark if whole else None,
            "original": _endpoint(proto, src0, dst0, port[0], port[1]),
            "reply": _endpoint(proto, src1, dst1, port[2], port[3]) if whole else None,
            "status": status_names(status) if whole else None,
            "timeout_s": left if timed else None,
            "tcp_state": tcp_state_name(proto, state) if stateful else None,
            "bucket": _pair(bucket, UNKNOWN_BUCKET),
            "chain": _pair(chain, UNKNOWN_CHAIN),
            "master": None,
        }
        rows.append(row)
    return rows


def _pair(values: list[int], unknown: int) -> Row:
    return {name: None if value == unknown else value for name, value in zip(("original", "reply"), values, strict=True)}
