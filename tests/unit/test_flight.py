"""The flight recorder: the last minutes in bounded space, each stretch readable whatever happens, and incidents out of it.

CTOBSERVE_FLIGHT_DAYS says how long it flies, CTOBSERVE_KILLS how often a recorder is killed, CTOBSERVE_MUTATIONS how many
directories are tried, at 25 files each.
"""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import signal
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ctobserve.capture.capture import Fidelity, NamespaceState
from ctobserve.capture.recorded import RecordedCapture
from ctobserve.capture.store.container import Unreadable
from ctobserve.capture.store.facts import Trigger
from ctobserve.capture.store.joined import opened
from ctobserve.capture.store.parts import INCIDENT, PARTIAL, Parts
from ctobserve.capture.store.reader import Reader
from ctobserve.capture.store.writer import NotWritten
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import NS_PER_S
from ctobserve.commands.conditions import CONDITION
from ctobserve.diagnosis.rules import RULES
from ctobserve.documents import report
from ctobserve.documents.request import Request
from ctobserve.documents.triggers import Conditions
from ctobserve.errors import CtobserveError, UsageError
from ctobserve.event import Kind
from ctobserve.model import Entries, join
from ctobserve.programs.hooks import Purpose
from tests import scripted
from tests.scripted import CLOCK, NETNS, ScriptedCapture, reading
from tests.unit.flights import MIB, Churning, disk_bytes, fly, lost
from tests.unit.recordings import EVERYTHING
from tests.unit.tables import entries
from tests.unit.test_recording import nameless
from tests.unit.typed import run

DAYS = float(os.environ.get("CTOBSERVE_FLIGHT_DAYS", "0.2"))
KILLS = int(os.environ.get("CTOBSERVE_KILLS", "5"))
MUTATIONS = int(os.environ.get("CTOBSERVE_MUTATIONS", "1500")) // 25
ON_DROP = Conditions(drop=True)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory: days pass here, and each part waits for a disk several times."""
    before = os.getcwd()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", tmp_path], check=True)
    yield tmp_path
    os.chdir(before)
    # What a failed test has open is in use until it is forgotten.
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def replay(path: Path, since_ns: int | None = None, until_ns: int | None = None) -> RecordedCapture:
    return RecordedCapture(opened(path), EVERYTHING, since_ns, until_ns)


def parts(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.startswith("part-"))


def incidents(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.startswith("incident-"))


def verdicts(path: Path) -> set[str]:
    return {row.id for row in report_of(str(path)).verdicts}


def report_of(path: str) -> report.ReportDocument:
    return report.collect(replay(Path(path)), Request(), Stretch(), invalid=True)


def seconds(found: RecordedCapture) -> tuple[float, float]:
    """Begin and end, since the start of the capture."""
    return tuple((at_ns - CLOCK.monotonic_ns) / NS_PER_S for at_ns in (found.begin_ns, found.end_ns))


def assert_told(found: RecordedCapture, live: Churning) -> None:
    """It tells what came since it began, in order."""
    assert live.told_so_far
    came, again = join(live.told_so_far), join([*watch(found, Stretch()), found.drain()])
    came, again = (some[some["entry"]["seen_ns"] > found.begin_ns] for some in (came, again))
    assert len(again) > 10_000
    for name in ("kind", "reason"):
        assert again[name].tolist() == came[name].tolist()
    assert again["entry"]["port"].tolist() == came["entry"]["port"].tolist()


def assert_same_table(found: RecordedCapture, live: ScriptedCapture) -> None:
    """After all of its events the table is what the capture had at its end."""
    assert list(watch(found, Stretch())) and found.drain() is not None
    ours, theirs = ({one.tobytes() for one in nameless(rows)} for rows in (found.table.entries(), live.table.entries()))
    assert ours == theirs


def triggers(path: Path) -> list[Trigger]:
    with closing(opened(path)) as reader:
        return [fact.found for fact in reader.all("trigger")]


def test_the_directory_is_ours_alone_and_holds_the_last_minutes_and_little_more(tmp_path):
    found = fly(Churning(0.1), tmp_path / "DIR", 200)
    assert (tmp_path / "DIR").stat().st_mode & 0o777 == 0o700
    assert {(tmp_path / "DIR" / name).stat().st_mode & 0o777 for name in parts(tmp_path / "DIR")} == {0o600}
    begin_s, end_s = seconds(replay(tmp_path / "DIR"))
    assert end_s == 200 and 60 <= end_s - begin_s <= 60 * 9 / 8 + 1
    assert found.held_s == end_s - begin_s and found.incidents == () and found.unwritten == 0
    assert os.listdir(tmp_path / "DIR") and set(os.listdir(tmp_path / "DIR")) == set(parts(tmp_path / "DIR"))


def test_events_of_the_parts_are_those_that_came_and_the_table_at_any_instant_is_what_they_made_of_it(tmp_path):
    live, tables = Churning(0.1), {}
    live.told_so_far = []
    live.each_step = lambda: tables.setdefault(live.now_ns() - 1000, live.table.entries())
    fly(live, tmp_path / "DIR", 100)
    found = replay(tmp_path / "DIR")
    assert_told(found, live)
    for at_ns in Random(3).sample([at_ns for at_ns in tables if at_ns >= found.begin_ns], 20):
        ours, theirs = (
            {one.tobytes() for one in nameless(rows)}
            for rows in (replay(tmp_path / "DIR", at_ns, at_ns).table.entries(), tables[at_ns])
        )
        assert ours == theirs
    for name in parts(tmp_path / "DIR"):
        assert len(replay(tmp_path / "DIR" / name).table.entries()) > 50, "each part is a recording like any other"


def test_what_was_lost_and_seen_before_the_first_part_is_not_of_it(tmp_path):
    class Losing(Churning):
        def fidelity(self) -> Fidelity:
            lost_so_far = {"insert": int(self.passed_s() // 10)} if self.passed_s() >= 10 else {}
            return super().fidelity()._replace(lost=lost_so_far, uncertain_ns=len(lost_so_far) and int(self.passed_s() // 10))

    fly(Losing(0.5), tmp_path / "DIR", 200)
    found = replay(tmp_path / "DIR")
    begin_s, _ = seconds(found)
    events = sum(map(len, watch(found, Stretch())))
    assert found.fidelity().lost == {"insert": 20 - begin_s // 10}
    assert 0 <= found.fidelity().seen - events <= 40


def test_an_incident_is_what_came_before_and_after_and_says_what_for(tmp_path):
    made, said = Churning(0.1), []
    made.happens = {100: lost(), 103: lost(2), 104: scripted.events(Kind.DESTROY, entries(1, ct=77), reason=2)}
    fly(made, tmp_path / "DIR", 200, Conditions(drop=True, early_drop=True), say=said.append)
    (name,) = incidents(tmp_path / "DIR")
    assert name == "incident-20231114T221500Z-drop"
    path = tmp_path / "DIR" / name
    assert path.stat().st_mode & 0o777 == 0o600
    begin_s, end_s = seconds(replay(path))
    assert 32 <= begin_s <= 40 and 105 <= end_s <= 106 and replay(path).finished
    assert verdicts(path) >= {"table_full"}
    assert triggers(path) == [
        Trigger("drop", "packets lost (table_full 3)"),
        Trigger("early_drop", "entries evicted by early_drop (1)"),
    ]
    assert said == [
        f"packets lost (table_full 3): kept as {name} in 5 s",
        f"entries evicted by early_drop (1): of {name}, too",
        f"kept {path}: drop, early_drop",
    ]
    begin_s, end_s = seconds(replay(tmp_path / "DIR"))
    assert end_s == 200 and end_s - begin_s < 70, "the last minutes go on as if nothing had been kept"


def test_what_goes_on_is_one_incident_and_what_comes_again_another(tmp_path):
    made = Churning(0.5)
    made.happens = {at: lost() for at in (*range(20, 100, 4), 150)}
    fly(made, tmp_path / "DIR", 200, ON_DROP, after_s=12)
    assert incidents(tmp_path / "DIR") == ["incident-20231114T221340Z-drop", "incident-20231114T221550Z-drop"]


def test_of_many_incidents_the_oldest_go(tmp_path):
    made = Churning(0.5)
    made.happens = {at: lost() for at in range(20, 200, 30)}
    found = fly(made, tmp_path / "DIR", 200, ON_DROP, most_incidents=2)
    assert (
        [name[9:25] for name in found.incidents]
        == ["20231114T221540Z", "20231114T221610Z"]
        == [name[9:25] for name in incidents(tmp_path / "DIR")]
    )


def test_an_incident_that_is_under_way_at_the_end_is_kept(tmp_path):
    made = Churning(0.5)
    made.happens = {98: lost()}
    fly(made, tmp_path / "DIR", 100, ON_DROP, after_s=30)
    (name,) = incidents(tmp_path / "DIR")
    assert seconds(replay(tmp_path / "DIR" / name))[1] == 100 and replay(tmp_path / "DIR" / name).finished


def test_who_asks_gets_what_is_there(tmp_path):
    made, asked = Churning(0.5), [50]
    fly(made, tmp_path / "DIR", 100, asked=lambda: bool(asked) and made.passed_s() >= asked[0] and asked.pop() > 0)
    assert [name.rpartition("-")[2] for name in incidents(tmp_path / "DIR")] == ["asked"]


def test_a_table_that_fills_is_an_incident_once_it_does(tmp_path):
    class Filling(Churning):
        def namespaces(self, *given: Any, **named: Any) -> dict[int, NamespaceState]:
            full = 50 <= self.passed_s() < 120 or self.passed_s() >= 170
            sysctls = {"nf_conntrack_count": 95 if full else 5, "nf_conntrack_max": 100}
            self.states = {NETNS: NamespaceState(NETNS, "blue", init=True, sysctls=sysctls)}
            return super().namespaces(*given, **named)

    said: list[str] = []
    fly(Filling(0.5), tmp_path / "DIR", 200, Conditions(fills=(0.9,)), say=said.append)
    assert incidents(tmp_path / "DIR") == ["incident-20231114T221410Z-fill", "incident-20231114T221610Z-fill"]
    assert said[0].startswith("blue has 95 of 100 entries: kept as incident-")


def test_a_verdict_is_an_incident_and_what_its_judgement_takes_is_recorded_all_the_same(tmp_path):
    made = Churning(0.5)
    made.told_so_far = []
    made.happens = {72: lost(23)}
    fly(made, tmp_path / "DIR", 160, Conditions(verdicts=("table_full",)), keyframe_s=20, keep_s=600)
    (name,) = incidents(tmp_path / "DIR")
    assert name.endswith("-verdict-table_full") and "table_full" in verdicts(tmp_path / "DIR" / name)
    (trigger,) = triggers(tmp_path / "DIR" / name)
    assert trigger.says.startswith("the table of blue is full: 23 packets")
    assert_told(replay(tmp_path / "DIR"), made)


def test_in_a_flood_it_keeps_less_time_and_says_so_once_and_never_takes_more_room(tmp_path):
    path = tmp_path / "DIR"
    made, said, most = Churning(0.5, each=2000, room=200_000), [], []
    made.each_step = lambda: most.append(disk_bytes(path))
    made.happens = {at: lost() for at in range(20, 100, 20)}
    fly(made, path, 100, ON_DROP, say=said.append, most_bytes=6 * MIB, keep_s=90)
    assert max(most) <= 6 * MIB
    (line,) = [line for line in said if "not 90" in line]
    assert re.fullmatch(rf"{path}: the last \d+ s are kept, not 90: there is no room for more in --max-size", line)
    for one in (path, *(path / name for name in incidents(path))):
        found = replay(one)
        assert sum(map(len, watch(found, Stretch()))) > 10_000 and not found._reader.damaged
    assert incidents(path), "the newest, if there is no room for more"


def test_a_table_that_is_too_large_for_it_is_said_and_what_is_there_stays(tmp_path):
    said: list[str] = []
    made = Churning(0.5, each=50)
    made.happens = {30: scripted.events(Kind.INSERT, entries(90_000, ct=np.arange(90_000) * 320 + 1, sport=7))}
    with pytest.raises(NotWritten, match=r"a reading of the table takes too much of --max-size .* the end is missing"):
        fly(made, tmp_path / "DIR", 60, say=said.append, most_bytes=4 * MIB)
    assert "a reading of the table takes too much of --max-size" in said[0] and len(said) == 1
    assert disk_bytes(tmp_path / "DIR") <= 4 * MIB and len(replay(tmp_path / "DIR").table)


def test_a_part_begins_with_timeouts_that_were_read_and_not_with_those_of_months_ago(tmp_path):
    old, now = (entries(9, ct=np.arange(1, 10) * 64, timeout=timeout) for timeout in (1, 999))
    fly(ScriptedCapture(entries=old, kernel=now), tmp_path / "DIR", 30, keyframe_s=5)
    found = replay(tmp_path / "DIR")
    begins = [set(found._replay.read(one).entries["timeout"].tolist()) for one in found.keyframes]
    assert begins[0] == {1} and begins[-1] == {999} and begins.count({1}) == 1
    assert set(found.table.entries()["timeout"].tolist()) == {1}, "of the begin that it was asked for"
    assert set(replay(tmp_path / "DIR", found.end_ns, found.end_ns).table.entries()["timeout"].tolist()) == {999}


def test_what_is_not_ours_stays_in_the_directory(tmp_path):
    path = tmp_path / "DIR"
    path.mkdir(mode=0o700)
    others = (
        "notes.txt",
        "notes.partial",
        "incident-20231114T221500Z-drop.partial.old",
        "part-1",
        "part-00000001.old",
        "incident-of-mine",
        "incident-20231114T221500Z",
    )
    for name in others:
        (path / name).write_text("precious")
    made = Churning(0.5)
    made.happens = {at: lost() for at in range(20, 200, 30)}
    fly(made, path, 200, ON_DROP, most_incidents=1)
    assert all((path / name).read_text() == "precious" for name in others)


def test_numbers_of_entries_that_are_forgotten_make_no_other_table(monkeypatch, tmp_path):
    monkeypatch.setattr("ctobserve.capture.flight.MANY", 100)
    made = Churning(0.5, room=100_000)
    fly(made, tmp_path / "DIR", 100)
    found = replay(tmp_path / "DIR")
    assert_same_table(found, made)
    assert len([one for one in found.keyframes if one.found.repairs]) > 2


def newest(path: Path) -> int:
    """The number of the last part."""
    return int(parts(path)[-1][5:13]) if path.exists() and parts(path) else 0


def fly_until_killed(path: Path) -> None:
    """What a recorder does, faster, with incidents all the time."""
    made = Churning(0.5)
    made.happens = {at: lost() for at in range(5, 100_000, 25)}
    fly(made, path, 1e9, ON_DROP, keep_s=20, after_s=2)


def test_a_recorder_that_is_killed_leaves_a_directory_that_can_be_read_and_gone_on_with(tmp_path):
    some, path = Random("flight"), tmp_path / "DIR"
    met, most = set(), 0
    for _ in range(KILLS):
        child = os.fork()
        if not child:
            fly_until_killed(path)
            os._exit(0)
        before, end = newest(path), time.monotonic() + 60
        while newest(path) < before + 8 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(some.uniform(0, 0.5))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        met.add(os.WIFSIGNALED(status))
        with suppress(FileNotFoundError):
            names = incidents(path)
            for one in (path, *(path / name for name in names if PARTIAL not in name)):
                with closing(opened(one)) as reader:
                    found = RecordedCapture(reader, EVERYTHING)
                    assert len(join(list(watch(found, Stretch())))) and reader.complaint is None
                    most = max(most, found.end_ns - found.begin_ns)
            ended = [name for name in names if PARTIAL not in name and not name.endswith("-killed")]
            assert all(replay(path / name).finished for name in ended)
    assert met == {True}
    assert most > 10 * NS_PER_S
    fly(Churning(0.5), path, 10, keep_s=20)
    assert not [name for name in os.listdir(path) if PARTIAL in name]
    assert seconds(replay(path)) == (0, 10), "of this recorder alone"
    assert len(parts(path)) > 5, "what an earlier one left stays until this one has as much"
    fly(Churning(0.5), path, 60, keep_s=20)
    with closing(opened(path)) as reader:
        runs = {Reader(path / name).meta["run"] for name in parts(path)}
        assert runs == {reader.meta["run"]}


def test_what_a_recorder_left_that_did_not_end_in_order_is_kept_once(tmp_path):
    path, said = tmp_path / "DIR", []
    child = os.fork()
    if not child:
        made = Churning(0.5)
        made.each_step = lambda: os.kill(os.getpid(), signal.SIGKILL) if made.passed_s() >= 30 else None
        fly(made, path, 1e9, keep_s=20)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    with pytest.raises(NotWritten):
        fly(
            ScriptedCapture(entries=entries(200_000, ct=np.arange(200_000) * 64 + 64)),
            path,
            1,
            say=said.append,
            most_bytes=4 * MIB,
        )
    fly(Churning(0.5), path, 10, keep_s=20, say=said.append)
    (name,) = incidents(path)
    assert name == "incident-20231114T221349Z-killed" and not replay(path / name).finished
    assert said == [f"kept {path / name}: the recorder before did not end in order"]
    begin_s, end_s = seconds(replay(path / name))
    assert begin_s <= 10 and 28 <= end_s <= 30
    fly(Churning(0.5), path, 10, keep_s=20, say=said.append)
    assert len(said) == 1, "that one ended in order"


def test_what_cannot_be_read_of_a_directory_is_left_out(tmp_path):
    path = tmp_path / "DIR"
    fly(Churning(0.5), path, 100)
    whole = seconds(replay(path))
    (path / "part-99999999").touch()
    assert seconds(replay(path)) == whole, "the next part, which has just been made"
    (path / "part-99999999").unlink()
    names = parts(path)
    (path / names[3]).write_bytes(b"x" * 4096)
    begin_s, end_s = seconds(replay(path))
    assert end_s == whole[1] and whole[0] < begin_s < end_s, "what is older does not lead here any more"
    for name in names:
        (path / name).write_bytes(b"x" * 4096)
    with pytest.raises(Unreadable, match=f"{names[-1]} is no recording of ctobserve"):
        replay(path)
    for name in names:
        (path / name).unlink()
    with pytest.raises(Unreadable, match="DIR: is a directory without a recording"):
        replay(path)


def test_a_directory_that_is_not_ours_alone_is_refused(tmp_path):
    for name, make, says in (
        ("open", lambda path: path.mkdir(mode=0o700) or path.chmod(0o777), "others can write there"),
        ("file", lambda path: path.touch(), "file exists"),
        ("link", lambda path: path.symlink_to(tmp_path), "not a directory"),
    ):
        make(tmp_path / name)
        with pytest.raises(UsageError, match=f"{name}: {says}; give a directory that only you can write to"):
            fly(Churning(), tmp_path / name, 1)
    fly(Churning(), tmp_path / "mine", 1)
    with closing(Parts(tmp_path / "mine", 32 * MIB, 4)), pytest.raises(UsageError, match="in use by another recorder"):
        fly(Churning(), tmp_path / "mine", 1)


def test_on_a_full_disk_it_goes_on_when_there_is_room_again(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
    try:
        made, said, other = Churning(0.5), [], disk / "other"

        def filled() -> None:
            if made.passed_s() >= 60:
                other.unlink(missing_ok=True)
            elif made.passed_s() >= 20:
                with suppress(OSError), other.open("ab", 0) as file:
                    while True:
                        file.write(bytes(4096))

        made.each_step = filled
        found = fly(made, disk / "DIR", 100, say=said.append)
        assert found.unwritten > 100 and len(said) == 2 and "there is room again" in said[1]
        whole = replay(disk / "DIR")
        assert whole.finished and whole.fidelity().lost.get("unwritten", 0) <= found.unwritten
        assert_same_table(whole, made)
        whole._reader.close()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_days_take_no_more_disk_and_memory_than_hours(tmp_path):
    """A step is a minute: a keyframe and a commit, and every other one makes a new part."""
    path, samples = tmp_path / "DIR", []
    flight_s = DAYS * 86_400
    made = Churning(60, floods=np.arange(1800, flight_s, 3600).tolist())
    losses = np.arange(900, flight_s, 1800).tolist()
    made.happens = {at: lost() for at in losses}

    def sample() -> None:
        if made.passed_s() % 600 < 60:
            gc.collect()  # which also empties the lists of free tuples, of which Python keeps thousands
            samples.append((made.passed_s(), disk_bytes(path), tracemalloc.get_traced_memory()[0]))

    made.each_step = sample
    tracemalloc.start()
    fly(made, path, flight_s, ON_DROP, keep_s=900, after_s=60)
    tracemalloc.stop()
    # From when on as many incidents are kept as may be.
    settled = [one for one in samples if one[0] > losses[4]]
    early, late = (settled[: len(settled) // 2], settled[len(settled) // 2 :])
    for at in (1, 2):
        assert max(one[at] for one in late) <= 1.1 * max(one[at] for one in early), (early, late)
    assert max(one[1] for one in samples) < 32 * MIB
    assert len(incidents(path)) == 4
    assert all("table_full" in verdicts(path / name) for name in incidents(path))
    assert seconds(replay(path))[1] - seconds(replay(path))[0] <= 900 * 9 / 8 + 120


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Runs `record` on a made capture in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGUSR1)

    def start(capture: ScriptedCapture, words: str) -> tuple[int, str, str]:
        @contextmanager
        def opened(request: Request, _purpose: Purpose, **_how: bool) -> Iterator[tuple[ScriptedCapture, Stretch]]:
            capture.follow()
            yield capture, Stretch(request.duration)

        monkeypatch.setattr("ctobserve.commands.record.opened", opened)
        return run(monkeypatch, capsys, "record", *words.split())

    yield start
    signal.signal(signal.SIGUSR1, before)


def test_the_command_says_what_it_keeps_as_text_and_as_json(typed):
    made = Churning(0.5)
    made.happens = {50: lost()}
    code, out, err = typed(made, "DIR --duration 100 --keep 60s --after 5s --on drop --on fill>=90%")
    first, second = out.splitlines()
    assert code == 0 and re.fullmatch(r"DIR: the last 6\d s, of \d+ events, the table \d+ times; \d+ bytes compressed", first)
    assert second == "DIR/incident-20231114T221410Z-drop"
    assert "ctobserve: kept DIR/incident-20231114T221410Z-drop: drop\n" in err
    code, out, _ = typed(Churning(0.5), "DIR --duration 100 --keep 60s --json")
    said = json.loads(out)
    assert code == 0 and said["incidents"] == ["incident-20231114T221410Z-drop"] and 60 <= said["held_s"] < 70


def test_sigusr1_keeps_an_incident(typed):
    made = Churning(0.5)
    made.each_step = lambda: os.kill(os.getpid(), signal.SIGUSR1) if made.passed_s() == 50 else None
    assert typed(made, "DIR --duration 100 --keep 60s --after 5s")[0] == 0
    assert incidents(Path("DIR")) == ["incident-20231114T221410Z-asked"]


def test_commands_read_the_directory(typed, monkeypatch, capsys):
    made = Churning(0.5)
    made.happens = {90: lost()}
    typed(made, "DIR --duration 100 --keep 60s")
    for words, says in (
        ("report", "table_full"),
        ("drops --since -15s", "table_full"),
        ("list --at -20s", "NETNS"),
        ("verify", "EQUAL"),
        ("list --netns blue", "NETNS"),
    ):
        code, out, err = run(monkeypatch, capsys, *words.split(), "--from", "DIR")
        assert code == 0 and says in out, (words, out, err)
    for words, says in (
        ("diff DIR --since -30s", "entries"),
        ("anonymise DIR OUT", "OUT"),
        ("report --from OUT", "table_full"),
    ):
        code, out, err = run(monkeypatch, capsys, *words.split())
        assert code == 0 and says in out, (words, out, err)
    there, shared = report_of("DIR"), report_of("OUT")
    assert [row.id for row in there.verdicts] == [row.id for row in shared.verdicts]
    assert (there.meta.events_seen, there.meta.events_lost) == (shared.meta.events_seen, shared.meta.events_lost)


def test_what_is_different_since_a_time_that_the_directory_still_has(typed, monkeypatch, capsys):
    typed(Churning(0.5, readings=[reading(), *(reading(drop=count) for count in range(99))]), "DIR --duration 100 --keep 60s")
    at = [len(table_at(Path("DIR"), before_s)) for before_s in (20, 0)]
    code, out, err = run(monkeypatch, capsys, "diff", "DIR", "--since", "-20s", "--by", "dport")
    found = re.search(r"^entries   (\d+) -> (\d+): \d+ came, \d+ went, \d+ stayed$", out, re.M)
    assert (code, err) == (0, "") and found and [int(count) for count in found.groups()] == at
    assert re.search(r"^counters  drop \+\d+ from ", out, re.M)


def table_at(path: Path, before_s: int) -> Entries:
    at_ns = replay(path).end_ns - before_s * NS_PER_S
    return replay(path, at_ns, at_ns).table.entries()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("DIR --on drop", "--on is of a flight recorder; give it --keep TIME too"),
        ("DIR --max-size 64MiB", "--max-size is of a flight recorder"),
        ("DIR --after 5s", "--after is of a flight recorder"),
        ("DIR --max-incidents 3", "--max-incidents is of a flight recorder"),
        ("DIR --keep 5s", "'5s' is no time from 10s to 7d; write it like 90s, 15m or 2h"),
        ("DIR --keep 900", "'900' is no time"),
        ("DIR --keep 8d", "'8d' is no time"),
        ("DIR --keep 15m --max-size 31MiB", "'31MiB' is no size from 32MiB on; write it like 256MiB or 2GiB"),
        ("DIR --keep 15m --max-size 64", "'64' is no size"),
        ("DIR --keep 15m --on drops", "'drops' is none of drop, early_drop, 'fill>=90%', verdict:ID"),
        ("DIR --keep 15m --on fill>=101%", "is none of drop"),
        ("DIR --keep 15m --on fill>=0%", "is none of drop"),
        ("DIR --keep 15m --on verdict:tabel_full", "names no verdict of the report; there are table_full"),
        ("DIR --keep 15m --on verdict:qqq", "names no verdict of the report; docs/json.md lists them under Rules"),
    ],
)
def test_what_cannot_be_is_one_line_and_makes_nothing(typed, words, says):
    code, out, err = typed(Churning(), words)
    assert code == 2 and not out and says in err and err.count("\n") == 1
    assert os.listdir(".") == []


def test_every_rule_of_the_report_can_be_waited_for():
    assert [CONDITION.convert(f"verdict:{rule.id}", None, None).verdicts for rule in RULES] == [(rule.id,) for rule in RULES]
    assert INCIDENT.fullmatch("incident-20231114T221410Z-verdict-table_full-2")
    for name in (f"verdict-{rule.id}" for rule in RULES):
        assert INCIDENT.fullmatch(f"incident-20231114T221410Z-{name}") and shlex.quote(name) == name


def test_whatever_lies_in_a_directory_is_read_or_one_line_says_why_not(tmp_path):
    fly(Churning(0.5), tmp_path / "DIR", 40, keep_s=20)
    files = {name: (tmp_path / "DIR" / name).read_bytes() for name in parts(tmp_path / "DIR")}
    some, read = Random("directory"), 0
    for number in range(MUTATIONS):
        path = tmp_path / str(number)
        path.mkdir()
        names = sorted(files)
        for name in names:
            content = bytearray(files[some.choice(names)] if some.random() < 0.1 else files[name])
            for _ in range(some.choice((0, 0, 1, 9))):
                content[some.randrange(len(content))] = some.randrange(256)
            (path / name).write_bytes(content[: some.randrange(len(content))] if some.random() < 0.05 else content)
        try:
            with closing(opened(path)) as reader:
                found = RecordedCapture(reader, EVERYTHING)
                report.collect(found, Request(), Stretch(), invalid=True)
                read += 1
        except CtobserveError as error:
            assert str(error).isprintable()
    assert read > MUTATIONS / 2


def test_who_reads_the_directory_is_not_waited_for(tmp_path):
    made, readers, slowest, before = Churning(0.5), [], [], [time.monotonic()]

    def reads() -> None:
        now = time.monotonic()
        slowest.append(now - before[0])
        before[0] = now
        if made.passed_s() % 5 == 0:
            readers.append(opened(tmp_path / "DIR"))
            next(readers[-1].events(0))

    made.each_step = reads
    made.happens = {30: lost()}
    fly(made, tmp_path / "DIR", 60, ON_DROP)
    assert max(slowest) < 4, "SQLite's own patience is 5 s"
    assert len(readers) == 12 and all(reader.complaint is None for reader in readers)
    assert incidents(tmp_path / "DIR") and seconds(replay(tmp_path / "DIR"))[1] == 60
    for reader in readers:
        reader.close()
