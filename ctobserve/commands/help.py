"""How help looks: options under titles, the same in every command; examples at the end, where a terminal still shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click

LOOK, WHAT_IF, ENTRIES, OBSERVE, RECORDED, FLIGHT, DATASET, ENGINE, HTTP, OUTPUT, SCRIPTS = SECTIONS = (
    "What to look at",
    "What if",
    "Which entries",
    "How to observe",
    "From a recording",
    "Flight recorder",
    "Dataset",
    "Who answers",
    "Over HTTP",
    "Output",
    "For scripts",
)
Function = TypeVar("Function", bound=Callable[..., Any])


class Example(NamedTuple):
    """A line that can be typed as it is, and what it is for."""

    what: str
    line: str


class Option(click.Option):
    """An option that knows under which title of the help it stands."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        """The rest as click has it."""
        super().__init__(*args, **kwargs)
        self.section = section


def option(section: str, *names: str, **attributes: Any) -> Callable[[Function], Function]:
    """click.option, under the title `section`."""
    return click.option(*names, cls=Option, section=section, **attributes)


class Command(click.Command):
    """A command whose help has its options under titles, and examples."""

    def __init__(self, *args: Any, examples: Sequence[Example], **kwargs: Any) -> None:
        """The rest as click has it."""
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """All with their texts in one column; -h is of the output."""
        rows: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record:
                rows[param.section if isinstance(param, Option) else OUTPUT].append(record)
        width = max(len(name) for records in rows.values() for name, _ in records)
        for section, records in rows.items():
            if records:
                with formatter.section(section):
                    formatter.write_dl([(name.ljust(width), text) for name, text in records])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        write_examples(self.examples, formatter)


def write_examples(examples: Sequence[Example], formatter: click.HelpFormatter) -> None:
    """Each below what it is for, never broken: it can be copied."""
    with formatter.section("Examples"):
        indent = " " * formatter.current_indent
        for example in examples:
            formatter.write(f"{indent}# {example.what}\n{indent}{example.line}\n")
