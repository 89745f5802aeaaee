"""What NAT chains may do with a new packet, where all is known and where some of it is not."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from ctobserve.analysis.translation import NewPacket, Possible, Surroundings, gives, possible, target
from ctobserve.host.nat_rules import NatRule
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import TCP, UDP
from tests.unit.nat import OURS, addresses, dnat, meets, meta, payload, ruleset

HERE = Surroundings(addresses(*OURS))
TO = dnat("172.17.0.2", 80)
ACCEPT, RETURN = {"accept": None}, {"return": None}
MARKED = meta("mark", 5)
WEB = payload("tcp", "dport", 8080)


def number(address: str) -> int:
    return int(ip_address(address))


def packet(src: str = "10.1.0.9", dst: str = "10.1.0.1", dport: int = 8080, proto: int = TCP, iif: str = "eth0") -> NewPacket:
    family = ip_address(src).version
    names = frozenset(iif.split())
    return NewPacket(2 if family == 4 else 10, proto, number(src), number(dst), dport, names, HERE.is_local(2, number(dst)))


def outcome(rules: Ruleset, of: NewPacket, hook: str = "prerouting") -> tuple[list[int], bool, bool]:
    found = possible(rules.nat, hook, of)
    return [rule.handle for rule in found.rules], found.untouched, found.unread


SURE, NEVER = ([2], False, False), ([], True, False)


@pytest.mark.parametrize(
    ("rule", "of", "expected"),
    [
        ([TO], packet(), SURE),
        ([WEB, TO], packet(), SURE),
        ([WEB, TO], packet(dport=8081), NEVER),
        ([WEB, TO], packet(proto=UDP), NEVER),
        ([meta("iifname", "eth0"), TO], packet(), SURE),
        ([meta("iifname", "eth*"), TO], packet(), SURE),
        ([meta("iifname", "br0", "!="), TO], packet(), SURE),
        ([meta("iifname", "br0"), TO], packet(), NEVER),
        ([meta("iifname", "eth0"), TO], packet(iif=""), ([2], True, False)),
        ([meta("iifname", "eth0"), TO], packet(iif="eth0 br0"), ([2], True, False)),
        ([payload("ip", "saddr", {"prefix": {"addr": "10.1.0.0", "len": 24}}), TO], packet(), SURE),
        ([payload("ip", "saddr", "10.1.0.9", "!="), TO], packet(), NEVER),
        ([payload("ip6", "daddr", "fd00:1::1"), TO], packet(), NEVER),
        ([meets({"fib": {"result": "type", "flags": ["daddr"]}}, "local"), TO], packet(), SURE),
        ([meets({"fib": {"result": "type", "flags": ["daddr"]}}, "local"), TO], packet(dst="10.7.7.7"), NEVER),
        ([MARKED, TO], packet(), ([2], True, False)),
        ([MARKED, WEB, TO], packet(dport=8081), NEVER),
        ([{"vmap": {}}], packet(), ([], True, True)),
    ],
)  # fmt: skip
def test_one_rule(rule, of, expected):
    assert outcome(ruleset(rule), of) == expected


def test_another_hook_or_family_is_not_asked():
    assert outcome(ruleset([TO]), packet(), "output") == NEVER
    assert outcome(ruleset([TO], hook="output"), packet(), "output") == SURE
    six = packet("fd00:1::9", "fd00:1::1")
    assert outcome(ruleset([TO]), six) == NEVER
    for family in ("inet", "ip6"):
        assert outcome(ruleset([dnat("fd00::2")], family=family), six) == SURE


@pytest.mark.parametrize(
    ("rules", "chains", "expected"),
    [
        ([[ACCEPT], [TO]], {}, NEVER),
        ([[RETURN], [TO]], {}, NEVER),
        ([[MARKED, ACCEPT], [TO]], {}, ([3], True, False)),
        ([[MARKED, RETURN], [TO]], {}, ([3], True, False)),
        ([[{"drop": None}], [TO]], {}, ([], False, False)),
        ([[TO], [dnat("10.0.0.9")]], {}, SURE),
        ([[MARKED, TO], [dnat("10.0.0.9")]], {}, ([2, 3], False, False)),
        ([[{"jump": {"target": "x"}}]], {"x": [[WEB, TO]]}, ([3], False, False)),
        ([[{"jump": {"target": "x"}}], [TO]], {"x": [[WEB, RETURN], [dnat("10.0.0.9")]]}, ([3], False, False)),
        ([[{"goto": {"target": "x"}}], [TO]], {"x": [[RETURN]]}, NEVER),
        ([[{"jump": {"target": "x"}}], [TO]], {"x": [[ACCEPT]]}, NEVER),
        ([[MARKED, {"jump": {"target": "x"}}], [TO]], {"x": [[ACCEPT]]}, ([3], True, False)),
        ([[{"jump": {"target": "x"}}], [TO]], {"x": [[MARKED, RETURN], [dnat("10.0.0.9")]]}, ([5, 3], False, False)),
        ([[{"jump": {"target": "gone"}}]], {}, ([], True, True)),
        ([[{"jump": {"target": "x"}}]], {"x": [[{"jump": {"target": "x"}}]]}, ([], True, True)),
    ],
)  # fmt: skip
def test_chains(rules, chains, expected):
    assert outcome(ruleset(*rules, **chains), packet()) == expected


def test_accept_ends_one_base_chain_and_the_next_is_asked_by_priority():
    first, second = ruleset([ACCEPT]).nat[0], ruleset([TO]).nat[0]._replace(name="late", priority=50)
    assert possible((first, second), "prerouting", packet()).rules == second.rules
    assert possible((second, first), "prerouting", packet()) == Possible(second.rules, False, False)


def rule(statement: dict[str, Any]) -> NatRule:
    return ruleset([statement]).nat[0].rules[0]


@pytest.mark.parametrize(
    ("statement", "chosen", "expected", "shown"),
    [
        (TO, ("172.17.0.2", 80), True, ("172.17.0.2", 80)),
        (TO, ("172.17.0.2", 8080), False, ("172.17.0.2", 80)),
        (TO, ("172.17.0.3", 80), False, ("172.17.0.2", 80)),
        (dnat("172.17.0.2"), ("172.17.0.2", 8080), True, ("172.17.0.2", 8080)),
        (dnat("172.17.0.2"), ("172.17.0.2", 80), False, ("172.17.0.2", 8080)),
        (dnat({"range": ["172.17.0.2", "172.17.0.4"]}), ("172.17.0.3", 8080), True, (None, 8080)),
        ({"dnat": {"port": 80}}, ("10.1.0.1", 80), True, ("10.1.0.1", 80)),
        ({"dnat": {"port": {"range": [80, 90]}}}, ("10.1.0.1", 85), True, ("10.1.0.1", None)),
        ({"redirect": {"port": 3128}}, ("172.17.0.1", 3128), True, (None, 3128)),
        ({"redirect": {"port": 3128}}, ("172.17.0.2", 3128), False, (None, 3128)),
        ({"redirect": None}, ("127.0.0.1", 8080), True, (None, 8080)),
        ({"xt": {"type": "target", "name": "DNAT"}}, ("172.17.0.2", 80), None, (None, None)),
        ({"xt": {"type": "target", "name": "DNAT"}}, ("10.1.0.1", 8080), False, (None, None)),
        (dnat("@named"), ("10.1.0.1", 8080), False, (None, 8080)),
    ],
)  # fmt: skip
def test_what_a_rule_can_have_made(statement, chosen, expected, shown):
    kept = number("10.1.0.1"), 8080
    assert gives(rule(statement), 2, kept, (number(chosen[0]), chosen[1]), HERE) is expected
    assert target(rule(statement), 2, kept) == shown


def test_surroundings():
    inner = Surroundings(addresses("a 10.0.0.1/8", "b 10.1.0.1/24", "c 10.2.0.1/32", "a fe80::1/64", "b fe80::2/64"))
    assert inner.is_local(2, number("10.2.0.1")) and inner.is_local(2, number("127.9.9.9"))
    assert not inner.is_local(2, number("10.1.0.2")) and not inner.is_local(10, number("10.2.0.1"))
    assert inner.devices(2, number("10.1.0.9")) == {"b"}, "the smaller network"
    assert inner.devices(2, number("10.9.0.9")) == {"a"} and not inner.devices(2, number("192.0.2.1"))
    assert inner.devices(10, number("fe80::9")) == {"a", "b"}, "every device has such a network"
    assert str(inner.within(2, number("10.1.0.9"), number("10.1.0.10"))) == "10.1.0.1/24"
    assert str(inner.within(2, number("10.1.0.9"), number("10.3.0.10"))) == "10.0.0.1/8"
    assert inner.within(2, number("10.1.0.9"), number("192.0.2.1")) is None


@pytest.mark.parametrize(
    ("address", "ends"),
    [("10.1.0.1", True), ("127.9.9.9", True), ("224.0.0.1", True), ("10.1.0.255", True), ("255.255.255.255", True),
     ("ff02::fb", True), ("fd00:1::1", True), ("10.1.0.2", False), ("10.2.0.255", False), ("fd00:1::ffff", False),
     ("10.3.0.1", False)],
)  # fmt: skip
def test_what_goes_no_further_than_here(address, ends):
    own = Surroundings(addresses(*OURS, "ptp0 10.3.0.0/31"))
    assert own.ends_here(2 if "." in address else 10, number(address)) is ends
