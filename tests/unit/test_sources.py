from __future__ import annotations

import struct

import pytest

from ctobserve.capture import read_via
from ctobserve.capture.read_via import ReadVia, choose
from ctobserve.errors import KernelLacks
from ctobserve.host.symbols import Symbols
from ctobserve.programs.loader import Programs

EVERYTHING = {"nf_conntrack_hash": 1, "ct_seq_show": 2, "ctnetlink_fill_info": 3}


@pytest.fixture
def listings(tmp_path, monkeypatch):
    """A kernel with /proc/net/nf_conntrack and nf_conntrack_netlink."""
    file = tmp_path / "nf_conntrack"
    file.touch()
    monkeypatch.setattr(read_via, "PROC", file)
    monkeypatch.setattr(read_via.netlink, "available", lambda: True)
    return file


def test_the_first_source_that_the_kernel_offers(listings):
    names = dict(EVERYTHING)
    assert choose("auto", Symbols(names)) is ReadVia.WALK
    del names["nf_conntrack_hash"]
    assert choose("auto", Symbols(names)) is ReadVia.PROC
    listings.unlink()
    assert choose("auto", Symbols(names)) is ReadVia.NETLINK
    del names["ctnetlink_fill_info"]
    with pytest.raises(KernelLacks, match=r"no nf_conntrack_hash .* no .*nf_conntrack .* nf_conntrack_netlink"):
        choose("auto", Symbols(names))


def test_a_source_that_is_asked_for_is_not_replaced(listings):
    assert choose("netlink", Symbols(EVERYTHING)) is ReadVia.NETLINK
    with pytest.raises(KernelLacks, match="nf_conntrack_hash"):
        choose("walk", Symbols({"ct_seq_show": 2}))


def test_choices_replace_the_constants_that_stand_for_them():
    def wide(low: int, high: int) -> bytes:
        return struct.pack("<BBHi", 0x18, 1, 0, low) + struct.pack("<BBHI", 0, 0, 0, high)

    code = bytearray(wide(0, 0xC401CE) + wide(7, 9) + wide(2, 0xC401CE) + wide(0xC401CE, 9))
    programs = Programs.__new__(Programs)
    programs._choices = (False, False, True, False, False, 0)
    programs._choose(code)
    assert bytes(code) == wide(0, 0) + wide(7, 9) + wide(1, 0) + wide(0xC401CE, 9)
