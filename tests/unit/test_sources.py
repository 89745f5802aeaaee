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
    with pytest.raises(KernelLacks, match=r"no nf_conntrack_hash .* no .*nf_conntrack .* no function ctnetlink_fill_info"):
        choose("auto", Symbols(names))


def test_the_hash_is_walked_where_both_its_place_and_its_size_are_known(listings):
    """An address of 0 would be read as a table of no buckets, and every reading taken for one during a resize."""
    with pytest.raises(KernelLacks, match=r"no nf_conntrack_htable_size in /proc/kallsyms \(CONFIG_KALLSYMS_ALL\)"):
        choose("walk", Symbols({"nf_conntrack_hash": 1}))


def test_a_source_that_is_asked_for_is_not_replaced(listings):
    assert choose("netlink", Symbols(EVERYTHING)) is ReadVia.NETLINK
    with pytest.raises(KernelLacks, match="nf_conntrack_hash"):
        choose("walk", Symbols({"ct_seq_show": 2}))


def test_what_is_missing_is_said_as_it_is(listings, monkeypatch):
    """A module that is loaded is not said to be missing because a function of it is not found."""
    copied = Symbols({"ctnetlink_fill_info.constprop.0": 1})
    assert choose("netlink", copied) is ReadVia.NETLINK
    for source, function in (("netlink", "ctnetlink_fill_info"), ("proc", "ct_seq_show")):
        with pytest.raises(KernelLacks, match=f"here: no function {function} to attach to; ask"):
            choose(source, Symbols({"nf_conntrack_in": 1}))
    monkeypatch.setattr(read_via.netlink, "available", lambda: False)
    with pytest.raises(KernelLacks, match="here: nf_conntrack_netlink is not loaded; ask"):
        choose("netlink", copied)
    listings.unlink()
    with pytest.raises(KernelLacks, match=r"here: no .*nf_conntrack \(CONFIG_NF_CONNTRACK_PROCFS\); ask"):
        choose("proc", Symbols(EVERYTHING))
