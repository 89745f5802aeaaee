"""Are there entries whose packets conntrack does not see?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import look_inside
from ctobserve.diagnosis.rules.words import percent, plural, share
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.model import IPS_HW_OFFLOAD, IPS_OFFLOAD


def judge(evidence: Evidence) -> RuleResult:
    """Entries in a flow table (nf_flow_table): it passes their packets on, and keeps them alive (nf_ct_offload_timeout)."""
    rows = evidence.entries
    offloaded = (rows["status"] & (IPS_OFFLOAD | IPS_HW_OFFLOAD)) != 0
    if not offloaded.any():
        return None
    namespaces = divide(rows, ("netns",))
    counts = namespaces.sums(offloaded)
    most = int(counts.argmax())
    namespace, entries = evidence.namespace(int(rows["netns"][namespaces.first[most]])), int(counts[most])
    hardware = int(((rows["status"] & IPS_HW_OFFLOAD) != 0)[namespaces.labels == most].sum())
    whole = evidence.counts[namespace.inum]
    sentence = (
        f"{plural(entries, 'entry', 'entries')} of {namespace.label} ({percent(entries, whole)} of its table) in a flow table, "
        f"{hardware} of them in hardware: neither rules nor counters see their packets, and their state and timeout say nothing, "
        "so that conntrack -L prints [OFFLOAD] or [HW_OFFLOAD] instead"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "entries": entries,
        "entries_in_hardware": hardware,
        "entries_elsewhere": int(counts.sum()) - entries,
        "share_of_entries": share(entries, whole),
        "namespaces": int(np.count_nonzero(counts)),
    }
    return Verdict(Severity.NOTICE, sentence, numbers, (look_inside(namespace, "nft", "list", "flowtables"),))


RULES = (Rule("offloaded", judge),)
