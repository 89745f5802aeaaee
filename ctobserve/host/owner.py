"""Whose a process is, as its control groups say in the words of those who make them: kubelet, container runtimes, systemd."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from ctobserve.model import printable

SHORT = 12  # digits of a container's id, as `docker ps` and `crictl ps` have them
REMOVED = " (deleted)"  # what the kernel writes behind the path of a group that is no more
# kubepods-burstable-podUID.slice (systemd's driver; kind has kubelet- before it), podUID (cgroupfs); of static pods a hash.
_POD = re.compile(r"(?:[^/]*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?")
# docker-ID.scope, libpod-ID.scope, crio-ID.scope, cri-containerd-ID.scope, or ID; conmon only watches over one.
_CONTAINER = re.compile(r"(?![^/]*conmon)(?:[a-z0-9]+-)*([0-9a-f]{64})(?:\.scope)?")
_MACHINE = re.compile(r"(?:systemd-nspawn@(?P<nspawn>.+)\.service|machine-(?P<scope>.+)\.scope|lxc\.payload\.(?P<lxc>.+))")
_LXC = ("lxc", "lxc.payload")  # before version 4 the name follows as a group of its own
_UNIT = re.compile(r".+\.(?:service|scope)")
_ESCAPED = re.compile(r"\\x([0-7][0-9a-f])")


class OwnerKind(Enum):
    """What owns, those first that say most."""

    HOST = "host"
    POD = "pod"
    CONTAINER = "container"
    MACHINE = "machine"
    UNIT = "unit"


ORDER = tuple(OwnerKind)


class Owner(NamedTuple):
    """Who owns a process or a network namespace.

    `name` is what a pod calls itself (its hostname), what LXC or systemd-nspawn call their container, or that of a unit of
    systemd; `pod_uid` is kubelet's, `container` the whole id of the one that the process is in. None is what nobody says.
    """

    kind: OwnerKind
    name: str | None = None
    pod_uid: str | None = None
    container: str | None = None

    @property
    def label(self) -> str:
        """What text calls it: `host`, `pod/NAME`, or `pod/UID`, `container/ID` with 12 digits, `machine/NAME`, `NAME.service`."""
        if self.kind is OwnerKind.HOST:
            return "host"
        called: str = self.name or self.pod_uid or (self.container or "")[:SHORT]
        return called if self.kind is OwnerKind.UNIT else f"{self.kind.value}/{called}"

    @property
    def identity(self) -> tuple[str, str | None]:
        """The same of no other owner: pods of two namespaces of Kubernetes may have one name."""
        return self.kind.value, self.pod_uid or (self.container if self.kind is OwnerKind.CONTAINER else self.name)


HOST = Owner(OwnerKind.HOST)


class Told(NamedTuple):
    """Who owns a process. `nested`: it is in a container of that pod's own making, whose hostname says nothing of the pod."""

    owner: Owner
    nested: bool = False


def of_cgroups(text: str) -> Told | None:
    """Of a process by its /proc/PID/cgroup: a line `NUMBER:CONTROLLERS:PATH` for each hierarchy of cgroup v1, v2, or both.

    A pod is told before a container or machine, those before a unit of systemd, and of each the outermost: what lies deeper is
    made by those who live there. Of paths that lead out of our own cgroup namespace (/../x) the rest is as good.
    """
    found = [told for line in text.splitlines() if (told := _of_path(line.split(":", 2)[-1]))]
    return min(found, key=lambda told: ORDER.index(told.owner.kind), default=None)


def _of_path(path: str) -> Told | None:
    # A runtime that was not told of systemd's driver makes one group of SLICE:PREFIX:ID.
    parts = re.split("[/:]", path.removesuffix(REMOVED))
    pods = [(at, found[1]) for at, part in enumerate(parts) if (found := _POD.fullmatch(part))]
    if pods:
        at, uid = pods[0]
        inner = [found[1] for part in parts[at + 1 :] if (found := _CONTAINER.fullmatch(part))]
        whose = Owner(OwnerKind.POD, pod_uid=uid.replace("_", "-"), container=inner[0] if inner else None)
        return Told(whose, nested=len(inner) > 1)
    container = next((found[1] for part in parts if (found := _CONTAINER.fullmatch(part))), None)
    first = next(_owners(parts), None)
    return first and Told(first._replace(container=container))


def _owners(parts: list[str]) -> Iterator[Owner]:
    """Containers and machines from the outside, then units."""
    for before, part in zip(["", *parts], parts, strict=False):
        if _CONTAINER.fullmatch(part):
            yield Owner(OwnerKind.CONTAINER)
        elif name := _machine(before, part):
            yield Owner(OwnerKind.MACHINE, printable(name))
    yield from (Owner(OwnerKind.UNIT, printable(part)) for part in parts if _UNIT.fullmatch(part))


def _machine(before: str, part: str) -> str | None:
    """What LXC, systemd-nspawn or machined call it; the latter's scopes have its name as systemd escapes it."""
    if before in _LXC:
        return part
    found = _MACHINE.fullmatch(part)
    nspawn, scope, lxc = found.groups() if found else (None, None, None)
    return nspawn or lxc or (scope and _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), scope))
