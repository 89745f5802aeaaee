"""The tool as kernel tests start it, and what it may not leave behind."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from ctobserve.programs import arch

CTOBSERVE = (sys.executable, "-m", "ctobserve")
LACKING = "lacking"  # a property of a test: what its kernel refuses, or is without; the test demands just that
PATIENCE_S = 300  # with what takes a second or two: an emulated machine may be a hundred times as slow


def bpf_program_ids() -> set[int]:
    """Ids of all BPF programs in the kernel (BPF_PROG_GET_NEXT_ID); raises OSError where it does not tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    ids: set[int] = set()
    last = 0
    while True:
        attributes = bytearray(struct.pack("<III", last, 0, 0))
        if libc.syscall(arch.here().bpf, 11, (ctypes.c_char * 12).from_buffer(attributes), 12) < 0:
            if (code := ctypes.get_errno()) != errno.ENOENT:
                raise OSError(code, os.strerror(code))
            return ids
        last = struct.unpack_from("<I", attributes, 4)[0]
        ids.add(last)
