"""Why an entry left: the function that called nf_ct_delete, by the return address the kernel side recorded."""

from __future__ import annotations

import re

from ctobserve.events import Kind, Records
from ctobserve.kernel import Symbols

# Caller -> reason; kernel-catalogue of nf_ct_delete's callers, net/netfilter/*.c of 5.10 - 7.2.
CALLERS = {
    "nf_ct_gc_expired": "timeout",
    "ct_seq_show": "timeout",
    "ctnetlink_dump_table": "timeout",
    "early_drop": "early_drop",
    "gc_worker": "gc_early_drop",
    "ctnetlink_del_conntrack": "deleted",
    "nf_conntrack_tcp_packet": "tcp_reuse",
}
_SUFFIX = re.compile(r"\.(part|constprop|isra|cold)\..*|\.cold")


def reasons(records: Records, symbols: Symbols) -> list[str | None]:
    """A reason for each destroy or free among these records, None for records of another kind."""
    known: dict[int, str] = {}
    found: list[str | None] = []
    rows = zip(records["kind"].tolist(), records["caller"].tolist(), records["portid"].tolist(), strict=True)
    for kind, caller, portid in rows:
        if kind == Kind.FREE:
            found.append("unconfirmed")
        elif kind != Kind.DESTROY:
            found.append(None)
        else:
            if caller not in known:
                known[caller] = _SUFFIX.sub("", symbols.containing(caller) or "")
            name = known[caller]
            found.append("flushed" if name == "nf_ct_iterate_cleanup" and portid else CALLERS.get(name, "other"))
    return found
