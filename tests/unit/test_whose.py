"""Whose network namespaces are: by real processes in real namespaces and control groups of this host."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import pytest

from ctobserve.host import inhabitant
from ctobserve.host.inhabitant import hostnames, look
from ctobserve.host.netns import ASKED, Namespace, discover
from ctobserve.host.owner import HOST, Owner, OwnerKind
from ctobserve.host.whose import Whose, whose

UID, ID, OTHER = "7ba8a6f5-1f7a-4c1e-9d55-0c9b6f1c2d3e", "4fa6e0f0c678" + "0123" * 13, "9" * 64
# Where groups can be made: those of systemd, before those that only group, before cgroup v2 alone.
TREES = [Path("/sys/fs/cgroup") / name for name in ("systemd", "unified", "")]
Lives = Callable[..., int]


@pytest.fixture
def lives() -> Iterator[Lives]:
    """Starts a process: in this control group, in namespaces of its own (words of unshare) or in those of that process."""
    tree = next((one for one in TREES if (one / "cgroup.procs").exists() and os.access(one, os.W_OK)), None)
    if tree is None:
        pytest.skip("no control groups can be made here: /sys/fs/cgroup is not there or read-only")
    top = tree / f"ctobserve-{os.getpid()}"
    with ExitStack() as opened:
        opened.callback(lambda: [one.rmdir() for one in sorted(top.rglob("*/"), reverse=True)] and top.rmdir())

        def start(group: str, *options: str, into: int | None = None, script: str = ":") -> int:
            (top / group).mkdir(parents=True, exist_ok=True)
            enter = ["nsenter", "-t", str(into), "-n"] if into else ["unshare", "-n", *options]
            command = [*enter, "sh", "-c", f"echo $$ > '{top / group}/cgroup.procs' && {{ {script}; }} && exec cat"]
            process = opened.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert process.stdin and process.stdout
            # What comes back says that it is cat by now.
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"\n", "only root can make namespaces"
            return process.pid

        yield start


def owner_of(pid: int) -> Owner | None:
    """Of the namespace in which it is, found as a command finds it."""
    return whose(discover())[os.stat(f"/proc/{pid}/ns/net").st_ino].owner


def test_real_processes_say_whose_their_namespaces_are(lives):
    docker, payload, unit, nobody = (
        lives(group) for group in (f"docker/{ID}", "lxc.payload.web/init.scope", "system.slice/web.service", "plain")
    )
    spaces = discover()
    found = whose(spaces)
    of = {pid: found[os.stat(f"/proc/{pid}/ns/net").st_ino] for pid in (docker, payload, unit, nobody)}
    assert of == {
        docker: Whose(f"cat@{ID[:12]}", Owner(OwnerKind.CONTAINER, container=ID)),
        payload: Whose(f"cat[{payload}]", Owner(OwnerKind.MACHINE, "web")),
        unit: Whose(f"cat[{unit}]", Owner(OwnerKind.UNIT, "web.service")),
        nobody: Whose(f"cat[{nobody}]"),
    }
    assert {inum: one.label for inum, one in found.items()} == {inum: space.label for inum, space in spaces.items()}


def test_a_pod_is_called_by_its_hostname(lives, monkeypatch):
    """Where we may not look at the first process, ours stands for it: it has the host's UTS namespace."""
    monkeypatch.setattr(inhabitant, "FIRST", "/proc/self/ns/uts")
    ours = os.uname().nodename
    pod = lives(f"kubepods/pod{UID}/{ID}", "-u", script="hostname web-7d9c")
    assert owner_of(pod) == Owner(OwnerKind.POD, "web-7d9c", UID, ID)
    with_hosts = lives(f"kubepods/pod{UID.replace('7', '8')}/{ID}")
    assert owner_of(with_hosts) == Owner(OwnerKind.POD, None, UID.replace("7", "8"), ID), "the host's name is not the pod's"
    hostile = lives(
        f"kubepods/pod{UID.replace('7', '9')}/{ID}", "-u", script="printf '\\033[2J,a\\nb' > /proc/sys/kernel/hostname"
    )
    found = owner_of(hostile)
    assert found and found.name and found.name.startswith(r"\x1b[2J,a") and found.name.isprintable()
    assert os.uname().nodename == ours, "we are where we were"


def test_whose_hostname_it_is_cannot_be_told_without_the_hosts(lives, monkeypatch):
    monkeypatch.setattr(inhabitant, "FIRST", "/proc/0/ns/uts")
    pod = lives(f"kubepods/pod{UID}/{ID}", "-u", script="hostname web-7d9c")
    assert owner_of(pod) == Owner(OwnerKind.POD, None, UID, ID)


def test_containers_that_a_pod_makes_have_its_name_and_not_their_own(lives, monkeypatch):
    monkeypatch.setattr(inhabitant, "FIRST", "/proc/self/ns/uts")
    inner = lives(f"kubepods/pod{UID}/{ID}/docker/{OTHER}", "-u", script="hostname inner")
    assert owner_of(inner) == Owner(OwnerKind.POD, None, UID, ID), "nobody in the pod itself is to be asked"
    lives(f"kubepods/pod{UID}/{ID}", "-u", script="hostname web-7d9c")
    assert owner_of(inner) == Owner(OwnerKind.POD, "web-7d9c", UID, ID)


def test_a_service_that_entered_before_does_not_take_it_from_the_pod(lives):
    first = lives("system.slice/cni.service")
    assert owner_of(first) == Owner(OwnerKind.UNIT, "cni.service")
    lives("system.slice/debug.service", into=first)
    assert owner_of(first) == Owner(OwnerKind.UNIT, "cni.service"), "the first of those that are alike"
    lives(f"kubepods/pod{UID}/{ID}", into=first)
    found = owner_of(first)
    assert found and found.identity == ("pod", UID)


def test_no_more_than_a_few_processes_are_asked(lives):
    first = lives("plain")
    for _ in range(ASKED - 1):
        lives("plain", into=first)
    lives(f"docker/{ID}", into=first)
    assert len(discover()[os.stat(f"/proc/{first}/ns/net").st_ino].pids) == ASKED
    assert owner_of(first) is None


def test_the_first_namespace_is_the_hosts_and_a_name_alone_is_nobodys():
    spaces = {7: Namespace(7, Path("/nowhere"), init=True, pids=(1, os.getpid())), 8: Namespace(8, Path("/nowhere"), ["blue"])}
    assert whose(spaces) == {7: Whose("init", HOST), 8: Whose("blue")}


def test_a_process_that_ends_or_moves_meanwhile_says_nothing():
    here = os.stat("/proc/self/ns/net").st_ino
    assert look(4_999_999, here) is None and look(os.getpid(), here + 1) is None and look(os.getpid(), here)
    assert hostnames([(4_999_999, here), (os.getpid(), here + 1)]) == {}
    gone = Namespace(7, Path("/nowhere"), pids=(4_999_999, os.getpid()))
    assert whose({7: gone}) == {7: Whose("7")}


def calls_into_the_kernel(work: Callable[[], object]) -> Counter[str]:
    """How often it calls what of os and io enters the kernel, by name, in this thread and those that it makes."""
    counted: Counter[str] = Counter()

    def count(_frame: FrameType, event: str, called: object) -> None:
        if event == "c_call" and getattr(called, "__module__", None) in ("posix", "io", "_io"):
            counted[str(getattr(called, "__name__", None))] += 1

    threading.setprofile(count)
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return counted


@pytest.mark.parametrize("count", [10, 1000])
def test_each_namespace_costs_the_same_and_no_more_than_a_few_calls(count, lives, monkeypatch):
    """A thousand, in all of which the same processes live: making so many takes minutes, and costs who looks no more."""
    monkeypatch.setattr(inhabitant, "FIRST", "/proc/self/ns/uts")
    nobody, pod = lives("plain"), lives(f"kubepods/pod{UID}/{ID}", "-u", script="hostname web")
    for pid, reads in ((nobody, ASKED), (pod, 1)):
        inum = os.stat(f"/proc/{pid}/ns/net").st_ino
        spaces = {at: Namespace(inum, Path("/nowhere"), pids=(pid,) * ASKED) for at in range(count)}
        counted = calls_into_the_kernel(lambda spaces=spaces: whose(spaces))
        named = int(pid == pod)  # once for the pod, in however many namespaces it is
        assert counted["open"] == 2 * reads * count + named, counted
        assert counted["stat"] == reads * count + 2 * named, counted
