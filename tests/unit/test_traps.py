"""The installed command, run as root from a directory full of traps, with all of the environment pointing there: none springs.

A trap is a module, a program, a header, a translation or a kept file that somebody else put where a careless process looks; each
leaves a mark, or changes our words.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctobserve.host import cache, executables, kernel
from ctobserve.programs.compile import bcc_version

INSTALLED = Path(sys.executable).with_name("ctobserve")
BRIEFLY = ["--duration", "0.2", "--attach", "kprobe"]  # one form: `auto` takes this one or that by what a command wants
OBSERVING = ["events", "list", "buckets", "drops", "verify", "report", "top"]
COMMANDS = [["--help"], ["--version"], ["check"], ["size"], *([command, *BRIEFLY] for command in OBSERVING)]
MODULES = [
    *(
        "base64",
        "json",
        "re",
        "signal",
        "struct",
        "ctypes",
        "sitecustomize",
        "usercustomize",
        "numpy",
        "click",
        "pyroute2",
        "bcc",
    ),
    *("ctobserve", "ctobserve_lab"),
]
PROGRAMS = ["nft", "python", "python3", "sh", "bash", "modprobe", "tar", "ldconfig", "gcc", "cc", "clang", "uname", "ip", "env"]
HEADERS = ["linux/types.h", "linux/version.h", "linux/kconfig.h", "uapi/linux/bpf.h", "stdbool.h"]
# gettext joins what they say to the path of its catalogues: an absolute path takes its place.
LANGUAGES = ["LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"]
FORGED = "\x1b]0;forged\x07{name.__class__}"
TRANSLATED = [
    "Usage:",
    "Options",
    "Commands",
    "Show this message and exit.",
    "No such command {name!r}.",
    "No such option: {name}",
]


def catalogue() -> bytes:
    """Translations as gettext reads them (a .mo file): every word forged."""
    words = {"": "Content-Type: text/plain; charset=UTF-8\n"} | dict.fromkeys(TRANSLATED, FORGED)
    at = 28 + 16 * len(words)
    places, texts = [b"", b""], b""
    for pair in sorted(words.items()):
        for column, text in enumerate(map(str.encode, pair)):
            places[column] += struct.pack("<II", len(text), at + len(texts))
            texts += text + b"\0"
    return struct.pack("<7I", 0x950412DE, 0, len(words), 28, 28 + 8 * len(words), 0, at) + b"".join(places) + texts


@dataclass(frozen=True)
class Traps:
    """A directory of them, and the file where those that spring leave their names."""

    directory: Path
    mark: Path

    def sprung(self) -> list[str]:
        return self.mark.read_text().split() if self.mark.exists() else []

    def environment(self) -> dict[str, str]:
        """Everything that a library or a program might look into leads here."""
        here = str(self.directory)
        paths = [
            *("PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "PYTHONPYCACHEPREFIX", "HOME", "TMPDIR"),
            *("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH"),
            *("BCC_KERNEL_SOURCE", "BCC_KERNEL_MODULES_SUFFIX", "XTABLES_LIBDIR", "LOCPATH", "NLSPATH"),
        ]
        code = f"{here}/base64.py"
        words = dict.fromkeys(LANGUAGES, here) | {"TZ": f"{here}/zone", "LINES": "1", "NO_COLOR": "1"}
        numpy = {"NPY_DISABLE_CPU_FEATURES": "SSE2 NEON"}  # NumPy, once imported with it, refuses to work
        return dict.fromkeys(paths, here) | words | numpy | {"PYTHONSTARTUP": code, "BASH_ENV": f"{here}/sh", "ENV": f"{here}/sh"}


@pytest.fixture
def traps(tmp_path) -> Traps:
    made = Traps(tmp_path / "traps", tmp_path / "sprung")
    site = made.directory / f"lib/python{sysconfig.get_python_version()}/site-packages"
    for directory in (made.directory, site):
        directory.mkdir(parents=True)
        for name in MODULES:
            spring = f"open({str(made.mark)!r}, 'a').write('{name} ')\n"
            (directory / f"{name}.py").write_text(spring)
            if directory is made.directory and name not in ("base64", "json", "re", "signal", "struct"):
                (directory / f"{name}.py").unlink()
                (directory / name).mkdir()
                for file in ("__init__.py", "__main__.py", "cli.py", "compile.py", "version.py"):
                    (directory / name / file).write_text(spring)
    for name in PROGRAMS:
        (made.directory / name).write_text(f"#!/bin/sh -p\necho {name} >> {made.mark}\n")
        (made.directory / name).chmod(0o755)
    for name in HEADERS:
        for root in (made.directory, made.directory / "include"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("#error sprung\n")
    (made.directory / "LC_MESSAGES").mkdir()
    (made.directory / "LC_MESSAGES/messages.mo").write_bytes(catalogue())
    (made.directory / "zone").write_bytes(Path("/usr/share/zoneinfo/Asia/Kathmandu").read_bytes())
    return made


def run(arguments: list[str], cwd: Path, environment: dict[str, str], **how: object) -> subprocess.CompletedProcess[str]:
    assert INSTALLED.exists(), f"no {INSTALLED}: this is a test of the installed command; run make setup, and .venv/bin/python"
    assert os.geteuid() == 0, "what others can make root do is tested as root"
    return subprocess.run([INSTALLED, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False, **how)


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A cache that the tests of this file share, so that all but the first find it full."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """How `list` ends on this machine, as far as it gets, and what it leaves in its cache."""
    directory = tmp_path_factory.mktemp("honest")
    result = run(["list", *BRIEFLY], Path("/"), {cache.VARIABLE: str(directory)})
    assert "internal error" not in result.stderr and result.returncode in (0, 3, 4)
    if kernel.conntrack_loaded():
        # An image that came with the sources is not kept.
        names = {path.name.split("-")[0] for path in directory.iterdir()} - {"image"}
        assert names == {"facts", "symbols"}, "it got as far as loading"
    else:
        assert result.returncode == 3 and "nf_conntrack is not loaded" in result.stderr
    return result, directory


def test_the_traps_are_set(traps):
    for name in MODULES:
        subprocess.run([sys.executable, "-S", "-c", f"import {name}"], cwd=traps.directory, check=True)
    for name in PROGRAMS:
        subprocess.run([name], env=traps.environment(), check=True)
    assert set(MODULES + PROGRAMS) <= set(traps.sprung())
    asked = "import gettext, time; print(*map(gettext.gettext, sys.argv[1:]), time.localtime(0).tm_gmtoff)"
    for variable in LANGUAGES:
        environment = {name: traps.environment()[name] for name in (variable, "TZ")}
        command = [sys.executable, "-I", "-c", f"import sys; {asked}", *TRANSLATED]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert result.stdout == f"{' '.join([FORGED] * len(TRANSLATED))} 19800\n"


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_no_trap_springs(traps, kept, honest, arguments):
    environment = traps.environment() | {cache.VARIABLE: str(kept)}
    result = run(arguments, traps.directory, environment, umask=0)
    assert traps.sprung() == []
    if arguments[0] in OBSERVING:
        # Where BPF is refused, one command gets further than another: each is compared with itself.
        plain = run(arguments, Path("/"), {cache.VARIABLE: str(honest[1])})
        assert result.returncode == plain.returncode, result.stderr
        assert [line for line in result.stderr.splitlines() if line.startswith("ctobserve: ")] == [
            line for line in plain.stderr.splitlines() if line.startswith("ctobserve: ")
        ]
        left = {path.name: stat.S_IMODE(path.stat().st_mode) for path in kept.iterdir()}
        assert left == {path.name: 0o600 for path in honest[1].iterdir()}, "the same was compiled and kept, for us alone"
    elif arguments == ["check"]:
        # With images there is nothing to import.
        assert result.returncode in (0, 3, 4) and re.search("Python can import it|the programs came compiled", result.stdout)
    else:
        assert result.returncode == 0 and result.stdout and result.stderr == ""


@pytest.mark.parametrize("command", ["ctobserve", "ctobserve-lab"])
@pytest.mark.parametrize("arguments", [["--help"], ["nonsense"], ["--frob"], ["list", "--help"]], ids=" ".join)
@pytest.mark.parametrize("variable", LANGUAGES)
def test_no_translation_chooses_our_words(traps, command, arguments, variable):
    def said(environment: dict[str, str]) -> tuple[int, str, str]:
        words = [INSTALLED.with_name(command), *arguments]
        result = subprocess.run(words, cwd="/", env=environment, capture_output=True, text=True, check=False)
        return result.returncode, result.stdout, result.stderr

    assert said({variable: str(traps.directory)}) == said({})


def test_none_springs_from_the_directory_alone(traps, tmp_path, honest):
    """Without any word of the environment, and with everything still to be compiled."""
    result = run(["list", *BRIEFLY], traps.directory, {cache.VARIABLE: str(tmp_path / "empty")})
    assert traps.sprung() == []
    assert (result.returncode, result.stderr) == (honest[0].returncode, honest[0].stderr)


def of_another_user(path: Path) -> None:
    os.chown(path, 65534, 65534)


def writable_by_all(path: Path) -> None:
    path.chmod(0o777)


@pytest.mark.parametrize("spoil", [of_another_user, writable_by_all])
def test_a_poisoned_cache_is_left_alone(tmp_path, monkeypatch, honest, spoil):
    """Entries of every key, sealed as ours are: were they taken, nothing would be found in them."""
    poisoned = tmp_path / "poisoned"
    monkeypatch.setenv(cache.VARIABLE, str(poisoned))
    for path in honest[1].iterdir():
        poison = json.loads(path.read_text().partition("\n")[2]) | {"bcc": bcc_version(), "maps": {}, "programs": {}}
        cache.kept(path.name, lambda poison=poison: poison, lambda found: found)
    before = {path.name: path.read_bytes() for path in poisoned.iterdir()}
    assert before.keys() == {path.name for path in honest[1].iterdir()}
    spoil(poisoned)
    result = run(["list", *BRIEFLY], Path("/"), {cache.VARIABLE: str(poisoned)})
    assert (result.returncode, result.stderr) == (honest[0].returncode, honest[0].stderr)
    assert {path.name: path.read_bytes() for path in poisoned.iterdir()} == before


def test_the_lab_command_hears_none_of_it_either(traps):
    command = [INSTALLED.with_name("ctobserve-lab"), "list"]
    result = subprocess.run(command, cwd=traps.directory, env=traps.environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0 and "table_full" in result.stdout and result.stderr == ""
    assert traps.sprung() == []


def test_what_the_lab_starts_finds_our_modules_and_no_others(traps):
    code = "import subprocess, sys; from ctobserve_lab.__main__ import leave_surroundings; leave_surroundings(); "
    code += "subprocess.run([sys.executable, '-m', 'ctobserve', '--version'], cwd=sys.argv[1], check=True)"
    environment = {"PYTHONPATH": str(Path(executables.__file__).parents[2]), "PATH": str(traps.directory)}
    command = [sys.executable, "-c", code, traps.directory]
    result = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=True)
    assert "version" in result.stdout and traps.sprung() == []


def leaving(code: str, environment: dict[str, str], **how: object) -> subprocess.CompletedProcess[str]:
    """Python that leaves its surroundings as we do, and then does this."""
    words = [sys.executable, "-c", f"import sys; from ctobserve.host import surroundings; surroundings.leave(); {code}"]
    root = str(Path(executables.__file__).parents[2])
    environment = {"PYTHONPATH": f"{root}:relative:"} | environment
    return subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, check=False, **how)


def test_little_of_the_environment_is_kept(traps):
    harmless = {"TERM": "dumb", "COLUMNS": "80", "NO_COLOR": "1", cache.VARIABLE: "/c"}
    foreign = {name: value for name, value in traps.environment().items() if not name.startswith("PYTHON")}
    result = leaving("import json, os; print(json.dumps([dict(os.environ), sys.path]))", foreign | {"MORE": "more"} | harmless)
    found, path = json.loads(result.stdout)
    assert found == harmless | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    assert all(map(os.path.isabs, path)) and path


def test_no_locale_makes_printing_raise():
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    result = leaving(r"print('\xe9\udcff', flush=True)", ascii_only)
    assert (result.returncode, result.stdout) == (0, "\\xe9\\udcff\n")


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8", "de_DE.UTF-8"])
@pytest.mark.parametrize("variable", ["LANG", "LC_ALL", "LC_CTYPE"])
def test_a_terminal_of_utf_8_gets_utf_8(variable, locale):
    assert leaving(r"print('\xe9\u20ac')", {variable: locale}).stdout == "\xe9\u20ac\n"


def test_closed_streams_are_opened_lest_files_take_their_place():
    closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", INSTALLED, "size"]
    assert subprocess.run(closing, check=False).returncode == 0
    code = "import os; os._exit(min(os.open('/', os.O_RDONLY), 9))"
    result = leaving(code, {}, preexec_fn=lambda: os.closerange(0, 3))
    assert result.returncode >= 3


def test_the_exit_status_of_children_is_known_where_our_parent_ignored_its_own():
    code = "from ctobserve.host.executables import *; raise SystemExit(run(Path('/bin/sh'), '-c', 'exit 7').returncode)"
    ignored = leaving(code, {}, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert ignored.returncode == 7, ignored.stderr


def test_a_program_runs_in_the_root_directory_with_an_environment_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XTABLES_LIBDIR", str(tmp_path))
    env, pwd, cat = (executables.trusted(name) for name in ("env", "pwd", "cat"))
    assert executables.run(env, MORE="more").stdout == b"PATH=/usr/sbin:/usr/bin:/sbin:/bin\nMORE=more\n"
    assert executables.run(pwd).stdout == b"/\n"
    assert (executables.run(cat).stdout, executables.run(cat, given=b"\xff\n").stdout) == (b"", b"\xff\n")
    with pytest.raises(TimeoutError, match=r"took longer than 0\.1 s"):
        executables.run(executables.trusted("sleep"), "60", timeout_s=0.1)


def test_a_program_is_trusted_that_only_root_can_have_put_there(tmp_path):
    assert os.geteuid() == 0, "only root can make a file of another user: run the tests as root"
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for directory in (ours, theirs):
        directory.mkdir(mode=0o755)
        (directory / "nft").touch(mode=0o755)
    assert executables.trusted("nft", (theirs, ours)) == theirs / "nft"
    for spoil in (of_another_user, writable_by_all):
        for path in (theirs, theirs / "nft"):
            spoil(path)
            assert executables.trusted("nft", (theirs, ours)) == ours / "nft"
            os.chown(path, 0, 0)
            path.chmod(0o755)
    assert executables.trusted("nft", (tmp_path / "missing", theirs)) == theirs / "nft"
    assert executables.trusted("frobnicate") is None
