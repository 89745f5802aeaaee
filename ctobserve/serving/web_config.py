"""The file of --web-config: TLS and users, by the conventions of Prometheus' exporter toolkit, as far as they are kept here.

What is not supported is refused and never ignored: whoever wrote it believes that it protects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ctobserve.errors import KernelLacks, UsageError
from ctobserve.host import files
from ctobserve.model import printable

MOST_BYTES = 1 << 20
SECTIONS = frozenset({"tls_server_config", "basic_auth_users"})
OF_TLS = frozenset({"cert_file", "key_file", "client_ca_file", "client_auth_type", "min_version"})
CLIENTS = ("NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
VERSIONS = ("TLS12", "TLS13")
# As crypt(5) has it; each step of the cost doubles what one wrong password costs us.
BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}")


class TlsConfig(NamedTuple):
    """Paths that are absolute; `clients` is one of CLIENTS, `least` of VERSIONS."""

    cert: Path
    key: Path
    client_ca: Path | None
    clients: str
    least: str


class WebConfig(NamedTuple):
    """`users` have bcrypt hashes of their passwords; none: everybody may ask."""

    tls: TlsConfig | None = None
    users: Mapping[str, str] = {}


def read(path: Path) -> WebConfig:
    """Raises UsageError for what cannot be read, is not ours alone to write, or asks for what there is not."""
    try:
        with files.trusted(path) as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise _refused(path, f"{why}; give a file that only root can write") from None
    if len(content) > MOST_BYTES:
        raise _refused(path, f"it is longer than {MOST_BYTES} bytes")
    found = _parsed(path, content)
    _require_known(path, "", found, SECTIONS)
    tls = found.get("tls_server_config")
    users = found.get("basic_auth_users")
    return WebConfig(None if tls is None else _tls(path, tls), {} if users is None else _users(path, users))


def _parsed(path: Path, content: bytes) -> Mapping[Any, Any]:
    try:
        import yaml
    except ModuleNotFoundError:
        raise KernelLacks("Python cannot import yaml, which reads --web-config; try: apt install python3-yaml") from None
    try:
        found = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _refused(path, f"it is no YAML: {printable(str(error).splitlines()[0])}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _refused(path, "it is no mapping; it has tls_server_config, basic_auth_users, or both")
    return found


def _require_known(path: Path, of: str, found: Mapping[Any, Any], known: frozenset[str]) -> None:
    unknown = [key for key in found if key not in known]
    if unknown:
        what = f"{of}.{unknown[0]}" if of else str(unknown[0])
        raise _refused(path, f"{printable(what)} is not supported; there are {', '.join(sorted(known))}")


def _tls(path: Path, found: Any) -> TlsConfig:
    of = "tls_server_config"
    if not isinstance(found, dict):
        raise _refused(path, f"{of} is no mapping; it has cert_file and key_file at least")
    _require_known(path, of, found, OF_TLS)
    wrong = [key for key, value in found.items() if not isinstance(value, str)]
    if wrong:
        raise _refused(path, f"{of}.{wrong[0]} is no text")

    def place(key: str) -> Path:
        if not found.get(key):
            raise _refused(path, f"{of} lacks {key}")
        return path.absolute().parent / str(found[key])

    client_ca = place("client_ca_file") if found.get("client_ca_file") else None
    clients = found.get("client_auth_type", CLIENTS[0])
    least = found.get("min_version", VERSIONS[0])
    for key, value, those in (("client_auth_type", clients, CLIENTS), ("min_version", least, VERSIONS)):
        if value not in those:
            raise _refused(path, f"{of}.{key} {printable(value)} is not supported; there are {', '.join(those)}")
    if (client_ca is None) != (clients == CLIENTS[0]):
        raise _refused(path, f"{of}: client_ca_file goes with client_auth_type {' or '.join(CLIENTS[1:])}; give both or none")
    return TlsConfig(place("cert_file"), place("key_file"), client_ca, clients, least)


def _users(path: Path, found: Any) -> dict[str, str]:
    of = "basic_auth_users"
    if not isinstance(found, dict) or not found:
        raise _refused(path, f"{of} is no mapping of names to bcrypt hashes")
    for name, hashed in found.items():
        if not isinstance(name, str) or not name or ":" in name:
            raise _refused(path, f"{of}: {printable(str(name))} is no name; quote it, without a colon")
        if not isinstance(hashed, str) or not BCRYPT.fullmatch(hashed):
            raise _refused(path, f"{of}.{printable(name)} is no bcrypt hash of cost 4 to 16; try: htpasswd -nBC 10 NAME")
    return dict(found)


def _refused(path: Path, why: str) -> UsageError:
    return UsageError(f"--web-config {printable(str(path))}: {why}")
