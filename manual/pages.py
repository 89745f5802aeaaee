"""The pages: of whatever commands there are, from their own help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping

import click

from ctobserve import __version__
from ctobserve.commands.cli import COMMANDS, EXAMPLES, cli
from ctobserve.commands.help import OUTPUT, SECTIONS, Example, Option
from ctobserve.render.schema import schema
from ctobserve_lab.cli import cli as lab
from ctobserve_lab.scenarios import SCENARIOS
from manual import told
from manual.roff import Page, bold, escaped, italic, marked
from manual.words import CAVEATS, EXIT, OVERHEAD

FILES: Mapping[str, str] = {
    "/var/cache/ctobserve": "What was worked out for this kernel, for the next start; it may be removed at any time.",
    "/var/lib/ctobserve": "Recordings of the unit ctobserve\\-recorder. Purging the Debian package removes them.",
    "/usr/lib/systemd/system/ctobserve-export.service": "The exporter, where the Debian package is installed; not enabled.",
    "/usr/lib/systemd/system/ctobserve-recorder.service": "The flight recorder; not enabled.",
    "/usr/share/doc/ctobserve": "The pages that are called docs/ here, SECURITY.md, alerts and a dashboard.",
}


def pages() -> Iterator[tuple[str, str]]:
    """Each by its name, as a file of man(7)."""
    yield "ctobserve", _first().text()
    context = _context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield f"ctobserve-{name}", _of_command(name, command, context).text()
    yield "ctobserve-lab", _of_lab().text()


def _context(group: click.Group, name: str = "ctobserve") -> click.Context:
    return click.Context(group, info_name=name, **group.context_settings)


def _page(name: str, says: str) -> Page:
    page = Page(name, told.released(), f"ctobserve {__version__}")
    page.section("Name")
    page.line(f"{escaped(name)} \\- {escaped(_phrase(says))}")
    return page


def _phrase(says: str) -> str:
    """A sentence as it stands in a list of pages."""
    first = says.rstrip(".")
    return first if first[1:2].isupper() else first[:1].lower() + first[1:]


def _first() -> Page:
    page = _page("ctobserve", "what the kernel's connection tracking does, seen by eBPF")
    context = _context(cli)
    _synopsis(page, context, cli)
    _description(page, cli)
    page.section("Commands")
    for name, listed in COMMANDS.items():
        page.item(f"{bold(f'ctobserve-{name}')}(8)", escaped(listed.short_help))
    _options(page, cli, context)
    page.section("Fields")
    page.paragraph(
        marked("What the commands tell of entries, events and lost packets. Unknown is null in JSON and - in text, never 0.")
    )
    for name, says in told.table("README.md", "| field | meaning |"):
        page.item(bold(name), marked(says))
    page.section("Overhead")
    page.paragraph(marked(told.paragraph("README.md", "Cost:")))
    page.section("Caveats")
    page.paragraph(marked(f"Not seen: {told.paragraph('README.md', 'Blind to:')}"))
    _exit_status(page)
    page.section("Environment")
    page.paragraph(marked(told.paragraph("README.md", "Environment:")))
    page.section("Files")
    for path, says in FILES.items():
        page.item(bold(path), says)
    page.section("Security")
    page.paragraph(
        marked("Root is not needed, capabilities are: `ctobserve check` names those that are missing. What is promised:")
    )
    for promise, _held in told.table("SECURITY.md", "| promise | held to it by |"):
        page.item("\\(bu", marked(promise))
    _examples(page, EXAMPLES, told.session("report"))
    page.section("See also")
    page.paragraph(", ".join(f"{bold(name)}({number})" for name, number in (("conntrack", 8), ("nft", 8), ("ip-netns", 8))))
    return page


def _of_command(name: str, command: click.Command, parent: click.Context) -> Page:
    page = _page(f"ctobserve-{name}", command.get_short_help_str(200) if name not in COMMANDS else COMMANDS[name].short_help)
    context = click.Context(command, parent=parent, info_name=name)
    _synopsis(page, context, command)
    _description(page, command)
    _options(page, command, context)
    page.section("Fields")
    _fields(page, name)
    for title, words in (("Overhead", OVERHEAD), ("Caveats", CAVEATS)):
        page.section(title)
        page.paragraph(marked(words.get(name, "")) + f" {bold('ctobserve')}(8) has what holds for all commands.")
    _exit_status(page)
    page.section("Security")
    promised = "What others chose, such as names of processes and namespaces, is shown escaped; nothing is changed on this host."
    page.paragraph(f"{promised} {bold('ctobserve')}(8) has all promises.")
    _examples(page, getattr(command, "examples", ()), told.session(name))
    page.section("See also")
    page.paragraph(f"{bold('ctobserve')}(8)")
    return page


def _of_lab() -> Page:
    page = _page("ctobserve-lab", "incidents of connection tracking to learn from")
    context = _context(lab, "ctobserve-lab")
    _synopsis(page, context, lab)
    _description(page, lab)
    page.section("Commands")
    for name in lab.list_commands(context):
        command = lab.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name)
        page.part(" ".join([name, *command.collect_usage_pieces(inner)]))
        _told(page, command)
        for param in command.get_params(inner):
            _option(page, param, inner)
    _options(page, lab, context)
    page.section("Incidents")
    for name, scenario in SCENARIOS.items():
        page.item(bold(name), escaped(scenario.symptom))
    _exit_status(page)
    example = Example("one incident with its story: symptom, usual tools, ctobserve, the fix", "ctobserve-lab guide table_full")
    asked = Example("a recording of it, on any machine", 'ctobserve report --from "$(ctobserve-lab recording table_full)"')
    _examples(page, (example, asked), [])
    page.section("See also")
    page.paragraph(f"{bold('ctobserve')}(8)")
    return page


def _synopsis(page: Page, context: click.Context, command: click.Command) -> None:
    page.section("Synopsis")
    page.paragraph(" ".join([bold(context.command_path), *map(italic, command.collect_usage_pieces(context))]))


def _told(page: Page, command: click.Command) -> None:
    """Its paragraphs; of those that click is not to fold the lines stay as they are."""
    for some in inspect.cleandoc(command.help or "").split("\n\n"):
        if some.startswith("\b\n"):
            page.copied(some.splitlines()[1:])
        else:
            page.paragraph(marked(" ".join(some.split())))


def _description(page: Page, command: click.Command) -> None:
    page.section("Description")
    _told(page, command)


def _options(page: Page, command: click.Command, context: click.Context) -> None:
    """Under the titles that help has."""
    page.section("Options")
    params = [param for param in command.get_params(context) if param.get_help_record(context)]
    for section in SECTIONS:
        these = [param for param in params if (param.section if isinstance(param, Option) else OUTPUT) == section]
        if these and isinstance(params[0], Option):
            page.part(section)
        for param in these:
            _option(page, param, context)


def _option(page: Page, param: click.Parameter, context: click.Context) -> None:
    record = param.get_help_record(context)
    if record:
        names, says = record
        head = re.sub(r"[^\s,]+", lambda word: bold(word[0]) if word[0].startswith("-") else italic(word[0]), names)
        page.item(head, marked(says))


def _fields(page: Page, name: str) -> None:
    """What its JSON has at the top; of a stream, what an event has; of the exporter its metrics; of what gives none, that."""
    if name == "export":
        page.paragraph("What Prometheus is given.")
        for metric, _, says in told.table("docs/export.md", "| metric | labels | says |"):
            page.item(bold(metric), marked(says))
        return
    found = schema()["$defs"].get("event" if name == "events" else name, {}).get("properties", {})
    if not found:
        page.paragraph(marked("It prints no document of JSON; docs/ has what it writes."))
        return
    page.paragraph(marked("Keys of --json; docs/json.md has those of the objects in them, and docs/schema.json all types."))
    for key, value in found.items():
        page.item(bold(key), marked(value.get("description", "as for all commands: docs/json.md")))


def _exit_status(page: Page) -> None:
    page.section("Exit status")
    for status, says in EXIT.items():
        page.item(bold(str(int(status))), marked(says))


def _examples(page: Page, examples: tuple[Example, ...], session: list[str]) -> None:
    page.section("Examples")
    for example in examples:
        page.paragraph(f"{escaped(example.what[:1].upper() + example.what[1:])}:")
        page.copied([f"# {example.line}"])
    if session:
        page.paragraph("A full table, as it was recorded in a lab:")
        page.copied(session)
