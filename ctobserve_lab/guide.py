"""A scenario told as a session: what is noticed, what ctobserve and the usual tools show, the fix, the proof that it worked."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ctobserve_lab.errors import LabError
from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.world import Space

READY_S = 300  # an emulated CPU compiles BPF programs for minutes, once


def tell(scenario: Scenario, stage: Stage) -> Iterator[str]:
    """Lines of the session, as they come about."""
    play = scenario.play(stage)
    watched = next(play)
    report = _observed(scenario, play, watched)
    yield from _noticed(stage)
    for line in scenario.look:
        # grep that finds nothing fails, and that is an answer too.
        yield from _typed(line, stage.do(line, check=False))
    yield from report
    if not scenario.fix:
        return
    yield "The fix, and then the same again:"
    yield ""
    for line in scenario.fix:
        yield from _typed(line, stage.do(line))
    yield ""
    report = _observed(scenario, play, watched)
    yield from _noticed(stage)
    yield from report


def _observed(scenario: Scenario, play: Play, watched: Space | None) -> list[str]:
    """One act, watched by ctobserve: the command and its report."""
    arguments = shlex.split(scenario.observe) + (["--netns", watched.name] if watched else [])
    report = _beside(arguments, lambda: next(play, None))
    return [f"# ctobserve {' '.join(arguments)}", *report.rstrip().splitlines(), ""]


def _noticed(stage: Stage) -> Iterator[str]:
    yield f"({stage.said[-1]})"


def _beside(arguments: list[str], act: Callable[[], object]) -> str:
    """Output of ctobserve that is ready before the act and gets Ctrl-C after it."""
    with tempfile.TemporaryDirectory() as directory:
        ready = Path(directory, "ready")
        command = [sys.executable, "-m", "ctobserve", *arguments, "--duration", "3600", "--ready-file", str(ready)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="backslashreplace"
        )
        try:
            wait_for(ready, process)
            act()
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate()
        finally:
            process.kill()
            process.wait()
    if process.returncode not in (0, 1):
        raise LabError(f"ctobserve {' '.join(arguments)}: {errors.strip()}")
    return out


def wait_for(ready: Path, process: subprocess.Popen[str] | None = None) -> None:
    """Until that file exists; raises LabError when the process that is to make it has ended, or takes minutes."""
    end = time.monotonic() + READY_S
    while not ready.exists():
        if process and process.poll() is not None:
            raise LabError(f"ctobserve ended: {process.communicate()[1].strip()}")
        if process and time.monotonic() > end:
            raise LabError(f"ctobserve was not ready after {READY_S} s")
        time.sleep(0.1)


def _typed(line: str, output: str) -> Iterator[str]:
    yield f"# {line}"
    yield from (words.rstrip() for words in output.splitlines())
