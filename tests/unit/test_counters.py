"""Counters of a namespace are its own, also when its inode number is given to another."""

from __future__ import annotations

from collections import Counter

from ctobserve.analysis.drops import balance
from ctobserve.host.counters import ONLINE, Reading, delta, parse, ranges, read, total

OLD, NEW = 11, 12  # cookies


def test_what_was_added():
    before = Reading({(7, OLD, 0): Counter(drop=5, found=9), (7, OLD, 1): Counter(drop=1)})
    after = Reading({(7, OLD, 0): Counter(drop=8, found=9), (7, OLD, 1): Counter(drop=1)})
    assert delta(before, after) == {(7, 0): Counter(drop=3, found=0), (7, 1): Counter(drop=0)}
    assert after.cookies == {7: OLD}


def test_a_namespace_that_got_the_number_of_one_that_ended_began_at_0():
    before = Reading({(7, OLD, 0): Counter(drop=500)})
    assert delta(before, Reading({(7, NEW, 0): Counter(drop=3)})) == {(7, 0): Counter(drop=3)}
    assert delta(before, Reading({(7, NEW, 0): Counter(drop=503)})) == {(7, 0): Counter(drop=503)}


def test_a_namespace_that_could_not_be_read_before_is_no_new_one():
    after = Reading({(7, OLD, 0): Counter(drop=123456)})
    assert delta(Reading({}, frozenset((7,))), after) == {}
    assert delta(Reading({}), after) == {}, "it may be old, and seen for the first time"


def test_without_cookies_a_counter_that_fell_is_of_another_namespace():
    moved = delta(Reading({(7, 0, 0): Counter(drop=500, found=2)}), Reading({(7, 0, 0): Counter(drop=3, found=9)}))
    assert moved == {(7, 0): Counter(drop=3, found=9)}


def test_losses_where_no_counter_could_be_read_are_not_compared():
    seen = balance(Counter(table_full=7, clash=2), Counter(drop=3, insert_failed=0), Counter(table_full=4, clash=2))
    assert seen.by_reason == {"table_full": 7, "clash": 2}
    assert seen.unaccounted == {}
    assert balance(Counter(table_full=7), Counter(drop=3)).unaccounted == {"drop": -4}


def test_lines_of_the_kernel():
    text = "entries  clashres found new invalid chainlength\n0000002a  00000001 0000000b 0 0 00000003\n" * 1
    assert parse(text, ()) == {0: {"entries": 42, "clash_resolve": 1, "found": 11, "new": 0, "invalid": 0, "chaintoolong": 3}}
    assert total([Counter(drop=1), Counter(drop=2, found=0)]) == Counter(drop=3, found=0)


def test_every_column_of_proc_by_the_name_that_netlink_has_for_it():
    columns = {"entries": 3, "clashres": 17, "found": 0, "invalid": 31, "chainlength": 2, "drop": 5, "icmp_error": 7}
    (cpu,) = parse(" ".join(columns) + "\n" + " ".join(f"{value:08x}" for value in columns.values()) + "\n", {0}).values()
    expected = {"entries": 3, "clash_resolve": 17, "found": 0, "invalid": 31, "chaintoolong": 2, "drop": 5, "error": 7}
    assert cpu == expected


def test_of_thousands_of_cpus_those_are_kept_that_are_online_or_counted():
    """A machine may have 8192 possible CPUs, each with a line in each of its namespaces."""
    idle = "0000002a  00000000 00000000 00000000\n"
    busy = "0000002a  00000000 00000000 00000005\n"
    online = ranges("0-1,4\n")
    counted = parse("entries  clashres found drop\n" + idle * 700 + busy + idle * 7491, online)
    assert {cpu: counts["drop"] for cpu, counts in counted.items()} == {0: 0, 1: 0, 4: 0, 700: 5}
    before = Reading({(7, OLD, cpu): Counter(drop=0) for cpu in online})
    after = Reading({(7, OLD, cpu): Counter(drop=counts["drop"]) for cpu, counts in counted.items()})
    moved = {(7, 0): 0, (7, 1): 0, (7, 4): 0, (7, 700): 5}
    assert delta(before, after) == {place: Counter(drop=count) for place, count in moved.items()}, "it was at 0 before"


def test_lists_of_cpus_are_read_as_the_kernel_writes_them():
    assert ranges("0\n") == {0}
    assert ranges("0-3,8,10-11\n") == {0, 1, 2, 3, 8, 10, 11}
    assert ranges("\n") == set()


def test_every_cpu_that_is_online_is_there_in_every_namespace():
    online = ranges(ONLINE.read_text())
    cpus = {inum: {cpu for at, _, cpu in read().counts if at == inum} for inum, _, _ in read().counts}
    assert cpus and all(found >= online for found in cpus.values())
