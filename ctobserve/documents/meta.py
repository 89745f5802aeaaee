"""The meta block of every document; that of one that comes from a capture has all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ctobserve import __version__
from ctobserve.capture.capture import Capture, HostView
from ctobserve.clock import NS_PER_S, iso
from ctobserve.documents.base import Labels, doc
from ctobserve.documents.request import Request
from ctobserve.host.owner import Owner, OwnerKind

# Grows when a key changes its meaning or goes; additions leave it as it is.
SCHEMA = 1


@dataclass(frozen=True)
class Origin:
    """Who says it, and of which kernel."""

    command: str = doc("the command that made this")
    version: str = doc("of ctobserve")
    schema: int = doc("version of this contract; grows when a key goes or changes its meaning, not when one is added")
    kernel: str = doc("uname -r")


@dataclass(frozen=True)
class Timed(Origin):
    """Who says it, when, and of which network namespace."""

    started: str = doc("ISO 8601, UTC, ns")
    ended: str = doc("ISO 8601, UTC, ns")
    duration_s: float = doc("from `started` to `ended`")
    netns: int | str = doc("inode number, or `all`")


@dataclass(frozen=True)
class NetnsOwner:
    """Who owns a network namespace (docs/owner.md)."""

    owner: str = doc("what text calls it: `host`, `pod/NAME` or `pod/UID`, `container/ID`, `machine/NAME`, `NAME.service`")
    kind: OwnerKind = doc("`machine`: a container of LXC or systemd-nspawn, or a virtual machine; `unit`: of systemd")
    name: str | None = doc("hostname of a pod, which is its name unless it was given another; name of a machine or unit")
    pod_uid: str | None = doc("UID of the pod; of a static one, the hash of its configuration")
    container: str | None = doc("whole id of the container of the process by which the owner is known")


@dataclass(frozen=True)
class Meta(Timed):
    """Who says it, of what stretch of time, and what makes it doubtful."""

    netns_names: Mapping[str, str] = doc("inode number -> name")
    attach: str = doc("fentry, kprobe, or walk when no hook was needed")
    not_attached: tuple[str, ...] = doc(
        "functions that this kernel lacks, that take no probe, or whose module came too late: what they would tell is not seen"
    )
    table_source: str | None = doc("walk, proc, netlink: how the kernel's table is read; null where it is not needed")
    events_seen: int = doc("records that came")
    events_lost: int = doc(
        "records that found the ring full, calls that a program missed, and packets that found no room for a count"
    )
    lost_by_kind: Mapping[str, int] = doc(
        "the same by kind of record; `probes_off`: about so many seconds, in which probes were switched off and nothing was seen"
    )
    evictions_unpaired: int = doc(
        "calls of early_drop of which the begin or the return stayed unseen: their victims have no `made_room_for`"
    )
    table_age_s: float | None = doc("seconds since the kernel's table was read last; null: never")
    table_uncertain_s: float = doc("how long the table was wrong because records were lost, until it was read again")
    buckets_unread: int = doc("chains that a walk could not read to their end; entries that a listing could not send")
    events_seen_in_netns: int | None = doc("records of `netns` among those that came; null: of all")
    from_recording: str | None = doc("file that this was read from; null: it is of now")
    netns_owners: Mapping[str, NetnsOwner | None] = doc("inode number -> who owns it; null: not known, or nobody")

    @property
    def labels(self) -> Labels:
        """What text calls each network namespace, by inode number."""
        return {int(inum): label for inum, label in self.netns_names.items()}

    @property
    def owners(self) -> Labels:
        """What text calls the owner of each network namespace that has one, by inode number."""
        return {int(inum): one.owner for inum, one in self.netns_owners.items() if one}


def timed_of(command: str, view: HostView, started_ns: int, netns: int | None) -> Timed:
    """Of what a host says without a capture, from `started_ns` (since 1970) until now."""
    return timed(command, view.host.release, started_ns, view.wall_ns(), netns)


def timed(command: str, kernel: str, started_ns: int, ended_ns: int, netns: int | None) -> Timed:
    """Times since 1970."""
    return Timed(
        command=command,
        version=__version__,
        schema=SCHEMA,
        kernel=kernel,
        started=iso(started_ns),
        ended=iso(ended_ns),
        duration_s=round((ended_ns - started_ns) / NS_PER_S, 3),
        netns=netns or "all",
    )


def meta_of(command: str, capture: Capture, request: Request) -> Meta:
    """As of now."""
    now_ns, told, started = capture.now_ns(), capture.fidelity(), capture.started
    whose = capture.whose()
    return Meta(
        command=command,
        version=__version__,
        schema=SCHEMA,
        kernel=capture.host.release,
        started=started.iso(started.monotonic_ns),
        ended=started.iso(now_ns),
        duration_s=round((now_ns - started.monotonic_ns) / NS_PER_S, 3),
        netns=request.filter.netns or "all",
        netns_names={str(inum): one.label for inum, one in whose.items()},
        attach=told.attach,
        not_attached=told.not_attached,
        table_source=told.read_via,
        events_seen=told.seen,
        events_lost=sum(told.lost.values()),
        lost_by_kind=dict(told.lost),
        evictions_unpaired=told.unpaired,
        table_age_s=round((now_ns - told.read_ns) / NS_PER_S, 3) if told.read_ns else None,
        table_uncertain_s=round(told.uncertain_ns / NS_PER_S, 3),
        buckets_unread=told.unread,
        events_seen_in_netns=told.seen_of,
        from_recording=told.recorded_in,
        netns_owners={str(inum): _owner(one.owner) for inum, one in whose.items()},
    )


def _owner(owner: Owner | None) -> NetnsOwner | None:
    return owner and NetnsOwner(owner.label, *owner)
