"""A dataset in a folder of this host: written as root may write where others may, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ctobserve.fleet.layout import Place
from ctobserve.host import files


class LocalStorage:
    """What lies below an open folder; a link there is followed by nobody. A Storage."""

    def __init__(self, root: int) -> None:
        """`root`: its descriptor."""
        self._root = root

    def hosts_with(self, place: Place) -> list[str]:
        """Hosts in whose folders a file of this table, day and recording is. Raises OSError."""
        table, day, _ = place.folders
        with files.below(self._root, table, day) as folder:
            found = files.within_each(place.name, folder)
        return [name.removeprefix("host=") for name in found]

    @contextmanager
    def create(self, place: Place) -> Iterator[BinaryIO]:
        """An open file that is there once the block ends in order, in place of one that was. Raises OSError."""
        with files.below(self._root, *place.folders) as folder, files.whole(place.name, folder) as file:
            yield file


@contextmanager
def local(path: Path) -> Iterator[LocalStorage]:
    """The folder is made where it is missing, for our user alone. Raises OSError."""
    with files.made_directory(path) as root:
        yield LocalStorage(root)
