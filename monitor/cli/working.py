"""Commands that do the work: demo, run, backfill, worker, report."""

from __future__ import annotations

import os
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from monitor.cli import showing, telling
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
    from monitor.rejudging import Change, Rejudged
    from monitor.run import RunReport
    from monitor.service import Service

FailOn = Annotated[
    str | None,
    typer.Option(
        "--fail-on", help="Leave with code 3 on a finding at or above this: warn or alert.", show_default=False
    ),
]


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the log, the store and the report.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Another seed makes another log.")] = 7,
    json: JsonOption = False,
) -> None:
    """A log with planted incidents: found, reported, drawn.

    Everything goes into one folder that is written anew each time.
    """
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
    """Run every due window once, then exit.

    What was found is saved, sent and drawn; a second run does only what has become due since.
    """
    from monitor.progress import waiting
    from monitor.run import run_due
    from monitor.worker import new_worker_name

    _check_fail_on(fail_on)
    with opened(config, model=model) as service:
        at = instant(now, service.config)
        asked = _Asked(service, model, at=at, fail_on=fail_on, as_json=json)
        service.store.hurry(asked.names)
        with waiting(stderr(), "checking the windows that are due", shown=not json):
            done = run_due(service, now=at, worker=new_worker_name(), models=[model] if model else None)
        sent = _deliver(service) if deliver else None
        asked.finish(done, sent, drawn=_draw(service, at, model) if reports else None)


def backfill(
    start: Annotated[str, typer.Option("--from", help="First moment of the range.")],
    end: Annotated[str, typer.Option("--to", help="End of the range.")],
    config: ConfigOption = None,
    model: ModelOption = None,
    now: NowOption = None,
    alerts: Annotated[bool, typer.Option("--alerts/--no-alerts", help="Send messages for what is found.")] = False,
    rejudge: Annotated[
        bool,
        typer.Option("--rejudge", help="Judge stored windows again by today's config; no source is read."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --rejudge: only show which verdicts would be others.")
    ] = False,
    reports: Annotated[bool, typer.Option("--report/--no-report", help="Redraw the pages that changed.")] = True,
    fail_on: FailOn = None,
    json: JsonOption = False,
) -> None:
    """Run the windows of a range, oldest first.

    Interrupted, it goes on where it stopped; windows that were done before are left as they are.  With --rejudge those
    are judged again from their stored counts, and nothing else is done.
    """
    from monitor.backfill import backfill_range
    from monitor.progress import progress_bar

    _check_fail_on(fail_on)
    with opened(config, model=model) as service:
        first = instant(start, service.config, option="--from")
        last = instant(end, service.config, option="--to")
        if first >= last:
            fail(f"--from {start} is not before --to {end}", Exit.USAGE)
        at = instant(now, service.config)
        if first >= at:
            fail(f"--from {start} is in the future: nothing has been logged there yet", Exit.USAGE)
        if rejudge:
            _rejudge(
                service,
                model,
                (first, last),
                at=at,
                alerts=alerts and not dry_run,
                reports=reports and not dry_run,
                fail_on=fail_on,
                as_json=json,
                dry=dry_run,
            )
        if dry_run:
            fail("--dry-run goes with --rejudge", Exit.USAGE)
        asked = _Asked(service, model, at=at, fail_on=fail_on, as_json=json)
        service.store.hurry(asked.names)
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
        asked.finish(done, sent, drawn=_draw(service, at, model) if reports else None)


def _rejudge(
    service: Service,
    model: str | None,
    span: tuple[datetime, datetime],
    *,
    at: datetime,
    alerts: bool,
    reports: bool,
    fail_on: str | None,
    as_json: bool,
    dry: bool,
) -> NoReturn:
    """Judge the stored windows of a range again, draw the pages from the store, tell what became of them, and leave."""
    from monitor.progress import progress_bar
    from monitor.rejudging import rejudge_range

    start, end = span
    models = [model] if model else None
    with progress_bar(stderr(), shown=not as_json) as advance:
        done = rejudge_range(
            service, start=start, end=end, now=at, alerts=alerts, models=models, advance=advance, dry=dry
        )
    sent = _deliver(service) if alerts else None
    drawn = None
    if reports:
        # Pages come from the store; Evidently's would need a sample of the rows.
        from monitor.reports.site import build_site

        drawn = build_site(service.store, service.config, now=at, models=models)
    worst = max((told.worst for told in done), key=lambda verdict: verdict.rank)
    told = {
        "now": stamp(at),
        "windows": sum(each.windows for each in done),
        "dry_run": dry,
        "restated": sum(each.restated for each in done),
        "unchanged": sum(each.unchanged for each in done),
        "left": sum(sum(each.left.values()) for each in done),
        "errors": [error for each in done for error in each.errors],
        "worst": worst.value,
        "sent": sent.sent if sent else 0,
        "undelivered": (sent.retried + sent.dead + len(sent.broken)) if sent else 0,
        "models": [_rejudged(each) for each in done],
        "report": str(drawn) if drawn else None,
    }
    if as_json:
        emit("rejudge", told)
    else:
        _show_rejudged(told, sent)
    if told["errors"]:
        raise typer.Exit(Exit.FAILED)
    if fail_on is not None and worst.value in ("warn", "alert") and worst.rank >= _least(fail_on).rank:
        raise typer.Exit(Exit.FINDING)
    raise typer.Exit(Exit.DONE if sent is None or sent.ok else Exit.UNDELIVERED)


def _rejudged(told: Rejudged) -> dict[str, Any]:
    left = [{"reason": reason, "windows": n} for reason, n in sorted(told.left.items(), key=lambda item: -item[1])]
    return {
        "model": told.model,
        "windows": told.windows,
        "restated": told.restated,
        "unchanged": told.unchanged,
        "left": left,
        "errors": told.errors,
        "worst": told.worst.value,
        "changes": [_change(each) for each in told.changes],
    }


def _change(told: Change) -> dict[str, Any]:
    """One verdict that is another now, for a machine."""
    return {
        "check": told.check.value,
        "feature": told.feature,
        "segment": told.segment,
        "metric": told.metric,
        "kind": told.kind,
        "window_start": stamp(told.window.start),
        "window_end": stamp(told.window.end),
        "verdict_then": None if told.then is None else told.then.value,
        "verdict_now": None if told.now is None else told.now.value,
    }


MOST_CHANGES = 20
"""Kinds of changed verdicts that are told one by one in a terminal; JSON has all."""


def _alike(change: dict[str, Any]) -> str:
    """What a changed verdict is of, and what it was and is."""
    of = [change["kind"], change["feature"], change["metric"], change["segment"] and f"({change['segment']})"]
    then, now = (str(change[side] or "not told").replace("_", " ") for side in ("verdict_then", "verdict_now"))
    return f"{' '.join(str(each) for each in of if each)} {then} → {now}"


def _show_rejudged(told: dict[str, Any], sent: DeliveryReport | None) -> None:
    console = stdout()
    for each in told["models"]:
        looked_at = f"{each['model']}: {showing.counted(each['windows'], 'window')}"
        word = "would say" if told["dry_run"] else "say"
        same = f"{each['unchanged']} the same{'; nothing is saved' if told['dry_run'] else ''}"
        console.print(f"{looked_at}, {each['restated']} {word} something else now, {same}")
        alike = Counter(_alike(change) for change in each["changes"])
        for what, n in alike.most_common(MOST_CHANGES):
            console.print(f"  {showing.counted(n, 'window')}: {what}", markup=False, soft_wrap=True)
        if len(alike) > MOST_CHANGES:
            console.print(f"  and {len(alike) - MOST_CHANGES} more kinds of change (--json has all)")
        for left in each["left"]:
            console.print(f"  {left['windows']} left as they are: {left['reason']}", markup=False, soft_wrap=True)
    if told["sent"] or told["undelivered"]:
        console.print(f"messages: {told['sent']} sent, {told['undelivered']} not delivered")
    for name, reason in (sent.broken if sent else {}).items():
        console.print(f"{name} takes no messages: {reason}", style="red", markup=False, soft_wrap=True)
    if told["report"]:
        console.print(f"report: {told['report']}", soft_wrap=True, markup=False)


def worker(
    config: ConfigOption = None,
    max_ticks: Annotated[int | None, typer.Option(help="Stop after so many ticks.", min=1, show_default=False)] = None,
) -> None:
    """The daemon: plan, work, deliver and draw until told to stop.

    In a terminal it says what it watches, and a line for each window; elsewhere there is only the log.
    """
    from monitor.cli.common import config_path, read_config, start_logging
    from monitor.cli.watching import Watching
    from monitor.store import StoreError
    from monitor.worker import work

    loaded = read_config(config)
    start_logging(loaded)
    try:
        onlooker = Watching(stderr()) if sys.stderr.isatty() else None
        code = work(loaded, config_path(config), max_ticks=max_ticks, onlooker=onlooker)
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
    """Draw the pages anew, from the store alone."""
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


def _draw(service: Service, at: datetime, model: str | None) -> Path:
    from monitor.drawing import draw
    from monitor.progress import waiting

    with waiting(stderr(), "drawing the pages"):
        draw(service, now=at, models=[model] if model else None)
    return service.config.reports.dir / "index.html"


class _Asked:
    """One run or backfill as it was asked for: remembers how things stood before, and tells what was done."""

    def __init__(
        self, service: Service, model: str | None, *, at: datetime, fail_on: str | None, as_json: bool
    ) -> None:
        self._service = service
        self.names = [model] if model else list(service.config.models)
        self._at, self._fail_on, self._as_json = at, fail_on, as_json
        self._since = service.store.now()
        self._first_time = {name for name in self.names if not service.store.windows(name)}

    def finish(self, done: RunReport, sent: DeliveryReport | None, *, drawn: Path | None) -> NoReturn:
        """Tell what was done, and leave with the code that a script can rely on."""
        models = telling.summaries(self._service, self.names, since=self._since, first_time=self._first_time)
        told = {
            "now": stamp(self._at),
            "windows": done.windows,
            "states": done.states,
            "skipped": done.skipped,
            "restated": done.restated,
            "errors": done.errors,
            "worst": done.worst.value,
            "sent": sent.sent if sent else 0,
            "undelivered": (sent.retried + sent.dead + len(sent.broken)) if sent else 0,
            "models": models,
            "report": str(drawn) if drawn else None,
        }
        if self._as_json:
            emit("run", told)
        else:
            self._show(told, done, sent)
        raise typer.Exit(_exit_code(done, sent, self._fail_on))

    def _show(self, told: dict[str, Any], done: RunReport, sent: DeliveryReport | None) -> None:
        console = stdout()
        telling.show(told["models"], self._service, console)
        if done.restated:
            console.print(f"{showing.counted(done.restated, 'window')} judged again, as rows or labels came in")
        if done.skipped:
            console.print(f"{showing.counted(done.skipped, 'window')} skipped as too old; `monitor backfill` runs them")
        if told["sent"] or told["undelivered"]:
            console.print(f"messages: {told['sent']} sent, {told['undelivered']} not delivered")
        for name, reason in (sent.broken if sent else {}).items():
            console.print(f"{name} takes no messages: {reason}", style="red", markup=False, soft_wrap=True)
        if not self._service.config.alerts.destinations and any(item["open_incidents"] for item in told["models"]):
            console.print("nobody was told: no destination is configured under `alerts:`", style="yellow")
        if told["report"]:
            console.print(f"report: {told['report']}", soft_wrap=True, markup=False)
        worst = next((item["open_incidents"][0] for item in told["models"] if item["open_incidents"]), None)
        if worst is not None:
            console.print(f"next: `monitor explain {worst}` for the evidence, or open the report", markup=False)


def _exit_code(done: RunReport, sent: DeliveryReport | None, fail_on: str | None) -> Exit:
    if done.errors:
        return Exit.FAILED
    if fail_on is not None and done.worst.value in ("warn", "alert") and done.worst.rank >= _least(fail_on).rank:
        return Exit.FINDING
    if sent is not None and not sent.ok:
        return Exit.UNDELIVERED
    return Exit.DONE


def _check_fail_on(fail_on: str | None) -> None:
    """Before any work is done: a misspelt limit must not cost a run."""
    if fail_on not in (None, "warn", "alert"):
        fail(f"--fail-on: expected warn or alert, found {fail_on!r}", Exit.USAGE)


def _least(fail_on: str) -> Verdict:
    from monitor.models import Verdict

    return Verdict(fail_on)
