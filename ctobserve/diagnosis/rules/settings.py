"""Which settings blind other tools?"""

from __future__ import annotations

from collections.abc import Callable

from ctobserve.diagnosis.evidence import Evidence, Space
from ctobserve.diagnosis.rules.paste import set_sysctl
from ctobserve.diagnosis.rules.words import plural, unreadable
from ctobserve.diagnosis.verdict import Finding, Rule, Severity, Unjudged, Verdict


def _off(name: str, blind: str) -> Callable[[Evidence], Finding]:
    def judge(evidence: Evidence) -> Finding:
        known = [space for space in evidence.spaces.values() if name in space.sysctls]
        if not known:
            return Unjudged(f"{name} could not be read in any namespace")
        off = [space for space in known if space.sysctls[name] == 0]
        # Where nothing is tracked nothing is missed.
        off = [space for space in off if evidence.counts.get(space.inum)]
        if not off:
            return unreadable(evidence, name)
        entries = sum(evidence.counts[space.inum] for space in off)
        many = f"{off[0].label} and {plural(len(off) - 1, 'other namespace')}" if len(off) > 1 else off[0].label
        sentence = f"{name} is 0 in {many}, with {plural(entries, 'entry', 'entries')}: {blind}"
        numbers = {"netns": off[0].inum, "namespaces": len(off), "entries": entries, name: 0}
        return Verdict(Severity.NOTICE, sentence, numbers, (set_sysctl(_first(off), name, 1),))

    return judge


def _first(spaces: list[Space]) -> Space:
    return next((space for space in spaces if space.init), spaces[0])


RULES = (
    Rule("events_off", _off("nf_conntrack_events", "conntrack -E, conntrackd and flow loggers hear nothing of them")),
    Rule("acct_off", _off("nf_conntrack_acct", "packets and bytes of a connection are not counted; new entries only, once set")),
)
