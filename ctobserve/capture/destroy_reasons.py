"""Why an entry left: the function that called nf_ct_delete, by the return address that the kernel side recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from ctobserve.event import DETAIL_BYTES, DestroyReason
from ctobserve.host.symbols import Symbols
from ctobserve.model import Mask, NDArray, printable

Reason = tuple[DestroyReason, str]  # and what more is known, empty: nothing

# Caller of nf_ct_delete -> reason; net/netfilter/*.c of 5.10 - 7.2.
CALLERS: dict[str, Reason] = {
    "nf_ct_gc_expired": (DestroyReason.TIMEOUT, ""),
    "ct_seq_show": (DestroyReason.TIMEOUT, "reaped by a reader of /proc/net/nf_conntrack"),
    "ctnetlink_dump_table": (DestroyReason.TIMEOUT, "reaped by a netlink dump"),
    "early_drop": (DestroyReason.EARLY_DROP, ""),
    "gc_worker": (DestroyReason.GC_EARLY_DROP, ""),
    "ctnetlink_del_conntrack": (DestroyReason.DELETED, ""),
    "nf_conntrack_tcp_packet": (DestroyReason.TCP_REUSE, ""),
    "nf_conntrack_dccp_packet": (DestroyReason.OTHER, "DCCP reset"),
    "nf_nat_inet_fn": (DestroyReason.OTHER, "output interface changed under masquerade"),
    "nf_nat_setup_info": (DestroyReason.OTHER, "its NAT port was needed"),
    "ip_vs_conn_drop_conntrack": (DestroyReason.IPVS, ""),
    "__nf_conntrack_confirm": (DestroyReason.OTHER, "extensions changed while it was confirmed"),
}
# Function that nf_ct_iterate_cleanup was given -> reason.
ITERATORS: dict[str, Reason] = {
    "ctnetlink_flush_iterate": (DestroyReason.FLUSHED, ""),
    "kill_all": (DestroyReason.NETNS_EXIT, ""),
    "device_cmp": (DestroyReason.OTHER, "masquerade interface went down"),
    "inet_cmp": (DestroyReason.OTHER, "masquerade address went away"),
    "nf_nat_proto_clean": (DestroyReason.OTHER, "NAT module unloaded"),
}
ITERATE, KILL, TCP_PACKET = "nf_ct_iterate_cleanup", "nf_ct_kill_acct", "nf_conntrack_tcp_packet"
RST: Reason = (DestroyReason.OTHER, "TCP RST before any reply")
_SUFFIX = re.compile(r"\.(part|constprop|isra|cold|llvm)\..*|\.cold")

Address = NDArray[np.uint64]
Reasons = NDArray[np.uint8]
Details = NDArray[np.bytes_]


class DestroyReasons:
    """Finds them; remembers the functions behind the addresses it met."""

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols
        self._names: dict[int, str] = {}

    def of(self, caller: Address, iterator: Address, asked: Mask, killed: Mask) -> tuple[Reasons, Details | None]:
        """Reason and detail of each removal, shapes (n,); None where there is no detail of any.

        `caller` is the return address of nf_ct_delete, `iterator` what nf_ct_iterate_cleanup was given, or, where
        nf_ct_kill_acct is the caller, where that returns to (else anything), `asked` says that netlink asked for it, `killed`
        that nf_ct_kill_acct did it: no caller where the compiler made a jump of its call (x86-64), one where it did not (arm64).
        """
        reasons, details = np.zeros(len(caller), np.uint8), None
        for which, (reason, detail) in self._parts(caller, iterator, asked, killed):
            reasons[which] = reason
            if detail:
                details = np.zeros(len(caller), f"S{DETAIL_BYTES}") if details is None else details
                details[which] = detail.encode(errors="replace")
        return reasons, details

    def _parts(self, caller: Address, iterator: Address, asked: Mask, killed: Mask) -> Iterator[tuple[Mask, Reason]]:
        for address in np.unique(caller).tolist():
            name, here = self._name(address), caller == address
            if name == ITERATE:
                for function in np.unique(iterator[here]).tolist():
                    given = here & (iterator == function)
                    yield given & asked, self._iterated(function, DestroyReason.FLUSHED)
                    yield given & ~asked, self._iterated(function, DestroyReason.OTHER)
            elif name == KILL:
                for above in np.unique(iterator[here]).tolist():
                    yield here & (iterator == above), self._killed(self._name(self._symbols.unsigned(above)) or name)
            else:
                yield here & ~killed, CALLERS.get(name, (DestroyReason.OTHER, name))
                yield here & killed, self._killed(name)

    def _killed(self, name: str) -> Reason:
        """By nf_ct_kill_acct, which this function called."""
        return RST if name == TCP_PACKET else CALLERS.get(name, (DestroyReason.OTHER, name))

    def _iterated(self, function: int, otherwise: DestroyReason) -> Reason:
        name = self._name(function)
        return ITERATORS.get(name, (otherwise, name))

    def _name(self, address: int) -> str:
        if address not in self._names:
            self._names[address] = printable(_SUFFIX.sub("", self._symbols.containing(address) or ""))
        return self._names[address]
