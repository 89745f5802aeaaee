"""The expectations now: connections that helpers wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ctobserve.capture.capture import HostView
from ctobserve.capture.read_via import ReadVia
from ctobserve.documents.base import ExpectationRows, Labels, doc
from ctobserve.documents.meta import Timed, timed_of
from ctobserve.errors import KernelLacks

MAX = "nf_conntrack_expect_max"


@dataclass(frozen=True)
class ExpectationsDocument:
    """Every expectation, of all namespaces or of one."""

    meta: Timed = doc("who says it; `netns` is the namespace that was asked for, or `all`")
    netns_names: Mapping[str, str] = doc("inode number -> name")
    source: str = doc(
        "netlink; or proc where nf_conntrack_netlink is not loaded, which says neither whose they are nor their masters"
    )
    max: int | None = doc("nf_conntrack_expect_max: as many as each namespace may have; null: not readable")
    expectations: ExpectationRows = doc("in no particular order; no more than `--limit`")
    expectations_not_shown: int = doc("those beyond `--limit`")

    @property
    def labels(self) -> Labels:
        """What text calls each network namespace, by inode number."""
        return {int(inum): label for inum, label in self.netns_names.items()}


def collect(view: HostView, netns: int | None, limit: int | None) -> ExpectationsDocument:
    """Of one namespace (inode number), or of all. Raises KernelLacks where it is not known which are that one's."""
    started_ns = view.wall_ns()
    found = view.expectations(netns)
    if netns is not None and found.via is not ReadVia.NETLINK:
        raise KernelLacks(
            "whose expectations there are only nf_conntrack_netlink tells, which is not loaded; leave --netns out, or modprobe it"
        )
    here_inum = view.host.here
    here = view.namespaces((MAX,), among=(here_inum,)).get(here_inum)
    shown = found.rows[:limit]
    return ExpectationsDocument(
        meta=timed_of("list", view, started_ns, netns),
        netns_names={str(inum): label for inum, label in view.names().items()},
        source=found.via.value,
        max=None if here is None else here.sysctls.get(MAX),
        expectations=ExpectationRows(shown),
        expectations_not_shown=len(found.rows) - len(shown),
    )
