"""A progress bar with the time that is left, on stderr, where a person is looking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from monitor.backfill import Advance


@contextmanager
def waiting(console: Console, what: str, *, shown: bool = True) -> Iterator[None]:
    """Say what takes its time, on a terminal, for as long as it does."""
    if not shown or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


@contextmanager
def progress_bar(console: Console, *, shown: bool = True) -> Iterator[Advance | None]:
    """Give a function that moves the bar; ``None`` when nothing is to be shown."""
    if not shown or not console.is_terminal:
        yield None
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def advance(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        yield advance
