"""How a command gets its capture and how it ends, with a stand-in for the live one: options, --wait, the ready file, Ctrl-C."""

from __future__ import annotations

import io
import signal
import sys
import weakref

import pytest

from ctobserve.capture.filters import Filter
from ctobserve.capture.live import Options
from ctobserve.commands import opening
from ctobserve.commands.opening import WAIT_S, opened, out
from ctobserve.documents.meta import meta_of
from ctobserve.documents.request import Request
from ctobserve.errors import CtobserveError, NotPermitted
from ctobserve.event import Kind
from ctobserve.programs.hooks import Purpose
from ctobserve.render.summary import summary_line
from tests.scripted import FIDELITY, NETNS, ScriptedCapture, events
from tests.unit.tables import entries
from tests.unit.typed import run

NOTHING = Purpose(0)
TABLE = entries(2, ct=[256, 512])
BORN = [events(Kind.INSERT, entries(1, ct=4096 + at), at_s=at) for at in range(3)]


class Host:
    """A host whose captures are scripted: `options` are those asked for, `happened` is what was done, in order."""

    def __init__(self, capture: ScriptedCapture) -> None:
        self.capture = capture
        self.options: list[Options] = []
        self.happened: list[str] = []
        self.loaded = [True]
        self.notes: list[str] = []
        follow = capture.follow
        capture.follow = lambda: (self.did("follow"), follow())

    def did(self, what: str) -> None:
        """To be told; a test makes something else happen then."""
        self.happened.append(what)

    def require(self) -> None:
        self.did("may")

    def conntrack_loaded(self) -> bool:
        return self.loaded.pop(0)

    def sleep(self, seconds: float) -> None:
        assert seconds == WAIT_S
        self.did("sleep")

    def live(self, options: Options) -> Host:
        self.options.append(options)
        self.did("plan")
        return self

    def __enter__(self) -> ScriptedCapture:
        self.did("attach")
        return self.capture

    def __exit__(self, *_: object) -> None:
        self.happened.append("detach")


@pytest.fixture
def host(monkeypatch):
    """One that has a capture; what signals do is afterwards as it was."""
    made = Host(ScriptedCapture(BORN, TABLE))
    monkeypatch.setattr(opening, "LiveCapture", made.live)
    monkeypatch.setattr(opening.capabilities, "require", made.require)
    monkeypatch.setattr(opening.capabilities, "notes", lambda listing: made.notes)
    monkeypatch.setattr(opening.kernel, "conntrack_loaded", made.conntrack_loaded)
    monkeypatch.setattr(opening.time, "sleep", made.sleep)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_was_asked_for_is_what_the_capture_is_told(host):
    with opened(Request(), Purpose.DROPS):
        pass
    with opened(Request(), Purpose.DROPS | Purpose.TABLE):
        pass
    asked = Request(duration=2.5, attach="kprobe", ring_mib=4, source="proc", filter=Filter(netns=NETNS, proto=6))
    with opened(asked, Purpose.TABLE, follows=False, reads=False, chains=True, tells=False) as (capture, stretch):
        assert capture is host.capture and stretch.seconds == 2.5
    assert host.options == [
        Options(Purpose.DROPS, "auto", False, 8, "auto", True, True, None),
        Options(Purpose.DROPS | Purpose.TABLE, "auto", False, 32, "auto", True, True, None),
        Options(Purpose.TABLE, "kprobe", True, 4, "proc", False, False, NETNS, NETNS),
    ]


def test_what_a_missing_capability_hides_is_said_before_anything_is_shown(host, capsys):
    host.notes = ["without CAP_X not seen: this", "without CAP_Y not seen: that"]
    with opened(Request(), NOTHING):
        assert capsys.readouterr().err == "ctobserve: without CAP_X not seen: this\nctobserve: without CAP_Y not seen: that\n"


def test_other_namespaces_stay_in_the_kernel_only_where_no_table_is_followed(host):
    asked = Request(filter=Filter(netns=NETNS))
    for follows in (True, False):
        with opened(asked, NOTHING, follows=follows) as (capture, _):
            assert len(capture.table.entries()) == (2 if follows else 0)
            capture.table = ScriptedCapture().table
    assert [options.netns for options in host.options] == [None, NETNS]
    assert host.happened == ["may", "plan", "attach", "follow", "detach", "may", "plan", "attach", "detach"]


def test_with_wait_nothing_is_done_until_conntrack_is_there(host):
    host.loaded = [False, False, True]
    with opened(Request(wait=True), NOTHING):
        assert host.happened == ["may", "sleep", "sleep", "plan", "attach", "follow"]
    assert host.loaded == []


def test_without_wait_nobody_asks_whether_it_is_there(host):
    host.loaded = [False]
    with opened(Request(), NOTHING):
        assert host.loaded == [False] and "sleep" not in host.happened


def test_who_may_not_need_not_wait_to_be_told(host, tmp_path):
    def did(what: str) -> None:
        raise NotPermitted(what)

    host.did, host.loaded = did, [False]
    (tmp_path / "ready").touch()
    with pytest.raises(NotPermitted, match="may"), opened(Request(wait=True, ready_file=tmp_path / "ready"), NOTHING):
        pass
    assert not (tmp_path / "ready").exists(), "what an earlier run left says nothing of this one"


def test_the_ready_file_is_there_from_the_moment_that_the_command_has_what_it_needs(host, tmp_path):
    ready = tmp_path / "ready"
    ready.touch()
    host.did = lambda what: host.happened.append(f"{what} {ready.exists()}")
    with opened(Request(ready_file=ready), NOTHING) as (_, stretch):
        assert host.happened == [f"{what} False" for what in ("may", "plan", "attach", "follow")]
        assert not ready.exists()
        stretch.begin()
        assert ready.read_bytes() == b""
    assert ready.exists(), "whoever looks late still finds it"


def test_a_ready_file_that_somebody_else_made_meanwhile_is_not_taken_for_ours(host, tmp_path):
    ready = tmp_path / "ready"
    with (
        pytest.raises(CtobserveError, match="somebody made it while we attached"),
        opened(Request(ready_file=ready), NOTHING) as (_, stretch),
    ):
        ready.write_text("theirs")
        stretch.begin()
    assert ready.read_text() == "theirs" and host.happened[-1] == "detach"


# A command for each way from opened() to begin(), and what the capture is asked in between.
COMMANDS = {
    "report": ("follow", "counters"),
    "why 10.0.0.5": ("follow",),
    "drops": ("counters",),
    "events": (),
    "list --duration 9": ("follow",),
    "buckets --duration 9": ("follow",),
    "top": ("follow", "drain"),
    "verify": ("follow",),
}
SIGNALS = [signal.SIGINT, signal.SIGTERM]
STEPS = ("may", "sleep", "plan", "attach")


def interrupting(number: signal.Signals, method):
    """The same, with this signal at its first call."""
    left = [number]

    def interrupted(*given, **named):
        if left:
            signal.raise_signal(left.pop())
        return method(*given, **named)

    return interrupted


def interrupted_at(host: Host, where: str, number: signal.Signals) -> None:
    """Ctrl-C when the host does this, or at the first call of this method of the capture."""
    if where in (*STEPS, "follow"):
        did = host.did
        strike = interrupting(number, lambda: None)
        host.did = lambda what: (did(what), strike() if what == where else None)
    else:
        setattr(host.capture, where, interrupting(number, getattr(host.capture, where)))


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("typed", "where"), [(typed, where) for typed, asked in COMMANDS.items() for where in (*STEPS, *asked)], ids=str
)
def test_ctrl_c_before_the_beginning_ends_the_command_at_once_and_without_a_word(
    host, monkeypatch, capsys, tmp_path, typed, where, number
):
    host.loaded = [False] * 3
    interrupted_at(host, where, number)
    ready = ["--wait", "--ready-file", str(tmp_path / "ready")] if where == "sleep" else ["--ready-file", str(tmp_path / "ready")]
    assert run(monkeypatch, capsys, *typed.split(), *ready) == (0, "", "")
    assert not (tmp_path / "ready").exists()
    assert host.happened[-1] == (where if where in STEPS else "detach")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("where", STEPS)
def test_ctrl_c_that_python_drops_since_it_came_in_a_callback_ends_the_command_all_the_same(
    host, monkeypatch, capsys, tmp_path, where, number
):
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: dropped.append(unraisable.exc_type))
    host.loaded = [False] * 3
    did = host.did

    def drops(what: str) -> None:
        did(what)
        if what == where:
            held = {what}
            called = weakref.ref(held, lambda _: signal.raise_signal(number))
            del held
            assert called() is None

    host.did = drops
    ready = tmp_path / "ready"
    waiting = ["--wait"] if where == "sleep" else []
    assert run(monkeypatch, capsys, "drops", *waiting, "--ready-file", str(ready)) == (0, "", "")
    assert dropped == [KeyboardInterrupt] and not ready.exists()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("typed", COMMANDS)
def test_ctrl_c_after_the_beginning_ends_the_stretch_and_all_that_comes_at_the_end_still_comes(
    host, monkeypatch, capsys, typed, number
):
    interrupted_at(host, "wait", number)
    code, shown, err = run(monkeypatch, capsys, *typed.split())
    assert (code, err) == (0, summary_line(meta_of(typed.split(maxsplit=1)[0], host.capture, Request())) + "\n")
    assert shown and host.happened[-1] == "detach"
    assert host.capture.now_ns() - host.capture.started.monotonic_ns < 10**9, "it did not go on until its time was over"


@pytest.mark.parametrize("number", SIGNALS)
def test_who_asks_a_second_time_gets_no_summary(host, monkeypatch, capsys, number):
    interrupted_at(host, "wait", number)
    interrupted_at(host, "settle", number)
    code, shown, err = run(monkeypatch, capsys, "events", "--json")
    assert (code, shown.count("\n"), err) == (0, 1, "") and host.happened[-1] == "detach"


def test_ctrl_c_is_no_excuse_for_losses(host, monkeypatch, capsys):
    interrupted_at(host, "wait", signal.SIGINT)
    host.capture.told = FIDELITY._replace(lost={"insert": 1})
    assert run(monkeypatch, capsys, "events", "--fail-on-loss")[0] == 5


class Stdout(io.StringIO):
    """Remembers what had been written whenever it was flushed."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal
        self.flushed: list[str] = []

    def isatty(self) -> bool:
        return self.terminal

    def flush(self) -> None:
        self.flushed.append(self.getvalue())


@pytest.mark.parametrize(("terminal", "flushed"), [(False, ["one\ntwo\n", "one\ntwo\nthree\n"]), (True, [])])
def test_no_line_waits_for_the_next_one_when_nobody_looks_at_a_terminal(monkeypatch, terminal, flushed):
    monkeypatch.setattr(opening.sys, "stdout", stdout := Stdout(terminal))
    out(["one", "two"])
    out(["three"])
    assert stdout.flushed == flushed and stdout.getvalue() == "one\ntwo\nthree\n"
