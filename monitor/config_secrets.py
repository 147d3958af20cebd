"""Finds secrets that were written into the config file, where only a reference such as ``${DB_PASSWORD}`` belongs."""

from __future__ import annotations

import re

_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_DEFAULT = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*:-([^}]*)\}")
_HELD = "\x00"  # stands for what the environment supplies

_SLACK_TOKEN = re.compile(r"\bxox[a-z]{0,2}(?:\.xox[a-z])?-[A-Za-z0-9-]{4,}|\bxapp-[A-Za-z0-9-]{8,}")
_WEBHOOK = re.compile(r"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[^\s\"']*[A-Za-z0-9]", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^:@/\s]*:([^@\s]+)@")
_WEB_PASSWORD = re.compile(r"https?://[^:@/\s]*:([^@/\s]+)@", re.IGNORECASE)
_PARAMETER = re.compile(
    r"[?&](password|passwd|pwd|token|access_token|api_key|apikey|secret|private_key|sslpassword)=([^&\s]+)",
    re.IGNORECASE,
)
_OPTION = re.compile(r"\.spark\.options\..*(password|secret|token|secret\.?key|account\.key)[^.]*$", re.IGNORECASE)
_SECRET_KEYS = frozenset({"url", "store", "token", "webhook", "apprise", "heartbeat", "api_url"})


def literal_secret(raw: str, *, where: str = "") -> str | None:
    """Say what kind of secret a text as written in the file holds, or ``None``.

    What the environment supplies is no secret of the file's; a default after ``:-`` is part of it.  ``where`` is the
    path of keys to it: an option of Spark is known by its name.
    """
    text = _REFERENCE.sub(_HELD, _DEFAULT.sub(lambda match: match[1], raw))
    if _SLACK_TOKEN.search(text):
        return "a Slack token"
    if _HELD not in text and _OPTION.search(where):
        return "a secret"
    webhook = _WEBHOOK.search(text)
    if webhook and _HELD not in webhook[0]:
        return "a Slack webhook address"
    pattern = _WEB_PASSWORD if text.lower().lstrip().startswith("http") else _PASSWORD
    if any(_HELD not in match[1] for match in pattern.finditer(text)):
        return "a password"
    if any(_HELD not in match[2] for match in _PARAMETER.finditer(text)):
        return "a secret"
    return None


def shown(raw: str, *, key: str = "", from_environment: bool = False) -> str:
    """A value as it may stand in a message: as written, never as supplied, and not at all where it may be a secret."""
    if from_environment:
        return f"the value of {raw}" if literal_secret(raw) is None and len(raw) <= 60 else "a value with variables"
    if key in _SECRET_KEYS or "://" in raw or "@" in raw or literal_secret(raw) is not None:
        return "(not shown)"
    return repr(raw if len(raw) <= 60 else raw[:57] + "…")
