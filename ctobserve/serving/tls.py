"""TLS for the server: a context made of files that only we and root can write, and made anew when they change."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ctobserve.errors import UsageError
from ctobserve.host import files
from ctobserve.model import printable
from ctobserve.serving.web_config import CLIENTS, TlsConfig

LEAST = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
ASKED = dict(zip(CLIENTS, (ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED), strict=True))
MOST_BYTES = 1 << 20


class Tls:
    """`context` for the server; a certificate that is renewed on disk serves who connects from then on."""

    def __init__(self, config: TlsConfig, say: Callable[[str], object]) -> None:
        """Raises UsageError where one of its files cannot be had."""
        self._config = config
        self._say = say
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = LEAST[config.least]
        self.context.verify_mode = ASKED[config.clients]
        self._stamp = self._stamped()
        self._load()
        if config.client_ca:
            try:
                with files.trusted(config.client_ca) as file:
                    self.context.load_verify_locations(cadata=file.read(MOST_BYTES).decode("ascii", "replace"))
            except (OSError, ValueError) as error:
                raise _refused(config.client_ca, error) from None

    def refresh(self) -> None:
        """Take a new certificate, if there is one; where it cannot be taken, the old one stays, and that is said."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._load()
            self._say("the certificate was renewed")
        except UsageError as error:
            self._say(f"the certificate stays as it was: {error}")

    def _load(self) -> None:
        config = self._config
        try:
            with files.trusted(config.cert) as cert, files.trusted(config.key, secret=True) as key:
                # What is open, not what has the name by now; a key with a passphrase would ask on the terminal.
                self.context.load_cert_chain(_opened(cert), _opened(key), password=b"")
        except (OSError, ValueError) as error:
            raise _refused(config.cert if getattr(error, "filename", None) == str(config.cert) else config.key, error) from None

    def _stamped(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(_stamp, (self._config.cert, self._config.key)))


def _opened(file: BinaryIO) -> str:
    return f"/proc/self/fd/{file.fileno()}"


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _refused(path: Path, error: OSError | ValueError) -> UsageError:
    why = (getattr(error, "strerror", None) or str(error)).lower()
    return UsageError(f"--web-config: {printable(str(path))}: {printable(why)}; give PEM files that only root can write")
