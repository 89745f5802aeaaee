"""Where the members of kernel objects lie in this kernel, for the BPF programs and for decoding what they copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ctobserve.host.btf import Btf

Offset = Callable[[str], int]
# Name in capture/extensions.py -> member. Some kernels are built without secmark, some have no DCCP tracker any more.
EXTENSIONS = {
    "use": "nf_conn.ct_general.use",
    "secmark": "nf_conn.secmark",
    "sctp_state": "nf_conn.proto.sctp.state",
    "dccp_state": "nf_conn.proto.dccp.state",
    "gre_timeout": "nf_conn.proto.gre.timeout",
    "gre_stream_timeout": "nf_conn.proto.gre.stream_timeout",
}


class Layout(NamedTuple):
    """Byte offsets and sizes, all from BTF; offsets of nf_conn members count from the start of the nf_conn.

    `extensions` are members that only a kernel line shows (capture/extensions.py), as far as this kernel has them. `defines` are
    what the programs take as -D integers: those below, and more that only they need.
    """

    ct_bytes: int
    timeout: int
    zone_id: int
    zone_dir: int
    tuplehash: int
    tuplehash_bytes: int
    tuple: int
    src_u3: int
    src_u: int
    l3num: int
    dst_u3: int
    dst_u: int
    protonum: int
    status: int
    master: int
    mark: int
    tcp_state: int
    preempt_count: int
    extensions: dict[str, int]
    defines: dict[str, int]

    @classmethod
    def read(cls, btf: Btf) -> Layout:
        """From vmlinux or module BTF; raises KernelLacks when a member is missing."""

        def at(path: str) -> int:
            return btf.field(path).offset

        tuple_ = "nf_conntrack_tuple."
        return cls(
            ct_bytes=btf.size("nf_conn"),
            timeout=at("nf_conn.timeout"),
            zone_id=at("nf_conn.zone.id"),
            zone_dir=at("nf_conn.zone.dir"),
            tuplehash=at("nf_conn.tuplehash"),
            tuplehash_bytes=btf.size("nf_conntrack_tuple_hash"),
            tuple=at("nf_conntrack_tuple_hash.tuple"),
            src_u3=at(tuple_ + "src.u3"),
            src_u=at(tuple_ + "src.u"),
            l3num=at(tuple_ + "src.l3num"),
            dst_u3=at(tuple_ + "dst.u3"),
            dst_u=at(tuple_ + "dst.u"),
            protonum=at(tuple_ + "dst.protonum"),
            status=at("nf_conn.status"),
            master=at("nf_conn.master"),
            mark=at("nf_conn.mark"),
            tcp_state=at("nf_conn.proto.tcp.state"),
            # From 6.2 to 6.14 the preempt count lies in a per-CPU struct, before and after in a variable of its own.
            preempt_count=at("pcpu_hot.preempt_count") if btf.has("pcpu_hot.preempt_count") else 0,
            extensions={name: at(path) for name, path in EXTENSIONS.items() if btf.has(path)},
            defines=_defines(btf, at),
        )

    @property
    def raw_bytes(self) -> int:
        """Room for an nf_conn in a record: its size rounded up to 8 bytes."""
        return (self.ct_bytes + 7) // 8 * 8

    def as_dict(self) -> dict[str, object]:
        """Plain values, to keep with recorded bytes."""
        return self._asdict()


def _defines(btf: Btf, at: Offset) -> dict[str, int]:
    tuple_ = "nf_conntrack_tuple."
    ct_bytes = btf.size("nf_conn")
    told = ("timeout", "zone", "tuplehash", "status", "ct_net", "master", "mark")
    fields = [btf.field(f"nf_conn.{name}") for name in told]
    extensions, ids = at("nf_ct_ext.offset"), btf.enum("nf_ct_ext_id")
    return {
        "CT_BYTES": ct_bytes,
        "RAW_BYTES": (ct_bytes + 7) // 8 * 8,
        "CT_TUPLEHASH": at("nf_conn.tuplehash"),
        # An entry's members that every protocol has, up to and with the last one that is decoded.
        "CT_PREFIX": (max(field.offset for field in fields) + 8) // 8 * 8,
        "CT_TCP_STATE": at("nf_conn.proto.tcp.state"),
        "CT_STATUS": at("nf_conn.status"),
        "CT_NET": at("nf_conn.ct_net"),
        "CT_MASTER": at("nf_conn.master"),
        "CT_ZONE": at("nf_conn.zone.id"),
        "CT_EXT": at("nf_conn.ext"),
        "EXT_ACCT": extensions + ids.get("NF_CT_EXT_ACCT", 3),
        # Of each entry's extensions: where the start time is (-1: this kernel has none), and how long they all are.
        "EXT_START": extensions + ids["NF_CT_EXT_TSTAMP"] if "NF_CT_EXT_TSTAMP" in ids else -1,
        "EXT_LEN": at("nf_ct_ext.len"),
        "TH_BYTES": btf.size("nf_conntrack_tuple_hash"),
        "TH_TUPLE": at("nf_conntrack_tuple_hash.tuple"),
        "NODE_PPREV": at("hlist_nulls_node.pprev"),
        "TUPLE_BYTES": btf.size("nf_conntrack_tuple"),
        "TUPLE_SRC": at(tuple_ + "src.u3"),
        "TUPLE_SPORT": at(tuple_ + "src.u"),
        "TUPLE_L3NUM": at(tuple_ + "src.l3num"),
        "TUPLE_DST": at(tuple_ + "dst.u3"),
        "TUPLE_DPORT": at(tuple_ + "dst.u"),
        "TUPLE_PROTONUM": at(tuple_ + "dst.protonum"),
        "TUPLE_DIR": at(tuple_ + "dst.dir"),
        "SKB_NFCT": at("sk_buff._nfct"),
        "SKB_DEV": at("sk_buff.dev"),
        "SKB_HEAD": at("sk_buff.head"),
        "SKB_NETWORK_HEADER": at("sk_buff.network_header"),
        "STATE_HOOK": at("nf_hook_state.hook"),
        "STATE_IN": at("nf_hook_state.in"),
        "STATE_OUT": at("nf_hook_state.out"),
        "STATE_NET": at("nf_hook_state.net"),
        "NET_INUM": at("net.ns.inum"),
        "DEVICE_IFINDEX": at("net_device.ifindex"),
        "DEVICE_NAME": at("net_device.name"),
        "TASK_FLAGS": at("task_struct.flags"),
        # Index of the format among the arguments: the last named one. Kernels without module BTF (5.10) have it at 2 and 4.
        "LOG_CT_FMT": (btf.parameters("nf_ct_l4proto_log_invalid") or 4) - 2,
        "LOG_FMT": (btf.parameters("nf_l4proto_log_invalid") or 6) - 2,
    }
