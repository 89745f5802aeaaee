"""Columns of text hold what Python would write, whatever way is chosen for so many rows, such numbers, so many blanks."""

from __future__ import annotations

import numpy as np
import pytest

from ctobserve.render.columns import (
    FEW,
    MANY,
    SPARSE,
    chosen,
    column,
    distinct,
    glued,
    joined,
    placed,
    same,
    texts,
    where,
    written,
)

COUNTS = (1, 2, FEW, FEW + 1, MANY - 1, MANY, 3000)


def some(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def rows(part, count):
    return joined([part], count=count).split("\n")


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("below", [1, 2, 10, 11, 100, 1000, 10_000, 10_001, 1 << 16, 1 << 17, 10**8, 10**8 + 1, 1 << 32, 1 << 63])
def test_numbers_of_every_size_and_type(below, count):
    numbers = some(count).integers(0, below, count, np.uint64)
    numbers[[0, -1]] = 0, below - 1
    for dtype in ("u1", ">u2", "<u2", "<u4", "<u8", "<i8"):
        if below - 1 <= np.iinfo(dtype).max:
            values = numbers.astype(dtype)
            assert rows(texts(values), count) == [str(number) for number in values.tolist()]
            assert rows(texts(values, "<%d>"), count) == [f"<{number}>" for number in values.tolist()]


def test_strided_numbers():
    pairs = some(1).integers(0, 70_000, (2000, 3)).astype(np.uint32)
    assert rows(texts(pairs[:, 1]), 2000) == [str(number) for number in pairs[:, 1].tolist()]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("span", [1, 3, 300, 1 << 40])
def test_each_value_by_its_own_word(span, count):
    values = some(span).integers(0, span, count) + 77
    asked = []

    def word(value: int) -> str:
        asked.append(value)
        return f"wörd {value % 5}" if value % 3 else ""

    found = rows(written(values, word), count)
    assert sorted(asked) == distinct(values) == sorted(set(values.tolist())), "each is written once"
    assert found == [word(value) for value in values.tolist()]


def test_what_all_rows_share_is_a_text():
    values = np.full(1000, 5)
    assert same(values) and same(values[:1]) and not same(values[:0]) and not same(np.array([1, 2, 1]))
    shared = [texts(values), written(values, str), chosen(column([*"abcdef"]), values), glued("5", texts(values))]
    assert shared == ["5", "5", "f", "55"]
    assert where(values == 5, "all") == "all"
    assert joined(["a", "b"], "-", count=3) == "a-b\na-b\na-b"


@pytest.mark.parametrize("blanks", [0, 0.01, SPARSE / 40, 0.9])
def test_nuls_are_left_out_be_they_few_or_many(blanks):
    letters = some(2).integers(ord("a"), ord("z") + 1, (500, 40)).astype(np.uint8)
    letters[some(3).random(letters.shape) < blanks] = 0
    left, right = (np.ascontiguousarray(half).view("S20")[:, 0] for half in (letters[:, :20], letters[:, 20:]))
    wanted = [f"<{one[:20].tobytes().decode()}|{one[20:].tobytes().decode()}>".replace("\0", "") for one in letters]
    assert joined(["<", left, "|", right, ">"]).split("\n") == wanted


def test_masked_parts_stand_where_the_mask_holds():
    mask = np.array([True, False, True])
    letters = column(["ä", "b", "cc"])
    assert rows(where(mask, letters), 3) == ["ä", "", "cc"]
    assert rows(where(mask, "x"), 3) == ["x", "", "x"]
    assert rows(placed(mask, letters[1:]), 3) == ["b", "", "cc"]
    assert rows(placed(mask, "y"), 3) == ["y", "", "y"]
    assert rows(glued("(", where(~mask, letters), ")"), 3) == ["()", "(b)", "()"]
