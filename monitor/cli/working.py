"""Commands that do the work: demo, run, backfill, worker, report, baseline."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    ModelOption,
    NowOption,
    emit,
    fail,
    instant,
    opened,
    stamp,
    stderr,
    stdout,
)

if TYPE_CHECKING:
    from monitor.delivery import DeliveryReport
    from monitor.models import Verdict
    from monitor.run import RunReport
    from monitor.service import Service

FailOn = Annotated[
    str | None,
    typer.Option(
        "--fail-on", help="Leave with code 3 on a finding at or above this: warn or alert.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    app.command()(demo)
    app.command()(run)
    app.command()(backfill)
    app.command()(worker)
    app.command()(report)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the log, the store and the report.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Another seed makes another log.")] = 7,
    json: JsonOption = False,
) -> None:
    """Write a believable log with planted incidents, find them, and draw the report."""
    from monitor.demo import run_demo

    raise typer.Exit(run_demo(out, seed=seed, as_json=json))


def run(
    config: ConfigOption = None,
    model: ModelOption = None,
    now: NowOption = None,
    fail_on: FailOn = None,
    deliver: Annotated[bool, typer.Option(help="Send the messages that became due.")] = True,
    reports: Annotated[bool, typer.Option("--report/--no-report", help="Redraw the pages that changed.")] = True,
    json: JsonOption = False,
) -> None:
    """Run every due window once, deliver, draw, and exit."""
    from monitor.run import run_due
    from monitor.worker import new_worker_name

    with opened(config, model=model) as service:
        at = instant(now, service.config)
        done = run_due(service, now=at, worker=new_worker_name(), models=[model] if model else None)
        sent = _deliver(service) if deliver else None
        if reports:
            _draw(service, at, model)
        _finish(service, done, sent, at=at, fail_on=fail_on, as_json=json)


def backfill(
    start: Annotated[str, typer.Option("--from", help="First moment of the range.")],
    end: Annotated[str, typer.Option("--to", help="End of the range.")],
    config: ConfigOption = None,
    model: ModelOption = None,
    now: NowOption = None,
    alerts: Annotated[bool, typer.Option("--alerts/--no-alerts", help="Send messages for what is found.")] = False,
    reports: Annotated[bool, typer.Option("--report/--no-report", help="Redraw the pages that changed.")] = True,
    fail_on: FailOn = None,
    json: JsonOption = False,
) -> None:
    """Run every window of a range, oldest first; interrupted, it goes on where it stopped."""
    from monitor.backfill import backfill_range
    from monitor.progress import progress_bar

    with opened(config, model=model) as service:
        first = instant(start, service.config, option="--from")
        last = instant(end, service.config, option="--to")
        if first >= last:
            fail(f"--from {start} is not before --to {end}", Exit.USAGE)
        at = instant(now, service.config)
        with progress_bar(stderr(), shown=not json) as advance:
            done = backfill_range(
                service,
                start=first,
                end=last,
                now=at,
                alerts=alerts,
                models=[model] if model else None,
                advance=advance,
            )
        sent = _deliver(service) if alerts else None
        if reports:
            _draw(service, at, model)
        _finish(service, done, sent, at=at, fail_on=fail_on, as_json=json)


def worker(
    config: ConfigOption = None,
    max_ticks: Annotated[int | None, typer.Option(help="Stop after so many ticks.", show_default=False)] = None,
) -> None:
    """Run as a daemon: plan, work, deliver and draw until told to stop."""
    from monitor.cli.common import config_path, read_config, start_logging
    from monitor.store import StoreError
    from monitor.worker import Worker

    loaded = read_config(config)
    start_logging(loaded)
    try:
        code = Worker(loaded, config_path(config)).run(max_ticks=max_ticks)
    except StoreError as error:
        fail(f"store: {error}")
    if code:
        # A thread that hangs would keep the interpreter from ending.
        os._exit(code)


def report(
    config: ConfigOption = None,
    model: ModelOption = None,
    now: NowOption = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the index in a browser.")] = False,
    out: Annotated[Path | None, typer.Option(help="Another folder than reports.dir.", show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """Build the static site anew, from the store alone."""
    from monitor.reports.site import build_site

    with opened(config, model=model) as service:
        at = instant(now, service.config)
        index = build_site(service.store, service.config, now=at, out=out, models=[model] if model else None)
        if json:
            emit("report", {"index": str(index)})
        else:
            stdout().print(f"report: {index}", soft_wrap=True, highlight=False)
        if open_:
            import webbrowser

            webbrowser.open(index.resolve().as_uri())


def _deliver(service: Service) -> DeliveryReport:
    from monitor.sending import deliver_due

    return deliver_due(service)


def _draw(service: Service, at: datetime, model: str | None) -> None:
    from monitor.drawing import draw

    draw(service, now=at, models=[model] if model else None)


def _finish(
    service: Service,
    done: RunReport,
    sent: DeliveryReport | None,
    *,
    at: datetime,
    fail_on: str | None,
    as_json: bool,
) -> None:
    """Tell what was done, and leave with the code that a script can rely on."""
    told = {
        "now": stamp(at),
        "windows": done.windows,
        "states": done.states,
        "skipped": done.skipped,
        "restated": done.restated,
        "errors": done.errors,
        "sent": sent.sent if sent else 0,
        "undelivered": (sent.retried + sent.dead + len(sent.broken)) if sent else 0,
        "report": str(service.config.reports.dir / "index.html"),
    }
    if as_json:
        emit("run", told)
    else:
        console = stdout()
        states = ", ".join(f"{n} {state}" for state, n in sorted(done.states.items())) or "nothing was due"
        console.print(f"{done.windows} windows: {states}", highlight=False)
        for line in done.errors:
            console.print(f"could not be run: {line} (see `monitor status`)", style="red", highlight=False)
        if done.skipped:
            console.print(f"{done.skipped} windows were too old and skipped; `monitor backfill` runs them")
        console.print(f"report: {told['report']}", soft_wrap=True, highlight=False)
    raise typer.Exit(_exit_code(done, sent, fail_on))


def _exit_code(done: RunReport, sent: DeliveryReport | None, fail_on: str | None) -> Exit:
    if done.errors:
        return Exit.FAILED
    if fail_on is not None and done.worst.rank >= _least(fail_on).rank:
        return Exit.FINDING
    if sent is not None and not sent.ok:
        return Exit.UNDELIVERED
    return Exit.DONE


def _least(fail_on: str) -> Verdict:
    from monitor.models import Verdict

    if fail_on not in ("warn", "alert"):
        fail(f"--fail-on: expected warn or alert, found {fail_on!r}", Exit.USAGE)
    return Verdict(fail_on)
