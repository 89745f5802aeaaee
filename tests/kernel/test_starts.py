"""A start in the middle of traffic: whatever the order of events, nothing is left that is not in the kernel's table."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ctobserve.capture.destroy_reasons import DestroyReasons
from ctobserve.capture.observer import Observer, Options
from ctobserve.capture.records import Kind
from ctobserve.diagnosis.proof import prove
from ctobserve.errors import CtobserveError
from ctobserve.host.executables import hooks, syscalls
from ctobserve.programs.hooks import Purpose
from ctobserve.programs.loader import Programs, possible_cpus
from ctobserve_lab.traffic import send_udp
from ctobserve_lab.world import Space, run
from tests.kernel.tool import bpf_program_ids

# As many as a start takes to go wrong now and then; more of them, and on every kernel, with the variable.
STARTS = int(os.environ.get("CTOBSERVE_STARTS", "5"))
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
    send_udp(space, 1009, first_port=1000)
    sysctl("nf_conntrack_max", 1009)
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


@pytest.mark.parametrize("form", ["fentry", "kprobe"])
def test_a_start_in_a_flood_with_evictions_leaves_no_ghost_and_no_depth(flooding, form):
    for start in range(STARTS):
        space, end = flooding()
        with Observer(Options(EVERYTHING, form)) as observer:
            observer.seed()
            end()
            # As `verify` does: whatever was lost is repaired, and nothing else.
            for _ in observer.watch(lambda: True):
                pass
            proof = prove(observer)
            assert proof.equal, (start, proof)
            assert proof.ours >= 1000
            # Whoever leaves now is flushed, not evicted: on every CPU.
            observer.poll()
            space.run("conntrack", "-F")
            flushed = observer.poll()
            flushed = flushed[flushed["kind"] == Kind.DESTROY]
            assert len(flushed) >= 1000
            iterators = {observer.symbols.containing(address) for address in np.unique(flushed["iterator"]).tolist()}
            assert iterators == {"ctnetlink_flush_iterate"}, (start, iterators)
            assert not flushed["eviction"].any(), start
            assert observer.unpaired == 0


@pytest.mark.parametrize("form", ["fentry", "kprobe"])
def test_what_comes_and_goes_between_one_hook_and_the_next_leaves_no_row(net, monkeypatch, form):
    """Fewer each time: an address that is given out again later would hide what was left in its place."""
    space = net.space("between")
    attach, counts = Programs._attach, iter(range(409, 0, -17))

    def attach_and_go_on(self: Programs, *arguments: Any) -> None:
        attach(self, *arguments)
        send_udp(space, next(counts))
        space.run("conntrack", "-F")

    monkeypatch.setattr(Programs, "_attach", attach_and_go_on)
    with Observer(Options(Purpose.TABLE, form)) as observer:
        observer.seed()
        assert (observer.lost(), observer.seen) == ({}, 0), "what came before everything was attached is no story of ours"
        proof = prove(observer)
        assert proof.equal, proof
        assert not (observer.table.entries()["netns"] == space.inum).any()


def test_a_depth_of_evictions_that_never_comes_back_is_forgotten_and_counted(net):
    space = net.space("stuck")
    send_udp(space, 307)
    with Observer(Options(EVERYTHING)) as observer:
        # As if on every CPU a call of early_drop had begun once and its return had been missed.
        eviction = 1 << 48 | 1
        stuck = struct.pack("<3Q4Q4Q4H", 1, 0, 1, *(eviction,) * 4, *(0,) * 4, *(0,) * 4)
        syscalls.map_update(observer._probes.map("evictions"), bytes(4), stuck * possible_cpus())
        run("ip", "netns", "del", space.name)
        gone = observer.poll()
        while np.count_nonzero(gone["kind"] == Kind.DESTROY) < 307:
            gone = np.concatenate([gone, observer.poll()])
        reasons = Counter(departure.reason for departure in DestroyReasons(observer.symbols).of(gone).values())
        assert reasons == {"netns_exit": 307}
        assert 0 < observer.unpaired <= possible_cpus()


def test_a_start_that_fails_leaves_nothing_open(monkeypatch):
    programs, open_before = bpf_program_ids(), os.listdir("/proc/self/fd")
    planned = hooks.plan

    def with_one_that_is_not_there(*arguments: Any) -> list[hooks.Planned]:
        found = planned(*arguments)
        destroy = next(item for item in found if item.hook.program == "destroy")
        return [*found, replace(destroy, function="no_such_function")]

    monkeypatch.setattr("ctobserve.capture.observer.plan", with_one_that_is_not_there)
    observer = Observer(Options(EVERYTHING | Purpose.UPDATES))
    with pytest.raises(CtobserveError, match="cannot attach to no_such_function"), observer:
        pass
    assert len(os.listdir("/proc/self/fd")) == len(open_before), "while the observer itself is still there"
    assert bpf_program_ids() <= programs
