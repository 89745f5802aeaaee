"""Lines to paste: each made from words, so that a shell reads back exactly these words, whoever chose them."""

from __future__ import annotations

import re
import shlex

from ctobserve.capture.capture import NamespaceState
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.verdict import Look

# As people name namespaces: neither an option nor a path, and the same to every shell.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Whoever pastes does so later: the process may have ended, and its PID be another's in a namespace where nothing is to be done.
# From inside, $0 being the inode number that is meant, this looks, and runs the words that follow or nothing.
_CHECKED = '[ "$(readlink /proc/self/ns/net)" = "net:[$0]" ] && exec "$@"; echo "nothing run: this is not netns $0" >&2; exit 1'
# PID 1 is nobody else's as long as the host is up.
FIRST = NamespaceEvidence(0, "init", prefix=("nsenter", "--net=/proc/1/ns/net"))


def paste(*words: str | int) -> str:
    """The line of a command. Raises ValueError for a word that a terminal cannot show: who pastes must see what will run."""
    said = [str(word) for word in words]
    if unseen := [word for word in said if not word.isprintable()]:
        raise ValueError(f"a line to paste cannot show {unseen[0]!a}")
    return shlex.join(said)


def look(*words: str | int) -> Look:
    """The same of a command that only shows something."""
    return Look(paste(*words))


def remark(words: str) -> str:
    """A line that does nothing, in words of ours alone."""
    return f"# {words}"


def inside(namespace: NamespaceEvidence, *words: str | int) -> str:
    """The line that runs the command in this namespace; a remark that has its number where no line safely leads there."""
    if namespace.prefix is None or not all(map(str.isprintable, namespace.prefix)):
        return remark(f"in network namespace {namespace.inum}, which no process and no plain name holds: {paste(*words)}")
    return paste(*namespace.prefix, *words)


def look_inside(namespace: NamespaceEvidence, *words: str | int) -> Look:
    """The same of a command that only shows something."""
    return Look(inside(namespace, *words))


def set_sysctl(namespace: NamespaceEvidence, name: str, value: int) -> str:
    """The line that sets net.netfilter.NAME in this namespace."""
    return inside(namespace, "sysctl", "-w", f"net.netfilter.{name}={value}")


def set_global(evidence: Evidence, name: str, value: int) -> str:
    """The same for a sysctl that only the first namespace may write."""
    return set_sysctl(evidence.init or FIRST, name, value)


def raise_limit(evidence: Evidence, namespace: NamespaceEvidence, entries: int) -> tuple[str, ...]:
    """Lines that let this namespace have so many.

    Newer kernels have a limit for each, which the first one's caps; that is raised where it has to be, and never lowered: where
    it is not known, a line shows it.
    """
    name, first = "nf_conntrack_max", evidence.init
    cap = None if first is None else first.sysctls.get(name)
    if cap is None:
        known = namespace.limit or namespace.count
        more = (remark(f"where that is less than {entries}, set it to {entries}"),) if known else ()
        return (look_inside(first or FIRST, "sysctl", f"net.netfilter.{name}"), *more)
    lines = [set_global(evidence, name, entries)] if 0 < cap < entries else []
    own = namespace.own_limit or entries
    if own < entries and (namespace.limits_itself or own < cap or not cap):
        lines.append(set_sysctl(namespace, name, entries))
    return tuple(lines)


def see_losses(namespace: NamespaceEvidence) -> Look:
    """The line that shows the packets that this namespace loses or finds INVALID."""
    return look("ctobserve", "drops", "--invalid", *netns_option(namespace), "--limit", 20)


def see_entries(*which: str) -> Look:
    """The line that shows some of these entries."""
    return look("ctobserve", "list", *which, "--limit", 20)


def netns_option(namespace: NamespaceEvidence) -> tuple[str | int, ...]:
    """The option by which a command of ours shows this namespace alone; one that nobody holds cannot be asked for."""
    return () if namespace.prefix is None else ("--netns", namespace.inum)


def zone_option(evidence: Evidence, zone: int) -> tuple[str | int, ...]:
    """The option that keeps conntrack -D from equal tuples in other zones; nothing where there are no zones."""
    return ("--zone", zone) if evidence.filtered or evidence.entries["zone"].any() else ()


def way_into(namespace: NamespaceState) -> tuple[str, ...] | None:
    """Words by which a command is run in this namespace: by its plain name, else by its first process while that is there.

    None without either.
    """
    name = next(filter(_PLAIN.fullmatch, namespace.names), None)
    if name is not None:
        return ("ip", "netns", "exec", name)
    if namespace.pid is None:
        return None
    return ("nsenter", f"--net=/proc/{namespace.pid}/ns/net", "sh", "-c", _CHECKED, str(namespace.inum))
