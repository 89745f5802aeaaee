"""What network namespaces are called, and whose each of them is: by the first processes in it, in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ctobserve.host.inhabitant import Inhabitant, hostnames, look
from ctobserve.host.netns import Namespace, called
from ctobserve.host.owner import HOST, Owner, OwnerKind


class Whose(NamedTuple):
    """What text calls a network namespace, and who owns it: None where nobody is known to."""

    label: str
    owner: Owner | None = None


class _Found(NamedTuple):
    """`by`: who says whose it is, None where nobody does."""

    label: str
    by: Inhabitant | None


def whose(spaces: Mapping[int, Namespace]) -> dict[int, Whose]:
    """Of these namespaces, by inode number.

    The first one is the host's, whoever lives in it beside. Of the others the first processes, a few, are asked until one is
    told to be a pod's, a container's or a machine's; where none is, the first that is told to be a unit's. So a pod's namespace
    is the pod's though a service may have entered it. Where only a name holds a namespace there is nobody to be asked.
    """
    found = {inum: _of(space) for inum, space in spaces.items()}
    names = _pod_names(found)
    return {inum: Whose(one.label, HOST if spaces[inum].init else _owner(one.by, names)) for inum, one in found.items()}


def _of(space: Namespace) -> _Found:
    if space.init or not space.pids:
        return _Found(called(space, None), None)
    first = look(space.pids[0], space.inum)
    label, of_unit = called(space, first), None
    for at, pid in enumerate(space.pids):
        one = look(pid, space.inum) if at else first
        if one and one.told:
            if one.told.owner.kind is not OwnerKind.UNIT:
                return _Found(label, one)
            of_unit = of_unit or one
    return _Found(label, of_unit)


def _pod_names(found: Mapping[int, _Found]) -> dict[str, str]:
    """What pods call themselves, by their UIDs; each is asked once."""
    asked: dict[str, tuple[int, int]] = {}
    for inum, (_, by) in found.items():
        if by and by.told and by.told.owner.pod_uid and not by.told.nested:
            asked.setdefault(by.told.owner.pod_uid, (by.pid, inum))
    names = hostnames(asked.values()) if asked else {}
    return {uid: names[pid] for uid, (pid, _) in asked.items() if pid in names}


def _owner(by: Inhabitant | None, names: Mapping[str, str]) -> Owner | None:
    if by is None or by.told is None:
        return None
    owner = by.told.owner
    return owner._replace(name=names.get(owner.pod_uid)) if owner.pod_uid else owner
