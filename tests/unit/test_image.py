"""What bcc compiles, once for each form: one image for every kernel, into which the loader writes what differs between them."""

from __future__ import annotations

import json
import re
import shutil
import struct
from functools import cache as cache_results
from pathlib import Path
from typing import Any

import pytest

from ctobserve.errors import KernelLacks
from ctobserve.host import cache
from ctobserve.host.layout import NUMBERS
from ctobserve.host.symbols import Symbols
from ctobserve.programs import compile as compiling
from ctobserve.programs.arch import MACHINES
from ctobserve.programs.compile import Image, Program, Source, build, compiled, decoded, source_dir
from ctobserve.programs.compiler import GIVEN_MARK, LD_IMM64
from ctobserve.programs.constants import NODE_ROOM
from ctobserve.programs.given import NAMES, Choices, given
from ctobserve.programs.hooks import HOOKS
from ctobserve.programs.loader import with_given
from tests.unit.csource import compiled as compiled_c
from tests.unit.samples import LAYOUT

CALL = 0x85  # BPF_JMP | BPF_CALL
ARCHITECTURE = Path(__file__).parents[2] / "docs/architecture.md"
SYMBOLS = Symbols({"nf_ct_delete": 1, "nf_conntrack_double_lock.constprop.0": 2})
SPLIT = Symbols({"nf_ct_delete": 1, "nf_ct_delete.part.0": 2, "nf_conntrack_double_lock": 3})
KERNEL = LAYOUT._replace(numbers={name: 8 * place for place, name in enumerate(NUMBERS)} | {"NODE_STATUS": 56})
OTHER = KERNEL._replace(numbers=KERNEL.numbers | {"CT_NET": 144, "CT_EXT": 184, "EXT_START": -1})


def wide(low: int, high: int) -> bytes:
    return struct.pack("<BBHI", LD_IMM64, 1, 0, low) + struct.pack("<BBHI", 0, 0, 0, high)


def helpers(image: Image) -> set[int]:
    """Numbers of the kernel's functions that its programs call."""
    every = [program.code[at : at + 8] for program in image.programs.values() for at in range(0, len(program.code), 8)]
    return {struct.unpack_from("<i", one, 4)[0] for one in every if one[0] == CALL and one[1] >> 4 == 0}


def constants(code: bytes) -> list[int]:
    """Every number of 64 bits that it loads."""
    places = [at for at in range(0, len(code), 8) if code[at] == LD_IMM64]
    return [int.from_bytes(code[at + 4 : at + 8] + code[at + 12 : at + 16], "little") for at in places]


@pytest.fixture(scope="module", params=[True, False], ids=["fentry", "kprobe"])
def form(request) -> bool:
    return request.param


@pytest.fixture(scope="module", params=MACHINES)
def target(request) -> str:
    return request.param


@cache_results
def compiled_for(form: bool, target: str) -> dict[str, Any]:
    """Each once: a compilation takes seconds."""
    return compiled(Source.read(form, target))


@pytest.fixture(scope="module")
def made(form, target) -> dict[str, Any]:
    return compiled_for(form, target)


@pytest.fixture
def image(made) -> Image:
    return decoded(made, None)


@pytest.fixture
def place(form, target, tmp_path, monkeypatch) -> Path:
    """Where the image is looked for on its machine; nothing is there yet, nor in the cache, and nothing compiles."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("ctobserve.host.kernel.machine", lambda: target)
    source = Source.here(form)._replace(image=tmp_path / "image.json")
    monkeypatch.setattr(Source, "here", lambda _: source)
    monkeypatch.setattr(compiling, "compiled", lambda _: pytest.fail("it compiles"))
    return tmp_path / "image.json"


def test_a_number_stands_where_its_constant_stood_and_nothing_else_is_touched():
    program = Program(wide(0, GIVEN_MARK) + wide(7, 9) + wide(2, GIVEN_MARK) + wide(1, GIVEN_MARK), [], [(0, 0), (4, 2), (6, 1)])
    assert with_given(program, [0, -1, 5 << 32 | 3]) == wide(0, 0) + wide(7, 9) + wide(3, 5) + wide(0xFFFFFFFF, 0xFFFFFFFF)


def test_choices_and_symbols_are_given_beside_the_layout():
    plain, chosen = given(KERNEL, SYMBOLS, Choices()), given(KERNEL, SPLIT, Choices(chains=True, netns=4026531840))
    assert dict(zip(NAMES, plain, strict=True)).items() >= (KERNEL.numbers | {"SPLIT_DELETE": 0}).items()
    differ = {name: value for name, before, value in zip(NAMES, plain, chosen, strict=True) if value != before}
    assert differ == {"SPLIT_DELETE": 1, "CHAINS": 1, "NETNS": 4026531840}


def test_a_kernel_whose_nodes_have_no_room_is_refused():
    def at(status: int) -> object:
        return given(KERNEL._replace(numbers=KERNEL.numbers | {"NODE_STATUS": status}), SYMBOLS, Choices())

    at(NODE_ROOM - 4)
    with pytest.raises(KernelLacks, match=f"{NODE_ROOM} bytes behind its reply node"):
        at(NODE_ROOM)


def test_every_hook_has_its_program_and_every_name_is_asked_for(image):
    assert {hook.program for hook in HOOKS} <= image.programs.keys()
    asked = {number for program in image.programs.values() for _, number in program.given}
    assert {NAMES[number] for number in asked} == set(NAMES)


def test_no_mark_is_left_of_what_is_loaded(image):
    marked = sum(value >> 32 == GIVEN_MARK for program in image.programs.values() for value in constants(program.code))
    assert marked == sum(len(program.given) for program in image.programs.values()) > 0
    values = given(KERNEL, SYMBOLS, Choices())
    for program in image.programs.values():
        assert not [value for value in constants(with_given(program, values)) if value >> 32 == GIVEN_MARK]


def test_one_image_serves_two_kernels(image):
    one, two = (given(kernel, SYMBOLS, Choices()) for kernel in (KERNEL, OTHER))
    destroy, clock = image.programs["destroy"], image.programs["clock"]
    differ = zip(constants(with_given(destroy, one)), constants(with_given(destroy, two)), strict=True)
    changed = {name: (one[number], two[number]) for number, name in enumerate(NAMES) if one[number] != two[number]}
    assert {pair for pair in differ if pair[0] != pair[1]} == {changed["CT_NET"], changed["CT_EXT"]}
    assert with_given(clock, one) == with_given(clock, two) == clock.code


def test_an_image_that_came_with_the_sources_is_taken_and_no_compiler_asked_for(form, made, image, place, monkeypatch):
    monkeypatch.setattr(compiling, "bcc_version", lambda: pytest.fail("it looks for bcc"))
    place.write_text(json.dumps(made))
    assert build(form) == image
    assert not place.with_name("cache").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda made: json.dumps(made | {"digest": "0" * 64}),
        lambda made: json.dumps({name: value for name, value in made.items() if name != "digest"}),
        lambda made: json.dumps(made)[:-9],
        lambda made: json.dumps(made | {"programs": 5}),
        lambda made: "[]",
    ],
)
def test_what_is_of_other_sources_or_no_image_is_compiled_anew(form, made, image, place, monkeypatch, spoil):
    place.write_text(spoil(made))
    monkeypatch.setattr(compiling, "compiled", lambda source: made)
    assert build(form) == image
    assert [path.name for path in place.with_name("cache").iterdir()] == ["image-" + made["digest"]]


def test_an_image_is_of_its_sources_its_form_its_machine_its_headers_and_its_numbers(form, target, made, tmp_path, monkeypatch):
    assert Source.read(form, target).digest == made["digest"] != Source.read(not form, target).digest
    assert [other for other in MACHINES if Source.read(form, other).digest == made["digest"]] == [target]
    sources = shutil.copytree(compiling.source_dir(), tmp_path / "bpf")
    monkeypatch.setattr(compiling, "source_dir", lambda: sources)
    assert Source.read(form, target).digest == made["digest"]
    for header in (sources / f"arch/{target}.h", *sorted(sources.rglob("headers/**/*.h"))):
        before = header.read_text()
        header.write_text(before + "/* another */\n")
        assert Source.read(form, target).digest != made["digest"]
        header.write_text(before)
    monkeypatch.setattr(compiling, "NAMES", NAMES[::-1])
    assert Source.read(form, target).digest != made["digest"]


def test_every_machine_has_the_same_programs_maps_and_numbers():
    """What is compiled here for another is the same but for the registers."""
    images = [decoded(compiled_for(True, machine), None) for machine in MACHINES]
    assert len(images) > 1
    for image in images[1:]:
        assert image.maps == images[0].maps
        assert image.programs.keys() == images[0].programs.keys()
        assert image.programs["walk_on"] == images[0].programs["walk_on"]
        assert image.programs["destroy"] != images[0].programs["destroy"]


def loaded(program: Program) -> tuple[bytes, list[tuple[int, str]]]:
    """As the kernel gets it, but for the descriptors of maps, which are the loader's."""
    code = with_given(program, range(1000, 1000 + len(NAMES)))
    for at, _ in program.map_loads:
        code[8 * at + 4 : 8 * at + 8] = bytes(4)
    return bytes(code), program.map_loads


def test_both_forms_have_the_same_maps_and_runnable_programs(target):
    """Where trampolines are refused the programs of the other form take over the maps, and what is run at request stays."""
    fentry, kprobe = (decoded(compiled_for(form, target), None) for form in (True, False))
    assert kprobe.maps == fentry.maps | {"calls": kprobe.maps["calls"]}
    assert kprobe.programs.keys() == fentry.programs.keys() | {"call_begin"}
    for name in ("walk", "walk_on", "lengths", "lengths_on", "clock"):
        assert loaded(kprobe.programs[name]) == loaded(fentry.programs[name])


def test_a_machine_that_we_do_not_know_is_named(monkeypatch):
    monkeypatch.setattr("ctobserve.host.kernel.machine", lambda: "vax")
    with pytest.raises(KernelLacks, match=r"^ctobserve does not know vax; it runs on x86_64 and aarch64$"):
        Source.here(True)


def test_a_process_of_32_bits_on_a_kernel_of_64_is_refused(monkeypatch):
    """There uname says the kernel's machine, and a system call's number is another call."""
    monkeypatch.setattr("sys.maxsize", (1 << 31) - 1)
    with pytest.raises(KernelLacks, match=r"^a Python of 32 bits cannot observe a kernel of \w+; use one of 64 bits$"):
        Source.here(True)


def test_every_machine_has_its_header_with_the_names_of_all():
    headers = {
        path.stem: set(re.findall(r"^#define (\w+)", path.read_text(), re.M)) for path in (source_dir() / "arch").iterdir()
    }
    assert headers.keys() == set(MACHINES)
    names = set.union(*headers.values())
    assert all(defined == names for defined in headers.values())


def test_every_helper_that_is_called_is_documented_with_its_release(image):
    rows = re.findall(r"^\| (\w+ \(\d+\).*) \| \d\.\d+ \|$", ARCHITECTURE.read_text(), re.M)
    documented = {name: int(number) for row in rows for name, number in re.findall(r"(\w+) \((\d+)\)", row)}
    found = compiled_c("#include <linux/bpf.h>\n", [f"BPF_FUNC_{name}" for name in documented])
    assert {f"BPF_FUNC_{name}": number for name, number in documented.items()} == found
    assert helpers(image) == set(documented.values())
