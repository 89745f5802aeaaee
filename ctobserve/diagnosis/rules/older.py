"""Do entries that nobody answers send packets where new ones would not go, or from where they would not come?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.by_rules import Judged, NewMapping
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.mappings import BACKEND
from ctobserve.diagnosis.rules.paste import inside, remark, zone_option
from ctobserve.diagnosis.rules.stale import answered_elsewhere
from ctobserve.diagnosis.rules.tuples import address, end, original, port, protocol, service
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.host.nat_rules import Does
from ctobserve.model import TCP, Entries, Mask, pick, printable

Tell = Callable[[np.void, NewMapping], tuple[VerdictEvidence, str]]
FEW = 5  # entries: a line for each, so that nobody else's is deleted


def judge(evidence: Evidence) -> RuleResult:
    """Unanswered entries, UDP or TCP, whose mapping is not the one that a new packet gets: the rule came after them.

    Of UDP that only leaves with another source than new packets do, nobody knows whether it misses answers, unless others get
    them: worth knowing.
    """
    found = evidence.mappings
    sent: Mask = found.judged(Judged.OTHER) & ~answered_elsewhere(evidence)
    leaving: Mask = found.leaves_otherwise & ~found.judged(Judged.OTHER)
    expecting: Mask = leaving & ((found.rows["protonum"] == TCP) | found.backend_answers)
    if sent.any():
        return _verdict(evidence, Severity.WARNING, sent, found.expected, _sent)
    if expecting.any():
        return _verdict(evidence, Severity.WARNING, expecting, found.leaving, _leaves)
    return _verdict(evidence, Severity.NOTICE, leaving, found.leaving, _leaves) if leaving.any() else None


def _verdict(evidence: Evidence, severity: Severity, which: Mask, of_groups: Sequence[NewMapping], told: Tell) -> Verdict:
    """On these rows, most of all on those of the service and backend that has the most."""
    found = evidence.mappings
    rows = pick(found.rows, which)
    groups = divide(rows, BACKEND)
    most = int(groups.largest(1)[0])
    mine = pick(rows, groups.labels == most)
    first, namespace, kept = mine[0], evidence.namespace(int(mine["netns"][0])), int((found.kept & which).sum())
    gets = of_groups[int(found.groups.labels[which][groups.first[most]])]
    more, words = told(first, gets)
    senders = [end(address(row, "src"), port(row, "sport")) for row in mine[:FEW]]
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "entries": len(rows),
        "entries_kept": kept,
        "older_than_s": round(evidence.duration_s, 3),
        "proto": protocol(first),
        **original(first),
        "senders": senders,
        "backend": address(first, "reply_src"),
        "backend_port": port(first, "reply_sport"),
        **more,
        "rule": _rule(gets),
    }
    listed = ", ".join(senders) + (f" and {len(mine) - FEW} more" if len(mine) > FEW else "")
    elsewhere = f"; {plural(len(rows) - len(mine), 'such entry', 'such entries')} more to others" if len(rows) > len(mine) else ""
    where = service(address(first, "dst"), port(first, "dport"), protocol(first))
    sentence = (
        f"{plural(len(mine), 'entry', 'entries')} for {where} in {namespace.label} {'is' if len(mine) == 1 else 'are'} older "
        f"than the rules: what {listed} sends still {words}; each was there before these "
        f"{evidence.duration_s:.1f} s, in which packets kept {kept} of {len(rows)} alive{elsewhere}"
    )
    return Verdict(severity, sentence, numbers, tuple(_deleting(evidence, rows)))


def _rule(gets: NewMapping) -> str | None:
    if gets.rule is None:
        return None
    return f"{printable(gets.rule.table)} {printable(gets.rule.chain)} handle {gets.rule.handle}"


def _said(gets: NewMapping) -> str:
    """How that is known."""
    if gets.rule is None:
        return f"as {plural(gets.others, 'other entry shows', 'other entries show')}" if gets.why else "as rules are now"
    table, chain = printable(gets.rule.table), printable(gets.rule.chain)
    return f"by its {gets.rule.does.value} rule (table {table}, chain {chain}, handle {gets.rule.handle})"


def _sent(first: np.void, gets: NewMapping) -> tuple[VerdictEvidence, str]:
    """Where what they send goes, and where new packets go."""
    kept = end(address(first, "dst"), port(first, "dport"))
    backend, other = end(address(first, "reply_src"), port(first, "reply_sport")), end(gets.address, gets.port)
    now = "elsewhere" if gets.address is None else f"to {other}"
    if gets.rule is not None and gets.rule.does is Does.REDIRECT:
        now = f"to port {gets.port} of this host itself"
    goes = "are not translated," if other == kept else f"go {now}"
    there = "there without NAT" if backend == kept else f"to {backend}"
    numbers: VerdictEvidence = {
        "new_backend": gets.address,
        "new_backend_port": gets.port,
        "entries_new_backend": gets.others,
    }
    return numbers, f"goes {there}, and nobody answers, while new packets {goes} {_said(gets)}"


def _leaves(first: np.void, gets: NewMapping) -> tuple[VerdictEvidence, str]:
    """With which source what they send leaves, and with which new packets do."""
    client, source = address(first, "src"), address(first, "reply_dst")
    now = "with an address of this host" if gets.address is None else f"as {gets.address}"
    goes = "leave without NAT," if gets.address == client else f"leave {now}"
    there = "without NAT" if source == client else f"as {source}"
    numbers: VerdictEvidence = {"source": source, "new_source": gets.address}
    return numbers, f"leaves {there}, and nobody answers, while new packets {goes} {_said(gets)}"


def _deleting(evidence: Evidence, rows: Entries) -> Iterator[str]:
    """Lines that delete these entries and no other: one for each, or, of many, for each backend that has no other entries."""
    if len(rows) <= FEW:
        yield from (_delete(evidence, row, True) for row in rows)
        return
    groups = divide(rows, BACKEND)
    for at in groups.largest(FEW).tolist():
        mine = pick(rows, groups.labels == at)
        if not evidence.filtered and _like(evidence.entries, mine[0]) == len(mine):
            yield _delete(evidence, mine[0], False)
        else:
            yield from (_delete(evidence, row, True) for row in mine[:FEW])
            if len(mine) > FEW:
                yield remark(f"and {len(mine) - FEW} more like these, among others of this service that are right")


def _like(entries: Entries, one: np.void) -> int:
    """Entries of the same protocol, service and backend."""
    alike = (entries["netns"] == one["netns"]) & (entries["zone"] == one["zone"]) & (entries["protonum"] == one["protonum"])
    alike &= (entries["port"][:, 1] == one["port"][1]) & (entries["addr"][:, 1:3] == one["addr"][1:3]).all(axis=(1, 2))
    return int(alike.sum())


def _delete(evidence: Evidence, row: np.void, exact: bool) -> str:
    """The line that deletes this entry or, not `exact`, all of its service that are mapped to the same address."""
    words: list[str | int] = ["conntrack", "-D", "-p", protocol(row)]
    if exact:
        words += ["--orig-src", address(row, "src"), "--sport", port(row, "sport")]
    words += ["--orig-dst", address(row, "dst"), "--dport", port(row, "dport"), "--reply-src", address(row, "reply_src")]
    namespace = evidence.namespace(int(row["netns"]))
    return inside(namespace, *words, *zone_option(evidence, int(row["zone"])))


RULES = (Rule("entry_older_than_rule", judge),)
