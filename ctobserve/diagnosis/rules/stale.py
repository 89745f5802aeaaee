"""Do old entries send packets where new ones would not go, and nobody is any more?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.mappings import BACKEND, Judged, NewMapping
from ctobserve.diagnosis.rules.paste import inside, look_inside, remark
from ctobserve.diagnosis.rules.tuples import address, end, original, port, protocol, service
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.model import IPS_DST_NAT, UDP, Entries, Mask, pick, printable

FEW = 5  # entries: a line for each, so that nobody else's is deleted


def judge_udp(evidence: Evidence) -> RuleResult:
    """Unanswered UDP entries that packets keep alive: as long as they come, the entry's old backend gets them.

    Certain where new packets are mapped elsewhere and answered there, and this backend answers nobody. Where the rules are not
    known and there is nobody to compare with, only the fact is told: some protocols never answer.
    """
    found = evidence.mappings
    kept: Mask = found.kept & (found.rows["protonum"] == UDP)
    stale = _answered_elsewhere(evidence)
    untold: Mask = kept & found.judged(Judged.UNKNOWN) & ((found.rows["status"] & IPS_DST_NAT) != 0)
    chosen = stale if stale.any() else untold
    if not chosen.any():
        return None
    rows = found.rows[chosen]
    groups = divide(rows, BACKEND)
    at = int(groups.first[groups.largest(1)[0]])
    first, namespace, entries = rows[at], evidence.namespace(int(rows["netns"][at])), len(rows)
    dst, dport = address(first, "dst"), port(first, "dport")
    backend, backend_port = address(first, "reply_src"), port(first, "reply_sport")
    sentence = (
        f"{plural(entries, 'old UDP entry', 'old UDP entries')} in {namespace.label} kept alive by unanswered packets, most to "
        f"{service(dst, dport, 'udp')} by way of {service(backend, backend_port, 'udp')}"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "entries": entries,
        "dst": dst,
        "dport": dport,
        "backend": backend,
        "backend_port": backend_port,
        "answered_elsewhere": bool(stale.any()),
    }
    if not stale.any():
        why = found.expected[int(found.groups.labels[chosen][at])].why
        sentence += f", as is normal where nobody answers (syslog, statsd); whether new ones go there too is not known: {why}"
        return Verdict(Severity.NOTICE, sentence, numbers, (look_inside(namespace, "nft", "list", "ruleset"),))
    sentence += ", which answers nobody, while others get answers elsewhere: their rule changed, and the entry still holds"
    delete = inside(namespace, "conntrack", "-D", "-p", "udp", "-d", dst, "--dport", dport, "--reply-src", backend)
    return Verdict(Severity.WARNING, sentence, numbers, (delete,))


def judge_older(evidence: Evidence) -> RuleResult:
    """Unanswered entries, UDP or TCP, whose mapping is not the one that a new packet gets: the rule came after them."""
    found = evidence.mappings
    older: Mask = found.judged(Judged.OTHER) & ~_answered_elsewhere(evidence)
    if not older.any():
        return None
    rows = pick(found.rows, older)
    groups = divide(rows, BACKEND)
    most = int(groups.largest(1)[0])
    mine = pick(rows, groups.labels == most)
    first, namespace = mine[0], evidence.namespace(int(mine["netns"][0]))
    expected = found.expected[int(found.groups.labels[older][groups.first[most]])]
    dst, dport, proto = address(first, "dst"), port(first, "dport"), protocol(first)
    backend, backend_port = address(first, "reply_src"), port(first, "reply_sport")
    senders = [end(address(row, "src"), port(row, "sport")) for row in mine[:FEW]]
    kept = int((found.kept & older).sum())
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "entries": len(rows),
        "entries_kept": kept,
        "older_than_s": round(evidence.duration_s, 3),
        "proto": proto,
        **original(first),
        "senders": senders,
        "backend": backend,
        "backend_port": backend_port,
        "new_backend": expected.address,
        "new_backend_port": expected.port,
        "entries_new_backend": expected.others,
        "rule": _rule(expected),
    }
    listed = ", ".join(senders) + (f" and {len(mine) - FEW} more" if len(mine) > FEW else "")
    mapped = f"to {end(backend, backend_port)}" if (backend, backend_port) != (dst, dport) else "there without NAT"
    elsewhere = f"; {plural(len(rows) - len(mine), 'such entry', 'such entries')} more to others" if len(rows) > len(mine) else ""
    sentence = (
        f"{plural(len(mine), 'entry', 'entries')} for {service(dst, dport, proto)} in {namespace.label} "
        f"{'is' if len(mine) == 1 else 'are'} older than the rules: what {listed} sends still goes {mapped}, and nobody answers, "
        f"while {_now(expected, dst, dport)}; each was there before these {evidence.duration_s:.1f} s, in which packets kept "
        f"{kept} of {len(rows)} alive{elsewhere}"
    )
    return Verdict(Severity.WARNING, sentence, numbers, tuple(_deleting(evidence, rows)))


def _answered_elsewhere(evidence: Evidence) -> Mask:
    """UDP entries kept alive for a backend that answers nobody, while new packets go to another and get answers."""
    found = evidence.mappings
    stale: Mask = found.judged(Judged.OTHER) & found.kept & found.answered & (found.rows["protonum"] == UDP)
    return stale


def _rule(expected: NewMapping) -> str | None:
    if expected.rule is None:
        return None
    rule = expected.rule
    return f"{printable(rule.table)} {printable(rule.chain)} handle {rule.handle}"


def _now(expected: NewMapping, dst: str, dport: int) -> str:
    """What new packets get, and how that is known."""
    if expected.rule is not None:
        said = f"by its {expected.rule.does.value} rule (table {printable(expected.rule.table)}, chain "
        said += f"{printable(expected.rule.chain)}, handle {expected.rule.handle})"
    else:
        said = f"as {plural(expected.others, 'other entry shows', 'other entries show')}" if expected.why else "as rules are now"
    if (expected.address, expected.port) == (dst, dport):
        return f"new packets are not translated, {said}"
    where = "elsewhere" if expected.address is None else f"to {end(expected.address, expected.port)}"
    if expected.address is None and expected.rule is not None and expected.rule.does.value == "redirect":
        where = f"to port {expected.port} of this host itself"
    return f"new packets go {where} {said}"


def _deleting(evidence: Evidence, rows: Entries) -> Iterator[str]:
    """Lines that delete these entries and no other: one for each, or, of many, for each backend that has no other entries."""
    if len(rows) <= FEW:
        yield from (_delete(evidence.namespace(int(row["netns"])), row, True) for row in rows)
        return
    groups = divide(rows, BACKEND)
    for at in groups.largest(FEW).tolist():
        mine = pick(rows, groups.labels == at)
        first, namespace = mine[0], evidence.namespace(int(mine["netns"][0]))
        if not evidence.filtered and _like(evidence.entries, first) == len(mine):
            yield _delete(namespace, first, False)
        else:
            yield from (_delete(namespace, row, True) for row in mine[:FEW])
            if len(mine) > FEW:
                yield remark(f"and {len(mine) - FEW} more like these, among others of this service that are right")


def _like(entries: Entries, one: np.void) -> int:
    """Entries of the same protocol, service and backend."""
    alike = (entries["netns"] == one["netns"]) & (entries["zone"] == one["zone"]) & (entries["protonum"] == one["protonum"])
    alike &= (entries["port"][:, 1] == one["port"][1]) & (entries["addr"][:, 1:3] == one["addr"][1:3]).all(axis=(1, 2))
    return int(alike.sum())


def _delete(namespace: NamespaceEvidence, row: np.void, exact: bool) -> str:
    """The line that deletes this entry or, not `exact`, all of its service that are mapped to the same address."""
    words: list[str | int] = ["conntrack", "-D", "-p", protocol(row)]
    if exact:
        words += ["--orig-src", address(row, "src"), "--sport", port(row, "sport")]
    words += ["--orig-dst", address(row, "dst"), "--dport", port(row, "dport"), "--reply-src", address(row, "reply_src")]
    words += ["--zone", int(row["zone"])] if row["zone"] else []
    return inside(namespace, *words)


RULES = (Rule("stale_udp", judge_udp), Rule("entry_older_than_rule", judge_older))
