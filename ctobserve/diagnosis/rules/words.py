"""How sentences say numbers, and that a number is missing."""

from __future__ import annotations

from ctobserve.diagnosis.evidence import Evidence, loss_name
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.verdict import Unjudged

NOT_WATCHED = "invalid packets were not looked for"
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


def span(seconds: float) -> str:
    """A time in the largest unit that leaves more than one and a half of it."""
    for unit, size in (("days", DAY_S), ("hours", HOUR_S), ("minutes", MINUTE_S)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def percent(part: float, whole: float) -> str:
    """A share, with a digit more where it is small."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f} %" if share >= 10 else f"{share:.1f} %"


def plural(count: int, one: str, many: str | None = None) -> str:
    """1 packet, 2 packets."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def during(evidence: Evidence, count: int) -> str:
    """In how long that happened, and how often a second."""
    return f"in {evidence.duration_s:.1f} s ({evidence.rate(count):.1f} per s)"


def among(evidence: Evidence, reason: int) -> str:
    """Which packets were looked at, where those lost for this reason were too many to keep them all; else nothing."""
    kept, whole = evidence.kept_of(reason)
    return f"among the {kept} kept of {whole} packets ({loss_name(reason)}) {during(evidence, whole)}" if kept < whole else ""


def counted(evidence: Evidence, packets: int, reason: int) -> VerdictEvidence:
    """The numbers of a verdict on so many packets among those lost for this reason; null for the rate where not all were kept."""
    kept, whole = evidence.kept_of(reason)
    rate = evidence.rate(packets) if kept == whole else None
    return {"packets": packets, "packets_per_s": rate, "packets_not_kept": whole - kept}


def hidden(evidence: Evidence) -> Unjudged | None:
    """What to say in place of silence of packets that have no entry, where the filter lets none of them pass."""
    return Unjudged("the filter asks for what is not known of a packet without an entry") if evidence.blind_to_losses else None


def unreadable(evidence: Evidence, sysctl: str) -> Unjudged | None:
    """What to say in place of silence where this sysctl was not to be had of a namespace that has entries."""
    namespaces = evidence.unreadable(sysctl)
    return Unjudged(f"{sysctl} could not be read in {plural(namespaces, 'namespace')} with entries") if namespaces else None


def share(part: float, whole: float) -> float:
    """Part of the whole, 0 to 1."""
    return round(part / whole, 4) if whole else 0.0
