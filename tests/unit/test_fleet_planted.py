"""Two hundred hosts over a day: DuckDB finds what was planted. `make test-matrix` asks Spark the same."""

from __future__ import annotations

from ctobserve.fleet import duck
from ctobserve.fleet.listing import listing
from ctobserve.fleet.schema import TABLES
from tests.fleet.fleet import make
from tests.fleet.found import answers, check


def test_every_question_finds_exactly_what_was_planted(tmp_path):
    said = make(tmp_path / "fleet", hosts=200, hours=24, every=8, seed=1)
    with duck.opened(listing(str(tmp_path / "fleet"), TABLES), 1024) as engine:
        check(said, answers(engine))
