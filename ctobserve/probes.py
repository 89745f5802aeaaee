"""Compiled programs in the kernel: maps made, programs loaded, attached, taken off again."""

from __future__ import annotations

import os
import resource
import struct
from dataclasses import dataclass

from ctobserve import syscalls
from ctobserve.compile import Image
from ctobserve.errors import CtobserveError
from ctobserve.hooks import Form, Planned

TRACE_TYPE = {Form.FENTRY: syscalls.TRACE_FENTRY, Form.FEXIT: syscalls.TRACE_FEXIT}


@dataclass(frozen=True)
class Variables:
    """Kernel addresses of the variables that the walk reads."""

    hash: int
    buckets: int


class Probes:
    """All file descriptors of one observation; closing them, or the process's death, leaves nothing attached."""

    def __init__(self, image: Image, variables: Variables, btf_fd: int) -> None:
        """Make the maps. `btf_fd` is nf_conntrack's BTF object for trampolines, 0 for vmlinux."""
        self._image = image
        self._btf_fd = btf_fd
        self._links: list[int] = []
        self._programs: dict[str, int] = {}
        self.maps: dict[str, int] = {}
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        try:
            for name, spec in image.maps.items():
                self.maps[name] = syscalls.map_create(spec.kind, spec.key_bytes, spec.value_bytes, spec.entries, spec.flags, name)
            syscalls.map_update(self.maps["config"], struct.pack("<I", 0), struct.pack("<QQ", variables.hash, variables.buckets))
        except BaseException:
            self.close()
            raise

    def load_runnable(self, name: str) -> int:
        """Descriptor of a program without hook (walk, clock), for syscalls.test_run."""
        return self._load(name, syscalls.PROG_TYPE_RAW_TRACEPOINT)

    def attach(self, planned: list[Planned]) -> None:
        """Attach every hook of the plan whose function exists; raises CtobserveError naming the function that failed."""
        for item in planned:
            if item.function is None:
                continue
            try:
                self._attach(item, item.function)
            except OSError as error:
                raise CtobserveError(f"cannot attach to {item.function} ({item.form.value}): {error.strerror}") from error

    def _attach(self, item: Planned, function: str) -> None:
        name = item.hook.program
        if item.form in TRACE_TYPE:
            program = self._load(name, syscalls.PROG_TYPE_TRACING, TRACE_TYPE[item.form], item.btf_id)
            self._links.append(syscalls.raw_tracepoint_open(program))
            return
        program = self._load(name, syscalls.PROG_TYPE_KPROBE)
        if item.hook.at_return:
            begin = self._load("call_begin", syscalls.PROG_TYPE_KPROBE)
            self._links.append(syscalls.kprobe_attach(program, function, True))
            self._links.append(syscalls.kprobe_attach(begin, function, False))
        else:
            self._links.append(syscalls.kprobe_attach(program, function, False))

    def _load(self, name: str, kind: int, attach: int = 0, btf_id: int = 0) -> int:
        if name not in self._programs:
            program = self._image.programs[name]
            code = bytearray(program.code)
            for at, map_name in program.maps:
                struct.pack_into("<i", code, at * 8 + 4, self.maps[map_name])
            self._programs[name] = syscalls.prog_load(kind, name, bytes(code), attach, btf_id, self._btf_fd if btf_id else 0)
        return self._programs[name]

    def per_cpu(self, name: str, slot: int) -> list[int]:
        """One u64 per possible CPU of a per-CPU array map."""
        size = 8 * possible_cpus()
        value = syscalls.map_lookup(self.maps[name], struct.pack("<I", slot), size)
        return list(struct.unpack(f"<{size // 8}Q", value)) if value else []

    def detach(self) -> None:
        """Take every program off; maps and what they hold stay until close."""
        while self._links:
            os.close(self._links.pop())

    def close(self) -> None:
        """Detach and free everything."""
        self.detach()
        for fd in [*self._programs.values(), *self.maps.values()]:
            os.close(fd)
        self._programs.clear()
        self.maps.clear()


def possible_cpus() -> int:
    """Number of CPU slots in a per-CPU map (/sys/devices/system/cpu/possible, e.g. 0-3)."""
    with open("/sys/devices/system/cpu/possible") as file:
        return int(file.read().strip().split(",")[-1].split("-")[-1]) + 1
