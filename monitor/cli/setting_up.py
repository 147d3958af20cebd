"""Commands for a beginning: init, schema."""

from __future__ import annotations

import json as json_module
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import showing
from monitor.cli.common import Exit, JsonOption, emit, fail, stdout

if TYPE_CHECKING:
    from monitor.sources import Source


def init(
    source: Annotated[
        str | None, typer.Option(help="Database URL, or a folder of files, to look at.", show_default=False)
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", "-T", help="Table with logged predictions.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write.")] = Path("config.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a commented config.yaml to start from.

    With --source and --table the columns are looked at: time, key, score, label and JSON features are guessed, and
    each guess is marked. Tables beside it that look like labels or offline values are suggested in comments.
    """
    from monitor.starter import guess, starter

    if out.exists() and not force:
        fail(f"{out} exists; --force writes over it, --out names another file", Exit.USAGE)
    if source is None and table is not None:
        fail("--table needs --source: where is the table?", Exit.USAGE)
    if source is not None and table is None:
        fail("--source needs --table: the table (or subfolder) with one row for each prediction", Exit.USAGE)
    columns, beside = _columns_of(source, table) if source is not None and table is not None else ([], {})
    text = starter(columns, source_url=_seen_from(source, out), table=table, beside=beside)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{out} cannot be written: {error.strerror}", Exit.USAGE)
    guessed = {role: {"column": column, "why": why} for role, (column, why) in guess(columns).items()}
    if json:
        emit("init", {"config": str(out), "guessed": guessed, "columns": [column.name for column in columns]})
        return
    _tell(out, guessed, looked=source is not None)


def _tell(out: Path, guessed: dict[str, dict[str, str]], *, looked: bool) -> None:
    console = stdout()
    console.print(f"{showing.escaped(str(out))} written", soft_wrap=True)
    if guessed:
        table = showing.plain_table(["", "guessed", "why"])
        for role, told in guessed.items():
            table.add_row(showing.plain(role.replace("_", " ")), showing.plain(told["column"]), told["why"])
        console.print(showing.indented(table))
    if looked and "time" not in guessed:
        console.print("[yellow]no column looks like a time: set `time:` before you go on[/]")
    at = "" if str(out) == "config.yaml" else f" -c {out}"
    first = "look at what is marked as guessed" if guessed else "put in your source, table and time"
    console.print(f"next: {first}, then `monitor validate{at}`", markup=False, soft_wrap=True)


def _seen_from(source: str | None, out: Path) -> str | None:
    """A source as the config has to name it: relative paths in a config start from the folder of the config."""
    if source is None or not _is_relative(source):
        return source
    scheme, _, path = source.rpartition("///") if source.startswith("sqlite") else ("", "", source)
    if out.resolve().parent == Path.cwd():
        return source
    return f"{scheme}///{Path(path).resolve()}" if scheme else str(Path(path).resolve())


def _is_relative(source: str) -> bool:
    if source.startswith("sqlite:///"):
        path = source.removeprefix("sqlite:///")
        return bool(path) and not path.startswith(("/", "file:"))
    return "://" not in source and not Path(source).is_absolute()


MOST_TABLES = 30
"""Tables beside the one that is asked for that are looked at, for labels and offline values."""


def _columns_of(source: str, table: str) -> tuple[list[Any], dict[str, list[Any]]]:
    """The columns of the table, and of those beside it as far as they can be read."""
    from pydantic import ValidationError

    from monitor.config import SourceConfig
    from monitor.sources import SourceError, open_source

    try:
        config = SourceConfig.model_validate(source)
    except ValidationError as error:
        told = error.errors()[0]["msg"].removeprefix("Value error, ")
        fail(f"--source: {told}", Exit.USAGE)
    try:
        opened: Source = open_source("source", config, zone="UTC")
        try:
            own = list(opened.columns(table))
            beside: dict[str, list[Any]] = {}
            for name in [each for each in opened.tables() if each != table][:MOST_TABLES]:
                with suppress(SourceError):
                    beside[name] = list(opened.columns(name))
            return own, beside
        finally:
            opened.close()
    except SourceError as error:
        usage = error.reason in ("table_missing", "file_missing", "database_missing", "driver")
        told = error.public.removeprefix("source 'source': ")
        fail(f"--source: {told}", Exit.USAGE if usage else Exit.FAILED)


def schema() -> None:
    """Print the JSON schema of the config, for editors."""
    from monitor.config_file import json_schema

    sys.stdout.write(json_module.dumps(json_schema(), indent=2) + "\n")
