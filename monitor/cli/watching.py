"""What a worker says to a person who watches it in a terminal: what it watches, and one line for each window."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from monitor.cli import showing
from monitor.cli.telling import verdict_of

if TYPE_CHECKING:
    from rich.console import Console

    from monitor.models import Claim
    from monitor.service import Service

MOST = 20
"""Models that are named at the start."""


class Watching:
    """Lines for a person, where log lines are for machines; what goes wrong is in the log."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def started(self, service: Service) -> None:
        from monitor import schedule

        config, now = service.config, datetime.now(UTC)
        told = [f"worker: watches {showing.counted(len(config.models), 'model')}, and looks for due windows every "
                f"{config.worker.tick.total_seconds():g} s; Ctrl-C ends it"]  # fmt: skip
        for name, model in list(config.models.items())[:MOST]:
            due = schedule.next_due(model, config, now=now)[:1]
            told.append(f"  {name}: next window due {showing.moment(due[0])}" if due else f"  {name}: no window is due")
        if len(config.models) > MOST:
            told.append(f"  and {len(config.models) - MOST} more")
        told.append(f"  report: {config.reports.dir / 'index.html'}")
        if config.worker.metrics:
            told.append(f"  health: http://{config.worker.metrics}/readyz")
        self._say(*told)

    def done(self, service: Service, claim: Claim) -> None:
        window = claim.window
        found = service.store.windows(claim.model, start=window.start, end=window.end)
        states = {row.job: row.state for row in found}
        row = next((row for row in found if row.job is claim.job), None)
        results = service.store.results(claim.model, job=claim.job, start=window.start, end=window.end)
        told = [f"{claim.model} {claim.job.value} of {showing.span(window)}"]
        if row is not None and not row.state.finished:
            told.append(f"waits: {row.reason or row.state.value}")
        elif row is not None and row.state.value in ("error", "skipped"):
            told.append(f"{row.state.value}: {row.reason}")
        else:
            verdict = verdict_of(results, states)
            told.append(f"{showing.GLYPHS[verdict.value]} {verdict.value.replace('_', ' ')}")
            if row is not None:
                told += [] if row.n_rows is None else [f"{row.n_rows:,} rows"]
                told += [row.reason] if row.reason else []
        self._say(f"{datetime.now(UTC):%H:%M:%SZ}  {', '.join(told)}")

    def ended(self) -> None:
        self._say("worker: stopped")

    def _say(self, *lines: str) -> None:
        for line in lines:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
