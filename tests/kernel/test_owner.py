"""Whose namespaces are, told by every command that says it: pods, a container and a service, made as kubelet and runtimes do."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ctobserve_lab.traffic import open_tcp, send_udp
from ctobserve_lab.world import Net, Space, run
from tests.kernel.tool import CTOBSERVE

UIDS = ("7ba8a6f5-1f7a-4c1e-9d55-0c9b6f1c2d3e", "0d2f1c9e-5a6b-4c7d-8e9f-001122334455")
IDS = tuple(digit * 64 for digit in "abc")
FULL = 23
Lives = Callable[..., Space]


def slice_of(pod: int) -> str:
    """As kubelet and containerd make it with systemd's driver."""
    name = f"kubepods-burstable-pod{UIDS[pod].replace('-', '_')}.slice"
    return f"kubepods.slice/kubepods-burstable.slice/{name}/cri-containerd-{IDS[pod]}.scope"


@pytest.fixture
def lives(net: Net, tmp_path: Path) -> Iterator[Lives]:
    """A namespace, and a process in it: in the control group of that path, with that hostname."""
    groups = tmp_path / "cgroup"
    groups.mkdir()
    run("mount", "-t", "cgroup2", "cgroup2", str(groups))
    started: list[tuple[subprocess.Popen[str], Path]] = []

    def start(name: str, group: str, hostname: str | None = None) -> Space:
        space = net.space(name)
        if hostname is None:
            space.keep("sh", "-c", "echo; exec sleep inf")
        else:
            space.keep("unshare", "--uts", "sh", "-c", f"echo {hostname} > /proc/sys/kernel/hostname; echo; exec sleep inf")
        path = groups / group
        path.mkdir(parents=True)
        (path / "cgroup.procs").write_text(str(space.programs[-1].pid))
        started.append((space.programs[-1], path))
        return space

    yield start
    for program, path in started:
        program.kill()
        program.wait()
        for one in (path, *path.parents):
            if one == groups or any(inner.is_dir() for inner in one.iterdir()):
                break
            one.rmdir()
    run("umount", str(groups))


def test_every_command_says_whose_namespaces_are(lives, net, report, start, sysctl, tmp_path):
    """Two pods of one name, as StatefulSets of two namespaces of Kubernetes have them."""
    web, db = (lives(f"pod{pod}", slice_of(pod), "web-0") for pod in (0, 1))
    ctr, svc = lives("ctr", f"system.slice/docker-{IDS[2]}.scope"), lives("svc", "system.slice/web.service")
    plain = net.space("plain")
    open_tcp(web, web, "127.0.0.1", 4040, 7)
    sent = {db: 41, ctr: 43, svc: 47, plain: 53}
    for space, count in sent.items():
        assert send_udp(space, count) == 0
    owners = {web: "pod/web-0", db: "pod/web-0", ctr: f"container/{'c' * 12}", svc: "web.service", plain: None}
    counts = {(space.inum, owners[space]): space.count() for space in owners}

    listed = report("list")
    assert Counter((row["netns"], row["owner"]) for row in listed["entries"] if (row["netns"], row["owner"]) in counts) == counts
    assert {row["owner"] for row in listed["entries"] if row["netns"] == listed_init(listed)} <= {"host"}
    told = {space: listed["meta"]["netns_owners"][str(space.inum)] for space in owners}
    assert told == {
        web: owner("pod/web-0", "pod", "web-0", UIDS[0], IDS[0]),
        db: owner("pod/web-0", "pod", "web-0", UIDS[1], IDS[1]),
        ctr: owner(f"container/{'c' * 12}", "container", container=IDS[2]),
        svc: owner("web.service", "unit", "web.service"),
        plain: None,
    }
    text = run(*CTOBSERVE, "list")
    heading, *lines = text.splitlines()
    assert heading.split()[:3] == ["NETNS", "OWNER", "PROTO"]
    assert Counter(tuple(line.split()[:2]) for line in lines if line.startswith(web.name)) == {(web.name, "pod/web-0"): 7}
    assert {line.split()[1] for line in lines if line.startswith(plain.name)} == {"-"}

    (frame,) = (
        json.loads(line) for line in run(*CTOBSERVE, "top", "--json", "--by", "owner", "--duration", "0.5").splitlines()[-1:]
    )
    groups = [(group["values"], group["entries"]) for group in frame["groups"]]
    assert groups[0][0] in ([None], ["host"]) or groups[0] == (["web.service"], 47)
    for wanted in ((["web.service"], 47), ([f"container/{'c' * 12}"], 43), (["pod/web-0"], 41), (["pod/web-0"], 7)):
        assert wanted in groups, groups
    assert {frame["owner_by_netns"][str(space.inum)] for space in (web, db)} == {"pod/web-0"}

    recording = start("record", str(tmp_path / "FILE"))
    drops, spoken = start("drops", "--json"), start("drops")
    sysctl("nf_conntrack_max", web.count())
    assert send_udp(web, FULL) == FULL
    lost = [row for row in json.loads(drops.end())["drops"] if row["event"] == "drop" and row["netns"] == web.inum]
    assert [(row["reason"], row["owner"]) for row in lost] == [("table_full", "pod/web-0")] * FULL
    said = spoken.end()
    assert said.count(" reason=table_full") == said.count(" owner=pod/web-0 ") == FULL
    assert f"{web.name} (pod/web-0): table_full {FULL}" in said

    judged = start("report", "--json", "--no-invalid", "--duration", "600")
    assert send_udp(web, FULL, first_port=20_000) == FULL
    verdicts = {row["id"]: row for row in json.loads(judged.end())["verdicts"]}
    assert verdicts["table_full"]["evidence"]["netns"] == web.inum and verdicts["table_full"]["owner"] == "pod/web-0"

    # Who owned it is known of a recording when there is neither the pod nor its namespace any more.
    then = datetime.now(UTC).strftime("%H:%M:%S")
    web.programs[-1].kill()
    web.programs[-1].wait()
    recording.end()
    replayed = report("list", "--from", str(tmp_path / "FILE"), "--at", then)
    assert Counter(row["owner"] for row in replayed["entries"] if row["netns"] == web.inum) == {"pod/web-0": 7}
    assert report("list")["meta"]["netns_owners"][str(web.inum)] is None, "now only its name holds it"


def owner(label: str, kind: str, name: str | None = None, pod_uid: str | None = None, container: str | None = None) -> Any:
    return {"owner": label, "kind": kind, "name": name, "pod_uid": pod_uid, "container": container}


def listed_init(listed: Any) -> int:
    """The first namespace, which is the host's."""
    return next(int(inum) for inum, name in listed["meta"]["netns_names"].items() if name == "init")
