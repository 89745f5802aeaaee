"""The cache: what is taken from it was put there by us, for this very key; all else is made anew and kept in its place."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from ctobserve.host import cache, kernel_build
from ctobserve.host.btf import BtfId
from ctobserve.host.layout import Layout
from ctobserve.programs.compile import MapSpec, Program, bcc_version, decoded

CODE = bytes.fromhex("b7000000000000009500000000000000")
MAP = {"map_type": 27, "key_bytes": 0, "value_bytes": 0, "entries": 4096, "flags": 0}
PROGRAM = {"code": CODE.hex(), "map_loads": [[0, "ring"]], "given": [[1, 7]]}
IMAGE = {"bcc": "0.26.0", "maps": {"ring": MAP}, "programs": {"on_insert": PROGRAM}}
LAYOUT = dict.fromkeys(Layout._fields, 8) | {"extensions": {"use": 0}, "numbers": {"CT_BYTES": 248}}
FACTS = {"layout": LAYOUT, "function_ids": {"nf_conntrack_in": ["nf_conntrack", 7]}}
USERS = {
    "image": (IMAGE, lambda found: decoded(found, "0.26.0")),
    "facts": (FACTS, kernel_build.decoded),
}


@pytest.fixture
def directory(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=USERS)
def user(request):
    return USERS[request.param]


def is_a_miss(user) -> bool:
    """Whether it is made anew; what comes is right in any case."""
    value, decode = user
    made = []

    def make():
        made.append(1)
        return value

    assert cache.kept("key", make, decode) == decode(json.loads(json.dumps(value)))
    return bool(made)


def keep(value: object) -> None:
    """As another version of us might have: sealed, of any shape."""
    cache.kept("key", lambda: value, lambda found: found)


def test_what_was_kept_is_taken_and_for_us_alone(directory, user):
    before = os.umask(0)
    try:
        assert is_a_miss(user) and not is_a_miss(user)
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [(path.name, stat.S_IMODE(path.stat().st_mode)) for path in directory.iterdir()] == [("key", 0o600)]


def test_what_is_kept_comes_back_as_it_was(directory):
    found = cache.kept("key", lambda: IMAGE, lambda found: decoded(found, None))
    assert found.maps == {"ring": MapSpec(27, 0, 0, 4096, 0)}
    assert found.programs == {"on_insert": Program(CODE, [(0, "ring")], [(1, 7)])}
    assert kernel_build.decoded(FACTS).function_ids == {"nf_conntrack_in": BtfId("nf_conntrack", 7)}


@pytest.mark.parametrize(
    "value",
    [
        None, [], {}, 7, "words", [1, 2],
        FACTS | {"layout": []}, FACTS | {"layout": LAYOUT | {"more": 1}}, FACTS | {"layout": {"ct_bytes": 8}},
        FACTS | {"function_ids": {"a": 1}}, FACTS | {"function_ids": {"a": [1, 2, 3]}}, {"function_ids": {}},
        IMAGE | {"maps": []}, IMAGE | {"maps": {"ring": {}}}, IMAGE | {"maps": {"ring": MAP | {"more": 1}}},
        IMAGE | {"programs": 5}, {"maps": {}, "programs": {}},
        IMAGE | {"programs": {"p": PROGRAM | {"code": "no code"}}}, IMAGE | {"programs": {"p": PROGRAM | {"code": 5}}},
        IMAGE | {"programs": {"p": PROGRAM | {"map_loads": [1]}}}, IMAGE | {"programs": {"p": PROGRAM | {"given": [1]}}},
    ],
)  # fmt: skip
def test_a_value_of_another_shape_is_a_miss(directory, user, value):
    keep(value)
    assert is_a_miss(user) and not is_a_miss(user)


def change_a_number(content: bytes) -> bytes:
    return content.replace(b"4096", b"99999999999999").replace(b"248", b"-99999999999999")


@pytest.mark.parametrize(
    "change",
    [
        change_a_number,
        lambda content: content[:-1],
        lambda content: content[:40],
        lambda content: b"",
        lambda content: b"\xff\xfe" + content,
        lambda content: content.replace(b"ctobserve 1 ", b"ctobserve 0 "),
        lambda content: content.partition(b"\n")[2],  # as before there was a first line
        lambda content: b"[" * 100_000,
        lambda content: content.ljust(cache.LIMIT_BYTES + 1),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_a_miss(directory, user, change):
    is_a_miss(user)
    path = directory / "key"
    assert change(path.read_bytes()) != path.read_bytes()
    path.write_bytes(change(path.read_bytes()))
    assert is_a_miss(user) and not is_a_miss(user)


def test_a_file_of_another_key_is_a_miss(directory, user):
    is_a_miss(user)
    cache.kept("other", lambda: user[0], user[1])
    (directory / "other").rename(directory / "key")
    assert is_a_miss(user) and not is_a_miss(user)


@pytest.mark.parametrize("name", ["", "relative/cache", "."])
def test_without_an_absolute_directory_nothing_is_kept(tmp_path, monkeypatch, user, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(cache.VARIABLE, name)
    assert is_a_miss(user) and is_a_miss(user)
    assert list(tmp_path.iterdir()) == []


def of_another_user(path: Path) -> None:
    assert os.geteuid() == 0, "only root can make a file of another user: run the tests as root"
    os.chown(path, 65534, 65534)


def behind_a_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


@pytest.mark.parametrize(
    "spoil", [of_another_user, behind_a_link, lambda path: path.chmod(0o777), lambda path: path.chmod(0o770)]
)
def test_a_directory_that_is_not_ours_alone_is_neither_read_nor_written(directory, user, spoil):
    keep("poison")
    spoil(directory)
    before = {path: path.read_bytes() for path in directory.iterdir()}
    assert is_a_miss(user) and is_a_miss(user)
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize(
    "spoil", [of_another_user, behind_a_link, lambda path: path.chmod(0o666), lambda path: path.chmod(0o620)]
)
def test_a_file_that_is_not_ours_alone_is_a_miss_and_is_replaced(directory, user, spoil):
    assert is_a_miss(user)
    spoil(directory / "key")
    assert is_a_miss(user) and not is_a_miss(user)


def test_a_fifo_or_a_directory_in_its_place_is_a_miss(directory, user):
    directory.mkdir(0o700)
    os.mkfifo(directory / "key")
    assert is_a_miss(user) and not is_a_miss(user)
    (directory / "key").unlink()
    (directory / "key").mkdir()
    assert is_a_miss(user) and is_a_miss(user), "it stays, as nothing of ours is lost"
    assert [path.name for path in directory.iterdir()] == ["key"]


def test_an_image_of_another_bcc_is_a_miss_but_one_is_used_where_there_is_none(directory):
    keep(IMAGE)
    assert not is_a_miss((IMAGE, lambda found: decoded(found, None)))
    assert not is_a_miss((IMAGE, lambda found: decoded(found, "0.26.0")))
    newer = IMAGE | {"bcc": "0.31.0"}
    assert is_a_miss((newer, lambda found: decoded(found, "0.31.0")))


def test_the_version_of_bcc_is_found_without_running_it(monkeypatch, tmp_path):
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc/__init__.py").write_text("raise SystemExit('ran')")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    sys.path_importer_cache.clear()
    assert bcc_version() == "unknown"
    (tmp_path / "bcc/version.py").write_text("__version__ = '0.99.1'\n")
    assert bcc_version() == "0.99.1"
    monkeypatch.setattr(sys, "path", [])
    assert bcc_version() is None
