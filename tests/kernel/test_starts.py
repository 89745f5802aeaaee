"""A start in the middle of traffic: whatever the order of events, nothing is left that is not in the kernel's table."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

from ctobserve.capture.decoder import Decoder
from ctobserve.capture.live import LiveCapture, Options
from ctobserve.capture.records import Records
from ctobserve.capture.watch import Stretch, watch
from ctobserve.diagnosis.proof import prove
from ctobserve.errors import CtobserveError
from ctobserve.event import DestroyReason, Kind
from ctobserve.host.symbols import Symbols
from ctobserve.programs import hooks, syscalls
from ctobserve.programs.hooks import Purpose
from ctobserve.programs.loader import Programs
from ctobserve_lab.traffic import send_udp
from ctobserve_lab.world import Space
from tests.kernel.tool import bpf_program_ids

# As many as a start takes to go wrong now and then; more of them, and on every kernel, with the variable.
STARTS = int(os.environ.get("CTOBSERVE_STARTS", "5"))
MOST = 1009
MOST_LEFT = 900  # the gc worker may evict, too, down to 95 % of what there may be
EVERYTHING = Purpose.TABLE | Purpose.REASONS | Purpose.DROPS
# New entries without end, and more than there is room for: every one of them evicts another. It ends by itself after a while.
FLOOD = """
import socket, time
end = time.monotonic() + 900
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while time.monotonic() < end:
    for port in range(10000, 60000):
        try:
            sender.sendto(b"x", ("127.0.0.1", port))
        except PermissionError:
            pass
"""


@pytest.fixture
def flooding(net, sysctl) -> Iterator[Callable[[], tuple[Space, Callable[[], None]]]]:
    """Begins a flood in which every new entry evicts another; returns its namespace, and what ends it."""
    space = net.space("flood")
    send_udp(space, MOST, first_port=1000)
    sysctl("nf_conntrack_max", MOST)
    started: list[subprocess.Popen[bytes]] = []

    def end() -> None:
        for process in started:
            process.kill()
            process.wait()
        started.clear()

    def begin() -> tuple[Space, Callable[[], None]]:
        before = space.counters()["early_drop"]
        started.append(subprocess.Popen(["ip", "netns", "exec", space.name, sys.executable, "-c", FLOOD]))
        while space.counters()["early_drop"] == before:
            assert started[0].poll() is None
        return space, end

    yield begin
    end()


@pytest.fixture
def removals(monkeypatch) -> list[Records]:
    """What the kernel side sends of entries that leave, as it comes to the decoder."""
    seen: list[Records] = []
    destroys = Decoder._destroys

    def also_seen(self: Decoder, events: Any, links: Any, at: Any, records: Records) -> None:
        seen.append(records)
        destroys(self, events, links, at, records)

    monkeypatch.setattr(Decoder, "_destroys", also_seen)
    return seen


def test_a_start_in_a_flood_with_evictions_leaves_no_ghost_and_no_depth(flooding, removals, form):
    symbols = Symbols.read()
    for start in range(STARTS):
        space, end = flooding()
        with LiveCapture(Options(EVERYTHING, form)) as capture:
            capture.follow()
            end()
            # As `verify` does: whatever was lost is repaired, and nothing else.
            for _ in watch(capture, Stretch(stopped=lambda: True)):
                pass
            proof = prove(capture)
            assert proof.equal, (start, proof)
            assert proof.ours >= MOST_LEFT
            # Whoever leaves now is flushed, not evicted: on every CPU.
            capture.drain()
            removals.clear()
            space.run("conntrack", "-F")
            flushed = capture.step()
            flushed = flushed[(flushed["kind"] == Kind.DESTROY) & (flushed["entry"]["netns"] == space.inum)]
            assert len(flushed) >= MOST_LEFT
            assert set(flushed["reason"].tolist()) == {DestroyReason.FLUSHED}
            records = np.concatenate([part[["netns", "iterator", "eviction"]] for part in removals])
            records = records[records["netns"] == space.inum]
            iterators = {symbols.containing(address) for address in np.unique(records["iterator"]).tolist()}
            # Linux 5.10 hands it on in what the iterator of a namespace is given (nf_ct_iterate_cleanup_net).
            assert iterators in ({"ctnetlink_flush_iterate"}, {"iter_net_only"}), (start, iterators)
            assert not records["eviction"].any(), start
            assert capture.fidelity().unpaired == 0


def test_what_comes_and_goes_between_one_hook_and_the_next_leaves_no_row(net, monkeypatch, form):
    """Fewer each time: an address that is given out again later would hide what was left in its place."""
    space = net.space("between")
    counts = iter(range(409, 0, -17))

    def and_go_on(attach: Callable[..., None]) -> Callable[..., None]:
        def attach_and_go_on(self: Programs, *arguments: Any) -> None:
            attach(self, *arguments)
            send_udp(space, next(counts))
            space.run("conntrack", "-F")

        return attach_and_go_on

    for name in ("_hang", "_probe"):
        monkeypatch.setattr(Programs, name, and_go_on(getattr(Programs, name)))
    with LiveCapture(Options(Purpose.TABLE, form)) as capture:
        capture.follow()
        assert (capture.fidelity().lost, capture.fidelity().seen) == ({}, 0), (
            "what came before everything was attached is no story of ours"
        )
        proof = prove(capture)
        assert proof.equal, proof
        assert not (capture.table.entries()["netns"] == space.inum).any()


def test_a_depth_of_evictions_that_never_comes_back_is_forgotten_and_counted(net):
    space = net.space("stuck")
    send_udp(space, 307)
    with LiveCapture(Options(EVERYTHING)) as capture:

        def flush() -> None:
            # As if in this thread a call of early_drop had begun once and its return had been missed.
            stuck = struct.pack("<2Q4Q4I4Q", 0, 1, *(1 << 48 | 1,) * 4, *(0,) * 4, *(0,) * 4)
            thread = struct.pack("<I", threading.get_native_id())
            syscalls.map_update(capture._attachment.programs.map("doings"), thread, stuck)
            with NFCTSocket() as opened:
                opened.flush()

        space.inside(flush)
        gone: list[int] = []
        while len(gone) < 307:
            events = capture.step()
            gone += events["reason"][events["kind"] == Kind.DESTROY].tolist()
        assert Counter(gone) == {DestroyReason.FLUSHED: 307}
        assert capture.fidelity().unpaired == 1


def test_programs_are_in_the_kernel_as_long_as_they_are_wanted():
    """Else what is left behind would be looked for in vain (conftest.py)."""
    before = bpf_program_ids()
    with LiveCapture(Options(EVERYTHING)):
        assert len(bpf_program_ids() - before) >= 10
    assert bpf_program_ids() <= before


def test_a_start_that_fails_leaves_nothing_open(monkeypatch):
    programs, open_before = bpf_program_ids(), os.listdir("/proc/self/fd")
    planned = hooks.plan

    def with_one_that_is_not_there(*arguments: Any) -> list[hooks.Planned]:
        found = planned(*arguments)
        destroy = next(item for item in found if item.hook.program == "destroy")
        return [*found, destroy._replace(function="no_such_function")]

    monkeypatch.setattr("ctobserve.programs.attachment.plan", with_one_that_is_not_there)
    capture = LiveCapture(Options(EVERYTHING | Purpose.UPDATES))
    with pytest.raises(CtobserveError, match="cannot attach to no_such_function"), capture:
        pass
    assert len(os.listdir("/proc/self/fd")) == len(open_before), "while the capture itself is still there"
    assert bpf_program_ids() <= programs
