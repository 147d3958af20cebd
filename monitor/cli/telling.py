"""What a run or backfill has found, in a few lines: which windows, what they say, what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitor.cli import showing
from monitor.cli.common import stamp

if TYPE_CHECKING:
    from rich.console import Console

    from monitor.models import Job, Result, RunState, Verdict, Window, WindowRow
    from monitor.service import Service


def summaries(service: Service, names: list[str], *, since: datetime, first_time: set[str]) -> list[dict[str, Any]]:
    """One entry for each model: its windows finished since a moment of the store's clock, counted by verdict.

    ``first_time`` are the models that had no window before: what their log holds besides is told as well.
    """
    return [_summary(service, name, since=since, first=name in first_time) for name in names]


def _summary(service: Service, name: str, *, since: datetime, first: bool) -> dict[str, Any]:
    from monitor.models import IncidentState, RunState

    done = [row for row in service.store.windows(name) if row.finished_at is not None and row.finished_at >= since]
    ran = [row for row in done if row.state not in (RunState.SKIPPED, RunState.ERROR)]
    verdicts = Counter(_verdict(service, name, ran).values())
    reasons = Counter(row.reason for row in ran if row.state is RunState.INSUFFICIENT and row.reason)
    windows = sorted({row.window for row in ran})
    extent = _extent(service, name) if first or not any(row.n_rows for row in ran) else None
    return {
        "model": name,
        "first_window": stamp(windows[0].start) if windows else None,
        "last_window": stamp(windows[-1].start) if windows else None,
        "windows": len(windows),
        "verdicts": {verdict: verdicts[verdict] for verdict in showing.GLYPHS if verdicts[verdict]},
        "reasons": dict(reasons.most_common(3)),
        "not_run": [_failure(row) for row in service.store.windows(name, states=[RunState.PENDING]) if row.reason]
        + [_failure(row) for row in done if row.state is RunState.ERROR],
        "open_incidents": [i.id for i in service.store.incidents(name, states=[IncidentState.OPEN])],
        "hint": _hint(service, name, windows, extent, first=first),
    }


def _failure(row: WindowRow) -> dict[str, Any]:
    """A window that could not be computed, and why; ``final`` when it is not tried again by itself."""
    return {
        "job": row.job.value,
        "window_start": stamp(row.window.start),
        "reason": row.reason,
        "final": row.state.finished,
    }


def _verdict(service: Service, name: str, rows: list[WindowRow]) -> dict[Window, str]:
    """The worst that each window has said; ``cannot_tell`` only where nothing else was said."""
    if not rows:
        return {}
    start, end = min(row.window.start for row in rows), max(row.window.end for row in rows)
    said: dict[Window, list[Result]] = {}
    for result in service.store.results(name, start=start, end=end):
        said.setdefault(result.window, []).append(result)
    states: dict[Window, dict[Job, RunState]] = {}
    for row in rows:
        states.setdefault(row.window, {})[row.job] = row.state
    return {window: verdict_of(said.get(window, ()), of_jobs).value for window, of_jobs in states.items()}


def verdict_of(results: Iterable[Result], states: Mapping[Job, RunState]) -> Verdict:
    """The worst that one window has said, whose jobs ended in these states: one without rows is never ``ok``."""
    from monitor.incidents import is_about_labels
    from monitor.models import Job, RunState, Verdict

    # Labels that land as ever say nothing good of a window: it may have no rows at all.
    told = [r for r in results if not r.of_versions and not (is_about_labels(r.feature) and r.verdict is Verdict.OK)]
    worst = max((r.verdict for r in told if r.verdict.decides), key=lambda verdict: verdict.rank, default=None)
    if worst is None:
        return Verdict.NO_DATA if RunState.NO_DATA in states.values() else Verdict.CANNOT_TELL
    empty = states.get(Job.INPUTS) is RunState.NO_DATA
    return Verdict.NO_DATA if empty and worst is Verdict.OK else worst


def _extent(service: Service, name: str) -> tuple[datetime, datetime] | None:
    from monitor.sources import SourceError

    try:
        with service.source(name) as source:
            model = service.model(name)
            return source.extent(model, source.roles(model))
    except SourceError:
        return None


def _hint(
    service: Service,
    name: str,
    windows: list[Window],
    extent: tuple[datetime, datetime] | None,
    *,
    first: bool,
) -> str | None:
    """What a person who has just begun should know: the log holds more than was looked at, or lies elsewhere."""
    if extent is None or not windows:
        return None
    start, end = _worth_a_backfill(service, name, extent)
    what = f"`monitor backfill --model {name} --from {start:%Y-%m-%d} --to {end:%Y-%m-%d}`"
    if windows[0].start > extent[1] or windows[-1].end <= extent[0]:
        log = f"the log goes from {extent[0]:%Y-%m-%d} to {extent[1]:%Y-%m-%d}"
        return f"no rows in these windows: {log}; {what} looks there"
    end = min(end, windows[0].start)
    what = f"`monitor backfill --model {name} --from {start:%Y-%m-%d} --to {end:%Y-%m-%d}`"
    if first and start < end:
        return f"the log begins on {extent[0]:%Y-%m-%d}; earlier windows were not looked at: {what}"
    return None


def _worth_a_backfill(service: Service, name: str, extent: tuple[datetime, datetime]) -> tuple[datetime, datetime]:
    """The days for which the log holds a baseline as well."""
    from monitor.config import RangeBaseline, RollingBaseline

    baseline, day = service.model(name).baseline, timedelta(days=1)
    start = extent[0]
    if isinstance(baseline, RollingBaseline):
        start += min(baseline.rolling, (extent[1] - extent[0]) / 2)
    elif isinstance(baseline, RangeBaseline):
        start = max(start, baseline.to)
    return _midnight(start), _midnight(extent[1]) + day


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def show(told: list[dict[str, Any]], service: Service, console: Console) -> None:
    """The summaries on a terminal, with each model's open incidents."""
    due = {item["model"]: item["windows"] for item in told}
    for item in told:
        console.print(_headline(item, service, alone=len(due) == 1), soft_wrap=True)
        for reason, times in item["reasons"].items():
            console.print(
                showing.indented(showing.plain(f"{showing.counted(times, 'window')}: {reason}", style="cyan"))
            )
        _show_failures(item, console)
        for name in item["open_incidents"]:
            incident = service.store.incident(name)
            if incident is not None:
                showing.show_incident(incident, console, brief=True)
        if item["hint"]:
            console.print(f"  {item['hint']}", style="yellow", markup=False, soft_wrap=True)


def _show_failures(item: dict[str, Any], console: Console) -> None:
    """Each reason once, with how many windows it holds up."""
    by_reason: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for failed in item["not_run"]:
        by_reason.setdefault((failed["reason"], failed["final"]), []).append(failed)
    for (reason, final), members in by_reason.items():
        first = showing.moment(datetime.fromisoformat(members[0]["window_start"]))
        what = f"{members[0]['job']} of {first}" + (f" and {len(members) - 1} more" if len(members) > 1 else "")
        then = (
            "`monitor backfill` runs it again"
            if final
            else "the next run tries it again, and those that wait behind it"
        )
        console.print(f"  could not be run: {what}: {reason}; {then}", style="red", markup=False, soft_wrap=True)


def _headline(item: dict[str, Any], service: Service, *, alone: bool) -> str:
    name = f"[bold]{showing.escaped(item['model'])}[/]"
    if not item["windows"] and item["not_run"]:
        return f"{name}  [red]could not be run[/]"
    if not item["windows"]:
        from monitor import schedule

        ahead = schedule.next_due(service.model(item["model"]), service.config, now=service.store.now())
        when = f"; the next window is due at {showing.moment(ahead[0])}" if ahead and alone else ""
        return f"{name}  nothing was due{when}"
    first, last = (datetime.fromisoformat(item[key]) for key in ("first_window", "last_window"))
    dates = showing.moment(first) + (f" … {showing.moment(last)}" if last != first else "")
    verdicts = ", ".join(
        f"[{showing.COLOURS[v]}]{showing.GLYPHS[v]} {n} {showing.WORDS[v]}[/]"
        for v, n in sorted(item["verdicts"].items(), key=lambda pair: -_rank(pair[0]))
    )
    return f"{name}  {showing.counted(item['windows'], 'window')} ({dates}): {verdicts or 'none could be run'}"


def _rank(verdict: str) -> int:
    from monitor.models import Verdict

    return Verdict(verdict).rank
