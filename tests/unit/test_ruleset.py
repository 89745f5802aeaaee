"""What nft lists is of others' making: any byte in names and comments, and of another nft any shape."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from ctobserve.host import executables, ruleset
from ctobserve.host.ruleset import Notrack, Ruleset, listed, parse, read

RULE = {"rule": {"comment": "\udcff\x1b", "expr": [{"ct count": {"val": 3}}]}}


def nft(path: Path, *commands: str) -> Path:
    (path / "nft").write_text("\n".join(["#!/bin/sh", *commands]))
    (path / "nft").chmod(0o755)
    return path / "nft"


def says(path: Path, output: bytes) -> Path:
    (path / "says").write_bytes(output)
    return nft(path, f"[ \"$*\" = '-j -t list ruleset' ] && cat '{path}/says'")


def test_a_foreign_byte_in_a_comment_hides_no_rule(tmp_path):
    output = json.dumps({"nftables": [RULE]}, ensure_ascii=False).encode("utf-8", "surrogateescape")
    assert b"\xff" in output
    assert listed(says(tmp_path, output.replace(b"\x1b", b"\\u001b"))) == Ruleset(1, 0, 1)


@pytest.mark.parametrize("output", [b"", b"\xff\xfe", b"no rules", b"[" * 100_000, b"{"])
def test_what_is_no_json_is_unread(tmp_path, output):
    assert listed(says(tmp_path, output)).unread == "what nft listed is no JSON"


def nested(depth: int) -> list[object]:
    node: list[object] = []
    for _ in range(depth):
        node = [node]
    return node


@pytest.mark.parametrize(
    "document",
    [
        None, [], {}, 7, "nftables", {"nftables": None}, {"nftables": {}}, {"nftables": "rule"}, {"nftables": 7},
        *({"nftables": [item]} for item in (None, 7, "rule", ["rule"], [["rule", 1]])),
        *({"nftables": [{"rule": rule}]} for rule in (None, 7, "rule", [], {"expr": 7}, {"expr": None}, {"expr": {"ct": 1}})),
        *({"nftables": [{"chain": chain}]} for chain in (None, 7, "nat", ["type"])),
        {"nftables": [{"rule": {"expr": [{"xt": {"name": ["a", "list"]}}]}}]},
        {"nftables": [{"rule": {"expr": nested(100_000)}}]},
    ],
    ids=lambda document: repr(type(document)),
)  # fmt: skip
def test_another_shape_is_unread(document):
    assert parse(document).unread == "nft listed the rules in an unknown form"


def test_an_nft_that_fails_or_hangs_is_unread(tmp_path, monkeypatch):
    assert listed(nft(tmp_path, "exit 1")).unread == "nft could not list the rules"
    assert listed(tmp_path / "missing").unread == "nft could not be run"
    began = time.monotonic()
    assert listed(nft(tmp_path, "sleep 60"), 0.2).unread == "listing the rules took longer than 0.2 s"
    assert time.monotonic() - began < 30


def test_an_nft_that_lists_without_end_or_takes_too_much_memory_is_unread(tmp_path):
    began = time.monotonic()
    assert listed(nft(tmp_path, "exec yes")).unread == "its rules are more than 4 MiB as nft lists them"
    assert time.monotonic() - began < ruleset.TIMEOUT_S
    # The shell reads its stdin to the end first: the bound is set by then.
    wants_more = ("cat", "exec /usr/bin/python3 -c 'import sys; bytearray(1 << 29); sys.stdout.write(\"{}\")'")
    assert listed(nft(tmp_path, *wants_more)).unread == "nft could not list the rules"


def test_the_rules_of_a_namespace_are_read_also_where_nf_tables_is_built_in(own_rules):
    own_rules("add table inet t\nadd chain inet t c\nadd rule inet t c ct state new drop\nadd rule inet t c drop")
    assert read() == Ruleset(2, 0, 1, families=frozenset({"inet"}))


def test_what_switches_tracking_on_and_which_rules_avoid_it(own_rules):
    own_rules(
        "add table ip nat\nadd chain ip nat post { type nat hook postrouting priority 100; }\nadd table ip6 t\nadd chain ip6 t c"
    )
    own_rules("add rule ip6 t c counter notrack\nadd rule ip6 t c udp dport 53 notrack\nadd rule ip6 t c accept")
    found = read()
    assert found[:3] == (3, 1, 0) and found.families == {"ip"}
    assert [(*one[:3], one.every_packet) for one in found.notracks] == [("ip6", "t", "c", True), ("ip6", "t", "c", False)]
    assert 0 < found.notracks[0].handle < found.notracks[1].handle


def test_a_set_of_many_elements_costs_no_more_than_its_rules(own_rules, monkeypatch):
    many = ",".join(f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}" for at in range(100_000))
    own_rules(f"add table inet t\nadd set inet t s {{ type ipv4_addr; elements = {{ {many} }} }}\nadd chain inet t c")
    own_rules("add rule inet t c ip saddr @s drop")
    whole = executables.run(executables.trusted("nft"), "-j", "list", "ruleset").stdout
    assert len(whole) > 1_000_000
    monkeypatch.setattr(ruleset, "OUTPUT_BYTES", 10_000)
    assert read() == Ruleset(1, 0, 0)


def test_no_later_than_it_was_told(own_rules, tmp_path, monkeypatch):
    own_rules("add table inet t")
    assert read(until=time.monotonic() + 60) == Ruleset()
    assert read(until=time.monotonic()).unread == "no time was left to list its rules"
    slow = nft(tmp_path, "exec sleep 60")
    monkeypatch.setattr(executables, "trusted", lambda name: slow)
    began = time.monotonic()
    assert re.fullmatch(r"listing the rules took longer than 0\.[34] s", read(until=began + 0.4).unread)
    assert time.monotonic() - began < ruleset.TIMEOUT_S


def test_what_is_built_in_is_said_and_hides_no_rule(own_rules, monkeypatch):
    """No kernel here has it built in; a loaded module leaves initstate in /sys/module, this one nothing."""
    own_rules("add table inet t\nadd chain inet t c\nadd rule inet t c drop")
    monkeypatch.setattr(ruleset, "has_module", lambda name: name in ("openvswitch", "nf_tables"))
    assert read() == Ruleset(1, 0, 0, built_in=("openvswitch",))
    monkeypatch.setattr(ruleset, "has_module", lambda name: name == "openvswitch")
    assert read() == Ruleset(built_in=("openvswitch",))


def test_it_is_asked_in_the_root_directory_with_nothing_of_our_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XTABLES_LIBDIR", str(tmp_path))
    told = [f"{command} > '{tmp_path}/{command}'" for command in ("pwd", "env", "cat")]
    asked = nft(tmp_path, *told, "echo '{\"nftables\": []}'")
    assert listed(asked) == Ruleset()
    assert (tmp_path / "pwd").read_text() == "/\n" and (tmp_path / "cat").read_text() == ""
    # PWD and _ are the shell's own.
    names = {line.split("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "_", "OLDPWD", "SHLVL"} == {"PATH"}


def test_which_rules_need_conntrack():
    def listed(*expr, **chain):
        return parse({"nftables": [{"chain": chain}, {"rule": {"expr": list(expr)}}]})

    match = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}}
    assert listed({"accept": None}, type="nat") == Ruleset(1, 1, 0)
    assert listed({"notrack": None}) == Ruleset(1, 0, 0, notracks=(Notrack("", "", "", 0, True),))
    assert listed({"match": {}}, {"notrack": None}).notracks == (Notrack("", "", "", 0, False),)
    assert listed(match).needing == listed({"masquerade": None}).needing == 1
    assert listed({"xt": {"type": "match", "name": "conntrack"}}).needing == listed({"xt": None}).needing == 1
    assert listed({"xt": {"type": "match", "name": "comment"}}).needing == 0
    assert parse({"nftables": [{"ct helper": {"name": "ftp"}}]}).needing == 1
    assert parse({"nftables": [{"set": {"stmt": [{"ct count": {"val": 5}}]}}, {"set": {}}]}) == Ruleset(0, 0, 1)
