"""Commands by which people answer: ack, mute, unmute."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import typer

from monitor.cli.common import ConfigOption, Exit, JsonOption, among, emit, fail, opened_store, stderr, stdout
from monitor.cli.reading import find_incident, incident_json, mute_json
from monitor.cli.showing import moment

Who = Annotated[str | None, typer.Option("--by", help="Who says so (default: you).", show_default=False)]
Model = Annotated[str, typer.Option("--model", "-m", help="Of which model.")]
Feature = Annotated[
    str | None, typer.Option("--feature", "-f", help="Only this feature; none: the whole model.", show_default=False)
]


def ack(
    incident: Annotated[str, typer.Argument(metavar="ID", help="An incident's id, or its first characters.")],
    note: Annotated[str, typer.Option("--note", help="What is known, for those who come after.")] = "",
    by: Who = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Take an incident on: no more reminders.

    That it worsens, or ends, is still told.
    """
    with opened_store(config) as held:
        found = find_incident(held, incident)
        if found.state.value != "open":
            fail(
                f"{found.id} is {found.state.value} since {moment(found.resolved_window)}: nothing to take on",
                Exit.USAGE,
            )
        kept = held.store.acknowledge(found.id, who=by or _me(), note=note, at=datetime.now(UTC))
    if json:
        emit("incident", incident_json(kept))
    else:
        stdout().print(f"{found.id} taken on by {by or _me()}: no more reminders", markup=False)


def mute(
    model: Model,
    feature: Feature = None,
    for_: Annotated[str, typer.Option("--for", help="How long, such as 4h or 7d.")] = "7d",
    reason: Annotated[str, typer.Option(help="Why, for those who come after.")] = "",
    by: Who = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Send nothing about a feature or model for a while.

    It is still checked and shown.
    """
    from monitor.config import parse_duration

    try:
        length = parse_duration(for_)
        until = datetime.now(UTC) + length
    except (ValueError, OverflowError) as error:
        fail(f"--for: {error}", Exit.USAGE)
    if length.total_seconds() <= 0:
        fail(f"--for: {for_} is no time at all; `monitor unmute` sends again", Exit.USAGE)
    with opened_store(config, model=model) as held:
        if feature is not None:
            known = held.store.baseline(model)
            if known is not None and feature not in known.features:
                stderr().print(
                    f"note: the baseline of {model} has no feature {feature!r}{among(feature, known.features)}",
                    style="yellow",
                    markup=False,
                )
        kept = held.store.mute(model, feature=feature, until=until, who=by or _me(), reason=reason)
    if json:
        emit("mute", mute_json(kept))
    else:
        stdout().print(f"{_named(model, feature)} muted until {moment(until)}; checks go on", markup=False)


def unmute(model: Model, feature: Feature = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Send again.

    What was held back and still holds is told at the next window.
    """
    with opened_store(config, model=model) as held:
        was_muted = held.store.unmute(model, feature=feature)
        left = [m for m in held.store.mutes(at=datetime.now(UTC)) if m.model == model]
    if json:
        emit("mutes", [mute_json(m) for m in left], unmuted=was_muted)
        return
    console = stdout()
    console.print(f"{_named(model, feature)} {'is no longer' if was_muted else 'was not'} muted", markup=False)
    for m in left:
        until = f"until {moment(m.until)}" if m.until else "until unmuted"
        console.print(f"still muted {until}: {_named(model, m.feature)}", markup=False)


def _named(model: str, feature: str | None) -> str:
    return f"{model} {feature}" if feature else model


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
