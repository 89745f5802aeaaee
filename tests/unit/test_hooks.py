"""The plan of hooks: which come first, and what is refused."""

from __future__ import annotations

import pytest

from ctobserve.errors import KernelLacks
from ctobserve.host.btf import BtfId
from ctobserve.host.symbols import Symbols
from ctobserve.programs.hooks import HOOKS, Form, Purpose, attachable, check, plan

ALL = ~Purpose(0)
FUNCTIONS = {hook.name for hook in HOOKS}
SYMBOLS = Symbols(dict.fromkeys(FUNCTIONS, 1))
TYPED = {name: BtfId("nf_conntrack", number) for number, name in enumerate(sorted(FUNCTIONS))}
# Whoever takes a mark, or tells of an end, is attached before whoever leaves the mark or tells of the beginning.
BEFORE = [
    ("destroy", "insert"),
    ("destroy", "resolve_clash"),
    ("early_drop", "early_drop_begin"),
    ("alloc", "early_drop"),
    ("confirm", "resolve_clash"),
    ("confirm", "lock"),
    ("confirm", "alloc"),
    ("destroy", "kill"),
    ("destroy", "iterate"),
    ("destroy", "early_drop_begin"),
    ("count_destroy", "count_insert"),
    ("count_destroy", "count_clash"),
    ("count_destroy", "kill"),
    ("count_destroy", "iterate"),
    ("count_confirm", "count_clash"),
    ("free_entry", "clash_begin"),
    ("packet", "log_of_entry"),
    ("packet", "log_of_packet"),
    ("packet", "icmp_error"),
]


@pytest.mark.parametrize(("first", "second"), BEFORE)
@pytest.mark.parametrize("ids", [{}, TYPED], ids=["kprobe", "fentry"])
def test_what_a_call_does_last_is_attached_first(first, second, ids):
    programs = [item.hook.program for item in plan(SYMBOLS, ids, ALL)]
    assert programs.index(first) < programs.index(second)


def test_a_table_is_not_followed_without_the_functions_that_keep_it_true():
    for missing in ("__nf_conntrack_hash_insert", "nf_ct_delete"):
        names = {name: 1 for name in FUNCTIONS if name != missing}
        planned = plan(Symbols(names), TYPED, Purpose.TABLE)
        with pytest.raises(KernelLacks, match=missing):
            check(planned, TYPED, "auto")
    check(plan(Symbols(dict.fromkeys(FUNCTIONS - {"nf_ct_resolve_clash"}, 1)), TYPED, Purpose.TABLE), TYPED, "auto")


def test_who_wants_some_of_the_entries_that_die_gets_no_more_than_some():
    """A record for each would let a flood that a rule drops fill the ring of a report."""
    programs = {item.hook.program for item in plan(SYMBOLS, {}, Purpose.TABLE | Purpose.DROPS | Purpose.UNCONFIRMED)}
    assert "some_free" in programs and "free_entry" not in programs
    assert "some_free" not in {item.hook.program for item in plan(SYMBOLS, {}, Purpose.TABLE | Purpose.REASONS)}


def test_fentry_is_refused_and_not_replaced_where_one_function_has_no_type():
    ids = {name: number for name, number in TYPED.items() if name != "early_drop"}
    planned = plan(SYMBOLS, ids, Purpose.DROPS)
    assert {item.form for item in planned} == {Form.KPROBE, Form.KRETPROBE}
    with pytest.raises(KernelLacks, match=r"--attach fentry: .* early_drop; try: --attach kprobe"):
        check(planned, ids, "fentry")
    for attach in ("auto", "kprobe"):
        check(planned, ids, attach)
    check(plan(SYMBOLS, ids, Purpose.TABLE), ids, "fentry")
    with pytest.raises(KernelLacks, match="--attach fentry"):
        check(plan(SYMBOLS, {}, Purpose.TABLE), {}, "fentry")


@pytest.mark.parametrize(
    ("symbols", "function"),
    [
        ("nf_ct_delete", "nf_ct_delete"),
        ("nf_ct_delete nf_ct_delete.part.0 nf_ct_delete.part.0.cold", "nf_ct_delete.part.0"),
        ("nf_ct_delete.part.12", "nf_ct_delete.part.12"),
        ("nf_ct_delete nf_ct_delete.constprop.0", None),
        ("nf_ct_delete nf_ct_delete.part.0 nf_ct_delete.isra.0", None),
        ("nf_ct_delete.part.0 nf_ct_delete.part.1", None),
        ("nf_ct_delete.cold a_nf_ct_delete.part.0", None),
        ("nf_conntrack_double_lock.constprop.0", "nf_conntrack_double_lock.constprop.0"),
        ("nf_conntrack_double_lock.isra.0 nf_conntrack_double_lock.isra.0.cold", "nf_conntrack_double_lock.isra.0"),
        ("nf_conntrack_double_lock nf_conntrack_double_lock.isra.0", None),
        ("nf_conntrack_double_lock.part.0", None),
        ("ctnetlink_fill_info.constprop.0", "ctnetlink_fill_info.constprop.0"),
        ("ctnetlink_fill_info ctnetlink_fill_info.constprop.0", None),
        ("early_drop.constprop.0.isra.0", "early_drop.constprop.0.isra.0"),
        ("early_drop.isra.0.part.0", None),
        ("__nf_conntrack_alloc.llvm.4711", "__nf_conntrack_alloc.llvm.4711"),
        ("__nf_conntrack_alloc __nf_conntrack_alloc.llvm.4711", None),
        # What the flags of an allocation are may be known in each call, and the hash behind them moves.
        ("__nf_conntrack_alloc", "__nf_conntrack_alloc"),
        ("__nf_conntrack_alloc.constprop.0", None),
        ("__nf_conntrack_alloc __nf_conntrack_alloc.constprop.0", None),
    ],
)
def test_a_copy_is_taken_only_where_it_sees_every_call_with_its_arguments_in_known_places(symbols, function):
    names = symbols.split()
    assert attachable(names[0].removeprefix("a_").partition(".")[0], Symbols(dict.fromkeys(names, 1))) == function
