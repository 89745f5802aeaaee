"""The record of bpf/ctobserve.h, compiled on the host, is the record that events.py decodes."""

from __future__ import annotations

import re
import subprocess

from ctobserve.capture.records import TEXT_BYTES, DropReason, Kind
from ctobserve.programs.compile import source_dir
from tests.unit.samples import DTYPE, LAYOUT

FIELDS = [
    *("ts", "ct", "caller", "since", "iterator", "eviction", "netns", "bucket", "portid", "changes", "buckets", "pid", "ifindex"),
    *("chain", "scanned", "tcp_flags", "cpu", "kind", "reason", "reply_only", "has_ct", "flags", "hook"),
    *("comm", "device", "extra"),
]


def header() -> str:
    return (source_dir() / "ctobserve.h").read_text()


def test_offsets_and_size(tmp_path):
    struct = re.search(r"^struct record \{.*?^\};", header(), re.M | re.S)
    assert struct
    prints = "".join(f'printf("{name} %zu\\n", offsetof(struct record, {name}));' for name in [*FIELDS, "raw"])
    program = f"""#include <stdio.h>
#include <stddef.h>
#include <stdint.h>
typedef uint64_t u64; typedef uint32_t u32; typedef uint16_t u16; typedef uint8_t u8;
#define RAW_BYTES {LAYOUT.raw_bytes}
#define TEXT_BYTES {TEXT_BYTES}
{struct.group()}
int main(void) {{ {prints} printf("size %zu\\n", sizeof(struct record)); }}
"""
    (tmp_path / "record.c").write_text(program)
    subprocess.run(["cc", "-o", tmp_path / "record", tmp_path / "record.c"], check=True)
    lines = subprocess.run([tmp_path / "record"], check=True, capture_output=True, text=True).stdout.split("\n")
    offsets = {name: int(value) for name, value in (line.split() for line in lines if line)}
    assert offsets["size"] == DTYPE.itemsize
    assert offsets["size"] % 8 == 0
    assert {name: DTYPE.fields[name][1] for name in FIELDS} == {name: offsets[name] for name in FIELDS}
    assert DTYPE.fields["status"][1] == offsets["raw"] + LAYOUT.status


def values(prefix: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(rf"\b{prefix}_(\w+) = (\d+)", header())}


def test_kinds_and_reasons_have_the_same_numbers():
    assert values("KIND") == {kind.name: kind.value for kind in Kind} | {"COUNT": max(Kind) + 1}
    assert values("DROP") == {reason.name: reason.value for reason in DropReason}
