"""Whatever happens to the table, at every quiet point ours is the kernel's.

CTOBSERVE_PROPERTY_S: how long (default short, for CI). CTOBSERVE_SEED: replay a run.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ctobserve.capture.capture import Snapshot
from ctobserve.capture.live import LiveCapture, Options
from ctobserve.capture.recorded import RecordedCapture
from ctobserve.capture.recorder import Recorder
from ctobserve.capture.store.reader import Reader
from ctobserve.capture.store.writer import Writer
from ctobserve.diagnosis.proof import prove
from ctobserve.event import Events
from ctobserve.model import TCP, Entries
from ctobserve.programs.hooks import Purpose
from ctobserve_lab.traffic import send_udp
from tests.kernel.churn import Churn
from tests.kernel.tool import bpf_program_ids

SECONDS = float(os.environ.get("CTOBSERVE_PROPERTY_S", "40"))
SOAK_S = float(os.environ.get("CTOBSERVE_SOAK_S", "20"))
STEPS = 11
KEYFRAME_S = 7.0
FLAT_KIB = 4096


def test_random_work_leaves_equal_tables_and_a_recording_that_has_each_of_them(net, sysctl, capsys, tmp_path):
    seed = int(os.environ.get("CTOBSERVE_SEED", random.randrange(1 << 32)))
    sysctl("nf_conntrack_buckets", 4096)
    sees = Purpose.TABLE | Purpose.UPDATES
    with LiveCapture(Options(sees)) as capture, closing(Writer(tmp_path / "one", 1, {"sees": "table,updates"})) as writer:
        churn = Churn(net, seed)
        capture.follow()
        recorder = Recorder(capture, writer, KEYFRAME_S)
        snapshots: list[Snapshot] = []
        quiet, most, end = 0, 0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            for _ in range(STEPS):
                churn.step()
                recorder.add(capture.step())
            capture.settle()
            recorder.add(capture.step())
            snapshots.append(capture.snapshot())
            proof = prove(Beside(capture, recorder.add))
            assert proof.equal, f"seed {seed}, after {len(churn.done)} operations, {churn.done[-STEPS:]}: {proof}"
            quiet, most = quiet + 1, max(most, proof.ours)
        assert capture.fidelity().unread == 0
        recorder.end()
    with closing(Reader(tmp_path / "one")) as reader:
        for at, taken in enumerate(snapshots):
            replayed = RecordedCapture(reader, sees, taken.at_ns, taken.at_ns).table.entries()
            ours, theirs = connections(replayed), connections(taken.entries)
            apart = [
                (one, ours.get(one), theirs.get(one)) for one in ours.keys() | theirs.keys() if ours.get(one) != theirs.get(one)
            ]
            # Of what came, left or changed while the kernel's table was read it cannot be said which of both is later.
            assert len(apart) <= len(taken.touched), f"seed {seed}, quiet point {at}: {apart[:5]}"
        assert not reader.damaged and len(snapshots) == quiet
    with capsys.disabled():
        counts = ", ".join(f"{name} {count}" for name, count in sorted(Counter(churn.done).items()))
        print(f"\nseed {seed}: {len(churn.done)} operations ({counts}), equal at {quiet} quiet points, up to {most} entries")
    assert quiet > 0


class Beside:
    """A capture whose events are somebody else's, too: a proof takes those that come meanwhile."""

    def __init__(self, capture: LiveCapture, told: Callable[[Events], object]) -> None:
        self._capture, self._told = capture, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._capture, name)

    def drain(self) -> Events:
        events = self._capture.drain()
        self._told(events)
        return events


def connections(entries: Entries) -> dict[bytes, list[object]]:
    """Who is in the table: in which state, and where. Of other protocols the tracker of TCP has no state."""
    who, how = ("netns", "protonum", "addr", "port", "zone"), ("mark", "bucket")
    return {
        b"".join(row[name].tobytes() for name in who): [
            *(row[name].tolist() for name in how),
            row["tcp_state"] if row["protonum"] == TCP else None,
        ]
        for row in entries
    }


def test_killed_under_load_nothing_stays(net, start, form):
    space = net.space("load")
    before = bpf_program_ids()
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            send_udp(space, 499)
            space.run("conntrack", "-F")

    traffic = threading.Thread(target=load)
    traffic.start()
    try:
        running = start("events", "--json", "--attach", form)
        running.wait_for(1009)
        assert bpf_program_ids() > before
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        end = time.monotonic() + 30
        while bpf_program_ids() != before and time.monotonic() < end:
            time.sleep(0.2)
        assert bpf_program_ids() == before
    finally:
        stop.set()
        traffic.join()


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def test_memory_is_flat_under_churn(net, capsys):
    """A table that stays as large as it was costs no more, however many entries have come and gone."""
    space = net.space("soak")
    sizes = []
    with LiveCapture(Options(Purpose.TABLE)) as capture:
        capture.follow()
        end, part = time.monotonic() + SOAK_S, SOAK_S / 4
        while time.monotonic() < end:
            until = time.monotonic() + part
            while time.monotonic() < until:
                send_udp(space, 1009)
                capture.step()
                space.run("conntrack", "-F")
                capture.step()
            sizes.append(resident_kib())
        assert capture.fidelity().lost == {}
        seen = capture.fidelity().seen
    with capsys.disabled():
        print(f"\n{seen} events in {SOAK_S:.0f} s; resident after each quarter: {', '.join(f'{size} KiB' for size in sizes)}")
    assert sizes[-1] - sizes[0] < FLAT_KIB
