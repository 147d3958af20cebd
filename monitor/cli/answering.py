"""Commands by which people answer: ack, mute, unmute."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import typer

from monitor.cli.common import ConfigOption, Exit, JsonOption, emit, fail, nearest, opened, stamp, stdout

Who = Annotated[str | None, typer.Option("--by", help="Who says so (default: you).", show_default=False)]
Model = Annotated[str, typer.Option("--model", "-m", help="Of which model.")]
Feature = Annotated[
    str | None, typer.Option("--feature", "-f", help="Only this feature; none: the whole model.", show_default=False)
]


def register(app: typer.Typer) -> None:
    app.command()(ack)
    app.command()(mute)
    app.command()(unmute)


def ack(
    incident: Annotated[str, typer.Argument(metavar="ID", help="An incident's id, or its first characters.")],
    note: Annotated[str, typer.Option("--note", help="What is known, for those who come after.")] = "",
    by: Who = None,
    config: ConfigOption = None,
) -> None:
    """Take an incident on: no more reminders; worsening and the end are still told."""
    with opened(config) as service:
        found = service.store.incident(incident)
        if found is None:
            known = [item.id for item in service.store.incidents()]
            fail(f"there is no incident {incident!r}{nearest(incident, known)}", Exit.USAGE)
        service.store.acknowledge(found.id, who=by or _me(), note=note, at=datetime.now(UTC))
        stdout().print(f"{found.id} acknowledged by {by or _me()}", highlight=False)


def mute(
    model: Model,
    feature: Feature = None,
    for_: Annotated[str, typer.Option("--for", help="How long, such as 4h or 7d.")] = "7d",
    reason: Annotated[str, typer.Option(help="Why, for those who come after.")] = "",
    by: Who = None,
    config: ConfigOption = None,
) -> None:
    """Send nothing about a feature or a model for a while; it is still checked and shown."""
    from monitor.config import parse_duration

    try:
        length = parse_duration(for_)
    except ValueError as error:
        fail(f"--for: {error}", Exit.USAGE)
    with opened(config, model=model) as service:
        until = datetime.now(UTC) + length
        service.store.mute(model, feature=feature, until=until, who=by or _me(), reason=reason)
        stdout().print(f"{model} {feature or ''} muted until {stamp(until)}", highlight=False)


def unmute(model: Model, feature: Feature = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Send again; what was held back and still holds is told at the next window."""
    with opened(config, model=model) as service:
        service.store.unmute(model, feature=feature)
        left = [m for m in service.store.mutes() if m.model == model]
        if json:
            emit("mutes", [{"model": m.model, "feature": m.feature, "until": stamp(m.until)} for m in left])
        else:
            stdout().print(f"{model} {feature or ''} is no longer muted", highlight=False)


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
