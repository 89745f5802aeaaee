"""Basic authentication: who gives the name and the password of a user may ask."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from ctobserve.errors import KernelLacks

REST = 4  # times as long as a wrong password took no other is tried: whoever guesses gets a fifth of one core
Check = Callable[[bytes, bytes], bool]


def bcrypt_check() -> Check:
    """Whether a password has this hash; raises KernelLacks where no library is there that knows."""
    try:
        import bcrypt
    except ModuleNotFoundError:
        raise KernelLacks("Python cannot import bcrypt, which basic_auth_users need; try: apt install python3-bcrypt") from None

    def check(password: bytes, hashed: bytes) -> bool:
        try:
            return bool(bcrypt.checkpw(password, hashed))
        except ValueError:  # a password with a NUL, or one that is too long
            return False

    return check


class BasicAuth:
    """A Guard. What was right once is known again at the cost of a hash; all else is checked one by one."""

    def __init__(self, users: Mapping[str, str], check: Check) -> None:
        """`users` have bcrypt hashes."""
        self._users = {name.encode(): hashed.encode() for name, hashed in users.items()}
        self._check = check
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, bytes] = {}
        self._one = asyncio.Lock()
        self._worker = ThreadPoolExecutor(1, "passwords")

    async def admits(self, authorization: str | None) -> bool:
        """Whether this field of a request has the name and password of a user."""
        given = _given(authorization)
        if given is None:
            return False
        name, password = given
        digest = hmac.digest(self._key, name + b":" + password, hashlib.sha256)
        if hmac.compare_digest(digest, self._right.get(name, b"")):
            return True
        async with self._one:
            began = time.monotonic()
            # A name that nobody has takes as long as any other.
            hashed = self._users.get(name) or next(iter(self._users.values()))
            right = await asyncio.get_running_loop().run_in_executor(self._worker, self._check, password, hashed)
            if right and name in self._users:
                self._right[name] = digest
                return True
            await asyncio.sleep(REST * (time.monotonic() - began))
            return False


def _given(authorization: str | None) -> tuple[bytes, bytes] | None:
    """Name and password; None where the field is missing, or is none of this kind."""
    kind, _, encoded = (authorization or "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (name, password) if colon else None
