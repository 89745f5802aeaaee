"""Updates: the life of an entry in order, and nothing that `conntrack -E` sees escapes us."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections import Counter

from ctobserve.host.symbols import Symbols
from ctobserve.programs import syscalls
from ctobserve.programs.attachment import Attachment
from ctobserve.programs.hooks import Purpose
from ctobserve_lab.traffic import open_tcp, send_udp
from ctobserve_lab.world import Space


def told(event: dict) -> str:
    return event["event"] if event["event"] != "update" else f"{event['tcp_state']}+{'+'.join(event['changes'])}"


def test_the_whole_life_of_a_tcp_connection(net, start, form):
    space = net.space("life")
    space.sysctl("nf_conntrack_tcp_timeout_time_wait", 1)
    running = start("events", "--json", "--netns", space.name, "--attach", form)
    client, server, listener = open_tcp(space, space, "127.0.0.1", 4040)
    client.sendall(b"question")
    assert server.recv(100) == b"question"
    server.sendall(b"answer")
    assert client.recv(100) == b"answer"
    client.close()
    running.wait_for(4)
    assert server.recv(1) == b""
    server.close()
    listener.close()
    running.wait_for(7)
    while space.listed():
        time.sleep(0.5)
    running.wait_for(8)
    events = running.events()
    assert [told(event) for event in events] == [
        "insert",
        "SYN_RECV+reply+protoinfo",
        "ESTABLISHED+assured+protoinfo",
        "FIN_WAIT+protoinfo",
        "CLOSE_WAIT+protoinfo",
        "LAST_ACK+protoinfo",
        "TIME_WAIT+protoinfo",
        "destroy",
    ]
    assert events[-1]["reason"] == "timeout"
    assert "assured" in events[2]["status"] and "assured" not in events[1]["status"]


def test_nothing_that_conntrack_sees_escapes_us(net, start, tmp_path):
    space = net.space("beside")
    running = start("events", "--json", "--netns", space.name, "--events", "insert,update,destroy")
    command = ["ip", "netns", "exec", space.name, "conntrack", "-E", "-o", "id,timestamp", "-b", "8388608"]
    heard_file = tmp_path / "heard"
    with heard_file.open("wb") as out:
        theirs = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
    while not listeners(space):
        time.sleep(0.1)
    sockets = open_tcp(space, space, "127.0.0.1", 4040, 31)
    for one in sockets[:31]:
        one.close()
    for one in sockets[31:-1]:
        assert one.recv(1) == b""
        one.close()
    sockets[-1].close()
    send_udp(space, 101)
    space.run("conntrack", "-I", "-p", "udp", "-s", "10.9.9.9", "-d", "10.9.9.8", "--sport", "1", "--dport", "2", "-t", "60")
    space.run("conntrack", "-F")
    end = time.monotonic() + 60
    while heard_file.read_bytes().count(b"[DESTROY]") < 31 + 101 + 1 and time.monotonic() < end:
        time.sleep(0.2)
    theirs.terminate()
    theirs.wait()
    seen = heard_file.read_text().splitlines()
    # What conntrack has heard is in our ring, and Ctrl-C empties it: no waiting for a number that a missed call would spoil.
    ours = Counter((event["event"], *ends(event)) for event in running.events())
    names = {"NEW": "insert", "UPDATE": "update", "DESTROY": "destroy"}
    heard: Counter = Counter()
    for line in seen:
        kind = re.search(r"\[(NEW|UPDATE|DESTROY)\]", line)
        assert kind, line
        heard[names[kind.group(1)], *re.findall(r"(?:src|dst|sport|dport)=(\S+)", line)[:4]] += 1
    # A TCP connection has 1 NEW, up to 6 UPDATE (the kernel may tell of two changes at once) and 1 DESTROY.
    assert sum(heard.values()) > 31 * 6 + 101 * 2 + 2
    # A softirq that interrupts our program on its own CPU runs unseen; that is counted.
    assert not ours - heard
    lost = re.search(r"events seen, (\d+) lost", running.errors)
    assert sum((heard - ours).values()) <= (int(lost[1]) if lost else 0), (heard - ours, running.errors)


def test_a_kprobe_says_what_it_missed_where_the_kernel_tells(report):
    """That it is told goes by BTF, before anything is attached; `check` says where it is not."""
    made = Attachment(Purpose.TABLE | Purpose.DROPS | Purpose.UPDATES, "kprobe", Symbols.read())
    made.load(made.choices(chains=False, netns=None), 1 << 16)
    try:
        made.attach()
        told = [syscalls.kprobe_missed(link) for _, link in made.programs.probes]
    finally:
        made.close()
    assert len(told) > 5 and {one is not None for one in told} == {made.build.layout.probes_tell_missed}
    (probes,) = [one for one in report("check")["findings"] if one["name"] == "probes"]
    assert (probes["ok"] is True) == made.build.layout.probes_tell_missed


def listeners(space: Space) -> list[str]:
    """Sockets of this namespace that joined conntrack's groups 1 to 3 (NEW, UPDATE, DESTROY)."""
    lines = space.run("cat", "/proc/net/netlink").splitlines()[1:]
    return [line for line in lines if line.split()[1] == "12" and int(line.split()[3], 16) & 7 == 7]


def ends(event: dict) -> tuple[str, ...]:
    side = event["original"]
    return tuple(str(side[name]) for name in ("src", "dst", "sport", "dport"))


def test_mark_change_is_an_update(net, start):
    space = net.space("mark")
    running = start("events", "--json", "--netns", space.name, "--events", "update")
    space.nft("table ip marking { chain out { type filter hook output priority 0; meta mark 7 ct mark set 7; }; }")

    def send_marked() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"x", ("127.0.0.1", 10001))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
            one.sendto(b"x", ("127.0.0.1", 10001))

    space.inside(send_marked)
    running.wait_for(1)
    (event,) = running.events()
    assert event["changes"] == ["mark"] and event["mark"] == 7
