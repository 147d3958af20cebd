"""Commands that look after the service: doctor, test-alert, and the store's db upgrade, current, prune."""

from __future__ import annotations

from typing import Annotated

import typer

from monitor.cli import showing
from monitor.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    NowOption,
    among,
    emit,
    fail,
    instant,
    open_store,
    opened,
    read_config,
    stdout,
)

OK_MARK, BAD_MARK = "[green]✓[/]", "[red]✗[/]"


def doctor(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Versions, rights, store, clocks, gaps, channels."""
    from monitor.doctor import examine

    with opened(config) as service:
        findings = examine(service)
    bad = [item for item in findings if not item["ok"]]
    if json:
        emit("findings", findings, healthy=not bad)
    else:
        console = stdout()
        for item in findings:
            mark = OK_MARK if item["ok"] else BAD_MARK
            subject, text = showing.escaped(item["subject"]), showing.escaped(item["text"])
            console.print(f"{mark} [bold]{subject}[/]: {text}", soft_wrap=True)
        console.print(f"\n{showing.counted(len(bad), 'thing')} to look at" if bad else "\nall is well")
    raise typer.Exit(Exit.FAILED if bad else Exit.DONE)


def alert_test(
    config: ConfigOption = None,
    to: Annotated[str | None, typer.Option("--to", help="Only this destination.", show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """A harmless message to each destination."""
    from monitor.sending import send_test

    with opened(config) as service:
        known = service.config.alerts.destinations
        if to is not None and to not in known:
            fail(f"there is no destination {to!r}{among(to, known)}", Exit.USAGE)
        if not known:
            fail(
                "no destination is configured, so nobody hears of an alert. In the config, for example: "
                "alerts: {terminal: console}",
                Exit.USAGE,
            )
        told = send_test(service, [to] if to else list(known))
    if json:
        emit("destinations", told)
    else:
        for item in told:
            mark = OK_MARK if item["ok"] else BAD_MARK
            stdout().print(
                f"{mark} {showing.escaped(item['destination'])}: {showing.escaped(item['text'])}", soft_wrap=True
            )
    raise typer.Exit(Exit.DONE if all(item["ok"] for item in told) else Exit.UNDELIVERED)


def db_upgrade(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Bring the store to this version.

    Every command that opens the store does so by itself.
    """
    _tell_store(config, as_json=json)


def db_current(config: ConfigOption = None, json: JsonOption = False) -> None:
    """The store's revision."""
    _tell_store(config, as_json=json)


def _tell_store(config: ConfigOption, *, as_json: bool) -> None:
    from monitor.store.schema import REVISION

    store = open_store(read_config(config))
    try:
        if as_json:
            emit("store", {"revision": REVISION, "dialect": store.dialect, "place": store.url_safe})
        else:
            stdout().print(f"{store.dialect}: revision {REVISION}  ({store.url_safe})", markup=False, soft_wrap=True)
    finally:
        store.close()


def db_prune(config: ConfigOption = None, now: NowOption = None, json: JsonOption = False) -> None:
    """Delete what is older than `retention` says.

    The evidence of open incidents stays.
    """
    with opened(config) as service:
        at, keep = instant(now, service.config), service.config.retention
        gone = service.store.prune(
            results_before=at - keep.results,
            profiles_before=at - keep.profiles,
            samples_before=at - keep.samples if keep.samples else None,
        )
    if json:
        emit("deleted", gone)
    else:
        told = ", ".join(f"{n:,} {what}" for what, n in gone.items() if n)
        stdout().print(f"deleted: {told}" if told else "nothing is older than `retention` says")
