"""What helpers expect, and who has one, beside what conntrack says of the same kernel."""

from __future__ import annotations

import re

import numpy as np

from ctobserve.capture.live import LiveView
from ctobserve.capture.read_via import ReadVia
from ctobserve.host import netlink
from ctobserve.render.expectation_fields import EXPECTATION_FIELDS, ExpectationView
from ctobserve.render.fields import rows
from ctobserve_lab.ftp import log_in
from ctobserve_lab.scenarios.expect_full import HELPER

COUNT = 5
TOLD = re.compile(
    r"\d+ proto=6 src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+) mask-src=(\S+) mask-dst=(\S+) sport=(\d+) dport=(\d+) "
    r"master-src=(\S+) master-dst=(\S+) sport=(\d+) dport=(\d+) class=(\d+) helper=(\w+)"
)


def world(net):
    """A server that expects so many connections, and its client, which expects none."""
    server, client = net.space("server"), net.space("client")
    target, _ = net.link(server, client)
    server.nft(HELPER)
    for at, session in enumerate(log_in(server, client, target, COUNT)):
        session.announce(7001 + at)
        session.hear()
    return server, client


def flat(row: dict) -> tuple[str, ...]:
    ends = [str(row[of][name]) for of in ("tuple", "mask", "master") for name in ("src", "dst", "sport", "dport")]
    return (*ends, str(row["class"]), row["helper"])


def test_they_are_those_that_conntrack_lists_and_others_have_none(net):
    server, client = world(net)
    found = LiveView().expectations(server.inum)
    shown = rows(EXPECTATION_FIELDS, ExpectationView(found.rows))
    assert {flat(row) for row in shown} == set(TOLD.findall(server.run("conntrack", "-L", "expect"))) and len(shown) == COUNT
    assert {row["netns"] for row in shown} == {server.inum} and {row["tuple"]["dport"] for row in shown} == set(range(7001, 7006))
    assert all(0 < row["timeout_s"] <= 300 and row["proto"] == "tcp" for row in shown)
    assert not len(LiveView().expectations(client.inum).rows) and "ftp" in found.helpers
    assert len(LiveView().expectations().rows) >= COUNT


def test_proc_has_the_same_without_masters(net, monkeypatch):
    server, _ = world(net)
    told = LiveView().expectations(server.inum).rows
    monkeypatch.setattr(netlink, "available", lambda: False)
    found = LiveView().expectations()
    listed = found.rows[np.isin(found.rows["port"][:, 1], told["port"][:, 1])]
    assert found.via is ReadVia.PROC and not found.rows["has_master"].any() and not found.rows["netns"].any()
    told, listed = (some[np.argsort(some["port"][:, 1])] for some in (told, listed))
    assert (told["helper"] == listed["helper"]).all() and (told["protonum"] == listed["protonum"]).all()
    assert np.array_equal(told["addr"][:, :2], listed["addr"][:, :2]), "each once, whoever lists it"
    assert np.array_equal(told["port"][:, :2], listed["port"][:, :2])


def test_entries_that_have_a_helper_come_with_its_name(net):
    server, client = world(net)
    helped = LiveView().helped((server.inum, client.inum))
    assert helped is not None and helped[server.inum]["helper"].tolist() == [b"ftp"] * COUNT
    assert set(helped[server.inum]["port"][:, 1].tolist()) == {21} and not len(helped[client.inum])
