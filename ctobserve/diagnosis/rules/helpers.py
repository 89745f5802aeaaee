"""Do connections go without the helper that their protocol needs?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.nft import Chain, add_chain, add_helper, add_rule, add_table
from ctobserve.diagnosis.rules.paste import look, netns_option, remark
from ctobserve.diagnosis.rules.tuples import CONNECTION, address, connection, original, port
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.host.helpers import HELPERS, Helper
from ctobserve.model import (
    IPS_CONFIRMED,
    IPS_EXPECTED,
    IPS_HELPER,
    IPS_SEEN_REPLY,
    TCP,
    TCP_STATES,
    UDP,
    Entries,
    Mask,
    NDArray,
    pick,
    protocol_name,
)

TABLE = "assigned"  # `helpers` is a word of nft's own
# A helper is given with a connection's first packet, once conntrack knows it: behind priority -200.
CHAINS = (Chain(TABLE, "pre", "prerouting", "filter"), Chain(TABLE, "out", "output", "filter"))
NEW_ONES = remark("connections that are open now get none: they must be opened again")
ESTABLISHED = TCP_STATES.index("ESTABLISHED")
AGREED = 1024  # ports from here on are those that are agreed upon, not those of a service
IPV4, BROADCAST = 2, 255
PORTS = [helper.port for helper in HELPERS]
ENDS = np.dtype([("netns", "<u4"), ("one", "V16"), ("other", "V16")])


class Lacking(NamedTuple):
    """Control connections of one protocol in one namespace that have no helper, and new ones that may be what they agreed."""

    helper: Helper
    namespace: NamespaceEvidence
    control: Entries
    data: Entries


def judge(evidence: Evidence) -> RuleResult:
    """Connections to the port of a helper that is in this kernel, and that no rule gave them.

    Before Linux 6.0 the sysctl nf_conntrack_helper can make the kernel give it by port. That their data connections suffer is
    seen where new ones between the same hosts get no answer, or die before they are confirmed.
    """
    if evidence.expected is None:
        return Unjudged("which helpers the kernel has is not in the recording")
    found = list(_lacking(evidence, evidence.expected.helpers))
    if not found:
        return None
    helper, namespace, control, data = max(found, key=lambda one: (len(one.data), len(one.control)))
    proto = protocol_name(helper.protonum)
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "helper_name": helper.name,
        "entries": len(control),
        "entries_elsewhere": sum(len(one.control) for one in found) - len(control),
        "data_connections": len(data),
        "proto": proto,
        **original(control[0]),
    }
    sentence = (
        f"{plural(len(control), 'connection')} to port {helper.port}/{proto} in {namespace.label} without the helper "
        f"{helper.name}, which no rule assigns: {connection(control[0])}; connections that they agree upon are NEW, not RELATED"
    )
    if len(data):
        sentence += (
            f", and {plural(len(data), 'new one')} between the same hosts got no answer or was dropped on the way, the first "
            f"{connection(data[0])}"
        )
        numbers |= {
            "data_src": address(data[0], "src"),
            "data_sport": port(data[0], "sport"),
            "data_dst": address(data[0], "dst"),
            "data_dport": port(data[0], "dport"),
        }
    # Media are UDP that need not be answered; tftp's blocks always are, and what died unconfirmed was dropped.
    suffers = (data["protonum"] != UDP) | helper.same_port | ((data["status"] & IPS_CONFIRMED) == 0)
    if len(data) and not suffers.any():
        sentence += ", which of UDP may be as it should"
    do = (
        look("ctobserve", "list", "--proto", proto, "--dport", helper.port, *netns_option(namespace), "--limit", 20),
        *_assign(namespace, helper),
        NEW_ONES,
    )
    return Verdict(Severity.WARNING if suffers.any() else Severity.NOTICE, sentence, numbers, do)


def _assign(namespace: NamespaceEvidence, helper: Helper) -> Iterator[str]:
    """The lines that have a rule give it to new connections, whoever opens them."""
    proto, name = protocol_name(helper.protonum), helper.name.lower().replace(".", "").replace("-", "_")
    yield add_table(namespace, TABLE)
    yield add_helper(namespace, TABLE, name, helper.name, proto)
    for chain in CHAINS:
        yield add_chain(namespace, chain)
        yield add_rule(namespace, chain, proto, "dport", helper.port, "ct", "helper", "set", f'"{name}"')


def _lacking(evidence: Evidence, known: frozenset[str]) -> Iterator[Lacking]:
    """`known` are the helpers that the kernel has."""
    rows = evidence.entries
    without = ((rows["status"] & (IPS_HELPER | IPS_EXPECTED)) == 0) & np.isin(rows["port"][:, 1], PORTS)
    rows = pick(rows, without & (rows["reply_only"] == 0))
    # Half of a conversation is none: a SYN that nobody answers needs no helper.
    rows = pick(rows, (rows["protonum"] != TCP) | ((rows["tcp_state"] == ESTABLISHED) & ((rows["status"] & IPS_SEEN_REPLY) != 0)))
    for helper in HELPERS if len(rows) else ():
        if helper.name in known:
            control = pick(rows, _of(helper, rows))
            for inum in np.unique(control["netns"]).tolist():
                namespace = evidence.namespace(inum)
                if not namespace.sysctls.get("nf_conntrack_helper"):
                    own = pick(control, control["netns"] == inum)
                    yield Lacking(helper, namespace, own, _data(evidence, helper, own))


def _of(helper: Helper, rows: Entries) -> Mask:
    """Which are its control connections."""
    found: Mask = (rows["protonum"] == helper.protonum) & (rows["port"][:, 1] == helper.port)
    if helper.broadcast:
        found &= (rows["l3num"] == IPV4) & (rows["addr"][:, 1, 3] == BROADCAST)
    return found


def _data(evidence: Evidence, helper: Helper, control: Entries) -> Entries:
    """New connections without an answer that these may have agreed upon, of each one entry."""
    rows, died = evidence.entries, evidence.unconfirmed["entry"]
    unanswered = ((rows["status"] & (IPS_SEEN_REPLY | IPS_EXPECTED)) == 0) & np.isin(rows["protonum"], helper.data)
    found = np.concatenate([pick(rows, unanswered), pick(died, np.isin(died["protonum"], helper.data))])
    dport = found["port"][:, 1]
    if helper.same_port:
        back = np.isin(_ends(found, 1, 1), _ends(control, 3, 3)) & np.isin(dport, control["port"][:, 3])
        found = found[back]
    else:
        agreed = (dport >= AGREED) & (dport != helper.port) | ~np.isin(found["protonum"], (TCP, UDP))
        # The server calls the client, by the address that it knows; or the client calls the server again.
        asked = np.concatenate([_ends(control, 2, 3), _ends(control, 0, 1)])
        found = found[agreed & np.isin(_ends(found, 0, 1), asked)]
    return found[divide(found, CONNECTION).first]


def _ends(rows: Entries, one: int, other: int) -> NDArray[np.void]:
    """Namespace and two of the four addresses, as bytes that can be compared."""
    ends = np.zeros(len(rows), ENDS)
    ends["netns"] = rows["netns"]
    for name, place in (("one", one), ("other", other)):
        ends[name] = np.ascontiguousarray(rows["addr"][:, place]).view("V16")[:, 0]
    found: NDArray[np.void] = ends.view(np.dtype((np.void, ENDS.itemsize)))
    return found


RULES = (Rule("helper_missing", judge),)
