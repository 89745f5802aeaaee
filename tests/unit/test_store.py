"""The file of a recording: rows and facts come back as they were, whatever ends the recorder, and nothing is believed unseen.

CTOBSERVE_KILLS says how often a recorder is killed.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import time
from contextlib import closing, suppress
from functools import cache
from ipaddress import ip_interface
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ctobserve.capture.capture import Allocation, Fidelity, Host, NamespaceState, PacketCount
from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.store.chunks import MOST_ROWS, Damaged, pack, unpack
from ctobserve.capture.store.columns import ROWS, columns_of
from ctobserve.capture.store.facts import (
    KINDS,
    CountersRead,
    End,
    ExpectedRead,
    HelpedRead,
    Keyframe,
    NoFact,
    Trigger,
    decoded,
    encoded,
)
from ctobserve.capture.store.reader import Reader
from ctobserve.capture.store.valid import check_fact
from ctobserve.capture.store.writer import MOST_FACT, TOO_LONG, NotWritten, Writer
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import NS_PER_S
from ctobserve.errors import UsageError
from ctobserve.event import Kind
from ctobserve.host.account import Account
from ctobserve.host.addresses import Address
from ctobserve.host.bridges import Bridge
from ctobserve.host.invalid_rules import Refusing
from ctobserve.host.ip_packets import IpPackets
from ctobserve.host.nat_rules import Does, Field, Match, NatChain, NatRule
from ctobserve.host.owner import Owner, OwnerKind
from ctobserve.host.queues import Queue
from ctobserve.host.ruleset import Notrack, Ruleset
from ctobserve.host.slab import Slab
from tests.scripted import CLOCK, ScriptedCapture, events, reading
from tests.unit.recordings import record, replay
from tests.unit.tables import entries

KILLS = int(os.environ.get("CTOBSERVE_KILLS", "5"))
MOST_BYTES_EACH = 40  # of an event in a flood


def anything(kind: str, count: int, seed: int = 1) -> Any:
    """Rows of any bytes."""
    size = ROWS[kind].itemsize
    return np.random.default_rng(seed).integers(0, 256, count * size, np.uint8).view(ROWS[kind])


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("count", [1, 2, 3, 1000, MOST_ROWS])
@pytest.mark.parametrize("kind", ROWS)
def test_rows_come_back_as_they_were(kind, count, level):
    for rows in (anything(kind, count), np.repeat(anything(kind, 1), count), np.zeros(count, ROWS[kind])):
        assert unpack(kind, pack(kind, rows, level), count).tobytes() == rows.tobytes()


def test_a_wrong_number_of_rows_is_no_chunk():
    body = pack("entry", anything("entry", 9), 1)
    for count in (0, 1, 8, 10, MOST_ROWS, MOST_ROWS + 1, 1 << 40):
        with pytest.raises(Damaged):
            unpack("entry", body, count)


@pytest.mark.parametrize("kind", ROWS)
def test_every_column_is_described_and_none_is_beside_them(kind):
    columns = columns_of(kind)
    assert all(column.says for column in columns) and len({column.name for column in columns}) == len(columns)
    sizes = [np.dtype(one.form).itemsize * int(np.prod([int(part) for part in one.shape.split(",") if part])) for one in columns]
    assert sum(sizes) == ROWS[kind].itemsize


@cache
def flood(count: int) -> Any:
    """Entries from anywhere to one service."""
    some = np.random.default_rng(5)
    made = entries(count, ct=0xFFFF_8881_0000_0000 + np.arange(count) * 320, sport=some.integers(1024, 65536, count))
    made["addr"][:, 0, :4] = made["addr"][:, 3, :4] = some.integers(0, 256, (count, 4))
    made["port"][:, 3] = made["port"][:, 0]
    made["bucket"], made["chain"] = some.integers(0, 1 << 18, (count, 2)), some.poisson(2, (count, 2))
    return events(Kind.INSERT, made, at_s=np.cumsum(some.exponential(1e-5, count)), cpu=some.integers(0, 8, count))


@pytest.mark.parametrize("level", [1, 9])
def test_an_event_of_a_flood_takes_few_bytes(tmp_path, level):
    happened = flood(50_000)
    with closing(Writer(tmp_path / "one", level, {})) as writer:
        for first in range(0, len(happened), 1777):
            writer.add(happened[first : first + 1777])
        writer.commit()
    assert (tmp_path / "one").stat().st_size / len(happened) < MOST_BYTES_EACH / 2


RULES = Ruleset(
    9, 2, 3, None, ("ip_vs",), frozenset(("ip", "inet")), (Notrack("ip", "raw", "out", 4, True),),
    (
        NatChain("ip", "nat", "post\x1b", "postrouting", 100, (
            NatRule("nat", "post", 7, (Match(Field.SRC, ((1, 1 << 127),), ("eth0",), True),), Does.SNAT, "x", None, (1, 65535)),
        )),
    ),
    (Refusing("inet", "filter", "in", 4, None, False),),
)  # fmt: skip
BRIDGE = Bridge("br0", 2, ("10.0.0.1/24",), frozenset((2,)))
SAID = {
    "host": Host("6.1.0", "x86_64", 7, None, frozenset((6, 17)), {0: "unlabeled"}, "b-o-o-t"),
    "allocation": Allocation(1 << 40, Slab("sysfs", 248, 256, 4096, 16, 100, None)),
    "names": {7: "blue", 1 << 31: "x[1]"},
    "owners": {7: Owner(OwnerKind.POD, "web-0", "8a", "c"), 8: Owner(OwnerKind.HOST)},
    "present": (7, 8),
    "namespace": NamespaceState(
        7, "a\\x1bb", ("g\udcff", "\x1b"), True, 1, {"nf_conntrack_max": 5, "b": None}, frozenset("b"), RULES,
        (Address("eth\udc80", ip_interface("10.0.0.1/8")), Address("", ip_interface("fd00::1/64"))), "not",
        Owner(OwnerKind.UNIT, "web.service"),
    ),
    "accounts": {7: Account(5, IpPackets(1, 2), (Queue(1, 2, 3, None, "nc"),), (BRIDGE,))},
    "clock": CLOCK,
    "fidelity": Fidelity("kprobe", ("a",), "walk", 5, None, {"insert": 4}, 1, 2, 3, 4),
    "packets": (PacketCount(7, 0, 2, 17),),
    "keyframe": Keyframe(1024, 5, 1, 2, 3, 4, True),
    "counters": CountersRead(5, frozenset((7,))),
    "helped": HelpedRead(3, (7, 8)),
    "expected": ExpectedRead(3, ReadVia.PROC, frozenset(("ftp",))),
    "end": End(True),
    "trigger": Trigger("drop", "packets lost (table_full 3)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_fact_comes_back_as_it_was(kind):
    assert decoded(kind, encoded(SAID[kind])) == SAID[kind]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("clock", "{}"),
        ("clock", "[1, 2, 3, 4]"),
        ("clock", '{"monotonic_ns": 1.5, "wall_ns": 1, "jiffies": 1, "hz": 1}'),
        ("clock", '{"monotonic_ns": true, "wall_ns": 1, "jiffies": 1, "hz": 1}'),
        ("clock", '{"monotonic_ns": NaN, "wall_ns": 1, "jiffies": 1, "hz": 1}'),
        ("names", '{"x": "blue"}'),
        ("names", '{"99999999999": "blue"}'),
        ("names", '{"7": 7}'),
        ("names", "[" * 100_000),
        ("owners", '{"7": {"kind": "magic"}}'),
        ("owners", '{"7": {"name": "web-0"}}'),
        ("present", "[[]]"),
        ("expected", '{"rows": 1, "via": "magic", "helpers": []}'),
        ("host", ""),
        ("other", "{}"),
    ],
)
def test_what_has_another_form_is_no_fact(kind, text):
    with pytest.raises(NoFact):
        decoded(kind, text)


def test_a_name_that_did_not_pass_the_door_passes_it_now():
    (label,) = decoded("names", '{"7": "\\u001b[2J\\u202e"}').values()
    assert label == "\\x1b[2J\\u202e"
    assert decoded("names", '{"7": "a\\\\x1bb"}') == {7: "a\\x1bb"}, "one that did stays"
    (owner,) = decoded("owners", '{"7": {"kind": "pod", "name": "\\u001b[2J"}}').values()
    assert owner.label == "pod/\\x1b[2J"


def test_a_rule_set_longer_than_a_recording_takes_is_not_read(tmp_path):
    rules = Ruleset(nat=(NatChain("ip", "nat", "n" * MOST_FACT, None, 0, ()),))
    with closing(Writer(tmp_path / "one", 1, {})) as writer:
        writer.fact("namespace", NamespaceState(7, "blue", ruleset=rules), 5, 7)
        writer.commit()
    with closing(Reader(tmp_path / "one")) as reader:
        fact = reader.last("namespace")
    assert fact is not None and fact.found.ruleset == Ruleset(unread=TOO_LONG)


def test_nothing_is_overwritten_and_no_link_followed(tmp_path):
    (tmp_path / "there").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "away")
    (tmp_path / "left-wal").touch()
    for name, says in (("there", "exists"), ("link", "exists"), ("left", "is left of another"), ("none/one", "no such file")):
        with pytest.raises(UsageError, match=says):
            Writer(tmp_path / name, 1, {})
    assert (tmp_path / "there").read_text() == "precious" and not (tmp_path / "away").exists()


def test_no_file_is_made_that_is_called_as_other_programs_call_a_pipe(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="- is no name for a recording, which no pipe can take; give the name of a file"):
        Writer(Path("-"), 1, {})
    assert not os.listdir(tmp_path)


def _record_until_killed(path: Path, told: int) -> None:
    """What a recorder does, faster: says after each commit how many events it has."""
    with closing(Writer(path, 1, {})) as writer:
        happened = flood(60_000)
        for first in range(0, len(happened), 997):
            writer.add(happened[first : first + 997])
            writer.commit()
            os.write(told, writer.events.to_bytes(8, "little"))


@pytest.mark.parametrize("alone", [False, True], ids=["with what lies beside it", "the file alone"])
def test_a_recorder_that_is_killed_leaves_what_it_committed(tmp_path, alone):
    some = Random(f"kill {alone}")
    met = set()
    whole = flood(60_000)["entry"]["port"]
    for number in range(KILLS):
        path = tmp_path / f"{number}"
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            _record_until_killed(path, write)
            os._exit(0)
        os.close(write)
        said = os.read(read, 8)
        time.sleep(some.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        while more := os.read(read, 1 << 20):
            said = more[-8:]
        os.close(read)
        committed = int.from_bytes(said, "little")
        met.add(os.WIFSIGNALED(status))
        if alone:
            for side in ("-wal", "-shm"):
                Path(f"{path}{side}").unlink(missing_ok=True)
        with closing(Reader(path)) as reader:
            found = [reader.chunk("event", chunk) for chunk in reader.events(0)]
            assert alone or reader.complaint is None
        count = sum(map(len, found))
        assert count >= committed or alone
        assert np.array_equal(np.concatenate([whole[:0], *(rows["entry"]["port"] for rows in found)]), whole[:count])
    assert True in met, "no recorder was killed"


@pytest.fixture
def disk(tmp_path):
    """A directory on a disk of 256 KiB."""
    made = tmp_path / "disk"
    made.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", made], check=True)
    yield made
    gc.collect()  # a file that is open is in use
    subprocess.run(["umount", made], check=True)


class Filled(ScriptedCapture):
    """Somebody else fills the disk while it is recorded, and makes room again after `freed_s`."""

    def __init__(self, disk: Path, freed_s: float) -> None:
        happened = [flood(3000) for _ in range(20)]
        batches = [happened[0][:0]] * 2 + happened + [happened[0][:0]] * 978 + [happened[0][:3]]
        super().__init__(batches=batches, entries=entries(9), readings=[reading()])
        self.other, self.freed_s = disk / "other", freed_s

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        if self.now_ns() - CLOCK.monotonic_ns > self.freed_s * NS_PER_S:
            self.other.unlink(missing_ok=True)
        elif not self.other.exists():
            with suppress(OSError), self.other.open("wb", 0) as file:
                while True:
                    file.write(bytes(4096))


def test_on_a_full_disk_observing_goes_on_and_what_is_written_is_whole(disk):
    said: list[str] = []
    with pytest.raises(NotWritten, match=r"one: database or disk is full; the end is missing, and 60000 events$") as failed:
        record(Filled(disk, 99), disk / "one", say=said.append)
    assert str(failed.value).isprintable()
    (line,) = said
    assert line.endswith("one: database or disk is full; what comes now is not in it until there is room again")
    found = replay(disk / "one")
    assert len(found.table.entries()) == 9 and not found.finished and not found._reader.damaged
    found._reader.close()


def test_when_there_is_room_again_a_recording_goes_on_with_the_table_and_says_what_is_missing(disk):
    said: list[str] = []
    found = record(Filled(disk, 7), disk / "one", seconds=25, say=said.append)
    assert (found.events, found.unwritten) == (3, 60_000) and len(said) == 2
    assert said[1].endswith("one: there is room again; 60000 events are missing before")
    whole = replay(disk / "one")
    assert whole.finished and sum(map(len, watch(whole, Stretch()))) == 3
    assert whole.fidelity().lost == {"unwritten": 60_000}
    assert len(whole.table) == 9 + len(set(flood(3000)["entry"]["ct"].tolist())), (
        "those that came while nothing was written are in it"
    )
    whole._reader.close()


def test_a_disk_that_is_full_at_the_begin_is_one_line_and_leaves_no_file(disk):
    (disk / "other").write_bytes(bytes(240 << 10))
    with pytest.raises(NotWritten, match=r"one: (disk I/O error|database or disk is full)$"):
        record(ScriptedCapture(), disk / "one")
    assert os.listdir(disk) == ["other"]


def test_every_kind_of_fact_is_tried_here():
    assert SAID.keys() == KINDS.keys()


@pytest.mark.parametrize("address", ["", "br0", "10.0.0.1/33", "\x1b[2J"])
def test_an_account_whose_bridge_has_no_such_address_is_none(address):
    with pytest.raises(Damaged, match="an address of a bridge"):
        check_fact({7: Account(9, bridges=(Bridge("br0", 2, ("10.0.0.1/24", address)),))})
    check_fact({7: Account(9, bridges=(Bridge("br0", 2, ("10.0.0.1/24", "fd00::1/64")),)), 8: Account()})


def test_a_setting_that_no_kernel_has_room_for_is_none():
    with pytest.raises(Damaged, match="a setting that cannot be"):
        check_fact(NamespaceState(7, "blue", sysctls={"nf_conntrack_max": 1 << 65}))
    check_fact(
        NamespaceState(7, "blue", sysctls={"nf_conntrack_max": (1 << 64) - 1, "nf_conntrack_x": None, "nf_conntrack_y": -1})
    )


SLAB = Slab("here", 248, 256, 4096, 16, 3, 1)


@pytest.mark.parametrize(
    "found",
    [Allocation(0), Allocation(-1), Allocation(1 << 60)]
    + [Allocation(1 << 30, SLAB._replace(**{name: value})) for name in ("slot_bytes", "slab_bytes") for value in (0, -1, 1 << 40)]
    + [Allocation(1 << 30, SLAB._replace(**{name: -1})) for name in ("object_bytes", "objects", "slabs", "objects_per_slab")]
    + [Allocation(1 << 30, SLAB._replace(objects_per_slab=0))],
)
def test_a_slab_without_room_for_an_entry_is_none(found):
    with pytest.raises(Damaged, match="that cannot be"):
        check_fact(found)
    for one in (
        Allocation(),
        Allocation(1 << 40),
        Allocation(1 << 30, SLAB),
        Allocation(None, Slab("BTF", 248, 256, 4096, 16, None, None)),
    ):
        check_fact(one)
