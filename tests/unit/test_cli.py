from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import click
import pytest

from ctobserve.capture.filters import Filter
from ctobserve.commands.cli import cli, ended
from ctobserve.commands.help import SECTIONS, Option
from ctobserve.commands.options import Request
from ctobserve.commands.size import size
from ctobserve.errors import KernelLacks
from tests.unit.typed import COMMANDS, CONTEXT, OPTIONS, options_of, parse

README = Path(__file__).parents[2] / "README.md"
OBSERVING = {"--duration", "--json", "--attach", "--ring-mib", "--wait", "--ready-file", "--fail-on-loss"}
TUPLE = {"--src", "--dst", "--sport", "--dport", "--proto", "--state", "--zone", "--mark"}
STREAMS = OBSERVING | TUPLE | {"--netns", "--limit"}
STRETCH, INSTANT = {"--from", "--since", "--until"}, {"--from", "--at"}
OFFERED = {
    "report": STREAMS | STRETCH | {"--source", "--no-invalid", "--format"},
    "why": OBSERVING | STRETCH | {"--netns", "--zone", "--limit", "--source", "--no-invalid", "--confirms"},
    "drops": STREAMS | STRETCH | {"--invalid"},
    "top": STREAMS | STRETCH | INSTANT | {"--source", "--by", "--order", "--interval", "--no-invalid", "--plain"},
    "list": STREAMS | INSTANT | {"--source", "--format", "--expect"},
    "events": STREAMS | STRETCH | {"--events", "--invalid", "--packets"},
    "buckets": STREAMS | INSTANT | {"--source", "--format"},
    "size": {"--json", "--max", "--buckets", "--timeout", "--rate", "--headroom", "--duration", "--netns", "--source", "--from"},
    "verify": OBSERVING | {"--netns", "--limit", "--source", "--from"},
    "record": OBSERVING
    | {"--source", "--no-invalid", "--confirms", "--packets", "--keyframe", "--compress"}
    | {"--keep", "--max-size", "--on", "--after", "--max-incidents"},
    "export": {"--listen", "--web-config", "--record", "--limit", "--attach", "--ready-file"}
    | {"--keep", "--max-size", "--on", "--after", "--max-incidents"},
    "diff": TUPLE | {"--json", "--netns", "--limit", "--by", "--since", "--until"},
    "convert": {"--tables", "--format", "--dataset", "--host", "--image"},
    "fleet": {"--set", "--sql", "--since", "--until", "--engine", "--memory", "--master", "--format", "--limit", "--json"},
    "anonymise": {"--key-file"},
    "check": {"--json", "--attach"},
}


def run(*arguments: str | bytes, user: str | None = None) -> tuple[int, str, str]:
    result = subprocess.run(
        [sys.executable, "-m", "ctobserve", *arguments], capture_output=True, text=True, check=False, user=user
    )
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    code, out, _ = run(command, "-h")
    assert code == 0 and out.startswith(f"Usage: ctobserve {command}")
    assert run(command, "--help")[1] == out


def help_of(command: click.Command, columns: int) -> list[str]:
    context = click.Context(command, COMMANDS.get(command.name) and CONTEXT, command.name, terminal_width=columns)
    with context:
        formatter = click.HelpFormatter(width=columns - 2)
        command.format_help(context, formatter)
    return formatter.getvalue().splitlines()


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("command", [cli, *COMMANDS.values()], ids=lambda command: command.name)
def test_help_fits_the_terminal_and_nothing_is_cut_off(command, columns):
    lines = help_of(command, columns)
    assert max(map(len, lines)) <= columns
    assert not [line for line in lines if "..." in line]


def test_the_list_of_commands_has_a_line_for_each_in_the_order_of_the_readme():
    lines = help_of(cli, 80)
    listed = lines[lines.index("Commands:") + 1 :][: len(COMMANDS)]
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    section = README.read_text().partition("## Commands")[2].partition("##")[0]
    assert re.findall(r"^    ctobserve (\w+)", section, re.M) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_option_stands_under_a_title_with_what_it_does(command):
    for option in options_of(command):
        assert isinstance(option, Option) and option.section in SECTIONS and option.help and option.help.endswith(".")
    titles = [line[:-1] for line in help_of(command, 80) if line.endswith(":") and not line.startswith(" ")]
    used = {option.section for option in options_of(command)}
    assert titles == [*(title for title in SECTIONS if title in used), "Examples"]


@pytest.mark.parametrize(
    ("command", "example"),
    [(name, example) for name, command in COMMANDS.items() for example in command.examples],
    ids=lambda value: value if isinstance(value, str) else value.line,
)
def test_an_example_is_a_line_that_works(command, example):
    program, named, *arguments = shlex.split(example.line.partition(" > ")[0])
    assert (program, named) == ("ctobserve", command)
    assert parse(command, *arguments)[0] == 0
    assert len(COMMANDS[command].examples) == 2 and example.line in "\n".join(help_of(COMMANDS[command], 80))


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["--version"], ["frobnicate"]], ids=" ".join)
def test_what_needs_no_command_needs_no_numpy(arguments):
    start = "import sys; from ctobserve.__main__ import start; start(); print(*sorted({'numpy', 'bcc'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", start, *arguments], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[-1] == ""


def test_a_command_runs_with_garbage_looked_for_but_in_what_was_imported():
    code = "import gc; from ctobserve.__main__ import start; start(); print(gc.isenabled(), gc.get_freeze_count() > 10_000)"
    told = f"import ctobserve.commands.cli as cli; cli.main = lambda: cli.cli.get_command(None, 'list') and 0; {code}"
    result = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines() == ["True True"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["frobnicate"], "frobnicate"),
        (["list", "--frobnicate"], "--frobnicate"),
        (["list", "--src", "10.0.0.0/99"], "--src"),
        (["list", "--dst", "example"], "--dst"),
        (["list", "--sport", "70000"], "--sport"),
        (["list", "--dport", "9-3"], "--dport"),
        (["list", "--proto", "quic"], "--proto"),
        (["list", "--state", "happy"], "--state"),
        (["list", "--mark", "red"], "--mark"),
        (["list", "--netns", "nowhere"], "nowhere"),
        (["list", "--netns", "\u00b2"], "\u00b2"),
        (["list", "--duration", "-1"], "--duration"),
        (["list", "--duration", "soon"], "--duration"),
        (["list", "--duration", "nan"], "--duration"),
        (["top", "--interval", "inf"], "--interval"),
        (["size", "--rate", "nan"], "--rate"),
        (["list", "--ready-file", "/proc/version/ready"], "no directory /proc/version"),
        (["list", "--ready-file", "/proc"], "is not an empty file"),
        (["list", "--format", "csv", "--json"], "--format csv"),
        (["report", "--format", "html", "--json"], "--format html"),
        (["report", "--format", "pdf"], "--format"),
        (["list", "--format", "xml"], "--format"),
        (["size", "--timeout", "udp"], "udp"),
        (["size", "--timeout", "udp_timeout=soon"], "udp_timeout=soon"),
        (["size", "--timeout", "nf_conntrack_max=3"], "nf_conntrack_max"),
        (["size", "--max", "0"], "--max"),
        (["size", "--headroom", "0.5"], "--headroom"),
        (["size", "--netns", "nowhere"], "nowhere"),
        (["size", "--netns", "all"], "--netns all"),
        (["size", "--netns", "17"], "17"),
        (["events", "--events", "insert,explode"], "explode"),
        (["verify", "--src", "10.0.0.1"], "--src"),
        (["drops", "--source", "walk"], "--source"),
        ([b"\xff"], r"\udcff"),
        ([";reboot"], ";reboot"),
        (["list", "\x1b[2J\n"], "\\x1b[2J\\n"),
        (["list", b"--src=\xff"], "--src"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_2(arguments, names):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("ctobserve: ") and err.count("\n") == 1 and names in err


@pytest.mark.parametrize("command", OFFERED)
def test_each_command_offers_what_has_an_effect_in_it(command):
    assert {option for name, option in OPTIONS if name == command} == OFFERED[command]
    assert list(OFFERED) == list(COMMANDS)


def test_the_readme_names_every_shared_option():
    (paragraph,) = re.findall(r"^Every command takes .*?\n\n", README.read_text(), re.M | re.S)
    assert set(re.findall(r"--[a-z-]+", paragraph)) >= STREAMS | {"--source"}


NUMBERS = [
    "\u00b2",
    "\uff11",
    "\u0661",
    "",
    " ",
    "1 ",
    " 1",
    "1\n",
    "+1",
    "-1",
    "--",
    "1_0",
    "0b1",
    "0o7",
    "1e3",
    "nan",
    "1" * 5000,
]


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize(
    ("command", "option", "form"),
    [
        *((command, option, "{}") for command, option in OPTIONS if option in ("--limit", "--zone", "--mark", "--proto")),
        *(("list", option, form) for option in ("--sport", "--dport") for form in ("{}", "{}-9", "1-{}")),
        *(("size", option, "{}") for option in ("--max", "--buckets", "--rate", "--headroom", "--duration")),
        *(("size", "--timeout", "udp_timeout={}"), ("list", "--duration", "{}"), ("top", "--interval", "{}")),
        *(("list", "--ring-mib", "{}"), ("list", "--src", "10.0.0.0/{}"), ("list", "--dst", "{}.0.0.1")),
    ],
)
def test_a_number_is_ascii_digits_alone(command, option, form, value, capsys):
    assert parse(command, option, form.format(value)) == (2, None)
    assert option in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option", "value", "names"),
    [
        ("list", "--dport", "65536", "1024-65535"),
        ("list", "--dport", "-53", "1024-65535"),
        ("list", "--dport", "53-54-55", "1024-65535"),
        ("list", "--proto", "256", "0 to 255"),
        ("list", "--zone", "65536", "from 0 to 65535"),
        ("list", "--mark", "0x100000000", "32 bits"),
        ("list", "--mark", "4294967296", "32 bits"),
        ("list", "--mark", "010", "32 bits"),
        ("list", "--limit", "2147483648", "from 0 to 2147483647"),
        ("list", "--src", "fe80::1%lo", "no address"),
        ("list", "--state", "\u017fyn_sent", "SYN_SENT"),
        ("list", "--duration", "2147483648", "from 0 to 2147483647"),
        ("size", "--max", "2147483648", "from 1 to 2147483647"),
        ("size", "--buckets", "268434945", "from 1 to 268434944"),
        ("size", "--timeout", "udp_timeout=2147483648", "from 0 to 2147483647"),
        ("size", "--rate", "2147483648", "from 0 to 2147483647"),
        ("top", "--interval", "0.09", "from 0.1"),
        ("top", "--by", "src,", "sport"),
        ("top", "--by", "src, dst", "sport"),
        ("events", "--events", "", "insert"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(command, option, value, names, capsys):
    assert parse(command, option, value) == (2, None)
    error = capsys.readouterr().err
    assert option in error and names in error


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--src", "10.1.2.3/8", {"src": ip_network("10.0.0.0/8")}),
        ("--dst", "2001:db8::1", {"dst": ip_network("2001:db8::1/128")}),
        ("--sport", "53", {"sport": (53, 53)}),
        ("--dport", "0-65535", {"dport": (0, 65535)}),
        ("--proto", "UDP", {"proto": 17}),
        ("--proto", "255", {"proto": 255}),
        ("--state", "syn_sent", {"state": "SYN_SENT"}),
        ("--state", "assured", {"state": "ASSURED"}),
        ("--zone", "65535", {"zone": 65535}),
        ("--mark", "4294967295", {"mark": (1 << 32) - 1}),
        ("--mark", "0xFFFFFFFF", {"mark": (1 << 32) - 1}),
        ("--netns", "all", {"netns": None}),
    ],
)
def test_conditions_have_their_meaning(option, value, expected):
    assert parse("list", option, value) == (0, Request(filter=Filter(**expected)))


def test_what_is_not_typed_or_not_offered_has_its_default():
    for command in ("events", "list", "verify"):
        assert parse(command) == (0, Request())
    typed = ("--duration", "2.5", "--json", "--limit", "0", "--source", "proc", "--attach", "kprobe", "--ring-mib", "1", "--wait")
    expected = Request(2.5, True, 0, "proc", "kprobe", 1, True, Path("ready"), True, Filter())
    assert parse("verify", *typed, "--ready-file", "ready", "--fail-on-loss") == (0, expected)


def test_timeouts_have_full_names_and_seconds():
    context = size.make_context("size", ["--timeout", "udp_timeout=0", "--timeout", "net.netfilter.nf_conntrack_icmp_timeout=9"])
    assert context.params["timeouts"] == (("nf_conntrack_udp_timeout", 0), ("nf_conntrack_icmp_timeout", 9))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KernelLacks("no \x1b]0;such\x07 thing\n"), 3, r"no \x1b]0;such\x07 thing\n"),
        (OSError(28, "No space left on device", "a\nb"), 1, r"No space left on device: a\nb"),
        (OSError("gone"), 1, "gone"),
        (OSError(28, "No space left on device"), 1, "ctobserve: No space left on device"),
        (ZeroDivisionError("division by\r zero"), 1, r"internal error: ZeroDivisionError: division by\r zero"),
        (UnicodeEncodeError("ascii", "\udcff", 0, 1, "no"), 1, "--debug"),
    ],
)
def test_a_failure_is_one_line_whatever_failed(error, code, words, capsys):
    def fails() -> None:
        raise error

    assert ended(fails) == code
    shown = capsys.readouterr().err
    assert shown.startswith("ctobserve: ") and words in shown and shown[:-1].isprintable() and shown[-1] == "\n"


def into(arguments: list[str], command: str = "ctobserve", **streams: int) -> tuple[int, bytes, bytes]:
    """Exit code and what could be read, with a stream or both given."""
    words = [sys.executable, "-m", command, *arguments]
    result = subprocess.run(words, **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams), check=False)
    return result.returncode, result.stdout or b"", result.stderr or b""


@pytest.fixture(params=["full", "gone"])
def refusing(request):
    """What takes nothing, a full disk or a pipe whose reader has gone; and the exit code of a command that had data for it."""
    if request.param == "full":
        end = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, end = os.pipe()
        os.close(reader)
    yield end, {"full": 1, "gone": 0}[request.param]
    os.close(end)


@pytest.mark.parametrize("command", ["ctobserve", "ctobserve_lab"])
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["list", "--help"]], ids=" ".join)
def test_data_that_cannot_be_written_is_a_failure_in_one_line_unless_nobody_wants_more(refusing, command, arguments):
    end, code = refusing
    name = command.replace("_", "-").encode()
    assert into(arguments, command, stdout=end) == (code, b"", name + b": No space left on device\n" if code else b"")
    assert into(arguments, command, stdout=end, stderr=end) == (code, b"", b"")


@pytest.mark.parametrize("command", ["ctobserve", "ctobserve_lab"])
@pytest.mark.parametrize("arguments", [["nonsense"], ["--debug", "nonsense"], ["list", "--frobnicate"]], ids=" ".join)
def test_where_no_word_can_be_written_the_exit_code_still_tells(refusing, command, arguments):
    end, _ = refusing
    assert into(arguments, command, stderr=end) == (2, b"", b"")
    assert into(arguments, command, stderr=end, stdout=end) == (2, b"", b"")


def test_more_than_a_buffer_holds_is_no_other_case(refusing):
    end, code = refusing
    more = "import sys; from ctobserve.commands.cli import ended; sys.exit(ended(lambda: sys.stdout.write('x' * 100_000)))"
    result = subprocess.run([sys.executable, "-c", more], stdout=end, stderr=subprocess.PIPE, check=False)
    assert (result.returncode, result.stderr) == (code, b"ctobserve: No space left on device\n" if code else b"")


def test_a_long_complaint_keeps_its_beginning_and_its_end(capsys):
    assert parse("list", "--src", "1" * 100_000) == (2, None)
    error = capsys.readouterr().err
    assert len(error) < 600 and "--src" in error and "2001:db8::/32" in error
