"""A dataset on any file system that pyarrow, or fsspec where that is installed, knows by URL, such as S3.

An object store shows a file once it was sent whole; elsewhere it gets its name then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import Any

from ctobserve.errors import UsageError
from ctobserve.fleet.layout import Place
from ctobserve.model import printable

OBJECT_STORES = {"s3", "gcs", "abfs"}  # folders are parts of names there
MOST_CHARACTERS = 200  # of what is said of a URL


class RemoteStorage:
    """What lies below a path of a file system of pyarrow's. A Storage."""

    def __init__(self, system: Any, path: str) -> None:
        self._system = system
        self._path = path.rstrip("/")

    def hosts_with(self, place: Place) -> list[str]:
        """Hosts in whose folders a file of this table, day and recording is. Raises OSError."""
        table, day, _ = place.folders
        there = infos(self._system, f"{self._path}/{table}/{day}")
        paths = [one.path.rsplit("/", 2) for one in there]
        return sorted(path[1].removeprefix("host=") for path in paths if path[-1] == place.name)

    @contextmanager
    def create(self, place: Place) -> Iterator[Any]:
        """An open file that is there once the block ends in order, in place of one that was. Raises OSError."""
        folder = "/".join((self._path, *place.folders))
        whole = f"{folder}/{place.name}"
        if self._system.type_name in OBJECT_STORES:
            with self._system.open_output_stream(whole) as file:
                yield file
            return
        self._system.create_dir(folder, recursive=True)
        partial = f"{folder}/.ctobserve.{token_hex(8)}"
        try:
            with self._system.open_output_stream(partial) as file:
                yield file
            self._system.move(partial, whole)
        except BaseException:
            with suppress(OSError):
                self._system.delete_file(partial)
            raise


def infos(system: Any, path: str, recursive: bool = True) -> list[Any]:
    """What lies below this path of a file system of pyarrow's, as it describes it; nothing of none. Raises OSError."""
    from pyarrow import fs

    return list(system.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=recursive)))


def here() -> Any:
    """The file system of this host."""
    from pyarrow import fs

    return fs.LocalFileSystem()


def resolved(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. Raises UsageError for what nobody knows, and OSError."""
    from pyarrow import fs

    try:
        system, path = fs.FileSystem.from_uri(url)
    except (ValueError, NotImplementedError) as error:
        return _by_fsspec(url, str(error))
    return system, str(path)


def _by_fsspec(url: str, complaint: str) -> tuple[Any, str]:
    from pyarrow import fs

    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        why = "; ".join(_line(said.replace(url, shown(url))) for said in (complaint, str(error)))
        raise UsageError(f"{shown(url)} is on no file system that is known here: {why}") from None
    # Another name for this host's own files, which are written with more care.
    local = "file" in ((system.protocol,) if isinstance(system.protocol, str) else system.protocol)
    return here() if local else fs.PyFileSystem(fs.FSSpecHandler(system)), str(path)


def shown(url: str) -> str:
    """For people, without the secrets that can stand in it."""
    return _line(re.sub(r"//[^/@]*@", "//", url).partition("?")[0])


def _line(text: str) -> str:
    return printable(text, MOST_CHARACTERS)
