from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ctobserve.errors import CtobserveError, UsageError
from ctobserve.host import netns
from ctobserve.host.inhabitant import Inhabitant
from ctobserve.host.netns import HERE, Namespace, called, discover
from ctobserve.host.owner import Owner, OwnerKind, Told
from ctobserve.host.threads import elsewhere

ID = "0123456789abcdef" * 4


def test_labels():
    path, own = Path("/proc/self/ns/net"), os.getpid()
    assert Namespace(7, path, ["blue", "green"], pids=(own,)).label == "blue"
    assert Namespace(7, path, init=True, pids=(1,)).label == "init"
    assert Namespace(7, path).label == "7"
    comm = Path(f"/proc/{own}/comm").read_text().strip()
    assert Namespace(path.stat().st_ino, path, pids=(own,)).label.startswith((f"{comm}[{own}]", f"{comm}@"))
    told = Told(Owner(OwnerKind.CONTAINER, container=ID))
    assert called(Namespace(7, path, pids=(5,)), Inhabitant(5, "nginx", told)) == "nginx@0123456789ab"
    assert called(Namespace(7, path, pids=(5,)), Inhabitant(5, "nginx", None)) == "nginx[5]"
    assert Namespace(7, path, pids=(4_999_999,)).label == "7", "gone meanwhile"
    assert Namespace(7, path, pids=(own,)).label == "7", "its first process lives elsewhere by now"


COMM = "import ctypes, sys; ctypes.CDLL(None).prctl(15, {!r}); sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()"


@pytest.mark.parametrize(
    ("comm", "shown"),
    [
        (b"\xff\xfe", r"\xff\xfe"),
        (b";reboot;#", ";reboot;#"),
        (b"\x1b[2J", r"\x1b[2J"),
        (b"a\nHEALTHY", r"a\x0aHEALTHY"),
        (b"new\n", r"new\x0a"),
        ("ü".encode(), "ü"),
    ],
)
def test_the_name_of_a_process_is_shown_and_does_nothing_else(comm, shown):
    with subprocess.Popen([sys.executable, "-c", COMM.format(comm)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.read(1) == b"."
        path = Path(f"/proc/{process.pid}/ns/net")
        label = Namespace(path.stat().st_ino, path, pids=(process.pid,)).label
        assert label.startswith(shown) and label.isprintable()


@pytest.mark.parametrize("name", ["\udcff", "\x1b[2J", "two\nlines", "x" * 255])
def test_a_name_that_root_gave_is_shown_and_does_nothing_else(name):
    label = Namespace(7, Path("/proc/self/ns/net"), [name]).label
    assert label.isprintable() and len(label) <= 64


def spaces(**labels: str) -> dict[int, Namespace]:
    return {int(inum[1:]): Namespace(int(inum[1:]), Path("/nowhere"), [label]) for inum, label in labels.items()}


def test_a_namespace_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(netns, "discover", lambda: spaces(_4026531840="blue", _4026532001="green"))
    assert netns.resolve("all") is None
    assert netns.resolve("4026532001") == 4026532001
    assert netns.resolve("blue") == 4026531840
    for choice in ("999999", "0", "²", "\uff11\uff12", "4026532001 ", "-1", "9" * 5000, "red", "", "\x1b[2J", "\udcff"):
        with pytest.raises(UsageError, match="there are: blue, green") as refused:
            netns.resolve(choice)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 300


def test_a_refusal_does_not_list_a_thousand_namespaces(monkeypatch):
    monkeypatch.setattr(netns, "discover", lambda: spaces(**{f"_{inum}": f"n{inum}" for inum in range(1000)}))
    with pytest.raises(UsageError, match="and 980 more"):
        netns.resolve("red")


def test_a_label_that_several_have_chooses_none_and_a_name_comes_first(monkeypatch):
    there = {
        inum: Namespace(inum, Path("/nowhere"), [name]) for inum, name in ((7, "blue"), (8, "twin"), (9, "twin"), (10, "44"))
    }
    there[11] = Namespace(11, Path("/nowhere"), pids=(4_999_999,))
    monkeypatch.setattr(netns, "discover", lambda: there)
    with pytest.raises(UsageError, match=r"several network namespaces are called twin; .*: 8, 9"):
        netns.resolve("twin")
    assert netns.resolve("44") == 10, "a name of digits"
    assert netns.resolve("11") == 11


def test_a_path_that_leads_to_another_namespace_by_now_is_not_taken():
    """As when a process has ended and its number is another's, or when it has moved to a namespace of its own."""
    entered: list[int] = []
    with pytest.raises(CtobserveError, match="cannot look into network namespace 7"):
        netns.run_inside(Namespace(7, Path("/proc/self/ns/net")), lambda: entered.append(1))
    assert entered == []


@pytest.fixture
def three_spaces() -> Iterator[list[Namespace]]:
    """Namespaces that a process each holds."""
    with ExitStack() as opened:
        held = []
        for _ in range(3):
            command = ["unshare", "-n", "sh", "-c", "echo; exec cat"]
            process = opened.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert process.stdout and process.stdout.readline() == b"\n", "only root can make network namespaces"
            path = Path(f"/proc/{process.pid}/ns/net")
            held.append(Namespace(path.stat().st_ino, path, pids=(process.pid,)))
        yield held


def test_each_namespace_is_asked_inside_by_one_thread_and_ours_where_we_are(three_spaces):
    ours = Namespace(HERE.stat().st_ino, Path("/nowhere"))
    gone = Namespace(7, Path("/nowhere"))
    threads = set()

    def ask(space: Namespace) -> int:
        threads.add(threading.get_ident())
        if space == three_spaces[1]:
            raise CtobserveError("it says nothing")
        return HERE.stat().st_ino

    given, failed = netns.inside_each([*three_spaces, gone, ours], ask)
    assert given == {inum: inum for inum in (three_spaces[0].inum, three_spaces[2].inum, ours.inum)}
    assert {inum: str(error) for inum, error in failed.items()} == {
        7: "cannot look into network namespace 7: No such file or directory",
        three_spaces[1].inum: "it says nothing",
    }
    assert len(threads) == 1 and threading.get_ident() not in threads
    assert HERE.stat().st_ino == ours.inum, "we are where we were"


def test_a_plain_file_is_no_namespace(tmp_path, monkeypatch):
    (tmp_path / "left-over").touch()
    monkeypatch.setattr(netns, "NAMED", tmp_path)
    assert (tmp_path / "left-over").stat().st_ino not in discover()


def test_work_elsewhere_gives_its_result_or_its_exception_while_we_go_on():
    going, steps = threading.Event(), []

    def meanwhile() -> None:
        steps.append(1)
        if len(steps) == 3:
            going.set()

    assert elsewhere(lambda: going.wait(60), meanwhile, 0.001) is True
    assert len(steps) >= 3
    with pytest.raises(ZeroDivisionError):
        elsewhere(lambda: 1 // 0)


def test_our_own_namespace_is_among_those_there_are():
    assert os.stat("/proc/self/ns/net").st_ino in discover()
