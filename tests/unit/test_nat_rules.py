"""NAT rules as nft itself lists them: what is read of them, and what is said to be unknown."""

from __future__ import annotations

import pytest

from ctobserve.host.nat_rules import ANY_PORT, Does, Field, Match
from ctobserve.host.ruleset import parse, read
from tests.unit.nat import dnat, meets, payload, ruleset

IPV4, IPV6, OF_TCP, OF_UDP = (
    Match(field, ((number, number),))
    for field, number in ((Field.FAMILY, 2), (Field.FAMILY, 10), (Field.PROTO, 6), (Field.PROTO, 17))
)
UNKNOWN = Match(Field.UNKNOWN)


def ip(*parts: int) -> int:
    return int.from_bytes(bytes(parts), "big")


def one(address: int) -> tuple[tuple[int, int], ...]:
    return ((address, address),)


def ports(first: int, last: int | None = None) -> Match:
    return Match(Field.DPORT, ((first, first if last is None else last),))


@pytest.mark.parametrize(
    ("family", "rule", "does", "addresses", "to_ports", "matches"),
    [
        ("ip", "udp dport 514 dnat to 10.0.0.1:5140", "dnat", one(ip(10, 0, 0, 1)), (5140, 5140), [OF_UDP, ports(514)]),
        ("ip", "iifname e0 tcp dport 80-89 counter dnat to 10.0.0.1", "dnat", one(ip(10, 0, 0, 1)), None,
         [Match(Field.IIF, names=("e0",)), OF_TCP, ports(80, 89)]),
        ("ip", "ip daddr 10.0.0.0/8 tcp dport { 80, 443 } redirect to :8080", "redirect", (), (8080, 8080),
         [IPV4, Match(Field.DST, ((ip(10, 0, 0, 0), ip(10, 255, 255, 255)),)), OF_TCP,
          Match(Field.DPORT, ((80, 80), (443, 443)))]),
        ("ip", "iifname != { a, \"b*\" } dnat to 10.0.0.1-10.0.0.9", "dnat", ((ip(10, 0, 0, 1), ip(10, 0, 0, 9)),), None,
         [Match(Field.IIF, names=("a", "b*"), negated=True)]),
        ("ip", "dnat to numgen inc mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }", "dnat",
         (*one(ip(10, 0, 0, 1)), *one(ip(10, 0, 0, 2))), None, []),
        ("ip", "dnat to tcp dport map { 80 : 10.0.0.1, 81 : 10.0.0.2 }", "dnat",
         (*one(ip(10, 0, 0, 1)), *one(ip(10, 0, 0, 2))), None, [OF_TCP, Match(Field.DPORT, ((80, 80), (81, 81)))]),
        ("ip", "dnat to ip saddr map { 10.0.0.0/8 : 10.0.0.1 }", "dnat", one(ip(10, 0, 0, 1)), None,
         [IPV4, Match(Field.SRC, ((ip(10, 0, 0, 0), ip(10, 255, 255, 255)),))]),
        ("ip", "dnat to ip saddr . udp dport map { 10.0.0.9 . 53 : 10.0.0.1 }", "dnat", one(ip(10, 0, 0, 1)), None, [UNKNOWN]),
        ("ip", "iifname @names dnat to 10.0.0.1", "dnat", one(ip(10, 0, 0, 1)), None, [UNKNOWN]),
        ("ip", "udp dport 9 dnat to :10", "dnat", (), (10, 10), [OF_UDP, ports(9)]),
        ("ip", "ip saddr @s dnat to 10.0.0.1", "dnat", one(ip(10, 0, 0, 1)), None, [IPV4, UNKNOWN]),
        ("ip", "meta mark 5 dnat to 10.0.0.1", "dnat", one(ip(10, 0, 0, 1)), None, [UNKNOWN]),
        ("ip", "ct state new udp dport != 9 accept", "accept", (), None, [OF_UDP, ports(9)._replace(negated=True)]),
        ("ip", "ct state established accept", "accept", (), None, [UNKNOWN]),
        ("ip", "udp dport > 9 return", "return", (), None, [OF_UDP, UNKNOWN]),
        ("ip", "limit rate 1/second log counter drop", "drop", (), None, [UNKNOWN]),
        ("ip", "fib daddr type local jump x", "jump", (), None, [Match(Field.DST_LOCAL, ((1, 1),))]),
        ("ip", "fib daddr type != local goto x", "goto", (), None, [Match(Field.DST_LOCAL, ((1, 1),), negated=True)]),
        ("ip", "udp dport vmap { 53 : accept, 54 : drop }", "unknown", (), None, []),
        ("ip", "counter", "continue", (), None, []),
        ("ip6", "ip6 daddr fd00::1 udp dport 514 dnat to [fd00::2]:514", "dnat", one((0xFD << 120) + 2), (514, 514),
         [IPV6, Match(Field.DST, one((0xFD << 120) + 1)), OF_UDP, ports(514)]),
        ("inet", "meta nfproto ipv4 meta l4proto { tcp, udp } th dport 53 dnat ip to 10.0.0.1", "dnat", one(ip(10, 0, 0, 1)),
         None, [IPV4, Match(Field.PROTO, ((6, 6), (17, 17))), ports(53), IPV4]),
        ("inet", "iif lo tcp dport 81 dnat ip to 10.0.0.1:5", "dnat", one(ip(10, 0, 0, 1)), (5, 5),
         [Match(Field.IIF, names=("lo",)), OF_TCP, ports(81), IPV4]),
    ],
)  # fmt: skip
def test_a_rule_is_read_as_nft_means_it(own_rules, family, rule, does, addresses, to_ports, matches):
    sets = "add set ip t s { type ipv4_addr; elements = { 10.0.0.7 }; }\nadd set ip t names { type ifname; elements = { e0 }; }"
    sets = sets if family == "ip" else ""
    own_rules(
        f"add table {family} t\nadd chain {family} t x\n{sets}\n"
        f"add chain {family} t pre {{ type nat hook prerouting priority -100; }}\nadd rule {family} t pre {rule}"
    )
    made = read()
    assert made.unread is None
    chains = {chain.name: chain for chain in made.nat}
    assert (chains["pre"].family, chains["pre"].hook, chains["pre"].priority) == (family, "prerouting", -100)
    (found,) = chains["pre"].rules
    assert (found.table, found.chain, found.does) == ("t", "pre", Does(does)) and found.handle > 0
    assert (found.addresses, found.ports, list(found.matches)) == (addresses, to_ports, matches)
    assert found.to == ("x" if does in ("jump", "goto") else "")


def test_source_rules_are_read_too(own_rules):
    own_rules("add table ip t\nadd chain ip t post { type nat hook postrouting priority srcnat; }")
    own_rules("add rule ip t post oifname e0 masquerade\nadd rule ip t post tcp dport 80 snat to 10.0.0.1:1000-2000 random")
    (chain,) = read().nat
    masquerade, snat = chain.rules
    assert (masquerade.does, masquerade.matches) == (Does.MASQUERADE, (Match(Field.OIF, names=("e0",)),))
    assert (snat.does, snat.addresses, snat.ports) == (Does.SNAT, one(ip(10, 0, 0, 1)), (1000, 2000))


def test_only_tables_with_nat_are_kept_and_their_base_chains_come_by_priority(own_rules):
    own_rules("add table ip f\nadd chain ip f in { type filter hook input priority 0; }\nadd rule ip f in accept")
    own_rules("add table ip t\nadd chain ip t late { type nat hook prerouting priority 50; }")
    own_rules("add chain ip t early { type nat hook prerouting priority -150; }")
    own_rules("add chain ip t f { type filter hook input priority 0; }")
    assert [(chain.table, chain.name) for chain in read().nat] == [("t", "early"), ("t", "late")]


def test_of_an_extension_it_is_known_that_it_translates_and_not_where_to():
    """As nft lists what iptables-nft 1.8.9 made of `-d 10.0.0.1 -p udp --dport 514 -j DNAT --to 172.17.0.2:514`."""
    target = {"xt": {"type": "target", "name": "DNAT"}}
    made = ruleset([payload("ip", "daddr", "10.0.0.1"), payload("udp", "dport", 514), {"counter": {"packets": 0}}, target])
    (rule,) = made.nat[0].rules
    assert (rule.does, rule.addresses, rule.ports) == (Does.DNAT, None, ANY_PORT)
    assert rule.matches == (IPV4, Match(Field.DST, one(ip(10, 0, 0, 1))), OF_UDP, ports(514))


@pytest.mark.parametrize("extension", [None, {"type": "target", "name": "MARK"}, {"type": "watcher"}])
def test_another_extension_may_do_anything(extension):
    (rule,) = ruleset([{"xt": extension}]).nat[0].rules
    assert rule.does is Does.UNKNOWN


def test_an_extension_without_a_name_may_be_a_condition_of_what_follows():
    (rule,) = ruleset([{"xt": None}, {"accept": None}]).nat[0].rules
    assert (rule.does, rule.matches) == (Does.ACCEPT, (UNKNOWN,))


def test_a_match_of_an_extension_is_a_condition_that_is_not_known():
    (rule,) = ruleset([{"xt": {"type": "match", "name": "addrtype"}}, {"jump": {"target": "DOCKER"}}], DOCKER=[]).nat[0].rules
    assert (rule.does, rule.to, rule.matches) == (Does.JUMP, "DOCKER", (UNKNOWN,))


@pytest.mark.parametrize("flags", ["daddr", ["daddr"]])
def test_one_flag_of_a_route_lookup_may_be_a_list_or_not(flags):
    (rule,) = ruleset([meets({"fib": {"result": "type", "flags": flags}}, "local"), dnat("10.0.0.1")]).nat[0].rules
    assert rule.matches == (Match(Field.DST_LOCAL, ((1, 1),)),)


@pytest.mark.parametrize(
    "right",
    [
        "@named",
        {"set": ["10.0.0.1", "@named"]},
        {"range": ["10.0.0.1"]},
        {"prefix": {"addr": "x", "len": 8}},
        "host.example",
        7,
        None,
    ],
)
def test_a_right_side_that_is_no_address_is_unknown(right):
    (rule,) = ruleset([payload("ip", "daddr", right), dnat("10.0.0.1")]).nat[0].rules
    assert rule.matches == (IPV4, UNKNOWN)


@pytest.mark.parametrize(
    "target", ["@named", {"map": {"key": {}, "data": "@named"}}, {"map": {"key": {}, "data": {"set": [[1, "@x"]]}}}, {"new": 1}]
)
def test_a_target_that_is_not_written_out_is_unknown_with_its_port(target):
    (rule,) = ruleset([dnat(target)]).nat[0].rules
    assert rule.addresses is None and rule.does is Does.DNAT


@pytest.mark.parametrize("expr", [[{"jump": None}], [{"match": {}}], [7], [{"match": None}], [{}]])
def test_rules_of_another_shape_make_the_whole_unread(expr):
    chain = {"family": "ip", "table": "t", "name": "pre", "type": "nat", "hook": "prerouting", "prio": 0}
    rule = {"family": "ip", "table": "t", "chain": "pre", "handle": 2, "expr": expr}
    assert parse({"nftables": [{"chain": chain}, {"rule": rule}]}).unread == "nft listed the rules in an unknown form"
