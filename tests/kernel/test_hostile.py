"""Names that others choose, on a real kernel: they are shown, and neither end a command nor act on a terminal or a shell."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ctobserve_lab.traffic import open_tcp, send_segments, send_udp
from ctobserve_lab.world import run
from tests.kernel.tool import CTOBSERVE

COMM = b"\xff\x1b[2J\n;id;#"
SHOWN = r"\xff\x1b[2J\x0a;id;#"
PLAIN = re.compile("[A-Za-z0-9_.-]+")  # what no shell and no terminal takes for anything but a name
NAME = "\x1b[2J\n;reboot;#\udcff"
DEVICE = "\x1b[31m;id;#"
RENAMED = f"import ctypes, socket; ctypes.CDLL(None).prctl(15, {COMM!r})\n"
SENDS = """
for port in range(2000, 2023):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ({target!r}, port))
    except PermissionError:
        pass
"""
TRACKING = "table inet t { chain o { type filter hook output priority 0; ct state new accept; }; }"
LIVES = """
import subprocess, sys
ctypes.CDLL(None).unshare(0x40000000)
for command in (["ip", "link", "set", "lo", "up"], ["nft", {tracking!r}]):
    subprocess.run(command, check=True)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(1000, 1041):
    sender.sendto(b"x", ("127.0.0.1", port))
{more}
sys.stdout.write(".")
sys.stdout.flush()
sys.stdin.read()
"""


@contextmanager
def living(more: str = "") -> Iterator[int]:
    """A process with a hostile name in a network namespace of its own, with 41 entries; its process id."""
    code = RENAMED + LIVES.format(more=more, tracking=TRACKING)
    with subprocess.Popen(["/usr/bin/python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.read(1) == b"."
        yield process.pid


def shown(*arguments: str) -> list[str]:
    """Lines of both streams, each of which a terminal only shows."""
    result = subprocess.run([*CTOBSERVE, *arguments], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    lines = (result.stdout + result.stderr).decode().splitlines()
    assert [line for line in lines if not line.isprintable()] == []
    return lines


@pytest.fixture
def world(net):
    """A namespace and a device with hostile names, and one with a peaceful name at the other end."""
    hostile, peer = net.space(NAME), net.space("peer")
    _, target = net.link(hostile, peer)
    hostile.run("ip", "link", "set", "v1a", "down")
    hostile.run("ip", "link", "set", "v1a", "name", DEVICE)
    hostile.run("ip", "link", "set", DEVICE, "up")
    return hostile, peer, target


def test_losses_by_hostile_processes_devices_and_namespaces(world, sysctl, start):
    hostile, peer, target = world
    open_tcp(peer, hostile, target, 4040, 7)
    running = start("drops", "--invalid")
    send_segments(peer, 11, (target, 4040), ("10.1.0.1", 9), 0x04, 1, spoil=1)
    with living():
        sysctl("nf_conntrack_max", hostile.count())
        hostile.run("/usr/bin/python3", "-c", RENAMED + SENDS.format(target=target))
    text = running.end()
    lines = (text + running.errors).splitlines()
    assert [line for line in lines if not line.isprintable()] == []
    full = [line for line in lines if "reason=table_full" in line]
    assert len(full) == 23
    assert all(f"by {SHOWN}[" in line and r"\x1b[2J\x0a;reboot;#" in line for line in full)
    assert any(r"on \x1b[31m;id;#" in line for line in lines if "reason=invalid" in line)


def test_every_line_to_paste_is_made_of_words_that_do_nothing_else(world, sysctl):
    hostile, _, _ = world
    send_udp(hostile, 307)
    with living() as pid:
        lines = shown("list")
        assert sum(f"{SHOWN}[{pid}]" in line for line in lines) == 41
        sysctl("nf_conntrack_max", 307)
        body = json.loads(run(*CTOBSERVE, "report", "--json", "--duration", "1"))
        lines = shown("report", "--duration", "1")
    pasted = [line for row in body["verdicts"] for line in row["do"]]
    assert pasted and all(line.isprintable() for line in pasted)
    for line in pasted:
        words = shlex.split(line)
        assert not {"reboot", ";reboot;#", "id"} & set(words), line
        assert words[0] in ("#", "ip", "nsenter", "sysctl", "ctobserve", "nft", "conntrack", "sh", "grep"), line
        assert words[0] != "ip" or (words[1:3] == ["netns", "exec"] and PLAIN.fullmatch(words[3])), line
    assert sum(line.strip().startswith("$ ") for line in lines) > 0
