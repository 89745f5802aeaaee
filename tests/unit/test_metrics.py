"""What is exported: whose series there are, that none falls, and how Prometheus reads them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text

from ctobserve import __version__
from ctobserve.analysis.agreement import WATCHED, Instant, losses_of, unaccounted
from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.counts import FOLDED, Count
from ctobserve.capture.standing import AGAIN_NS, Standing
from ctobserve.capture.table import Lengths
from ctobserve.clock import NS_PER_S
from ctobserve.documents.metering import LEAST_S, LOSSES, SYSCTLS, Metering
from ctobserve.documents.metrics import BOUNDS, Metrics, chains_of
from ctobserve.documents.spaces import OTHER, Spaces
from ctobserve.errors import CtobserveError, NotPermitted
from ctobserve.event import Kind
from ctobserve.host.owner import Owner, OwnerKind
from ctobserve.render.exposition import Pages
from tests.scripted import NETNS, ScriptedCapture, reading

INSERT, DESTROY, DROP, RESOLVED = Kind.INSERT, Kind.DESTROY, Kind.DROP, Kind.RESOLVED
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def state(inum: int, label: str, entries: int | None = None, init: bool = False) -> NamespaceState:
    sysctls = {} if entries is None else dict(zip(SYSCTLS, (entries, 1000 + inum, 1024), strict=True))
    return NamespaceState(inum, label, init=init, sysctls=sysctls)


def states(*made: NamespaceState) -> dict[int, NamespaceState]:
    return {one.inum: one for one in made}


@dataclass
class ScriptedCounting(ScriptedCapture):
    """`counted` so far, what it was told to forget, and a clock that each pass over the chains moves by `pass_s`."""

    counted_: list[Count] = field(default_factory=list)
    missed_: int = 0
    forgotten: set[int] = field(default_factory=set)
    chains: Lengths | None = None
    pass_s: float = 0.0
    passes: int = 0
    attach: str = "fentry"
    not_attached: tuple[str, ...] = ()

    def counts(self) -> list[Count]:
        return list(self.counted_)

    def missed(self) -> int:
        return self.missed_

    def lengths(self) -> Lengths | None:
        self.passes += 1
        self.wait(self.pass_s)
        return self.chains

    def forget(self, gone: Collection[int]) -> None:
        self.forgotten |= set(gone)
        self.counted_ = [one for one in self.counted_ if one.netns not in gone]


def test_a_namespace_beyond_the_limit_is_counted_with_the_others_and_a_free_place_is_taken():
    spaces = Spaces(2)
    three = states(state(30, "c"), state(20, "b"), state(10, "a", init=True))
    spaces.know(three)
    spaces.add([Count(inum, INSERT, "", number) for inum, number in ((10, 2), (20, 3), (30, 5))])
    assert {label: sums[INSERT, ""] for label, sums in spaces.sums.items()} == {"a": 2, "b": 3, OTHER: 5}
    # b ends, what it still counts is of the others, and c has a series of its own from now on.
    spaces.know({inum: one for inum, one in three.items() if inum != 20})
    spaces.add([Count(inum, INSERT, "", number) for inum, number in ((10, 2), (20, 10), (30, 16))])
    assert {label: sums[INSERT, ""] for label, sums in spaces.sums.items()} == {"a": 2, "c": 11, OTHER: 12}
    assert spaces.gone == {20}


def test_sums_never_fall_whatever_becomes_of_the_programs_that_count():
    spaces = Spaces(9)
    spaces.know(states(state(10, "a")))
    for numbers in ((7,), (9,), (), (4,)):
        if not numbers:
            spaces.restart()
        spaces.add([Count(10, DROP, "clash", number) for number in numbers])
    assert spaces.sums["a"][DROP, "clash"] == 13
    # Forgotten there, and counted from 0 again.
    spaces.add([Count(10, DROP, "clash", 1)])
    spaces.add([Count(10, DROP, "clash", 3)])
    assert spaces.sums["a"][DROP, "clash"] == 15


def test_a_number_that_is_anothers_now_begins_at_nothing():
    spaces = Spaces(9)
    spaces.know(states(state(10, "a")))
    spaces.add([Count(10, INSERT, "", 7)])
    spaces.know(states(state(10, "b")))
    spaces.add([Count(10, INSERT, "", 9), Count(FOLDED, INSERT, "", 3)])
    assert {label: sums[INSERT, ""] for label, sums in spaces.sums.items()} == {"b": 2, OTHER: 3}


def test_no_two_series_are_called_the_same():
    spaces = Spaces(9)
    called = {1: "a", 2: "a", 3: OTHER, 4: "a#1", 5: "b"}
    spaces.know(states(*(state(inum, label) for inum, label in called.items())))
    assert {inum: spaces.label(inum) for inum in called} == {1: "a#1", 2: "a#2", 3: "other#3", 4: "a#1#4", 5: "b"}
    assert len(spaces.sums) == len(called) + 1


def test_counts_are_compared_with_the_kernels_counters_where_both_speak_of_the_same():
    before = Instant(losses_of([Count(NETNS, DROP, "clash", 2)]), reading(drop=2, insert_failed=2, invalid=1))
    counts = [
        Count(NETNS, DROP, "clash", 5),
        Count(NETNS, DROP, "helper", 4),
        Count(NETNS, DROP, "confirmed", 4),
        Count(NETNS, DROP, "dying", 1),
        Count(NETNS, RESOLVED, "", 7),
        Count(NETNS, DESTROY, "early_drop", 11),
        Count(NETNS, DESTROY, "timeout", 13),
        Count(NETNS, INSERT, "", 17),
        Count(8, DROP, "clash", 1),
    ]
    kernel = {"drop": 5, "insert_failed": 6, "clash_resolve": 7, "early_drop": 11}
    assert unaccounted(before, Instant(losses_of(counts), reading(**kernel, invalid=100))) == {}
    assert unaccounted(before, Instant(losses_of(counts), reading(**kernel | {"drop": 9}, invalid=100))) == {NETNS: {"drop": 4}}
    assert unaccounted(before, Instant(losses_of(counts), reading(cookie=2, drop=9))) == {}, "another namespace by now"


CHAINS = Lengths(np.array([0, 0, 1, 3, 300], np.uint16), 150, 0)
HAPPENED = [
    Count(NETNS, INSERT, "", 31),
    Count(NETNS, DESTROY, "timeout", 5),
    Count(NETNS, DESTROY, "early_drop", 3),
    Count(NETNS, DROP, "table_full", 7),
    Count(NETNS, RESOLVED, "", 2),
    Count(FOLDED, INSERT, "", 13),
]


def made(**more) -> ScriptedCounting:
    given = {
        "states": states(state(NETNS, "blue", 23, init=True)._replace(owner=Owner(OwnerKind.POD, "blue-7d9c"))),
        "counted_": list(HAPPENED),
        "chains": CHAINS,
        "missed_": 1,
    }
    return ScriptedCounting(**given | more)


def test_all_that_is_exported_in_both_forms():
    counting = made()
    metering = Metering(counting, 9, print, lambda: 4)
    metering.look(counting)
    found = metering.read(counting)
    pages = Pages(found)
    kinds = {}
    for accept, parse in (("text/plain", of_text), (OPENMETRICS, of_openmetrics)):
        content_type, page = pages.of(accept)
        assert content_type.startswith(accept.partition(";")[0])
        families = list(parse(page.decode()))
        kinds[accept] = {
            (one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples
        }
    samples = kinds[OPENMETRICS]
    assert samples == kinds["text/plain"]
    walked = samples.pop(("ctobserve_walk_timestamp_seconds", ()))
    assert walked == counting.wall_ns() / NS_PER_S
    blue, other = (("netns", "blue"),), (("netns", "other"),)
    build = {"version": __version__, "kernel": "6.1.0-test", "machine": "x86_64", "attach": "fentry"}
    at_most = dict.fromkeys(BOUNDS, 4) | {0: 2, 1: 3, 2: 3}
    losses = dict.fromkeys(LOSSES, 0) | {"table_full": 7}
    assert samples == {
        ("ctobserve_build_info", tuple(sorted(build.items()))): 1,
        ("ctobserve_netns_info", (*blue, ("owner", "pod/blue-7d9c"))): 1,
        ("ctobserve_entries", blue): 23,
        ("ctobserve_entries", other): 0,
        ("ctobserve_entries_limit", blue): 1007,
        ("ctobserve_buckets", ()): 1024,
        ("ctobserve_inserts_total", blue): 31,
        ("ctobserve_inserts_total", other): 13,
        ("ctobserve_destroys_total", (*blue, ("reason", "timeout"))): 5,
        ("ctobserve_destroys_total", (*blue, ("reason", "early_drop"))): 3,
        **{("ctobserve_drops_total", (*blue, ("reason", reason))): number for reason, number in losses.items()},
        **{("ctobserve_drops_total", (*other, ("reason", reason))): 0 for reason in LOSSES},
        ("ctobserve_early_drops_total", blue): 3,
        ("ctobserve_early_drops_total", other): 0,
        ("ctobserve_clashes_resolved_total", blue): 2,
        ("ctobserve_clashes_resolved_total", other): 0,
        **{("ctobserve_chain_length_bucket", (("le", f"{bound}.0"),)): number for bound, number in at_most.items()},
        ("ctobserve_chain_length_bucket", (("le", "+Inf"),)): 5,
        ("ctobserve_chain_length_gcount", ()): 5,
        ("ctobserve_chain_length_gsum", ()): 304,
        ("ctobserve_longest_chain", ()): 300,
        ("ctobserve_lookup_cost", ()): pytest.approx((1 + 6 + 300 * 301 / 2) / 304),
        ("ctobserve_walk_seconds", ()): 0,
        ("ctobserve_records_lost_total", ()): 4,
        ("ctobserve_programs_missed_total", ()): 1,
        **{("ctobserve_unaccounted_total", (("counter", name),)): 0 for name in WATCHED},
    }


def test_the_page_has_a_row_for_each_metric_with_its_labels():
    counting = made()
    metering = Metering(counting, 9, print, lambda: 4)
    metering.look(counting)
    counting.wait(LEAST_S)
    metering.look(counting)
    page = (Path(__file__).parents[2] / "docs/export.md").read_text()
    told = re.findall(r"^\| (ctobserve_\w+) \| ?([a-z, ]*?) ?\|", page, re.M)
    rows = {name: set(labels.split(", ")) - {""} for name, labels in told}
    found: dict[str, set[str]] = {}
    for family in of_openmetrics(Pages(metering.read(counting)).of(OPENMETRICS)[1].decode()):
        for one in family.samples:
            name = re.sub("^(ctobserve_chain_length)_.*", r"\1", one.name)
            found.setdefault(name, set()).update(one.labels)
    assert found == rows


def test_what_is_not_known_has_no_sample():
    counting = ScriptedCounting(states=states(state(NETNS, "blue", init=True)))
    found = Metering(counting, 9, print).read(None)
    assert (found.attach, found.buckets, found.chains, found.records_lost, found.verified) == (None,) * 5
    page = Pages(found).of("")[1].decode()
    names = {one.name for family in of_text(page) for one in family.samples}
    assert names == {
        "ctobserve_build_info",  "ctobserve_inserts_total", "ctobserve_early_drops_total",
        "ctobserve_clashes_resolved_total", "ctobserve_programs_missed_total", "ctobserve_unaccounted_total",
    }  # fmt: skip
    assert 'ctobserve_entries{netns="blue"}' not in page and 'attach="none"' in page
    assert chains_of(Lengths(np.zeros(4, np.uint16), 0, 0), 1.0, 2.0).cost is None


def test_names_that_others_chose_stay_in_their_label():
    hostile = 'a"b\\\\n} 1\\n'
    counting = ScriptedCounting(states=states(state(NETNS, hostile, 1)))
    for accept, parse in (("", of_text), (OPENMETRICS, of_openmetrics)):
        page = Pages(Metering(counting, 9, print).read(counting)).of(accept)[1].decode()
        labels = {one.labels.get("netns") for family in parse(page) for one in family.samples}
        assert labels == {None, hostile, OTHER}


@pytest.mark.parametrize(("pass_s", "pause_s"), [(0.0, LEAST_S), (1.0, 100)])
def test_chains_are_looked_at_as_rarely_as_their_cost_demands(pass_s, pause_s):
    counting = made(pass_s=pass_s)
    metering = Metering(counting, 9, print)
    metering.look(counting)
    for elapsed_s, passes in ((pause_s - 1, 1), (2, 2), (1, 2)):
        counting.wait(elapsed_s)
        metering.look(counting)
        assert counting.passes == passes
    assert metering.read(counting).chains.took == pass_s


def test_a_table_that_is_resized_all_the_time_leaves_the_last_lengths():
    counting = made()
    metering = Metering(counting, 9, print)
    metering.look(counting)

    def resized() -> None:
        raise CtobserveError("resized")

    counting.lengths = resized
    counting.wait(LEAST_S)
    metering.look(counting)
    assert metering.read(counting).chains.nodes == 304


def test_when_the_counts_were_last_the_kernels():
    said: list[str] = []
    counting = made(counted_=[], readings=[reading()])
    metering = Metering(counting, 9, said.append)

    def after(counts: list[Count], **counters: int) -> float | None:
        counting.counted_, counting.readings = counts, [reading(**counters)]
        counting.wait(LEAST_S)
        metering.look(counting)
        return metering.read(counting).verified

    assert after([]) is None
    first = after([Count(NETNS, DROP, "table_full", 3)], drop=3)
    assert first == counting.wall_ns() / NS_PER_S and said == []
    assert after([Count(NETNS, DROP, "table_full", 3)], drop=5) == first
    assert said == ["blue: the kernel's counters differ from what was counted: drop +2"]
    assert after([Count(NETNS, DROP, "table_full", 4)], drop=6) > first
    assert len(said) == 1
    nothing = dict.fromkeys(WATCHED, 0)
    assert metering.read(counting).unaccounted == nothing | {"drop": 2}
    # More than the kernel saw, and what only one of both counters saw.
    after([Count(NETNS, DROP, "clash", 3), Count(NETNS, DROP, "table_full", 5)], drop=6, insert_failed=9, early_drop=1)
    assert said[1:] == ["blue: the kernel's counters differ from what was counted: drop -4, early_drop +1, insert_failed +6"]
    assert metering.read(counting).unaccounted == nothing | {"drop": 2, "insert_failed": 6, "early_drop": 1}
    assert metering.read(None).unaccounted["drop"] == 2, "it never falls"


def test_what_ended_is_forgotten_and_its_series_with_it():
    counting = made()
    metering = Metering(counting, 9, print)
    labels = [space.netns for space in metering.read(counting).spaces]
    counting.states = states(state(8, "green", 1))
    metering.look(counting)
    assert labels == ["blue", OTHER]
    assert [space.netns for space in metering.read(counting).spaces] == ["green", OTHER]
    assert counting.forgotten == {NETNS} and FOLDED in {one.netns for one in counting.counted_}


def of(found: Metrics, label: str) -> Counter[str]:
    (space,) = [one for one in found.spaces if one.netns == label]
    return Counter(inserts=space.inserts, clashes=space.clashes_resolved)


def test_series_go_on_where_nf_conntrack_is_loaded_again():
    counting, again = made(), made(counted_=[Count(NETNS, INSERT, "", 2)], missed_=3)
    metering = Metering(counting, 9, print)
    metering.look(counting)
    metering.read(counting)
    gone = metering.read(None)
    assert of(gone, "blue")["inserts"] == 31 and (gone.chains, gone.attach, gone.missed) == (None, None, 1)
    back = metering.read(again)
    assert of(back, "blue") == {"inserts": 33, "clashes": 2} and back.missed == 4


class Machine:
    """Whether nf_conntrack is loaded, what stands, and the time."""

    def __init__(self) -> None:
        self.loaded, self.standing, self.now_ns = False, 0, 0
        self.refuses: CtobserveError | None = None
        self.said: list[str] = []
        self.under = Standing(self.made, lambda: self.now_ns, self.said.append, lambda: self.loaded)

    @contextmanager
    def made(self):
        if self.refuses:
            raise self.refuses
        self.standing += 1
        yield made()
        self.standing -= 1


def test_what_counts_comes_and_goes_with_nf_conntrack():
    machine = Machine()
    machine.under.begin()
    assert machine.under.look() is None and "is not loaded" in machine.said[0]
    for _ in range(2):
        machine.loaded = True
        assert machine.under.look() is machine.under.look() is not None and machine.standing == 1
        machine.loaded = False
        assert machine.under.look() is None and machine.standing == 0
    assert [line.partition(":")[0].partition(",")[0] for line in machine.said[1:]] == [
        "nf_conntrack is loaded", "nf_conntrack was unloaded", "nf_conntrack is loaded", "nf_conntrack was unloaded"
    ]  # fmt: skip


def test_a_start_that_fails_later_is_said_and_tried_again():
    machine = Machine()
    machine.under.begin()
    machine.loaded, machine.refuses = True, CtobserveError("cannot")
    assert machine.under.look() is machine.under.look() is None
    assert machine.said[1:] == ["nothing is counted: cannot; it is tried again in 10 s"]
    machine.refuses, machine.now_ns = None, AGAIN_NS
    assert machine.under.look() is not None
    machine.under.end()
    assert machine.standing == 0


def test_who_may_not_count_here_learns_it_at_once():
    machine = Machine()
    machine.loaded, machine.refuses = True, NotPermitted("no")
    with pytest.raises(NotPermitted):
        machine.under.begin()
