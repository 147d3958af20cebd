"""The `monitor` command: one app, its commands grouped by what a person wants to do."""

from __future__ import annotations

import typer

from monitor.cli import answering, reading, setting_up, working

app = typer.Typer(
    name="monitor",
    help="Drift, performance and skew monitoring for machine-learning models in production.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (working, setting_up, reading, answering):
    group.register(app)


def main() -> None:
    """Entry point of the `monitor` script."""
    app()
