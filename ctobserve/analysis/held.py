"""By which timeout is an entry held, how long is it left, and how long had no packet come when it timed out?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.connections import Connection
from ctobserve.clock import NS_PER_S, Clock
from ctobserve.event import DestroyReason
from ctobserve.host.sysctls import timeout_of
from ctobserve.model import IPS_ASSURED, IPS_FIXED_TIMEOUT, IPS_OFFLOAD, IPS_SEEN_REPLY, TCP_STATES, tcp_state_name


def held_by(entry: np.void) -> str | None:
    """Full name of the sysctl that its last packet gave it; None where none did, or it is not known which."""
    status = int(entry["status"])
    if entry["has_ct"] != 1 or status & (IPS_OFFLOAD | IPS_FIXED_TIMEOUT):
        return None
    state = tcp_state_name(int(entry["protonum"]), int(entry["tcp_state"]))
    if state is not None and state not in TCP_STATES:
        return None
    return timeout_of(int(entry["protonum"]), state, bool(status & IPS_SEEN_REPLY), bool(status & IPS_ASSURED))


def left_s(entry: np.void, clock: Clock, at_ns: int) -> int:
    """Whole seconds until it expires, seen then; 0: it has, or was put off since."""
    return int(clock.remaining_s(np.atleast_1d(entry["timeout"]), np.array([at_ns], np.uint64))[0])


def idle_s(one: Connection, clock: Clock, timeout_s: int | None) -> int | None:
    """For how long no packet had come when its timeout ended; None: it did not time out, or that is not known.

    Each packet puts the end off (nf_ct_refresh_acct): the first event with the end that it had at last came with its last packet.
    Where that was not seen it is the value of the sysctl, unless that contradicts what was seen.
    """
    if one.ended is None or one.events["reason"][one.ended] != DestroyReason.TIMEOUT:
        return None
    rows = one.events["entry"][: one.ended + 1]
    last = rows[-1]
    if last["status"] & IPS_FIXED_TIMEOUT:
        return None
    of_it = (rows["has_ct"] == 1) & (rows["ct"] == last["ct"])
    same = np.flatnonzero((of_it & (rows["timeout"] == last["timeout"]))[:-1])
    if len(same):
        left = clock.remaining_ticks(rows["timeout"][same[:1]], rows["seen_ns"][same[:1]])
        return round(int(left[0]) / clock.hz)
    if timeout_s is None:
        return None
    expired = clock.remaining_ticks(last["timeout"].reshape(1), last["seen_ns"].reshape(1))
    packet_ns = int(last["seen_ns"]) + int(expired[0]) * NS_PER_S // clock.hz - timeout_s * NS_PER_S
    seen = rows["seen_ns"][of_it][:-1]
    return timeout_s if not len(seen) or packet_ns >= int(seen.max()) - NS_PER_S // clock.hz else None
