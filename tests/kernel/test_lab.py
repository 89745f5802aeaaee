"""ctobserve-lab as people use it: it waits, it holds, and whatever ends it, it leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctobserve_lab.world import run
from tests.kernel.machine import machine
from tests.kernel.tool import PATIENCE_S

LAB = [sys.executable, "-m", "ctobserve_lab"]
MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")


class Player:
    """A running ctobserve-lab whose output can be waited for."""

    def __init__(self, out: Path, *arguments: str) -> None:
        self._out = out
        with out.open("wb") as file:
            self.process = subprocess.Popen([*LAB, *arguments], stdout=file, stderr=subprocess.STDOUT)

    def wait_for(self, words: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while words not in self.said():
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            time.sleep(0.1)

    def said(self) -> str:
        return self._out.read_text()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_waits_and_holds_and_a_signal_undoes_it(tmp_path, number, code):
    before = machine()
    ready = tmp_path / "ready"
    player = Player(tmp_path / "out", "run", "table_full", "--ready-file", str(ready))
    player.wait_for("Waiting for")
    assert "full" in run("ip", "netns", "list") and "Done" not in player.said()
    ready.touch()
    player.wait_for("Ctrl-C undoes it")
    assert "Done: 23 of 23 datagrams were refused" in player.said()
    assert MAX.read_text() != before["sysctls"][str(MAX)]
    assert player.end(number) == code
    assert machine() == before


def test_a_signal_while_it_builds_or_waits_undoes_it(tmp_path):
    before = machine()
    for words in ("Expect:", "Waiting for"):
        player = Player(tmp_path / "out", "run", "asymmetric_routing", "--ready-file", str(tmp_path / "never"))
        player.wait_for(words)
        assert player.end(signal.SIGTERM) == 143, player.said()
        assert machine() == before


def test_a_name_that_is_taken_is_said_and_kept(tmp_path):
    run("ip", "netns", "add", "server")
    try:
        before = machine()
        result = subprocess.run([*LAB, "run", "snat_ports", "--hold", "0"], capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert result.stderr.startswith("ctobserve-lab: there is a network namespace called server already")
        assert machine() == before
    finally:
        run("ip", "netns", "del", "server")


def test_no_lab_machine_no_incident():
    before = machine()
    elsewhere = {name: value for name, value in os.environ.items() if name != "CTOBSERVE_LAB"}
    result = subprocess.run([*LAB, "run", "healthy", "--hold", "0"], capture_output=True, text=True, check=False, env=elsewhere)
    assert result.returncode == (0 if Path("/etc/ctobserve-lab").exists() else 2)
    assert machine() == before
