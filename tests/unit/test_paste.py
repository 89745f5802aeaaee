"""Lines to paste into a root's shell: exactly the words that a rule means, whatever names the host's users chose."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from ctobserve.capture.capture import NamespaceState
from ctobserve.diagnosis import rules
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.rules.paste import inside, paste, remark, way_into
from ctobserve.diagnosis.verdict import Verdict
from ctobserve.documents.size import SizeRequest, collect
from ctobserve.host import sysctls
from tests.scripted import ScriptedCapture
from tests.unit.cases import CASES
from tests.unit.tables import NETNS

HOSTILE = (
    ";reboot;#",
    "a b",
    "$(reboot)",
    "`reboot`",
    "-rf",
    "a'b\"c",
    "x\nreboot\n",
    "\x1b[2J",
    "\udcff",
    "# x",
    "> /etc/passwd",
    "{ a; }",
    "\u202ea",
    "*",
    "~",
    "!!",
    "\\",
    "",
)
LIMIT = "net.netfilter.nf_conntrack_max"
BUCKETS = "net.netfilter.nf_conntrack_buckets"
SEE = ["ctobserve", "drops", "--invalid", "--netns", "7", "--limit", "20"]
WHY = "which no process and no plain name holds"
RULESET = ["nft", "list", "ruleset"]
DELETE = ["conntrack", "-D", "-p"]
SENT = ["--orig-src", "10.1.0.9", "--sport"]
TO = ["--orig-dst", "10.1.0.1", "--dport", "514", "--reply-src", "10.1.0.1"]
HAIRPIN = ["ip", "saddr", "172.17.0.0/16", "ip", "daddr", "172.17.0.2", "tcp", "dport", "443"]
ASKED = ["--orig-dst", "10.1.0.1", "--dport", "443", "--orig-src", "172.17.0.9"]


def nft(*rest: str) -> list[str]:
    return ["nft", "add", *rest]


def chain(table: str, name: str, hook: str, priority: str) -> list[str]:
    return ["nft", f"add chain inet {table} {name} {{ type filter hook {hook} priority {priority}; }}"]


def untracked(hook: str, *match: str) -> list[str]:
    return nft("rule", "inet", "untracked", hook, *match, "notrack")


def sysctl(value: str) -> list[str]:
    return ["sysctl", "-w", value]


# What each rule's case is to say: words of ours alone, and whether they are for the namespace the case speaks of, for the first
# one, or for whoever pastes.
IN, FIRST, HERE = "in", "first", "here"  # HERE with no words: a remark
FROM_ONE = ("ip", "saddr", "10.0.0.1", "ct", "state", "new")
MEANT: dict[str, list[tuple[str, list[str]]]] = {
    "entries_unlisted": [
        (IN, ["cat", "/proc/net/netfilter/nfnetlink_queue"]),
        (IN, RULESET),
        (HERE, ["cat", "/proc/815/status"]),
        (HERE, []),
        (HERE, ["kill", "815"]),
    ],
    "state_piles_up": [
        (HERE, ["ctobserve", "list", "--state", "CLOSE_WAIT", "--limit", "20"]),
        (IN, ["ss", "-tnp", "state", "close-wait"]),
        (IN, sysctl("net.netfilter.nf_conntrack_tcp_timeout_close_wait=60")),
        (HERE, []),
        (HERE, []),
        (IN, ["conntrack", "-D", "-p", "tcp", "--state", "CLOSE_WAIT"]),
    ],
    "nothing_tracked": [
        (IN, ["nft", "-a", "list", "ruleset"]),
        (IN, ["nft", "delete", "rule", "inet", "untracked", "pre", "handle", "4"]),
    ],
    "tracked_twice": [(IN, RULESET), (HERE, []), (IN, sysctl("net.bridge.bridge-nf-call-iptables=0"))],
    "table_full": [(FIRST, sysctl(f"{LIMIT}=32"))],
    "table_filling": [(FIRST, sysctl(f"{LIMIT}=32768")), (FIRST, sysctl(f"{BUCKETS}=32768"))],
    "early_drop": [(FIRST, sysctl(f"{LIMIT}=28"))],
    "entries_deleted": [(HERE, ["ctobserve", "events", "--events", "destroy", "--netns", "7"])],
    "unanswered": [(HERE, ["ctobserve", "list", "--state", "UNREPLIED", "--dst", "10.0.0.2", "--limit", "20"])],
    "expect_full": [
        (HERE, ["ctobserve", "list", "--expect", "--netns", "7", "--limit", "20"]),
        (FIRST, sysctl("net.netfilter.nf_conntrack_expect_max=256")),
    ],
    "helper_missing": [
        (HERE, ["ctobserve", "list", "--proto", "tcp", "--dport", "21", "--netns", "7", "--limit", "20"]),
        (IN, nft("table", "inet", "assigned")),
        (IN, ["nft", 'add ct helper inet assigned ftp { type "ftp" protocol tcp; }']),
        (IN, chain("assigned", "pre", "prerouting", "filter")),
        (IN, nft("rule", "inet", "assigned", "pre", "tcp", "dport", "21", "ct", "helper", "set", '"ftp"')),
        (IN, chain("assigned", "out", "output", "filter")),
        (IN, nft("rule", "inet", "assigned", "out", "tcp", "dport", "21", "ct", "helper", "set", '"ftp"')),
        (HERE, []),
    ],
    "offloaded": [(IN, ["nft", "list", "flowtables"])],
    "chain_too_long": [(HERE, ["ctobserve", "buckets", "--limit", "10"])],
    "chain_skew": [(HERE, ["ctobserve", "buckets", "--limit", "10"])],
    "few_buckets": [(FIRST, sysctl(f"{BUCKETS}=4096"))],
    "clash_race": [(HERE, ["sh", "-c", "echo options single-request-reopen >> /etc/resolv.conf"])],
    "snat_ports": [(IN, RULESET)],
    "invalid_window": [(IN, sysctl("net.netfilter.nf_conntrack_tcp_be_liberal=1"))],
    "asymmetric_routing": [
        (IN, ["ip", "route", "get", "10.0.0.2"]),
        (IN, ["sysctl", "net.ipv4.conf.all.rp_filter"]),
    ],
    "untranslated": [
        (HERE, SEE),
        (IN, RULESET),
        (IN, nft("table", "inet", "invalid_out")),
        (IN, chain("invalid_out", "forwarded", "forward", "filter")),
        (IN, nft("rule", "inet", "invalid_out", "forwarded", "ct", "state", "invalid", "drop")),
        (IN, sysctl("net.netfilter.nf_conntrack_tcp_timeout_established=432000")),
    ],
    "late_packets": [
        (HERE, SEE),
        (HERE, ["ctobserve", "events", "--events", "destroy", "--netns", "7"]),
        (IN, sysctl("net.netfilter.nf_conntrack_tcp_timeout_close_wait=3600")),
    ],
    "icmp_refused": [(HERE, SEE), (IN, ["nft", "insert rule inet filter input icmp type destination-unreachable accept"])],
    "bad_checksum": [(HERE, SEE), (IN, sysctl("net.netfilter.nf_conntrack_checksum=0"))],
    "tunnel_oneway": [
        (HERE, ["ctobserve", "list", "--state", "UNREPLIED", "--proto", "udp", "--dport", "4789", "--limit", "20"]),
        (IN, nft("table", "inet", "tunnels")),
        (IN, chain("tunnels", "coming", "prerouting", "raw")),
        (IN, nft("rule", "inet", "tunnels", "coming", "udp", "dport", "4789", "notrack")),
        (IN, chain("tunnels", "going", "output", "raw")),
        (IN, nft("rule", "inet", "tunnels", "going", "udp", "dport", "4789", "notrack")),
        (IN, ["conntrack", "-D", "-p", "udp", "--dport", "4789"]),
    ],
    "entry_gone": [(HERE, SEE)],
    "unexplained": [(HERE, SEE)],
    "unseen": [(HERE, SEE)],
    "scan": [
        (HERE, ["ctobserve", "list", "--state", "UNREPLIED", "--src", "10.0.0.1", "--limit", "20"]),
        (IN, nft("table", "inet", "calm")),
        (IN, chain("calm", "pre", "prerouting", "raw")),
        (IN, nft("rule", "inet", "calm", "pre", "ip", "saddr", "10.0.0.1", "drop")),
    ],
    "syn_flood": [
        (IN, sysctl("net.ipv4.tcp_syncookies=1")),
        (IN, sysctl("net.netfilter.nf_conntrack_tcp_timeout_syn_recv=10")),
        (IN, sysctl("net.netfilter.nf_conntrack_tcp_timeout_syn_sent=20")),
    ],
    "source_share": [
        (HERE, ["ctobserve", "list", "--src", "10.0.0.1", "--limit", "20"]),
        (IN, nft("table", "inet", "calm")),
        *(
            line
            for hook in ("prerouting", "output")
            for line in (
                (IN, chain("calm", f"{hook}_new", hook, "mangle")),
                (IN, nft("rule", "inet", "calm", f"{hook}_new", *FROM_ONE, "ct", "count", "over", "1000", "drop")),
            )
        ),
    ],
    "netns_share": [(HERE, ["ctobserve", "report", "--netns", "7"])],
    "idle_established": [(IN, sysctl("net.netfilter.nf_conntrack_tcp_timeout_established=86400")), (HERE, [])],
    "stale_udp": [
        (IN, ["conntrack", "-D", "-p", "udp", "-d", "10.96.0.1", "--dport", "53", "--reply-src", "10.9.0.1"]),
    ],
    "entry_older_than_rule": [(IN, [*DELETE, "udp", *SENT, port, *TO]) for port in ("1024", "1025")],
    "hairpin": [
        (IN, nft("table", "inet", "hairpin")),
        (IN, ["nft", "add chain inet hairpin post { type nat hook postrouting priority srcnat; }"]),
        (IN, nft("rule", "inet", "hairpin", "post", *HAIRPIN, "ct", "status", "dnat", "masquerade")),
        (IN, [*DELETE, "tcp", *ASKED, "--reply-src", "172.17.0.2", "--reply-dst", "172.17.0.9"]),
    ],
    "netns_limit": [(IN, sysctl(f"{LIMIT}=10000"))],
    "records_lost": [(HERE, ["ctobserve", "report", "--ring-mib", "256"])],
    "lost_otherwise": [
        (HERE, ["grep", "-i", "-e", "memfree", "-e", "slab", "/proc/meminfo"]),
        (HERE, ["ctobserve", "drops"]),
    ],
    "notrack_loopback": [
        (IN, nft("table", "inet", "untracked")),
        (IN, chain("untracked", "output", "output", "raw")),
        (IN, untracked("output", "oif", "lo")),
        (IN, chain("untracked", "prerouting", "prerouting", "raw")),
        (IN, untracked("prerouting", "iif", "lo")),
    ],
    "notrack_service": [
        (IN, nft("table", "inet", "untracked")),
        (IN, chain("untracked", "prerouting", "prerouting", "raw")),
        (IN, untracked("prerouting", "udp", "dport", "53")),
        (IN, untracked("prerouting", "udp", "sport", "53")),
        (IN, chain("untracked", "output", "output", "raw")),
        (IN, untracked("output", "udp", "dport", "53")),
        (IN, untracked("output", "udp", "sport", "53")),
    ],
    "events_off": [(IN, sysctl("net.netfilter.nf_conntrack_events=1"))],
    "acct_off": [(IN, sysctl("net.netfilter.nf_conntrack_acct=1"))],
    "tracking_unneeded": [(IN, RULESET)],
}


def spoiled(made: Evidence, name: str, prefix: tuple[str, ...] | None) -> Evidence:
    """The same host, but whatever a user can name is called so; the kernel's words end in it."""
    raw = name.encode(errors="surrogateescape")
    namespaces = {inum: replace(one, label=name, prefix=prefix) for inum, one in made.namespaces.items()}
    init = made.init and replace(made.init, label=name, prefix=prefix)
    lost = made.losses.copy()
    lost["text"] = np.array([one + raw if one else b"" for one in lost["text"].tolist()], "S84")
    for named in (lost["device"], lost["comm"], lost["left"]["comm"]):
        named[:] = raw[:16]
    return replace(made, namespaces=namespaces, init=init, losses=lost)


# How the commands begin that only show something, in any namespace.
SHOW = (
    ["ctobserve"],
    ["grep"],
    ["nft", "list"],
    ["nft", "-a", "list"],
    ["cat", "/proc/"],
    ["ss", "-tnp"],
    ["ip", "route", "get"],
    ["sysctl", "net."],
)


def only_shows(meant: list[str]) -> bool:
    return any(len(meant) >= len(one) and all(map(str.startswith, meant, one)) for one in SHOW)


def words(line: str) -> list[str]:
    """What a shell would run: nothing for a remark. Quoting and joining again gives the same line: no operator is left in it."""
    assert line.isprintable() and line == line.strip(), "one line that a terminal can only show"
    found = shlex.split(line, comments=True)
    assert shlex.join(found) == line or (not found and line.startswith("# "))
    return found


def test_every_rule_is_tried():
    assert set(MEANT) == {rule.id for rule in rules.RULES} == set(CASES)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.id)
def test_lines_have_exactly_the_words_meant(rule, name):
    prefix = ("nsenter", f"--net=/run/netns/{name}")
    found = rule.judge(spoiled(CASES[rule.id][0], name, prefix))
    assert isinstance(found, Verdict) and found.sentence.isprintable()
    assert all(
        text.isprintable() for value in found.evidence.values() for text in (value if isinstance(value, list) else [str(value)])
    )
    assert len(found.do) == len(MEANT[rule.id])
    assert found.do_only_looks == tuple(only_shows(meant) for _, meant in MEANT[rule.id])
    for line, (where, meant) in zip(found.do, MEANT[rule.id], strict=True):
        said = words(line)
        if where == HERE or name.isprintable():
            assert said == ([] if where == HERE else list(prefix)) + meant
        else:
            assert not said and line.endswith(f", {WHY}: {shlex.join(meant)}")


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.id)
def test_where_no_line_leads_a_remark_says_where_by_number(rule):
    made = CASES[rule.id][0]
    found = rule.judge(spoiled(made, ";reboot;#", None))
    inums = [*made.namespaces, made.init and made.init.inum]
    for line, (where, meant) in zip(found.do, MEANT[rule.id], strict=True):
        if where == HERE:
            # One that nobody holds cannot be asked for.
            at = meant.index("--netns") if "--netns" in meant else len(meant)
            assert words(line) == meant[:at] + meant[at + 2 :]
        else:
            assert not words(line) and "reboot" not in line
            assert line in {remark(f"in network namespace {inum}, {WHY}: {shlex.join(meant)}") for inum in inums}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_leads_nowhere_and_its_process_does(name):
    assert way_into(NamespaceState(NETNS, "x", names=(name,))) is None
    found = way_into(NamespaceState(NETNS, "x", names=(name,), pid=12))
    assert found is not None and found[:4] == ("nsenter", "--net=/proc/12/ns/net", "sh", "-c") and found[5:] == (str(NETNS),)
    beside = NamespaceState(NETNS, "x", names=(name, "blue-2.x"))
    assert way_into(beside) == ("ip", "netns", "exec", "blue-2.x")


def test_a_namespace_that_nobody_knows_is_not_taken_for_ours():
    assert inside(NamespaceEvidence(99, "99"), "nft", "list") == f"# in network namespace 99, {WHY}: nft list"
    assert inside(NamespaceEvidence(99, "99", prefix=()), "nft", "list") == "nft list"


def test_a_shell_finds_the_same_words():
    """Not Python's idea of a shell alone: one that really reads the lines."""
    shown = [name for name in HOSTILE if name.isprintable()]
    line = paste("printf", "%s\\n", *shown, 7)
    said = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True).stdout
    assert said.split("\n") == [*shown, "7", ""]


@pytest.fixture(scope="module")
def living() -> Iterator[int]:
    """PID of the one process of a network namespace."""
    assert os.geteuid() == 0, "only root can make network namespaces: run the tests as root"
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo && exec sleep 600"], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_line_by_a_process_runs_in_the_namespace_meant_or_not_at_all(living, shell, tmp_path):
    """PIDs are given out again: whoever pastes late must not change another namespace, least of all the host's."""
    inum = os.stat(f"/proc/{living}/ns/net").st_ino
    assert inum != os.stat("/proc/self/ns/net").st_ino
    words = ("sh", "-c", 'readlink /proc/self/ns/net; echo "$@"; touch ran', "sh", *filter(str.isprintable, HOSTILE))

    def pasted(meant: int, pid: int) -> subprocess.CompletedProcess[str]:
        line = inside(NamespaceEvidence(meant, "x", prefix=way_into(NamespaceState(meant, "x", pid=pid))), *words)
        assert shlex.join(shlex.split(line)) == line and shlex.split(line)[-len(words) :] == list(words)
        return subprocess.run([shell, "-c", line], capture_output=True, text=True, check=False, cwd=tmp_path)

    right = pasted(inum, living)
    assert right.stdout == f"net:[{inum}]\n{' '.join(words[4:])}\n" and (right.returncode, right.stderr) == (0, "")
    (tmp_path / "ran").unlink()
    for wrong in (pasted(inum + 1, living), pasted(inum, os.getpid())):
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert wrong.stderr in {f"nothing run: this is not netns {number}\n" for number in (inum, inum + 1)}
    gone = pasted(inum, 1 << 22)
    assert gone.returncode != 0 and gone.stdout == "" and "No such file" in gone.stderr
    assert not list(tmp_path.iterdir()), "nothing ran"


@pytest.mark.parametrize("name", [name for name in HOSTILE if not name.isprintable()])
def test_a_word_that_cannot_be_shown_is_no_word_of_a_line(name):
    with pytest.raises(ValueError, match="cannot show"):
        paste("nft", name)


# What a line deletes, or comes before, is there: handles count from the chain's, which is 1.
THERE = {
    "icmp_refused": ("nft add table inet filter", "nft add chain inet filter input"),
    "nothing_tracked": (
        "nft add table inet untracked",
        "nft 'add chain inet untracked pre { type filter hook prerouting priority raw; }'",
        *(f"nft add rule inet untracked pre {words}" for words in ("udp dport 53 notrack", "accept", "notrack")),
    ),
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.id)
def test_lines_for_nft_are_what_nft_reads(rule):
    """In a namespace of their own, one after the other, as they are pasted: a name that is a word of nft's own is none."""
    made = CASES[rule.id][0]
    here = {inum: replace(one, prefix=()) for inum, one in made.namespaces.items()}
    found = rule.judge(replace(made, namespaces=here))
    assert isinstance(found, Verdict)
    lines = [line for line in found.do if line.startswith("nft ")]
    assert len(lines) == sum(meant[:1] == ["nft"] for _, meant in MEANT[rule.id])
    script = "\n".join(["ip link set lo up", *THERE.get(rule.id, ()), *lines])
    said = subprocess.run(["unshare", "--net", "sh", "-e", "-c", script], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, ""), script


def test_lines_of_size_are_names_of_the_kernels_and_numbers():
    values = {f"nf_conntrack_{name}": 9 for name in ("max", "buckets", "count", "udp_timeout")}
    state = NamespaceState(NETNS, "blue", sysctls=values, writable=frozenset(values))
    request = SizeRequest(max=70_000, timeouts=(("nf_conntrack_udp_timeout", 5),))
    lines = collect(ScriptedCapture(states={NETNS: state}), pytest.fail, request).paste
    assert lines.sysctl_d == (f"{BUCKETS} = 70144", f"{LIMIT} = 70000", "net.netfilter.nf_conntrack_udp_timeout = 5")
    assert lines.modprobe_d == ("options nf_conntrack hashsize=70144",)
    assert not [name for name in HOSTILE if sysctls.known(f"nf_conntrack_{name}")], "no other name comes in"
