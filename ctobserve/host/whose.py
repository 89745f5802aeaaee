"""What network namespaces are called, and whose each of them is: by the first processes in it, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ctobserve.host.inhabitant import Inhabitant, hostnames, look
from ctobserve.host.netns import Namespace, called
from ctobserve.host.owner import HOST, Owner, OwnerKind, Told


class Whose(NamedTuple):
    """What text calls a network namespace, and who owns it: None where nobody is known to."""

    label: str
    owner: Owner | None = None


class _Found(NamedTuple):
    label: str
    by: Inhabitant | None
    told: Told | None


def whose(spaces: Mapping[int, Namespace]) -> dict[int, Whose]:
    """Of these namespaces, by inode number.

    The first one is the host's, whoever lives in it beside. Of the others the first processes, a few, are asked until one is
    told to be a pod's, a container's or a machine's; where none is, the first that is told to be a unit's. So a pod's namespace
    is the pod's though a service may have entered it. Where only a name holds a namespace there is nobody to be asked.
    """
    found = {inum: _of(space) for inum, space in spaces.items()}
    names = _pod_names((inum, one) for inum, one in found.items())
    return {inum: Whose(one.label, HOST if spaces[inum].init else _named(one.told, names)) for inum, one in found.items()}


def _of(space: Namespace) -> _Found:
    first = look(space.pid, space.inum) if space.pid is not None and not space.init else None
    label = called(space, first)
    best = first if first and first.told else None
    for pid in () if space.init else space.pids[1:]:
        if best and best.told and best.told.owner.kind is not OwnerKind.UNIT:
            break
        another = look(pid, space.inum)
        if another and another.told and (best is None or another.told.owner.kind is not OwnerKind.UNIT):
            best = another
    return _Found(label, best, best and best.told)


def _pod_names(found: Iterable[tuple[int, _Found]]) -> dict[str, str]:
    """What pods call themselves, by their UIDs; each is asked once."""
    asked: dict[str, tuple[int, int]] = {}
    for inum, one in found:
        if one.by and one.told and one.told.owner.pod_uid and not one.told.nested:
            asked.setdefault(one.told.owner.pod_uid, (one.by.pid, inum))
    names = hostnames(asked.values()) if asked else {}
    return {uid: names[pid] for uid, (pid, _) in asked.items() if pid in names}


def _named(told: Told | None, names: Mapping[str, str]) -> Owner | None:
    if told is None:
        return None
    uid = told.owner.pod_uid
    return told.owner if uid is None else told.owner._replace(name=names.get(uid))
