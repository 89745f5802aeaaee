"""Files of our own on disk: made only where nothing is, read only where nobody else may have written.

Who runs as root and writes to a name that others may have put there, writes wherever it leads. So this is the only module that
writes files, and it judges what it has open, never a name that may mean something else by then.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO without a writer does not hold us up.
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def directory(path: Path) -> Iterator[int]:
    """Its descriptor while it is needed; raises OSError."""
    fd = os.open(path, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def own_directory(path: Path) -> Iterator[int]:
    """The same of a directory that is ours alone, made where it is missing; raises OSError also where it is not."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, _DIRECTORY | os.O_NOFOLLOW)
    try:
        _require_ours(fd)
        yield fd
    finally:
        os.close(fd)


def lock(within: int) -> None:
    """Until the open directory `within` is closed nobody else gets it so; raises BlockingIOError where somebody has it."""
    fcntl.flock(within, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sizes(within: int) -> dict[str, int]:
    """The regular files in the open directory `within` by name, with the bytes that each takes on disk; raises OSError."""
    found = {}
    with os.scandir(within) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found[entry.name] = status.st_blocks * 512
    return found


@contextmanager
def new_directory(path: Path) -> Iterator[int]:
    """The same of one that did not exist, for our user alone; raises FileExistsError where anything has its name, and OSError."""
    path.mkdir(mode=0o700)
    with directory(path) as fd:
        yield fd


@contextmanager
def passing_directory() -> Iterator[str]:
    """The path of a new directory on disk, for our user alone; it is removed afterwards, with all in it. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="ctobserve.", dir="/var/tmp") as path:
        yield path


@contextmanager
def made_directory(path: Path) -> Iterator[int]:
    """The same of one of whoever's, made for our user alone where it is missing; its name may be a link. Raises OSError."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    with directory(path) as fd:
        yield fd


@contextmanager
def below(within: int, *names: str) -> Iterator[int]:
    """The directory that these names lead to from the open one, each made for our user alone where it is missing.

    Raises OSError, also where one of them is a link: whoever may write there leads us nowhere.
    """
    if not names:
        yield within
        return
    with suppress(FileExistsError):
        os.mkdir(names[0], mode=0o700, dir_fd=within)
    fd = os.open(names[0], _DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        with below(fd, *names[1:]) as found:
            yield found
    finally:
        os.close(fd)


@contextmanager
def whole(name: str, within: int) -> Iterator[BinaryIO]:
    """An open file that has this name in the open directory `within` once the block ends in order and its content is on disk.

    Until then, or where it ends otherwise, nobody sees it, and whoever had the name keeps it. Raises OSError.
    """
    partial = _passing_name()
    try:
        with new(partial, within) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, name, src_dir_fd=within, dst_dir_fd=within)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial, dir_fd=within)
        raise


def within_each(name: str, within: int) -> list[str]:
    """Those directories in the open directory `within` that have a file of this name, in order; raises OSError."""
    found = []
    for directory in sorted(os.listdir(within)):
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(f"{directory}/{name}", dir_fd=within, follow_symlinks=False)
            found.append(directory)
    return found


def new(name: str, within: int) -> BinaryIO:
    """An open file that did not exist, as `create` makes it."""
    return open(os.open(name, _NEW, 0o600, dir_fd=within), "wb")


def create(name: str, within: int, content: bytes = b"") -> None:
    """A new file in the open directory `within`, for our user alone; raises FileExistsError where anything has the name, be it
    a link that leads nowhere, and OSError."""
    with new(name, within) as file:
        file.write(content)


def require_room(within: int) -> None:
    """Raises OSError where no file can be made in the open directory `within`: only trying tells."""
    name = _passing_name()
    create(name, within)
    os.unlink(name, dir_fd=within)


def replace(name: str, within: int, content: bytes) -> None:
    """A file of this name in the open directory `within`, whole or not at all; raises OSError."""
    partial = _passing_name()
    try:
        create(partial, within, content)
        os.rename(partial, name, src_dir_fd=within, dst_dir_fd=within)
    except OSError:
        with suppress(OSError):
            os.unlink(partial, dir_fd=within)
        raise


def move(name: str, other: str, within: int) -> None:
    """Give a file of ours in the open directory `within` another name, whoever had that; raises OSError."""
    os.rename(name, other, src_dir_fd=within, dst_dir_fd=within)


def remove(name: str, within: int) -> None:
    """Remove a file of ours in the open directory `within`, if it is there; raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=within)


def sync(name: str, within: int) -> None:
    """What was written to this file, and its name, is on disk from now on; raises OSError."""
    fd = os.open(name, _OLD, dir_fd=within)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.fsync(within)


def remove_empty(name: str, within: int) -> None:
    """Remove an empty regular file, if one has this name; raises FileExistsError where anything else has it, and OSError."""
    try:
        status = os.stat(name, dir_fd=within, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        raise FileExistsError(f"{name} is not an empty file")
    os.unlink(name, dir_fd=within)


def read(name: str, within: int, limit_bytes: int) -> bytes:
    """Content of a regular file that only we can have written; raises OSError where it is none, or longer than the limit."""
    with open(os.open(name, _OLD, dir_fd=within), "rb") as file:
        if not stat.S_ISREG(_require_ours(file.fileno()).st_mode):
            raise PermissionError(f"{name} is no regular file")
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise OSError(f"{name} is too long")
    return content


def read_secret(name: str, within: int, limit_bytes: int) -> bytes:
    """The same of a file that nobody but us may read either."""
    with open(os.open(name, _OLD, dir_fd=within), "rb") as file:
        if _require_ours(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise PermissionError(errno.EPERM, "others may read it")
    return read(name, within, limit_bytes)


@contextmanager
def trusted(path: Path, secret: bool = False) -> Iterator[BinaryIO]:
    """A regular file, open for reading, that only root and our user can have written, and, if `secret`, not everybody can read.

    A link may lead to it. Raises OSError.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no regular file")
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(errno.EPERM, "others can write it")
        if secret and status.st_mode & stat.S_IROTH:
            raise PermissionError(errno.EPERM, "everybody can read it")
        yield file


def head(path: Path, size: int) -> bytes:
    """The first bytes of a regular file, whoever wrote it; raises OSError where it is none, or cannot be read."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no regular file")
        return file.read(size)


def _require_ours(fd: int) -> os.stat_result:
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("others can write there")
    return status


def _passing_name() -> str:
    return f".ctobserve.{secrets.token_hex(8)}"
