from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctobserve.netns import Namespace, container_of, discover

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", "0123456789ab"),
        (f"12:pids:/docker/{ID}\n0::/\n", "0123456789ab"),
        (f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-pod1_2.slice/cri-containerd-{ID}.scope\n", "0123456789ab"),
        (f"0::/machine.slice/libpod-{ID}.scope/container\n", "0123456789ab"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", None),
        ("0::/\n", None),
    ],
)
def test_the_container_of_a_process(cgroup, container):
    assert container_of(cgroup) == container


def test_labels():
    path, own = Path("/proc/self/ns/net"), os.getpid()
    assert Namespace(7, path, ["blue", "green"], pid=own).label == "blue"
    assert Namespace(7, path, init=True, pid=1).label == "init"
    assert Namespace(7, path).label == "7"
    comm = Path(f"/proc/{own}/comm").read_text().strip()
    assert Namespace(7, path, pid=own).label in (
        f"{comm}[{own}]",
        f"{comm}@{container_of(Path('/proc/self/cgroup').read_text())}",
    )
    assert Namespace(7, path, pid=4_999_999).label == "7", "gone meanwhile"


def test_our_own_namespace_is_among_those_there_are():
    assert os.stat("/proc/self/ns/net").st_ino in discover()
