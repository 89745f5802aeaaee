"""What C says: the text of bpf/, and numbers as a compiler finds them."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ctobserve.programs.compile import SOURCES, source_dir

# Our names for integers, where no kernel header gives them.
TYPES = "#include <stdint.h>\ntypedef uint64_t u64; typedef uint32_t u32; typedef uint16_t u16; typedef uint8_t u8;\n"


def text(name: str) -> str:
    """One file of bpf/."""
    return (source_dir() / name).read_text()


def texts() -> str:
    """All of them."""
    return "".join(map(text, SOURCES))


def defined(source: str) -> dict[str, str]:
    """Every name that is #defined without arguments, and what for; comments left out."""
    lines = re.sub(r"/\*.*?\*/", "", source, flags=re.S).replace("\\\n", " ").splitlines()
    found = (re.match(r"#define (\w+)\s+(\S.*?)\s*$", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def struct(source: str, name: str) -> str:
    """The declaration of a struct."""
    found = re.search(rf"^struct {name} \{{.*?^\}};$", source, re.M | re.S)
    assert found, name
    return found[0]


def compiled(preamble: str, expressions: Iterable[str]) -> dict[str, int]:
    """The value of each of these C expressions, by the host's compiler, without which this fails."""
    expressions = list(expressions)
    prints = "\n".join(f'printf("%lld\\n", (long long)({expression}));' for expression in expressions)
    program = f"#include <stdio.h>\n#include <stddef.h>\n{preamble}\nint main(void)\n{{\n{prints}\nreturn 0;\n}}\n"
    with tempfile.TemporaryDirectory() as directory:
        source, binary = Path(directory, "numbers.c"), Path(directory, "numbers")
        source.write_text(program)
        subprocess.run(["cc", "-Werror", "-o", binary, source], check=True)
        said = subprocess.run([binary], check=True, capture_output=True, text=True).stdout
    return dict(zip(expressions, map(int, said.split()), strict=True))
