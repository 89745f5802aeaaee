"""Entries whose packets leave with another source than new ones would: SNAT that came, went, or has another address now."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.verdict import Severity
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import IPS_SRC_NAT, Entries
from tests.unit.cases import RULES
from tests.unit.mapped import hairpinned, was
from tests.unit.nat import meta, payload, ruleset, translating
from tests.unit.tables import REPLIED, UNREPLIED, entries, evidence, tcp

INSIDE, OUTSIDE = "172.17.0.9", "10.1.0.50"
CONTAINERS = payload("ip", "saddr", {"prefix": {"addr": "172.17.0.0", "len": 16}})
MASQUERADE = ruleset([CONTAINERS, meta("oifname", "br0", "!="), {"masquerade": None}], hook="postrouting")
SNAT = ruleset([CONTAINERS, {"snat": {"addr": "10.1.0.1"}}], hook="postrouting")


def sip(count: int = 2, **given) -> Entries:
    return entries(count, **({"src": INSIDE, "dst": OUTSIDE, "dport": 5060, "status": UNREPLIED} | given))


def syn(**given) -> Entries:
    return tcp(1, "SYN_SENT", **({"src": INSIDE, "dst": OUTSIDE, "dport": 5060, "status": UNREPLIED} | given))


def made(rows: Entries, rules_: Ruleset = MASQUERADE, *more: Entries) -> Evidence:
    return evidence(np.concatenate([rows, *more]), before=was(rows), namespaces=translating(rules_))


def test_what_leaves_without_snat_that_new_packets_have():
    found = RULES["entry_older_than_rule"](made(syn()))
    assert found.severity is Severity.WARNING
    assert found.sentence.startswith(
        "1 entry for 10.1.0.50:5060/tcp in blue is older than the rules: what 172.17.0.9:1024 sends still leaves without NAT, "
        "and nobody answers, while new packets leave with an address of this host by its masquerade rule (table nat, chain pre, "
        "handle 2)"
    )
    assert (found.evidence["source"], found.evidence["new_source"]) == (INSIDE, None)
    assert found.do == (
        "conntrack -D -p tcp --orig-src 172.17.0.9 --sport 1024 --orig-dst 10.1.0.50 --dport 5060 --reply-src 10.1.0.50",
    )


def test_what_leaves_with_an_address_of_before():
    old = syn(nat=("203.0.113.7", 1024), status=UNREPLIED | IPS_SRC_NAT)
    assert "still leaves as 203.0.113.7, and nobody answers" in RULES["entry_older_than_rule"](made(old)).sentence
    found = RULES["entry_older_than_rule"](made(old, SNAT))
    assert "while new packets leave as 10.1.0.1 by its snat rule" in found.sentence and found.evidence["new_source"] == "10.1.0.1"
    gone = RULES["entry_older_than_rule"](made(old, ruleset(hook="postrouting")))
    assert "while new packets leave without NAT, as rules are now" in gone.sentence


def test_of_udp_answers_to_others_tell_that_it_misses_them():
    assert RULES["entry_older_than_rule"](made(sip())).severity is Severity.NOTICE
    others = sip(1, ct=[9000], sport=9, nat=("10.1.0.1", 9), status=REPLIED | IPS_SRC_NAT)
    assert RULES["entry_older_than_rule"](made(sip(), MASQUERADE, others)).severity is Severity.WARNING


@pytest.mark.parametrize(
    ("rows", "rules_"),
    [
        (syn(nat=("10.1.0.1", 1024), status=UNREPLIED | IPS_SRC_NAT), MASQUERADE),
        (syn(nat=("10.1.0.1", 33), status=UNREPLIED | IPS_SRC_NAT), SNAT),
        (syn(dst="192.0.2.5"), MASQUERADE),
        (syn(dst="10.1.0.1"), MASQUERADE),
        (syn(dst="172.17.0.20"), MASQUERADE),
        (syn(src="10.1.0.9"), MASQUERADE),
        (syn(src="172.17.0.1", nat=("172.17.0.1", 1024)), MASQUERADE),
        (syn(), ruleset([meta("mark", 5), {"masquerade": None}], hook="postrouting")),
        (syn(), Ruleset(unread="there is no nft to list the rules")),
    ],
    ids=[
        "masqueraded", "another port", "device not known", "to the host itself", "within the network", "of another network",
        "from the host itself", "condition not known", "rules not read",
    ],
)  # fmt: skip
def test_healthy_twins(rows, rules_):
    assert RULES["entry_older_than_rule"](made(rows, rules_)) is None


def test_new_ones_that_leave_so_too_prove_that_the_rules_were_misread():
    new = syn(ct=[9000], sport=9)
    assert RULES["entry_older_than_rule"](made(syn(), MASQUERADE, new)) is None


def test_a_hairpin_that_is_mended_for_new_connections_is_older_than_its_rule():
    mended = hairpinned()
    (namespace,) = mended.namespaces.values()
    chains = ruleset([{"masquerade": None}], hook="postrouting").nat
    both = namespace.ruleset._replace(nat=(*namespace.ruleset.nat, *chains))
    mended = replace(mended, before=was(mended.entries), namespaces={namespace.inum: replace(namespace, ruleset=both)})
    assert set(rules.judge(mended).verdicts) == {"entry_older_than_rule"}
    assert rules.judge(mended).verdicts["entry_older_than_rule"].evidence["entries"] == 6
