"""The addresses of a namespace, as the kernel lists them."""

from __future__ import annotations

import subprocess

from ctobserve.host import addresses
from tests.unit.nat import addresses as told


def ip(*lines: str) -> None:
    for line in lines:
        subprocess.run(["ip", *line.split()], check=True)


def test_each_address_comes_with_its_network_and_device(own_rules):
    assert addresses.read() == ()
    ip("link set lo up", "link add e0 type veth peer name e1", "link set e0 up", "addr add 10.1.0.1/24 dev e0")
    ip("addr add 10.9.9.9 peer 10.9.9.8 dev e1", "addr add fd00:1::1/64 dev e0 nodad")
    found = addresses.read()
    assert found is not None
    listed = [one for one in found if not str(one.interface).startswith("fe80")]
    assert sorted(listed, key=str) == sorted(
        told("lo 127.0.0.1/8", "lo ::1/128", "e0 10.1.0.1/24", "e1 10.9.9.9/32", "e0 fd00:1::1/64"), key=str
    )


def test_more_than_one_message_has_room_for(own_rules, monkeypatch):
    ip("link add e0 type veth peer name e1")
    many = "\n".join(f"addr add 10.{at // 250}.{at % 250}.1/24 dev e0" for at in range(2003))
    subprocess.run(["ip", "-batch", "-"], input=many, text=True, check=True)
    found = addresses.read()
    assert found is not None and len(found) == 2003
    monkeypatch.setattr(addresses, "MOST", 2002)
    assert addresses.read() is None, "too many to know them"


def test_a_kernel_that_refuses_is_not_asked_again(monkeypatch):
    monkeypatch.setattr(addresses, "RTM_GETADDR", 0xFFF)
    assert addresses.read() is None
