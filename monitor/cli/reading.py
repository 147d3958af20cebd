"""Commands that read the store: status, results, incidents, explain, history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    ModelOption,
    emit,
    fail,
    instant,
    nearest,
    opened,
    stamp,
    stdout,
)

if TYPE_CHECKING:
    from monitor.models import Incident, Result
    from monitor.service import Service

GLYPHS = {"ok": "✓", "warn": "◆", "alert": "▲", "cannot_tell": "?", "no_data": "∅"}
COLOURS = {"ok": "green", "warn": "yellow", "alert": "bold red", "cannot_tell": "cyan", "no_data": "dim"}


def register(app: typer.Typer) -> None:
    app.command()(status)
    app.command()(results)
    app.command()(incidents)
    app.command()(explain)
    app.command()(history)


def status(config: ConfigOption = None, model: ModelOption = None, json: JsonOption = False) -> None:
    """How each model is: newest window, open incidents, what could not be run, what is waiting to be sent."""
    with opened(config, model=model) as service:
        told = [_model_status(service, name) for name in service.config.models if model in (None, name)]
        outbox = service.store.outbox_counts()
        ticks = [{"worker": tick.worker, "last_tick": stamp(tick.at)} for tick in service.store.last_ticks()]
        if json:
            emit("models", told, outbox=outbox, workers=ticks)
            return
        _show_status(told, outbox)


def _model_status(service: Service, name: str) -> dict[str, Any]:
    from monitor.models import IncidentState, RunState, Verdict

    rows = service.store.windows(name)
    finished = [row for row in rows if row.state.finished and row.state is not RunState.SKIPPED]
    newest = max(finished, key=lambda row: row.window.end, default=None)
    found = service.store.results(name, start=newest.window.start, end=newest.window.end) if newest is not None else []
    worst = max((r.verdict for r in found), key=lambda v: v.rank, default=Verdict.NO_DATA)
    states: dict[str, int] = {}
    for row in rows:
        states[row.state.value] = states.get(row.state.value, 0) + 1
    return {
        "model": name,
        "verdict": worst.value,
        "newest_window": None if newest is None else [stamp(newest.window.start), stamp(newest.window.end)],
        "n_rows": None if newest is None else newest.n_rows,
        "windows": states,
        "errors": [
            {"job": row.job.value, "window_start": stamp(row.window.start), "reason": row.reason}
            for row in rows
            if row.state is RunState.ERROR
        ][-5:],
        "open_incidents": [incident.id for incident in service.store.incidents(name, states=[IncidentState.OPEN])],
    }


def _show_status(told: Sequence[dict[str, Any]], outbox: dict[str, dict[str, int]]) -> None:
    from rich.table import Table

    console = stdout()
    table = Table(box=None, pad_edge=False)
    for head in ("", "model", "newest window", "rows", "open incidents", "not run"):
        table.add_column(head)
    for item in told:
        newest = (
            "none yet" if item["newest_window"] is None else f"{item['newest_window'][0]} … {item['newest_window'][1]}"
        )
        table.add_row(
            _badge(item["verdict"]),
            item["model"],
            newest,
            "" if item["n_rows"] is None else f"{item['n_rows']:,}",
            ", ".join(item["open_incidents"]) or "none",
            str(len(item["errors"])) if item["errors"] else "",
        )
    console.print(table)
    for item in told:
        for error in item["errors"]:
            console.print(
                f"  {item['model']} {error['job']} {error['window_start']}: {error['reason']}",
                style="red",
                markup=False,
            )
    waiting = {name: counts for name, counts in outbox.items() if any(k != "sent" and v for k, v in counts.items())}
    for name, counts in waiting.items():
        console.print(f"  messages for {name}: " + ", ".join(f"{v} {k}" for k, v in counts.items()), markup=False)


def _badge(verdict: str) -> str:
    return f"[{COLOURS[verdict]}]{GLYPHS[verdict]} {verdict}[/]"


def results(
    config: ConfigOption = None,
    model: ModelOption = None,
    check: Annotated[str | None, typer.Option(help="Only this check.", show_default=False)] = None,
    feature: Annotated[str | None, typer.Option(help="Only this feature.", show_default=False)] = None,
    start: Annotated[str | None, typer.Option("--from", help="Windows from here.", show_default=False)] = None,
    end: Annotated[str | None, typer.Option("--to", help="Windows before this.", show_default=False)] = None,
    all_revisions: Annotated[bool, typer.Option("--all-revisions", help="Also what was believed before.")] = False,
    worse_than_ok: Annotated[bool, typer.Option("--worse-than-ok", help="Only warn and alert.")] = False,
    limit: Annotated[
        int | None, typer.Option(help="At most so many rows, newest windows first.", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> None:
    """The numbers of each window, with their verdicts."""
    from monitor.models import Check

    with opened(config, model=model) as service:
        if check is not None and check not in set(Check):
            fail(f"--check: expected one of {', '.join(Check)}{nearest(check, Check)}", Exit.USAGE)
        found = service.store.results(
            model,
            check=None if check is None else Check(check),
            feature=feature,
            start=None if start is None else instant(start, service.config, option="--from"),
            end=None if end is None else instant(end, service.config, option="--to"),
            all_revisions=all_revisions,
        )
        if worse_than_ok:
            found = [r for r in found if r.verdict.value in ("warn", "alert")]
        found = sorted(found, key=_result_order)
        if limit is not None:
            found = found[-limit:]
        if json:
            emit("results", [result_json(r) for r in found])
        else:
            _show_results(found)


def _result_order(result: Result) -> tuple[Any, ...]:
    return (
        result.model,
        result.window.start,
        result.check.value,
        result.segment or "",
        result.feature or "",
        result.metric,
        str(result.detail.get("against", "")),
        result.revision,
    )


def result_json(result: Result) -> dict[str, Any]:
    """One result in the shape that others build on; only ever added to."""
    told: dict[str, Any] = {
        "model": result.model,
        "check": result.check.value,
        "feature": result.feature,
        "segment": result.segment,
        "window_start": stamp(result.window.start),
        "window_end": stamp(result.window.end),
        "metric": result.metric,
        "value": result.value,
        "p_value": result.p_value,
        "threshold": result.threshold,
        "verdict": result.verdict.value,
        "n_reference": result.n_reference,
        "n_current": result.n_current,
        "revision": result.revision,
        "detail": result.detail,
    }
    if result.check.value == "performance" or result.interval is not None:
        told |= {
            "kind": result.kind,
            "interval": None if result.interval is None else list(result.interval),
            "label_coverage": result.label_coverage,
        }
    return told


def _show_results(found: Sequence[Result]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for head in ("window", "model", "check", "feature", "metric", "value", "limit", "p", "verdict", ""):
        table.add_column(head, justify="right" if head in ("value", "limit", "p") else "left")
    for r in found:
        name = r.feature or ""
        table.add_row(
            f"{r.window.start:%Y-%m-%d %H:%M}",
            escape(r.model),
            r.check.value,
            escape(name + (f" [{r.segment}]" if r.segment else "")),
            r.metric,
            "—" if r.value is None else f"{r.value:.4g}",
            "" if r.threshold is None else f"{r.threshold:.3g}",
            "" if r.p_value is None else f"{r.p_value:.2g}",
            _badge(r.verdict.value),
            escape(str(r.detail.get("what") or r.detail.get("reason") or "")),
        )
    stdout().print(table)


def incidents(
    config: ConfigOption = None,
    model: ModelOption = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are open.")] = False,
    json: JsonOption = False,
) -> None:
    """What fired: from when to when, why, and how sure that is."""
    from monitor.models import IncidentState

    with opened(config, model=model) as service:
        found = service.store.incidents(model, states=[IncidentState.OPEN] if open_only else None)
        if json:
            emit("incidents", [incident_json(i) for i in found])
            return
        _show_incidents(found)


def incident_json(incident: Incident) -> dict[str, Any]:
    """One incident in the shape that others build on; only ever added to."""
    return {
        "id": incident.id,
        "model": incident.model,
        "check": incident.check.value,
        "state": incident.state.value,
        "severity": incident.severity.value,
        "opened_window": stamp(incident.opened_window),
        "last_window": stamp(incident.last_window),
        "resolved_window": stamp(incident.resolved_window),
        "features": incident.features,
        "cause": incident.cause,
        "cause_confidence": incident.cause_confidence,
        "onset": stamp(incident.onset),
        "summary": incident.summary,
        "acknowledged_by": incident.acknowledged_by,
        "detail": incident.detail,
    }


def _show_incidents(found: Sequence[Incident]) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not found:
        stdout().print("no incidents")
        return
    table = Table(box=None, pad_edge=False)
    for head in ("id", "model", "check", "state", "since", "until", "features", "cause", "summary"):
        table.add_column(head)
    for i in found:
        until = "" if i.resolved_window is None else f"{i.resolved_window:%Y-%m-%d %H:%M}"
        sure = "" if i.cause_confidence is None else f" ({i.cause_confidence:.0%})"
        table.add_row(
            i.id,
            escape(i.model),
            i.check.value,
            i.state.value,
            f"{i.opened_window:%Y-%m-%d %H:%M}",
            until,
            escape(", ".join(i.features[:3]) + (f" +{len(i.features) - 3}" if len(i.features) > 3 else "")),
            (i.cause or "").replace("_", " ") + sure,
            escape(i.summary),
        )
    stdout().print(table)


def explain(
    incident: Annotated[str, typer.Argument(metavar="ID", help="An incident's id, or its first characters.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Why an incident opened: its windows, the numbers behind each verdict, and what to do."""
    with opened(config) as service:
        found = service.store.incident(incident)
        if found is None:
            known = [item.id for item in service.store.incidents()]
            fail(f"there is no incident {incident!r}{nearest(incident, known)}", Exit.USAGE)
        evidence = [
            r
            for r in service.store.results(found.model, check=found.check, start=found.opened_window, end=_after(found))
            if r.verdict.value in ("warn", "alert")
        ]
        if json:
            emit("incident", incident_json(found), evidence=[result_json(r) for r in evidence])
            return
        console = stdout()
        _show_incidents([found])
        advice = found.detail.get("advice")
        if advice:
            console.print(f"\nWhat to do: {advice}", markup=False)
        why = found.detail.get("why")
        if why:
            console.print(f"Why this cause: {why}", markup=False)
        console.print("\nEvidence (effect beyond its limit, and p at most alpha, family-wise):")
        _show_results(sorted(evidence, key=_result_order))


def _after(incident: Incident) -> datetime:
    from datetime import timedelta

    last = incident.resolved_window or incident.last_window
    return last + timedelta(microseconds=1)


def history(
    feature: Annotated[str | None, typer.Argument(help="A feature; none: the score.", show_default=False)] = None,
    config: ConfigOption = None,
    model: ModelOption = None,
    metric: Annotated[str, typer.Option(help="Which metric.")] = "psi",
    json: JsonOption = False,
) -> None:
    """One metric over the windows."""
    with opened(config, model=model) as service:
        found = [
            r
            for r in service.store.results(model, feature=feature, metric=metric)
            if r.segment is None and r.feature == feature and r.detail.get("against", "baseline") == "baseline"
        ]
        if not found:
            known = {r.feature for r in service.store.results(model, metric=metric) if r.feature}
            hint = nearest(feature, known) if feature else ""
            fail(f"no results of {metric} for {feature or 'the score'}{hint}", Exit.FAILED)
        found = sorted(found, key=_result_order)
        if json:
            emit("history", [result_json(r) for r in found])
            return
        _show_history(found)


def _show_history(found: Sequence[Result]) -> None:
    top = max((r.value or 0.0 for r in found), default=0.0) or 1.0
    console = stdout()
    for r in found:
        value = r.value or 0.0
        bar = "█" * max(0, round(40 * value / top))
        text = "—" if r.value is None else f"{r.value:.4f}"
        console.print(
            f"{r.window.start:%Y-%m-%d %H:%M}  {text:>9}  [{COLOURS[r.verdict.value]}]{GLYPHS[r.verdict.value]}[/] {bar}"
        )
