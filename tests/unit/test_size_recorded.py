"""What `size` says of the end of a recording is what it said live, in every number, line and note."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from ctobserve.capture.capture import Allocation, Capture
from ctobserve.capture.extensions import EXTENSION
from ctobserve.capture.read_via import ReadVia
from ctobserve.commands.size import WAYS
from ctobserve.documents.size import SizeDocument, SizeRequest, collect
from ctobserve.event import DestroyReason, Kind
from ctobserve.model import join
from ctobserve.programs.hooks import Purpose
from ctobserve.render.jsonout import plain
from ctobserve.render.size import size_lines
from tests.scripted import NETNS, ScriptedCapture, events
from tests.unit.recordings import in_time, record
from tests.unit.tables import entries, tcp
from tests.unit.test_recording import OTHER, STATES
from tests.unit.test_size import TIME_WAIT, made
from tests.unit.typed import run


def changing(**more: object) -> ScriptedCapture:
    """A table of several protocols and namespaces, in which entries come and go until it is asked."""
    waiting = tcp(30, "TIME_WAIT", ct=range(1, 31), left_s=range(1, 31))
    there = join([waiting, entries(9, ct=range(900, 909)), entries(5, ct=range(950, 955), netns=OTHER)])
    born = entries(11, ct=[at * 4096 for at in range(1, 12)], sport=range(1, 12), left_s=25)
    happened = [events(Kind.INSERT, born, at_s=1), events(Kind.DESTROY, born[:4], at_s=2, reason=DestroyReason.DELETED)]
    extensions = np.zeros(30 + 9 + 5 + 11 - 4, EXTENSION)
    extensions["has_ext"] = np.arange(len(extensions)) % 3 > 0
    return made(batches=in_time(join(happened)), entries=there, extensions=extensions, **more)


def unreadable() -> ScriptedCapture:
    """Nothing is known of its memory."""
    return changing(limits_chains=None, slab=None, memory_bytes=None)


def empty() -> ScriptedCapture:
    return made(extensions=np.zeros(0, EXTENSION))


CAPTURES: dict[str, Callable[[], ScriptedCapture]] = {"changing": changing, "unreadable": unreadable, "empty": empty}
ASKED: dict[str, SizeRequest] = {
    "": SizeRequest(),
    "--max 1000000 --buckets 3000": SizeRequest(max=1_000_000, buckets=3000),
    "--rate 700 --headroom 3": SizeRequest(rate_per_s=700, headroom=3),
    "--source walk": SizeRequest(via=WAYS["walk"]),
    "--timeout tcp_timeout_time_wait=10 --source walk": SizeRequest(timeouts=((TIME_WAIT, 10),), via=WAYS["walk"]),
    "--timeout tcp_timeout_time_wait=10": SizeRequest(timeouts=((TIME_WAIT, 10),), via=WAYS["auto"]),
}


def live(capture: ScriptedCapture, asked: SizeRequest) -> SizeDocument:
    """Of the instant at which its recording ended."""

    @contextmanager
    def opened(_: Purpose) -> Iterator[Capture]:
        yield capture

    return collect(capture, opened, asked)


@pytest.mark.parametrize("words", ASKED)
@pytest.mark.parametrize("name", CAPTURES)
def test_of_a_recording_it_says_what_it_said_live(tmp_path, monkeypatch, capsys, name, words):
    capture = CAPTURES[name]()
    record(capture, tmp_path / "FILE")
    monkeypatch.chdir(tmp_path)
    found = live(capture, ASKED[words])
    assert (found.entries is not None) == (ASKED[words].via != ())
    code, out, err = run(monkeypatch, capsys, "size", "--from", "FILE", *words.split())
    assert (code, err) == (0, "") and out.splitlines() == list(size_lines(found))
    code, out, err = run(monkeypatch, capsys, "size", "--from", "FILE", "--json", *words.split())
    said, expected = json.loads(out), json.loads(json.dumps(plain(found)))
    assert (code, err) == (0, "") and said.pop("meta")["netns"] == expected.pop("meta")["netns"] == NETNS
    assert said == expected


def test_each_namespace_has_its_own_size(tmp_path, monkeypatch, capsys):
    states = {inum: state._replace(sysctls={"nf_conntrack_max": inum, "nf_conntrack_count": 1}) for inum, state in STATES.items()}
    capture = ScriptedCapture(entries=changing().entries, states=states)
    record(capture, tmp_path / "FILE")
    for inum in (NETNS, OTHER):
        asked = SizeRequest(netns=inum, via=(ReadVia.WALK,))
        code, out, _ = run(
            monkeypatch, capsys, "size", "--from", str(tmp_path / "FILE"), "--netns", str(inum), "--source", "walk"
        )
        assert code == 0 and out.splitlines() == list(size_lines(live(capture, asked)))
        assert f"{inum}" in out and len(live(capture, asked).entries or ()) == (1 if inum == OTHER else 2)


def test_what_the_kernel_has_set_aside_is_that_of_the_end(tmp_path, monkeypatch, capsys):
    capture = changing()
    capture.allocated = Allocation(1 << 34, capture.allocated.slab)
    record(capture, tmp_path / "FILE")
    _, out, _ = run(monkeypatch, capsys, "size", "--from", str(tmp_path / "FILE"), "--json")
    assert json.loads(out)["defaults"]["memory_bytes"] == 1 << 34
