"""Other addresses in place of those that there are: who shared the first bits of an address with another still shares so many.

As Crypto-PAn has it (Xu, Fan, Ammar, Moon, 2002): each bit of an address is flipped or not as a keyed hash of the bits before it
says, so that two addresses with exactly k equal first bits have exactly k afterwards, and each network is a network again. Some
bits are never flipped: those that lead to a range which means something by itself, so that this range becomes itself.

One digest of 256 bits says it for the eight bits of a byte at once: 255 beginnings of a byte, from none to seven bits, have a bit
of it each, and the bytes before are what it is the digest of.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

import numpy as np

from ctobserve.capture.anonymous.key import Key
from ctobserve.model import Mask, NDArray

IPV4, IPV6 = 2, 10
SIZES = {IPV4: 4, IPV6: 16}  # bytes of an address, by its family (ENTRY's l3num)
PURPOSES = {IPV4: b"ipv4", IPV6: b"ipv6"}
REMEMBERED = 1 << 18  # addresses of a family
BRANCHES = 256
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
        self._known: dict[int, dict[bytes, bytes]] = {family: {} for family in SIZES}
        self._unflipped: dict[tuple[int, bytes], Mask] = {}
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
            none = np.zeros(BRANCHES, np.bool_)
            self._unflipped.setdefault((family, address.packed[:byte]), none)[_branch(address.packed[byte], bit)] = True

    def one(self, address: Address) -> Address:
        """In place of this one."""
        family = IPV4 if address.version == 4 else IPV6
        found = self._many(family, [address.packed])[0]
        return type(address)(found)

    def network(self, network: Network) -> Network:
        """In place of this one, of the same length."""
        return type(network)((self.one(network.network_address), network.prefixlen), strict=False)

    def rows(self, packed: Bytes, families: NDArray[np.uint8]) -> Bytes:
        """Shape (n, 16), network order, IPv4 in the first 4 bytes, and (n,): of each row its family.

        What lies behind an IPv4 address, or has another family, becomes zero.
        """
        made = np.zeros_like(packed)
        for family, size in SIZES.items():
            which = families == family
            if which.any():
                some = np.ascontiguousarray(packed[which, :size])
                distinct, of = np.unique(some.view(f"V{size}")[:, 0], return_inverse=True)
                mapped = np.frombuffer(b"".join(self._many(family, distinct.tolist())), np.uint8).reshape(-1, size)
                made[np.flatnonzero(which)[:, None], np.arange(size)] = mapped[of]
        return made

    def _many(self, family: int, addresses: list[bytes]) -> list[bytes]:
        """In place of these; those of late are remembered."""
        known = self._known[family]
        fresh = list({one for one in addresses if one not in known})
        if fresh:
            if len(known) + len(fresh) > REMEMBERED:
                known.clear()
                fresh = list(set(addresses))
            known.update(zip(fresh, self._made(family, fresh), strict=True))
        return [known[one] for one in addresses]

    def _made(self, family: int, addresses: list[bytes]) -> list[bytes]:
        size = SIZES[family]
        found = np.frombuffer(b"".join(addresses), np.uint8).reshape(-1, size)
        made = found.copy()
        for at in range(size):
            beginnings = [one[:at] for one in addresses]
            places = {beginning: place for place, beginning in enumerate(dict.fromkeys(beginnings))}
            digests = np.frombuffer(b"".join(self._flips(family, beginning) for beginning in places), np.uint8)
            flips = np.unpackbits(digests.reshape(-1, BRANCHES // 8), axis=1, bitorder="little")
            of = np.array([places[beginning] for beginning in beginnings])
            for bit in range(8):
                made[:, at] ^= flips[of, _branch(found[:, at].astype(np.intp), bit)] << np.uint8(7 - bit)
        return [row.tobytes() for row in made]

    def _flips(self, family: int, beginning: bytes) -> bytes:
        """A bit for each _branch: whether the bit that follows is flipped."""
        if beginning.startswith(_KEPT_BYTES[family]):
            return bytes(BRANCHES // 8)
        digest = self._key.digest(PURPOSES[family], beginning)
        unflipped = self._unflipped.get((family, beginning))
        if unflipped is None:
            return digest
        flips = np.unpackbits(np.frombuffer(digest, np.uint8), bitorder="little")
        flips[unflipped] = 0
        return np.packbits(flips, bitorder="little").tobytes()


def _branch(byte: Any, bit: int) -> Any:
    """Which of the beginnings of a byte its first `bit` bits are."""
    return (1 << bit) - 1 + (byte >> 8 - bit)


def _kept_bytes(family: int) -> tuple[bytes, ...]:
    """The first bytes of each range in KEPT, which goes on behind a whole byte."""
    networks = [network for network in map(ip_network, KEPT) if network.version == (4 if family == IPV4 else 6)]
    assert not any(network.prefixlen % 8 for network in networks)
    return tuple(network.network_address.packed[: network.prefixlen // 8] for network in networks)


_KEPT_BYTES = {family: _kept_bytes(family) for family in SIZES}
