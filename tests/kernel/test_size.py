"""`size` on a real table: every way to read it tells the same, and the rate is that of the packets sent."""

from __future__ import annotations

import threading

from ctobserve_lab.traffic import open_tcp, send_udp

WAYS = ("walk", "proc", "netlink")


def test_every_way_to_read_the_table_tells_the_same(net, report):
    one, two = net.space("one"), net.space("two")
    _, far = net.link(one, two)
    open_tcp(two, one, far, 4040, 5)
    send_udp(one, 31, target=far)
    one.run("ping", "-c1", far)
    options = ("--netns", one.name, "--timeout", "udp_timeout=0", "--timeout", "icmp_timeout=899", "--max", "524288")
    found = [report("size", *options, "--source", way) for way in WAYS]
    for way, document in zip(WAYS, found, strict=True):
        groups = {(row["proto"], row["state"], row["timeout"], row["timeout_s"]): row["entries"] for row in document["entries"]}
        assert document["entries_from"] == way
        assert groups[("udp", None, "nf_conntrack_udp_timeout", 900)] == 31, way
        assert groups[("tcp", "ESTABLISHED", "nf_conntrack_tcp_timeout_established", 432000)] == 5, way
        assert groups[("icmp", None, "nf_conntrack_icmp_timeout", 900)] == 1, way
        assert [(row["entries"], row["gone"], row["unknown"]) for row in document["timeouts"]] == [(31, 31, 0), (1, 0, 0)], way
        assert document["now"]["count"] == one.count() == sum(groups.values())
        assert document["notes"] == []
        assert not document["paste"]["buckets_settable_here"]
        assert [row["name"] for row in document["sysctls"] if row["meaning"] is None] == []
        assert document["defaults"] is not None and document["full"]["real"]["object_bytes"] >= 248
    assert found[0]["entries_with_extensions"] is not None
    here = report("size")
    assert here["paste"]["buckets_settable_here"]
    assert (here["defaults"]["buckets"], here["defaults"]["max"]) == (here["now"]["buckets"], here["now"]["max"])


def test_the_rate_is_measured_and_the_need_follows(net, report):
    space = net.space("rate")
    done = threading.Event()

    def send() -> None:
        first = 10000
        while not done.wait(0.5) and first < 60000:
            send_udp(space, 11, first)
            first += 11

    sender = threading.Thread(target=send)
    sender.start()
    try:
        found = report("size", "--netns", space.name, "--duration", "10", "--headroom", "3")
    finally:
        done.set()
        sender.join()
    need = found["need"]
    assert 1 < need["rate_per_s"] < 40
    assert need["entries"] >= 11 and abs(need["max"] - 3 * need["entries"]) <= 3
    assert found["paste"]["sysctl_d"] == [f"net.netfilter.nf_conntrack_max = {need['max']}"]
