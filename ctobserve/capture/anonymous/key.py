"""The key by which a recording is made anonymous: chosen at random and forgotten, or a file's, for several recordings alike."""

from __future__ import annotations

import secrets
from hashlib import blake2b
from pathlib import Path

from ctobserve.errors import UsageError
from ctobserve.host import files
from ctobserve.model import printable

LEAST_BYTES, MOST_BYTES = 16, 4096
DIGEST_BYTES = 32


class Key:
    """Says of any bytes 32 others, by BLAKE2b with a key: who lacks the key cannot say them, nor tell what they are of."""

    def __init__(self, secret: bytes) -> None:
        self._secret = blake2b(secret, digest_size=64).digest()

    def digest(self, purpose: bytes, about: bytes) -> bytes:
        """`purpose`, of no more than 16 bytes, keeps what is said for one use apart from what is said for others."""
        return blake2b(about, digest_size=DIGEST_BYTES, key=self._secret, person=purpose).digest()


def random() -> Key:
    """One that nobody knows and that is gone when the process is."""
    return Key(secrets.token_bytes(DIGEST_BYTES))


def read(path: Path) -> Key:
    """The content of a file that its owner alone, who is us, may read. Raises UsageError where it is none."""
    name = printable(str(path), 200)
    try:
        with files.directory(path.parent) as directory:
            content = files.read_secret(path.name, directory, MOST_BYTES)
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"{name}: {why.lower()}; make a key by: (umask 077; head -c 32 /dev/urandom > FILE)") from None
    if len(content) < LEAST_BYTES:
        raise UsageError(f"{name} has fewer than {LEAST_BYTES} bytes, which can be guessed; give a file of 32 random ones")
    return Key(content)
