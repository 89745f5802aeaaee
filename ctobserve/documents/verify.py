"""The proof that the rebuilt table equals the kernel's, or where they differ."""

from __future__ import annotations

from dataclasses import dataclass

from ctobserve.analysis.verify import Value
from ctobserve.capture.capture import Capture
from ctobserve.capture.watch import Stretch, watch
from ctobserve.diagnosis.proof import prove
from ctobserve.documents.base import EntryRows, doc
from ctobserve.documents.meta import Meta, meta_of
from ctobserve.documents.request import Request


@dataclass(frozen=True)
class FieldDifference:
    """A field of an entry that both sides have."""

    ct: str = doc("address of the entry (nf_conn), in hex")
    field: str = doc("`netns`, `zone`, `l3num`, `protonum`, `addr`, `port`, `bucket`, `reply_only` or `master`")
    ours: Value = doc("as here")
    kernel: Value = doc("as in the kernel")


@dataclass(frozen=True)
class DifferenceCounts:
    """How many there are."""

    only_ours: int = doc("entries")
    only_kernel: int = doc("entries")
    field_diffs: int = doc("fields")


@dataclass(frozen=True)
class DumpDifferences:
    """Entries of one side alone."""

    only_ours: int = doc("entries that no dump has")
    only_kernel: int = doc("entries that only a dump has")


@dataclass(frozen=True)
class VerifyDocument:
    """Both tables, and the differences that lasted."""

    meta: Meta = doc("who says it, and what makes it doubtful")
    equal: bool = doc("no difference of any kind")
    ours: int = doc("entries here; with `--netns` those of that namespace")
    kernel: int = doc("entries in the kernel's table, counted alike")
    only_ours: EntryRows = doc("entries that the kernel's table lacks; no more than `--limit`")
    only_kernel: EntryRows = doc("entries that are only in the kernel's table; no more than `--limit`")
    field_diffs: tuple[FieldDifference, ...] = doc("fields that differ; no more than `--limit`")
    differences: DifferenceCounts = doc("how many there are in all of the three lists before")
    netlink: DumpDifferences | None = doc(
        "beside netlink dumps of every namespace; null where nf_conntrack_netlink is not loaded"
    )
    not_dumped: tuple[int, ...] = doc("namespaces (inode number) that hold entries and could not be entered for a dump")


def collect(capture: Capture, request: Request, stretch: Stretch) -> VerifyDocument:
    """Follow the table for a stretch of time, then compare it; raises as Capture.snapshot."""
    for _ in watch(capture, stretch):
        pass
    proof = prove(capture, request.filter.netns)
    found, clock, limit = proof.differences, capture.clock(), request.limit
    return VerifyDocument(
        meta=meta_of("verify", capture, request),
        equal=proof.equal,
        ours=proof.ours,
        kernel=proof.kernel,
        only_ours=EntryRows(found.only_ours[:limit], clock),
        only_kernel=EntryRows(found.only_kernel[:limit], clock),
        field_diffs=tuple(FieldDifference(f"{ct:#x}", name, ours, kernel) for ct, name, ours, kernel in found.fields[:limit]),
        differences=DifferenceCounts(len(found.only_ours), len(found.only_kernel), len(found.fields)),
        netlink=None if proof.unlike is None else DumpDifferences(*map(len, proof.unlike)),
        not_dumped=proof.not_dumped,
    )
