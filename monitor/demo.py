"""`monitor demo`: a log with planted incidents, lived through day by day, and what the monitor made of it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from monitor.cli.common import Exit, emit, fail, start_logging, stderr, stdout
from monitor.config import Config, RangeBaseline
from monitor.config_file import load
from monitor.demo_log import DemoTruth, PlantedIncident, write_demo_log
from monitor.drawing import draw
from monitor.models import Incident
from monitor.progress import progress_bar
from monitor.run import RunReport, run_due
from monitor.sending import deliver_due
from monitor.service import Service
from monitor.store import Store

MODEL = "credit_risk"
MARK = ".monitor-demo"


@dataclass(frozen=True)
class Verdict:
    """A planted incident, and the incident that found it."""

    planted: PlantedIncident
    found: Incident | None


def run_demo(out: Path, *, seed: int, as_json: bool) -> int:
    """Write the log, live through its days, draw the report, and hold what was found against what was planted."""
    started = time.monotonic()
    config_file = _fresh_folder(out)
    truth = write_demo_log(out / "demo.db", seed=seed)
    config = _without_reminders(load(config_file, env=_environment()))
    start_logging(config)
    store = Store.open(config.store.get_secret_value())
    service = Service(config, store)
    try:
        report = _live_through(service, truth, shown=not as_json)
        draw(service, now=truth.end)
        found = store.incidents(MODEL)
    finally:
        service.close()
        store.close()
    verdicts = [Verdict(planted, _finder(truth, planted, found)) for planted in truth.incidents]
    strays = [incident for incident in found if not _explained(truth, incident)]
    seconds = time.monotonic() - started
    index = config.reports.dir / "index.html"
    if as_json:
        _emit(verdicts, strays, index=index, report=report, seconds=seconds, truth=truth)
    else:
        _print(verdicts, strays, index=index, report=report, seconds=seconds, truth=truth, out=out)
    return Exit.DONE if all(v.found for v in verdicts) and not strays else Exit.FAILED


def default_config() -> str:
    """The annotated config that the demo runs, as it stands in a checkout or in the wheel."""
    packaged = files("monitor") / "_default_config.yaml"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parent.parent / "config.yaml").read_text(encoding="utf-8")


def _fresh_folder(out: Path) -> Path:
    """An empty demo folder with its config; a folder that holds anything else is left alone."""
    if out.exists():
        if any(out.iterdir()) and not (out / MARK).exists():
            fail(f"{out} is not empty and not from an earlier demo; --out names another folder", Exit.USAGE)
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / MARK).write_text("This folder is written anew by `monitor demo`.\n", encoding="utf-8")
    config_file = out / "config.yaml"
    config_file.write_text(default_config(), encoding="utf-8")
    return config_file


def _environment() -> dict[str, str]:
    """The demo keeps to its own folder, whatever the shell's variables say about a real store."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MONITOR_")}


def _without_reminders(config: Config) -> Config:
    """Forty days pass in minutes: that something is still so would be most of what is read."""
    return config.model_copy(update={"alerts": config.alerts.model_copy(update={"repeat": None})})


def _live_through(service: Service, truth: DemoTruth, *, shown: bool) -> RunReport:
    """Each day as it would have been: a run in the morning, with the rows and labels of that moment."""
    baseline = service.model(MODEL).baseline
    first = baseline.to if isinstance(baseline, RangeBaseline) else truth.start + timedelta(days=21)
    total = RunReport()
    days = (truth.end - first) // timedelta(days=1)
    with progress_bar(stderr(), shown=shown) as advance:
        for day in range(1, days + 1):
            now = first + timedelta(days=day, hours=1)
            done = run_due(service, now=now, worker="demo")
            total.windows += done.windows
            total.restated += done.restated
            total.errors += done.errors
            deliver_due(service)
            if advance is not None:
                advance(day, days, f"{now:%Y-%m-%d}")
    return total


def _finder(truth: DemoTruth, planted: PlantedIncident, found: list[Incident]) -> Incident | None:
    """The first incident that names a planted one: its check, and one of its features."""
    for incident in sorted(found, key=lambda i: i.opened_window):
        if truth.culprit(incident.check.value, incident.features, window_start=incident.opened_window) is planted:
            return incident
    return None


def _explained(truth: DemoTruth, incident: Incident) -> bool:
    names: list[str | None] = list(incident.features) or [None]
    return any(
        truth.explain(incident.check.value, name, window_start=incident.opened_window) is not None for name in names
    )


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _print(
    verdicts: list[Verdict],
    strays: list[Incident],
    *,
    index: Path,
    report: RunReport,
    seconds: float,
    truth: DemoTruth,
    out: Path,
) -> None:
    console = stdout()
    console.print(
        f"\n{truth.n_rows:,} requests over {(truth.end - truth.start).days} days, {report.windows} windows checked "
        f"({report.restated} restated as labels landed), in {seconds:.0f} s.\n",
        highlight=False,
    )
    for verdict in verdicts:
        _print_verdict(console, truth, verdict)
    for incident in strays:
        named = ", ".join(incident.features)
        console.print(
            f"[red]not planted:[/] {incident.id} {incident.check.value} {_day(incident.opened_window)} {named}"
        )
    console.print(f"\nreport   {index}", soft_wrap=True, highlight=False)
    console.print("look on", highlight=False)
    for command in _next_commands(verdicts, strays, out=out):
        console.print(f"  {command}", soft_wrap=True, highlight=False, markup=False)


def _next_commands(verdicts: Sequence[Verdict], strays: Sequence[Incident], *, out: Path) -> list[str]:
    """What to type next, as it is typed: by the program that was called, of an incident that there is."""
    called = Path(sys.argv[0])
    program = str(called) if called.name == "monitor" else f"{sys.executable} -m monitor"
    if called.name == "monitor" and shutil.which("monitor") == str(called.absolute()):
        program = "monitor"
    found = [*(v.found for v in verdicts if v.found is not None), *strays]
    asked = ["incidents", *(f"explain {incident.id}" for incident in found[:1])]
    asked += ["history income", "history --metric roc_auc", "results"]
    return [f"{program} {each} -c {shlex.quote(str(out / 'config.yaml'))}" for each in asked]


def _print_verdict(console: Console, truth: DemoTruth, verdict: Verdict) -> None:
    planted, found = verdict.planted, verdict.found
    first, last = (_day(truth.start + timedelta(days=day)) for day in (planted.first_day, planted.last_day))
    mark = "[red]✗ not found[/]" if found is None else "[green]✓[/]"
    console.print(f"{mark} [bold]{escape(planted.name)}[/], {first} to {last}: {escape(planted.why)}", soft_wrap=True)
    if found is None:
        return
    names = f" of {escape(', '.join(found.features[:3]))}" if found.features else ""
    cause = (found.cause or "cause not told").replace("_", " ")
    sure = "" if found.cause_confidence is None else f" ({found.cause_confidence:.0%} sure)"
    told = f"    found on {_found_on(found)}: {found.check.value}{names}; {cause}{sure}; {found.id}"
    console.print(told, soft_wrap=True, highlight=False)


def _found_on(incident: Incident) -> str:
    """The day on which the incident was opened: labels land late, so that may be weeks after its window."""
    at = incident.detail.get("opened_at")
    return _day(datetime.fromisoformat(at)) if at else _day(incident.opened_window)


def _emit(
    verdicts: list[Verdict], strays: list[Incident], *, index: Path, report: RunReport, seconds: float, truth: DemoTruth
) -> None:
    told = [
        {
            "name": v.planted.name,
            "check": v.planted.check,
            "features": list(v.planted.features),
            "first_day": _day(truth.start + timedelta(days=v.planted.first_day)),
            "last_day": _day(truth.start + timedelta(days=v.planted.last_day)),
            "found": None if v.found is None else v.found.id,
            "found_on": None if v.found is None else _found_on(v.found),
            "cause": None if v.found is None else v.found.cause,
        }
        for v in verdicts
    ]
    emit(
        "planted",
        told,
        other_incidents=[incident.id for incident in strays],
        windows=report.windows,
        seconds=round(seconds, 1),
        report=str(index),
    )
