"""How the words of `config.yaml` are read: durations, shares, moments, time zones, cron expressions, limits.

Every reader raises :class:`ValueError` with what it *expected*; what was found, and where, is added by
`monitor/config_file.py`, which knows the line and keeps secrets out of it.
"""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Annotated, Any

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    Strict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|w)\s*$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DAY = timedelta(days=1)
_CRON_FROM = datetime(2024, 1, 1)  # noqa: DTZ001 - a fixed wall-clock moment, so that a verdict never depends on today


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Which of the known names was probably meant, or ``None`` when none is close."""
    by_lower = {item.lower(): item for item in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.65)
    return by_lower[found[0]] if found else None


def parse_duration(value: object) -> timedelta:
    """Read ``90s``, ``15m``, ``6h``, ``28d`` or ``2w``; a bare ``0`` is no time at all.

    Raises
    ------
    ValueError
        When the value is something else, or longer than 100 years.
    """
    if isinstance(value, timedelta):
        return value
    if value in (0, "0") and not isinstance(value, bool):
        return timedelta(0)
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a duration such as 15m, 6h or 28d")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > 100 * 366 * 86400:
        raise ValueError("expected a duration of less than 100 years")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """Write a duration as :func:`parse_duration` reads it, in the largest unit that divides it."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds) // _SECONDS[unit]}{unit}"
    return f"{seconds:g}s"


def parse_fraction(value: object) -> float:
    """Read ``0.01`` or ``1%`` (a sign is allowed: ``+2%``) as a share in [0, 1].

    Raises
    ------
    ValueError
        When the value is no number, or outside [0, 1].
    """
    number: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str):
        text = value.strip()
        try:
            number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            number = None
    if number is None or not 0 <= number <= 1:
        raise ValueError("expected a share between 0 and 1, such as 1% or 0.01")
    return number


def parse_window(value: str) -> str:
    """Check the window: a length that cuts days evenly, or a cron expression whose fires are the cuts.

    Raises
    ------
    ValueError
        When a length neither divides a day nor is a whole number of days, or a cron expression is bad.
    """
    text = value.strip()
    if len(text.split()) >= 4 or text.startswith("@"):
        return parse_cron(text)
    try:
        length = parse_duration(text)
    except ValueError:
        raise ValueError("expected a length such as 1h, 1d or 14d, or a cron expression such as '0 6 * * 1'") from None
    if length < timedelta(minutes=1):
        raise ValueError("expected a window of at least one minute")
    if length < _DAY and _DAY % length:
        raise ValueError("expected a window that divides a day evenly, such as 15m, 1h, 6h or 12h")
    if length > _DAY and length % _DAY:
        raise ValueError("expected a window that is a whole number of days, such as 1d, 2d or 14d")
    return text


def parse_cron(value: str) -> str:
    """Check a five-field cron expression (0 and 7 are Sunday) and that it ever fires.

    Raises
    ------
    ValueError
        When a field is bad, or no date matches within cronsim's horizon of 50 years.
    """
    text = " ".join(value.split())
    if len(text.split(" ")) != 5:
        raise ValueError("expected a cron expression of five fields (minute hour day month weekday), or none")
    try:
        next(CronSim(text, _CRON_FROM))
    except CronSimError as error:
        raise ValueError(f"expected a cron expression: {str(error).lower()}") from None
    except StopIteration:
        raise ValueError("expected a cron expression that fires some day; this one never does") from None
    return text


_RATE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:per|/)\s*(\S+)\s*$")


def parse_rate(value: str) -> str:
    """Check a number per time, such as ``1 per 90d``."""
    rate_of(value)
    return value


def rate_of(value: str) -> tuple[float, timedelta]:
    """The number and the time of ``1 per 90d``."""
    match = _RATE.match(value)
    if match is None or float(match[1]) <= 0:
        raise ValueError("expected a number above 0 per time, such as '1 per 90d'")
    period = parse_duration(match[2])
    if period <= timedelta(0):
        raise ValueError("expected a number above 0 per time, such as '1 per 90d'")
    return float(match[1]), period


@cache
def known_zones() -> frozenset[str]:
    """The names of the time zones that this machine (or the tzdata package) knows."""
    return frozenset(zoneinfo.available_timezones())


def parse_zone(value: str) -> str:
    """Check the name of a time zone, such as ``UTC`` or ``Europe/Berlin``."""
    if value not in known_zones():
        guess = nearest(value, known_zones())
        raise ValueError(
            "expected the name of a time zone such as UTC or Europe/Berlin"
            + (f" (did you mean '{guess}'?)" if guess else "")
        )
    return value


def read_instant(value: object) -> object:
    """Let through dates and ISO texts only: a bare number would be taken for seconds since 1970."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - read in the config's zone later
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.strip())
        except ValueError:
            pass
    raise ValueError("expected a date or a time such as 2026-01-31 or 2026-01-31T06:00:00Z")


def read_day(value: object) -> object:
    """Let through dates and their ISO texts only."""
    if isinstance(value, datetime):
        raise ValueError("expected a date such as 2026-01-31")
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value.strip())
        except ValueError:
            pass
    raise ValueError("expected a date such as 2026-01-31")


def in_zone(value: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """Give a naive moment the config's zone; answer in UTC."""
    return (value if value.tzinfo is not None else value.replace(tzinfo=zone)).astimezone(UTC)


def told(expected: str) -> WrapValidator:
    """Replace the many errors of a union by one sentence that lists what is accepted."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"expected {expected}") from None

    return WrapValidator(check)


def one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _unique(values: list[Any]) -> list[Any]:
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"lists {', '.join(twice)} more than once")
    return values


def at_least(shortest: timedelta) -> Callable[[timedelta], timedelta]:
    """A check that a duration is not shorter than what makes sense for its key."""

    def check(value: timedelta) -> timedelta:
        if value < shortest:
            raise ValueError(f"expected at least {format_duration(shortest)}")
        return value

    return check


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration, json_schema_input_type=str),
    PlainSerializer(format_duration, return_type=str),
]
LongDuration = Annotated[Duration, AfterValidator(at_least(timedelta(seconds=1)))]
"""A duration that may not be zero."""
Fraction = Annotated[float, BeforeValidator(parse_fraction, json_schema_input_type=str | float)]
Instant = Annotated[datetime, BeforeValidator(read_instant, json_schema_input_type=str)]
"""A date (midnight) or a timestamp; where it names no zone it is read in `timezone`."""

# YAML already tells numbers, truth values and texts apart: `confirm: "2"` or `no` for false are mistakes.
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Flag = Annotated[bool, Strict()]
NonEmpty = Annotated[str, Field(min_length=1)]
Names = Annotated[
    list[NonEmpty], BeforeValidator(one_or_many, json_schema_input_type=str | list[str]), AfterValidator(_unique)
]
Scalar = Annotated[Annotated[str, Strict()] | Flag | Whole | Number, told("a text, a number, true or false")]
WindowSpec = Annotated[str, AfterValidator(parse_window)]
Cron = Annotated[str, AfterValidator(parse_cron)]
Zone = Annotated[str, AfterValidator(parse_zone)]
Day = Annotated[date, BeforeValidator(read_day, json_schema_input_type=str)]
Rate = Annotated[str, AfterValidator(parse_rate)]
Unique = AfterValidator(_unique)
