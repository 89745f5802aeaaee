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
    """A folder, made where it is missing, or a URL. Raises UsageError, and KernelLacks without pyarrow."""
    with ExitStack() as within:
        try:
            found = within.enter_context(_found(dataset))
        except (OSError, ValueError) as error:
            why = (getattr(error, "strerror", None) or printable(str(error))).lower()
            raise UsageError(f"{shown(dataset)}: {why}; give a folder, or a URL like s3://BUCKET/FOLDER") from None
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


def shown(dataset: str) -> str:
    """Its name for people."""
    return remote.shown(dataset) if URL.fullmatch(dataset) else container.shown(Path(dataset))
