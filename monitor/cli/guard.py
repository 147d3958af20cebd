"""The last line between an error and the person at the terminal: what, where, what to do, and never a traceback."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from monitor.cli.common import Exit, fail


class Guarded(TyperGroup):
    """A group of commands whose known errors become a sentence on stderr and an exit code."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader has seen enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(Exit.DONE) from None
        except Exception as error:
            _explain(error)
            raise


def _explain(error: Exception) -> None:
    """Leave with a sentence where the error is one that a person can do something about."""
    from monitor.channels import ChannelError
    from monitor.reports.files import ReportError
    from monitor.sources import SourceError
    from monitor.store import StoreError

    if isinstance(error, SourceError):
        fail(error.public)
    if isinstance(error, StoreError):
        fail(f"store: {error}")
    if isinstance(error, ReportError):
        fail(str(error))
    if isinstance(error, ChannelError):
        fail(error.reason, Exit.UNDELIVERED)
    if isinstance(error, OSError):
        fail(f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}")
    if type(error).__module__.startswith("typer") or os.environ.get("MONITOR_LOG_LEVEL", "").upper() == "DEBUG":
        return
    fail(
        f"unexpected {type(error).__name__} in {_where(error)}: this is a mistake in the monitor, not yours. "
        "MONITOR_LOG_LEVEL=DEBUG shows the details."
    )


def _where(error: Exception) -> str:
    """Module and line where an error was raised, without anything that it says: the text may hold data."""
    trace, found = error.__traceback__, "?"
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "?")
        if str(module).startswith(("monitor", "detectors")):
            found = f"{module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found
