"""The command line of export: what it refuses before anything is attached."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ctobserve.commands.export import _warn
from ctobserve.commands.values import LISTEN
from ctobserve.serving.web_config import TlsConfig, WebConfig


def export(*words: str, before: str = "pass") -> tuple[int, str]:
    code = (
        f"import sys; {before}; sys.argv[1:] = ['export', *sys.argv[1:]]; from ctobserve.__main__ import start; sys.exit(start())"
    )
    found = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert found.stdout == ""
    return found.returncode, found.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--listen", "9877"], 2, "is no place to listen at; write it like 127.0.0.1:9877 or [::1]:9877"),
        (["--listen", "localhost:9877"], 2, "is no place to listen at"),
        (["--listen", "127.0.0.1:99999"], 2, "is no place to listen at"),
        (["--limit", "0"], 2, "--limit"),
        (["--keep", "15m"], 2, "--keep is of the flight recorder; give --record DIR too"),
        (["--on", "drop"], 2, "--on is of the flight recorder; give --record DIR too"),
        (["--max-size", "1GiB"], 2, "--max-size is of the flight recorder"),
        (["--web-config", "/nowhere/web.yml"], 2, "--web-config /nowhere/web.yml: no such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_is_refused_in_one_line(words, code, says):
    status, said = export(*words)
    assert status == code and says in said and said.count("\n") == 1 and said.startswith("ctobserve: ")


@pytest.mark.parametrize(
    ("hidden", "words"),
    [("prometheus_client", []), ("yaml", ["--web-config", "web.yml"]), ("bcrypt", ["--web-config", "web.yml"])],
)
def test_without_a_package_one_line_says_which(tmp_path, hidden, words):
    config = tmp_path / "web.yml"
    config.write_text("basic_auth_users: {ann: $2b$10$abcdefghijklmnopqrstuuDMIxEHvYAcwdDTnkIAhKqPLJLqYGWCu}\n")
    config.chmod(0o600)
    status, said = export(
        *(str(config) if word == "web.yml" else word for word in words), before=f"sys.modules['{hidden}'] = None"
    )
    package = {"prometheus_client": "python3-prometheus-client"}.get(hidden, f"python3-{hidden}")
    assert (status, said.count("\n")) == (3, 1) and said.endswith(f"try: apt install {package}\n")


TLS = WebConfig(TlsConfig(*"abc", "RequireAndVerifyClientCert", "TLS12"))
SERVER, USERS = WebConfig(TlsConfig("a", "b", None, "NoClientCert", "TLS12")), WebConfig(None, {"ann": "hash"})


@pytest.mark.parametrize(
    ("place", "config", "lacks"),
    [
        ("127.0.0.1:1", WebConfig(), None),
        ("[::1]:1", WebConfig(), None),
        ("0.0.0.0:1", WebConfig(), "without TLS and without users"),
        ("[::]:1", USERS, "without TLS"),
        ("10.0.0.1:1", SERVER, "without users"),
        ("10.0.0.1:1", TLS, None),
        ("10.0.0.1:1", SERVER._replace(users=USERS.users), None),
    ],
)
def test_who_can_be_reached_from_elsewhere_is_told_what_is_missing(capsys, place, config, lacks):
    _warn(LISTEN.convert(place, None, None), config, place)
    said = capsys.readouterr().err
    assert said == (
        f"ctobserve: warning: {place} can be reached from elsewhere, {lacks}; give them by --web-config\n" if lacks else ""
    )
