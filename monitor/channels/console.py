"""Messages on the terminal, for trying things out; on stderr, as stdout belongs to ``--json``."""

from __future__ import annotations

import sys
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from monitor.channels.channel import Delivered, RetryLater
from monitor.channels.text import clean, glyph
from monitor.config import Destination
from monitor.models import Message, OutboxItem, Verdict

_COLOURS = {Verdict.ALERT: "red", Verdict.WARN: "yellow", Verdict.OK: "green"}


def open_console(name: str, destination: Destination) -> ConsoleChannel:  # noqa: ARG001 - the table's shape
    return ConsoleChannel()


class ConsoleChannel:
    """Prints each message as a panel."""

    def __init__(self, file: IO[str] | None = None) -> None:
        self._file = file

    def send(self, item: OutboxItem) -> Delivered:
        # Looked up at each message: whoever redirects stderr after start expects to be heard.
        console = Console(file=self._file or sys.stderr, highlight=False, soft_wrap=False)
        try:
            console.print(panel(item.message))
        except OSError as error:
            raise RetryLater(f"the terminal took nothing ({type(error).__name__})") from None
        return Delivered()

    def close(self) -> None:
        """The terminal stays open."""


def panel(message: Message) -> RenderableType:
    """The message as a panel: findings as a table, facts below; values are text, never markup."""
    colour = _COLOURS.get(message.severity, "white")
    parts: list[RenderableType] = []
    if message.possible_repeat:
        parts.append(Text("(possibly a repeat)", style="dim"))
    parts.append(Text(clean(message.summary)))
    if message.findings:
        table = Table.grid(padding=(0, 2))
        for finding in message.findings:
            tone = _COLOURS.get(finding.verdict, "white")
            table.add_row(Text(clean(finding.name, lines=False), style=f"bold {tone}"), Text(clean(finding.text)))
        parts += [Text(""), table]
    if message.more:
        parts.append(Text(f"… and {message.more} more", style="dim"))
    facts = [(label, value) for label, value in message.facts.items()]
    facts += [(label, value) for label, value in _links(message) if value]
    if message.advice:
        facts.insert(0, ("What to do", message.advice))
    if facts:
        grid = Table.grid(padding=(0, 2))
        for label, value in facts:
            grid.add_row(Text(clean(label, lines=False), style="dim"), Text(clean(value)))
        parts += [Text(""), grid]
    title = Text(f"{glyph(message)} {clean(message.title, lines=False)}", style=f"bold {colour}")
    return Panel(Group(*parts), title=title, title_align="left", border_style=colour, padding=(0, 1))


def _links(message: Message) -> list[tuple[str, str]]:
    return [
        ("Report", message.report_url or ""),
        ("Runbook", message.runbook or ""),
        ("Owner", message.owner or ""),
        ("Incident", ", ".join(message.incident_ids)),
    ]
