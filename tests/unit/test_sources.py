from __future__ import annotations

import pytest

from ctobserve.capture import read_via
from ctobserve.capture.read_via import ReadVia, choose
from ctobserve.errors import KernelLacks
from ctobserve.host.symbols import Symbols

EVERYTHING = {"nf_conntrack_hash": 1, "nf_conntrack_htable_size": 4, "ct_seq_show": 2, "ctnetlink_fill_info": 3}


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


def test_the_hash_is_walked_where_both_its_place_and_its_size_are_known(listings):
    """An address of 0 would be read as a table of no buckets, and every reading taken for one during a resize."""
    with pytest.raises(KernelLacks, match=r"no nf_conntrack_htable_size in /proc/kallsyms \(CONFIG_KALLSYMS_ALL\)"):
        choose("walk", Symbols({"nf_conntrack_hash": 1}))


def test_a_source_that_is_asked_for_is_not_replaced(listings):
    assert choose("netlink", Symbols(EVERYTHING)) is ReadVia.NETLINK
    with pytest.raises(KernelLacks, match="nf_conntrack_hash"):
        choose("walk", Symbols({"ct_seq_show": 2}))
