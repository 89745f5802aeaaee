"""Made entries, and made records: a struct record as the kernel side would write it, for a layout like 6.1's."""

from __future__ import annotations

import socket

import numpy as np
import numpy.typing as npt

from ctobserve.capture.records import RecordKind, Records, record_dtype
from ctobserve.event import LEFT, TUPLE
from ctobserve.host.layout import Layout
from ctobserve.model import ENTRY, UNKNOWN_BUCKET, UNKNOWN_CHAIN, Entries
from tests.scripted import CLOCK

LAYOUT = Layout(
    ct_bytes=248,
    timeout=8,
    zone_id=12,
    zone_dir=15,
    tuplehash=16,
    tuplehash_bytes=56,
    tuple=16,
    src_u3=0,
    src_u=16,
    l3num=18,
    dst_u3=20,
    dst_u=36,
    protonum=38,
    status=128,
    master=160,
    mark=168,
    preempt_count=0,
    task_preempt_count=0,
    probes_tell_missed=False,
    extensions={"use": 0, "secmark": 172, "sctp_state": 192, "dccp_state": 193, "gre_timeout": 196, "gre_stream_timeout": 192},
    numbers={},
)
DTYPE = record_dtype(LAYOUT)


def packed(address: str) -> list[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return list(socket.inet_pton(family, address).ljust(16, b"\0"))


def entry(ct: int, **fields: object) -> Entries:
    """One entry; by default UDP 10.0.0.1:1000 -> 10.0.0.2:53 of namespace 7, just made, its buckets not known.

    The reply mirrors the original but for `reply_src`, `reply_dst`, `reply_sport`, `reply_dport`.
    """
    made = np.zeros(1, ENTRY)
    src, dst = str(fields.pop("src", "10.0.0.1")), str(fields.pop("dst", "10.0.0.2"))
    sport, dport = fields.pop("sport", 1000), fields.pop("dport", 53)
    addresses = (src, dst, str(fields.pop("reply_src", dst)), str(fields.pop("reply_dst", src)))
    made["addr"] = [packed(address) for address in addresses]
    made["port"] = [sport, dport, fields.pop("reply_sport", dport), fields.pop("reply_dport", sport)]
    made["ct"], made["has_ct"], made["netns"], made["protonum"] = ct, 1, 7, fields.pop("proto", 17)
    made["l3num"] = 10 if ":" in src else 2
    made["bucket"], made["chain"] = UNKNOWN_BUCKET, UNKNOWN_CHAIN
    made["zone_dir"] = 3
    for name, value in fields.items():
        made[name] = value
    return made


def tuple_of(of: Entries) -> npt.NDArray[np.void]:
    """Their original tuples, as events have them of a master or an evictor."""
    made = np.zeros(len(of), TUPLE)
    made["addr"], made["port"] = of["addr"][:, :2], of["port"][:, :2]
    made["l3num"], made["protonum"] = of["l3num"], of["protonum"]
    return made


def departed(of: Entries, reason: int, tcp_state: int = 0, **more: object) -> npt.NDArray[np.void]:
    """What is known of these entries after they left, as events have it of a packet that comes later."""
    made = np.zeros(len(of), LEFT)
    made["original"], made["at_ns"], made["reason"] = tuple_of(of), CLOCK.monotonic_ns, reason
    made["tcp_state"] = tcp_state
    made["status"] = of["status"]
    for name, value in more.items():
        made[name] = value
    return made


def record(kind: RecordKind, ct: int, **fields: object) -> np.void:
    """One record; by default a UDP entry 10.0.0.1:1000 -> 10.0.0.2:53 of namespace 7."""
    made = np.zeros(1, DTYPE)
    src, dst = fields.pop("src", "10.0.0.1"), fields.pop("dst", "10.0.0.2")
    proto, sport, dport = fields.pop("proto", 17), fields.pop("sport", 1000), fields.pop("dport", 53)
    made["kind"], made["ct"], made["has_ct"], made["netns"] = kind, ct, 1, 7
    made["bucket"], made["chain"] = UNKNOWN_BUCKET, UNKNOWN_CHAIN
    for direction, (one, other, port, peer) in enumerate(((src, dst, sport, dport), (dst, src, dport, sport))):
        made[f"src{direction}"], made[f"dst{direction}"] = packed(str(one)), packed(str(other))
        made[f"sport{direction}"], made[f"dport{direction}"] = port, peer
        made[f"l3num{direction}"] = 10 if ":" in str(src) else 2
        made[f"protonum{direction}"] = proto
    for name, value in fields.items():
        made[name] = value
    return made[0]


def records(*made: np.void) -> Records:
    return np.array(list(made), DTYPE)
