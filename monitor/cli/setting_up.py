"""Commands for setting up and looking after: init, validate, schema, doctor, test-alert, baseline, db."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    NowOption,
    config_path,
    emit,
    fail,
    instant,
    open_store,
    opened,
    read_config,
    stamp,
    stdout,
)

if TYPE_CHECKING:
    from monitor.config import Config
    from monitor.models import Baseline

OK_MARK, BAD_MARK = "✓", "✗"


def register(app: typer.Typer) -> None:
    app.command()(init)
    app.command()(validate)
    app.command()(schema)
    app.command()(doctor)
    app.command(name="test-alert")(test_alert)
    baseline = typer.Typer(help="Build and freeze, inspect, compare baselines.", no_args_is_help=True)
    baseline.command("set")(baseline_set)
    baseline.command("show")(baseline_show)
    baseline.command("diff")(baseline_diff)
    app.add_typer(baseline, name="baseline")
    db = typer.Typer(help="The store: migrations and retention.", no_args_is_help=True)
    db.command("upgrade")(db_upgrade)
    db.command("current")(db_current)
    db.command("prune")(db_prune)
    app.add_typer(db, name="db")


def init(
    source: Annotated[str | None, typer.Option(help="Database URL to look at.", show_default=False)] = None,
    table: Annotated[
        str | None, typer.Option("--table", "-T", help="Table with logged predictions.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write.")] = Path("config.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> None:
    """Write a commented config.yaml; with a source, time, key, score and label are guessed and marked."""
    from monitor.starter import starter

    if out.exists() and not force:
        fail(f"{out} exists; --force writes over it, --out names another file", Exit.USAGE)
    if (source is None) != (table is None):
        fail("--source and --table go together", Exit.USAGE)
    columns: list[Any] = []
    if source is not None and table is not None:
        columns = _columns_of(source, table)
    out.write_text(starter(columns, source_url=source, table=table), encoding="utf-8")
    stdout().print(f"{out} written. Next: look at what is marked as guessed, then `monitor validate`.", highlight=False)


def _columns_of(source: str, table: str) -> list[Any]:
    from monitor.config import SourceConfig
    from monitor.sources import SourceError, open_source

    try:
        opened_source = open_source("source", SourceConfig.model_validate(source), zone="UTC")
        try:
            return list(opened_source.columns(table))
        finally:
            opened_source.close()
    except SourceError as error:
        fail(f"--source: {error!s}")


def validate(
    config: ConfigOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only the file; connect to nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Check the config against itself and the databases; show what each column is taken for, and when windows are due."""
    loaded = read_config(config)
    told = [_look_at_model(loaded, name, offline=offline) for name in loaded.models]
    broken = any(item.get("error") for item in told)
    if json:
        emit("models", told, valid=not broken)
    else:
        _show_validation(told, config_path(config))
    raise typer.Exit(Exit.FAILED if broken else Exit.DONE)


def _look_at_model(config: Config, name: str, *, offline: bool) -> dict[str, Any]:
    from datetime import UTC, datetime

    from monitor import schedule, windows
    from monitor.sources import SourceError, open_source

    model = config.models[name]
    now = datetime.now(UTC)
    length = schedule.length(model, config)
    ahead = windows.cuts(model.window, config.zone, start=now - length, end=now + 3 * length, anchor=model.start)
    told: dict[str, Any] = {
        "model": name,
        "next_windows_due": [stamp(w.end + model.settle) for w in ahead if w.end + model.settle > now][:3],
    }
    if offline:
        return told
    source_name = model.source or next(iter(config.sources))
    try:
        source = open_source(source_name, config.sources[source_name], zone=config.timezone, others=config.sources)
        try:
            roles = source.roles(model)
            extent = source.extent(model, roles)
        finally:
            source.close()
    except SourceError as error:
        return told | {"error": str(error)}
    return told | {
        "time": roles.time,
        "key": list(roles.key),
        "score": roles.score,
        "decision": roles.decision,
        "label": roles.label,
        "version": roles.version,
        "segments": list(roles.segments),
        "features": roles.features,
        "left_out": roles.left_out,
        "guessed": roles.guessed,
        "rows_from": stamp(extent[0]) if extent else None,
        "rows_to": stamp(extent[1]) if extent else None,
    }


def _show_validation(told: list[dict[str, Any]], path: Path) -> None:
    from rich.markup import escape

    console = stdout()
    console.print(f"{OK_MARK} {path}: the file is sound", highlight=False, soft_wrap=True)
    for item in told:
        if item.get("error"):
            console.print(f"[red]{BAD_MARK} {escape(item['model'])}: {escape(item['error'])}[/]", soft_wrap=True)
            continue
        console.print(f"{OK_MARK} [bold]{escape(item['model'])}[/]")
        for role in ("time", "key", "score", "decision", "label", "version", "segments"):
            if item.get(role):
                value = item[role] if isinstance(item[role], str) else ", ".join(item[role])
                guessed = "  [yellow](guessed)[/]" if role in item["guessed"] else ""
                console.print(f"    {role:9} {escape(value)}{guessed}")
        if "features" in item:
            numeric = [n for n, kind in item["features"].items() if kind == "numeric"]
            categorical = [n for n, kind in item["features"].items() if kind != "numeric"]
            console.print(f"    numeric   {escape(', '.join(numeric) or 'none')}", soft_wrap=True)
            console.print(f"    categoric {escape(', '.join(categorical) or 'none')}", soft_wrap=True)
            for column, why in item["left_out"].items():
                console.print(f"    left out  {escape(column)}: {escape(why)}", style="dim", soft_wrap=True)
            console.print(f"    rows      {item['rows_from']} … {item['rows_to']}", highlight=False)
        console.print(f"    due next  {', '.join(item['next_windows_due'])}", highlight=False)


def schema() -> None:
    """Print the JSON schema of config.yaml, for editors."""
    import json

    from monitor.config_file import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")


def doctor(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Versions, drivers, rights, store revision, clocks, gaps between windows, channels."""
    from monitor.doctor import examine

    with opened(config) as service:
        findings = examine(service)
    bad = [item for item in findings if not item["ok"]]
    if json:
        emit("findings", findings, healthy=not bad)
    else:
        for item in findings:
            mark = f"[green]{OK_MARK}[/]" if item["ok"] else f"[red]{BAD_MARK}[/]"
            stdout().print(f"{mark} {item['subject']}: ", end="")
            stdout().print(item["text"], markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(Exit.FAILED if bad else Exit.DONE)


def test_alert(
    config: ConfigOption = None,
    to: Annotated[str | None, typer.Option("--to", help="Only this destination.", show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """Send a harmless message to each destination, and say whether it arrived."""
    from monitor.sending import send_test

    with opened(config) as service:
        known = service.config.alerts.destinations
        if to is not None and to not in known:
            fail(f"there is no destination {to!r}; known: {', '.join(known) or 'none'}", Exit.USAGE)
        told = send_test(service, [to] if to else list(known))
    if json:
        emit("destinations", told)
    else:
        for item in told:
            mark = f"[green]{OK_MARK}[/]" if item["ok"] else f"[red]{BAD_MARK}[/]"
            stdout().print(f"{mark} {item['destination']}: {item['text']}")
        if not told:
            stdout().print("no destination is configured (`alerts:`)")
    raise typer.Exit(Exit.DONE if all(item["ok"] for item in told) else Exit.UNDELIVERED)


# --- baseline ------------------------------------------------------------------------------------


def baseline_set(
    model: Annotated[str, typer.Option("--model", "-m", help="Of which model.")],
    config: ConfigOption = None,
    now: NowOption = None,
    json: JsonOption = False,
) -> None:
    """Build the baseline from its reference rows and freeze it; a new number starts a new series."""
    from monitor import baselines
    from monitor.models import Window
    from monitor.sources import SourceError

    with opened(config, model=model) as service:
        at = instant(now, service.config)
        try:
            with service.source(model) as source:
                roles = service.roles(model, source, now=at)
                made = baselines.build(
                    model,
                    service.config,
                    store=service.store,
                    source=source,
                    roles=roles,
                    window=Window(at, at + timedelta(seconds=1)),
                    now=at,
                )
        except (SourceError, baselines.NoBaselineError) as error:
            fail(f"{model}: {getattr(error, 'public', error)}")
        _tell_baseline(made, as_json=json)


def baseline_show(
    model: Annotated[str, typer.Option("--model", "-m", help="Of which model.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """What the current baseline was made from, and how its columns look."""
    with opened(config, model=model) as service:
        found = service.store.baseline(model)
        if found is None:
            fail(f"{model} has no baseline yet; `monitor baseline set -m {model}` or the first run builds it")
        _tell_baseline(found, as_json=json)


def _tell_baseline(made: Baseline, *, as_json: bool) -> None:
    from detectors.display import describe

    columns = {name: describe(column.spec, column.reference) for name, column in made.columns.items()}
    if as_json:
        emit("baseline", _baseline_json(made) | {"columns": columns})
        return
    console = stdout()
    console.print(f"baseline {made.id} of {made.model}: {made.n_rows:,} rows, {made.source}", highlight=False)
    for name, told in columns.items():
        line = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in told.items()
            if value is not None
        )
        console.print(f"  {name}: {line}", markup=False, highlight=False, soft_wrap=True)


def _baseline_json(made: Baseline) -> dict[str, Any]:
    return {
        "id": made.id,
        "model": made.model,
        "spec_hash": made.spec_hash,
        "created_at": stamp(made.created_at),
        "source": made.source,
        "window": None if made.window is None else [stamp(made.window.start), stamp(made.window.end)],
        "n_rows": made.n_rows,
    }


def baseline_diff(
    model: Annotated[str, typer.Option("--model", "-m", help="Of which model.")],
    first: Annotated[
        int | None, typer.Argument(help="Number of a baseline (default: the one before).", show_default=False)
    ] = None,
    second: Annotated[
        int | None, typer.Argument(help="Number of another (default: the newest).", show_default=False)
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """What changed between two baselines, column by column."""
    from detectors.display import quantile
    from detectors.profiles import NumericSpec

    with opened(config, model=model) as service:
        known = [item.id for item in service.store.baselines(model)]
        pair = [first, second] if first is not None and second is not None else sorted(known)[-2:]
        if len(pair) < 2 or not set(pair) <= set(known):
            fail(f"{model} has baselines {known}; two are needed", Exit.USAGE)
        old, new = (service.store.baseline_by_id(int(number or 0)) for number in pair)
        if old is None or new is None:
            fail(f"{model} has baselines {known}; two are needed", Exit.USAGE)
        told = []
        for name in sorted(set(old.columns) | set(new.columns)):
            a, b = old.columns.get(name), new.columns.get(name)
            item: dict[str, Any] = {"column": name, "in_old": a is not None, "in_new": b is not None}
            for side, column in (("old", a), ("new", b)):
                if column is not None and isinstance(column.spec, NumericSpec):
                    item[f"{side}_median"] = quantile(column.spec, column.reference, 0.5)
                if column is not None and column.reference.n:
                    item[f"{side}_missing"] = column.reference.missing / column.reference.n
            told.append(item)
        if json:
            emit("diff", told, old=_baseline_json(old), new=_baseline_json(new))
            return
        console = stdout()
        console.print(f"baseline {old.id} ({old.n_rows:,} rows) → {new.id} ({new.n_rows:,} rows)", highlight=False)
        for item in told:
            if not (item["in_old"] and item["in_new"]):
                console.print(f"  {item['column']}: only in the {'old' if item['in_old'] else 'new'} one", markup=False)
            elif item.get("old_median") is not None and item.get("new_median") is not None:
                console.print(
                    f"  {item['column']}: median {item['old_median']:.4g} → {item['new_median']:.4g}",
                    markup=False,
                    highlight=False,
                )


# --- store ---------------------------------------------------------------------------------------


def db_upgrade(config: ConfigOption = None) -> None:
    """Bring the store to this version (every command that opens it does so by itself)."""
    from monitor.store.schema import REVISION

    store = open_store(read_config(config))
    stdout().print(f"store is at revision {REVISION}")
    store.close()


def db_current(config: ConfigOption = None, json: JsonOption = False) -> None:
    """The store's revision."""
    from monitor.store.schema import REVISION

    store = open_store(read_config(config))
    if json:
        emit("store", {"revision": REVISION, "dialect": store.dialect})
    else:
        stdout().print(f"{store.dialect}: revision {REVISION}")
    store.close()


def db_prune(config: ConfigOption = None, now: NowOption = None, json: JsonOption = False) -> None:
    """Delete what is older than `retention` says; evidence of open incidents stays."""
    with opened(config) as service:
        at, keep = instant(now, service.config), service.config.retention
        gone = service.store.prune(results_before=at - keep.results, profiles_before=at - keep.profiles)
        if json:
            emit("deleted", gone)
        else:
            stdout().print(", ".join(f"{n} {what}" for what, n in gone.items()) or "nothing to delete")
