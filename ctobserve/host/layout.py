"""Where the members of kernel objects lie in this kernel, for the BPF programs and for decoding what they copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ctobserve.errors import KernelLacks
from ctobserve.host.btf import Btf, Field

Number = Callable[[Btf], int]
# Name in capture/extensions.py -> member. Some kernels are built without secmark, some have no DCCP tracker any more.
EXTENSIONS = {
    "use": "nf_conn.ct_general.use",
    "secmark": "nf_conn.secmark",
    "sctp_state": "nf_conn.proto.sctp.state",
    "dccp_state": "nf_conn.proto.dccp.state",
    "gre_timeout": "nf_conn.proto.gre.timeout",
    "gre_stream_timeout": "nf_conn.proto.gre.stream_timeout",
}
TASK_PREEMPT_COUNT = "task_struct.thread_info.preempt_count"
SOFTIRQS = "task_struct.softirq_disable_cnt"
PROBE_MISSED = "bpf_link_info.perf_event.kprobe.missed"


# Members that a kernel may be built without, and the option that it is built without: their values are then 0.
OPTIONAL = {"nf_conn.mark": "CONFIG_NF_CONNTRACK_MARK", "nf_conn.zone": "CONFIG_NF_CONNTRACK_ZONES"}


class Layout(NamedTuple):
    """Byte offsets and sizes, all from BTF; offsets of nf_conn members count from the start of the nf_conn.

    Of OPTIONAL members `absent` names those that this kernel lacks. `extensions` are members that only a kernel line shows
    (capture/extensions.py), as far as this kernel has them. `numbers` are what the programs are given (programs/given.py), by
    name: NUMBERS. `probes_tell_missed`: whether the kernel says how many calls a kprobe missed.
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
    preempt_count: int
    task_preempt_count: int
    probes_tell_missed: bool
    extensions: dict[str, int]
    numbers: dict[str, int]
    absent: Sequence[str] = ()

    @classmethod
    def read(cls, btf: Btf) -> Layout:
        """From vmlinux or module BTF; raises KernelLacks when a member is missing."""
        if not btf.field("nf_conn.ct_net").size:
            raise KernelLacks("this kernel was built without network namespaces (CONFIG_NET_NS), of which each entry has one")

        def at(path: str) -> int:
            return _optional(btf, path).offset

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
            # From 6.2 to 6.14 the preempt count lies in a per-CPU struct, before and after in a variable of its own.
            preempt_count=at("pcpu_hot.preempt_count") if btf.has("pcpu_hot.preempt_count") else 0,
            # On arm64 and others it lies in each task: where in a task_struct, 0 = not there.
            task_preempt_count=at(TASK_PREEMPT_COUNT) if btf.has(TASK_PREEMPT_COUNT) else 0,
            # Of a link to a kprobe, since 6.7 (3acf8ace6823): how many calls it missed.
            probes_tell_missed=btf.has(PROBE_MISSED),
            extensions={name: at(path) for name, path in EXTENSIONS.items() if btf.has(path)},
            numbers={name: number(btf) for name, number in NUMBERS.items()},
            absent=[path for path in OPTIONAL if not btf.has(path)],
        )

    @property
    def raw_bytes(self) -> int:
        """Room for an nf_conn in a record: its size rounded up to 8 bytes."""
        return _raw_bytes(self.ct_bytes)

    def as_dict(self) -> dict[str, object]:
        """Plain values, to keep with recorded bytes."""
        return self._asdict()


def _raw_bytes(ct_bytes: int) -> int:
    return (ct_bytes + 7) // 8 * 8


def _optional(btf: Btf, path: str) -> Field:
    """A member, or where its value 0 is found in each entry: in the upper half of `status`, of whose bits 16 are used."""
    if any(path.startswith(optional) and not btf.has(optional) for optional in OPTIONAL):
        half = btf.field("nf_conn.status").size // 2
        return Field(btf.field("nf_conn.status").offset + half, half)
    return btf.field(path)


def _at(*paths: str) -> Number:
    """Sum of these members' offsets."""
    return lambda btf: sum(_optional(btf, path).offset for path in paths)


def _size(struct: str) -> Number:
    return lambda btf: btf.size(struct)


def _reply(btf: Btf) -> int:
    return btf.field("nf_conn.tuplehash").offset + btf.size("nf_conntrack_tuple_hash")


def _prefix(btf: Btf) -> int:
    told = ("timeout", "zone", "tuplehash", "status", "ct_net", "master", "mark")
    return (max(_optional(btf, f"nf_conn.{name}").offset for name in told) + 8) // 8 * 8


def _extension(name: str, without: int | None = None) -> Number:
    """Where an entry's extensions say where this one of them is; `without` stands for none, else every kernel has it."""

    def number(btf: Btf) -> int:
        ids = btf.enum("nf_ct_ext_id")
        if name in ids:
            return btf.field("nf_ct_ext.offset").offset + ids[name]
        if without is None:
            raise KernelLacks(f"this kernel's enum nf_ct_ext_id has no {name}: layout not supported")
        return without

    return number


# What is not there in every kernel has a value that says so.
NUMBERS: dict[str, Number] = {
    "CT_BYTES": _size("nf_conn"),
    "RAW_BYTES": lambda btf: _raw_bytes(btf.size("nf_conn")),
    # An entry's members that every protocol has, up to and with the last one that is decoded.
    "CT_PREFIX": _prefix,
    "CT_TUPLEHASH": _at("nf_conn.tuplehash"),
    "CT_TUPLE": _at("nf_conn.tuplehash", "nf_conntrack_tuple_hash.tuple"),
    "CT_REPLY": _reply,
    "CT_TCP_STATE": _at("nf_conn.proto.tcp.state"),
    "CT_STATUS": _at("nf_conn.status"),
    "CT_NET": _at("nf_conn.ct_net"),
    "CT_MASTER": _at("nf_conn.master"),
    "CT_ZONE": _at("nf_conn.zone.id"),
    "CT_EXT": _at("nf_conn.ext"),
    # Of each entry's extensions: where the counters are and the start time (-1: this kernel has none), and how long they all are.
    "EXT_ACCT": _extension("NF_CT_EXT_ACCT"),
    "EXT_START": _extension("NF_CT_EXT_TSTAMP", -1),
    "EXT_LEN": _at("nf_ct_ext.len"),
    "TH_BYTES": _size("nf_conntrack_tuple_hash"),
    "NODE_PPREV": _at("hlist_nulls_node.pprev"),
    "NODE_DIR": _at("nf_conntrack_tuple_hash.tuple", "nf_conntrack_tuple.dst.dir"),
    # From an entry's reply node.
    "NODE_STATUS": lambda btf: btf.field("nf_conn.status").offset - _reply(btf),
    "TUPLE_BYTES": _size("nf_conntrack_tuple"),
    "TUPLE_SRC": _at("nf_conntrack_tuple.src.u3"),
    "TUPLE_SPORT": _at("nf_conntrack_tuple.src.u"),
    "TUPLE_L3NUM": _at("nf_conntrack_tuple.src.l3num"),
    "TUPLE_DST": _at("nf_conntrack_tuple.dst.u3"),
    "TUPLE_DPORT": _at("nf_conntrack_tuple.dst.u"),
    "TUPLE_PROTONUM": _at("nf_conntrack_tuple.dst.protonum"),
    "SKB_NFCT": _at("sk_buff._nfct"),
    "SKB_DEV": _at("sk_buff.dev"),
    "SKB_HEAD": _at("sk_buff.head"),
    "SKB_TAIL": _at("sk_buff.tail"),
    "SKB_NETWORK_HEADER": _at("sk_buff.network_header"),
    "STATE_HOOK": _at("nf_hook_state.hook"),
    "STATE_IN": _at("nf_hook_state.in"),
    "STATE_OUT": _at("nf_hook_state.out"),
    "STATE_NET": _at("nf_hook_state.net"),
    "NET_INUM": _at("net.ns.inum"),
    "DEVICE_IFINDEX": _at("net_device.ifindex"),
    "DEVICE_NAME": _at("net_device.name"),
    "TASK_FLAGS": _at("task_struct.flags"),
    # PREEMPT_RT: what else has it in the preempt count. 0: this kernel does.
    "TASK_SOFTIRQS": lambda btf: btf.field(SOFTIRQS).offset if btf.has(SOFTIRQS) else 0,
}
