"""python -m tests.fleet --hosts N --hours N --seed N OUT: a fleet's dataset into OUT, and what was planted as JSON on stdout."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.fleet.fleet import EVERY_H, make
from tests.fleet.planted import LEAST_HOSTS


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    asked.add_argument("--hosts", type=int, default=200, help=f"at least {LEAST_HOSTS}; of fewer than 200 fewer have each cause")
    asked.add_argument("--hours", type=int, default=24)
    asked.add_argument("--every", type=int, default=EVERY_H, help="hours from one recording of a host to the next")
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet")
    given = asked.parse_args()
    if given.hosts < LEAST_HOSTS or given.hours < 2 or given.every < 1:
        asked.error(f"needs --hosts of {LEAST_HOSTS} or more, --hours of 2 or more and --every of 1 or more")
    if given.out.exists():
        asked.error(f"{given.out} exists; give a name that is free")
    json.dump(make(given.out, given.hosts, given.hours, given.every, given.seed), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
