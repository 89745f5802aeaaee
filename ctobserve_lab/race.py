"""Two processes send the first packet of a flow at the same instant, over one UDP socket, again and again.

Usage: race.py ADDRESS ROUNDS. Imitates a resolver that asks for A and AAAA in one breath; exercises nf_ct_resolve_clash.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import sys

FIRST_PORT = 20000


def main() -> None:
    """Both processes spin until the other has come as far."""
    address, rounds = sys.argv[1], int(sys.argv[2])
    shared = mmap.mmap(-1, 4096)
    turns = (ctypes.c_uint64 * 2).from_buffer(shared)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    me = 0 if os.fork() else 1
    for turn in range(1, rounds + 1):
        turns[me] = turn
        while turns[1 - me] < turn:
            pass
        sender.sendto(b"x", (address, FIRST_PORT + turn))
    if me == 0:
        os.wait()


if __name__ == "__main__":
    main()
