"""Files we make: only where nothing is, whatever others put there; and the ready file, the one that users name."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ctobserve.commands import ready
from ctobserve.errors import CtobserveError, ExitStatus, UsageError
from ctobserve.host import files


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("target"))


def link_to_empty(path: Path) -> None:
    path.with_name("empty").touch()
    path.symlink_to(path.with_name("empty"))


def full(path: Path) -> None:
    path.write_text("of somebody")


OBSTACLES = [dangling, link_to_empty, full, Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/null")]
NAMES = ["dangling link", "link", "full", "directory", "fifo", "link to device"]


def listing(directory: Path) -> list[tuple[str, int, bytes]]:
    return [
        (path.name, path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in sorted(directory.iterdir())
    ]


@pytest.mark.parametrize("put", OBSTACLES, ids=NAMES)
def test_a_ready_file_is_made_nowhere_else_and_in_nothings_place(tmp_path, put):
    path = tmp_path / "ready"
    put(path)
    before = listing(tmp_path)
    with pytest.raises(UsageError, match=r"ready exists and is not an empty file"):
        ready.withdraw(path)
    # Somebody was quicker: it was not there at the start.
    with pytest.raises(CtobserveError, match="somebody made it") as failed:
        ready.announce(path)
    assert failed.value.exit_status is ExitStatus.FAILURE
    assert listing(tmp_path) == before


def test_the_command_refuses_a_dangling_link_in_one_line(tmp_path):
    dangling(tmp_path / "ready")
    command = [sys.executable, "-m", "ctobserve", "list", "--duration", "0", "--ready-file", tmp_path / "ready"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == ExitStatus.USAGE and result.stdout == ""
    assert result.stderr.startswith("ctobserve: --ready-file ") and result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def test_a_device_is_no_ready_file():
    with pytest.raises(UsageError, match="not an empty file"):
        ready.withdraw(Path("/dev/null"))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_what_an_earlier_run_left_goes_and_ours_is_for_us_alone(tmp_path):
    path = tmp_path / "ready"
    path.touch()
    ready.withdraw(path)
    assert list(tmp_path.iterdir()) == [], "nor does trying leave anything"
    before = os.umask(0)
    try:
        ready.announce(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.stat().st_size == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("r" * 300, "file name too long"),
        ("nul\0byte", "null byte"),
        ("missing/ready", "there is no directory"),
        ("\x1b[2J\n/ready", r"there is no directory .*\\x1b\[2J\\x0a"),
        ("/proc/ready", "give a path where a file can be created"),
        ("/proc/version/ready", "there is no directory /proc/version"),
        ("/", "not an empty file"),
        (".", "not an empty file"),
        ("", "not an empty file"),
    ],
)
def test_where_none_can_be_made_is_said_at_the_start_in_one_line(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says) as refused:
        ready.withdraw(Path(name))
    assert "\n" not in str(refused.value) and "\x1b" not in str(refused.value)


def test_a_directory_that_went_away_is_one_line(tmp_path):
    with pytest.raises(CtobserveError, match="could be made when we began, not now: no such file or directory") as failed:
        ready.announce(tmp_path / "gone" / "ready")
    assert failed.value.exit_status is ExitStatus.FAILURE


@pytest.mark.parametrize("put", OBSTACLES, ids=NAMES)
def test_nothing_is_read_that_others_may_have_written(tmp_path, put):
    put(tmp_path / "file")
    if put is full:
        (tmp_path / "file").chmod(0o620)
    with files.directory(tmp_path) as within, pytest.raises(OSError):
        files.read("file", within, 100)


def test_a_file_of_another_user_is_not_read(tmp_path):
    assert os.geteuid() == 0, "only root can make a file of another user: run the tests as root"
    full(tmp_path / "file")
    with files.directory(tmp_path) as within:
        assert files.read("file", within, 11) == b"of somebody"
        with pytest.raises(OSError, match="too long"):
            files.read("file", within, 10)
        os.chown(tmp_path / "file", 65534, 65534)
        with pytest.raises(PermissionError):
            files.read("file", within, 100)


@pytest.mark.parametrize("put", OBSTACLES, ids=NAMES)
def test_replacing_touches_nothing_but_the_name(tmp_path, put):
    put(tmp_path / "file")
    others = [row for row in listing(tmp_path) if row[0] != "file"]
    with files.directory(tmp_path) as within:
        if put is Path.mkdir:
            with pytest.raises(OSError):
                files.replace("file", within, b"ours")
        else:
            files.replace("file", within, b"ours")
            assert not (tmp_path / "file").is_symlink() and files.read("file", within, 100) == b"ours"
    assert [row for row in listing(tmp_path) if row[0] != "file"] == others
