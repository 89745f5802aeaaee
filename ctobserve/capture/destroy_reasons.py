"""Why an entry left: the function that called nf_ct_delete, by the return address the kernel side recorded."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ctobserve.capture.records import FLAG_KILLED, Kind, Records
from ctobserve.host.kernel import Symbols
from ctobserve.model import printable

# Caller of nf_ct_delete -> reason and detail; net/netfilter/*.c of 5.10 - 7.2.
CALLERS: dict[str, tuple[str, str | None]] = {
    "nf_ct_gc_expired": ("timeout", None),
    "ct_seq_show": ("timeout", "reaped by a reader of /proc/net/nf_conntrack"),
    "ctnetlink_dump_table": ("timeout", "reaped by a netlink dump"),
    "early_drop": ("early_drop", None),
    "gc_worker": ("gc_early_drop", None),
    "ctnetlink_del_conntrack": ("deleted", None),
    "nf_conntrack_tcp_packet": ("tcp_reuse", None),
    "nf_conntrack_dccp_packet": ("other", "DCCP reset"),
    "nf_nat_inet_fn": ("other", "output interface changed under masquerade"),
    "nf_nat_setup_info": ("other", "its NAT port was needed"),
    "__nf_conntrack_confirm": ("other", "extensions changed while it was confirmed"),
}
# Iterator of nf_ct_iterate_cleanup -> reason and detail.
ITERATORS: dict[str, tuple[str, str | None]] = {
    "ctnetlink_flush_iterate": ("flushed", None),
    "kill_all": ("netns_exit", None),
    "device_cmp": ("other", "masquerade interface went down"),
    "inet_cmp": ("other", "masquerade address went away"),
    "nf_nat_proto_clean": ("other", "NAT module unloaded"),
}
RST = ("other", "TCP RST before any reply")
_SUFFIX = re.compile(r"\.(part|constprop|isra|cold)\..*|\.cold")


@dataclass(frozen=True)
class Destroyed:
    """Reason in the contract's words, and what more is known."""

    reason: str
    detail: str | None = None


class DestroyReasons:
    """Classifies; remembers the functions behind the addresses it met."""

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols
        self._names: dict[int, str] = {}

    def of(self, records: Records) -> dict[int, Destroyed]:
        """One for each destroy or free among these records, by its place among them, in order."""
        kinds = records["kind"]
        places = np.flatnonzero((kinds == Kind.DESTROY) | (kinds == Kind.FREE))
        columns = (records[name][places].tolist() for name in ("kind", "caller", "token", "portid", "flags"))
        return {at: self._one(*row) for at, *row in zip(places.tolist(), *columns, strict=True)}

    def _one(self, kind: int, caller: int, token: int, portid: int, flags: int) -> Destroyed:
        if kind == Kind.FREE:
            return Destroyed("unconfirmed")
        name = self._name(caller)
        if name == "nf_ct_iterate_cleanup":
            reason, detail = ITERATORS.get(self._name(token), ("flushed" if portid else "other", self._name(token) or None))
        elif name == "nf_conntrack_tcp_packet" and flags & FLAG_KILLED:
            reason, detail = RST
        else:
            reason, detail = CALLERS.get(name, ("other", name or None))
        return Destroyed(reason, detail)

    def _name(self, address: int) -> str:
        if address not in self._names:
            self._names[address] = printable(_SUFFIX.sub("", self._symbols.containing(address) or ""))
        return self._names[address]
