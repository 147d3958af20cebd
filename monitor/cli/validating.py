"""`monitor validate`: what the config says, held against the databases that it names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import showing
from monitor.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    ModelOption,
    config_path,
    emit,
    read_config,
    require_model,
    stamp,
    start_logging,
    stdout,
)

if TYPE_CHECKING:
    from rich.console import Console

    from monitor.config import Config, ModelConfig
    from monitor.models import Roles, Window
    from monitor.sources import Source

TIMES = (
    "What reads: times of the database, ISO 8601 text (2026-03-01, 2026-03-01 06:30:00, 2026-03-01T06:30:00.5+01:00), "
    "and numbers of s, ms, us or ns since 1970 (`time: {column: NAME, unit: s}`). Other text: a `query:` that casts it"
)
ROLES = ("time", "key", "score", "decision", "label", "version", "segments")


def validate(
    config: ConfigOption = None,
    model: ModelOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only the file; connect to nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Check the config, and what each column is taken for.

    Every problem of the file at once, with its line; then the databases: tables, columns, labels, offline values,
    why a column is no feature, duplicate rows of the newest window, and when windows are due.
    """
    loaded = read_config(config)
    require_model(loaded, model)
    start_logging(loaded)
    told = [_look_at(loaded, name, offline=offline) for name in loaded.models if model in (None, name)]
    path = config_path(config)
    for item in told:
        for remark in item.get("label_remarks", ()):
            remark["where"] = _spot(path, remark["path"])
    broken = any(item.get("error") or any(each["broken"] for each in item.get("label_remarks", ())) for item in told)
    if json:
        emit("models", told, valid=not broken)
    else:
        _show(told, path)
    raise typer.Exit(Exit.FAILED if broken else Exit.DONE)


def _look_at(config: Config, name: str, *, offline: bool) -> dict[str, Any]:
    from monitor import baselines, schedule
    from monitor.sources import SourceError, open_source

    model, now = config.models[name], datetime.now(UTC)
    told: dict[str, Any] = {
        "model": name,
        "baseline": baselines.describe(model, baselines.reference_span(model, _moment(now))),
        "next_windows_due": [stamp(due) for due in schedule.next_due(model, config, now=now)],
    }
    if offline:
        return told
    source_name = model.source or next(iter(config.sources))
    try:
        source = open_source(source_name, config.sources[source_name], zone=config.timezone, others=config.sources)
        try:
            return told | _ask(source, name, model, config, now=now)
        finally:
            source.close()
    except SourceError as error:
        return told | {"error": error.public}


def _ask(source: Source, name: str, model: ModelConfig, config: Config, *, now: datetime) -> dict[str, Any]:
    """What the database says: roles, extent, and a look at the newest window with rows."""
    from monitor.sources import spelled_out

    roles = source.roles(model)
    extent = source.extent(model, roles)
    told: dict[str, Any] = {
        "time": roles.time,
        "key": list(roles.key),
        "score": roles.score,
        "decision": roles.decision,
        "label": roles.label if roles.label or model.labels is None else model.labels.label,
        "version": roles.version,
        "segments": list(roles.segments),
        "features": roles.features,
        "left_out": roles.left_out,
        "guessed": roles.guessed,
        "rows_from": stamp(extent[0]) if extent else None,
        "rows_to": stamp(extent[1]) if extent else None,
    }
    window = _newest_window(model, config, extent, now=now)
    if window is not None:
        told["newest_window"] = _sound(source, spelled_out(model, roles), roles, window, now=now)
    example = source.unread_time(model) if extent is None else None
    if example is not None:
        return told | {"error": f"column {roles.time!r} holds {example!r}, which does not read as a time. {TIMES}"}
    told["label_remarks"] = _label_remarks(source, name, model, roles)
    return told | {"notes": _notes(model, roles, told, now=now)}


def _label_remarks(source: Source, name: str, model: ModelConfig, roles: Roles) -> list[dict[str, Any]]:
    """What does not go together with the task of each label, with the key that says otherwise."""
    from monitor.label_tasks import roles_of, views
    from monitor.label_values import Seen, remarks
    from monitor.sources import spelled_out

    told: list[dict[str, Any]] = []
    for at, view in enumerate(views(spelled_out(model, roles))):
        mine = roles_of(view, roles)
        predicted = None
        if mine.decision is not None and view.labels is not None and view.labels.task != "regression":
            predicted = Seen(*source.values(view, mine.decision))
        found = remarks(view, Seen(*source.label_values(view)), predicted)
        path = ["labels"] if at == 0 else ["labels", "also", at - 1]
        told += [
            {"message": each.words, "broken": each.broken, "path": ["models", name, *path, "task"]} for each in found
        ]
    return told


def _spot(path: Path, keys: list[str | int]) -> str:
    """File and line of a key of the config, or of the block that it would be in."""
    from monitor.config_problems import locate, position
    from monitor.config_tree import decode, parse

    root, _ = parse(decode(path.read_bytes()))
    line, column = position(locate(root, tuple(keys)))
    return f"{path}:{line}:{column}"


def _newest_window(
    model: ModelConfig, config: Config, extent: tuple[datetime, datetime] | None, *, now: datetime
) -> Window | None:
    """The newest closed window that has rows, or the one that is being filled."""
    from monitor import schedule, windows

    if extent is None:
        return None
    span, last = schedule.length(model, config), min(extent[1], now)
    cuts = windows.cuts(model.window, config.zone, start=last - 2 * span, end=last + span, anchor=model.start)
    known = [cut for cut in cuts if cut.start <= last]
    closed = [cut for cut in known if cut.end <= now and cut.end > extent[0]]
    found = closed or known
    return found[-1] if found else None


def _sound(source: Source, model: ModelConfig, roles: Roles, window: Window, *, now: datetime) -> dict[str, Any]:
    """Read one window as a run would, so that a missing table or a key that does not join shows now."""
    from monitor import passes
    from monitor.config import RangeBaseline, RollingBaseline
    from monitor.sources import by_rows, seen_versions

    stream = source.read_inputs(model, roles, window, now=now)
    counted = passes.count(stream, {}).counts
    told: dict[str, Any] = {
        "window_start": stamp(window.start),
        "window_end": stamp(window.end),
        "n_rows": counted.n_rows,
        "duplicates": stream.duplicates,
        "unreadable_times": stream.bad_times,
    }
    if roles.version is not None and (model.compare is None or by_rows(model)):
        seen = seen_versions(source, model, roles, window, now=now)
        told["versions"] = {name: each.n_rows for name, each in seen.items()}
    if model.labels is not None:
        known = source.read_labels(model, roles, window, now=now)
        told["n_labelled"] = sum(batch.num_rows - batch.column("__label__").null_count for batch in known)
    if model.skew is not None:
        pairs = source.read_pairs(model, roles, window, now=now)
        told |= {"n_sampled": pairs.n_sampled, "n_matched": pairs.n_matched}
    if not isinstance(model.baseline, (RollingBaseline, RangeBaseline)):
        next(iter(source.read_relation(model, roles, now=now)), None)
    return told


def _notes(model: ModelConfig, roles: Roles, told: dict[str, Any], *, now: datetime) -> list[str]:
    """What works, but may not be what was meant; each with what to do about it."""
    notes = []
    if set(roles.guessed) - {"version"}:
        notes.append("what is guessed goes by its name: write the key into the config to be sure, or another column")
    if not roles.features:
        notes.append(
            "no column is a feature, so drift is watched on the score alone; where are they? "
            "features: {table: NAME, key: COLUMN}, or for a JSON column features: {from: COLUMN}"
        )
    if roles.score is None and roles.decision is None:
        notes.append("no score and no decision: score drift and performance cannot be told; set `score:`")
    decides = model.labels is None or model.labels.task == "binary"
    if decides and roles.score is not None and roles.decision is None and model.threshold is None and told["label"]:
        notes.append("no decision and no threshold: precision and recall cannot be told; set `threshold:`")
    if not roles.key:
        notes.append(
            "no key: duplicate rows all count, and neither labels nor offline values can be joined; set `key:`"
        )
    if told["rows_to"] is None:
        notes.append(f"no row has a time that reads in {roles.time!r}: is the table empty, or `time:` another column?")
        return notes
    newest = told.get("newest_window", {})
    if now - datetime.fromisoformat(told["rows_to"]) > 14 * (model.settle + _length(newest)):
        notes.append("the newest row is old: `monitor backfill --from … --to …` looks at the past")
    notes += _version_notes(model, newest)
    if newest.get("n_sampled") and not newest["n_matched"]:
        notes.append("no offline row has the key of an online one; are both written the same way?")
    return notes


def _version_notes(model: ModelConfig, newest: dict[str, Any]) -> list[str]:
    """Versions that log a row each for one request, and names in `compare` that no row has."""
    versions: dict[str, int] = newest.get("versions") or {}
    there = ", ".join(sorted(versions)[:8]) or "none"
    if model.compare is None:
        if len(versions) < 2 or not newest.get("duplicates"):
            return []
        return [
            f"there are rows of several versions ({there}) for one key, of which only the last counts; "
            "if they answer the same requests: compare: {champion: NAME}"
        ]
    named = [*([model.compare.champion] if model.compare.champion else []), *model.compare.challengers]
    absent = [name for name in named if "versions" in newest and name not in versions]
    return [f"no row of the newest window has the version {name!r} of `compare`; there are {there}" for name in absent]


def _length(newest: dict[str, Any]) -> Any:
    from datetime import timedelta

    if not newest:
        return timedelta(days=1)
    return datetime.fromisoformat(newest["window_end"]) - datetime.fromisoformat(newest["window_start"])


def _moment(now: datetime) -> Window:
    from datetime import timedelta

    from monitor.models import Window

    return Window(now, now + timedelta(seconds=1))


# --- on the terminal ------------------------------------------------------------------------------


def _show(told: Sequence[dict[str, Any]], path: Path) -> None:
    console = stdout()
    console.print(f"[green]✓[/] {showing.escaped(str(path))}: no problem in the file", soft_wrap=True)
    for item in told:
        name = f"[bold]{showing.escaped(item['model'])}[/]"
        if item.get("error"):
            console.print(f"[red]✗[/] {name}: [red]{showing.escaped(item['error'])}[/]", soft_wrap=True)
            continue
        remarks = item.get("label_remarks", ())
        console.print(f"{'[red]✗' if any(each['broken'] for each in remarks) else '[green]✓'}[/] {name}")
        table = showing.plain_table(["", ""])
        table.columns[1].no_wrap, table.columns[1].overflow = False, "fold"
        for label, text in _lines(item):
            table.add_row(showing.plain(label), text)
        console.print(showing.indented(table))
        for each in remarks:
            _note(console, f"{each['where']}: {each['message']}", broken=each["broken"])
        for note in item.get("notes", ()):
            _note(console, note)


def _note(console: Console, note: str, *, broken: bool = False) -> None:
    style = "red" if broken else "yellow"
    table = showing.plain_table(["", ""])
    table.columns[1].no_wrap, table.columns[1].overflow = False, "fold"
    table.add_row(showing.plain("!", style=style), showing.plain(note, style=style))
    console.print(showing.indented(table))


def _lines(item: dict[str, Any]) -> list[tuple[str, Any]]:
    """Label and text of each line about a model."""
    lines = [] if "features" not in item else _column_lines(item)
    lines.append(("baseline", showing.plain(item["baseline"])))
    lines.append(("due next", showing.plain(", ".join(_short(due) for due in item["next_windows_due"]))))
    return lines


def _column_lines(item: dict[str, Any]) -> list[tuple[str, Any]]:
    from rich.text import Text

    lines: list[tuple[str, Any]] = []
    for role in ROLES:
        if item.get(role):
            value = item[role] if isinstance(item[role], str) else ", ".join(item[role])
            text = Text(value)
            if role in item["guessed"]:
                text.append("  guessed", style="yellow")
            lines.append((role, text))
    for label, wanted in (("numeric", True), ("categorical", False)):
        names = [name for name, kind in item["features"].items() if (kind == "numeric") is wanted]
        lines.append((label, showing.plain(", ".join(names) or "none")))
    for column, why in item["left_out"].items():
        if not why.startswith("is the "):  # shown above, as what it is
            lines.append(("left out", showing.plain(f"{column}: {why}", style="dim")))
    rows = f"{_short(item['rows_from'])} … {_short(item['rows_to'])}" if item["rows_to"] else "none"
    lines.append(("rows", showing.plain(rows)))
    if "newest_window" in item:
        lines.append(("newest", showing.plain(_newest_words(item["newest_window"]))))
    return lines


def _newest_words(newest: dict[str, Any]) -> str:
    told = [f"{newest['n_rows']:,} rows in the window of {_short(newest['window_start'])}"]
    if newest["duplicates"]:
        told.append(f"{newest['duplicates']:,} duplicates by key left out (the last one counts)")
    if newest["unreadable_times"]:
        told.append(f"{newest['unreadable_times']:,} with a time that does not read")
    if "n_labelled" in newest:
        told.append(f"{newest['n_labelled']:,} labelled so far")
    if "n_sampled" in newest:
        told.append(f"{newest['n_matched']:,} of {newest['n_sampled']:,} sampled requests found offline")
    return ", ".join(told)


def _short(text: str | None) -> str:
    return "" if text is None else showing.moment(datetime.fromisoformat(text))
