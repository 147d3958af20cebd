"""What every command shares: finding the config, opening the store, printing, and leaving with the right code."""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from monitor.config import Config
    from monitor.config_problems import Problem
    from monitor.redact import Redactor
    from monitor.service import Service
    from monitor.store import Store

SCHEMA_VERSION = 1
PIPE_WIDTH = 120
"""Columns of a table that goes into a file or another program, unless COLUMNS says otherwise."""

_as_json: ContextVar[bool] = ContextVar("as_json", default=False)


def _remember(value: bool) -> bool:
    """Note that the answer is to be JSON, so that an error can be as well."""
    _as_json.set(value)
    return value


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "-c", "--config", help="Config file (default: $MONITOR_CONFIG, else ./config.yaml).", show_default=False
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="One JSON object on stdout; logs stay on stderr.", callback=_remember, is_eager=True),
]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="Only this model.", show_default=False)]
NowOption = Annotated[
    str | None,
    typer.Option("--now", help="Replay a past moment: rows and labels after it do not exist.", show_default=False),
]


class Exit(IntEnum):
    """What the exit code of every command means."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    FINDING = 3
    UNDELIVERED = 4


def fail(message: str, code: Exit = Exit.FAILED, **more: Any) -> NoReturn:
    """Say on stderr what went wrong (and, where JSON was asked for, on stdout as its one object), and leave."""
    stderr().print(message, style="red", highlight=False, markup=False, soft_wrap=True)
    if _as_json.get():
        emit("error", {"code": int(code), "message": message, **more})
    raise typer.Exit(code)


def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def stdout() -> Console:
    """The console for answers: as wide as the terminal, and of a steady width where there is none."""
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPE_WIDTH if piped else None, highlight=False, emoji=False)


def emit(name: str, value: Any, **more: Any) -> None:
    """Print the one JSON object of a command; a number that is none (NaN, infinite) becomes ``null``."""
    told = _finite({"schema_version": SCHEMA_VERSION, name: value, **more})
    sys.stdout.write(json.dumps(told, default=_plain, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return stamp(value)
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def stamp(value: datetime | None) -> str | None:
    """RFC 3339, UTC."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def config_path(given: Path | None) -> Path:
    return given or Path(os.environ.get("MONITOR_CONFIG") or "config.yaml")


def read_config(given: Path | None) -> Config:
    """Load the config, or print every problem at once and leave with code 2."""
    from monitor.config_file import ConfigErrors, load

    path = config_path(given)
    if path.is_dir():
        fail(f"{path} is a folder; -c takes the config file in it", Exit.USAGE)
    if not path.exists():
        fail(f"{path}: no such file. `monitor init` writes one, `-c FILE` names another.", Exit.USAGE)
    try:
        return load(path)
    except ConfigErrors as errors:
        fail(str(errors), Exit.USAGE, problems=[_problem_json(problem) for problem in errors.problems])


def _problem_json(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.where,
        "message": problem.message,
        "hint": problem.hint or None,
    }


@dataclass(frozen=True)
class Kept:
    """The config and its store: all that is needed to tell what was found, and quick to import."""

    config: Config
    store: Store


@contextmanager
def opened(given: Path | None, *, model: str | None = None) -> Iterator[Service]:
    """The config, its store, migrated, and the sources; closed afterwards."""
    from monitor.service import Service

    with opened_store(given, model=model) as found:
        start_logging(found.config, tracebacks=False)
        service = Service(found.config, found.store)
        try:
            yield service
        finally:
            service.close()


@contextmanager
def opened_store(given: Path | None, *, model: str | None = None) -> Iterator[Kept]:
    """The config and its store, migrated; closed afterwards."""
    with _uncollected():
        config = read_config(given)
        require_model(config, model)
        _log_of_libraries(config)
        store = open_store(config)
    try:
        yield Kept(config, store)
    finally:
        store.close()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: imports make many objects that stay, and looking is a tenth of a short command."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def require_model(config: Config, model: str | None) -> None:
    """Leave with code 2 where a model was named that the config does not have."""
    if model is not None and model not in config.models:
        fail(f"there is no model {model!r} in the config{among(model, config.models)}", Exit.USAGE)


def open_store(config: Config) -> Store:
    from monitor.store import Store

    return Store.open(config.store.get_secret_value())


def among(word: str, known: Iterable[object]) -> str:
    """What a misspelt name could have been: the closest one, else the first few that there are."""
    import difflib

    names = list(dict.fromkeys(str(item) for item in known))
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"; there is {', '.join(names[:8])}{more}" if names else "; there is none yet"


def instant(text: str | None, config: Config, *, option: str = "--now") -> datetime:
    """Read a moment; a date or naive time is in the config's zone.  ``None`` is the present."""
    if text is None:
        return datetime.now(UTC)
    try:
        value = datetime.fromisoformat(text.strip())
        told = (value if value.tzinfo is not None else value.replace(tzinfo=config.zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        fail(f"{option}: expected a date or time such as 2026-02-01 or 2026-02-01T06:00Z, found {text!r}", Exit.USAGE)
    if option == "--now" and told > datetime.now(UTC) + timedelta(minutes=5):
        # Not refused: the clock of a log may be ahead of this one.
        words = f"--now {text} lies ahead of the clock here: windows up to then count as closed, rows or none"
        stderr().print(words, style="yellow", highlight=False, markup=False, soft_wrap=True)
    return told


def start_logging(config: Config, *, tracebacks: bool = True) -> None:
    """Structured log lines on stderr, with every configured secret taken out.

    Without ``tracebacks`` they are left out unless MONITOR_LOG_LEVEL is DEBUG: for commands that a person looks at.
    """
    import structlog

    chosen, redactor = _level(), _log_of_libraries(config)
    pretty = structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if tracebacks or chosen <= logging.DEBUG else _without_traceback,
            redactor.event,
            pretty if sys.stderr.isatty() else structlog.processors.LogfmtRenderer(bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(chosen),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # whatever stderr is when a line is written
    )


def _log_of_libraries(config: Config) -> Redactor:
    """Warnings of the libraries in use, on stderr, with every configured secret taken out."""
    from monitor.redact import RedactingFilter, Redactor

    redactor = Redactor(_secrets(config))
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RedactingFilter(redactor))
    form = "%(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=max(_level(), logging.WARNING), handlers=[handler], format=form, force=True)
    return redactor


def _without_traceback(_logger: object, _method: str, event: Any) -> Any:
    event.pop("exc_info", None)
    return event


def _secrets(config: Config) -> list[str]:
    """Every secret that the config holds, wherever it stands."""
    from pydantic import BaseModel, SecretStr

    def found(value: object) -> Iterator[str]:
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            for name in type(value).model_fields:
                yield from found(getattr(value, name))
        elif isinstance(value, dict):
            for item in value.values():
                yield from found(item)

    return list(found(config))


def _level() -> int:
    name = os.environ.get("MONITOR_LOG_LEVEL", "WARNING").upper()
    found = logging.getLevelNamesMapping().get(name)
    return found if found is not None else logging.WARNING
