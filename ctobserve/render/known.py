"""Which facts of an entry are known: the one rule by which JSON has null, CSV an empty cell, and text `-` or nothing.

A record may hold a whole entry, its original tuple with the zone, or that tuple alone (`has_ct` 1, 2, 0).
"""

from __future__ import annotations

import numpy as np

from ctobserve.clock import Clock
from ctobserve.model import IPS_CONFIRMED, IPS_OFFLOAD, TCP, Entries
from ctobserve.render.columns import Mask, Numbers


def whole(entries: Entries) -> Mask:
    """Everything that an nf_conn says: reply tuple, status, mark."""
    known: Mask = entries["has_ct"] == 1
    return known


def zoned(entries: Entries) -> Mask:
    """The zone."""
    known: Mask = entries["has_ct"] != 0
    return known


def tcp(entries: Entries) -> Mask:
    """A TCP state."""
    known: Mask = whole(entries) & (entries["protonum"] == TCP)
    return known


def left_s(entries: Entries, clock: Clock) -> tuple[Numbers, Mask]:
    """Seconds until they expire (of an unconfirmed one those it will be given), and where that is known.

    An offloaded entry's timeout says nothing: the gc worker only keeps putting it off (nf_ct_offload_timeout).
    """
    status = entries["status"]
    remaining = clock.remaining_s(entries["timeout"], entries["seen_ns"])
    seconds: Numbers = np.where(status & IPS_CONFIRMED != 0, remaining, entries["timeout"] // clock.hz)
    return seconds, whole(entries) & (status & IPS_OFFLOAD == 0)


def masters_of(entries: Entries, masters: Entries) -> tuple[Numbers, Mask]:
    """Of each entry the place of its master among `masters`, and whether it is there."""
    order = np.argsort(masters["ct"], kind="stable")
    ranked = np.append(masters["ct"][order], np.uint64(0))
    at = np.searchsorted(ranked[:-1], entries["master"])
    return np.append(order, 0)[at], (ranked[at] == entries["master"]) & (entries["master"] != 0)
