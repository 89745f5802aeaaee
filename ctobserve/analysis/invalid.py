"""What is a packet most like that was found INVALID, or was refused as an ICMP error?"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from ctobserve.event import NO_DIRECTION, Events
from ctobserve.model import WITH_ICMP, Mask, NDArray

OUTSIDE = (b"SEQ is", b"ACK is")  # how tcp_in_window's complaints begin
CHECKSUMS = (b"checksum", b"bad crc")  # what the trackers' complaints about them have in common, in small letters
NEW = (b"", b"invalid new")  # of a packet that begins no connection: nothing, or tcp_new's word (6.7); others say what is broken
WITH_TYPE = np.isin(np.arange(256), list(WITH_ICMP))  # by protocol number


class Like(IntEnum):
    """The first of these that is true of it."""

    BAD_CHECKSUM = 1  # the kernel's words
    OUT_OF_WINDOW = 2  # the kernel's words, of a known TCP connection
    ICMP_ERROR = 3  # it is about another packet, of which no entry is known
    MALFORMED = 4  # the kernel's words, of no known connection: flags, lengths, types
    UNEXPECTED = 5  # of a known connection, which is in no state for it
    LATE = 6  # its connection had an entry that left before
    UNASKED_REPLY = 7  # an ICMP answer to no known request, as many get to a ping to a multicast or broadcast address
    NO_START = 8  # of no known connection, and not what begins one


def likeness(packets: Events) -> NDArray[np.uint8]:
    """A Like for each."""
    entries, words = packets["entry"], packets["text"]
    known = packets["direction"] != NO_DIRECTION
    silent = np.isin(np.char.strip(words), NEW)
    chosen = (
        (Like.BAD_CHECKSUM, speaks_of(words, CHECKSUMS)),
        (Like.OUT_OF_WINDOW, begins_with(words, OUTSIDE)),
        (Like.ICMP_ERROR, packets["inner"]["l3num"] != 0),
        (Like.MALFORMED, ~known & ~silent),
        (Like.UNEXPECTED, known),
        (Like.LATE, packets["left"]["at_ns"] != 0),
        (Like.UNASKED_REPLY, WITH_TYPE[entries["protonum"]]),
    )
    result = np.full(len(packets), Like.NO_START, np.uint8)
    for like, mask in reversed(chosen):
        result[mask] = like
    return result


def begins_with(texts: NDArray[np.bytes_], words: tuple[bytes, ...]) -> Mask:
    """Texts with one of these at their beginning."""
    found = np.zeros(len(texts), np.bool_)
    for word in words:
        found |= np.char.startswith(texts, word)
    return found


def speaks_of(texts: NDArray[Any], words: tuple[bytes, ...]) -> Mask:
    """Texts with one of these in them, which are in small letters."""
    found = np.zeros(len(texts), np.bool_)
    small = np.char.lower(texts)
    for word in words:
        found |= np.char.find(small, word) >= 0
    return found
