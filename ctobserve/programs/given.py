"""Numbers that the programs are given when they are loaded: what differs between kernels, and what a command chose.

In bpf/*.c each name is a constant that stands out (GIVEN in bpf/ctobserve.h), over which loader.py writes the value: what is
compiled depends on neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ctobserve.errors import KernelLacks
from ctobserve.host.layout import NUMBERS, Layout
from ctobserve.host.symbols import Symbols
from ctobserve.programs.constants import NODE_ROOM
from ctobserve.programs.hooks import DELETE, attachable


class Choices(NamedTuple):
    """What the programs do beyond the least; in C the names are in capitals."""

    chains: bool = False  # count chain lengths at every insert
    confirms: bool = False  # report accepted confirms, with the time since allocation
    reasons: bool = False  # destroy: by whose call, with what traffic behind it
    invalid: bool = False  # report invalid packets
    packets: bool = False  # count packets by state
    netns: int = 0  # inode number of the only namespace that is wanted, 0 = all are


# The order is that of the numbers in C.
NAMES = (*NUMBERS, "SPLIT_DELETE", *map(str.upper, Choices._fields))


def given(layout: Layout, symbols: Symbols, choices: Choices) -> Sequence[int]:
    """Their values, in the order of NAMES; raises KernelLacks where a node is larger than what the programs have room for."""
    if layout.numbers["NODE_STATUS"] + 4 > NODE_ROOM:
        raise KernelLacks(
            f"this kernel has an entry's status {layout.numbers['NODE_STATUS']} bytes behind its reply node, "
            f"and the programs have room for {NODE_ROOM}; ctobserve has to be changed for it"
        )
    values = layout.numbers | {
        "SPLIT_DELETE": int(attachable(DELETE, symbols) != DELETE),
        **{name.upper(): int(value) for name, value in choices._asdict().items()},
    }
    return [values[name] for name in NAMES]
