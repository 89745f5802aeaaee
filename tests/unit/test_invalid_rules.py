"""Which rules drop INVALID packets: those that nft lists for real, and forms that cannot be read."""

from __future__ import annotations

import json
import subprocess

import pytest

from ctobserve.host.invalid_rules import refusing
from ctobserve.host.ruleset import Ruleset, parse

CHAIN = "chain input {{ type filter hook input priority 0; policy {policy}; {rule}; }};"


def listed(rules: str) -> Ruleset:
    """As nft lists these in a network namespace of their own."""
    asked = ["unshare", "--net", "sh", "-ec", "nft -f - && nft -j -t list ruleset"]
    return parse(json.loads(subprocess.run(asked, input=rules, text=True, capture_output=True, check=True).stdout))


@pytest.mark.parametrize(
    ("rule", "every"),
    [
        ("ct state invalid drop", True),
        ("ct state invalid counter log drop", True),
        ("ct state invalid reject", True),
        ("ct state { invalid, untracked } drop", True),
        ("ct state invalid,untracked drop", True),
        ("ct state vmap { established : accept, related : accept, invalid : drop }", True),
        ('iifname "eth0" ct state invalid drop', False),
        ("ct state invalid limit rate 5/second drop", False),
        ("ct state != established,related drop", True),
        ("ct state != { established, related } drop", True),
        ("ct state & (established | related) == 0 drop", True),
        ("ct state invalid jump other", False),
        ("ct state invalid goto other", False),
        ("ct state vmap { invalid : jump other }", False),
        ("ct state vmap { new : drop, invalid : goto other }", False),
        ("ct state vmap { new : drop, established : jump other }", None),
        ("ct state new jump other", None),
        ("ct state & (established | invalid) == 0 drop", None),
        ("ct state != established accept", None),
        ("ct state invalid accept", None),
        ("ct state invalid log", None),
        ("ct state != invalid drop", None),
        ("ct state new drop", None),
        ("ct state vmap { established : accept, invalid : accept }", None),
        ("ct mark 5 drop", None),
        ("drop", None),
    ],
)
def test_a_rule_drops_every_invalid_packet_or_some_or_none_for_being_so(rule, every):
    found = listed(f"table inet filter {{ chain other {{ }}; {CHAIN.format(policy='accept', rule=rule)} }}").refusing
    assert [(*one[:3], one.hook, one.every_invalid) for one in found] == (
        [] if every is None else [("inet", "filter", "input", "input", every)]
    )
    assert all(one.handle for one in found)


def test_a_policy_may_drop_them_and_a_chain_that_others_lead_to_has_no_hook():
    rules = f"{CHAIN.format(policy='drop', rule='jump common')} chain common {{ ct state invalid drop; }};"
    found = listed(f"table ip f {{ chain common {{ }}; {rules} }}").refusing
    assert [(one.chain, one.handle > 0, one.hook, one.every_invalid) for one in found] == [
        ("common", True, None, True),
        ("input", False, "input", False),
    ]


def test_an_extension_of_iptables_may_drop_some():
    rule = {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": 7}
    for name in ("conntrack", "state"):
        expr = [{"xt": {"type": "match", "name": name}}, {"drop": None}]
        (found,) = refusing([{"rule": rule | {"expr": expr}}])
        assert (found.chain, found.handle, found.every_invalid) == ("FORWARD", 7, False)
    assert not list(refusing([{"rule": rule | {"expr": [{"xt": {"type": "match", "name": "comment"}}, {"drop": None}]}}]))
    match = {"xt": {"type": "match", "name": "conntrack"}}
    (rejects,) = refusing([{"rule": rule | {"expr": [match, {"xt": {"type": "target", "name": "REJECT"}}]}}])
    assert not rejects.every_invalid
    jumps = [match, {"jump": {"target": "KUBE-SERVICES"}}]
    assert not list(refusing([{"rule": rule | {"expr": jumps}}])), "most of those are for what is new"


@pytest.mark.parametrize(
    "expr", [[{"match": {}}, {"drop": None}], [{"vmap": {}}], [{"xt": None}, {"drop": None}], [{"vmap": {"data": "@states"}}]]
)
def test_what_cannot_be_read_drops_none(expr):
    assert not list(refusing([{"rule": {"expr": expr}}]))


def test_only_the_first_rules_are_remembered_with_names_that_can_be_shown():
    rule = {"family": "ip", "table": "\x1b[2J", "chain": "c", "handle": 7, "expr": [*_state("invalid"), {"drop": None}]}
    found = parse({"nftables": [{"rule": rule}] * 1000}).refusing
    assert len(found) == 20 and found[0].table == "\\x1b[2J"


def _state(right: str) -> list[dict[str, object]]:
    return [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": right}}]
