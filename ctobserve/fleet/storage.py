"""Where a dataset is kept: a folder of this host, or any file system that pyarrow or fsspec knows by URL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from ctobserve.capture.store import container
from ctobserve.errors import UsageError
from ctobserve.fleet import remote
from ctobserve.fleet.layout import Place
from ctobserve.fleet.local import local
from ctobserve.model import printable

MOST_CHARACTERS = 200  # of what others say of a failure
URL = re.compile(r"[a-z][a-z0-9+.-]*://.*", re.DOTALL)


class Storage(Protocol):
    """The files of a dataset."""

    def hosts_with(self, place: Place) -> list[str]:
        """Hosts in whose folders a file of this table, day and recording is. Raises OSError."""
        ...

    def create(self, place: Place) -> AbstractContextManager[Any]:
        """An open file that is there once the block ends in order, in place of one that was. Raises OSError."""
        ...


@contextmanager
def opened(dataset: str) -> Iterator[Storage]:
    """A folder, made where it is missing, or a URL. Raises UsageError."""
    with ExitStack() as within:
        try:
            found = within.enter_context(_found(dataset))
        except (OSError, ValueError) as error:
            raise UsageError(f"{shown(dataset)}: {why(error)}; give a folder, or a URL like s3://BUCKET/FOLDER") from None
        yield found


@contextmanager
def _found(dataset: str) -> Iterator[Storage]:
    path = dataset
    if URL.fullmatch(dataset):
        system, path = remote.resolved(dataset)
        if system.type_name != "local":
            yield remote.RemoteStorage(system, path)
            return
    with local(Path(path)) as folder:
        yield folder


def located(dataset: str) -> tuple[Any, str]:
    """The file system of pyarrow's in which a dataset is to be read, and its path there. Raises as `opened`."""
    if not URL.fullmatch(dataset):
        return remote.here(), str(Path(dataset).absolute())
    try:
        system, path = remote.resolved(dataset)
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown(dataset)}: {why(error)}") from None
    return system, path.rstrip("/")


def why(error: Exception) -> str:
    """What pyarrow or the system says of a failure, in one line."""
    return (getattr(error, "strerror", None) or printable(str(error).partition("\n")[0], MOST_CHARACTERS)).lower()


def shown(dataset: str) -> str:
    """Its name for people."""
    return remote.shown(dataset) if URL.fullmatch(dataset) else container.shown(Path(dataset))
