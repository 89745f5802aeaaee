"""What only the manual says: of each exit code, and what a command costs and cannot see beside what all of them do."""

from __future__ import annotations

from collections.abc import Mapping

from ctobserve.errors import ExitStatus

EXIT: Mapping[ExitStatus, str] = {
    ExitStatus.DONE: "Done. Ctrl-C is a normal end, and so is a reader that has seen enough.",
    ExitStatus.FAILURE: "It failed, or `verify` found a difference; one line on stderr says what and why.",
    ExitStatus.USAGE: "What was typed is wrong; one line on stderr says what would be right.",
    ExitStatus.KERNEL_LACKS: "The kernel, or a package beside it, does not offer what is needed: `ctobserve check` says what.",
    ExitStatus.NOT_PERMITTED: "Not permitted: a capability is missing, or a policy forbids it.",
    ExitStatus.LOST_RECORDS: "Done, but records were lost, and --fail-on-loss was given.",
}
FILED = "It reads a recording, and asks this host's kernel for nothing. A stretch of it is in memory while it is read."
PER_PACKET = "A probe on the path of INVALID packets tells them: it runs once for each, and --no-invalid spares it."
OVERHEAD: Mapping[str, str] = {
    "report": f"The table is read, then followed by its events for --duration. {PER_PACKET}",
    "why": f"The table is read, then followed by its events; updates of entries are told too. {PER_PACKET}",
    "drops": "Programs run where packets are lost and entries evicted: none per packet that passes, unless for --invalid.",
    "top": f"The table is read once, then followed by its events. On the full screen: {PER_PACKET}",
    "list": "One reading of the table, and nothing attached to the kernel, unless --duration asks for events.",
    "events": "A record for each event; --invalid and --packets add a program run per packet.",
    "buckets": "One pass over all chains that copies no entry; nothing is attached, unless --duration asks for events.",
    "size": "Files below /proc and /sys are read. BPF is used only by --duration and by --source walk.",
    "verify": "The table is followed by its events, read again, and listed by the kernel in each network namespace.",
    "record": f"The table is followed by its events, and read every --keyframe seconds. {PER_PACKET}",
    "export": "Programs add to counters, per CPU: no record is sent, and all chains are passed over now and then.",
    "diff": FILED,
    "convert": FILED,
    "fleet": "No kernel is asked. DuckDB takes --memory of this host and all its CPUs; the footer of each file is read first.",
    "anonymise": FILED,
    "check": "Programs that do nothing are attached and taken off at once, to see whether that works.",
}
UNSEEN = "What happened before it began is known only as far as the table still tells it."
CAVEATS: Mapping[str, str] = {
    "report": f"{UNSEEN} A verdict on rates rests on the time that was observed: 5 s are little for a rare loss.",
    "why": f"{UNSEEN} Who ended an entry, and why, is known of those that ended meanwhile.",
    "drops": UNSEEN,
    "events": UNSEEN,
    "list": "A table that changes while it is read: an entry that came or left meanwhile may be there or not.",
    "buckets": "A table that changes while it is read: a chain is as long as it was when it was passed.",
    "size": "Memory is that of the slab caches as they are now; without root some of them cannot be read.",
    "verify": "Network namespaces whose listing cannot be had are named, and not compared.",
    "fleet": "What no recording was made of is not there: a host without losses may be one that nobody looked at.",
    "anonymise": "What can still be learnt from such a recording is in docs/recording.md.",
    "diff": "Network namespaces of two hosts, or of two boots, are matched by their names alone.",
}
