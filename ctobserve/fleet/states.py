"""What a recording says of its namespaces, time after time: how many entries each has and may have, and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import merge
from typing import NamedTuple

from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.recorded import COUNT
from ctobserve.capture.store.joined import Recording
from ctobserve.documents.limits import limits

# Of one instant in this order: how many entries there are is held against the settings of that instant.
KINDS = ("names", "owners", "namespace", "keyframe", "accounts")


class Reading(NamedTuple):
    """A namespace when it was asked how many entries it counts. None is unknown; `owner` is what text calls it."""

    at_ns: int
    netns: int
    name: str | None
    owner: str | None
    entries: int | None
    limit: int | None
    buckets: int | None


class Setting(NamedTuple):
    """A sysctl of a namespace when it was first seen, or had changed; None: there was no number to be read."""

    at_ns: int
    netns: int
    name: str | None
    sysctl: str
    value: int | None


def states(recording: Recording) -> Iterator[Reading | Setting]:
    """In the order of time."""
    names: Mapping[int, str] = {}
    owners: dict[int, str] = {}
    known: dict[int, NamespaceState] = {}
    buckets: int | None = None
    for fact in merge(*map(recording.all, KINDS), key=lambda fact: (fact.at_ns, KINDS.index(fact.kind))):
        match fact.kind:
            case "names":
                names = fact.found
            case "owners":
                owners = {inum: owner.label for inum, owner in fact.found.items()}
            case "keyframe":
                buckets = fact.found.buckets
            case "namespace":
                state: NamespaceState = fact.found
                yield from _changed(fact.at_ns, known.get(state.inum), state, names.get(state.inum, state.label))
                known[state.inum] = state
            case _:
                limit = limits(fact.found, known)
                for inum, account in fact.found.items():
                    named = names.get(inum), owners.get(inum)
                    yield Reading(fact.at_ns, inum, *named, account.counted, limit.get(inum), buckets)


def _changed(at_ns: int, before: NamespaceState | None, state: NamespaceState, name: str) -> Iterator[Setting]:
    """All but how many entries it counts, which is no setting."""
    for sysctl, value in sorted(state.sysctls.items()):
        if sysctl != COUNT and (before is None or before.sysctls.get(sysctl, state) != value):
            yield Setting(at_ns, state.inum, name, sysctl, value)
