from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = ["check", "events", "list", "buckets", "drops", "verify", "size", "report", "top"]


def run(*arguments: str, user: str | None = None) -> tuple[int, str, str]:
    result = subprocess.run(
        [sys.executable, "-m", "ctobserve", *arguments], capture_output=True, text=True, check=False, user=user
    )
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    code, out, _ = run(command, "-h")
    assert code == 0 and out.startswith(f"Usage: ctobserve {command}")
    assert run(command, "--help")[1] == out


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["frobnicate"], "frobnicate"),
        (["list", "--frobnicate"], "--frobnicate"),
        (["list", "--src", "10.0.0.0/99"], "--src"),
        (["list", "--dst", "example"], "--dst"),
        (["list", "--sport", "70000"], "--sport"),
        (["list", "--dport", "9-3"], "--dport"),
        (["list", "--proto", "quic"], "--proto"),
        (["list", "--state", "happy"], "--state"),
        (["list", "--mark", "red"], "--mark"),
        (["list", "--netns", "nowhere"], "nowhere"),
        (["list", "--duration", "-1"], "--duration"),
        (["list", "--duration", "soon"], "--duration"),
        (["list", "--duration", "nan"], "--duration"),
        (["top", "--interval", "inf"], "--interval"),
        (["size", "--rate", "nan"], "--rate"),
        (["list", "--ready-file", "/proc/version/ready"], "no directory /proc/version"),
        (["list", "--ready-file", "/proc"], "is not an empty file"),
        (["list", "--format", "csv", "--json"], "--format csv"),
        (["report", "--format", "html", "--json"], "--format html"),
        (["report", "--format", "pdf"], "--format"),
        (["list", "--format", "xml"], "--format"),
        (["size", "--timeout", "udp"], "udp"),
        (["size", "--timeout", "udp_timeout=soon"], "udp_timeout=soon"),
        (["size", "--timeout", "nf_conntrack_max=3"], "nf_conntrack_max"),
        (["size", "--max", "0"], "--max"),
        (["size", "--headroom", "0.5"], "--headroom"),
        (["size", "--netns", "nowhere"], "nowhere"),
        (["size", "--netns", "all"], "--netns all"),
        (["size", "--netns", "17"], "17"),
        (["events", "--events", "insert,explode"], "explode"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_2(arguments, names):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("ctobserve: ") and err.count("\n") == 1 and names in err
