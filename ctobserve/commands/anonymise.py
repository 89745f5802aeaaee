"""ctobserve anonymise: a recording to be shared, with other addresses and names."""

from __future__ import annotations

from pathlib import Path

import click

from ctobserve.capture.anonymous import key
from ctobserve.capture.anonymous.copying import copy
from ctobserve.capture.store.container import shown
from ctobserve.commands.help import OUTPUT, Command, Example, option
from ctobserve.commands.making import making
from ctobserve.commands.opening import out
from ctobserve.commands.progress import progress
from ctobserve.commands.replaying import reading
from ctobserve.commands.values import PATH
from ctobserve.render.copied import copied_line


@click.command(
    cls=Command,
    examples=(
        Example("a recording for a bug report", "ctobserve anonymise incident.ctobserve shared.ctobserve"),
        Example(
            "alike in all recordings that are made with this key", "ctobserve anonymise a.ctobserve b.ctobserve --key-file key"
        ),
    ),
)
@click.argument("path", type=PATH, metavar="FILE")
@click.argument("made", type=PATH, metavar="OUT")
@option(
    OUTPUT, "--key-file", type=PATH, metavar="PATH",
    help="Exchange by the key in PATH, 16 to 4096 bytes that nobody else may read. Default: a random one, which is forgotten.",
)  # fmt: skip
def anonymise(path: Path, made: Path, key_file: Path | None) -> None:
    """Write the recording FILE again as OUT, with other addresses and names: for sharing.

    Addresses that shared their first bits still do, private ones stay private, names are the same for the same. Ports, times,
    numbers and settings stay, and so does each verdict. docs/recording.md says what can still be learnt from OUT.
    """
    secret = key.random() if key_file is None else key.read(key_file)
    with reading(path) as reader, progress("writing it anew") as tell, making(made):
        copied = copy(reader, made, secret, tell)
    out([copied_line(shown(made), copied)])
