"""The words and the shape of an entry: netfilter's names and numbers, and the array row that every part passes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

ScalarT = TypeVar("ScalarT", bound=np.generic)
# As numpy.typing has it, which is not imported with NumPy and takes a tenth as long again.
NDArray = np.ndarray[Any, np.dtype[ScalarT]]

UNKNOWN_BUCKET = 0xFFFFFFFF
UNKNOWN_CHAIN = 0xFFFF

# One entry (nf_conn) in 136 bytes. Pairs are (original, reply); addresses and ports are src, dst of original, src, dst of reply.
# Numbers lie at multiples of their size, in every row: elsewhere NumPy copies them byte by byte.
ENTRY = np.dtype(
    [
        ("ct", "<u8"),  # address of the nf_conn: its identity while it lives
        ("master", "<u8"),  # address of the master's nf_conn, 0 = none
        ("seen_ns", "<u8"),  # CLOCK_MONOTONIC of the insert, or of the walk that found it
        ("addr", "u1", (4, 16)),  # network order; IPv4 in the first 4 bytes
        ("port", ">u2", (4,)),  # ICMP: id, type << 8 | code
        ("netns", "<u4"),  # inode number
        ("bucket", "<u4", (2,)),
        ("status", "<u4"),  # IPS_* bits
        ("timeout", "<u4"),  # jiffies32 at which a confirmed entry expires
        ("mark", "<u4"),
        ("chain", "<u2", (2,)),  # nodes in the bucket, UNKNOWN_CHAIN = not counted
        ("zone", "<u2"),
        ("l3num", "u1"),  # 2 = IPv4, 10 = IPv6
        ("protonum", "u1"),
        ("tcp_state", "u1"),
        ("reply_only", "u1"),  # no original node in the table (IPS_NAT_CLASH)
        ("zone_dir", "u1"),
        ("has_ct", "u1"),  # 1: all is known; 2: only original tuple and zone; 0: the tuple alone
        ("padding", "<u4"),
    ],
)
Entries = NDArray[np.void]
Mask = NDArray[np.bool_]  # which rows

# enum ip_conntrack_status, include/uapi/linux/netfilter/nf_conntrack_common.h
STATUS = (
    "expected",
    "seen_reply",
    "assured",
    "confirmed",
    "src_nat",
    "dst_nat",
    "seq_adjust",
    "src_nat_done",
    "dst_nat_done",
    "dying",
    "fixed_timeout",
    "template",
    "nat_clash",
    "helper",
    "offload",
    "hw_offload",
)
IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED, IPS_OFFLOAD, IPS_HW_OFFLOAD = 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
IPS_EXPECTED, IPS_HELPER, IPS_FIXED_TIMEOUT = 1 << 0, 1 << 13, 1 << 10
ZONE_ORIGINAL, ZONE_REPLY, ZONE_BOTH = 1, 2, 3  # nf_conntrack_zone.dir: a bit for each direction
IPS_SRC_NAT, IPS_DST_NAT, IPS_DYING, IPS_NAT_CLASH = 1 << 4, 1 << 5, 1 << 9, 1 << 12

# struct nf_conntrack_expect: a connection that a helper has read of in another one's packets. Pairs of addresses and ports are
# those of its tuple, of the mask and of the master's original tuple; where the mask is 0 it may be any.
EXPECTATION = np.dtype(
    [
        ("addr", "u1", (6, 16)),  # network order; IPv4 in the first 4 bytes
        ("netns", "<u4"),  # inode number, 0 = not known
        ("left_s", ">u4"),  # seconds until it expires, UNTIMED = it never does
        ("flags", ">u4"),  # bits of EXPECT_FLAGS
        ("class", ">u4"),  # index of the helper's policy
        ("port", ">u2", (6,)),
        ("helper", "S16"),  # name of the master's helper (NF_CT_HELPER_NAME_LEN)
        ("l3num", "u1"),
        ("protonum", "u1"),
        ("master_protonum", "u1"),
        ("has_master", "?"),  # mask, master and class are known
    ]
)
Expectations = NDArray[np.void]
UNTIMED = 0xFFFFFFFF
EXPECT_FLAGS = ("permanent", "inactive", "userspace")  # NF_CT_EXPECT_*, include/uapi/linux/netfilter/nf_conntrack_common.h

# enum nf_inet_hooks, include/uapi/linux/netfilter.h
NF_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")

# enum tcp_conntrack, include/uapi/linux/netfilter/nf_conntrack_tcp.h
TCP_STATES = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")  # byte 13 of a TCP header, lowest bit first
L3 = {2: "ipv4", 10: "ipv6"}
# include/uapi/linux/netfilter/nf_conntrack_sctp.h, include/linux/netfilter/nf_conntrack_dccp.h; names as the trackers print them.
SCTP_STATES = (
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
    "HEARTBEAT_ACKED",
)
DCCP_STATES = ("NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE", "INVALID")
TCP, UDP, ICMP, ICMPV6, GRE, DCCP, SCTP, UDPLITE = 6, 17, 1, 58, 47, 33, 132, 136
PROTOCOLS = {
    ICMP: "icmp",
    TCP: "tcp",
    UDP: "udp",
    DCCP: "dccp",
    GRE: "gre",
    ICMPV6: "icmpv6",
    SCTP: "sctp",
    UDPLITE: "udplite",
}
WITH_PORTS = frozenset((TCP, UDP, DCCP, SCTP, UDPLITE))
WITH_ICMP = frozenset((ICMP, ICMPV6))


def in_order(entries: Entries) -> Entries:
    """By namespace, protocol and original tuple: the same of the same table, however it lies in memory."""
    addresses = np.ascontiguousarray(entries["addr"][:, :2]).view(">u8").reshape(-1, 4).astype(np.uint64)
    ports = entries["port"][:, :2].astype(np.uint16)
    whole = (entries["netns"], entries["zone"], entries["protonum"], *addresses.T, *ports.T)
    return pick(entries, np.lexsort(whole[::-1]))


def everywhere(mask: Mask) -> bool:
    """mask.all(), which looks around at length before it looks at the mask; short batches are made of such questions."""
    return b"\0" not in mask.tobytes()


def somewhere(mask: Mask) -> bool:
    """mask.any(), likewise."""
    return b"\1" in mask.tobytes()


def having(status: NDArray[np.uint32], bits: int) -> Mask:
    """Where one of these IPS_* bits is set."""
    return (status & status.dtype.type(bits)).astype(np.bool_)


def as_bytes(rows: NDArray[np.void]) -> NDArray[np.void]:
    """The same memory, each row so many bytes: NumPy would copy or choose it field by field."""
    return rows.view(np.dtype((np.void, rows.dtype.itemsize)))


def pick(rows: NDArray[np.void], which: NDArray[Any]) -> NDArray[np.void]:
    """rows[which]."""
    picked: NDArray[np.void] = as_bytes(rows)[which].view(rows.dtype)
    return picked


def join(parts: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    """One array of all: as bytes, because NumPy would also take the gaps out of the rows and turn the ports to our byte order."""
    if len(parts) == 1:
        return parts[0]
    joined: NDArray[np.void] = np.concatenate([as_bytes(part) for part in parts]).view(parts[0].dtype)
    return joined


SHOWN_CHARACTERS = 64  # of a foreign text: a comm has 15 bytes, a name in /run/netns may have 255


# What str.isprintable() lets pass and shows nothing: Unicode's Default_Ignorable_Code_Point, and the blanks of Braille and music.
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0\U0001d159"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def printable(foreign: bytes | str, limit: int = SHOWN_CHARACTERS) -> str:
    """A text that others chose (comm, device, namespace, the kernel's words) as one that a terminal can only show.

    The one door by which foreign bytes become text. UTF-8 stays where it is printable; every other byte or character, line ends,
    unusual blanks, what shows nothing, and the backslash among them, comes escaped: `\\xff`, `\\x1b`, `\\u202e`, `\\\\`. Beyond
    `limit` characters it is cut and ends in `...`: names that differ only there look the same. In a str, surrogates stand for
    bytes as os.fsdecode leaves them. Never raises.
    """
    text = foreign if isinstance(foreign, str) else foreign.decode("utf-8", "surrogateescape")
    pieces = [one if _shows(one) and one != "\\" else _escaped(one) for one in text[: limit + 1]]
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    while sum(map(len, pieces)) > limit - 3:
        pieces.pop()
    return "".join(pieces) + "..."


def shown_before(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """A text that is said to have passed printable: as it is, or, where it cannot have, through it now."""
    return text if len(text) <= limit and all(map(_shows, text)) else printable(text, limit)


def _shows(character: str) -> bool:
    return character.isprintable() and character not in _INVISIBLE


def _escaped(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that was no UTF-8
        return f"\\x{number - 0xDC00:02x}"
    if character == "\\":
        return "\\\\"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def protocol_name(number: int) -> str:
    """As the kernel's own listing names a tracker: `unknown` for the generic one."""
    return PROTOCOLS.get(number, "unknown")


def tcp_state_name(entry_protonum: int, state: int) -> str | None:
    """Name of a TCP entry's state, None for other protocols."""
    if entry_protonum != TCP:
        return None
    return TCP_STATES[state] if state < len(TCP_STATES) else str(state)
