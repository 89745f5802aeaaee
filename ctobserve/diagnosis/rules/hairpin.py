"""Are port forwards used from the network of the server itself?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide, group
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.evidence import Evidence, Explained
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.hairpins import Hairpin
from ctobserve.diagnosis.mappings import BACKEND
from ctobserve.diagnosis.rules.nft import Chain, add_chain, add_rule, add_table
from ctobserve.diagnosis.rules.paste import inside, zone_option
from ctobserve.diagnosis.rules.tuples import address, end, original, port, protocol, service
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.model import TCP, Entries, pick

LATE_NS = NS_PER_S  # an answer within one network takes far less
CLIENTS = 5  # lines that delete old entries
CHAIN = Chain("hairpin", "post", "postrouting", "srcnat", "nat")


def judge(evidence: Evidence) -> RuleResult:
    """Entries in SYN_SENT, or UNREPLIED, whose server answers its neighbour past us, from an address that this one never asked.

    Of UDP that is certain only where the server answers others: it may be traffic that nobody answers.
    """
    found, hairpins = evidence.mappings, evidence.hairpins
    late = evidence.clock.monotonic_ns - found.rows["seen_ns"].astype(np.int64) >= LATE_NS
    stuck = hairpins.rows & (found.old | late)
    if not stuck.any():
        return None
    rows = pick(found.rows, stuck)
    groups = divide(rows, BACKEND)
    # TCP, or a server that answers others.
    sure = groups.sums((rows["protonum"] == TCP) | found.backend_answers[stuck]) > 0
    at = max(range(len(sure)), key=lambda one: (sure[one], groups.counts[one]))
    first, mine = rows[groups.first[at]], pick(rows, groups.labels == at)
    entries = len(mine)
    where = hairpins.of_group[int(found.groups.labels[stuck][groups.first[at]])]
    namespace, proto = evidence.namespace(int(first["netns"])), protocol(first)
    backend, backend_port = address(first, "reply_src"), port(first, "reply_sport")
    answers = evidence.past_us
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "entries": entries,
        "entries_elsewhere": len(rows) - entries,
        "proto": proto,
        **original(first),
        "backend": backend,
        "backend_port": backend_port,
        "network": str(where.network),
        "network_guessed": where.guessed,
        "packets": int(answers.sum()),
    }
    client, dst, dport = address(first, "src"), address(first, "dst"), port(first, "dport")
    guessed = " if its mask is as guessed" if where.guessed else ""
    sentence = (
        f"{plural(entries, 'entry', 'entries')} for {service(dst, dport, proto)} in {namespace.label} "
        f"{'has' if entries == 1 else 'have'} no answer: DNAT sends them to {end(backend, backend_port)}, which is in the "
        f"network of the client {client} itself ({where.network}{guessed}) and answers it directly, from an address that it did "
        "not ask (hairpin); such connections need SNAT as well"
    )
    if not sure[at]:
        sentence += ", unless this is traffic that nobody answers"
    severity = Severity.WARNING if sure[at] else Severity.NOTICE
    return Verdict(severity, sentence, numbers, _mending(evidence, mine, where), Explained(rows=answers))


def _mending(evidence: Evidence, rows: Entries, where: Hairpin) -> tuple[str, ...]:
    """The rule that makes the answers come back this way; then the entries go that were made before it."""
    first, namespace = rows[0], evidence.namespace(int(rows["netns"][0]))
    family, proto = "ip" if where.network.version == 4 else "ip6", protocol(first)
    backend, backend_port = address(first, "reply_src"), port(first, "reply_sport")
    match = (family, "saddr", str(where.network), family, "daddr", backend, proto, "dport", backend_port, "ct", "status", "dnat")
    delete = ("conntrack", "-D", "-p", proto, "--orig-dst", address(first, "dst"), "--dport", port(first, "dport"))
    zone = zone_option(evidence, int(first["zone"]))
    clients = [client for client, _ in group(rows, "src", CLIENTS)]
    return (
        add_table(namespace, CHAIN.table),
        add_chain(namespace, CHAIN),
        add_rule(namespace, CHAIN, *match, "masquerade"),
        # Those with SNAT have our address for the client's.
        *(
            inside(namespace, *delete, "--orig-src", str(one), "--reply-src", backend, "--reply-dst", str(one), *zone)
            for one in clients
        ),
    )


RULES = (Rule("hairpin", judge),)
