"""What we hand to the kernel lies where its headers say, and what the kernel refuses is said in our words."""

from __future__ import annotations

import ctypes
import errno
import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ctobserve.errors import CtobserveError, ExitStatus, KernelLacks, NotPermitted
from ctobserve.host import capabilities, restrictions
from ctobserve.host.capabilities import USES
from ctobserve.programs import arch, attributes, compiler, syscalls
from tests.unit.csource import compiled

HEADERS = "#include <malloc.h>\n#include <sys/prctl.h>\n#include <sys/syscall.h>\n"
HEADERS += "#include <linux/bpf.h>\n#include <linux/membarrier.h>\n#include <linux/perf_event.h>\n"
# Each class, the C type, and what stands before its members there.
STRUCTURES = [
    (attributes.MapCreate, "union bpf_attr", ""),
    (attributes.MapElem, "union bpf_attr", ""),
    (attributes.ProgLoad, "union bpf_attr", ""),
    (attributes.TestRun, "union bpf_attr", "test."),
    (attributes.RawTracepoint, "union bpf_attr", "raw_tracepoint."),
    (attributes.LinkCreate, "union bpf_attr", "link_create."),
    (attributes.ObjectId, "union bpf_attr", ""),
    (attributes.ObjectInfo, "union bpf_attr", "info."),
    (attributes.BtfInfo, "struct bpf_btf_info", ""),
    (attributes.PerfEventAttr, "struct perf_event_attr", ""),
]
NUMBERS = {
    "MAP_CREATE": "BPF_MAP_CREATE",
    "MAP_LOOKUP_ELEM": "BPF_MAP_LOOKUP_ELEM",
    "MAP_UPDATE_ELEM": "BPF_MAP_UPDATE_ELEM",
    "MAP_DELETE_ELEM": "BPF_MAP_DELETE_ELEM",
    "MAP_GET_NEXT_KEY": "BPF_MAP_GET_NEXT_KEY",
    "PROG_LOAD": "BPF_PROG_LOAD",
    "PROG_TEST_RUN": "BPF_PROG_TEST_RUN",
    "BTF_GET_FD_BY_ID": "BPF_BTF_GET_FD_BY_ID",
    "OBJ_GET_INFO_BY_FD": "BPF_OBJ_GET_INFO_BY_FD",
    "RAW_TRACEPOINT_OPEN": "BPF_RAW_TRACEPOINT_OPEN",
    "BTF_GET_NEXT_ID": "BPF_BTF_GET_NEXT_ID",
    "LINK_CREATE": "BPF_LINK_CREATE",
    "PERF_EVENT": "BPF_PERF_EVENT",
    "LINK_TYPE_PERF_EVENT": "BPF_LINK_TYPE_PERF_EVENT",
    "MAP_TYPE_RINGBUF": "BPF_MAP_TYPE_RINGBUF",
    "PROG_TYPE_KPROBE": "BPF_PROG_TYPE_KPROBE",
    "PROG_TYPE_RAW_TRACEPOINT": "BPF_PROG_TYPE_RAW_TRACEPOINT",
    "PROG_TYPE_TRACING": "BPF_PROG_TYPE_TRACING",
    "TRACE_FENTRY": "BPF_TRACE_FENTRY",
    "TRACE_FEXIT": "BPF_TRACE_FEXIT",
    "INSTRUCTION_BYTES": "sizeof(struct bpf_insn)",
    "NAME_BYTES": "BPF_OBJ_NAME_LEN",
    "PERF_IOC_ENABLE": "PERF_EVENT_IOC_ENABLE",
    "PERF_IOC_SET_BPF": "PERF_EVENT_IOC_SET_BPF",
    "PERF_FLAG_FD_CLOEXEC": "PERF_FLAG_FD_CLOEXEC",
    "PR_SET_THP_DISABLE": "PR_SET_THP_DISABLE",
    "MEMBARRIER_GLOBAL_EXPEDITED": "MEMBARRIER_CMD_GLOBAL_EXPEDITED",
    "M_TRIM_THRESHOLD": "M_TRIM_THRESHOLD",
    "M_MMAP_THRESHOLD": "M_MMAP_THRESHOLD",
}


def members(structure: type[ctypes.Structure]) -> list[str]:
    """Of those names that C has too: it gives no address of bits."""
    return [name for name, _ in structure._fields_ if name != "bits"]


@pytest.mark.parametrize(("structure", "c_type", "path"), STRUCTURES, ids=lambda value: getattr(value, "__name__", None))
def test_every_member_lies_where_the_kernels_header_has_it(structure, c_type, path):
    places = {name: f"offsetof({c_type}, {path}{name})" for name in members(structure)}
    sizes = {name: f"sizeof((({c_type} *)0)->{path}{name})" for name in members(structure)}
    found = compiled(HEADERS, [*places.values(), *sizes.values()])
    ours = {name: getattr(structure, name) for name in members(structure)}
    assert {name: field.offset for name, field in ours.items()} == {name: found[places[name]] for name in ours}
    assert {name: field.size for name, field in ours.items()} == {name: found[sizes[name]] for name in ours}


def test_whole_structs_have_the_size_that_the_kernel_knows():
    wanted = {
        "sizeof(((union bpf_attr *)0)->test)": attributes.TestRun,
        "sizeof(((union bpf_attr *)0)->raw_tracepoint)": attributes.RawTracepoint,
        "sizeof(((union bpf_attr *)0)->info)": attributes.ObjectInfo,
        "sizeof(struct bpf_btf_info)": attributes.BtfInfo,
        "PERF_ATTR_SIZE_VER1": attributes.PerfEventAttr,
    }
    assert compiled(HEADERS, wanted) == {size: ctypes.sizeof(structure) for size, structure in wanted.items()}


def test_the_next_key_comes_where_a_value_would():
    assert compiled(HEADERS, ["offsetof(union bpf_attr, next_key)"]).popitem()[1] == attributes.MapElem.value.offset


def test_every_number_is_that_of_the_kernels_headers():
    found = compiled(HEADERS, NUMBERS.values())
    wanted = {name: found[expression] for name, expression in NUMBERS.items()}
    assert {name: getattr(syscalls, name) for name in NUMBERS} == wanted
    found = compiled(HEADERS, ["BPF_LD | BPF_IMM | BPF_DW", "BPF_PSEUDO_MAP_FD"])
    assert list(found.values()) == [compiler.LD_IMM64, compiler.PSEUDO_MAP_FD]


Answer = Callable[[ctypes.Structure], int]


class Kernel:
    """In place of libc: each call is kept as (number of the command, members that are not zero), and answered in turn."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, dict[str, Any]]] = []
        self.answers: list[Answer] = []

    def syscall(self, number: int, *arguments: Any) -> int:
        command, reference, size = arguments if number == arch.here().bpf else (number, arguments[0], None)
        given = reference._obj
        assert size in (None, ctypes.sizeof(given))
        self.calls.append((command, {name: value for name, *_ in given._fields_ if (value := getattr(given, name))}))
        return self.answers.pop(0)(given) if self.answers else 7


def refusing(number: int) -> Answer:
    def answer(_: ctypes.Structure) -> int:
        ctypes.set_errno(number)
        return -1

    return answer


@pytest.fixture
def kernel(monkeypatch) -> Iterator[Kernel]:
    made = Kernel()
    monkeypatch.setattr(syscalls, "_libc", made)
    yield made
    assert made.answers == []


def test_a_barrier_is_one_that_this_kernel_has(monkeypatch):
    syscalls.memory_barrier()
    unknown = arch.here()._replace(membarrier=999)
    monkeypatch.setattr(arch, "here", lambda: unknown)
    with pytest.raises(OSError, match="Function not implemented"):
        syscalls.memory_barrier()


def test_a_map_is_made_as_it_was_declared(kernel):
    assert syscalls.map_create(6, 4, 8, 13, 1024, "a_name_that_is_too_long") == 7
    wanted = {"map_type": 6, "key_size": 4, "value_size": 8, "max_entries": 13, "map_flags": 1024, "map_name": b"a_name_that_is_"}
    assert kernel.calls == [(syscalls.MAP_CREATE, wanted)]


def test_a_map_that_is_refused_is_named(kernel, monkeypatch):
    monkeypatch.setattr(capabilities, "missing", lambda: USES[:1])
    kernel.answers = [refusing(errno.EPERM), refusing(errno.ENOMEM)]
    with pytest.raises(
        NotPermitted, match=r"^cannot create BPF map ring: Operation not permitted; no CAP_BPF \(maps and programs\); run as root"
    ):
        syscalls.map_create(27, 0, 0, 4096, 0, "ring")
    with pytest.raises(CtobserveError, match=r"^cannot create BPF map ring: Cannot allocate memory$"):
        syscalls.map_create(27, 0, 0, 4096, 0, "ring")


def test_values_and_keys_are_read_and_written_where_they_are(kernel):
    def look_up(given: ctypes.Structure) -> int:
        assert ctypes.string_at(given.key, 4) == b"key1"
        ctypes.memmove(given.value, b"found it", 8)
        return 0

    def update(given: ctypes.Structure) -> int:
        assert (ctypes.string_at(given.key, 4), ctypes.string_at(given.value, 5)) == (b"key2", b"value")
        return 0

    def follow(given: ctypes.Structure) -> int:
        assert ctypes.string_at(given.key, 4) == b"key3" if given.key else given.map_fd == 6
        ctypes.memmove(given.value, b"next", 4)
        return 0

    def delete(given: ctypes.Structure) -> int:
        assert (ctypes.string_at(given.key, 4), given.value) == (b"key4", 0)
        return 0

    kernel.answers = [look_up, refusing(errno.ENOENT), update, delete, follow, follow, refusing(errno.ENOENT)]
    assert syscalls.map_lookup(5, b"key1", 8) == b"found it"
    assert syscalls.map_lookup(5, b"key1", 8) is None
    syscalls.map_update(5, b"key2", b"value")
    syscalls.map_delete(5, b"key4")
    assert syscalls.map_next_key(5, b"key3", 4) == b"next"
    assert syscalls.map_next_key(6, None, 4) == b"next"
    assert syscalls.map_next_key(6, b"last", 4) is None
    commands = [syscalls.MAP_LOOKUP_ELEM] * 2 + [syscalls.MAP_UPDATE_ELEM, syscalls.MAP_DELETE_ELEM]
    commands += [syscalls.MAP_GET_NEXT_KEY] * 3
    assert [(command, given["map_fd"]) for command, given in kernel.calls] == list(
        zip(commands, (5, 5, 5, 5, 5, 6, 6), strict=True)
    )


CODE = bytes.fromhex("b7000000000000009500000000000000")


def test_a_program_is_loaded_with_its_name_and_what_it_hangs_on(kernel):
    def load(given: ctypes.Structure) -> int:
        assert (ctypes.string_at(given.insns, 16), ctypes.string_at(given.license)) == (CODE, b"GPL")
        return 9

    kernel.answers = [load]
    assert syscalls.prog_load(syscalls.PROG_TYPE_TRACING, "early_drop_begin", CODE, syscalls.TRACE_FEXIT, 11, 12) == 9
    ((command, given),) = kernel.calls
    assert command == syscalls.PROG_LOAD and given.pop("insns") and given.pop("license")
    wanted = {"prog_type": 26, "insn_cnt": 2, "prog_name": b"early_drop_begi", "expected_attach_type": 25}
    assert given == wanted | {"attach_btf_id": 11, "attach_btf_obj_fd": 12}


def test_the_verifiers_last_words_are_told(kernel):
    def complain(given: ctypes.Structure) -> int:
        assert (given.log_level, given.log_size) == (1, syscalls.LOG_BYTES)
        words = b"first\n0: (b7) r0 = 0\n1: (79) r1 = *(u64 *)(r1 +0)\ninvalid mem access\nprocessed 2 insns\n"
        ctypes.memmove(given.log_buf, words, len(words))
        return refusing(errno.EACCES)(given)

    kernel.answers = [refusing(errno.EACCES), complain]
    with pytest.raises(CtobserveError) as caught:
        syscalls.prog_load(syscalls.PROG_TYPE_KPROBE, "insert", CODE)
    assert str(caught.value) == (
        "the kernel's verifier refuses program insert: Permission denied; "
        "first | 0: (b7) r0 = 0 | 1: (79) r1 = *(u64 *)(r1 +0) | invalid mem access"
    )
    assert [command for command, _ in kernel.calls] == [syscalls.PROG_LOAD] * 2
    assert "log_level" not in kernel.calls[0][1], "a log that nobody reads costs time"


def test_a_program_that_may_not_be_loaded_is_no_fault_of_the_verifier(kernel, may_all):
    kernel.answers = [refusing(errno.EPERM)]
    with pytest.raises(NotPermitted, match=r"^cannot load BPF program insert: Operation not permitted; a policy of this host"):
        syscalls.prog_load(syscalls.PROG_TYPE_KPROBE, "insert", CODE)


def test_an_error_that_libc_has_no_words_for_has_ours(kernel):
    kernel.answers = [refusing(syscalls.ENOTSUPP)]
    with pytest.raises(OSError, match=r"^\[Errno 524\] Not supported \(ENOTSUPP\)$"):
        syscalls.raw_tracepoint_open(8)


def complaining(words: bytes) -> Answer:
    """EINVAL, with these words of the verifier where it is asked for any."""

    def answer(given: ctypes.Structure) -> int:
        if given.log_buf:
            ctypes.memmove(given.log_buf, words, len(words))
        return refusing(errno.EINVAL)(given)

    return answer


# As Linux 5.10, 6.1 and 6.12 say it (check_helper_call).
NO_HELPER = [
    b"7: (85) call bpf_ringbuf_reserve#131\nunknown func bpf_ringbuf_reserve#131\nprocessed 8 insns (limit 1000000)\n",
    b"7: (85) call unknown#131\ninvalid func unknown#131\nprocessed 8 insns (limit 1000000)\n",
    b"7: (85) call bpf_ringbuf_reserve#131\nprogram of this type cannot use helper bpf_ringbuf_reserve#131\nprocessed 8 insns\n",
]


@pytest.mark.parametrize("words", NO_HELPER, ids=["5.10", "unknown", "6.12"])
@pytest.mark.parametrize("level", ["none", "integrity", "confidentiality"])
def test_a_helper_that_the_kernel_lacks_or_forbids_is_named(kernel, monkeypatch, level, words):
    monkeypatch.setattr(restrictions, "lockdown", lambda: None if level == "none" else level)
    kernel.answers = [complaining(words)] * 2
    helper = "unknown" if b"call unknown" in words else "bpf_ringbuf_reserve"
    with pytest.raises(CtobserveError) as caught:
        syscalls.prog_load(syscalls.PROG_TYPE_KPROBE, "insert", CODE)
    if level == "confidentiality":
        assert isinstance(caught.value, NotPermitted)
        assert str(caught.value) == (
            f"the kernel's verifier refuses {helper} in BPF program insert: the kernel is locked down (confidentiality, "
            "/sys/kernel/security/lockdown) and lets nobody read its memory; boot with lockdown=integrity or without lockdown"
        )
    else:
        assert isinstance(caught.value, KernelLacks)
        assert str(caught.value) == f"this kernel has no BPF helper {helper}, which program insert calls; use one >= 5.10"


def test_a_kernel_without_bpf_or_without_its_ring_buffer_is_told_in_a_line(kernel):
    kernel.answers = [refusing(errno.ENOSYS), refusing(errno.ENOSYS), refusing(errno.EINVAL), refusing(errno.EINVAL)]
    for refused in (
        lambda: syscalls.map_create(2, 4, 40, 1, 0, "config"),
        lambda: syscalls.prog_load(syscalls.PROG_TYPE_KPROBE, "insert", CODE),
    ):
        with pytest.raises(
            NotPermitted, match=r"Function not implemented; this kernel has no bpf\(\) \(CONFIG_BPF_SYSCALL\), or "
        ):
            refused()
    with pytest.raises(KernelLacks, match=r"^cannot create BPF map ring: Invalid argument; this kernel has no BPF ring buffer"):
        syscalls.map_create(syscalls.MAP_TYPE_RINGBUF, 0, 0, 4096, 0, "ring")
    with pytest.raises(CtobserveError, match=r"^cannot create BPF map config: Invalid argument$"):
        syscalls.map_create(2, 4, 40, 1, 0, "config")


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (None, r"^cannot attach to nf_ct_delete: Operation not permitted; a policy of this host"),
        ("confidentiality", r"^cannot attach to nf_ct_delete: the kernel is locked down \(confidentiality"),
    ],
)
def test_a_kprobe_that_is_forbidden_is_no_failure_of_the_kernel(kernel, may_all, monkeypatch, tmp_path, level, words):
    (tmp_path / "type").write_text("8\n")
    monkeypatch.setattr(syscalls, "KPROBE_TYPE", tmp_path / "type")
    monkeypatch.setattr(restrictions, "lockdown", lambda: level)
    kernel.answers = [refusing(errno.EPERM)]
    with pytest.raises(NotPermitted, match=words):
        syscalls.kprobe_attach(5, "nf_ct_delete", False)


def test_a_run_takes_its_arguments_and_gives_its_result(kernel):
    def run(given: ctypes.Structure) -> int:
        assert ctypes.string_at(given.ctx_in, given.ctx_size_in) == b"argument"
        given.retval = 0xFFFFFFFF
        return 0

    kernel.answers = [run, refusing(errno.EINVAL)]
    assert syscalls.test_run(8, b"argument") == 0xFFFFFFFF
    with pytest.raises(OSError, match=r"^\[Errno 22\] BPF_PROG_TEST_RUN: Invalid argument$"):
        syscalls.test_run(8, b"argument")
    assert [(command, given["prog_fd"]) for command, given in kernel.calls] == [(syscalls.PROG_TEST_RUN, 8)] * 2


def test_a_tracing_program_is_attached_without_a_name(kernel):
    assert syscalls.raw_tracepoint_open(8) == 7
    assert kernel.calls == [(syscalls.RAW_TRACEPOINT_OPEN, {"prog_fd": 8})]


@pytest.fixture
def attaching(monkeypatch, tmp_path):
    """What is asked of perf events, and which descriptors are closed."""
    done: list[tuple[int, ...]] = []
    closed: list[int] = []
    (tmp_path / "type").write_text("8\n")
    monkeypatch.setattr(syscalls, "KPROBE_TYPE", tmp_path / "type")
    monkeypatch.setattr(syscalls, "ioctl", lambda *arguments: done.append(arguments))
    monkeypatch.setattr("os.close", closed.append)
    return done, closed


@pytest.mark.parametrize("at_return", [False, True])
def test_a_kprobe_is_a_link_to_a_perf_event_of_its_function(kernel, attaching, at_return):
    def open_event(given: ctypes.Structure) -> int:
        assert ctypes.string_at(given.kprobe_func) == b"nf_ct_delete"
        return 9

    done, closed = attaching
    kernel.answers = [open_event, lambda _: 11]
    assert syscalls.kprobe_attach(5, "nf_ct_delete", at_return) == 11
    assert done == [(9, syscalls.PERF_IOC_ENABLE, 0)] and closed == [9], "the link keeps the event"
    (_, given), link = kernel.calls
    assert given.pop("kprobe_func") and given == {"type": 8, "size": 72} | ({"config": 1} if at_return else {})
    assert link == (syscalls.LINK_CREATE, {"prog_fd": 5, "target_fd": 9, "attach_type": syscalls.PERF_EVENT})


def test_before_there_were_links_to_perf_events_the_event_has_the_program(kernel, attaching):
    done, closed = attaching
    kernel.answers = [lambda _: 9, refusing(errno.EINVAL)]
    assert syscalls.kprobe_attach(5, "nf_ct_delete", False) == 9
    assert done == [(9, syscalls.PERF_IOC_SET_BPF, 5), (9, syscalls.PERF_IOC_ENABLE, 0)] and not closed
    kernel.answers = [lambda _: 9, refusing(errno.EBUSY)]
    with pytest.raises(OSError, match="busy"):
        syscalls.kprobe_attach(5, "nf_ct_delete", False)
    assert closed == [9]


@pytest.mark.parametrize(
    ("link_type", "told_bytes", "missed"),
    [(7, 56, 31), (7, 64, 31), (7, 48, None), (8, 56, None)],
    ids=["6.7", "later", "before 6.7", "another link"],
)
def test_a_link_says_what_its_kprobe_missed(kernel, link_type, told_bytes, missed):
    def told(given: ctypes.Structure) -> int:
        info = attributes.LinkInfo.from_address(given.info)
        info.type, info.missed, given.info_len = link_type, 31, told_bytes
        return 0

    kernel.answers = [told, refusing(errno.EINVAL)]
    assert syscalls.kprobe_missed(9) == missed
    assert syscalls.kprobe_missed(9) is None, "an event, as before 5.15"
    assert ctypes.sizeof(attributes.LinkInfo) == 56 and attributes.LinkInfo.missed.offset == 48


def test_a_kernel_without_kprobes_is_told_in_a_line(monkeypatch, tmp_path):
    monkeypatch.setattr(syscalls, "KPROBE_TYPE", tmp_path / "type")
    with pytest.raises(
        KernelLacks, match=r"^no .*/type; this kernel was built without kprobes by perf \(CONFIG_KPROBE_EVENTS\)$"
    ):
        syscalls.kprobe_attach(5, "nf_ct_delete", False)


def test_the_btf_object_of_a_module_is_found_by_its_name(kernel, monkeypatch):
    closed: list[int] = []
    monkeypatch.setattr("os.close", closed.append)
    monkeypatch.setattr("os.dup", lambda fd: fd + 100)

    def following(number: int) -> Answer:
        def answer(given: ctypes.Structure) -> int:
            assert given.start_id == number - 1
            given.next_id = number
            return 0

        return answer

    def opened(number: int) -> Answer:
        return lambda given: number + 10 if given.start_id == number else -1

    def called(name: bytes) -> Answer:
        def answer(given: ctypes.Structure) -> int:
            info = attributes.BtfInfo.from_address(given.info)
            assert given.info_len == ctypes.sizeof(info) and info.name_len > len(name)
            ctypes.memmove(info.name, name, len(name))
            return 0

        return answer

    kernel.answers = [following(1), opened(1), called(b"vmlinux"), following(2), opened(2), called(b"nf_conntrack")]
    assert syscalls.module_btf_fd("nf_conntrack") == 112
    assert closed == [11, 12]
    kernel.answers = [refusing(errno.ENOENT)]
    with pytest.raises(FileNotFoundError, match="no BTF object of module nf_conntrack"):
        syscalls.module_btf_fd("nf_conntrack")


@pytest.fixture
def may_all(monkeypatch):
    """Whoever runs this has every capability, and any memory may be locked."""
    monkeypatch.setattr(capabilities, "missing", lambda: ())
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_limit_that_may_not_be_lifted_is_named_once_the_kernel_refuses(kernel, may_all, monkeypatch):
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, 65536))
    syscalls.lock_any_memory()
    kernel.answers = [refusing(errno.EPERM)]
    words = (
        r"^cannot create BPF map m: .*, or, before Linux 5.11, CAP_SYS_RESOURCE is missing: 65536 bytes may be locked \(ulimit"
    )
    with pytest.raises(NotPermitted, match=words) as caught:
        syscalls.map_create(1, 4, 4, 1, 0, "m")
    assert caught.value.exit_status is ExitStatus.NOT_PERMITTED


@pytest.mark.parametrize(
    ("paranoid", "words"),
    [
        (
            "3",
            r"Permission denied; kernel.perf_event_paranoid is 3, and CAP_SYS_ADMIN is missing, which this kernel wants",
        ),
        ("2", r"Permission denied; CAP_PERFMON is missing; grant it, or run as root$"),
        (None, r"Permission denied; CAP_PERFMON is missing; grant it, or run as root$"),
    ],
)
def test_a_kprobe_that_takes_a_capability_names_it(kernel, monkeypatch, tmp_path, paranoid, words):
    (tmp_path / "type").write_text("8\n")
    if paranoid:
        (tmp_path / "paranoid").write_text(f"{paranoid}\n")
    monkeypatch.setattr(syscalls, "KPROBE_TYPE", tmp_path / "type")
    monkeypatch.setattr(restrictions, "PERF_PARANOID", tmp_path / "paranoid")
    kernel.answers = [refusing(errno.EACCES)]
    with pytest.raises(NotPermitted, match=f"^cannot attach to nf_ct_delete: {words}"):
        syscalls.kprobe_attach(5, "nf_ct_delete", False)


def test_btf_of_a_module_that_takes_a_capability_names_it(kernel):
    kernel.answers = [refusing(errno.EPERM)]
    with pytest.raises(PermissionError, match=r"BTF of module nf_conntrack takes CAP_SYS_ADMIN, which is missing$"):
        syscalls.module_btf_fd("nf_conntrack")
