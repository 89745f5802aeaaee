"""Conntrack's own counters by netlink: the only module that imports pyroute2.

A request on this socket can make the kernel load nf_conntrack_netlink, which an observer must not cause: `available` first.
"""

from __future__ import annotations

from ctobserve.host.kernel import has_module


def available() -> bool:
    """Whether nf_conntrack_netlink is in the kernel already."""
    return has_module("nf_conntrack_netlink")


def stats() -> list[dict[str, int]]:
    """Counters per CPU of our network namespace, named as `conntrack -S` names them (ctnetlink_ct_stat_cpu_fill_info).

    Raises OSError where the kernel refuses.
    """
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    try:
        with NFCTSocket() as opened:
            messages = tuple(opened.stat())
    except NetlinkError as error:
        raise OSError(error.code, f"the kernel does not tell its counters: {error}") from error
    return [
        {
            key.removeprefix("CTA_STATS_").lower().replace("chain_toolong", "chaintoolong"): value
            for key, value in message["attrs"]
            if key.startswith("CTA_STATS_") and isinstance(value, int)
        }
        for message in messages
    ]
