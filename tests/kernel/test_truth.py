"""The table proves itself: equal after churn, after loss, after resize; and what was lost is counted exactly."""

from __future__ import annotations

import json
import socket
import subprocess
import threading

from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

from ctobserve.host.dump import dump
from ctobserve.model import TCP_STATES
from ctobserve_lab.traffic import open_tcp, send_udp

RING_MIB = 1


def test_equal_under_churn_and_after_flush_and_resize(net, sysctl, start, report):
    one, two = net.space("one"), net.space("two")
    _, far = net.link(one, two)
    running = start("verify", "--json", "--duration", "600")
    open_tcp(two, one, far, 4040, 41)
    open_tcp(two, one, "fd00:1::2", 4141, 37)
    one.run("ping", "-c1", far)
    one.run("ping", "-6", "-c1", "fd00:1::2")
    send_udp(one, 2003, target=far)
    two.run("conntrack", "-F")
    sysctl("nf_conntrack_buckets", 32768)
    send_udp(one, 1009, first_port=20000, target=far, source_port=6000)
    one.run("conntrack", "-D", "-p", "udp", "--sport", "6000")
    one.run("conntrack", "-I", "-p", "udp", "-s", "10.9.9.9", "-d", "10.9.9.8", "--sport", "1", "--dport", "2", "-t", "600")
    # And some that come and go while both tables are compared.
    churn = threading.Thread(target=lambda: [send_udp(two, 307, first_port=40000, source_port=7000) for _ in range(5)])
    churn.start()
    found = json.loads(running.end())
    churn.join()
    assert found["equal"], found
    assert (found["only_ours"], found["only_kernel"], found["field_diffs"]) == ([], [], [])
    assert found["netlink"] == {"only_ours": 0, "only_kernel": 0}
    assert found["ours"] > 2003
    assert found["meta"]["events_lost"] == 0


# A namespace that an open file alone holds: no process lives there, no name leads to it.
HIDDEN = """
import ctypes, os, socket, subprocess, sys
libc = ctypes.CDLL(None)
home = os.open("/proc/self/ns/net", os.O_RDONLY)
libc.unshare(0x40000000)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["nft", "table inet t { chain o { type filter hook output priority 0; ct state new accept; }; }"], check=True)
with open("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", "w") as timeout:
    timeout.write("900")  # of this namespace alone; a slow machine starts for longer than the 30 s that it has
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(1000, 1041):
    sender.sendto(b"x", ("127.0.0.1", port))
sender.close()
hidden = os.open("/proc/self/ns/net", os.O_RDONLY)
libc.setns(home, 0)
print(os.fstat(hidden).st_ino, flush=True)
sys.stdin.read()
"""


def test_a_namespace_that_cannot_be_entered_is_named_and_no_difference(net, report):
    space = net.space("seen")
    send_udp(space, 307)
    with subprocess.Popen(["/usr/bin/python3", "-c", HIDDEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        inum = int(process.stdout.readline())
        found = report("verify")
        assert found["equal"], found
        # Namespaces of earlier tests may be there too, while the kernel still takes them down.
        assert inum in found["not_dumped"] and space.inum not in found["not_dumped"]
        assert found["ours"] >= 307 + 41
        alone = report("verify", "--netns", space.name)
    assert alone["equal"] and (alone["ours"], alone["kernel"], alone["not_dumped"]) == (307, 307, [])


def test_a_stopped_reader_loses_an_exact_number_and_the_table_is_repaired(net, start):
    space = net.space("loss")
    running = start("verify", "--json", "--duration", "600", "--ring-mib", str(RING_MIB))
    running.pause()
    send_udp(space, 5003)
    running.resume()
    found = json.loads(running.end())
    assert found["meta"]["lost_by_kind"].keys() == {"insert"}
    lost = found["meta"]["events_lost"]
    assert lost > 0
    assert found["meta"]["events_seen"] + lost == 5003
    assert found["equal"], found
    assert found["ours"] == found["kernel"] >= 5003
    assert found["meta"]["table_uncertain_s"] > 0


def test_lost_records_are_an_exit_code_when_asked_for(net, start):
    space = net.space("loss")
    running = start(
        "events", "--json", "--events", "insert", "--fail-on-loss", "--ring-mib", str(RING_MIB), "--netns", space.name
    )
    running.pause()
    send_udp(space, 5003)
    running.resume()
    received = len(running.end(code=5).splitlines())
    (said,) = [line for line in running.errors.splitlines() if "records were lost" in line]
    assert int(said.split()[1]) + received == 5003


def test_events_of_other_namespaces_stay_in_the_kernel(net, start):
    wanted, other = net.space("wanted"), net.space("other")
    running = start("events", "--json", "--netns", wanted.name)
    send_udp(other, 1009)
    other.run("conntrack", "-F")
    send_udp(wanted, 307)
    assert [event["event"] for event in running.events()] == ["insert"] * 307
    assert running.errors.startswith("307 events seen, none lost")


def test_a_dump_tells_what_pyroute2_reads_from_it(net):
    one, two = net.space("one"), net.space("two")
    _, far = net.link(one, two)
    open_tcp(two, one, far, 4040, 5)
    open_tcp(two, one, "fd00:1::2", 4141, 3)
    send_udp(one, 307, target=far)

    def theirs() -> list[tuple[int, ...]]:
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            with NFCTSocket(nfgen_family=family) as opened:
                for message in opened.dump():
                    proto = message.get_attr("CTA_TUPLE_ORIG").get_attr("CTA_TUPLE_PROTO")
                    numbers = [proto.get_attr(f"CTA_PROTO_{name}") for name in ("NUM", "SRC_PORT", "DST_PORT")]
                    found.append((int(family), *numbers, message.get_attr("CTA_STATUS")))
        return sorted(found)

    ours = one.inside(dump)
    columns = ours["l3num"], ours["protonum"], ours["port"][:, 0], ours["port"][:, 1], ours["status"]
    assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == one.inside(theirs)
    assert len(ours) == one.count() == 315
    assert (ours["state"] == TCP_STATES.index("ESTABLISHED")).sum() == 8
