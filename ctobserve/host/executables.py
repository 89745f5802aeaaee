"""Programs of others that we run: a trusted file, in /, with none of our environment. The only module that starts any."""

from __future__ import annotations

import math
import os
import resource
import select
import stat
import subprocess
import time
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector

from ctobserve.host.surroundings import PATH

DIRECTORIES = tuple(map(Path, PATH.split(":")))
READ_BYTES = 1 << 16
WAKE_S = 60.0


def trusted(name: str, directories: tuple[Path, ...] = DIRECTORIES) -> Path | None:
    """The first file of this name that only root can have put there, or None."""
    return next((directory / name for directory in directories if _of_root(directory) and _of_root(directory / name)), None)


def _of_root(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def run(
    program: Path,
    *arguments: str,
    given: bytes = b"",
    timeout_s: float = math.inf,
    memory_bytes: int | None = None,
    output_bytes: float = math.inf,
    **environment: str,
) -> subprocess.CompletedProcess[bytes]:
    """Its output and exit status, with `given` on its stdin; `environment` is all it has besides PATH.

    `program` is an absolute path. It gets no memory beyond `memory_bytes` (RLIMIT_AS). Once it has written `output_bytes` it is
    killed, and its output ends there. Raises OSError, and TimeoutError when it took longer; it is killed then.
    """
    until, pipe = time.monotonic() + timeout_s, subprocess.PIPE
    command, known = [os.fspath(program), *arguments], {"PATH": PATH, **environment}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/", env=known) as child:
        try:
            if memory_bytes is not None:
                _limit(child.pid, memory_bytes)
            output, errors = _exchange(child, given, output_bytes, until)
            if max(len(output), len(errors)) < output_bytes:
                child.wait(max(until - time.monotonic(), 0))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise TimeoutError(f"{program} took longer than {timeout_s:g} s") from None
        finally:
            child.kill()
    return subprocess.CompletedProcess(command, child.returncode, output, errors)


def _limit(pid: int, memory_bytes: int) -> None:
    """From outside: between fork and exec no code of ours may run, as there are threads. Without memory nft aborts: no core."""
    resource.prlimit(pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def _exchange(child: subprocess.Popen[bytes], given: bytes, most: float, until: float) -> tuple[bytes, bytes]:
    """What it writes to stdout and stderr until both end, or one has `most` bytes. Raises TimeoutError."""
    assert child.stdin and child.stdout and child.stderr
    said = {child.stdout.fileno(): b"", child.stderr.fileno(): b""}
    with DefaultSelector() as streams:
        streams.register(child.stdin, EVENT_WRITE)
        for stream in said:
            streams.register(stream, EVENT_READ)
        while streams.get_map() and max(map(len, said.values())) < most:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            for key, event in streams.select(min(left_s, WAKE_S)):
                if event == EVENT_WRITE:
                    given = _given(key.fd, given)
                    if not given:
                        streams.unregister(child.stdin)
                        child.stdin.close()
                elif part := os.read(key.fd, READ_BYTES):
                    said[key.fd] += part
                else:
                    streams.unregister(key.fd)
    return said[child.stdout.fileno()], said[child.stderr.fileno()]


def _given(stdin: int, rest: bytes) -> bytes:
    """What is still to be written, after as much as surely does not block; nothing where nobody reads it."""
    try:
        return rest[os.write(stdin, rest[: select.PIPE_BUF]) :]
    except BrokenPipeError:
        return b""
