"""Compiled programs in the kernel: maps made, programs loaded, attached, taken off again."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ctobserve.errors import CtobserveError, NotPermitted
from ctobserve.host.btf import BtfId
from ctobserve.host.kernel import read_text
from ctobserve.programs import syscalls
from ctobserve.programs.compile import Image, Program
from ctobserve.programs.hooks import Form, Planned

POSSIBLE = Path("/sys/devices/system/cpu/possible")
RECORDS = "walked"  # map whose values are records
# Of a function that is gone since its address was read, whose name another one has, too, or where no probe may be.
NO_PROBE = (errno.ENOENT, errno.EADDRNOTAVAIL, errno.EINVAL)
ATTACH_TYPE = {Form.FENTRY: syscalls.TRACE_FENTRY, Form.FEXIT: syscalls.TRACE_FEXIT}


class TrampolineRefused(CtobserveError):
    """This kernel describes a function, and hangs no fentry or fexit program on it."""


class Variables(NamedTuple):
    """Kernel addresses that the programs read, in the order of struct config; 0 = not in this kernel."""

    hash: int
    buckets: int
    per_cpu_offset: int
    preempt_count: int
    generation: int


class Programs:
    """The programs of one observation and their maps; closing them, or the process's death, leaves nothing attached."""

    def __init__(self, image: Image, given: Sequence[int], raw_bytes: int, ring_bytes: int) -> None:
        """Nothing is in the kernel yet; the ring will have this size, and a record room for so many bytes of an nf_conn.

        `given`: values in the order of given.NAMES.
        """
        self._image = image
        self._given = given
        self._raw_bytes = raw_bytes
        self._ring_bytes = ring_bytes
        self._links: list[int] = []
        self.probes: list[tuple[str, int]] = []  # those of them that are kprobes, but for the begin of calls, by program
        self._followed: set[int] = set()  # slots of the map `again`
        self._programs: dict[tuple[str, int, BtfId | None], int] = {}  # by name, type and what it hangs on
        self._btf: dict[str, int] = {"vmlinux": 0}
        self._maps: dict[str, int] = {}

    def configure(self, variables: Variables) -> None:
        """What the programs need to know of this boot; raises NotPermitted where the kernel refuses maps."""
        syscalls.lock_any_memory()
        syscalls.map_update(self.map("config"), bytes(4), struct.pack("<5Q", *variables))

    def list_to(self, process: int) -> None:
        """The process, as the kernel numbers it, whose reading of a listing is sent (bpf/listing.c); 0: nobody's."""
        syscalls.map_update(self.map("lister"), bytes(4), struct.pack("<I", process))

    def map(self, name: str) -> int:
        """Descriptor of a map, made when it is first needed; raises NotPermitted or CtobserveError."""
        if name not in self._maps:
            spec = self._image.maps[name]
            entries = self._ring_bytes if spec.map_type == syscalls.MAP_TYPE_RINGBUF else spec.entries
            value_bytes = spec.value_bytes + (self._raw_bytes if name == RECORDS else 0)
            self._maps[name] = syscalls.map_create(spec.map_type, spec.key_bytes, value_bytes, entries, spec.flags, name)
        return self._maps[name]

    def load_runnable(self, name: str) -> int:
        """Descriptor of a program without hook (walk, clock), for syscalls.test_run."""
        return self._load(name, syscalls.PROG_TYPE_RAW_TRACEPOINT)

    def load_run(self, name: str, slot: int) -> int:
        """The same of one that is followed by `NAME_on`, which the map `again` has in this slot."""
        first = self.load_runnable(name)
        if slot not in self._followed:
            syscalls.map_update(self.map("again"), struct.pack("<I", slot), struct.pack("<I", self.load_runnable(f"{name}_on")))
            self._followed.add(slot)
        return first

    def attach(self, planned: list[Planned]) -> list[str]:
        """Attach every hook of the plan whose function exists; those of which the kernel takes no kprobe, and that need not be.

        Raises CtobserveError naming the function that failed: TrampolineRefused where another form may do, NotPermitted where no
        form will.
        """
        without = []
        for item in planned:
            if item.function is None:
                continue
            if item.form in ATTACH_TYPE:
                self._hang(item, item.function)
                continue
            try:
                self._probe(item, item.function)
            except OSError as error:
                if item.hook.required or error.errno not in NO_PROBE:
                    raise CtobserveError(f"cannot attach to {item.function} ({item.form.value}): {error.strerror}") from error
                without.append(item.hook.name)
        return without

    def take_form(self, image: Image) -> None:
        """Take all off, and attach the programs of this image from now on: one of the same sources in another form.

        Maps stay as they are, and so do programs without hook, which others may hold.
        """
        self.detach()
        self._image = image
        for key in [key for key in self._programs if key[1] != syscalls.PROG_TYPE_RAW_TRACEPOINT]:
            os.close(self._programs.pop(key))

    def _hang(self, item: Planned, function: str) -> None:
        try:
            program = self._load(item.hook.program, syscalls.PROG_TYPE_TRACING, ATTACH_TYPE[item.form], item.btf)
            self._links.append(syscalls.raw_tracepoint_open(program))
        except NotPermitted:
            raise
        except OSError as error:
            raise TrampolineRefused(f"no {item.form.value} on {function}: {error.strerror}") from error
        except CtobserveError as error:
            raise TrampolineRefused(f"no {item.form.value} on {function}: {error}") from error

    def _probe(self, item: Planned, function: str) -> None:
        program = self._load(item.hook.program, syscalls.PROG_TYPE_KPROBE)
        if item.hook.at_return:
            begin = self._load("call_begin", syscalls.PROG_TYPE_KPROBE)
            self._links.append(syscalls.kprobe_attach(program, function, True))
            self.probes.append((item.hook.program, self._links[-1]))
            # What misses the one misses the other: both are of one function's kprobe.
            self._links.append(syscalls.kprobe_attach(begin, function, False))
        else:
            self._links.append(syscalls.kprobe_attach(program, function, False))
            self.probes.append((item.hook.program, self._links[-1]))

    def _load(self, name: str, program_type: int, attach_type: int = 0, btf: BtfId | None = None) -> int:
        key = (name, program_type, btf)
        if key not in self._programs:
            program = self._image.programs[name]
            code = with_given(program, self._given)
            for at, map_name in program.map_loads:
                struct.pack_into("<i", code, at * syscalls.INSTRUCTION_BYTES + 4, self.map(map_name))
            number, fd = (btf.number, self._btf_fd(btf.module)) if btf else (0, 0)
            self._programs[key] = syscalls.prog_load(program_type, name, bytes(code), attach_type, number, fd)
        return self._programs[key]

    def _btf_fd(self, module: str) -> int:
        if module not in self._btf:
            self._btf[module] = syscalls.module_btf_fd(module)
        return self._btf[module]

    def per_cpu(self, name: str, slot: int) -> list[int]:
        """One u64 per possible CPU of a per-CPU array map."""
        size = 8 * possible_cpus()
        value = syscalls.map_lookup(self.map(name), struct.pack("<I", slot), size)
        return list(struct.unpack(f"<{size // 8}Q", value)) if value else []

    def per_cpu_values(self, name: str) -> bytes:
        """All values of a per-CPU array map, slot by slot, of each those of all possible CPUs."""
        spec = self._image.maps[name]
        size = (spec.value_bytes + 7 & ~7) * possible_cpus()
        slots = (syscalls.map_lookup(self.map(name), struct.pack("<I", slot), size) for slot in range(spec.entries))
        return b"".join(value or bytes(size) for value in slots)

    def counts(self, name: str) -> dict[bytes, int]:
        """All keys of a hash map with the u64 of each; of a per-CPU one with their sum over all possible CPUs."""
        spec = self._image.maps[name]
        size = 8 * (possible_cpus() if spec.map_type == syscalls.MAP_TYPE_PERCPU_HASH else 1)
        found, key = {}, syscalls.map_next_key(self.map(name), None, spec.key_bytes)
        while key is not None:
            value = syscalls.map_lookup(self.map(name), key, size)
            if value:
                found[key] = sum(struct.unpack(f"<{size // 8}Q", value))
            key = syscalls.map_next_key(self.map(name), key, spec.key_bytes)
        return found

    def make_room(self, name: str, key: bytes) -> None:
        """A key of a per-CPU hash map, 0 on every CPU, that will be there however full the map is."""
        syscalls.map_update(self.map(name), key, bytes(8 * possible_cpus()))

    def forget(self, name: str, keys: Iterable[bytes]) -> None:
        """Take those of these keys that are there out of a hash map."""
        for key in keys:
            with suppress(FileNotFoundError):
                syscalls.map_delete(self.map(name), key)

    def missed_by_any(self) -> int:
        """Calls that any of the programs did not see, as `missed`."""
        return self.missed({name for name, *_ in self._programs})

    def missed(self, names: Collection[str]) -> int:
        """Calls that these programs did not see, made on a CPU where another call was being seen.

        A trampoline misses those while the same program runs there (Linux >= 5.12; 0 before), a kprobe those while any kprobe's
        does (Linux >= 6.7; 0 before): in a softirq above it; or by another task, where the kernel may be preempted.
        """
        told = sum(_misses(fd) for (program, *_), fd in self._programs.items() if program in names)
        return told + sum(syscalls.kprobe_missed(link) or 0 for program, link in self.probes if program in names)

    def detach(self) -> None:
        """Take every program off; maps and what they hold stay until close."""
        self.probes.clear()
        while self._links:
            os.close(self._links.pop())

    def close(self) -> None:
        """Detach and free everything."""
        self.detach()
        # The kernel empties such a map itself, some time after it was closed.
        while self._followed:
            syscalls.map_delete(self.map("again"), struct.pack("<I", self._followed.pop()))
        for fd in [*self._programs.values(), *self._maps.values(), *self._btf.values()]:
            if fd:
                os.close(fd)
        self._programs.clear()
        self._btf.clear()
        self._maps.clear()


def with_given(program: Program, given: Sequence[int]) -> bytearray:
    """Its instructions, with these values (in the order of given.NAMES) in place of the constants that stand for them."""
    code = bytearray(program.code)
    for at, number in program.given:
        first, value = at * syscalls.INSTRUCTION_BYTES, given[number] & (1 << 64) - 1
        struct.pack_into("<I", code, first + 4, value & 0xFFFFFFFF)
        struct.pack_into("<I", code, first + 12, value >> 32)
    return code


def _misses(fd: int) -> int:
    lines = read_text(Path(f"/proc/self/fdinfo/{fd}")).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("recursion_misses:"))


def possible_cpus() -> int:
    """Number of CPU slots in a per-CPU map (/sys/devices/system/cpu/possible, e.g. 0-3)."""
    return int(read_text(POSSIBLE).strip().split(",")[-1].split("-")[-1]) + 1
