"""The table read in every way that there is, and while the kernel changes under us."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ctobserve.capture import table_reader
from ctobserve.capture.live import LiveCapture, Options
from ctobserve.diagnosis.proof import prove
from ctobserve.event import Kind
from ctobserve.host import dump
from ctobserve.model import UNKNOWN_BUCKET
from ctobserve.programs.hooks import Purpose
from ctobserve_lab.errors import LabError
from ctobserve_lab.traffic import open_tcp, race, send_udp
from ctobserve_lab.world import run
from tests.kernel.tool import CTOBSERVE, LACKING, PATIENCE_S

NAT = """table ip nat {
 chain out { type nat hook output priority -100;
  ip daddr 10.99.0.1 udp dport 20000-21000 dnat to numgen inc mod 2 map { 0 : 127.0.0.1, 1 : 127.0.0.2 }; }; }"""


def mixed(net):
    """Two namespaces with TCP, UDP, ICMP, IPv6 and an entry made by netlink."""
    one, two = net.space("one"), net.space("two")
    _, far = net.link(one, two)
    open_tcp(two, one, far, 4040, 13)
    open_tcp(two, one, "fd00:1::2", 4141, 7)
    one.run("ping", "-c1", far)
    one.run("ping", "-6", "-c1", "fd00:1::2")
    send_udp(one, 1009, target=far)
    one.run("conntrack", "-I", "-p", "udp", "-s", "10.9.9.9", "-d", "10.9.9.8", "--sport", "1", "--dport", "2", "-t", "600")
    return one, two


def by_address(entries):
    return entries[np.argsort(entries["ct"], kind="stable")]


@pytest.mark.parametrize(("source", "form"), [("proc", "auto"), ("proc", "kprobe"), ("netlink", "auto")])
def test_every_source_reads_the_same_entries(net, source, form):
    mixed(net)
    with LiveCapture(Options(Purpose(0))) as capture:
        walked = by_address(capture.snapshot().entries)
        lengths = capture.lengths()
        longest = int(lengths.of_bucket.argmax())
        chain = by_address(capture.chain(longest))
    assert (lengths.of_bucket == np.bincount(walked["bucket"].ravel(), minlength=len(lengths.of_bucket))).all()
    assert (lengths.entries, lengths.unread) == (len(walked), 0)
    with LiveCapture(Options(Purpose(0), form, read_via=source)) as capture:
        walk = capture.snapshot()
        theirs = by_address(walk.entries)
        assert walk.unread == 0
        assert theirs["ct"].tolist() == walked["ct"].tolist()
        for name in ("bucket", "addr", "port", "netns", "status", "mark", "protonum", "tcp_state"):
            assert (theirs[name] == walked[name]).all(), name
        assert (capture.lengths().of_bucket == lengths.of_bucket).all()
        assert by_address(capture.chain(longest))["ct"].tolist() == chain["ct"].tolist()


def test_verify_is_equal_by_a_listing_too(net, start):
    one, two = mixed(net)
    running = start("verify", "--json", "--duration", "600", "--source", "proc")
    send_udp(two, 307, first_port=30000)
    one.run("conntrack", "-F")
    found = json.loads(running.end())
    assert found["equal"], found
    assert found["meta"]["table_source"] == "proc"


def test_what_others_read_is_not_ours_and_what_fails_is_no_table(net, monkeypatch):
    space = net.space("listed")
    send_udp(space, 307)
    with LiveCapture(Options(Purpose.TABLE, read_via="proc")) as capture:
        capture.follow()
        before, seen = len(capture.table), capture.fidelity().seen
        assert before >= 307
        assert len(space.run("cat", "/proc/net/nf_conntrack").splitlines()) == 307
        assert len(capture.step()) == 0 and capture.fidelity().seen == seen and capture.fidelity().lost == {}
        monkeypatch.setattr(table_reader, "PROC", Path("/proc/self"))
        with pytest.raises(IsADirectoryError):
            capture.follow()
        monkeypatch.undo()
        assert len(capture.table) == before
        capture.follow()
        assert len(capture.table) == before
    with LiveCapture(Options(Purpose.TABLE, read_via="netlink")) as capture:
        capture.follow()
        assert len(capture.table) == before

        def broken() -> None:
            raise OSError(12, "Cannot allocate memory")

        monkeypatch.setattr(dump, "dump", broken)
        with pytest.raises(OSError, match="Cannot allocate memory"):
            capture.follow()
        assert len(capture.table) == before


def test_reply_only_entries_are_in_every_reading(net):
    """Retried until a clash was resolved by an entry in reply direction alone, which lives for a second; none fails."""
    space = net.space("clash")
    space.nft(NAT)
    space.run("ip", "route", "add", "10.99.0.0/24", "dev", "lo")
    before = space.counters()["clash_resolve"]
    with LiveCapture(Options(Purpose.TABLE)) as capture, LiveCapture(Options(Purpose(0), read_via="proc")) as listing:
        capture.follow()
        listing.follow()
        for _ in range(10):
            race(space, "10.99.0.1", 199)
            walked = capture.snapshot().entries
            listed = listing.snapshot().entries
            followed = capture.step()
            if (walked["reply_only"] & np.isin(walked["ct"], listed["ct"])).any():
                break
            space.run("conntrack", "-F")
        inserted = followed["entry"][followed["kind"] == Kind.INSERT]
        inserted = inserted[inserted["reply_only"] == 1]
        assert 0 < len(inserted) <= space.counters()["clash_resolve"] - before, "the others merged with the winner"
        bucket_of = dict(zip(inserted["ct"].tolist(), inserted["bucket"].tolist(), strict=True))
        for entries in (walked, listed):
            only = entries[entries["reply_only"] == 1]
            assert len(only) > 0, "no clash made a reply-only entry that was still there"
            assert {ct: pair for ct, pair in bucket_of.items() if ct in only["ct"]} == dict(
                zip(only["ct"].tolist(), only["bucket"].tolist(), strict=True)
            )
            assert (only["bucket"][:, 0] == UNKNOWN_BUCKET).all()
        proof = prove(capture)
        assert proof.equal, proof


def loaded(module: str) -> bool:
    return Path("/sys/module", module).exists()


def unload() -> None:
    """Conntrack and what stands on it; nothing must use it now."""
    names = run("sh", "-c", "lsmod | awk '/^nf_|^nft_|^xt_|^nf/ {print $1}'").split()
    for _ in names:
        run("modprobe", "-ra", *names, check=False)
    assert not loaded("nf_conntrack"), run("lsmod")


@pytest.fixture
def reload():
    yield
    run("modprobe", "-a", "nf_conntrack", "nf_conntrack_netlink")


def test_conntrack_unloaded_and_loaded_again(reload, start):
    running = start("drops", "--json", "--attach", "kprobe")
    unload()
    assert running.process.wait(PATIENCE_S) == 3
    assert json.loads("\n".join(running.lines()))["by_reason"] == {}
    assert "nf_conntrack was unloaded" in running.errors
    waiting = subprocess.Popen([*CTOBSERVE, "list", "--json", "--wait"], stdout=subprocess.PIPE)
    time.sleep(1)
    assert waiting.poll() is None
    run("modprobe", "nf_conntrack")
    listed = json.loads(waiting.communicate(timeout=PATIENCE_S)[0])
    assert listed["entries"] == []


@pytest.mark.parametrize("form", ["fentry"])
def test_a_trampoline_holds_the_module(reload, start, form):
    """The kernel refuses to unload it under us."""
    unload()
    run("modprobe", "nf_conntrack")
    running = start("events", "--json", "--events", "insert", "--attach", form)
    assert "in use" in subprocess.run(["modprobe", "-r", "nf_conntrack"], capture_output=True, text=True, check=False).stderr
    running.end()


def test_updates_begin_when_nf_conntrack_netlink_comes(reload, net, start):
    unload()
    run("modprobe", "nf_conntrack")
    space = net.space("late")
    running = start("events", "--json", "--events", "update", "--netns", space.name)
    open_tcp(space, space, "127.0.0.1", 4040, 3)
    run("modprobe", "nf_conntrack_netlink")
    # When it has seen the module is its own affair; from its first line on it must miss nothing.
    port = 5000
    while not running.lines() and port < 5100:
        open_tcp(space, space, "127.0.0.1", port := port + 1)
        time.sleep(0.2)
    open_tcp(space, space, "127.0.0.1", 4041, 5)
    running.wait_for(10, having='"dport":4041')
    seen = Counter(event["original"]["dport"] for event in running.events())
    assert seen[4041] == 10, "SYN_RECV and ESTABLISHED of each"
    assert seen[4040] == 0


@pytest.mark.parametrize("value", [0, 1, 2])
def test_inserts_and_destroys_do_not_depend_on_the_events_sysctl(request, net, start, value):
    """2 is to send events once somebody listens; Linux 5.10 does not know it, and refuses it."""
    space = net.space("events")
    try:
        space.sysctl("nf_conntrack_events", value)
    except LabError as error:
        assert value == 2 and "I/O error" in str(error), "EINVAL, as echo puts it"
        request.node.user_properties.append((LACKING, "nf_conntrack_events takes no 2"))
        return
    running = start("events", "--json", "--netns", space.name)
    open_tcp(space, space, "127.0.0.1", 4040, 3)
    space.run("conntrack", "-F")
    running.wait_for(6 if value == 0 else 12)
    kinds = [event["event"] for event in running.events()]
    assert (kinds.count("insert"), kinds.count("destroy")) == (3, 3)
    assert kinds.count("update") == (0 if value == 0 else 6)


def test_offloaded_entries_have_no_timeout(net, report):
    client, router, server = net.space("client"), net.space("router"), net.space("server")
    _, gate = net.link(client, router)
    _, target = net.link(router, server)
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    client.run("ip", "route", "add", "default", "via", gate)
    server.run("ip", "route", "add", "default", "via", "10.2.0.1")
    router.nft(
        "table inet fast { flowtable f { hook ingress priority 0; devices = { v1b, v2a }; };"
        " chain go { type filter hook forward priority 0; tcp dport 4040 flow add @f; }; }"
    )
    one, other, _ = open_tcp(server, client, target, 4040)
    for _ in range(3):
        one.sendall(b"question")
        assert other.recv(100)
        other.sendall(b"answer")
        assert one.recv(100)
    rows = report("list", "--netns", router.name, "--dport", "4040")["entries"]
    assert len(rows) == 1 and "offload" in rows[0]["status"]
    assert rows[0]["timeout_s"] is None
    assert "[OFFLOAD]" in "".join(router.listed("-p", "tcp"))
