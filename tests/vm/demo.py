"""What `make run` does: report on this machine's kernel; where BPF is refused, on the lab VM's, with traffic to report on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
CTOBSERVE = (sys.executable, "-m", "ctobserve")
SECONDS = "10"


def show(*arguments: str) -> int:
    """Run a command of ctobserve where the reader sees it."""
    print(f"\n$ ctobserve {' '.join(arguments)}", flush=True)
    return subprocess.run([*CTOBSERVE, *arguments], check=False).returncode


def here() -> int:
    """This machine's own kernel, as it is."""
    return max(show("list", "--limit", "15"), show("buckets"), show("drops", "--duration", SECONDS))


def in_lab() -> int:
    """Clients, a server behind them, and a table made too small, in namespaces of this VM."""
    from ctobserve_lab.traffic import open_tcp, send_udp
    from ctobserve_lab.world import Net

    limit = Path("/proc/sys/net/netfilter/nf_conntrack_max")
    with Net() as net:
        client, server = net.space("client"), net.space("server")
        _, target = net.link(client, server)
        open_tcp(server, client, target, 443, 11)
        client.run("ping", "-c1", target)
        client.run("ping", "-6", "-c1", "fd00:1::2")
        send_udp(client, 2003, target=target)
        codes = [show("check"), show("list", "--limit", "12"), show("buckets", "--netns", client.name, "--limit", "2")]
        client.run("conntrack", "-D", "-p", "udp")
        print("\nThe table is now made too small, and 7 packets come for which there is no room:", flush=True)
        with tempfile.TemporaryDirectory() as directory:
            ready = Path(directory, "ready")
            print("\n$ ctobserve drops", flush=True)
            running = subprocess.Popen([*CTOBSERVE, "drops", "--ready-file", ready])
            while not ready.exists() and running.poll() is None:
                time.sleep(0.1)
            limit.write_text(str(client.count()))
            send_udp(client, 7, first_port=53, target=target)
            running.send_signal(signal.SIGINT)
            codes.append(running.wait())
    return max(codes)


def main() -> int:
    """Decide where, say why."""
    if "--in-lab" in sys.argv:
        return in_lab()
    check = subprocess.run([*CTOBSERVE, "check"], capture_output=True, text=True, check=False)
    if check.returncode == 0:
        print(check.stdout, flush=True)
        return here()
    print(f"This kernel cannot be observed: {check.stderr.strip()}")
    print("Doing the same on a real kernel in the lab VM (QEMU emulation, about a minute) ...", flush=True)
    return subprocess.run(
        [sys.executable, ROOT / "tests/vm/lab.py", "--", sys.executable, __file__, "--in-lab"], check=False
    ).returncode


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
