"""The image in a container, by crun, with what the DaemonSet grants it: that is enough, and what is missing is named."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ctobserve_lab.traffic import load
from ctobserve_lab.world import Net, Space
from tests.kernel.forms import has_fentry
from tests.kernel.tool import PATIENCE_S

CHECKOUT = Path(__file__).resolve().parents[2]
IMAGE = CHECKOUT / ".lab/image"
# What runtimes hide of /proc and /sys, and what they let nobody write, unless a pod is privileged.
MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"]
# crun takes one kind of control groups, not both at once as where nothing manages them.
CGROUP = 'umount /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"'
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def daemonset() -> dict[str, Any]:
    objects = yaml.safe_load_all((CHECKOUT / "deploy/kubernetes/daemonset.yaml").read_text())
    (found,) = [one for one in objects if one["kind"] == "DaemonSet"]
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def granted() -> list[str]:
    (container,) = daemonset()["containers"]
    return [f"CAP_{name}" for name in container["securityContext"]["capabilities"]["add"]]


def configuration(pod: Space, capabilities: Collection[str], words: list[str]) -> dict[str, Any]:
    """An OCI configuration as a kubelet's runtime makes it of the DaemonSet; its seccomp profile is not in it."""
    spec = daemonset()
    (container,) = spec["containers"]
    security = container["securityContext"]
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"]}
    mounts = [
        {
            "destination": mount["mountPath"],
            "source": paths[mount["name"]],
            "type": "bind",
            "options": ["rbind", "ro" if mount["readOnly"] else "rw", "rslave"],
        }
        for mount in container["volumeMounts"]
    ]
    dockerfile = (CHECKOUT / "deploy/container/Dockerfile").read_text()
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.M)
    namespaces = [{"type": kind} for kind in ("mount", "ipc", "uts")]
    assert spec["hostPID"] and "hostNetwork" not in spec
    return {
        "ociVersion": "1.0.0",
        "root": {"path": str(IMAGE), "readonly": security["readOnlyRootFilesystem"]},
        "process": {
            "user": {"uid": security["runAsUser"], "gid": security["runAsGroup"]},
            "args": [*json.loads(entrypoint), *words],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", *re.findall(r"^ENV (.*)$", dockerfile, re.M)],
            "cwd": "/",
            "noNewPrivileges": not security["allowPrivilegeEscalation"],
            "capabilities": {kind: list(capabilities) for kind in ("bounding", "effective", "permitted")},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            *mounts,
        ],
        "linux": {
            "namespaces": [*namespaces, {"type": "network", "path": str(pod.path)}],
            # As runtimes set it for a mount with HostToContainer.
            "rootfsPropagation": "rslave",
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    }


@contextmanager
def contained(directory: Path, configured: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """The container while it runs; what it says is in the file `said`."""
    assert IMAGE.joinpath("etc/ctobserve-image").exists(), "no root of the image in .lab/image; try: make container"
    (directory / "config.json").write_text(json.dumps(configured))

    def crun(*words: str) -> list[str]:
        own = ("crun", "--root", str(directory / "state"), "--cgroup-manager=disabled")
        return ["unshare", "--mount", "--propagation", "slave", "sh", "-euc", CGROUP, "sh", *own, *words]

    with (directory / "said").open("w") as said:
        run = crun("run", "--bundle", str(directory), "tested")
        running = subprocess.Popen(run, stdin=subprocess.DEVNULL, stdout=said, stderr=said, text=True)
    try:
        yield running
        subprocess.run(crun("kill", "tested", "TERM"), check=False, capture_output=True)
        running.wait(60)
    finally:
        subprocess.run(crun("delete", "--force", "tested"), check=False, capture_output=True)
        running.kill()
        running.wait()


def scraped(pod: Space) -> str:
    """Empty while nobody answers."""

    def ask() -> str:
        with urllib.request.urlopen("http://127.0.0.1:9877/metrics", timeout=60) as answer:
            return str(answer.read().decode())

    try:
        return pod.inside(ask)
    except OSError:
        return ""


@pytest.fixture
def pod(net: Net) -> Space:
    return net.space("pod")


def test_what_the_daemonset_grants_is_enough(net, pod, tmp_path):
    other = net.space("other")
    load(other, 83)
    (container,) = daemonset()["containers"]
    with contained(tmp_path, configuration(pod, granted(), container["args"])) as running:
        wanted = rf'^ctobserve_entries{{netns="{other.name}"}} 83'
        end = time.monotonic() + PATIENCE_S
        while not re.search(wanted, said := scraped(pod), re.M):
            assert running.poll() is None and time.monotonic() < end, said + (tmp_path / "said").read_text()
            time.sleep(1)
        form = "fentry" if has_fentry() else "kprobe"
        assert re.search(rf'^ctobserve_build_info{{.*attach="{form}"', said, re.M)
        assert re.search(r'^ctobserve_entries_limit{netns="init"} [1-9]', said, re.M), "which namespace is the node's own"
        late = net.space("late")
        load(late, 13)
        end = time.monotonic() + PATIENCE_S
        while f'netns="{late.name}"' not in scraped(pod):
            assert time.monotonic() < end, "a name that was given later is not seen"
            time.sleep(1)
    assert running.returncode == 0, (tmp_path / "said").read_text()


def test_without_one_of_them_it_says_which(pod, tmp_path):
    rest = [name for name in granted() if name != "CAP_SYSLOG"]
    with contained(tmp_path, configuration(pod, rest, ["list"])) as running:
        running.wait(PATIENCE_S)
    assert running.returncode == 4 and "CAP_SYSLOG is missing" in (tmp_path / "said").read_text()
