"""The command line on a real kernel: clear refusals, clean ends, nothing changed, nothing left."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ctobserve_lab.traffic import send_udp
from ctobserve_lab.world import run
from tests.kernel.conftest import Begin, cold
from tests.kernel.forms import auto_is_fentry
from tests.kernel.tool import CTOBSERVE, PATIENCE_S, bpf_program_ids


@pytest.fixture
def begin() -> Begin:
    """The start itself is what is tested here."""
    return cold


def refused(*command: str) -> tuple[int, str]:
    """Exit code and the only line on stderr of a command that must fail."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("ctobserve: ")
    return result.returncode, lines[0]


@pytest.mark.parametrize("command", ["check", "events", "list", "buckets", "drops"])
def test_unprivileged(command):
    code, line = refused("setpriv", "--reuid", "65534", "--clear-groups", *CTOBSERVE, command)
    assert code == 4
    assert "CAP_BPF" in line and "sudo ctobserve" in line


def test_kernel_without_btf():
    hide = f"mount -t tmpfs none /sys/kernel/btf && CTOBSERVE_CACHE_DIR= {' '.join(CTOBSERVE)} list"
    code, line = refused("unshare", "-m", "sh", "-c", hide)
    assert code == 3
    assert "BTF" in line


def test_kernel_without_conntrack():
    modules = [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]
    users = [name for name in modules if name.startswith(("nf_", "nft_", "xt_", "nf_tables", "ip6table", "iptable"))]
    for _ in range(len(users)):
        run("rmmod", *users, check=False)
    assert not Path("/proc/sys/net/netfilter/nf_conntrack_max").exists(), run("lsmod")
    try:
        code, line = refused(*CTOBSERVE, "buckets")
        assert code == 3
        assert "modprobe nf_conntrack" in line
        result = subprocess.run([*CTOBSERVE, "check"], capture_output=True, text=True, check=False)
        assert result.returncode == 3
        assert "modprobe nf_conntrack" in result.stdout
        assert not Path("/proc/sys/net/netfilter/nf_conntrack_max").exists(), "check loaded a module"
    finally:
        run("modprobe", "-a", "nf_conntrack", "nf_conntrack_netlink")


def test_what_needs_no_table_works_where_none_can_be_read():
    """As with a kernel without CONFIG_KALLSYMS_ALL, /proc/net/nf_conntrack and nf_conntrack_netlink."""
    hidden = "nf_conntrack_hash|ct_seq_show|ctnetlink_fill_info"  # each, or a copy of it: ctnetlink_fill_info.constprop.0
    without = f"grep -vE ' ({hidden})([.][.a-z0-9]*)?([[:space:]]|$)' /proc/kallsyms"
    hide = f"{without} > /run/symbols; mount --bind /run/symbols /proc/kallsyms;"
    code, line = refused("unshare", "-m", "sh", "-c", f"{hide} exec {' '.join(CTOBSERVE)} list")
    assert code == 3 and "the table cannot be read here" in line
    for command in ("events", "drops"):
        result = subprocess.run(
            ["unshare", "-m", "sh", "-c", f"{hide} exec {' '.join(CTOBSERVE)} {command} --json --duration 1"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "0 events seen, none lost" in result.stderr


def test_check_names_every_hook():
    probes = {"kprobe", "kprobe + kretprobe"}
    for asked, forms in ((), {"fentry", "fexit", "kprobe"} if auto_is_fentry() else probes), (("--attach", "kprobe"), probes):
        found = json.loads(run(*CTOBSERVE, "check", "--json", *asked))
        assert found["usable"]
        assert all(hook["function"] for hook in found["hooks"])
        assert {hook["form"] for hook in found["hooks"]} == forms


def catches_sigterm(process: subprocess.Popen[str]) -> bool:
    """Python has started and our first line has run."""
    caught = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.M)
    return bool(caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("delay", [0, 0.5, 2, 5])
def test_ctrl_c_at_any_moment(delay):
    before = bpf_program_ids()
    process = subprocess.Popen([*CTOBSERVE, "drops"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not catches_sigterm(process):
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert bpf_program_ids() <= before


def test_ctrl_c_ends_with_the_summary(start):
    running = start("drops")
    text = running.end()
    assert "By reason:       nothing was lost" in text
    assert "Unaccounted:     nothing" in text
    assert "events seen, none lost" in running.errors


def test_killed_leaves_nothing(start):
    before = bpf_program_ids()
    running = start("events", "--attach", "kprobe")
    assert len(bpf_program_ids() - before) > 5
    running.process.kill()
    running.process.wait()
    end = time.monotonic() + 10
    while bpf_program_ids() - before and time.monotonic() < end:
        time.sleep(0.1)
    assert bpf_program_ids() <= before


def test_broken_pipe_is_a_normal_end(net):
    space = net.space("pipe")
    send_udp(space, 31)
    result = subprocess.run(["sh", "-c", f"{' '.join(CTOBSERVE)} list | head -n 2"], capture_output=True, text=True, check=False)
    assert result.stdout.count("\n") == 2
    assert "Traceback" not in result.stderr


def state_of_host() -> dict[str, str]:
    sysctls = sorted(Path("/proc/sys/net/netfilter").glob("nf_conntrack*")) + sorted(Path("/proc/sys/kernel").glob("*bpf*"))
    return {
        "modules": "\n".join(sorted(line.split()[0] for line in Path("/proc/modules").read_text().splitlines())),
        "rules": run("nft", "list", "ruleset"),
        "sysctls": "\n".join(f"{path} {path.read_text()}" for path in sysctls if path.name != "nf_conntrack_count"),
    }


def test_observing_changes_nothing(net):
    space = net.space("quiet")
    send_udp(space, 37)
    before, entries = state_of_host(), sorted(line.split("src=")[1] for line in space.listed())
    for command in (
        ["check"],
        ["list"],
        ["list", "--format", "kernel"],
        ["size", "--timeout", "udp_timeout=5", "--duration", "1"],
        ["buckets", "--duration", "1"],
        ["events", "--duration", "1"],
        ["drops", "--duration", "1"],
        ["top", "--duration", "1"],
        ["verify", "--duration", "1"],
        ["report", "--format", "html", "--duration", "1"],
    ):
        said = run(*CTOBSERVE, *command)
    assert said.startswith("<!DOCTYPE html>")
    assert state_of_host() == before
    assert sorted(line.split("src=")[1] for line in space.listed()) == entries


def test_duration_and_limit(net, report, tmp_path):
    space = net.space("limit")
    send_udp(space, 41)
    ready, of_another_run = tmp_path / "ready", tmp_path / "old"
    ready.touch()
    of_another_run.hardlink_to(ready)
    assert len(report("list", "--netns", space.name, "--limit", "7", "--ready-file", str(ready))["entries"]) == 7
    assert ready.exists() and not ready.samefile(of_another_run)
    assert len(report("list", "--netns", str(space.inum), "--dport", "10000-10004")["entries"]) == 5
    assert report("list", "--netns", space.name, "--src", "192.0.2.0/24")["entries"] == []
