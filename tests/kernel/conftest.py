"""What every kernel test stands on: a kernel that must admit BPF, namespaces of its own, sysctls put back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ctobserve_lab.world import Net
from tests.kernel.forms import FORMS, assert_fentry_is_refused, has_fentry
from tests.kernel.tool import CTOBSERVE, LACKING, PATIENCE_S, bpf_program_ids
from tests.kernel.warm import Warm, told, warm_up

VARIABLE = "CTOBSERVE_KERNEL_TESTS"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/kernel" in str(item.path):
            item.add_marker(pytest.mark.kernel)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test of what this kernel lacks ends with the kernel's refusal: of a switch, in a fixture; of fentry, here."""
    if pyfuncitem.funcargs.get("form") == "fentry" and not has_fentry():
        pyfuncitem.user_properties.append((LACKING, assert_fentry_is_refused()))
    return any(name == LACKING for name, _ in pyfuncitem.user_properties) or None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, None, None]:
    """A failed test lets go of its sockets: kept with the traceback, they would keep its namespaces and fail other tests."""
    yield
    if call.excinfo:
        traceback.clear_frames(call.excinfo.tb)


@pytest.fixture(scope="session", autouse=True)
def kernel() -> Iterator[None]:
    """Unset: skip and say how to run. 1: whatever the kernel lacks is a failure of the test that needs it."""
    if os.environ.get(VARIABLE) != "1":
        pytest.skip(f"set {VARIABLE}=1 on a kernel that admits BPF, or run `make kernel-test`")
    tainted = Path("/proc/sys/kernel/tainted").read_text()
    before = bpf_program_ids()
    warm_up()
    yield
    assert Path("/proc/sys/kernel/tainted").read_text() == tainted, "the kernel complained (taint changed)"
    assert bpf_program_ids() <= before, "BPF programs were left behind"


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """For --attach: each form in turn; without fentry only its refusal is tested."""
    return str(request.param)


@pytest.fixture
def sysctl() -> Iterator[Callable[[str, int], None]]:
    """Set a net.netfilter sysctl of the initial namespace; put back at the end."""
    saved: dict[Path, str] = {}

    def set_(name: str, value: int) -> None:
        path = Path("/proc/sys/net/netfilter") / name
        saved.setdefault(path, path.read_text())
        path.write_text(str(value))

    yield set_
    for path, value in reversed(saved.items()):
        path.write_text(value)


@pytest.fixture
def net() -> Iterator[Net]:
    """Makes network namespaces with tracking on; they end with the test."""
    with Net() as made:
        yield made


def cold(arguments: Sequence[str], out: Path, err: Path) -> subprocess.Popen[bytes]:
    """A real start: Python's, and all imports."""
    with out.open("wb") as stdout, err.open("wb") as stderr:
        return subprocess.Popen([*CTOBSERVE, *arguments], stdout=stdout, stderr=stderr)


Begin = Callable[[Sequence[str], Path, Path], Warm | subprocess.Popen[bytes]]


@pytest.fixture
def begin() -> Begin:
    """How `start` starts it; a file that tests the start itself says `cold` instead."""
    return Warm


class Running:
    """A ctobserve process that said it is ready."""

    def __init__(self, begin: Begin, arguments: tuple[str, ...], directory: Path) -> None:
        self._ready = directory / f"ready-{time.monotonic_ns()}"
        self._out = self._ready.with_suffix(".out")
        self._err = self._ready.with_suffix(".err")
        self.process = begin([*arguments, "--ready-file", str(self._ready)], self._out, self._err)
        end = time.monotonic() + PATIENCE_S
        while not self._ready.exists():
            assert self.process.poll() is None, f"ctobserve ended: {self._err.read_text()}"
            assert time.monotonic() < end, "ctobserve did not become ready"
            time.sleep(0.05)

    def lines(self) -> list[str]:
        return self._out.read_text().splitlines()

    def wait_for(self, lines: int, having: str = "") -> None:
        """Until it has printed that many lines, with these words if any; the data is the signal, not the clock."""
        end = time.monotonic() + PATIENCE_S
        while (found := sum(having in line for line in self.lines())) < lines:
            assert time.monotonic() < end, f"{found} lines, not {lines}; the last: {self.lines()[-1:]}; {self.errors}"
            time.sleep(0.1)

    def pause(self) -> None:
        """Stop reading: the ring fills."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self, code: int = 0) -> str:
        """Ctrl-C; its output. A process that leaves with another code fails the test."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE_S) == code, self._err.read_text()
        return self._out.read_text()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.end().splitlines()]

    @property
    def errors(self) -> str:
        return self._err.read_text()


@pytest.fixture
def start(tmp_path: Path, begin: Begin) -> Iterator[Callable[..., Running]]:
    """Start ctobserve in the background and wait until it is ready."""
    started: list[Running] = []

    def go(*arguments: str) -> Running:
        started.append(Running(begin, arguments, tmp_path))
        return started[-1]

    yield go
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


@pytest.fixture
def report() -> Callable[..., Any]:
    """Run ctobserve to its end and return its JSON document."""

    def go(*arguments: str) -> Any:
        return json.loads(told(*arguments, "--json"))

    return go
