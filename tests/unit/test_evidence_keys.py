"""Every key that a verdict's evidence has is described, with the type of what is in it; none is described that no rule gives."""

from __future__ import annotations

import re
from types import UnionType
from typing import Any, get_args, get_origin

import pytest

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.evidence import RESOLVED, Evidence
from ctobserve.diagnosis.evidence_keys import EVIDENCE_KEYS
from ctobserve.diagnosis.rules.unseen import COUNTERS
from ctobserve.event import DropReason, drop_name
from ctobserve.model import join
from tests.unit.cases import CASES, PEACE, bad, capped, counting, many_mapped, outside, stale, stray
from tests.unit.mapped import leaving
from tests.unit.tables import entries, evidence, losses

REASON_UNKNOWN = 99


def unexplained_of_all_reasons() -> Evidence:
    reasons = [*DropReason, REASON_UNKNOWN]
    lost = join([losses(entries(1), reason) for reason in reasons])
    return evidence(losses=lost, drops={drop_name(reason): 1 for reason in reasons})


JUDGED: dict[str, Evidence] = {
    **{name: made for name, (made, *_) in CASES.items()},
    "peace": PEACE,
    "all reasons": unexplained_of_all_reasons(),
    "an error in ICMP": bad(9, 0, DropReason.ERROR, b"icmp type, code"),
    "not all kept": capped(outside(50), "invalid", 200),
    "reopened": counting(evidence(entries(4), destroys={"tcp_reuse": 500}), invalid=500),
    "resolved": evidence(losses=losses(entries(2), RESOLVED), drops={"clash_resolved": 2}),
    "ports nearly used up": many_mapped(),
    "stale without comparison": stale(elsewhere=False),
    "leaves otherwise": leaving(),
    "few strays": stray(0x12, 1),
}


def found(made: Evidence) -> dict[str, dict[str, Any]]:
    """The evidence of all verdicts, also those of rules that are asked of what others leave."""
    verdicts = {f"{rule.id} alone": result for rule in rules.RULES if (result := rule.judge(made))} | rules.judge(made).verdicts
    return {name: dict(one.evidence) for name, one in verdicts.items() if hasattr(one, "evidence")}


def fits(value: object, kind: Any) -> bool:
    """Exactly of this type: a number of NumPy's is none of JSON's, True is no number."""
    if isinstance(kind, UnionType):
        return any(fits(value, one) for one in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(fits(one, get_args(kind)[0]) for one in value)
    return type(value) is (type(None) if kind is None else kind)


@pytest.mark.parametrize("name", JUDGED)
def test_every_key_is_described_with_its_type(name):
    for verdict, numbers in found(JUDGED[name]).items():
        for key, value in numbers.items():
            if re.fullmatch(r"reason_\d+", key):
                continue
            kind, text = EVIDENCE_KEYS[key]
            assert fits(value, kind), (verdict, key, value)
            assert text and text[-1] != "."


def test_every_key_that_is_described_is_given_by_some_rule():
    given = {key for made in JUDGED.values() for numbers in found(made).values() for key in numbers}
    assert EVIDENCE_KEYS.keys() == given - {f"reason_{REASON_UNKNOWN}"}


def test_every_reason_and_every_counter_has_a_key():
    assert {drop_name(reason) for reason in DropReason} <= EVIDENCE_KEYS.keys()
    assert {f"{name}_unseen" for name in COUNTERS} <= EVIDENCE_KEYS.keys()
