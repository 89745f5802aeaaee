"""The questions: a file of SQL each (fleet/sql), whose head says what it asks, with which parameters, and what the columns hold.

The SQL is what DuckDB and Spark understand alike; a parameter is `$name`, and always bound, never put into the text.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ctobserve.documents.fleet import OWN, Chart, Parameter, Question, Value
from ctobserve.errors import UsageError
from ctobserve.host import files
from ctobserve.model import printable

# In the order in which somebody with many hosts asks.
QUESTIONS = ("losses", "clusters", "sources", "full", "churn", "settings", "changes", "verdicts")
SPANS, COVERED = "spans", "covered"
MOST_BYTES = 1 << 20  # of your own SQL
PARAMETER = re.compile(r"(\w+) = (\S+): (.*)")
COLUMN = re.compile(r"(\w+): (.*)")
WHOLE, REAL = re.compile("-?[0-9]{1,18}"), re.compile(r"-?[0-9]{1,18}\.[0-9]{1,9}")


def question(name: str) -> Question:
    """One of QUESTIONS. Raises ValueError where the head of its file is not as it should be."""
    text = statement(name)
    head = [line.removeprefix("--").removeprefix(" ") for line in text.splitlines() if line.startswith("--")]
    says, _, rest = "\n".join(head).partition("\n\n")
    more, _, lists = rest.partition("\n\n")
    parameters = tuple(_parameter(line) for line in _listed(lists, "Parameters:"))
    columns = dict(_column(line) for line in _listed(lists, "Columns:"))
    (drawn,) = (line.removeprefix("Chart: ").split() for line in lists.splitlines() if line.startswith("Chart: "))
    return Question(name, says, " ".join(more.split()), parameters, columns, Chart(*drawn), text)


def statement(name: str) -> str:
    """The text of a file of fleet/sql."""
    found = pkgutil.get_data("ctobserve.fleet", f"sql/{name}.sql")
    assert found is not None  # None is of loaders that have no files
    return found.decode("utf-8", "strict")


def own(path: Path) -> Question:
    """SQL of somebody's own. Raises UsageError where it cannot be read."""
    try:
        content = files.head(path, MOST_BYTES + 1)
        text = content.decode("utf-8", "strict")
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"--sql {printable(str(path))}: {why}; give a file with one query, in UTF-8") from None
    if len(content) > MOST_BYTES:
        raise UsageError(f"--sql {printable(str(path))} has more than {MOST_BYTES} bytes; give a file with one query")
    return Question(OWN, f"your own SQL, {printable(path.name)}", "", (), {}, None, text)


def chosen(asked: Question, given: Mapping[str, str]) -> dict[str, Value]:
    """The value of each parameter: as given, in the type of its default, else the default. Of your own SQL all that are given.

    Raises UsageError.
    """
    if asked.name == OWN:
        return {name: _value(text) for name, text in given.items()}
    known = {one.name: one for one in asked.parameters}
    for name in given:
        if name not in known:
            raise UsageError(f"--set {printable(name)}: {asked.name} has no such parameter; it has {', '.join(known)}")
    return {name: _typed(one, given[name]) if name in given else one.default for name, one in known.items()}


def _typed(one: Parameter, text: str) -> Value:
    if isinstance(one.default, str):
        return text
    value = _value(text)
    if isinstance(value, str) or (isinstance(value, float) and isinstance(one.default, int)):
        kind = "whole number" if isinstance(one.default, int) else "number"
        raise UsageError(f"--set {one.name}={printable(text)} is no {kind}; write it like {one.name}={one.default}")
    return type(one.default)(value)


def _value(text: str) -> Value:
    """A number where it is written as one."""
    return int(text) if WHOLE.fullmatch(text) else float(text) if REAL.fullmatch(text) else text


def _listed(lists: str, title: str) -> Iterator[str]:
    """What stands below a title, one after the other."""
    within = False
    for line in lists.splitlines():
        if line.startswith("  "):
            if within:
                yield line.strip()
        else:
            within = line == title


def _parameter(line: str) -> Parameter:
    name, default, says = _matched(PARAMETER, line)
    return Parameter(name, _value(default), says)


def _column(line: str) -> tuple[str, str]:
    name, says = _matched(COLUMN, line)
    return name, says


def _matched(pattern: re.Pattern[str], line: str) -> tuple[str, ...]:
    found = pattern.fullmatch(line)
    if not found:
        raise ValueError(f"{line!r} is not like {pattern.pattern}")
    return found.groups()
