"""What nft lists is of others' making: any byte in names and comments, and of another nft any shape."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ctobserve import ruleset
from ctobserve.ruleset import Ruleset, listed, parse

RULE = {"rule": {"comment": "\udcff\x1b", "expr": [{"ct count": {"val": 3}}]}}


def nft(path: Path, *commands: str) -> Path:
    (path / "nft").write_text("\n".join(["#!/bin/sh", *commands]))
    (path / "nft").chmod(0o755)
    return path / "nft"


def says(path: Path, output: bytes) -> Path:
    (path / "says").write_bytes(output)
    return nft(path, f"[ $# = 3 ] && cat '{path}/says'")


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
    monkeypatch.setattr(ruleset, "TIMEOUT_S", 0.2)
    began = time.monotonic()
    assert listed(nft(tmp_path, "exec sleep 60")).unread == "listing the rules took longer than 0.2 s"
    assert time.monotonic() - began < 30


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
