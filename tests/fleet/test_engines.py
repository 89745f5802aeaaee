"""Two hundred hosts over a day: both engines find exactly what was planted, and give equal answers. `make test-matrix` runs it.

CTOBSERVE_MASTER is where Spark runs; without it two workers of their own processes are started here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ctobserve.fleet import duck, spark
from ctobserve.fleet.listing import Listing, listing
from ctobserve.fleet.schema import TABLES
from tests.fleet.fleet import make
from tests.fleet.found import answers, check, differences
from tests.unit.fleets import Recorded, dataset
from tests.unit.typed import run

HOSTS = int(os.environ.get("CTOBSERVE_FLEET_HOSTS", "200"))
# What PySpark complains of in itself is nobody's fault here.
pytestmark = pytest.mark.filterwarnings("default")
MASTER = os.environ.get("CTOBSERVE_MASTER", "local-cluster[2,1,1024]")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> tuple[dict[str, Any], Listing]:
    """What was planted, and the files of its dataset."""
    out = tmp_path_factory.mktemp("fleet") / "dataset"
    return make(out, hosts=HOSTS, hours=24, every=8, seed=1), listing(str(out), TABLES)


def test_both_engines_find_what_was_planted_and_answer_alike(fleet):
    said, found = fleet
    with duck.opened(found, 1024) as engine:
        of_duck = answers(engine)
    check(said, of_duck)
    with spark.opened(found, MASTER) as engine:
        of_spark = answers(engine)
    check(said, of_spark)
    assert not differences(of_duck, of_spark)


@pytest.mark.parametrize(
    "sql", ["DROP VIEW events", "SELECT * FROM csv.`/etc/passwd`", "SELECT 1; SELECT 2", "SELECT nowhere FROM events"]
)
def test_of_spark_too_sql_is_one_query_of_the_dataset(tmp_path, monkeypatch, capsys, sql):
    own = tmp_path / "own.sql"
    own.write_text(sql)
    typed = partial(run, monkeypatch, capsys, "fleet", "--engine", "spark", "--master", "local[1]", "--sql", str(own))
    code, out, err = typed(str(dataset(tmp_path / "fleet", Recorded("a"))))
    lines = [line for line in err.splitlines() if line.startswith("ctobserve: ")]
    assert (code, out, len(lines)) == (2, "", 1)


# A host whose name nobody knows, with an address that others reach: of its own namespaces.
ALONE = """hostname nowhere.invalid && ip link set lo up && ip address add 192.0.2.2/32 dev lo && exec "$@" """


def test_as_typed_spark_answers_hears_nobody_else_and_leaves_no_file_behind(tmp_path):
    """In a process of its own: Spark keeps its directories for as long as its Java runs."""
    before = set(Path("/var/tmp").glob("ctobserve.*"))
    given = dataset(tmp_path / "fleet", Recorded("a").drops(3, "clash"))
    words = ["fleet", "losses", str(given), "--json", "--engine", "spark", "--master", MASTER]
    alone = ["unshare", "--net", "--uts", "sh", "-c", ALONE, "sh"]
    command = [*alone, sys.executable, "-I", "-m", "ctobserve", *words]
    heard: Counter[str] = Counter()
    with (tmp_path / "out").open("w+") as out, subprocess.Popen(command, stdout=out) as typed:
        while typed.poll() is None:
            heard.update(listening(typed.pid))
            time.sleep(0.2)
        out.seek(0)
        said = json.load(out)
    assert typed.returncode == 0
    assert said["meta"]["engine"].startswith("spark ")
    assert [(row["host"], row["packets"]) for row in said["rows"]] == [("a", 3)]
    assert heard and {address for address in heard if not address.endswith("0100007F")} == set()
    assert not set(Path("/var/tmp").glob("ctobserve.*")) - before


def listening(pid: int) -> list[str]:
    """Addresses that sockets of this process's namespace listen on, as the kernel writes them; none while it is still ours."""
    found = []
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            if Path(f"/proc/{pid}/ns/net").samefile("/proc/self/ns/net"):
                continue
            rows = [line.split() for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
            found += [row[1].partition(":")[0] for row in rows if row[3] == "0A"]
    return found
