"""The system calls that bring a compiled program into the kernel: bpf(2) and perf_event_open(2).

Every object is a file descriptor: when the process ends, however it ends, the kernel takes the programs off again.
Numbers of the calls differ between machines (arch.py), what they take does not (attributes.py).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
from contextlib import suppress
from ctypes import c_char
from fcntl import ioctl
from pathlib import Path

from ctobserve.errors import CtobserveError, KernelLacks, NotPermitted
from ctobserve.host import capabilities, restrictions
from ctobserve.host.kernel import read_text
from ctobserve.programs import arch
from ctobserve.programs.attributes import (
    NAME_BYTES,
    BtfInfo,
    LinkCreate,
    LinkInfo,
    MapCreate,
    MapElem,
    ObjectId,
    ObjectInfo,
    PerfEventAttr,
    ProgLoad,
    RawTracepoint,
    TestRun,
)

MAP_CREATE, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM, MAP_GET_NEXT_KEY, PROG_LOAD, PROG_TEST_RUN = 0, 1, 2, 3, 4, 5, 10
BTF_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD, RAW_TRACEPOINT_OPEN, BTF_GET_NEXT_ID, LINK_CREATE = 19, 15, 17, 23, 28
MAP_TYPE_PERCPU_HASH = 5
MAP_TYPE_RINGBUF = 27
PROG_TYPE_KPROBE, PROG_TYPE_RAW_TRACEPOINT, PROG_TYPE_TRACING = 2, 17, 26
TRACE_FENTRY, TRACE_FEXIT, PERF_EVENT = 24, 25, 41
LINK_TYPE_PERF_EVENT = 7
INSTRUCTION_BYTES = 8
PERF_IOC_ENABLE, PERF_IOC_SET_BPF, PERF_FLAG_FD_CLOEXEC = 0x2400, 0x40042408, 8
KPROBE_TYPE = Path("/sys/bus/event_source/devices/kprobe/type")
BTF_NAME_BYTES = 64
ENOTSUPP = 524  # of the kernel's own (include/linux/errno.h): libc has no words for it
LOG_BYTES = 1 << 20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, FREED_BYTES = -1, -3, 32 << 20
PR_SET_THP_DISABLE = 41  # include/uapi/linux/prctl.h
MEMBARRIER_GLOBAL_EXPEDITED = 2  # include/uapi/linux/membarrier.h
# What the verifier says of a call that it does not know (check_helper_call; the last since Linux 6.10).
NO_HELPER = re.compile(r"(?:unknown func|invalid func|cannot use helper) (\w+)#\d+")
_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: ctypes.Structure) -> int:
    """Result of bpf(2), which may have written into the attributes; raises OSError."""
    result: int = _libc.syscall(arch.here().bpf, command, ctypes.byref(attributes), ctypes.sizeof(attributes))
    if result < 0:
        raise _last_error()
    return result


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, "Not supported (ENOTSUPP)" if code == ENOTSUPP else os.strerror(code))


def _buffer(content: bytes) -> ctypes.Array[c_char]:
    return ctypes.create_string_buffer(content, len(content))


def _name(name: str) -> bytes:
    """As much of it as the kernel takes."""
    return name[: NAME_BYTES - 1].encode()


def map_create(map_type: int, key_bytes: int, value_bytes: int, entries: int, flags: int, name: str) -> int:
    """File descriptor of a new map; raises NotPermitted or CtobserveError."""
    attributes = MapCreate(map_type, key_bytes, value_bytes, entries, flags, map_name=_name(name))
    try:
        return _bpf(MAP_CREATE, attributes)
    except OSError as error:
        if error.errno == errno.EINVAL and map_type == MAP_TYPE_RINGBUF:
            what = f"cannot create BPF map {name}: {error.strerror}"
            raise KernelLacks(f"{what}; this kernel has no BPF ring buffer: use one >= 5.10") from error
        raise _refused(f"cannot create BPF map {name}", error) from error


def map_lookup(fd: int, key: bytes, value_bytes: int) -> bytes | None:
    """Value behind `key`, or None; per-CPU maps return one 8-byte-aligned value per possible CPU."""
    key_buffer, value = _buffer(key), ctypes.create_string_buffer(value_bytes)
    try:
        _bpf(MAP_LOOKUP_ELEM, MapElem(fd, ctypes.addressof(key_buffer), ctypes.addressof(value)))
    except FileNotFoundError:
        return None
    return value.raw


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Set the value behind `key`."""
    key_buffer, value_buffer = _buffer(key), _buffer(value)
    _bpf(MAP_UPDATE_ELEM, MapElem(fd, ctypes.addressof(key_buffer), ctypes.addressof(value_buffer)))


def map_delete(fd: int, key: bytes) -> None:
    """Take an element out; raises OSError where there is none."""
    key_buffer = _buffer(key)
    _bpf(MAP_DELETE_ELEM, MapElem(fd, ctypes.addressof(key_buffer)))


def map_next_key(fd: int, key: bytes | None, key_bytes: int) -> bytes | None:
    """The key after `key`, or the first; None after the last."""
    key_buffer = None if key is None else _buffer(key)
    following = ctypes.create_string_buffer(key_bytes)
    before = 0 if key_buffer is None else ctypes.addressof(key_buffer)
    try:
        _bpf(MAP_GET_NEXT_KEY, MapElem(fd, before, ctypes.addressof(following)))
    except FileNotFoundError:
        return None
    return following.raw


def lock_any_memory() -> None:
    """Lift the limit of locked memory, as which maps and programs count before Linux 5.11; where it stays they may be refused."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def prog_load(program_type: int, name: str, code: bytes, attach_type: int = 0, btf_id: int = 0, btf_fd: int = 0) -> int:
    """File descriptor of a verified program; the verifier's last words are in the error when it refuses."""
    instructions, licence = _buffer(code), ctypes.create_string_buffer(b"GPL")

    def load(log: ctypes.Array[c_char] | None) -> int:
        attributes = ProgLoad(
            prog_type=program_type,
            insn_cnt=len(code) // INSTRUCTION_BYTES,
            insns=ctypes.addressof(instructions),
            license=ctypes.addressof(licence),
            prog_name=_name(name),
            expected_attach_type=attach_type,
            attach_btf_id=btf_id,
            attach_btf_obj_fd=btf_fd,
        )
        if log is not None:
            attributes.log_level, attributes.log_size, attributes.log_buf = 1, LOG_BYTES, ctypes.addressof(log)
        return _bpf(PROG_LOAD, attributes)

    try:
        return load(None)
    except OSError as first:
        if first.errno in (errno.EPERM, errno.ENOSYS):
            raise _refused(f"cannot load BPF program {name}", first) from first
        log = ctypes.create_string_buffer(LOG_BYTES)
        try:
            return load(log)
        except OSError as error:
            words = log.value.decode(errors="replace").strip().splitlines()
            if unknown := NO_HELPER.search("\n".join(words)):
                raise _no_helper(unknown[1], name) from error
            raise CtobserveError(
                f"the kernel's verifier refuses program {name}: {error.strerror}; {' | '.join(words[-6:-1])}"
            ) from error


def memory_barrier() -> None:
    """No load or store of ours passes this place, in either direction: membarrier(2) begins and ends with one (smp_mb).

    Processes that registered for it are ordered, too, at the cost of an interrupt; no other is touched. Where there is one CPU
    the kernel leaves the barrier out. Raises OSError where it has no such call (Linux < 4.16, or built without).
    """
    if _libc.syscall(arch.here().membarrier, MEMBARRIER_GLOBAL_EXPEDITED, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def keep_freed_memory() -> None:
    """Have malloc keep what is freed, to FREED_BYTES: else each batch's arrays go back to the kernel and are faulted in again.

    And no huge pages for this process: 2 MiB cleared at one touch cost more than any batch, and count as resident.
    """
    _libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    _libc.mallopt(M_MMAP_THRESHOLD, FREED_BYTES // 2)
    _libc.mallopt(M_TRIM_THRESHOLD, FREED_BYTES)


def test_run(fd: int, arguments: bytes) -> int:
    """Run a RAW_TRACEPOINT program once in the kernel with these u64 arguments (Linux >= 5.10); its result as u32."""
    context = _buffer(arguments)
    attributes = TestRun(prog_fd=fd, ctx_size_in=len(arguments), ctx_in=ctypes.addressof(context))
    try:
        _bpf(PROG_TEST_RUN, attributes)
    except OSError as error:
        raise OSError(error.errno, f"BPF_PROG_TEST_RUN: {error.strerror}") from error
    return int(attributes.retval)


def raw_tracepoint_open(prog_fd: int) -> int:
    """Attach an fentry or fexit program; the link is the returned file descriptor."""
    return _bpf(RAW_TRACEPOINT_OPEN, RawTracepoint(prog_fd=prog_fd))


def kprobe_type() -> int:
    """The number under which perf_event_open(2) knows kprobes; raises KernelLacks where it does not (Linux < 4.17)."""
    try:
        return int(read_text(KPROBE_TYPE))
    except FileNotFoundError:
        raise KernelLacks(f"no {KPROBE_TYPE}; this kernel was built without kprobes by perf (CONFIG_KPROBE_EVENTS)") from None


def kprobe_attach(prog_fd: int, function: str, at_return: bool) -> int:
    """Attach a program to a kernel function's entry or return; it is gone with the file descriptor.

    That is a link, whose kprobe_missed is known, to a perf event, or before Linux 5.15 the perf event.
    """
    name = ctypes.create_string_buffer(function.encode())
    attributes = PerfEventAttr(
        type=kprobe_type(),
        size=ctypes.sizeof(PerfEventAttr),
        config=int(at_return),
        kprobe_func=ctypes.addressof(name),
    )
    fd: int = _libc.syscall(arch.here().perf_event_open, ctypes.byref(attributes), -1, 0, -1, PERF_FLAG_FD_CLOEXEC)
    if fd < 0:
        error = _last_error()
        if error.errno == errno.EACCES:
            raise NotPermitted(f"cannot attach to {function}: {error.strerror}; {restrictions.forbids_kprobes()}")
        raise _refused(f"cannot attach to {function}", error) if error.errno == errno.EPERM else error
    try:
        link = _link(prog_fd, fd)
        if link is None:
            ioctl(fd, PERF_IOC_SET_BPF, prog_fd)
        ioctl(fd, PERF_IOC_ENABLE, 0)
    except OSError:
        os.close(fd)
        raise
    if link is None:
        return fd
    os.close(fd)
    return link


def _link(prog_fd: int, event_fd: int) -> int | None:
    """File descriptor of a link of a program to a perf event, which it keeps; None before Linux 5.15."""
    try:
        return _bpf(LINK_CREATE, LinkCreate(prog_fd, event_fd, PERF_EVENT))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None


def kprobe_missed(fd: int) -> int | None:
    """Calls of its function at which what kprobe_attach gave ran no program; None where the kernel does not tell (Linux < 6.7).

    Another kprobe's was under way on that CPU, or no more returns could be waited for (trace_kprobe_missed).
    """
    info = LinkInfo()
    attributes = ObjectInfo(fd, ctypes.sizeof(info), ctypes.addressof(info))
    try:
        _bpf(OBJ_GET_INFO_BY_FD, attributes)
    except OSError:
        return None
    told = info.type == LINK_TYPE_PERF_EVENT and attributes.info_len >= ctypes.sizeof(info)
    return info.missed if told else None


def module_btf_fd(module: str) -> int:
    """File descriptor of a kernel module's BTF object, found by name; raises OSError when there is none (Linux < 5.11)."""
    object_id = 0
    while True:
        following = ObjectId(start_id=object_id)
        try:
            _bpf(BTF_GET_NEXT_ID, following)
        except PermissionError as error:
            raise OSError(errno.EPERM, f"BTF of module {module} takes CAP_SYS_ADMIN, which is missing") from error
        except OSError as error:
            raise OSError(errno.ENOENT, f"no BTF object of module {module}") from error
        object_id = following.next_id
        fd = _bpf(BTF_GET_FD_BY_ID, ObjectId(start_id=object_id))
        try:
            if _btf_name(fd) == module.encode():
                return os.dup(fd)
        finally:
            os.close(fd)


def _btf_name(fd: int) -> bytes:
    name = ctypes.create_string_buffer(BTF_NAME_BYTES)
    info = BtfInfo(name=ctypes.addressof(name), name_len=BTF_NAME_BYTES)
    _bpf(OBJ_GET_INFO_BY_FD, ObjectInfo(fd, ctypes.sizeof(info), ctypes.addressof(info)))
    return name.value


def _no_helper(helper: str, program: str) -> CtobserveError:
    """Lockdown takes helpers away that read what the kernel holds (bpf_tracing_func_proto)."""
    if restrictions.lockdown() == "confidentiality":
        return _locked_down(f"the kernel's verifier refuses {helper} in BPF program {program}")
    return KernelLacks(f"this kernel has no BPF helper {helper}, which program {program} calls; use one >= 5.10")


def _locked_down(what: str) -> NotPermitted:
    return NotPermitted(
        f"{what}: the kernel is locked down (confidentiality, {restrictions.LOCKDOWN}) and lets nobody read its memory; "
        "boot with lockdown=integrity or without lockdown"
    )


def _refused(what: str, error: OSError) -> CtobserveError:
    if error.errno == errno.ENOSYS:
        why = "this kernel has no bpf() (CONFIG_BPF_SYSCALL), or a container's filter hides it"
        return NotPermitted(f"{what}: {error.strerror}; {why}; run as root outside the container on a distribution kernel")
    if error.errno in (errno.EPERM, errno.EACCES):
        if restrictions.lockdown() == "confidentiality":
            return _locked_down(what)
        return NotPermitted(f"{what}: {error.strerror}; {_why_forbidden()}")
    return CtobserveError(f"{what}: {error.strerror}")


def _why_forbidden() -> str:
    """What we lack of what the kernel asks for, and what to do; where we lack nothing, it is somebody's policy."""
    if lacking := [use for use in capabilities.missing() if use.required]:
        return f"no {capabilities.words(lacking)}; run as root, or grant what `ctobserve check` names"
    policy = "a policy of this host forbids BPF (container, security module or hypervisor)"
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY:
        policy += (
            f", or, before Linux 5.11, CAP_SYS_RESOURCE is missing: {limit} bytes may be locked (ulimit -l unlimited does, too)"
        )
    return f"{policy}; run as root on a kernel that admits BPF; the sources have one in a VM: make lab"
