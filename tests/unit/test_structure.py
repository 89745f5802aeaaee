"""Rules of the house, read from the sources: imports in one direction, one module per library, printing in its place."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ctobserve
import ctobserve_lab

PACKAGE = Path(ctobserve.__file__).parent
# The house, ground floor first: a room imports only from itself and from those before it (docs/architecture.md).
ROOMS = [
    "errors",
    "model",
    "event",
    "clock",
    "host",
    "serving",
    "programs",
    "capture",
    "analysis",
    "diagnosis",
    "documents",
    "render",
    "terminal",
    "fleet",
    "commands",
    "__main__",
]
# Above the seam (ctobserve/capture/capture.py): what these know of a kernel they know through a Capture.
ABOVE = {"analysis", "diagnosis", "documents", "render", "terminal", "fleet", "commands"}
# What they take from below it nevertheless: data and words, nothing that reads. `*`: the whole module is that.
DATA = {
    # Differences of counters, and sums of them.
    *(f"host.counters.{name}" for name in ("Moved", "Place", "delta", "total")),
    # Types of what a Capture gives.
    "host.counters.Reading",
    "host.invalid_rules.Refusing",
    *("host.account.Account", "host.bridges.Bridge", "host.ip_packets.IpPackets", "host.listing.Listed", "host.queues.Queue"),
    *("host.ruleset.Notrack", "host.ruleset.Ruleset", "host.slab.Slab", "host.whose.Whose"),
    *("host.helpers.HELPERS", "host.helpers.Helper"),  # ports and limits of helpers
    *("host.addresses.Address", "host.addresses.Interface"),
    *("host.capabilities.Use", "host.capabilities.words"),  # what each capability is for
    *(f"host.nat_rules.{name}" for name in ("ANY_PORT", "TRANSLATES", "Does", "Field", "Match", "NatChain", "NatRule")),
    "host.dump.Dumped",  # rows of a dump
    *(f"host.owner.{name}" for name in ("HOST", "Owner", "OwnerKind")),
    "host.slab.PAGE_BYTES",
    "host.sysctls.*",  # names, units and bounds
    "programs.hooks.Purpose",  # what a command wants to know
}
# What commands do themselves, each in one place.
DOORS = {
    "commands.convert": {"host.files"},  # makes the files of tables
    "fleet.local": {"host.files"},  # makes those of a dataset
    "fleet.questions": {"host.files"},  # reads SQL of somebody's own
    "fleet.duck": {"host.files"},  # has DuckDB write what it has no memory for into a directory that passes
    "fleet.spark": {"host.files", "host.executables"},  # the same; whether there is a Java
    "commands.opening": {"host.capabilities", "host.kernel"},  # may we, and is conntrack there yet (--wait)
    "commands.ready": {"host.files"},  # makes the ready file
    "commands.values": {"host.netns"},  # whose inode number a typed name is
}
LAB_MODULES = sorted(Path(ctobserve_lab.__file__).parent.rglob("*.py"))
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def name_of(path: Path) -> str:
    """As it is imported."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def ours(path: Path) -> set[str]:
    """What it imports of the package: names of modules, or of something in one."""
    return {name for name in imports(path) if name.startswith("ctobserve.")}


def test_every_module_has_a_room():
    assert {name_of(path).split(".")[1] for path in MODULES} <= set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_from_the_floors_below(path):
    mine = ROOMS.index(name_of(path).split(".")[1])
    rooms = {name.split(".")[1] for name in ours(path)} & set(ROOMS)
    assert not [room for room in rooms if ROOMS.index(room) > mine]


def within(path: Path) -> str:
    """Its name in the house."""
    return name_of(path).removeprefix("ctobserve.")


def taken(path: Path) -> set[str]:
    """What it imports of the house, by its whole name alone: host.counters.delta without host.counters."""
    names = {name.removeprefix("ctobserve.") for name in ours(path)}
    return {name for name in names if not any(other.startswith(f"{name}.") for other in names)}


HIGH = [path for path in MODULES if within(path).split(".")[0] in ABOVE]


@pytest.mark.parametrize("path", HIGH, ids=within)
def test_above_the_seam_only_data_and_words_come_from_below_it(path):
    allowed = DATA | DOORS.get(within(path), set())
    below = {name for name in taken(path) if name.split(".")[0] in ("host", "programs")}
    assert not {name for name in below if not {name, f"{name.rpartition('.')[0]}.*"} & allowed}


def test_nothing_is_allowed_that_nobody_needs():
    needed = {within(path): taken(path) for path in HIGH}
    used = set().union(*needed.values()) | {f"{name.rpartition('.')[0]}.*" for names in needed.values() for name in names}
    assert used >= DATA
    assert all(needed[name] >= doors for name, doors in DOORS.items())


@pytest.mark.parametrize("path", [path for path in MODULES if not within(path).startswith("capture.")], ids=within)
def test_only_capture_knows_records(path):
    assert not [name for name in taken(path) if name.startswith(("capture.records", "capture.decoder"))]


READING = re.compile(
    r"open|fdopen|read_text|read_bytes|readlink|l?stat|statvfs|listdir|scandir|iterdir|r?glob|walk|exists|is_(file|dir|mount|symlink)|"
    r"isdir|isfile|uname|release|machine|sysconf|getloadavg|getpagesize|boottime|perf_counter(_ns)?|monotonic(_ns)?|(clock_get)?time(_ns)?|"
    r"socket(pair)?|create_connection"
)
ASKING = {"platform", "mmap", "fcntl", "resource", "ctypes"}
# What reads nevertheless: `open` of /dev/null, the directory of a ready file, how long somebody has waited for a bar or watched a
# recording, which is played on the clock of who watches; and --wait, which has no Capture yet.
READERS = {
    "commands.cli": {"os.open"},
    "commands.ready": {"os.path.isdir"},
    "commands.progress": {"time.monotonic"},
    "terminal.recorded": {"time.monotonic"},
}


@pytest.mark.parametrize("path", HIGH, ids=within)
def test_above_the_seam_nothing_reads_the_machine(path):
    """No file, no clock, no question to the system: a recording or a test would be asked in vain."""
    assert not ASKING & set(imports(path))
    assert {full for full, name, _ in calls(path) if READING.fullmatch(name)} == READERS.get(within(path), set())


def test_no_module_leads_back_to_itself():
    known = {name_of(path): path for path in MODULES} | {name_of(path.parent): path for path in PACKAGE.rglob("*/__init__.py")}
    TopologicalSorter({name: (ours(path) & known.keys()) - {name} for name, path in known.items()}).prepare()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_who_observes_does_not_know_who_makes_trouble(path):
    assert not [name for name in imports(path) if name.split(".")[0] == "ctobserve_lab"]


@pytest.mark.parametrize(
    ("library", "owner"),
    [
        ("bcc", "programs.compiler"),
        ("pyroute2", "host.netlink"),
        ("pyarrow", "render.parquet"),
        ("pyarrow.fs", "fleet.remote"),
        ("pyarrow.dataset", "fleet.arrow"),
        ("fsspec", "fleet.remote"),
        ("duckdb", "fleet.duck"),
        ("pyspark", "fleet.spark"),
        ("py4j", "fleet.spark"),
        ("prometheus_client", "render.exposition"),
    ],
)
def test_one_module_imports(library, owner):
    users = {within(path) for path in MODULES if any(f"{name}.".startswith(f"{library}.") for name in imports(path))}
    assert users - ({"fleet.remote", "fleet.arrow"} if library == "pyarrow" else set()) == {owner}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_full_screen_imports_textual(path):
    """Others start without it, and where it is not installed."""
    if within(path).split(".")[0] != "terminal":
        assert not {"textual", "rich"} & {name.split(".")[0] for name in imports(path)}


def test_who_does_not_fill_a_terminal_loads_none_of_it():
    """Modules of a process that imported a command whose full screen was not asked for."""
    asked = (
        "import sys, ctobserve.commands.top; print(*(name for name in sys.modules if name.split('.')[0] in ('textual', 'rich')))"
    )
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert found.stdout.split() == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_printing(path):
    text = path.read_text()
    if path.relative_to(PACKAGE).parts[0] not in ("render", "commands"):
        assert "print(" not in text.replace("pprint(", "")


def calls(path: Path) -> list[tuple[str, str, ast.Call]]:
    """Every call: what is called, its last name, the call."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(call.func), ast.unparse(call.func).rpartition(".")[2], call) for call in found]


def given(call: ast.Call) -> str:
    return ", ".join(map(ast.unparse, [*call.args, *call.keywords]))


WRITING = {
    *(
        "write_text",
        "write_bytes",
        "touch",
        "mkdir",
        "makedirs",
        "mknod",
        "mkfifo",
        "symlink",
        "symlink_to",
        "hardlink_to",
        "unlink",
    ),
    *("rmdir", "rename", "renames", "chmod", "chown", "truncate", "memmap", "tofile", "os.remove", "os.replace", "os.link"),
}
FOR_WRITING = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)|(^|, |mode=)'[rbt]*[wax+][bt+]*'")
RUNNING = re.compile(r"Popen|system|popen|check_call|check_output|exec[lv]p?e?|spawn[lv]p?e?|posix_spawnp?|fork(pty)?")
IN_BYTES = re.compile(r"(^|, |mode=)'[rwax+]*b[rwax+]*'")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_files_writes(path):
    """It only observes: nothing below /proc or /sys, nothing but a cache and a ready file, which one module makes with care."""
    if path.name != "files.py":
        assert not {"shutil", "tempfile"} & set(imports(path))
        assert not [full for full, name, _ in calls(path) if WRITING & {full, name}]
        # What is written to /dev/null is lost.
        opened = [given(call) for _, name, call in calls(path) if name in ("open", "fdopen") and "os.devnull" not in given(call)]
        assert not list(filter(FOR_WRITING.search, opened))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_executables_runs_programs(path):
    if path.name != "executables.py":
        assert not {"subprocess", "multiprocessing", "pty"} & set(imports(path))
        assert not [full for full, name, _ in calls(path) if RUNNING.fullmatch(name)]


def is_strict(full: str, name: str, call: ast.Call) -> bool:
    """Whether bytes that are no UTF-8 make it raise; kernel.read_text, the door for files, itself says what becomes of them."""
    options = {keyword.arg for keyword in call.keywords}
    if "errors" in options or full in ("kernel.read_text", "os.open") or full.endswith("decoder.decode"):  # of records
        return False
    if full.startswith("subprocess."):
        return bool({"text", "universal_newlines", "encoding"} & options)
    if name == "open":
        return not IN_BYTES.search(given(call)) and "os.devnull" not in given(call)
    return "." in full and name in ("decode", "read_text") and len(call.args) < 2


@pytest.mark.parametrize("path", MODULES + LAB_MODULES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_byte_of_others_makes_decoding_fail(path):
    assert not [ast.unparse(call) for full, name, call in calls(path) if is_strict(full, name, call)]


LOCAL_TIME = {"localtime", "ctime", "mktime", "strftime", "today", "utcnow", "utcfromtimestamp", "astimezone"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_times_are_utc(path):
    """What TZ says chooses nothing that is shown."""
    times = [(name, given(call)) for _, name, call in calls(path) if name in LOCAL_TIME | {"now", "fromtimestamp"}]
    assert not [name for name, arguments in times if name in LOCAL_TIME or "UTC" not in arguments]
