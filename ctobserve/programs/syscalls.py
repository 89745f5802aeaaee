"""The system calls that bring a compiled program into the kernel: bpf(2) and perf_event_open(2).

Every object is a file descriptor: when the process ends, however it ends, the kernel takes the programs off again.
Numbers are of x86-64 (include/uapi/linux/bpf.h, perf_event.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from fcntl import ioctl
from pathlib import Path

from ctobserve.errors import CtobserveError, NotPermitted
from ctobserve.host.kernel import read_text

SYS_BPF, SYS_PERF_EVENT_OPEN = 321, 298
MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_NEXT_KEY, PROG_LOAD, PROG_TEST_RUN = 0, 1, 2, 4, 5, 10
BTF_GET_FD_BY_ID, OBJ_GET_INFO, RAW_TRACEPOINT_OPEN, BTF_GET_NEXT_ID = 19, 15, 17, 23
PROG_TYPE_KPROBE, PROG_TYPE_RAW_TRACEPOINT, PROG_TYPE_TRACING = 2, 17, 26
TRACE_FENTRY, TRACE_FEXIT = 24, 25
PERF_IOC_ENABLE, PERF_IOC_SET_BPF = 0x2400, 0x40042408
KPROBE_TYPE = Path("/sys/bus/event_source/devices/kprobe/type")
LOG_BYTES = 1 << 20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, FREED_BYTES = -1, -3, 32 << 20
PR_SET_THP_DISABLE = 41  # include/uapi/linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = _libc.syscall(SYS_BPF, command, buffer, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def map_create(kind: int, key_bytes: int, value_bytes: int, entries: int, flags: int, name: str) -> int:
    """File descriptor of a new map; raises NotPermitted or CtobserveError."""
    attributes = struct.pack("<IIIIIII16s", kind, key_bytes, value_bytes, entries, flags, 0, 0, name[:15].encode())
    try:
        return _bpf(MAP_CREATE, attributes)
    except OSError as error:
        raise _refused(f"cannot create BPF map {name}", error) from error


def map_lookup(fd: int, key: bytes, value_bytes: int) -> bytes | None:
    """Value behind `key`, or None; per-CPU maps return one 8-byte-aligned value per possible CPU."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(value_bytes)
    try:
        _bpf(MAP_LOOKUP, struct.pack("<IxxxxQQQ", fd, _address(key_buffer), _address(value), 0))
    except FileNotFoundError:
        return None
    return value.raw


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Set the value behind `key`."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    buffer = ctypes.create_string_buffer(value, len(value))
    _bpf(MAP_UPDATE, struct.pack("<IxxxxQQQ", fd, _address(key_buffer), _address(buffer), 0))


def map_next_key(fd: int, key: bytes | None, key_bytes: int) -> bytes | None:
    """The key after `key`, or the first; None after the last."""
    buffer = ctypes.create_string_buffer(key, key_bytes) if key is not None else None
    following = ctypes.create_string_buffer(key_bytes)
    try:
        _bpf(MAP_NEXT_KEY, struct.pack("<IxxxxQQ", fd, _address(buffer) if buffer else 0, _address(following)))
    except FileNotFoundError:
        return None
    return following.raw


def lock_any_memory() -> None:
    """Maps count as locked memory (before Linux 5.11); raises NotPermitted where that limit may not be lifted."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError) as error:
        raise NotPermitted(
            "the limit of locked memory may not be lifted here (no CAP_SYS_RESOURCE), and BPF maps may count as such; "
            "run as root outside the container, or use `make run`'s lab VM"
        ) from error


def prog_load(kind: int, name: str, code: bytes, attach: int = 0, btf_id: int = 0, btf_fd: int = 0) -> int:
    """File descriptor of a verified program; the verifier's last words are in the error when it refuses."""
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")

    def load(log: ctypes.Array[ctypes.c_char] | None) -> int:
        attributes = struct.pack(
            "<IIQQIIQII16sIIIIQIIQIII",
            kind,
            len(code) // 8,
            _address(instructions),
            _address(licence),
            1 if log else 0,
            LOG_BYTES if log else 0,
            _address(log) if log else 0,
            0,
            0,
            name[:15].encode(),
            0,
            attach,
            *(0, 0, 0, 0, 0, 0, 0),
            btf_id,
            btf_fd,
        )
        return _bpf(PROG_LOAD, attributes)

    try:
        return load(None)
    except OSError as first:
        if first.errno == errno.EPERM:
            raise _refused(f"cannot load BPF program {name}", first) from first
        log = ctypes.create_string_buffer(LOG_BYTES)
        try:
            return load(log)
        except OSError as error:
            words = log.value.decode(errors="replace").strip().splitlines()
            raise CtobserveError(
                f"the kernel's verifier refuses program {name}: {error.strerror}; {' | '.join(words[-6:-1])}"
            ) from error


def keep_freed_memory() -> None:
    """Have malloc keep what is freed, to FREED_BYTES: else each batch's arrays go back to the kernel and are faulted in again.

    And no huge pages for this process: 2 MiB cleared at one touch cost more than any batch, and count as resident.
    """
    _libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    _libc.mallopt(M_MMAP_THRESHOLD, FREED_BYTES // 2)
    _libc.mallopt(M_TRIM_THRESHOLD, FREED_BYTES)


def test_run(fd: int, arguments: bytes) -> int:
    """Run a RAW_TRACEPOINT program once in the kernel with these u64 arguments (Linux >= 5.10); its result as u32."""
    context = ctypes.create_string_buffer(arguments, len(arguments))
    attributes = bytearray(
        struct.pack("<IIIIQQIIIIQQIIII", fd, 0, 0, 0, 0, 0, 0, 0, len(arguments), 0, _address(context), 0, 0, 0, 0, 0)
    )
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    if _libc.syscall(SYS_BPF, PROG_TEST_RUN, buffer, len(attributes)) < 0:
        raise OSError(ctypes.get_errno(), "BPF_PROG_TEST_RUN: " + os.strerror(ctypes.get_errno()))
    return int(struct.unpack_from("<I", attributes, 4)[0])


def raw_tracepoint_open(prog_fd: int) -> int:
    """Attach an fentry or fexit program; the link is the returned file descriptor."""
    return _bpf(RAW_TRACEPOINT_OPEN, struct.pack("<QIxxxx", 0, prog_fd))


def kprobe_attach(prog_fd: int, function: str, at_return: bool) -> int:
    """Attach a program to a kernel function's entry or return by a perf event, gone with its file descriptor."""
    kind = int(read_text(KPROBE_TYPE))
    name = ctypes.create_string_buffer(function.encode())
    # struct perf_event_attr: type, size, config, four u64 we leave zero, wakeup, bp_type, config1 (the name), config2 (offset)
    attributes = struct.pack("<IIQQQQQIIQQ", kind, 112, int(at_return), 0, 0, 0, 0, 0, 0, _address(name), 0).ljust(112, b"\0")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    fd: int = _libc.syscall(SYS_PERF_EVENT_OPEN, buffer, -1, 0, -1, 8)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    try:
        ioctl(fd, PERF_IOC_SET_BPF, prog_fd)
        ioctl(fd, PERF_IOC_ENABLE, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def module_btf_fd(module: str) -> int:
    """File descriptor of a kernel module's BTF object, found by name; raises OSError when there is none (Linux < 5.11)."""
    object_id = 0
    while True:
        attributes = bytearray(struct.pack("<III", object_id, 0, 0))
        buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
        if _libc.syscall(SYS_BPF, BTF_GET_NEXT_ID, buffer, len(attributes)) < 0:
            raise OSError(errno.ENOENT, f"no BTF object of module {module}")
        object_id = struct.unpack_from("<I", attributes, 4)[0]
        fd = _bpf(BTF_GET_FD_BY_ID, struct.pack("<III", object_id, 0, 0))
        try:
            if _btf_name(fd) == module.encode():
                return os.dup(fd)
        finally:
            os.close(fd)


def _btf_name(fd: int) -> bytes:
    name = ctypes.create_string_buffer(64)
    info = ctypes.create_string_buffer(struct.pack("<QIIQII", 0, 0, 0, _address(name), 64, 0), 32)
    _bpf(OBJ_GET_INFO, struct.pack("<IIQ", fd, 32, _address(info)))
    return name.value


def _refused(what: str, error: OSError) -> CtobserveError:
    if error.errno in (errno.EPERM, errno.EACCES):
        why = "not root" if os.geteuid() else "a policy of this host forbids BPF (lockdown, container or hypervisor)"
        return NotPermitted(
            f"{what}: {error.strerror}; {why}; run as root on a kernel that admits BPF, or use `make run`'s lab VM"
        )
    return CtobserveError(f"{what}: {error.strerror}")
