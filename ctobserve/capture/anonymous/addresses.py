"""Other addresses in place of those that there are: who shared the first bits of an address with another still shares so many.

As Crypto-PAn has it (Xu, Fan, Ammar, Moon, 2002): each bit of an address is flipped or not as a keyed hash of the bits before it
says, so that two addresses with exactly k equal first bits have exactly k afterwards, and each network is a network again. Some
bits are never flipped: those that lead to a range which means something by itself, so that this range becomes itself.

One digest of 256 bits says it for the eight bits of a byte at once: 255 beginnings of a byte, from none to seven bits, have a bit
of it each, and the bytes before are what it is the digest of.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import numpy as np

from ctobserve.capture.anonymous.key import Key
from ctobserve.model import NDArray

IPV4, IPV6 = 2, 10
SIZES = {IPV4: 4, IPV6: 16}  # bytes of an address, by its family (ENTRY's l3num)
PURPOSES = {IPV4: b"ipv4", IPV6: b"ipv6"}
REMEMBERED, REMEMBERED_BYTES = 1 << 18, 1 << 16  # addresses and their beginnings; flips of the byte after a beginning
Bytes = NDArray[np.uint8]
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Each becomes itself: an address of it another one of it, none of others.
RANGES = (
    *("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "224.0.0.0/4"),
    *("fc00::/8", "fd00::/8", "fe80::/64", "ff00::/8", "::ffff:0:0/96", "64:ff9b::/96"),
    *(f"ff0{scope:x}::/16" for scope in range(16)),
)
# Their addresses stay as they are: they say nothing of a host.
KEPT = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/24", "255.255.255.255/32", "::/128", "::1/128")


class Addresses:
    """Addresses that are in no RANGES, KEPT or `broadcasts` are anybody's."""

    def __init__(self, key: Key, broadcasts: Iterable[tuple[IPv4Address, int]] = ()) -> None:
        """`broadcasts`: the last addresses of IPv4 networks with their prefix lengths, which shall be the last ones again."""
        self._key = key
        self._unflipped: dict[tuple[int, bytes], int] = {}
        self._other, self._flips = lru_cache(REMEMBERED)(self._made), lru_cache(REMEMBERED_BYTES)(self._digest)
        for text in (*RANGES, *KEPT):
            network = ip_network(text)
            self._keep(network.network_address, 0, network.prefixlen)
        for last, length in broadcasts:
            self._keep(last, length, last.max_prefixlen)

    def _keep(self, address: Address, first: int, end: int) -> None:
        """Of this address the bits from `first` to before `end` are never flipped, wherever those before them are the same."""
        family = IPV4 if address.version == 4 else IPV6
        for at in range(first, end):
            byte, bit = divmod(at, 8)
            place = family, address.packed[:byte]
            self._unflipped[place] = self._unflipped.get(place, 0) | 1 << _branch(address.packed[byte], bit)

    def one(self, address: Address) -> Address:
        """In place of this one."""
        return type(address)(self._other(IPV4 if address.version == 4 else IPV6, address.packed))

    def network(self, network: Network) -> Network:
        """In place of this one, of the same length."""
        return type(network)((self.one(network.network_address), network.prefixlen), strict=False)

    def rows(self, packed: Bytes, families: NDArray[np.uint8]) -> Bytes:
        """Shape (n, 16), network order, IPv4 in the first 4 bytes, and (n,): of each row its family.

        What lies behind an IPv4 address, or has another family, becomes zero.
        """
        made = np.zeros_like(packed)
        for family, size in SIZES.items():
            which = np.flatnonzero(families == family)
            if len(which):
                some = np.ascontiguousarray(packed[which, :size])
                distinct, of = np.unique(some.view(f"V{size}")[:, 0], return_inverse=True)
                others = b"".join(self._other(family, one) for one in distinct.tolist())
                made[which[:, None], np.arange(size)] = np.frombuffer(others, np.uint8).reshape(-1, size)[of]
        return made

    def _made(self, family: int, address: bytes) -> bytes:
        """Of an address, or of its first bytes: those before the last are exchanged as in any other address with them."""
        if not address:
            return address
        before, byte = address[:-1], address[-1]
        flips = self._flips(family, before)
        for branch, bit in _BITS[byte]:
            if flips >> branch & 1:
                byte ^= bit
        return self._other(family, before) + bytes((byte,))

    def _digest(self, family: int, before: bytes) -> int:
        """After these bytes, for each _branch a bit: whether the bit that follows it is flipped."""
        if before.startswith(_KEPT_BYTES[family]):
            return 0
        return int.from_bytes(self._key.digest(PURPOSES[family], before), "little") & ~self._unflipped.get((family, before), 0)


def _branch(byte: int, bit: int) -> int:
    """Which of the beginnings of a byte its first `bit` bits are."""
    return (1 << bit) - 1 + (byte >> 8 - bit)


# Of each byte its bits, the first the highest, each with the beginning that says whether it is flipped.
_BITS = [[(_branch(byte, bit), 1 << 7 - bit) for bit in range(8)] for byte in range(256)]


def _kept_bytes(family: int) -> tuple[bytes, ...]:
    """The first bytes of each range in KEPT, which goes on behind a whole byte."""
    networks = [network for network in map(ip_network, KEPT) if network.version == (4 if family == IPV4 else 6)]
    assert not any(network.prefixlen % 8 for network in networks)
    return tuple(network.network_address.packed[: network.prefixlen // 8] for network in networks)


_KEPT_BYTES = {family: _kept_bytes(family) for family in SIZES}
