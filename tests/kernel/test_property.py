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
from pathlib import Path

from ctobserve.capture.live import LiveCapture, Options
from ctobserve.diagnosis.proof import prove
from ctobserve.programs.hooks import Purpose
from ctobserve_lab.traffic import send_udp
from tests.kernel.churn import Churn
from tests.kernel.tool import bpf_program_ids

SECONDS = float(os.environ.get("CTOBSERVE_PROPERTY_S", "40"))
SOAK_S = float(os.environ.get("CTOBSERVE_SOAK_S", "20"))
STEPS = 11
FLAT_KIB = 4096


def test_random_work_leaves_equal_tables(net, sysctl, capsys):
    seed = int(os.environ.get("CTOBSERVE_SEED", random.randrange(1 << 32)))
    sysctl("nf_conntrack_buckets", 4096)
    with LiveCapture(Options(Purpose.TABLE | Purpose.UPDATES)) as capture:
        churn = Churn(net, seed)
        capture.follow()
        quiet, most, end = 0, 0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            for _ in range(STEPS):
                churn.step()
                capture.step()
            capture.settle()
            proof = prove(capture)
            assert proof.equal, f"seed {seed}, after {len(churn.done)} operations, {churn.done[-STEPS:]}: {proof}"
            quiet, most = quiet + 1, max(most, proof.ours)
        assert capture.fidelity().unread == 0
    with capsys.disabled():
        counts = ", ".join(f"{name} {count}" for name, count in sorted(Counter(churn.done).items()))
        print(f"\nseed {seed}: {len(churn.done)} operations ({counts}), equal at {quiet} quiet points, up to {most} entries")
    assert quiet > 0


def test_killed_under_load_nothing_stays(net, start):
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
        for form in ("fentry", "kprobe"):
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
