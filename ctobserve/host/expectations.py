"""Expectations: connections that a helper has read of in another one's packets, and that are RELATED when they come.

By netlink, as `conntrack -L expect` gets them: ctnetlink_exp_dump_table and ctnetlink_exp_dump_expect (net/netfilter/
nf_conntrack_netlink.c), but of both address families. A request can make the kernel load nf_conntrack_netlink, which an observer
must not cause: netlink.available() first. Without it /proc/net/nf_conntrack_expect has some of the same (exp_seq_show, net/
netfilter/nf_conntrack_expect.c), on older kernels of all namespaces at once: whose they are is then not known.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ctobserve.host.dump import PROTO, Rows, dumped, of_tuples, offsets
from ctobserve.host.kernel import read_text
from ctobserve.model import EXPECT_FLAGS, EXPECTATION, UNTIMED, Expectations

PROC = Path("/proc/thread-self/net/nf_conntrack_expect")
EXPECTATION_GET = 2 << 8 | 1  # NFNL_SUBSYS_CTNETLINK_EXP, IPCTNL_MSG_EXP_GET


def _rows() -> Rows:
    at = offsets(EXPECTATION)
    master, expected, mask = (1,), (2,), (3,)  # CTA_EXPECT_MASTER, CTA_EXPECT_TUPLE, CTA_EXPECT_MASK
    found = of_tuples(at, expected, mask, master)
    found |= {expected + PROTO + (1,): (at["protonum"], 1), master + PROTO + (1,): (at["master_protonum"], 1)}
    # CTA_EXPECT_TIMEOUT, HELP_NAME, FLAGS, CLASS.
    found |= {(4,): (at["left_s"], 4), (6,): (at["helper"], 16), (8,): (at["flags"], 4), (9,): (at["class"], 4)}
    return Rows(EXPECTATION, found)


ROWS = _rows()


def of_netlink() -> Expectations:
    """Those of this thread's namespace, without its number. Raises OSError where the kernel refuses, or breaks off."""
    found = dumped(EXPECTATION_GET, ROWS)
    found["has_master"] = True
    return found


LINE = re.compile(
    r"(?P<left>-|\d+) +l3proto = (?P<l3>\d+) proto=(?P<proto>\d+) src=(?P<src>\S+) dst=(?P<dst>\S+) "
    r"(?:(?:sport|srckey)=(?P<one>\w+) (?:dport|dstkey)=(?P<other>\w+) )?"
    r"(?P<flags>(?:(?:PERMANENT|INACTIVE|USERSPACE),?)*) ?(?P<helper>[^/]*)(?:/.*)?"
)


def of_proc() -> Expectations:
    """What this thread's /proc lists. Raises OSError where it cannot be read."""
    return parse(read_text(PROC).splitlines())


def parse(lines: Iterable[str]) -> Expectations:
    """Lines of /proc/net/nf_conntrack_expect; others are left out."""
    found = [line for line in map(LINE.fullmatch, lines) if line]
    made = np.zeros(len(found), EXPECTATION)
    for row, line in zip(made, found, strict=True):
        family = int(line["l3"])
        for place, end in enumerate((line["src"], line["dst"])):
            packed = socket.inet_pton(family, end)
            row["addr"][place, : len(packed)] = np.frombuffer(packed, np.uint8)
        row["port"][:2] = [int(number or "0", 0) for number in (line["one"], line["other"])]
        row["l3num"], row["protonum"] = family, int(line["proto"])
        row["left_s"] = UNTIMED if line["left"] == "-" else int(line["left"])
        row["flags"] = sum(1 << bit for bit, name in enumerate(EXPECT_FLAGS) if name.upper() in line["flags"].split(","))
        row["helper"] = line["helper"].encode("utf-8", "surrogateescape")
    return made
