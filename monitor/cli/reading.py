"""Commands that read the store: status, results, incidents, explain, history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import showing
from monitor.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    ModelOption,
    among,
    emit,
    fail,
    instant,
    opened_store,
    stamp,
    stdout,
)

if TYPE_CHECKING:
    from rich.console import Console

    from monitor.cli.common import Kept
    from monitor.models import Incident, Result, Window, WindowRow
    from monitor.restated import Belief, Restated
    from monitor.waiting import Waiting

NOTHING_YET = "nothing has been run yet. `monitor run` checks the windows that are due, `monitor backfill` the past."


def status(config: ConfigOption = None, model: ModelOption = None, json: JsonOption = False) -> None:
    """How each model is, and what waits to be sent.

    For each model its newest window, open incidents, mutes, windows that could not be run, and when the next is due.
    """
    with opened_store(config, model=model) as held:
        told = [_model_status(held, name) for name in held.config.models if model in (None, name)]
        outbox = held.store.outbox_counts()
        ticks = [{"worker": tick.worker, "last_tick": stamp(tick.at)} for tick in held.store.last_ticks()]
        mutes = [mute_json(m) for m in held.store.mutes(at=datetime.now(UTC)) if model in (None, m.model)]
        if json:
            emit("models", told, outbox=outbox, workers=ticks, mutes=mutes)
            return
        _show_status(held, told, outbox, mutes=mutes, ticks=ticks)


def _model_status(held: Kept, name: str) -> dict[str, Any]:
    from monitor.cli.telling import verdict_of
    from monitor.models import IncidentState, RunState, Verdict

    rows = held.store.windows(name)
    finished = [row for row in rows if row.state.finished and row.state is not RunState.SKIPPED]
    newest = max(finished, key=lambda row: row.window.end, default=None)
    found = held.store.results(name, start=newest.window.start, end=newest.window.end) if newest is not None else []
    of_newest = {row.job: row.state for row in finished if newest is not None and row.window == newest.window}
    worst = verdict_of(found, of_newest) if newest is not None else Verdict.NO_DATA
    states: dict[str, int] = {}
    for row in rows:
        states[row.state.value] = states.get(row.state.value, 0) + 1
    opened_ones = held.store.incidents(name, states=[IncidentState.OPEN])
    return {
        "model": name,
        "verdict": worst.value,
        "newest_window": None if newest is None else [stamp(newest.window.start), stamp(newest.window.end)],
        "n_rows": None if newest is None else newest.n_rows,
        "windows": states,
        "errors": [_error_json(row) for row in rows if row.state is RunState.ERROR][-5:],
        "waits_for": next((row.reason for row in rows if row.state is RunState.PENDING and row.reason), None),
        "open_incidents": [incident.id for incident in opened_ones],
        "acknowledged": [incident.id for incident in opened_ones if incident.acknowledged_by],
        "next_windows_due": [stamp(due) for due in next_due(held, name, now=datetime.now(UTC))[:1]],
        "odd_labels": next((r.detail["labels"] for r in found if r.segment is None and "labels" in r.detail), {}),
        "labels_unmatched": _said_of_labels(held, name, "label_unmatched"),
        "labels_after_delay": _said_of_labels(held, name, "label_after_delay"),
    }


def _said_of_labels(held: Kept, name: str, metric: str) -> str | None:
    """What the newest look at the labels' ids or ages says, where it is beyond the usual."""
    found = held.store.results(name, metric=metric, limit=1)
    return found[-1].detail.get("what") if found else None


def _error_json(row: WindowRow) -> dict[str, Any]:
    return {"job": row.job.value, "window_start": stamp(row.window.start), "reason": row.reason}


def next_due(held: Kept, name: str, *, now: datetime) -> list[datetime]:
    """When the next windows of a model are due, soonest first."""
    from monitor import schedule

    return schedule.next_due(held.config.models[name], held.config, now=now)


def mute_json(muted: Any) -> dict[str, Any]:
    return {
        "model": muted.model,
        "feature": muted.feature,
        "until": stamp(muted.until),
        "by": muted.who,
        "reason": muted.reason,
    }


def _show_status(
    held: Kept,
    told: Sequence[dict[str, Any]],
    outbox: dict[str, dict[str, int]],
    *,
    mutes: Sequence[dict[str, Any]],
    ticks: Sequence[dict[str, Any]],
) -> None:
    console = stdout()
    table = showing.plain_table(["", "model", "newest window", "rows", "incidents", "next due"])
    for item in told:
        newest = item["newest_window"]
        open_now = bool(item["open_incidents"])
        table.add_row(
            showing.mark("alert" if open_now else item["verdict"] if newest else "no_data", word=True),
            item["model"],
            f"{_short(newest[0])} {showing.GLYPHS[item['verdict']]}" if newest else "none yet",
            "" if item["n_rows"] is None else f"{item['n_rows']:,}",
            f"{len(item['open_incidents'])} open" if item["open_incidents"] else "",
            ", ".join(_short(due) for due in item["next_windows_due"]),
        )
    console.print(table)
    if not any(item["windows"] for item in told):
        console.print(f"\n{NOTHING_YET}")
    for item in told:
        _show_model(held, item, console)
        for said in filter(None, (item["labels_unmatched"], item["labels_after_delay"])):
            console.print(f"  {item['model']}: {said}", style="yellow", markup=False, soft_wrap=True)
    for muted in mutes:
        what = muted["model"] + (f" {muted['feature']}" if muted["feature"] else "")
        why = f": {muted['reason']}" if muted["reason"] else ""
        until = f"until {_short(muted['until'])}" if muted["until"] else "until unmuted"
        console.print(f"  muted {until} by {muted['by']}: {what}{why}", markup=False, soft_wrap=True)
    for name, counts in outbox.items():
        left = {state: n for state, n in counts.items() if state != "sent" and n}
        if left:
            waiting_text = ", ".join(f"{n} {state}" for state, n in left.items())
            console.print(f"  messages for {name}: {waiting_text}", style="yellow", markup=False, soft_wrap=True)
    if any(item["open_incidents"] for item in told):
        console.print("the evidence: `monitor explain ID`", style="dim")
    for tick in ticks[:1]:
        console.print(f"  worker {tick['worker']}: last tick {tick['last_tick']}", markup=False, soft_wrap=True)


def _show_model(held: Kept, item: dict[str, Any], console: Console) -> None:
    """What is open, waiting, skipped or broken of one model."""
    for name in item["open_incidents"]:
        incident = held.store.incident(name)
        if incident is not None:
            taken = f" (taken on by {incident.acknowledged_by})" if incident.acknowledged_by else ""
            console.print(f"  {item['model']}: {name}: {incident.summary}{taken}", markup=False, soft_wrap=True)
    waiting = sum(item["windows"].get(state, 0) for state in ("pending", "leased"))
    if waiting:
        why = f": {item['waits_for']}" if item["waits_for"] else ""
        told_of = f"{showing.counted(waiting, 'window')} waiting{why}"
        console.print(f"  {item['model']}: {told_of}", style="yellow", markup=False, soft_wrap=True)
    if skipped := item["windows"].get("skipped", 0):
        told_of = f"{showing.counted(skipped, 'window')} skipped; `monitor backfill` runs them"
        console.print(f"  {item['model']}: {told_of}", markup=False, soft_wrap=True)
    for error in item["errors"]:
        window = f"{error['job']} of {_short(error['window_start'])}"
        line = f"  {item['model']}: {window} could not be run: {error['reason']}"
        console.print(line, style="red", markup=False, soft_wrap=True)


def _short(text: str | None) -> str:
    return "" if text is None else showing.moment(datetime.fromisoformat(text))


def results(
    config: ConfigOption = None,
    model: ModelOption = None,
    check: Annotated[str | None, typer.Option(help="Only this check.", show_default=False)] = None,
    feature: Annotated[
        str | None, typer.Option("--feature", "-f", help="Only this feature.", show_default=False)
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="Windows from here.", show_default=False)] = None,
    end: Annotated[str | None, typer.Option("--to", help="Windows before this.", show_default=False)] = None,
    all_revisions: Annotated[bool, typer.Option("--all-revisions", help="Also what was believed before.")] = False,
    worse_than_ok: Annotated[bool, typer.Option("--worse-than-ok", help="Only warn and alert.")] = False,
    limit: Annotated[
        int | None, typer.Option(help="At most so many numbers, of the newest windows.", min=1, show_default=False)
    ] = None,
    json: JsonOption = False,
) -> None:
    """The numbers of each window, with their verdicts.

    In a terminal and without any choice of windows or features: those of each model's newest window, worst first.
    With --json always all of them, oldest first.
    """
    from monitor.models import Check

    with opened_store(config, model=model) as held:
        if check is not None and check not in set(Check):
            fail(f"--check: there is no check {check!r}{among(check, Check)}", Exit.USAGE)
        found = held.store.results(
            model,
            check=None if check is None else Check(check),
            feature=feature,
            start=None if start is None else instant(start, held.config, option="--from"),
            end=None if end is None else instant(end, held.config, option="--to"),
            all_revisions=all_revisions,
        )
        if feature is not None and not found:
            _check_feature(held, feature, model)
        turned = _turned(held, found, model)
    everything = len(found)
    if worse_than_ok:
        found = [r for r in found if r.verdict.value in ("warn", "alert")]
    found = sorted(found, key=_result_order)
    if limit is not None:
        found = sorted(sorted(found, key=lambda r: r.window.start)[-limit:], key=_result_order)
    if json:
        emit("results", [result_json(r) for r in found], restated=[restated_json(each) for each in turned])
        return
    chosen = worse_than_ok or all_revisions or limit or feature or start or end
    shown = _show_results(found, everything, newest_only=not chosen)
    showing.show_restated([each for each in turned if (each.model, each.window) in shown], stdout())


def _show_results(found: Sequence[Result], everything: int, *, newest_only: bool) -> set[tuple[str, Window]]:
    """Show what there is; gives the models and windows that were shown."""
    console = stdout()
    if not found:
        console.print(
            NOTHING_YET if not everything else f"none of {showing.counted(everything, 'number')} is worse than ok"
        )
        return set()
    if newest_only:
        newest = {r.model: r.window for r in sorted(found, key=lambda r: r.window)}
        found = [r for r in found if r.window == newest[r.model]]
        found = [r for r in found if _worth_a_line(r)] or found
    showing.show_results(found, console)
    if newest_only and everything > len(found):
        console.print(
            f"\n{everything - len(found):,} more, of earlier windows and segments: --from and --to, --feature, --json",
            style="dim",
        )
    return {(r.model, r.window) for r in found}


def _turned(held: Kept, found: Sequence[Result], model: str | None) -> list[Restated]:
    """Of the results that were asked for, those that another revision had believed to be otherwise."""
    from monitor.restated import restated

    windows = [r.window for r in found if r.revision]
    if not windows:
        return []
    start, end = min(w.start for w in windows), max(w.end for w in windows)
    newest = held.store.results(model, start=start, end=end)
    every = held.store.results(model, start=start, end=end, all_revisions=True)
    kept = {(_result_order(r), r.kind, r.window) for r in newest}
    older = [r for r in every if (_result_order(r), r.kind, r.window) not in kept]
    asked = {_result_order(r)[:-1] for r in found}
    now = [r for r in newest if _result_order(r)[:-1] in asked]
    return [
        each
        for name in sorted({r.model for r in now})
        for each in restated((r for r in now if r.model == name), (r for r in older if r.model == name))
    ]


def restated_json(each: Restated) -> dict[str, Any]:
    """One number whose verdict changed: what was believed then, and what is known now."""
    return {
        "model": each.model,
        "check": each.check.value,
        "feature": each.feature,
        "segment": each.segment,
        "window_start": stamp(each.window.start),
        "window_end": stamp(each.window.end),
        "metric": each.metric,
        "believed_then": _belief_json(each.then),
        "known_now": _belief_json(each.now),
    }


def _belief_json(belief: Belief) -> dict[str, Any]:
    return {
        "revision": belief.revision,
        "as_of": stamp(belief.as_of),
        "verdict": belief.verdict.value,
        "value": belief.value,
        "interval": None if belief.interval is None else list(belief.interval),
        "kind": belief.kind,
        "label_coverage": belief.label_coverage,
    }


def _worth_a_line(result: Result) -> bool:
    """Leave out, of the overview, segments where all is well and what is not there yet."""
    return result.verdict.decides and (result.segment is None or result.verdict.value != "ok")


def _check_feature(held: Kept, feature: str, model: str | None) -> None:
    """Leave with code 2 where nothing was ever said about a feature of this name."""
    known = {r.feature for r in held.store.results(model) if r.feature is not None}
    if known and feature not in known:
        fail(f"no result names a feature {feature!r}{among(feature, sorted(known))}", Exit.USAGE)


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


def incidents(
    config: ConfigOption = None,
    model: ModelOption = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are open.")] = False,
    json: JsonOption = False,
) -> None:
    """What fired: from when to when, and why."""
    from monitor.models import IncidentState

    with opened_store(config, model=model) as held:
        found = held.store.incidents(model, states=[IncidentState.OPEN] if open_only else None)
        ran = bool(found) or any(held.store.windows(name) for name in held.config.models)
    if json:
        emit("incidents", [incident_json(i) for i in found])
        return
    console = stdout()
    if not found:
        console.print(f"no {'open ' if open_only else ''}incidents" if ran else NOTHING_YET)
        return
    for incident in found:
        showing.show_incident(incident, console)


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
        "acknowledged_at": stamp(incident.acknowledged_at),
        "acknowledged_note": incident.acknowledged_note,
        "detail": incident.detail,
    }


def find_incident(held: Kept, text: str) -> Incident:
    """The incident of this id or beginning, or leave with code 2 and say which there are."""
    try:
        found = held.store.incident(text.strip())
    except LookupError as error:
        fail(str(error).strip('"'), Exit.USAGE)
    if found is None:
        known = [item.id for item in held.store.incidents()]
        fail(f"there is no incident {text!r}{among(text, known)}", Exit.USAGE)
    return found


def explain(
    incident: Annotated[str, typer.Argument(metavar="ID", help="An incident's id, or its first characters.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """The evidence behind an incident, and what to do.

    In a terminal the worst window of each number is shown; with --json every number beyond its limit.
    """
    with opened_store(config) as held:
        found = find_incident(held, incident)
        results = held.store.results(found.model, check=found.check, start=found.opened_window, end=_after(found))
        turned = _turned(held, results, found.model)
        waiting = _waits_for(held, found)
    beyond = (r for r in results if r.verdict.value in ("warn", "alert") and not r.of_versions)
    evidence = sorted(beyond, key=_result_order)
    if json:
        from monitor.reports.outcomes import tables_json

        more: dict[str, Any] = {"tables": tables_json(results)} if found.check.value == "performance" else {}
        more["restated"] = [restated_json(each) for each in turned]
        more["waits_for"] = None if waiting is None else waiting_json(waiting)
        emit("incident", incident_json(found), evidence=[result_json(r) for r in evidence], **more)
        return
    _show_explanation(found, evidence, waiting)
    showing.show_restated(turned, stdout())


def _waits_for(held: Kept, incident: Incident) -> Waiting | None:
    from monitor.models import IncidentState
    from monitor.waiting import waits_for

    if incident.state is not IncidentState.OPEN or incident.model not in held.config.models:
        return None
    results = held.store.results(incident.model, check=incident.check, start=incident.opened_window)
    return waits_for(incident, results, recover=held.config.models[incident.model].recover)


def waiting_json(waiting: Waiting) -> dict[str, Any]:
    """What an open incident waits for."""
    return {
        "last_bad": stamp(waiting.last_bad),
        "good_windows": waiting.needs,
        "not_before": stamp(waiting.comes_again),
        "parts": [
            {
                "of": part.name,
                "good_so_far": part.good,
                "cannot_tell_since": stamp(part.silent_since),
                "reason": part.reason,
            }
            for part in waiting.parts
        ],
    }


def _show_explanation(found: Incident, evidence: Sequence[Result], waiting: Waiting | None) -> None:
    console = stdout()
    showing.show_incident(found, console)
    facts = [
        ("why it is open", None if waiting is None else waiting.words(showing.moment)),
        ("why this cause", found.detail.get("why")),
        ("what to do", found.detail.get("advice")),
    ]
    if found.acknowledged_note:
        facts.append((f"note of {found.acknowledged_by}", found.acknowledged_note))
    console.print()
    for name, text in facts:
        if text:
            console.print(f"{name}: {text}", markup=False)
    console.print(
        f"\nbeyond the limit, and more than chance ({showing.counted(len(evidence), 'number')}):", style="dim"
    )
    table = showing.plain_table(["", "of", "metric", "limit", "windows", "first", "worst", ""])
    for series in _series(evidence):
        worst = min(series, key=showing.by_badness)
        table.add_row(
            showing.mark(worst.verdict.value),
            showing.plain(showing.subject(worst)),
            worst.metric,
            showing.limit(worst),
            str(len({r.window for r in series})),
            showing.moment(min(r.window.start for r in series)),
            showing.number(worst.value),
            showing.plain(showing.words(worst)),
        )
    console.print(showing.indented(table))
    for line in _standing(evidence):
        console.print(line, style="dim", markup=False)
    _show_splits(evidence)
    later = f" --to {(_after(found) + timedelta(days=1)):%Y-%m-%d}" if found.resolved_window else ""
    console.print(
        f"\nall numbers: monitor results -m {found.model} --check {found.check.value} "
        f"--from {found.opened_window:%Y-%m-%d}{later}"
        + ("" if found.resolved_window else f"\ntake it on:  monitor ack {found.id} --note …"),
        style="dim",
        markup=False,
        soft_wrap=True,
    )


OFTEN = 0.001
"""A limit that chance alone reaches more often than this is worth a word."""


def _standing(evidence: Sequence[Result]) -> list[str]:
    """What the verdicts rest on: the evidence asked for, and how often the limits alone would have spoken."""
    from monitor.messages import spent_on

    levels = [float(r.detail["alpha"]) for r in evidence if "alpha" in r.detail]
    spent = [float(r.detail["spend"]) for r in evidence if "spend" in r.detail]
    lines = []
    if levels:
        told = f"evidence asked for: p ≤ {min(levels):.2g}"
        lines.append(told + (f"; a test may cause {max(spent):.2g} false pages a window" if spent else ""))
    if spent:
        lines.append(f"spent on it: {spent_on(evidence):.2g} false pages; nothing more while it is open")
    for series in _series(evidence):
        often = max((float(r.detail.get("limit_by_chance") or 0.0) for r in series), default=0.0)
        if often >= OFTEN:
            lines.append(
                f"{showing.subject(series[0])}: chance alone reaches the limit of {series[0].metric} "
                f"in {often:.1%} of such windows without drift"
            )
    return lines


MOST_SPLITS = 3
"""Metrics of which is told what inputs explain of their change; JSON has all."""


def _show_splits(evidence: Sequence[Result]) -> None:
    """What of a fall the inputs explain and what they do not, in the worst window of each metric of all rows."""
    from monitor.messages import split_of

    of_all = _series([r for r in evidence if r.segment is None and "rule_change" in r.detail])
    for worst in (min(series, key=showing.by_badness) for series in of_all[:MOST_SPLITS]):
        told = split_of(worst)
        if told is not None:
            line = f"{worst.metric} of {showing.span(worst.window)}: {told.words}"
            stdout().print(line, style="" if told.beyond_chance else "dim", markup=False, highlight=False)


def _series(evidence: Sequence[Result]) -> list[list[Result]]:
    """Evidence by what it is about and metric, the worst first."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for r in evidence:
        groups.setdefault((showing.subject(r), r.metric, str(r.detail.get("against", ""))), []).append(r)
    return sorted(groups.values(), key=lambda series: min(showing.by_badness(r) for r in series))


def _after(incident: Incident) -> datetime:
    last = incident.resolved_window or incident.last_window
    return last + timedelta(microseconds=1)


def history(
    feature: Annotated[str | None, typer.Argument(help="A feature; none: the model.", show_default=False)] = None,
    config: ConfigOption = None,
    model: ModelOption = None,
    metric: Annotated[str, typer.Option(help="Which metric.")] = "psi",
    json: JsonOption = False,
) -> None:
    """One metric over the windows: of a feature, or of the model.

    Without a feature it is the score's, or with a metric such as `recall` or `n_rows` the model's. Of performance the
    curve that decides in each window is shown (realized, corrected or estimated); with --json all of them.
    """
    with opened_store(config, model=model) as held:
        everything = held.store.results(model)
    found = sorted((r for r in everything if _is_of(r, feature, metric)), key=_result_order)
    if everything and not found:
        _say_what_there_is(everything, feature, metric)
    if json:
        emit("history", [result_json(r) for r in found])
        return
    console = stdout()
    if not found:
        console.print(NOTHING_YET)
    names = dict.fromkeys(r.model for r in found)
    for name in names:
        told = _curves_shown(r for r in found if r.model == name)
        console.print(f"[bold]{showing.escaped(name)}[/]  {metric} of {showing.escaped(showing.subject(told[-1]))}")
        showing.show_history(told, console)


def _curves_shown(found: Iterable[Result]) -> list[Result]:
    """One for each window: of several curves that which decides, else the most certain there is."""
    from monitor.curves import curve_shown

    windows: dict[Window, list[Result]] = {}
    for result in found:
        windows.setdefault(result.window, []).append(result)
    return [shown for _, group in sorted(windows.items()) if (shown := curve_shown(group)) is not None]


def _is_of(result: Result, feature: str | None, metric: str) -> bool:
    plain = result.segment is None and result.detail.get("against", "baseline") == "baseline"
    return plain and result.feature == feature and result.metric == metric


def _say_what_there_is(everything: Sequence[Result], feature: str | None, metric: str) -> None:
    """Leave with code 2, naming the features, or the metrics of this feature, that have results."""
    if feature is not None and not any(r.feature == feature for r in everything):
        if any(r.metric == feature and r.feature is None for r in everything):
            fail(f"{feature!r} is a metric of the model, not a feature: `--metric {feature}`", Exit.USAGE)
        known = sorted({r.feature for r in everything if r.feature is not None})
        fail(f"no result names a feature {feature!r}{among(feature, known)}", Exit.USAGE)
    metrics = sorted({r.metric for r in everything if r.feature == feature and r.segment is None})
    fail(f"no {metric!r} is known of {feature or 'the model'}{among(metric, metrics)}", Exit.USAGE)
