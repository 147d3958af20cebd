"""`alerts`: where messages go, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from monitor.config.block import Block
from monitor.config_types import Flag, LongDuration, NonEmpty, Rate, Whole


class Destination(Block):
    """Where messages go: exactly one of `slack`, `webhook`, `apprise`, `console` (short form: a URL or `console`)."""

    slack: NonEmpty | None = None
    """A channel; the bot token is read from `token` (default: the variable SLACK_BOT_TOKEN)."""
    token: SecretStr | None = None
    """Bot token, as `${VARIABLE}`."""
    api_url: NonEmpty | None = None
    """Base address of the Slack Web API, for gateways; default: Slack's own."""
    webhook: SecretStr | None = None
    """A Slack incoming webhook, as `${VARIABLE}`: no threads and no updates."""
    allow_insecure: Flag = False
    """Permit an http:// webhook or gateway on another host than this one."""
    apprise: SecretStr | None = None
    """An Apprise URL (e-mail, PagerDuty, Teams …), as `${VARIABLE}` where it holds a secret."""
    console: Flag = False
    """Print messages to the terminal."""
    min_severity: Literal["warn", "alert"] = "alert"
    """Incidents below this are not sent here."""
    mention: dict[Literal["warn", "alert"], NonEmpty] = {}
    """Whom to call, by severity, e.g. `{alert: "@risk-oncall"}`."""
    fallback: NonEmpty | None = None
    """Destination that is told when this one is broken."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, (dict, Destination)):
            return value
        if value == "console":
            return {"console": True}
        if isinstance(value, str) and value.startswith("#"):
            return {"slack": value}
        if isinstance(value, str) and "://" in value:
            return {"webhook" if urlsplit(value).scheme in ("http", "https") else "apprise": value}
        raise PydanticCustomError(
            "destination", "expected a destination: a mapping such as {{slack: '#channel'}}, a URL, or console"
        )

    @model_validator(mode="after")
    def _one_kind(self) -> Destination:
        kinds = [self.slack, self.webhook, self.apprise, self.console or None]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("a destination is exactly one of `slack`, `webhook`, `apprise` or `console: true`")
        return self


class AlertsConfig(Block):
    """Settings, and beside them any number of named destinations."""

    destinations: dict[NonEmpty, Destination] = {}
    """Destinations by name; they may as well stand directly under `alerts`."""
    false_pages: Rate = "1 per 90d"
    """Pages without a cause that a model may send at most; how much evidence an alert needs follows from it."""
    repeat: LongDuration | None = timedelta(hours=24)
    """Remind of an open incident this often (`null`: never)."""
    send_resolved: Flag = True
    """Say so when an incident is over."""
    no_data: Whole = Field(2, ge=1)
    """Windows in a row without rows before that is itself an alert."""
    max_age: LongDuration = timedelta(days=2)
    """Windows older than this change state without a message of their own."""

    @model_validator(mode="before")
    @classmethod
    def _named_destinations(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        beside = {key: item for key, item in value.items() if key not in cls.model_fields}
        settings = {key: item for key, item in value.items() if key in cls.model_fields}
        named = settings.get("destinations", {})
        return {**settings, "destinations": {**named, **beside} if isinstance(named, dict) else named}
