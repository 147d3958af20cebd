"""Commands about what windows are compared with: baseline set, show, diff."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import showing
from monitor.cli.common import ConfigOption, Exit, JsonOption, NowOption, emit, fail, instant, opened, stamp, stdout

if TYPE_CHECKING:
    from monitor.models import Baseline
    from monitor.service import Service

Model = Annotated[str, typer.Option("--model", "-m", help="Of which model.")]


def baseline_set(model: Model, config: ConfigOption = None, now: NowOption = None, json: JsonOption = False) -> None:
    """Build a baseline anew, and freeze it.

    It gets a number of its own and starts a new series; the old one is kept, and so are its results.
    """
    from monitor import baselines
    from monitor.models import Window

    with opened(config, model=model) as service:
        at = instant(now, service.config)
        try:
            with service.source(model) as source:
                made = baselines.build(
                    model,
                    service.config,
                    store=service.store,
                    source=source,
                    roles=service.roles(model, source, now=at),
                    window=Window(at, at + timedelta(seconds=1)),
                    now=at,
                )
        except baselines.NoBaselineError as error:
            fail(f"{model}: {error}")
    _tell(made, as_json=json)


def baseline_show(
    model: Model,
    number: Annotated[
        int | None, typer.Argument(help="Number of a baseline (default: the newest).", show_default=False)
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """What a baseline was made from, and how its columns look."""
    with opened(config, model=model) as service:
        if number is None and service.store.baseline(model) is None:
            fail(f"{model} has no baseline yet; `monitor baseline set -m {model}` or the first run builds it")
        found = _numbered(service, model, [number])[0]
    _tell(found, as_json=json)


def _numbered(service: Service, model: str, numbers: list[int | None]) -> list[Baseline]:
    """Baselines of a model by number (``None``: the newest), or leave with code 2."""
    known = sorted(item.id for item in service.store.baselines(model))
    found = []
    for number in numbers:
        if number is not None and number not in known:
            fail(f"{model} has no baseline {number}; it has {', '.join(map(str, known)) or 'none'}", Exit.USAGE)
        found.append(service.store.baseline_by_id(known[-1] if number is None else number))
    return found


def _tell(made: Baseline, *, as_json: bool) -> None:
    from detectors.display import describe

    columns = {name: describe(column.spec, column.reference) for name, column in made.columns.items()}
    if as_json:
        emit("baseline", baseline_json(made) | {"columns": columns})
        return
    console = stdout()
    console.print(
        f"[bold]{showing.escaped(made.model)}[/]  baseline {made.id} of {showing.moment(made.created_at)}: "
        f"{made.n_rows:,} rows, {showing.escaped(made.source)}",
        soft_wrap=True,
    )
    numeric = showing.plain_table(["numeric", "missing", "p5", "median", "p95", "mean", ""])
    other = showing.plain_table(["categorical", "missing", "values"])
    for name, told in columns.items():
        if "mean" in told:
            row = [showing.number(told[key]) for key in ("p5", "p50", "p95", "mean")]
            numeric.add_row(showing.plain(_called(name)), _share(told["missing_rate"]), *row, "")
        else:
            values = ", ".join(f"{value} {_share(share)}" for value, share in told["top"].items())
            other.add_row(showing.plain(_called(name)), _share(told["missing_rate"]), showing.plain(values))
    for table in (numeric, other):
        if table.row_count:
            console.print(showing.indented(table))


def _called(column: str) -> str:
    return {"__score__": "(score)", "__decision__": "(decisions)"}.get(column, column)


def _share(share: float | None) -> str:
    return "—" if share is None else f"{share:.1%}"


def baseline_json(made: Baseline) -> dict[str, Any]:
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
    model: Model,
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
    with opened(config, model=model) as service:
        known = sorted(item.id for item in service.store.baselines(model))
        if len(known) < 2:
            fail(f"{model} has {showing.counted(len(known), 'baseline')}; two are needed", Exit.USAGE)
        before = known[-2] if first is None else first
        old, new = _numbered(service, model, [before, second])
    told = [_difference(name, old, new) for name in dict.fromkeys([*old.columns, *new.columns])]
    if json:
        emit("diff", told, old=baseline_json(old), new=baseline_json(new))
        return
    console = stdout()
    console.print(
        f"[bold]{showing.escaped(model)}[/]  baseline {old.id} ({old.n_rows:,} rows, {showing.escaped(old.source)}) → "
        f"{new.id} ({new.n_rows:,} rows, {showing.escaped(new.source)})",
        soft_wrap=True,
    )
    table = showing.plain_table(["column", "median", "missing", ""])
    for item in told:
        only = "" if item["in_old"] and item["in_new"] else f"only in {old.id if item['in_old'] else new.id}"
        medians = (
            f"{showing.number(item['old_median'])} → {showing.number(item['new_median'])}"
            if item.get("old_median") is not None and item.get("new_median") is not None
            else ""
        )
        missing = "" if only else f"{_share(item.get('old_missing'))} → {_share(item.get('new_missing'))}"
        table.add_row(showing.plain(_called(item["column"])), medians, missing, only)
    console.print(showing.indented(table))


def _difference(name: str, old: Baseline, new: Baseline) -> dict[str, Any]:
    from detectors.display import quantile
    from detectors.profiles import NumericProfile, NumericSpec

    item: dict[str, Any] = {"column": name, "in_old": name in old.columns, "in_new": name in new.columns}
    for side, baseline in (("old", old), ("new", new)):
        column = baseline.columns.get(name)
        if column is None:
            continue
        if isinstance(column.spec, NumericSpec) and isinstance(column.reference, NumericProfile):
            item[f"{side}_median"] = quantile(column.spec, column.reference, 0.5)
        if column.reference.n:
            item[f"{side}_missing"] = column.reference.missing / column.reference.n
    return item
