"""How a recording comes into a dataset (`convert --dataset`), and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ctobserve.capture.store.container import PIPE, shown
from ctobserve.commands.opening import out
from ctobserve.commands.progress import progress
from ctobserve.commands.replaying import reading
from ctobserve.commands.values import Value
from ctobserve.errors import CtobserveError, UsageError
from ctobserve.fleet import storage
from ctobserve.fleet.adding import add
from ctobserve.fleet.layout import host_name
from ctobserve.fleet.schema import TABLES
from ctobserve.model import printable
from ctobserve.render.parquet import libraries

IMAGE_CHARACTERS = 200
HOST = Value(host_name)


def add_to_dataset(path: Path, dataset: str, host: str, image: str | None) -> None:
    """Adds the recording, unless it is there, and says which. Raises UsageError where there can be no dataset."""
    if Path(dataset) == PIPE:
        raise UsageError("- is stdout, which can be no dataset; give a folder, or a URL like s3://BUCKET/FOLDER")
    libraries()  # before anything is made
    where = storage.shown(dataset)
    with reading(path) as recording, storage.opened(dataset) as found, progress("converting") as tell, _whole(where):
        added = add(recording, found, host, image and printable(image, IMAGE_CHARACTERS), tell)
    if added.not_judged:
        click.echo(f"ctobserve: {shown(path)} has no verdicts in {where}: {added.not_judged}", err=True)
    if added.rows:
        out([f"{where}: {host} {added.recording}: {', '.join(f'{table} {added.rows[table]}' for table in TABLES[1:])}"])
    else:
        out([f"{where}: {host} {added.recording}: is there already; nothing was changed"])


@contextmanager
def _whole(where: str) -> Iterator[None]:
    """Raises CtobserveError where Ctrl-C, a full disk or a file system far away ends it before."""
    try:
        yield
    except (KeyboardInterrupt, OSError) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else storage.why(error)
        raise CtobserveError(f"{where}: not all of the recording is there: {why}; give the same command again") from None
