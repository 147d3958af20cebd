"""The command that tries a config on stored windows, before it is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    ModelOption,
    emit,
    fail,
    instant,
    opened,
    read_config,
    require_model,
    stamp,
    stdout,
)

if TYPE_CHECKING:
    from datetime import datetime

    from monitor.backtest import Outcome
    from monitor.service import Service

_SHOWN = 12


def backtest(
    start: Annotated[str, typer.Option("--from", help="First moment of the range.")],
    end: Annotated[str, typer.Option("--to", help="End of the range.")],
    config: ConfigOption = None,
    proposed: Annotated[
        Path | None, typer.Option("--proposed", "-p", help="A config to be compared with.", show_default=False)
    ] = None,
    plant: Annotated[
        list[str] | None,
        typer.Option(
            help="A fault to be planted: shift:age:0.5sd@2026-03-01, scale:income:1.2x@…, nulls:plan:5%@…, "
            "category:plan:1%@… or flips:labels:10%@…; until …..DATE if it ends. May be repeated.",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """What a config would have paged, and what it would have missed.

    Stored windows are judged anew, as they were and with planted faults; no source is read and nothing is saved.
    """
    with opened(config, model=model) as service:
        first, last = (
            instant(text, service.config, option=option) for text, option in ((start, "--from"), (end, "--to"))
        )
        if first >= last:
            fail(f"--from {start} is not before --to {end}", Exit.USAGE)
        other = None if proposed is None else read_config(proposed)
        if other is not None and model is not None:
            require_model(other, model)
        names = [model] if model else [n for n in service.config.models if other is None or n in other.models]
        if not names:
            fail("the two configs have no model in common", Exit.USAGE)
        told = {
            name: _outcomes(service, name, proposed=proposed, start=first, end=last, plants=plant or [])
            for name in names
        }
        if json:
            _emit(told, first, last)
        else:
            for name, outcomes in told.items():
                _show(name, outcomes)


def _outcomes(
    service: Service, name: str, *, proposed: Path | None, start: datetime, end: datetime, plants: Sequence[str]
) -> list[Outcome]:
    from monitor.backtest import PlantError, backtest, parse_plant, recorded

    configs = [("today", service.config)]
    if proposed is not None:
        configs.append(("proposed", read_config(proposed)))
    try:
        faults = [parse_plant(text, service.config.zone) for text in plants]
        told = [recorded(service.store, name, start=start, end=end)]
        for label, config in configs:
            told.append(backtest(service.store, config, name, label=label, start=start, end=end, plants=faults))
    except PlantError as error:
        fail(f"--plant: {error}", Exit.USAGE)
    except LookupError as error:
        fail(str(error.args[0] if error.args else error))
    return told


def _emit(told: dict[str, list[Outcome]], start: datetime, end: datetime) -> None:
    from monitor.backtest import as_json

    models = [{"model": name, "configs": [as_json(one) for one in outcomes]} for name, outcomes in told.items()]
    emit("backtest", {"from": stamp(start), "to": stamp(end), "models": models})


def _show(name: str, outcomes: Sequence[Outcome]) -> None:
    from monitor.cli import showing

    console = stdout()
    console.print(f"{name}: {outcomes[-1].n_windows} stored windows", markup=False, highlight=False)
    table = showing.plain_table(["", *(one.name for one in outcomes)])
    table.add_row("pages", *(str(len(one.pages)) for one in outcomes))
    table.add_row("follow-ups, no pages", *(str(one.follow_ups) for one in outcomes))
    judged = [one for one in outcomes if one.name != "recorded"]
    blank = [""] * (len(outcomes) - len(judged))
    table.add_row("windows with an alert", *blank, *(str(one.alerting_windows) for one in judged))
    table.add_row("windows that cannot tell", *blank, *(str(one.cannot_tell) for one in judged))
    for place, found in enumerate(judged[0].plants):
        table.add_row(showing.escaped(found.plant.text), *blank, *(_fate(one, place) for one in judged))
    console.print(table)
    for one in outcomes:
        for page in one.pages[:_SHOWN]:
            line = f"  {one.name}: {showing.moment(page.window.start)} {page.incident.check.value} {page.names()}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if len(one.pages) > _SHOWN:
            console.print(f"  {one.name}: and {len(one.pages) - _SHOWN} more", highlight=False)
    for note in dict.fromkeys(note for one in outcomes for note in one.notes):
        console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)


def _fate(outcome: Outcome, place: int) -> str:
    found = outcome.plants[place]
    if found.delay is None:
        return "missed"
    return "at once" if found.delay == 0 else f"after {found.delay} more window{'s' * (found.delay != 1)}"
