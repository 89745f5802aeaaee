"""The command record, and commands on a recording: without root, and what it lacks in one line."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ctobserve.capture.recorded import RecordedCapture
from ctobserve.capture.watch import Stretch
from ctobserve.documents.request import Request
from ctobserve.model import join
from ctobserve.programs.hooks import Purpose
from tests.scripted import FIDELITY, ScriptedCapture
from tests.unit import test_commands
from tests.unit.recordings import record, replay
from tests.unit.test_recording import busy
from tests.unit.typed import run


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Runs a command on the recording FILE, as a user that is not root."""

    def never(*_: object) -> None:
        raise AssertionError("a recording needs no capability")

    monkeypatch.setattr("ctobserve.host.capabilities.require", never)
    record(busy(), tmp_path / "FILE", keyframe_s=1)
    monkeypatch.chdir(tmp_path)
    return lambda words: run(monkeypatch, capsys, *words.split())


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        ("report --from FILE", "CRITICAL"),
        ("report --from FILE --since -3s --until -1s", "CRITICAL"),
        ("why 10.0.0.1:1002 --from FILE", "1 connection matched"),
        (
            "why :53/udp --from FILE --since -3s --until -1s --netns blue --zone 0",
            "25 connections matched :53/udp: 21 live on, 4 timeout; ",
        ),
        ("drops --from FILE --since 22:13:21", "22:13:22"),
        ("events --from FILE --events destroy --netns green", "22:13:22"),
        ("top --from FILE --at -1s", "22:13:24"),
        ("top --from FILE --interval 1 --until 2023-11-14T22:13:21.5Z", "22:13:21"),
        ("list --from FILE --at -4s --netns green", "NETNS"),
        ("list --from FILE --format kernel", "ipv4"),
        ("list --from FILE --expect", "NETNS"),
        ("buckets --from FILE --at 22:13:22", ""),
        ("verify --from FILE", "EQUAL"),
        ("size --from FILE --timeout udp_timeout=10", ""),
    ],
)
def test_a_command_reads_it_without_root(typed, words, begins):
    code, out, err = typed(words)
    assert code == 0 and out.startswith(begins) and out, (out, err)
    if not words.startswith("size") and "--expect" not in words:
        assert "from FILE" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("list --from NONE", "NONE: no such file or directory"),
        ("list --from .", ".: is a directory"),
        ("list --from FILE --duration 3", "there is no use for --duration"),
        ("report --from FILE --ring-mib 1", "there is no use for --ring-mib"),
        ("list --at 12:00", "--at is of a recording; name it with --from FILE"),
        ("report --since -3s", "--since is of a recording"),
        ("list --from FILE --at 12:00", "12:00 is no time of the recording, which is from 2023-11-14T22:13:20"),
        ("drops --from FILE --since -1s --until -2s", "--since is later than --until"),
        ("list --from FILE --netns red", "no network namespace is called red; there are: blue, green"),
        ("list --from FILE --at -4s --format kernel", "give --at 2023-11-14T22:13:2"),
        ("size --from FILE --duration 3", "there is no use for --duration"),
    ],
)
def test_what_cannot_be_is_one_line(typed, words, says):
    code, out, err = typed(words)
    assert code in (1, 2) and not out and err.startswith("ctobserve: ") and err.count("\n") == 1 and says in err


def test_what_the_recorder_did_not_look_for_is_not_shown_as_if_it_had_not_been(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tests.unit.recordings.EVERYTHING", test_commands.TABLE | test_commands.DROPS)
    record(busy(), tmp_path / "FILE")
    for words, how in (
        ("report", "without --no-invalid"),
        ("events --packets", "with --packets"),
        ("why 10.0.0.1", "without --no-invalid"),
        ("why 10.0.0.1 --no-invalid --confirms", "with --confirms"),
        ("events --events confirm", "with --confirms"),
    ):
        code, _, err = run(monkeypatch, capsys, *words.split(), "--from", "FILE")
        assert code == 2 and err == f"ctobserve: FILE was recorded without what that needs; record {how}\n"
    assert run(monkeypatch, capsys, "report", "--no-invalid", "--from", "FILE")[0] == 0


def recorded_document() -> Any:
    """As the command says it."""
    with tempfile.TemporaryDirectory() as directory:
        return record(busy(), Path(directory, "one"))


def test_the_file_is_its_owners_alone_and_is_described(tmp_path):
    found = record(busy(), tmp_path / "one")
    assert os.stat(tmp_path / "one").st_mode & 0o777 == 0o600 and os.listdir(tmp_path) == ["one"]
    assert (found.events, found.keyframes) == (len(join(list(busy().batches))), 2)
    assert 0 < found.compressed_bytes < (tmp_path / "one").stat().st_size < 60_000


def test_a_capture_that_was_unloaded_ends_the_recording(tmp_path):
    record(busy(over=True), tmp_path / "one")
    assert isinstance(replay(tmp_path / "one"), RecordedCapture)
    end = replay(tmp_path / "one")._reader.last("end")
    assert end is not None and end.found.unloaded


@pytest.fixture
def recorder(monkeypatch, capsys, tmp_path):
    """Runs `record` on a made capture: exit code, stdout and stderr; what it wanted to be opened is in recorder.asked."""
    monkeypatch.chdir(tmp_path)

    def start(capture: ScriptedCapture, words: str) -> tuple[int, str, str]:
        @contextmanager
        def opened(request: Request, purpose: Purpose, **how: bool) -> Iterator[tuple[ScriptedCapture, Stretch]]:
            start.asked = purpose, how
            capture.follow()
            yield capture, Stretch(request.duration)

        monkeypatch.setattr("ctobserve.commands.record.opened", opened)
        return run(monkeypatch, capsys, "record", *words.split())

    return start


ALWAYS = Purpose.TABLE | Purpose.REASONS | Purpose.DROPS | Purpose.UPDATES


@pytest.mark.parametrize(
    ("words", "sees"),
    [
        ("", ALWAYS | Purpose.INVALID),
        ("--no-invalid", ALWAYS),
        ("--packets --confirms", ALWAYS | Purpose.INVALID | Purpose.PACKETS | Purpose.CONFIRMS),
    ],
)
def test_the_command_looks_for_what_the_others_may_ask(recorder, words, sees):
    code, out, err = recorder(busy(), f"FILE --duration 5 {words}")
    assert code == 0 and recorder.asked == (sees, {"chains": True})
    found = re.fullmatch(r"FILE: (\d+) events, the table 2 times; (\d+) bytes compressed\n", out)
    assert found and int(found[1]) == len(join(list(busy().batches)))
    assert re.fullmatch(rf"{found[1]} events seen, none lost, in 5\.0 s \(fentry\); table read 5\.0 s ago\n", err)
    assert replay(Path("FILE")).sees == sees


def test_the_command_says_it_as_json_and_by_exit_code(recorder):
    lossy = busy(told=FIDELITY._replace(lost={"insert": 3}))
    code, out, err = recorder(lossy, "FILE --duration 1 --keyframe 1 --compress 9 --json --fail-on-loss")
    said = json.loads(out)
    assert code == 5 and err.endswith("ctobserve: 3 records were lost; try a larger --ring-mib\n")
    assert (said["file"], said["meta"]["command"], said["meta"]["events_lost"]) == ("FILE", "record", 3)
    assert said["compressed_bytes"] < os.stat("FILE").st_size


def test_a_name_that_is_taken_is_exit_code_2_and_stays_as_it_is(recorder):
    Path("FILE").write_text("precious")
    code, out, err = recorder(busy(), "FILE --duration 1")
    assert (code, out) == (2, "") and err == "ctobserve: FILE exists, and no recording is overwritten; give a name that is free\n"
    assert Path("FILE").read_text() == "precious"
