"""What is left of a flight whose recorder was killed, whose disk was full, whose directory holds what is not of it.

CTOBSERVE_KILLS says how often a recorder is killed, CTOBSERVE_MUTATIONS how many directories are tried, at 25 files each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest

from ctobserve.capture.recorded import RecordedCapture
from ctobserve.capture.store.container import Unreadable
from ctobserve.capture.store.joined import opened
from ctobserve.capture.store.parts import PARTIAL, Parts
from ctobserve.capture.store.reader import Reader
from ctobserve.capture.store.writer import NotWritten
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import NS_PER_S
from ctobserve.documents import report
from ctobserve.documents.request import Request
from ctobserve.errors import CtobserveError, UsageError
from ctobserve.model import join
from tests.scripted import ScriptedCapture
from tests.unit.flights import MIB, Churning, fly, lost
from tests.unit.recordings import EVERYTHING
from tests.unit.tables import entries
from tests.unit.test_flight import ON_DROP, assert_same_table, incidents, parts, replay, seconds

KILLS = int(os.environ.get("CTOBSERVE_KILLS", "5"))
MUTATIONS = int(os.environ.get("CTOBSERVE_MUTATIONS", "1500")) // 25


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
    newest = (path / names[-1]).read_bytes()
    (path / names[-1]).write_bytes(b"x" * len(newest))
    with closing(opened(path)) as reader:
        assert reader.damaged == 0, "it may have been made just now"
    os.utime(path / names[-1], (1, 1))
    with closing(opened(path)) as reader:
        assert reader.damaged == 1 and names[-1] in (reader.complaint or "")
        assert RecordedCapture(reader, EVERYTHING).end_ns < whole[1] * NS_PER_S + RecordedCapture(reader, EVERYTHING).begin_ns
        judged = report.collect(RecordedCapture(reader, EVERYTHING), Request(), Stretch(), invalid=True)
        assert "records_lost" in [row.id for row in judged.verdicts], "the last minutes are missing, and that is said"
    (path / names[-1]).write_bytes(newest)
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
