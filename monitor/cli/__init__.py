"""The `monitor` command: one app, its commands in the order in which a person comes to need them."""

from __future__ import annotations

from typing import Annotated

import typer

from monitor.cli import answering, baselines, keeping, reading, setting_up, trying, validating, working
from monitor.cli.guard import Guarded

app = typer.Typer(
    name="monitor",
    cls=Guarded,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"ml-monitor {version('ml-monitor')}")
        raise typer.Exit


@app.callback()
def monitor(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Drift, performance and skew monitoring for machine-learning models in production.

    Start with `monitor demo`, or with `monitor init` for a model of your own.
    """


baseline = typer.Typer(help="What windows are compared with: set, show, diff.", no_args_is_help=True)
baseline.command("set")(baselines.baseline_set)
baseline.command("show")(baselines.baseline_show)
baseline.command("diff")(baselines.baseline_diff)

db = typer.Typer(help="The store: upgrade, current, prune.", no_args_is_help=True)
db.command("upgrade")(keeping.db_upgrade)
db.command("current")(keeping.db_current)
db.command("prune")(keeping.db_prune)

for name, command in (
    ("demo", working.demo),
    ("init", setting_up.init),
    ("validate", validating.validate),
    ("run", working.run),
    ("backfill", working.backfill),
    ("worker", working.worker),
    ("report", working.report),
    ("status", reading.status),
    ("results", reading.results),
    ("incidents", reading.incidents),
    ("explain", reading.explain),
    ("backtest", trying.backtest),
    ("history", reading.history),
    ("ack", answering.ack),
    ("mute", answering.mute),
    ("unmute", answering.unmute),
    ("test-alert", keeping.alert_test),
    ("doctor", keeping.doctor),
    ("schema", setting_up.schema),
):
    app.command(name)(command)
app.add_typer(baseline, name="baseline")
app.add_typer(db, name="db")


def main() -> None:
    """Entry point of the `monitor` script."""
    app()
