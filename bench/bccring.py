"""The observer that bcc's documentation would lead to: ring_buffer_poll and a callback that keeps each record's bytes.

Usage: bccring.py READY_FILE RECORD_BYTES CT_BYTES. Runs until SIGINT, then prints how many records came.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RING_BYTES = 32 << 20


def main() -> None:
    """Attach, say so, poll."""
    os.environ["BCC_KERNEL_SOURCE"] = str(ROOT / "bpf/headers")
    from bcc import BPF  # noqa: PLC0415 (it reads the variable when imported)

    ready, record_bytes, ct_bytes = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    flags = [f"-DRECORD_BYTES={record_bytes}", f"-DCT_BYTES={ct_bytes}", f"-DRING_PAGES={RING_BYTES >> 12}"]
    flags += ["-include", str(ROOT / f"bpf/arch/{platform.machine()}.h")]
    bpf = BPF(src_file=str(ROOT / "bench/bccring.c"), cflags=flags)
    bpf.attach_kprobe(event="__nf_conntrack_hash_insert", fn_name="insert")
    seen = 0
    # As much as a queue to another thread would hold; unbounded, it would measure the allocator.
    kept: deque[bytes] = deque(maxlen=4096)

    def take(_context: int, data: int, size: int) -> int:
        nonlocal seen
        seen += 1
        kept.append(ctypes.string_at(data, size))
        return 0

    bpf["ring"].open_ring_buffer(take)
    ready.touch()
    try:
        while True:
            bpf.ring_buffer_poll()
    except KeyboardInterrupt:
        print(seen, "records")


if __name__ == "__main__":
    main()
