"""Whatever is typed: a meaning, or one line on stderr that a terminal can only show, and exit code 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import click
import pytest

from ctobserve.commands import ready
from ctobserve.commands.cli import cli, ended
from ctobserve.errors import ExitStatus
from tests.unit.typed import COMMANDS, OPTIONS, parse

WORDS = 10_000
PLAUSIBLE = (
    *("0", "1", "53", "1024-65535", "7.5", "0.1", "65535", "4294967295", "0x10", "0xffffffff", "2147483647", "1e3", "0b1", "010"),
    *("10.0.0.1", "10.0.0.0/8", "10.0.0.0/255.0.0.0", "2001:db8::/32", "::", "fe80::1%lo", "::ffff:10.0.0.1", "0.0.0.0/0"),
    *("tcp", "udp", "icmpv6", "UNREPLIED", "assured", "syn_sent", "TIME_WAIT", "src,dport", "netns", "insert,drop", "confirm"),
    *("udp_timeout=10", "nf_conntrack_max=3", "tcp_timeout_close=0", "auto", "walk", "kprobe", "csv", "html", "entries", "jsonl"),
    *("all", "init", str(Path("/proc/self/ns/net").stat().st_ino), "ready", "ready/file", "."),
    *("12:03", "12:03:05", "12:03:05.25", "2026-11-26T12:03", "2026-11-26T12:03:05.123456789Z", "-90s", "-1.5h"),
    *("90s", "15m", "2h", "64MiB", "2GiB", "drop", "early_drop", "fill>=90%", "verdict:table_full"),
    *("127.0.0.1:9877", "[::1]:0", "[::]:9877", "0.0.0.0:1", "2026-11-26", "duckdb", "least=100"),
    *("-", "--", "-1", "-h", "--json", "nan", "inf"),
)
TYPED = {"TUPLE": "10.0.0.5"}  # what stands without a name: files, and this
# Of people's own choice.
NAMES = (
    "--netns",
    "--ready-file",
    "--key-file",
    "--from",
    "--web-config",
    "--record",
    "--host",
    "--image",
    "--set",
    "--sql",
    "--master",
)
DIGITS = ("\u00b2", "\uff11", "\u0663", "\u07c5", "\U0001d7d7", "\u00bd", "\u2167")  # superscript, of other scripts, fractions
ODD = (
    *DIGITS,
    *("\u017f", "\u0131", "\u212a", "\u00a0", "\u2028", "\u202e", "\ufeff", "\U0010ffff"),  # long s, dotless i, Kelvin, blanks
    *("\0", "\n", "\r", "\t", "\x1b[2J", "\x07", "\x7f", "\x85", "\udc80", "\udcff", "\ud800"),
    *(" ", "_", "+", "-", "--", "=", ",", "/", ":", "%", ".", "'", '"', "\\", "$(reboot)", ";", "#", "*", "{}", "%s", "[0-9]"),
)


def _mutated(some: Random, word: str) -> str:
    at = some.randrange(len(word) + 1)
    return some.choice(
        (
            word[:at] + some.choice(ODD) + word[at:],
            word[:at] + some.choice(ODD) + word[at + 1 :],
            word[:at] + word[at + 1 :],
            word + some.choice(("-", "/", ",", "=", "_0", " ", "\n")) + some.choice(("", word, "53", "8", "99")),
            word.swapcase(),
            word.translate({ord("0") + digit: some.choice(DIGITS) for digit in range(10)}),
            (word * some.choice((2, 1000)))[:6000],
        )
    )


def words(some: Random, count: int, meant: Sequence[str] = PLAUSIBLE) -> Iterator[str]:
    """As people type them who mean one of these, with slips and worse, and what no person would type."""
    for _ in range(count):
        word = some.choice(some.choice((meant, meant, PLAUSIBLE)))
        for _ in range(some.choice((0, 1, 1, 1, 2, 3))):
            word = _mutated(some, word)
        yield some.choice(
            (
                *(word,) * 6,
                str(some.randrange(-(1 << 70), 1 << 70)),
                "9" * some.choice((11, 300, 5000)),
                "".join(chr(some.randrange(0x110000)) for _ in range(some.randrange(20))),
                bytes(some.randrange(256) for _ in range(some.randrange(20))).decode("utf-8", "surrogateescape"),
            )
        )


def check(code: int, stderr: str) -> None:
    """A meaning without a word, or a refusal in one."""
    if code == ExitStatus.DONE:
        assert stderr == ""
    else:
        assert code == ExitStatus.USAGE, stderr
        assert stderr.startswith("ctobserve: ") and stderr[-1] == "\n" and stderr[:-1].isprintable(), stderr
        assert len(stderr) < 600


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_any_value_of_any_option(command, option, capsys):
    some = Random(f"{command} {option}")
    names = [one.human_readable_name for one in COMMANDS[command].params if isinstance(one, click.Argument)]
    file = [TYPED.get(name, name) for name in names]
    meant = [word for word in PLAUSIBLE if parse(command, *file, option, word)[0] == ExitStatus.DONE]
    assert meant, "no word here has a meaning for this option: add one"
    capsys.readouterr()
    for word in words(some, WORDS // len(OPTIONS) + 1, meant):
        code, request = parse(command, *file, *some.choice(((option, word), (f"{option}={word}",))))
        check(code, capsys.readouterr().err)
        if request is not None and option not in NAMES:
            # Names apart, what has a meaning is plain: digits of one script, no blank, no line end.
            assert word.isascii() and word.isprintable() and not set(word) & set(" +"), word
            assert "_" not in word or any(map(str.isalpha, word)), word


def test_any_part_of_a_connection(capsys):
    tuples = (
        "10.0.0.5",
        "10.0.0.9:443",
        "[2001:db8::1]:53",
        "2001:db8::1",
        ":53/udp",
        "10.0.0.5:40000-10.0.0.9:443/tcp",
        "::1-::2",
    )
    for word in words(Random("tuples"), 3000, tuples):
        code, request = parse("why", "--", word)
        check(code, capsys.readouterr().err)
        assert request is None or (word.isascii() and word.isprintable() and not set(word) & set("+_")), word


def test_any_command(capsys):
    for word in words(Random("commands"), 500):
        assert word not in COMMANDS
        code = ended(lambda word=word: cli.main([word], standalone_mode=False, prog_name="ctobserve"))
        check(code, capsys.readouterr().err)


def test_any_ready_file(capsys, tmp_path, monkeypatch):
    """None is there yet, so that each word either names a file that can be made or is refused."""
    monkeypatch.chdir(tmp_path)
    for word in words(Random("ready"), 2000):
        code = ended(lambda word=word: ready.withdraw(Path(word)))
        check(code, capsys.readouterr().err)
