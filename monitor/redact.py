"""Takes secrets out of whatever is about to be logged, stored or shown."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, MutableMapping
from typing import Any

HIDDEN = "[hidden]"

_SHAPES = (
    # Slack tokens and webhook paths; the host stays, so that one sees what was called.
    (re.compile(r"\b(?:xox[a-z]|xapp)-[\w-]+(?:%[0-9A-Fa-f]{2}[\w-]*)*", re.IGNORECASE), HIDDEN),
    (re.compile(r"(hooks\.slack\.com/)[\w/.-]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    # user:password@ of any address; also without a user. The last @ before the path ends it.
    (re.compile(r"(\w://)[^\s/?#'\"]*@"), rf"\1{HIDDEN}@"),
    (
        re.compile(
            r"\b((?:[\w-]*(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|signature|sig))"
            r"['\"]?\s*[=:]\s*)(?:'[^']*'|\"[^\"]*\"|[^\s&,;'\"})\]]+)",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
)

_SHORTEST = 4
"""Configured secrets shorter than this are not searched for: they would black out ordinary words."""


class Redactor:
    """Hides the secrets it was told of, and anything that looks like one.

    Parameters
    ----------
    secrets
        Values from the config (``SecretStr.get_secret_value()``): whole addresses and tokens.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first: a secret that contains another must not leave its tail behind.
        self._secrets = sorted({s for s in secrets if len(s) >= _SHORTEST}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        for shape, shown in _SHAPES:
            text = shape.sub(shown, text)
        return text

    def deep(self, value: Any) -> Any:
        """The same for nested lists, tuples and mappings; other types pass unchanged."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {key: self.deep(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.deep(item) for item in value)
        return self(repr(value)) if isinstance(value, BaseException) else value

    def event(self, _logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A structlog processor; place it after the one that formats exceptions."""
        return {key: self.deep(value) for key, value in event.items()}


class RedactingFilter(logging.Filter):
    """Redacts records of the standard library's logging, tracebacks included; attach it to *handlers*."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redact = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._redact(record.exc_text)
        if record.stack_info:
            record.stack_info = self._redact(record.stack_info)
        return True
