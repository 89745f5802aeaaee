"""The two pictures of the hash: whatever the chains are, each bucket is in a bar and in a cell, and it is well-formed."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from ctobserve.capture.table import Lengths
from ctobserve.documents.chains import ChainsPicture, picture_of
from ctobserve.render.assets import asset
from ctobserve.render.hash_svg import MOST_BARS, WIDTH, bars, cells_in_words, chains_in_words, hash_pictures, standing_alone

SVG = "{http://www.w3.org/2000/svg}"


def spread(chains: list[int] | np.ndarray, limits: bool = True) -> ChainsPicture:
    lengths = np.array(chains, np.uint16)
    return picture_of(Lengths(lengths, int(lengths.sum()) // 2, 0), limits)


RANDOM = np.random.default_rng(3)
SPREADS = {
    "one bucket": [0],
    "one long chain": [600],
    "empty": [0] * 4096,
    "few": [1, 0, 0, 2],
    "usual": RANDOM.poisson(1.5, 65_536),
    "crowded": RANDOM.poisson(47, 512),
    "attacked": [0] * 4095 + [2000],
    "all equal": [3] * 1000,
}


@pytest.mark.parametrize("name", SPREADS)
def test_every_bucket_is_in_one_bar_and_one_cell_and_all_is_within_the_picture(name):
    found = spread(SPREADS[name])
    root = ElementTree.fromstring("\n".join(standing_alone(hash_pictures(found), asset("hash.css"))))
    chains, cells = root.findall(f"{SVG}svg")
    shown = [one.text or "" for one in chains.findall(f"{SVG}g[@class='bar']/{SVG}title")]
    assert sum(int(re.search(r": (\d+) buckets", one)[1]) for one in shown) == found.buckets
    assert 1 <= len(shown) <= MOST_BARS
    drawn = [one for one in cells.findall(f"{SVG}rect") if "cell" in one.get("class", "").split()]
    assert len(drawn) == len(found.cells.longest) == min(found.buckets, 1024)
    for picture in (chains, cells):
        height = float(picture.get("viewBox").split()[3])
        for one in picture.iter(f"{SVG}rect"):
            x, y, wide, high = (float(one.get(side)) for side in ("x", "y", "width", "height"))
            assert x >= 0 and y >= 0 and wide > 0 and high >= 0 and x + wide <= WIDTH + 0.1 and y + high <= height, name
        for one in picture.iter(f"{SVG}text"):
            assert -10 <= float(one.get("x")) <= WIDTH and 0 < float(one.get("y")) < height
    assert chains_in_words(found) == chains.find(f"{SVG}desc").text and cells_in_words(found) == cells.find(f"{SVG}desc").text


def test_bars_are_those_of_the_histogram_and_stop_where_chains_stop():
    found = spread([0, 0, 1, 3])
    assert [(one.first, one.seen, round(one.perfect, 2)) for one in bars(found)] == [
        (0, 2, 1.47),
        (1, 1, 1.47),
        (2, 0, 0.74),
        (3, 1, 0.24),
    ]
    crowded = bars(spread(RANDOM.poisson(47, 512)))
    assert crowded[0].first > 20, "no room for lengths that neither are nor should be"
    attacked = bars(spread(SPREADS["attacked"]))
    assert attacked[0].label == "0-33" and attacked[-1].last == 2000 and attacked[-1].seen == 1


def test_where_the_kernel_refuses_is_marked_and_only_there():
    words = {
        limits: ["".join(picture.drawn) for picture in hash_pictures(spread([60, 49, 50, 1], limits))] for limits in (True, False)
    }
    assert "refused from 50 on" in words[True][0] and words[True][1].count('class="cell refuses"') == 2
    assert "refuse" not in words[False][0] + words[False][1]
    assert "refuse" not in "".join("".join(picture.drawn) for picture in hash_pictures(spread([49, 1])))


def test_the_pictures_in_words():
    found = spread([0, 2, 0, 5])
    assert (
        chains_in_words(found) == "4 buckets; most, 2, have 0 nodes; the longest chain has 5, a perfect hash's would have about 3"
    )
    assert cells_in_words(found) == "4 cells of 1 bucket at most, 2 with entries; the longest chain is that of bucket 3: 5 nodes"
    assert cells_in_words(spread([0] * 4096)) == "1024 cells, all empty"
