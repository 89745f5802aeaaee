"""Every scenario played and recorded, as an archive on stdout; to be run in a lab machine (make recordings)."""

from __future__ import annotations

import sys
import tarfile
import tempfile
from functools import partial
from pathlib import Path

from ctobserve.capture.live import Options
from ctobserve_lab.recordings import recording
from ctobserve_lab.scenarios import SCENARIOS
from ctobserve_lab.stage import Stage
from tests.kernel.incidents import SEES, Standing, watched
from tests.smallest import smallest


def main() -> None:
    """Those that are named, else all."""
    with (
        tempfile.TemporaryDirectory() as directory,
        Standing(Options(SEES)) as capture,
        tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive,
    ):
        for name in sys.argv[1:] or SCENARIOS:
            path = Path(directory, recording(name).name)
            with Stage() as stage:
                play = SCENARIOS[name].play(stage)
                space = next(play)
                watched(capture, space, partial(next, play), path, {"scenario": name})
            path.write_bytes(smallest(path))
            archive.add(path, path.name)


if __name__ == "__main__":
    main()
