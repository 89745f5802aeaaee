"""Debian's Prometheus, unpacked, not installed: its package starts a service. And one that runs, for as long as a test does."""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
UNPACKED = ROOT / ".lab/prometheus"
START_S, ANSWER_S = 60, 60


def program(name: str) -> Path:
    """`prometheus` or `promtool`; brought by apt the first time (20 MB)."""
    if not UNPACKED.exists():
        _bring()
    return UNPACKED / "usr/bin" / name


def _bring() -> None:
    UNPACKED.parent.mkdir(exist_ok=True)
    with UNPACKED.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if UNPACKED.exists():
            return
        making = UNPACKED.with_suffix(".part")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        # As root apt would fetch as another user, who may not write here.
        said("apt-get", "-o", "APT::Sandbox::User=root", "download", "-qq", "prometheus", cwd=making)
        (package,) = making.glob("*.deb")
        said("dpkg-deb", "-x", str(package), str(making / "root"))
        making.joinpath("root").rename(UNPACKED)
        shutil.rmtree(making)


def said(*command: str, cwd: Path | None = None) -> str:
    """What a command prints; that it fails is a failure of the test, with all that it said."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


class Prometheus:
    """One that scrapes `targets` each second as job ctobserve and evaluates `rules`; a context manager.

    On a port of loopback that was free a moment ago, with all that it writes in `directory`.
    """

    def __init__(self, directory: Path, targets: list[str], rules: list[Path]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": list(map(str, rules)),
            "scrape_configs": [{"job_name": "ctobserve", "static_configs": [{"targets": targets}]}],
        }
        file = directory / "prometheus.yml"
        file.write_text(json.dumps(configuration))  # which is YAML
        self._log = directory / "log"
        self._command = [
            str(program("prometheus")),
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={self._address}",
        ]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.until(self._ready, START_S)
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def _ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=ANSWER_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def until(self, true: Callable[[], bool], seconds: float) -> None:
        """Wait for it; a failure with what Prometheus said where it does not come true."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self._log.read_text()
            time.sleep(0.2)

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of /api/v1/; a failure with its words where there is none."""
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def series(self, expression: str) -> dict[tuple[str, ...], float]:
        """Values now, each by those of its labels that are no target's, in the order of their names."""
        found = self.ask("query", query=expression)["result"]
        own = ("__name__", "instance", "job")
        return {
            tuple(value for name, value in sorted(row["metric"].items()) if name not in own): float(row["value"][1])
            for row in found
        }

    def alerts(self) -> dict[str, list[dict[str, Any]]]:
        """Those that fire, by name."""
        firing: dict[str, list[dict[str, Any]]] = {}
        for alert in self.ask("alerts")["alerts"]:
            if alert["state"] == "firing":
                firing.setdefault(alert["labels"]["alertname"], []).append(alert)
        return firing


if __name__ == "__main__":
    print(program("prometheus"))  # so that it is there for a guest, which can bring nothing
