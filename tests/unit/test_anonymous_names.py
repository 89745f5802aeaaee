"""What becomes of an address, a device, a name: others of the same kind, alike where they were alike."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from random import Random

import numpy as np
import pytest

from ctobserve.capture.anonymous.addresses import RANGES, Addresses
from ctobserve.capture.anonymous.key import Key
from ctobserve.capture.anonymous.names import Names
from tests.unit.test_anonymous import SECRET


def shared(one: int, other: int, bits: int) -> int:
    """How many first bits are equal."""
    return bits - (one ^ other).bit_length()


def some_addresses(version: int, count: int, some: Random) -> Iterator[int]:
    """At random, beside each other, and in and around the ranges that stay."""
    bits = 32 if version == 4 else 128
    networks = [network for network in map(ip_network, RANGES) if network.version == version]
    known = [some.getrandbits(bits)]
    for _ in range(count):
        way = some.randrange(3)
        if way == 0:
            known.append(some.getrandbits(bits))
        elif way == 1:
            known.append(some.choice(known) ^ some.getrandbits(some.randrange(1, bits)))
        else:
            known.append(int(some.choice(networks).network_address) ^ some.getrandbits(some.randrange(1, bits)))
    yield from known


@pytest.mark.parametrize("version", [4, 6])
def test_who_shared_so_many_first_bits_shares_exactly_so_many(version):
    size, family = (4, 2) if version == 4 else (16, 10)
    there = list(dict.fromkeys(some_addresses(version, 400, Random(version))))
    rows = np.zeros((len(there), 16), np.uint8)
    rows[:, :size] = [list(one.to_bytes(size, "big")) for one in there]
    found = Addresses(SECRET).rows(rows, np.full(len(there), family, np.uint8))
    made = [int.from_bytes(row[:size].tobytes(), "big") for row in found]
    assert not found[:, size:].any() and len(set(made)) == len(there)
    for one, mine in zip(there, made, strict=True):
        assert [shared(mine, other, 8 * size) for other in made] == [shared(one, other, 8 * size) for other in there]


@pytest.mark.parametrize("text", RANGES)
def test_a_range_that_means_something_becomes_itself(text):
    network, addresses = ip_network(text), Addresses(SECRET)
    for one in (network.network_address, network.broadcast_address):
        assert addresses.one(one) in network
    assert addresses.network(network) == network
    outside = type(network.network_address)(int(network.network_address) ^ 1 << network.max_prefixlen - network.prefixlen)
    assert addresses.one(outside) not in network


@pytest.mark.parametrize("text", ["0.0.0.0", "0.0.0.9", "127.0.0.1", "127.9.9.9", "224.0.0.251", "255.255.255.255", "::", "::1"])
def test_an_address_that_says_nothing_of_a_host_stays(text):
    assert str(Addresses(SECRET).one(ip_address(text))) == text


@pytest.mark.parametrize(
    "text", ["10.1.0.5", "192.168.7.9", "198.51.100.7", "2001:db8::77", "fe80::1234", "fd00::5", "ff02::1:ff00:1234"]
)
def test_any_other_becomes_another_that_goes_by_the_key(text):
    one = ip_address(text)
    found = {Addresses(Key(bytes([number]))).one(one) for number in range(9)}
    assert len(found) == 9 and one not in found
    assert Addresses(SECRET).one(one) == Addresses(SECRET).one(one) != one


def test_the_broadcast_address_of_a_network_is_that_of_its_network():
    network = ip_network("10.1.32.0/19")
    addresses = Addresses(SECRET, [(network.broadcast_address, network.prefixlen)])
    assert addresses.one(network.broadcast_address) == addresses.network(network).broadcast_address
    assert addresses.network(network) != network


def test_what_is_forgotten_is_found_again(monkeypatch):
    for name in ("REMEMBERED", "REMEMBERED_BYTES"):
        monkeypatch.setattr(f"ctobserve.capture.anonymous.addresses.{name}", 3)
    addresses, there = Addresses(SECRET), [ip_address(0x0A000001 + at) for at in range(9)]
    monkeypatch.undo()
    assert [addresses.one(one) for one in there * 2] == [Addresses(SECRET).one(one) for one in there * 2]


def test_rows_of_another_family_say_no_address():
    rows = np.full((2, 16), 7, np.uint8)
    found = Addresses(SECRET).rows(rows, np.array([0, 7], np.uint8))
    assert not found.any()


def test_devices_that_begin_alike_have_names_that_do():
    device = Names(SECRET).device
    assert device("lo") == "lo" and device(b"eth0") == device("eth0") != "eth0" and device("") == ""
    assert device("veth*") == device("vetha1")[:4] + "*" and device("vxlan")[:2] != device("veth")[:2]
    assert device("eth0.100")[4] == "." and device("eth0.100")[:4] == device("eth0")
    every = [f"eth{at}" for at in range(100)]
    assert len(set(map(device, every))) == 100 and all(len(device(name)) == len(name) for name in every)
    assert device("\u00e9th\udcff\ud800").isascii()


def test_the_container_of_an_owner_begins_as_the_one_in_a_label():
    names, container = Names(SECRET), "0a1b2c3d4e5f" + "7" * 52
    made = names.container(container)
    assert len(made) == 64 and made != container and names.namespace("nginx@0a1b2c3d4e5f").endswith(f"@{made[:12]}")
    assert names.container("0a1b2c3d4e5f" + "8" * 52)[12:] != made[12:]
    assert [len(part) for part in names.pod_uid("7ba8a6f5-1f7a").split("-")] == [8, 4, 4, 4, 12]
    assert names.owner("web-0") == names.owner("web-0") != names.owner("web-1") != "web-1"


def test_a_name_is_the_same_in_all_its_forms():
    names = Names(SECRET)
    comm = names.process(b"ngi\x1bnx\\")
    assert comm == names.process("ngi\\x1bnx\\\\") != names.process(b"other") and len(comm) <= 15
    assert names.namespace("ngi\\x1bnx\\\\[4711]") == f"{comm}[4711]"
    container = names.namespace("ngi\\x1bnx\\\\@0123456789ab")
    assert container.startswith(f"{comm}@") and "0123456789ab" not in container
    assert names.namespace("init") == "init" and names.namespace("4026531840") == "4026531840"
    assert names.namespace("blue") != names.process("blue") and names.rule("PREROUTING") == "PREROUTING" != names.rule("acme")
    assert len(names.boot("b")) == 36 and names.boot("b") != names.boot("c")
