"""What bpf(2) and perf_event_open(2) take and give, alike on all machines (include/uapi/linux/bpf.h, perf_event.h).

What bpf(2) takes is a union of one struct per command; each is a class here, as far as we fill it. The kernel takes the rest as
zero.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_uint32, c_uint64

NAME_BYTES = 16  # with the NUL


class MapCreate(ctypes.Structure):
    """union bpf_attr for BPF_MAP_CREATE."""

    _fields_ = (
        ("map_type", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("inner_map_fd", c_uint32),
        ("numa_node", c_uint32),
        ("map_name", c_char * NAME_BYTES),
    )


class MapElem(ctypes.Structure):
    """union bpf_attr for BPF_MAP_*_ELEM, and for BPF_MAP_GET_NEXT_KEY, which has its answer where the others have the value."""

    _fields_ = (("map_fd", c_uint32), ("key", c_uint64), ("value", c_uint64), ("flags", c_uint64))


class ProgLoad(ctypes.Structure):
    """union bpf_attr for BPF_PROG_LOAD; in a tracing program the last is the BTF object of its function."""

    _fields_ = (
        ("prog_type", c_uint32),
        ("insn_cnt", c_uint32),
        ("insns", c_uint64),
        ("license", c_uint64),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_uint64),
        ("kern_version", c_uint32),
        ("prog_flags", c_uint32),
        ("prog_name", c_char * NAME_BYTES),
        ("prog_ifindex", c_uint32),
        ("expected_attach_type", c_uint32),
        ("prog_btf_fd", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", c_uint64),
        ("func_info_cnt", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("line_info", c_uint64),
        ("line_info_cnt", c_uint32),
        ("attach_btf_id", c_uint32),
        ("attach_btf_obj_fd", c_uint32),
    )


class TestRun(ctypes.Structure):
    """union bpf_attr for BPF_PROG_TEST_RUN; `retval` is the answer."""

    _fields_ = (
        ("prog_fd", c_uint32),
        ("retval", c_uint32),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("data_in", c_uint64),
        ("data_out", c_uint64),
        ("repeat", c_uint32),
        ("duration", c_uint32),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("ctx_in", c_uint64),
        ("ctx_out", c_uint64),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


class RawTracepoint(ctypes.Structure):
    """union bpf_attr for BPF_RAW_TRACEPOINT_OPEN; a tracing program knows its function, and has no name here."""

    _fields_ = (("name", c_uint64), ("prog_fd", c_uint32))


class ObjectId(ctypes.Structure):
    """union bpf_attr for BPF_*_GET_*_ID: `start_id` is the object's own or the one before it, `next_id` the answer."""

    _fields_ = (("start_id", c_uint32), ("next_id", c_uint32), ("open_flags", c_uint32))


class ObjectInfo(ctypes.Structure):
    """union bpf_attr for BPF_OBJ_GET_INFO_BY_FD: where the answer goes, a BtfInfo."""

    _fields_ = (("bpf_fd", c_uint32), ("info_len", c_uint32), ("info", c_uint64))


class BtfInfo(ctypes.Structure):
    """struct bpf_btf_info: what a BTF object says of itself, and where its name goes."""

    _fields_ = (
        ("btf", c_uint64),
        ("btf_size", c_uint32),
        ("id", c_uint32),
        ("name", c_uint64),
        ("name_len", c_uint32),
        ("kernel_btf", c_uint32),
    )


class LinkCreate(ctypes.Structure):
    """union bpf_attr for BPF_LINK_CREATE."""

    _fields_ = (("prog_fd", c_uint32), ("target_fd", c_uint32), ("attach_type", c_uint32), ("flags", c_uint32))


class LinkInfo(ctypes.Structure):
    """struct bpf_link_info of a kprobe, as far as its `missed`."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("prog_id", c_uint32),
        ("pad", c_uint32),
        ("perf_type", c_uint32),
        ("pad_more", c_uint32),
        ("func_name", c_uint64),
        ("name_len", c_uint32),
        ("offset", c_uint32),
        ("addr", c_uint64),
        ("missed", c_uint64),
    )


class PerfEventAttr(ctypes.Structure):
    """struct perf_event_attr as far as a kprobe has something in it (PERF_ATTR_SIZE_VER1)."""

    _fields_ = (
        ("type", c_uint32),
        ("size", c_uint32),
        ("config", c_uint64),  # of a kprobe: 1 = at the return
        ("sample_period", c_uint64),
        ("sample_type", c_uint64),
        ("read_format", c_uint64),
        ("bits", c_uint64),
        ("wakeup_events", c_uint32),
        ("bp_type", c_uint32),
        ("kprobe_func", c_uint64),
        ("probe_offset", c_uint64),
    )
