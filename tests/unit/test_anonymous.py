"""An anonymous recording says the same, of nobody: prefixes, ranges and verdicts stay, no address and no name does."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from enum import Enum
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from ctobserve.capture.anonymous import copying, key
from ctobserve.capture.anonymous.addresses import Addresses
from ctobserve.capture.anonymous.facts import TEXTS, Facts
from ctobserve.capture.anonymous.key import Key
from ctobserve.capture.anonymous.names import Names
from ctobserve.capture.anonymous.rows import ADDRESSES, DEVICES, PADDING, PROCESSES, WORDS, OtherRows
from ctobserve.capture.capture import Host, NamespaceState
from ctobserve.capture.store.columns import ROWS, columns_of
from ctobserve.capture.store.facts import KINDS, encoded
from ctobserve.capture.store.reader import Fact, Reader
from ctobserve.capture.watch import Stretch, watch
from ctobserve.documents import report
from ctobserve.documents.request import Request
from ctobserve.errors import UsageError
from ctobserve.event import HAS_TEXT, DropReason, Kind
from ctobserve.host.account import Account
from ctobserve.host.addresses import Address
from ctobserve.host.bridges import Bridge
from ctobserve.host.invalid_rules import Refusing
from ctobserve.host.nat_rules import Does, Field, Match, NatChain, NatRule
from ctobserve.host.owner import Owner, OwnerKind
from ctobserve.host.queues import Queue
from ctobserve.host.ruleset import Notrack, Ruleset
from ctobserve_lab.recordings import recording
from tests import scripted, told
from tests.scripted import HOST, NETNS, ScriptedCapture
from tests.unit.cases import CASES, PEACE, expectations
from tests.unit.recordings import capture_of, in_time, record, replay
from tests.unit.samples import departed, packed, tuple_of
from tests.unit.tables import entries
from tests.unit.test_recording import CAPTURES
from tests.unit.typed import run

SECRET = Key(b"a key of these tests")


def texts_in(hint: Any, name: str) -> Iterator[str]:
    """Members in which there is text, of all that a fact may hold."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType, tuple, frozenset) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        for part in parts:
            if part not in (..., NoneType):
                yield from texts_in(part, name)
    elif hasattr(hint, "_fields"):
        for field, inner in get_type_hints(hint).items():
            yield from texts_in(inner, f"{hint.__name__}.{field}")
    elif hint is str:
        yield name
    else:
        known = hint in (int, bool, IPv4Interface, IPv6Interface) or (isinstance(hint, type) and issubclass(hint, Enum))
        assert known, f"{name} is of a form that nobody decided about"


def test_each_text_that_a_fact_may_hold_is_decided_about():
    assert {name for kind, hint in KINDS.items() for name in texts_in(hint, kind)} == TEXTS.keys()


def test_each_column_of_text_or_addresses_is_decided_about():
    for kind in ROWS:
        decided = {name for name, _ in ADDRESSES.get(kind, ())}
        decided = decided.union(*(columns.get(kind, ()) for columns in (PROCESSES, DEVICES, WORDS, PADDING)))
        columns = {column.name: column for column in columns_of(kind)}
        telling = {name for name, one in columns.items() if "S" in one.form or one.shape.endswith(",16") or "padding" in name}
        assert telling == decided, kind


NEEDLES = (
    *("203.0.113.77", "198.51.100.23", "2001:db8:77::beef", "192.0.2.91", "100.127.9.9", "10.77.66.55", "10.77.66.1"),
    "203.0.113.200",
)
WORDS_OF_OURS = ("acme-prod", "acmed", "acme0", "acmetab", "acmechain", "acmebr", "0a1b2c3d4e5f", "acmectx", "5eed-b007-acme")


def telling() -> ScriptedCapture:
    """A host that says who it is wherever something can be said."""
    four = {"src": "203.0.113.77", "dst": "198.51.100.23", "nat": ("10.77.66.55", 4000)}
    rows = np.concatenate([entries(3, **four), entries(2, src="2001:db8:77::beef", dst="2001:db8:77::beef", l3num=10)])
    rows["ct"] = np.arange(1, 6)
    happened = scripted.events(
        Kind.DROP, rows, at_s=1, reason=DropReason.INVALID, comm=b"acmed", device=b"acme0", has=HAS_TEXT, direction=255, pid=9,
        text=b"outer daddr 203.0.113.77 != inner saddr 2001:db8:77::beef at 198.51.100.23",
        inner=tuple_of(rows), evictor=tuple_of(rows), master=tuple_of(rows), left=departed(rows, 4, comm=b"acmed"),
    )  # fmt: skip
    rule = NatRule(
        "acmetab", "acmechain", 4,
        (
            Match(Field.DST, ((int(ip_address("192.0.2.91")), int(ip_address("192.0.2.94"))),)),
            Match(Field.SRC, ((int(ip_address("2001:db8:77::beef")),) * 2,)),
            Match(Field.IIF, names=("acme*",)),
        ),
        Does.DNAT, "acmechain", ((int(ip_address("100.127.9.9")),) * 2,), (80, 80),
    )  # fmt: skip
    rules = Ruleset(
        3, 1, 2, families=frozenset({"ip"}), notracks=(Notrack("ip", "acmetab", "acmechain", 1, True),),
        nat=(NatChain("inet", "acmetab", "acmechain", "prerouting", -100, (rule,)),),
        refusing=(Refusing("ip", "acmetab", "acmechain", 2, "acmechain", True),),
    )  # fmt: skip
    where = (Address("acme0", ip_interface("10.77.66.1/24")), Address("acme0", ip_interface("2001:db8:77::beef/64")))
    state = NamespaceState(
        NETNS, "acme-prod", ("acme-prod",), True, 77, {"nf_conntrack_max": 9, "acmed": 3}, frozenset({"acmed"}), addresses=where
    )
    gone = NamespaceState(8, "acmed@0a1b2c3d4e5f", not_entered="cannot look into network namespace acme-prod: it is gone")
    account = Account(3, None, (Queue(0, 5, 3, 5, "acmed"),), (Bridge("acmebr", 2, ("203.0.113.200/24",), frozenset({2})),))
    expected = expectations(1).rows
    expected["addr"][:, :2] = packed("203.0.113.77")
    expected["addr"][:, 4:] = packed("198.51.100.23")
    return ScriptedCapture(
        batches=in_time(happened),
        entries=rows,
        states={NETNS: state, 8: gone},
        accounted=[{NETNS: account}],
        rulesets={NETNS: rules},
        expected=expected,
        host=Host(*HOST[:3], security_contexts={1: "acmectx"}, boot="5eed-b007-acme"),
        owners={
            NETNS: Owner(OwnerKind.POD, "acme-prod", "5eed-b007-acme", "0a1b2c3d4e5f" + "7" * 52),
            8: Owner(OwnerKind.UNIT, "acmed.service"),
        },
    )


def forms(needle: str) -> tuple[bytes, ...]:
    """As bytes, as text may have it, and as a number: an address is all of these somewhere."""
    try:
        one = ip_address(needle)
    except ValueError:
        return (needle.encode(),)
    return one.packed, str(one).encode(), str(int(one)).encode()


def content(path: Path) -> bytes:
    """All that a file holds, decompressed: facts as they are written, and rows."""
    with closing(Reader(path)) as reader:
        parts = [json.dumps(reader.meta).encode()]
        for one in reader.told():
            parts.append(encoded(one.found).encode() if isinstance(one, Fact) else reader.chunk(one.kind, one).tobytes())
    return b"\n".join(parts)


def copied(path: Path, secret: Key = SECRET) -> Path:
    made = path.with_name(f"{path.name}-anonymous")
    with closing(Reader(path)) as reader:
        copying.copy(reader, made, secret, lambda _: None)
        assert reader.complaint is None
    return made


def test_no_address_and_no_name_is_left_anywhere(tmp_path):
    record(telling(), tmp_path / "one", keyframe_s=1)
    before, after = content(tmp_path / "one"), content(copied(tmp_path / "one"))
    for needle in (*NEEDLES, *WORDS_OF_OURS):
        assert any(form in before for form in forms(needle)), f"{needle} is to be in it"
        assert not any(form in after for form in forms(needle)), needle
    assert b"acme" not in after and (tmp_path / "one-anonymous").read_bytes().count(b"acme") == 0


def test_a_rule_means_the_same_of_the_other_addresses(tmp_path):
    addresses, names = Addresses(SECRET), Names(SECRET)
    chain = next(iter(telling().rulesets.values())).nat[0]
    made = Facts(addresses, names)._of(chain, "Ruleset.nat")
    first, last = ip_address("192.0.2.91"), ip_address("192.0.2.94")
    inside = {int(addresses.one(ip_address(number))) for number in range(int(first), int(last) + 1)}
    ranges = made.rules[0].matches[0].ranges
    assert {number for low, high in ranges for number in range(low, high + 1)} == inside and len(inside) == 4
    assert made.rules[0].addresses == ((int(addresses.one(ip_address("100.127.9.9"))),) * 2,)
    assert made.rules[0].ports == (80, 80) and made.rules[0].matches[2].names == (names.device("acme0")[:4] + "*",)


def test_of_rules_with_more_networks_than_any_has_the_rest_is_not_known(monkeypatch):
    monkeypatch.setattr("ctobserve.capture.anonymous.facts.MOST_NETWORKS", 9)
    few, many = ((1, 1),), ((1, (1 << 32) - 2),)
    matches = (Match(Field.SRC, few), Match(Field.DPORT, many), Match(Field.DST, many), Match(Field.DST, few))
    rule = NatRule("filter", "input", 1, matches, Does.DNAT, addresses=many)
    rules = Ruleset(nat=(NatChain("ip", "nat", "input", None, 0, (rule,)),))
    found = Facts(Addresses(SECRET), Names(SECRET)).of("namespace", NamespaceState(7, "blue", ruleset=rules))
    (made,) = found.ruleset.nat[0].rules
    assert made.addresses is None and made.matches[1] == matches[1] and made.matches[2] == Match(Field.UNKNOWN)
    assert [len(made.matches[at].ranges) for at in (0, 3)] == [1, 1]


@pytest.mark.parametrize(
    ("words", "there", "left"),
    [
        (b"bad checksum", (), b"bad checksum"),
        (b"SEQ is over upper bound 4711 (over the window)", (), b"SEQ is over upper bound 4711 (over the window)"),
        (b"from 198.51.100.7 to fd00::17", ("198.51.100.7", "fd00::17"), b"from {} to {}"),
        (b"daddr fd00:0000:0000:0000:0000:0000:0000:0017, at 12:30", ("fd00::17",), b"daddr {}, at 12:30"),
        (b"it is 999.1.1.1 or 1:2:3", (), b"it is ? or ?"),
        (b"x" * 73 + b" 198.51.10", (), b"x" * 73 + b" "),
        (b"x" * 77 + b" faded", (), b"x" * 77 + b" "),
        (b"x" * 77 + b"-invalid", (), b"x" * 77 + b"-invali"),
    ],
)
def test_in_words_of_the_kernel_addresses_become_others_and_none_is_left_in_part(words, there, left):
    row = scripted.events(Kind.DROP, entries(1), has=HAS_TEXT, text=words)
    addresses = Addresses(SECRET)
    made = OtherRows(addresses, Names(SECRET)).of("event", row)
    others = [str(addresses.one(ip_address(one))) for one in there]
    assert made["text"][0].decode() == left.decode().format(*others)


@pytest.mark.parametrize("one", [(9, 3), (-5, 3), (1 << 127, 1 << 129)])
def test_a_range_that_cannot_be_stays_one_that_nothing_is_in(one):
    rule = NatRule("t", "c", 1, (Match(Field.SRC, (one,)),), Does.SNAT, addresses=(one,))
    made = Facts(Addresses(SECRET), Names(SECRET))._rule(rule, "ip")
    assert made.addresses == made.matches[0].ranges == ((1, 0),)


def of_verdicts(path: Path) -> list[Any]:
    """Which verdicts a report gives, how grave, and every number in them."""
    found = report.collect(replay(path), Request(), Stretch(), invalid=True)
    return [
        (
            one.id,
            one.severity,
            [(name, value) for name, value in one.evidence.items() if not isinstance(value, str | list | tuple)],
        )
        for one in found.verdicts
    ]


@pytest.mark.parametrize("name", [*CASES, "peace"])
def test_verdicts_and_their_numbers_are_the_same(tmp_path, name):
    record(capture_of(CASES[name][0] if name in CASES else PEACE), tmp_path / "one")
    assert of_verdicts(copied(tmp_path / "one")) == of_verdicts(tmp_path / "one")


@pytest.mark.parametrize("name", told.INCIDENTS)
def test_of_a_real_incident_too(tmp_path, name):
    (tmp_path / "one").write_bytes(recording(name).read_bytes())
    assert of_verdicts(copied(tmp_path / "one")) == of_verdicts(tmp_path / "one")


@pytest.mark.parametrize("name", CAPTURES)
def test_facts_and_rows_are_as_many_at_the_same_times(tmp_path, name):
    record(CAPTURES[name](), tmp_path / "one", keyframe_s=1)
    made = copied(tmp_path / "one")
    with closing(Reader(tmp_path / "one")) as one, closing(Reader(made)) as other:
        for before, after in zip(one.told(), other.told(), strict=True):
            assert before._replace(found=None) == after._replace(found=None) if isinstance(before, Fact) else before == after


def test_the_same_key_makes_the_same_of_it_and_another_another(tmp_path):
    for name in ("one", "again", "other"):
        record(telling(), tmp_path / name)
    one, again = (content(copied(tmp_path / name)) for name in ("one", "again"))
    assert one == again != content(copied(tmp_path / "other", Key(b"another")))
    assert content(tmp_path / "one") == content(tmp_path / "other")


def test_a_key_is_of_a_file_that_nobody_else_may_read(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"0123456789abcdef")
    path.chmod(0o600)
    assert key.read(path).digest(b"a", b"b") == Key(b"0123456789abcdef").digest(b"a", b"b") != Key(b"0").digest(b"a", b"b")
    assert key.random().digest(b"a", b"b") != key.random().digest(b"a", b"b")
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        with pytest.raises(UsageError, match=r"others (may read|can write)"):
            key.read(path)


@pytest.mark.parametrize(("made", "says"), [(b"short", "fewer than 16 bytes"), (b"x" * 5000, "too long"), (None, "no such file")])
def test_what_is_no_key_is_said_in_a_line(tmp_path, made, says):
    if made is not None:
        (tmp_path / "key").write_bytes(made)
        (tmp_path / "key").chmod(0o600)
    with pytest.raises(UsageError, match=says) as found:
        key.read(tmp_path / "key")
    assert "\n" not in str(found.value)


def test_a_link_to_a_key_and_a_directory_are_none(tmp_path):
    (tmp_path / "key").write_bytes(b"x" * 32)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "key")
    for name in ("link", "."):
        with pytest.raises(UsageError):
            key.read(tmp_path / name)


def test_what_was_damaged_counts_as_lost_and_the_next_reading_of_the_table_is_taken(tmp_path):
    record(CAPTURES["busy"](), tmp_path / "one", keyframe_s=1)
    with closing(sqlite3.connect(tmp_path / "one")) as made:
        (number, rows) = made.execute("SELECT id, rows FROM chunks WHERE kind = 'event' ORDER BY id LIMIT 1").fetchone()
        made.execute("UPDATE chunks SET body = x'00' WHERE id = ?", (number,))
        made.commit()
    with closing(Reader(tmp_path / "one")) as reader:
        copying.copy(reader, tmp_path / "two", SECRET, lambda _: None)
        assert reader.complaint and reader.damaged == rows
    told, ours = replay(tmp_path / "one"), replay(tmp_path / "two")
    for one in (told, ours):
        list(watch(one, Stretch()))
        assert one.fidelity().lost["damaged"] == rows
    assert len(told.table) == len(ours.table)
    assert sorted(told.table.entries()["ct"].tolist()) == sorted(ours.table.entries()["ct"].tolist())


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Runs the command in a directory with the recording FILE."""
    monkeypatch.chdir(tmp_path)
    record(telling(), Path("FILE"))
    return lambda words: run(monkeypatch, capsys, *words.split())


def test_the_command_makes_a_file_for_its_owner_alone_that_says_the_same(typed):
    code, out, err = typed("anonymise FILE OUT")
    assert (code, err) == (0, "") and out.startswith("OUT: ") and "rows, of nobody" in out
    assert os.stat("OUT").st_mode & 0o777 == 0o600 and sorted(os.listdir()) == ["FILE", "OUT"]
    assert of_verdicts(Path("OUT")) == of_verdicts(Path("FILE"))
    assert typed("report --from OUT")[0] == 0 and b"acme" not in content(Path("OUT"))


def test_without_a_key_no_two_are_alike_and_with_one_all_are(typed):
    Path("key").write_bytes(b"x" * 32)
    Path("key").chmod(0o600)
    for name in ("A", "B"):
        assert typed(f"anonymise FILE {name}")[0] == typed(f"anonymise FILE {name}{name} --key-file key")[0] == 0
    assert content(Path("A")) != content(Path("B")) and content(Path("AA")) == content(Path("BB"))


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("anonymise NONE OUT", 1, "NONE: no such file or directory"),
        ("anonymise FILE FILE", 2, "FILE exists, and no recording is overwritten"),
        ("anonymise FILE .", 2, "give a path where a file can be created"),
        ("anonymise FILE nowhere/OUT", 2, "no such file or directory"),
        ("anonymise FILE OUT --key-file NONE", 2, "make a key by"),
        ("anonymise FILE", 2, "OUT"),
    ],
)
def test_what_cannot_be_is_one_line_and_makes_no_file(typed, words, code, says):
    found, out, err = typed(words)
    assert (found, out) == (code, "") and err.startswith("ctobserve: ") and err.count("\n") == 1 and says in err
    assert not Path("OUT").exists()


def test_a_recording_without_a_reading_of_the_table_is_not_shared(typed):
    with closing(sqlite3.connect("FILE")) as made:
        made.execute("DELETE FROM facts WHERE kind = 'keyframe'")
        made.commit()
    code, _, err = typed("anonymise FILE OUT")
    assert code == 1 and "no reading of the table" in err and not Path("OUT").exists()
