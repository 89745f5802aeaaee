"""`make image`: the programs compiled for every machine, beside their sources in bpf/images, as the wheel carries them."""

from __future__ import annotations

import json
from itertools import product

from ctobserve.programs.arch import MACHINES
from ctobserve.programs.compile import Source, compiled, shipped


def main() -> None:
    """Both forms; what is there and of these sources stays."""
    for machine, trampolines in product(MACHINES, (True, False)):
        source = Source.read(trampolines, machine)
        if shipped(source) is None:
            source.image.parent.mkdir(exist_ok=True)
            source.image.write_text(json.dumps(compiled(source)) + "\n")


if __name__ == "__main__":
    main()
