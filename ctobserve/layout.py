"""Where the members of kernel objects lie in this kernel, for the BPF programs and for decoding what they copied."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ctobserve.btf import Btf


@dataclass(frozen=True)
class Layout:
    """Byte offsets and sizes, all from BTF; offsets of nf_conn members count from the start of the nf_conn."""

    ct_bytes: int
    timeout: int
    zone_id: int
    zone_dir: int
    tuplehash: int
    tuplehash_bytes: int
    tuple: int
    tuple_bytes: int
    src_u3: int
    src_u: int
    l3num: int
    dst_u3: int
    dst_u: int
    protonum: int
    direction: int
    status: int
    net: int
    master: int
    mark: int
    tcp_state: int
    use: int
    nfct: int
    inum: int

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
            tuple_bytes=btf.size("nf_conntrack_tuple"),
            src_u3=at(tuple_ + "src.u3"),
            src_u=at(tuple_ + "src.u"),
            l3num=at(tuple_ + "src.l3num"),
            dst_u3=at(tuple_ + "dst.u3"),
            dst_u=at(tuple_ + "dst.u"),
            protonum=at(tuple_ + "dst.protonum"),
            direction=at(tuple_ + "dst.dir"),
            status=at("nf_conn.status"),
            net=at("nf_conn.ct_net"),
            master=at("nf_conn.master"),
            mark=at("nf_conn.mark"),
            tcp_state=at("nf_conn.proto.tcp.state"),
            use=at("nf_conn.ct_general.use"),
            nfct=at("sk_buff._nfct"),
            inum=at("net.ns.inum"),
        )

    @property
    def raw_bytes(self) -> int:
        """Room for an nf_conn in a record: its size rounded up to 8 bytes."""
        return (self.ct_bytes + 7) // 8 * 8

    def defines(self) -> dict[str, int]:
        """What bpf/*.c take as -D integers."""
        return {
            "CT_BYTES": self.ct_bytes,
            "RAW_BYTES": self.raw_bytes,
            "CT_TUPLEHASH": self.tuplehash,
            "CT_STATUS": self.status,
            "CT_NET": self.net,
            "TH_BYTES": self.tuplehash_bytes,
            "TH_TUPLE": self.tuple,
            "TUPLE_BYTES": self.tuple_bytes,
            "TUPLE_DIR": self.direction,
            "SKB_NFCT": self.nfct,
            "NET_INUM": self.inum,
        }

    def as_dict(self) -> dict[str, int]:
        """Plain integers, to keep with recorded bytes."""
        return asdict(self)
