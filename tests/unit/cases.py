"""Made evidence: for each rule a case in which it has something to say, and a busy day in which none has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctobserve.capture.capture import Expected
from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.table import Lengths
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis import rules
from ctobserve.diagnosis.verdict import Severity
from ctobserve.event import ORIGINAL, DestroyReason, DropReason, Kind
from ctobserve.host.account import Account
from ctobserve.host.bridges import Bridge
from ctobserve.host.invalid_rules import Refusing
from ctobserve.host.ip_packets import IpPackets
from ctobserve.host.queues import Queue
from ctobserve.host.ruleset import Notrack, Ruleset
from ctobserve.model import (
    EXPECTATION,
    ICMP,
    ICMPV6,
    IPS_DST_NAT,
    IPS_HELPER,
    IPS_HW_OFFLOAD,
    IPS_OFFLOAD,
    IPS_SRC_NAT,
    NF_HOOKS,
    TCP,
)
from tests.scripted import CLOCK, events
from tests.unit.mapped import hairpinned, old_syslog
from tests.unit.samples import departed, packed, tuple_of
from tests.unit.tables import NETNS, REPLIED, UNREPLIED, entries, evidence, lengths, losses, many, namespace, tcp

RULES = {rule.id: rule.judge for rule in rules.RULES}
BLUE = ("ip", "netns", "exec", "blue")
HELPED = frozenset({"ftp", "sip", "tftp", "pptp", "irc", "snmp"})
QUIET = {"drop": 0, "insert_failed": 0, "early_drop": 0, "chaintoolong": 0, "invalid": 0, "error": 0}
HELD = Queue(0, 815, 97, 815, "hold_queue")
REFUSING = Refusing("inet", "filter", "input", 4, "input", True)
OUTSIDE = b"SEQ is over upper bound (over the window of the receiver)"


def long_chain(longest: int) -> Lengths:
    made = lengths(4000)
    made.of_bucket[99] = longest
    return made


def full(**more):
    return evidence(tcp(14), namespaces={NETNS: namespace(nf_conntrack_count=14, nf_conntrack_max=14)}, **more)


def counted(count: int, limit: int, **more):
    return evidence(entries(count), namespaces={NETNS: namespace(nf_conntrack_count=count, nf_conntrack_max=limit)}, **more)


def dns_race():
    return evidence(entries(4), losses=losses(entries(3), DropReason.CLASH), drops={"clash": 3, "clash_resolved": 2})


def nat_clash():
    rows = entries(6, nat=("10.1.0.1", 7777), status=UNREPLIED | IPS_SRC_NAT)
    return evidence(rows[:1], losses=losses(rows[1:], DropReason.CLASH), drops={"clash": 5})


def many_mapped():
    rows = entries(60_000, nat=("10.1.0.1", np.arange(60_000) + 1024), status=REPLIED | IPS_SRC_NAT)
    return evidence(rows, namespaces={NETNS: namespace(nf_conntrack_count=60_000, nf_conntrack_max=1 << 20)})


def stray(tcp_flags: int, count: int = 11, hook: str = "prerouting"):
    lost = losses(tcp(count), DropReason.INVALID, hook=NF_HOOKS.index(hook), tcp_flags=tcp_flags)
    return evidence(losses=lost, drops={"invalid": count})


def capped(lost, reason: str, whole: int, **given):
    """More packets than are kept with their headers."""
    return evidence(losses=lost, drops={reason: whole}, **given)


def outside(count: int):
    return losses(tcp(count, sport=5), DropReason.INVALID, direction=ORIGINAL, tcp_flags=0x10, text=OUTSIDE)


def bad(
    count: int,
    tcp_flags: int = 0x10,
    reason: DropReason = DropReason.INVALID,
    text: bytes = b"invalid tcp flag combination",
    device: bytes = b"",
    **given,
):
    """Packets that no rule but the last one knows: 30 with impossible flags, refused ICMP messages, stray RST, copies."""
    rows = tcp(count) if reason is DropReason.INVALID else entries(count)
    lost = losses(rows, reason, tcp_flags=tcp_flags, text=text, device=device)
    return evidence(losses=lost, drops={reason.name.lower(): count}, **given)


def late(count: int = 7, state: str = "CLOSE_WAIT", tcp_flags: int = 0x11, nat: int = 0, left=None, ruleset=None, **columns):
    """Packets of a client whose connections had entries that left; by default by timeout, an hour below the default."""
    gone = tcp(count, state, status=REPLIED | nat)
    given = {"reason": DestroyReason.TIMEOUT, "at_ns": CLOCK.monotonic_ns - 2 * NS_PER_S} | (left or {})
    lost = losses(
        gone, DropReason.INVALID, tcp_flags=tcp_flags, left=departed(gone, tcp_state=gone["tcp_state"], **given), **columns
    )
    settings = {"nf_conntrack_tcp_timeout_close_wait": 1, "nf_conntrack_tcp_timeout_established": 3}
    where = replace(namespace(**settings), ruleset=ruleset or Ruleset(2, 1, 1))
    return evidence(losses=lost, drops={"invalid": count}, namespaces={NETNS: where})


def icmp_errors(count: int = 9, kind: int = 3, code: int = 4, about=None, ruleset=None, left=None, six: bool = False, **columns):
    """Refused, each about the same connection unless `about` says other entries; by default fragmentation needed."""
    ends = {"src": "fd00::9", "dst": "fd00::1"} if six else {"src": "10.0.0.9", "dst": "10.0.0.1"}
    rows = entries(count, proto=ICMPV6 if six else ICMP, sport=0, dport=kind << 8 | code, l3num=10 if six else 2, **ends)
    inner = (
        np.repeat(tcp(1, **({"src": "fd00::1", "dst": "fd00::2", "l3num": 10} if six else {})), count) if about is None else about
    )
    lost = losses(rows, DropReason.ERROR, inner=tuple_of(inner), **columns)
    if left is not None:
        lost["left"] = left
    where = replace(namespace(), ruleset=ruleset or Ruleset(2, 0, 1))
    return evidence(losses=lost, drops={"error": count}, namespaces={NETNS: where})


def tunnelled(count: int = 3000, others: int = 0, **columns):
    """Flows of a VXLAN tunnel from three peers, in a table with room for 10,000."""
    peers = [f"10.0.0.{1 + at % 3}" for at in range(count)]
    rows = entries(count, **{"src": peers, "dport": 4789, "status": UNREPLIED} | columns)
    return evidence(np.concatenate([rows, tcp(others, src=many(others), ct=np.arange(others) + 1)]))


def counting(evidence_=None, **gained: int):
    """Where the kernel's counters gained that much."""
    made = evidence(entries(4)) if evidence_ is None else evidence_
    return replace(made, namespaces={NETNS: replace(namespace(nf_conntrack_count=4), counters=QUIET | gained)})


def opening_acks():
    rows = tcp(1, "SYN_SENT", status=UNREPLIED)
    lost = losses(np.repeat(rows, 6), DropReason.INVALID, direction=ORIGINAL, tcp_flags=0x10)
    return evidence(rows, losses=lost, drops={"invalid": 6})


def crowded_namespaces():
    rows = np.concatenate([entries(3000, src=many(3000)), entries(500, netns=8, src=many(500))])
    green = namespace(8, "green", False, nf_conntrack_count=500)
    return evidence(rows, namespaces={NETNS: namespace(nf_conntrack_count=3000), 8: green})


def stale(elsewhere: bool = True):
    old = entries(3, backend="10.9.0.1", dst="10.96.0.1", status=UNREPLIED | IPS_DST_NAT)
    new = entries(9, ct=np.arange(9) + 90_000, backend="10.9.0.2", dst="10.96.0.1", status=REPLIED | IPS_DST_NAT)
    before = old.copy()
    before["timeout"] -= 250
    return evidence(np.concatenate([old, new]) if elsewhere else old, before=before)


def lower_limit():
    namespaces = {
        1: namespace(1, "init", nf_conntrack_count=5),
        NETNS: namespace(init=False, prefix=BLUE, nf_conntrack_max=100, nf_conntrack_count=60),
    }
    return evidence(namespaces=namespaces)


def with_rules(ruleset: Ruleset):
    return evidence(entries(200), namespaces={NETNS: replace(namespace(nf_conntrack_count=200), ruleset=ruleset)})


def expectations(count: int, masters: int = 1, helper: bytes = b"ftp", **given):
    """That many, of as many masters 10.0.0.1:5000... > 10.0.0.2:21, each for a TCP connection back."""
    made = np.zeros(count, EXPECTATION)
    made["netns"], made["l3num"], made["protonum"], made["master_protonum"], made["has_master"] = NETNS, 2, TCP, TCP, True
    for place, address in enumerate(("10.0.0.2", "10.0.0.1", "255.255.255.255", "255.255.255.255", "10.0.0.1", "10.0.0.2")):
        made["addr"][:, place] = packed(address)
    made["port"][:, 1], made["port"][:, 3], made["port"][:, 5] = np.arange(count) + 7000, 65535, 21
    made["port"][:, 4], made["helper"], made["left_s"] = np.arange(count) % masters + 5000, helper, 299
    for name, value in given.items():
        made[name] = value
    return Expected(made, ReadVia.NETLINK, HELPED)


def expecting(rows, limit: int = 3, refused: int = 0, **given):
    """A namespace with these expectations, and so many packets dropped for want of room."""
    lost = losses(tcp(refused, sport=np.arange(refused) + 6000, dport=21), DropReason.HELPER, text=b"cannot add expectation")
    around = {NETNS: namespace(nf_conntrack_count=9, nf_conntrack_expect_max=limit)}
    return evidence(tcp(9, dport=21, status=REPLIED | IPS_HELPER), losses=lost, drops={"helper": refused}, namespaces=around,
                    expected=rows, **given)  # fmt: skip


def unhelped(control=None, died=None, **given):
    """FTP without a helper: who logs in, and the data connection that a rule drops."""
    rows = tcp(1, sport=5000, dport=21) if control is None else control
    dropped = tcp(1, "NONE", src="10.0.0.2", dst="10.0.0.1", sport=20, dport=7000, status=0) if died is None else died
    return evidence(rows, unconfirmed=events(Kind.DESTROY, dropped, reason=8), expected=expectations(0), **given)


def held_back(count: int = 97, listed: int = 0, queues: tuple[Queue, ...] = (HELD,), limit: int = 97, **given):
    """A namespace that counts more entries than are in the hash."""
    blue = replace(namespace(nf_conntrack_count=count, nf_conntrack_max=limit), account=Account(count, None, queues))
    return evidence(
        entries(listed), namespaces={NETNS: replace(blue, listed=listed, unlisted_before=given.pop("before", 5))}, **given
    )


def piled(state: str = "CLOSE_WAIT", count: int = 170, timeout_s: int = 3600, left_s: int = 1800, limit: int = 500):
    """So many TCP entries in this state, beside 30 that are established, under a timeout of so many seconds."""
    sysctls = {f"nf_conntrack_tcp_timeout_{state.lower()}": timeout_s, "nf_conntrack_max": limit}
    rows = np.concatenate([tcp(count, state, left_s=left_s), tcp(30, src="10.0.0.9")])
    return evidence(rows, namespaces={NETNS: namespace(nf_conntrack_count=len(rows), **sysctls)})


NAT_AND_NOTRACK = Ruleset(5, 1, 2, families=frozenset({"ip"}), notracks=(Notrack("inet", "untracked", "pre", 4, True),))


def silent(ruleset: Ruleset = NAT_AND_NOTRACK, v4: int = 22, v6: int = 0):
    """No entry and no event, while so many packets pass."""
    blue = replace(namespace(nf_conntrack_count=0), account=Account(0), listed=0, passed=IpPackets(v4, v6), ruleset=ruleset)
    return evidence(namespaces={NETNS: blue})


BRIDGE = Bridge("br0", 2, ("10.0.0.254/24", "fd00::1/64"), by_sysctl=frozenset({2}))


def bridged(rows=None, bridge: Bridge = BRIDGE):
    """Entries in the network of a bridge whose packets pass through IP hooks; NAT changes one of them."""
    if rows is None:
        rows = np.concatenate([entries(12), entries(1, sport=7, nat=("10.0.0.254", 7), status=REPLIED | IPS_SRC_NAT)])
    blue = replace(namespace(nf_conntrack_count=len(rows)), account=Account(len(rows), bridges=(bridge,)), listed=len(rows))
    return evidence(rows, namespaces={NETNS: blue})


def unknown_buckets():
    return evidence(entries(9), lengths=Lengths(np.zeros(512, np.uint16), 0, 0))


def removed(flushed: int, deleted: int = 0, left: int = 0):
    """A namespace from which somebody took that many entries, and in which so many are left."""
    gone = events(Kind.DESTROY, entries(flushed + deleted), comm=b"conntrack", pid=3097)
    gone["reason"] = [DestroyReason.FLUSHED] * flushed + [DestroyReason.DELETED] * deleted
    return evidence(entries(left), removed=gone, destroys={"flushed": flushed, "deleted": deleted, "timeout": 400})


CASES = {
    "entries_deleted": (
        removed(70, 10, 20),
        Severity.WARNING,
        "80 living entries of blue (80 %) taken out of the table in 5.0 s (16.0 per s), 70 by a flush and 10 one by one, most by "
        "conntrack[3097]: their connections lose their NAT and their state",
    ),
    "unanswered": (
        evidence(np.concatenate([entries(38, status=UNREPLIED), entries(2, sport=9)])),
        Severity.NOTICE,
        "10.0.0.2:53/udp answers nobody: 38 of the 40 entries to it in blue saw no reply",
    ),
    "offloaded": (
        evidence(
            np.concatenate([tcp(3, status=REPLIED | IPS_OFFLOAD), tcp(1, status=REPLIED | IPS_OFFLOAD | IPS_HW_OFFLOAD), tcp(12)])
        ),
        Severity.NOTICE,
        "4 entries of blue (25 % of its table) in a flow table, 1 of them in hardware: neither rules nor counters see their",
    ),
    "expect_full": (
        expecting(expectations(3, masters=3), refused=5),
        Severity.CRITICAL,
        "the expectation table of blue is full, 3 of 3 (nf_conntrack_expect_max): 5 packets of 5 connections dropped in 5.0 s "
        "(1.0 per s), as the connection that they announce could not be expected, the first on 10.0.0.1:6000 > 10.0.0.2:21/tcp; "
        "3 masters, most of 10.0.0.1:5000 > 10.0.0.2:21/tcp",
    ),
    "helper_missing": (
        unhelped(),
        Severity.WARNING,
        "1 connection to port 21/tcp in blue without the helper ftp, which no rule assigns: 10.0.0.1:5000 > 10.0.0.2:21/tcp; "
        "connections that they agree upon are NEW, not RELATED, and 1 new one between the same hosts got no answer or was "
        "dropped on the way, the first 10.0.0.2:20 > 10.0.0.1:7000/tcp",
    ),
    "entries_unlisted": (
        held_back(),
        Severity.WARNING,
        "97 of the 97 entries that blue counts are in no hash chain, 5 of them before this observation",
    ),
    "state_piles_up": (
        piled(),
        Severity.WARNING,
        "170 of the 200 TCP entries of blue (85 %) are in CLOSE_WAIT, 34 % of its limit of 500, 170 of them from 10.0.0.1",
    ),
    "nothing_tracked": (silent(), Severity.WARNING, "nothing is tracked in blue, where 22 IP packets passed in 5.0 s"),
    "tracked_twice": (
        bridged(),
        Severity.WARNING,
        "bridged packets are tracked in blue, as net.bridge.bridge-nf-call-iptables is 1: 13 of its 13 entries (100 %)",
    ),
    "table_full": (
        full(drops={"table_full": 23}),
        Severity.CRITICAL,
        "23 packets of new connections refused in 5.0 s (4.6 per s)",
    ),
    "table_filling": (
        counted(6000, 10_000, inserts={NETNS: 500}),
        Severity.WARNING,
        "60 % full, 6000 of 10000 entries, and grows by 100.0 entries per s: full in 40.0 s",
    ),
    "early_drop": (
        full(destroys={"early_drop": 5, "gc_early_drop": 2, "timeout": 9}),
        Severity.WARNING,
        "7 living entries evicted in 5.0 s (1.4 per s), 5 by early drop",
    ),
    "chain_too_long": (evidence(lengths=long_chain(43)), Severity.WARNING, "longest hash chain has 43 nodes"),
    "chain_skew": (
        evidence(lengths=Lengths(np.repeat([0, 4], 2048).astype(np.uint16), 4096, 0)),
        Severity.WARNING,
        "a lookup visits 2.5 nodes instead of 2.0",
    ),
    "few_buckets": (evidence(lengths=lengths(5000, 512)), Severity.WARNING, "5000 nodes lie in only 512 buckets, 9.8 in each"),
    "clash_race": (dns_race(), Severity.WARNING, "3 lost, 2 given to the winner's entry; this is the resolver that waits 5 s"),
    "snat_ports": (nat_clash(), Severity.CRITICAL, "5 packets of new connections lost"),
    "invalid_window": (
        evidence(losses=outside(11), drops={"invalid": 11}),
        Severity.WARNING,
        "11 packets of 1 connection were INVALID",
    ),
    "asymmetric_routing": (stray(0x12), Severity.WARNING, "11 SYN+ACK without a SYN before"),
    "untranslated": (
        late(13, "ESTABLISHED", tcp_flags=0x04, nat=IPS_SRC_NAT),
        Severity.WARNING,
        "13 INVALID packets passed the NAT of blue untranslated in 5.0 s (2.6 per s), with the source 10.0.0.1: no rule drops",
    ),
    "late_packets": (
        late(),
        Severity.WARNING,
        "7 packets of 7 connections came by in blue in 5.0 s (1.4 per s), up to 2.0 s after their entries had left: "
        "7 timeout in CLOSE_WAIT "
        "(nf_conntrack_tcp_timeout_close_wait is 1 s, 60 by default)",
    ),
    "icmp_refused": (
        icmp_errors(ruleset=Ruleset(2, 0, 1, refusing=(REFUSING,))),
        Severity.WARNING,
        "9 ICMP errors refused in blue in 5.0 s: 9 fragmentation needed, about packets of 1 connection without an entry, 9 of "
        "them about 10.0.0.1:1024 > 10.0.0.2:53/tcp",
    ),
    "bad_checksum": (
        bad(30, 0x02, text=b"bad checksum", device=b"eth0"),
        Severity.WARNING,
        "30 packets INVALID in blue for their checksum in 5.0 s (6.0 per s), 30 on eth0: 30 tcp, the first "
        "10.0.0.1:1024 > 10.0.0.2:53/tcp (bad checksum)",
    ),
    "tunnel_oneway": (
        tunnelled(),
        Severity.WARNING,
        "VXLAN has 3000 of the 3000 entries of blue (100 %, 30 % of its limit of 10000), UDP to port 4789 from "
        "3000 source ports of 3 sources",
    ),
    "entry_gone": (stray(0x10, hook="output"), Severity.WARNING, "11 packets that blue itself sent"),
    "unexplained": (bad(30), Severity.WARNING, "30 packets lost or INVALID in 5.0 s (6.0 per s) that no other verdict explains"),
    "unseen": (counting(drop=3), Severity.WARNING, "counted losses in blue that were not seen, at least 3: drop 3"),
    "scan": (
        evidence(entries(101, dport=range(1, 102), status=UNREPLIED)),
        Severity.WARNING,
        "101 entries (100 % of its table) to 1 address and 101 ports",
    ),
    "syn_flood": (
        evidence(tcp(60, "SYN_RECV", src=many(60), dport=443, status=UNREPLIED | 2)),
        Severity.WARNING,
        "10.0.0.2:443/tcp gets SYNs that nobody completes: 60 half-open entries from 60 sources",
    ),
    "source_share": (
        evidence(np.concatenate([tcp(3000), entries(1000, src=many(1000))])),
        Severity.WARNING,
        "10.0.0.1 holds 3000 of the 4000 entries of blue (75 %), 30 % of its limit of 10000",
    ),
    "netns_share": (crowded_namespaces(), Severity.WARNING, "blue holds 3000 of the 3500 entries of all 2 namespaces (86 %)"),
    "idle_established": (
        evidence(np.concatenate([tcp(3000, left_s=172_800, src=many(3000)), tcp(100)])),
        Severity.WARNING,
        "3000 ESTABLISHED entries (97 % of its table) that saw no packet for a day, half of them for 3.0 days",
    ),
    "stale_udp": (stale(), Severity.WARNING, "3 old UDP entries in blue kept alive by unanswered packets"),
    "entry_older_than_rule": (
        old_syslog(),
        Severity.WARNING,
        "2 entries for 10.1.0.1:514/udp in blue are older than the rules: what 10.1.0.9:1024, 10.1.0.9:1025 sends still goes "
        "there without NAT, and nobody answers, while new packets go to 172.17.0.2:514 by its dnat rule (table nat, chain pre, "
        "handle 2); each was there before these 5.0 s, in which packets kept 2 of 2 alive",
    ),
    "hairpin": (
        hairpinned(),
        Severity.WARNING,
        "6 entries for 10.1.0.1:443/tcp in blue have no answer: DNAT sends them to 172.17.0.2:443, which is in the network of "
        "the client 172.17.0.9 itself (172.17.0.0/16) and answers it directly",
    ),
    "netns_limit": (lower_limit(), Severity.WARNING, "blue may have 100 entries, fewer than the 10000 of the first"),
    "records_lost": (evidence(events_lost=17, events_seen=83), Severity.WARNING, "17 records of 100 found the ring full"),
    "lost_otherwise": (evidence(drops={"no_memory": 3, "dying": 1}), Severity.CRITICAL, "4 packets lost"),
    "notrack_loopback": (
        evidence(entries(150, src="127.0.0.1", dst="127.0.0.5")),
        Severity.NOTICE,
        "150 of the 150 entries of blue (100 %) are traffic with itself",
    ),
    "notrack_service": (
        evidence(entries(150), namespaces={NETNS: replace(namespace(), ruleset=Ruleset(1))}),
        Severity.NOTICE,
        "150 of the 150 entries of blue (100 %) are UDP to port 53",
    ),
    "events_off": (
        evidence(entries(9), namespaces={NETNS: namespace(nf_conntrack_events=0)}),
        Severity.NOTICE,
        "nf_conntrack_events is 0 in blue, with 9 entries",
    ),
    "acct_off": (
        evidence(entries(9), namespaces={NETNS: namespace(nf_conntrack_acct=0)}),
        Severity.NOTICE,
        "nf_conntrack_acct is 0 in blue, with 9 entries",
    ),
    "tracking_unneeded": (
        with_rules(Ruleset(3, 2, 0)),
        Severity.NOTICE,
        "tracks 200 connections and none of its 3 firewall rules",
    ),
}


# A busy day: many sources, answered, in a table with room, chains as they should be.
PEACE = evidence(
    np.concatenate([tcp(900, src=many(900), dport=443), entries(90, src=many(90))]),
    inserts={NETNS: 400},
    destroys={"timeout": 390},
    namespaces={NETNS: replace(namespace(nf_conntrack_count=990), ruleset=Ruleset(5, 1, 2), account=Account(990), listed=990)},
)
