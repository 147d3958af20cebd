"""A message as Slack's Block Kit, inside Slack's limits whatever the message holds.

References
----------
Slack, "Block Kit reference" and "Formatting text for app surfaces" (api.slack.com, 2025): 50 blocks, 3,000 characters
a section, 150 a header, about 10,000 in all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from monitor.channels.text import clean, glyph
from monitor.models import Finding, Message, Transition, Verdict

Block = dict[str, Any]

MAX_BLOCKS = 50
MAX_HEADER = 150
MAX_TOTAL = 10_000
_ROOM = MAX_TOTAL - 200
_MAX_URL = 600

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "ˋ", "*": "∗", "~": "∼"}
_CODE_ENTITIES = _ENTITIES | {"*": "*", "~": "~"}
_WORDS = {Verdict.ALERT: "ALERT", Verdict.WARN: "warning", Verdict.OK: "ok"}
_LOUD = frozenset({Transition.OPENED, Transition.WORSENED, Transition.NO_DATA, Transition.OPERATOR})
_SHRINK = (1.0, 0.7, 0.45, 0.25, 0.1)


def payload(message: Message, *, mention: Mapping[str, str] | None = None, repeat: bool = False) -> dict[str, Any]:
    """``{"text", "blocks"}`` of one message.

    Parameters
    ----------
    mention
        Severity → whom to call (``U0123``, ``<!subteam^S01>``, ``@here``): the only markup that is passed on, as it
        comes from the config.
    repeat
        Say that this may be a repeat, besides ``message.possible_repeat``.
    """
    call = _mention(message, mention or {})
    repeat = repeat or message.possible_repeat
    for scale in _SHRINK:
        blocks = _blocks(message, call=call, repeat=repeat, scale=scale)
        if len(blocks) <= MAX_BLOCKS and size(blocks) <= _ROOM:
            break
    return {"text": fallback(message, call=call, repeat=repeat), "blocks": blocks}


def plain_payload(
    message: Message, *, mention: Mapping[str, str] | None = None, repeat: bool = False
) -> dict[str, Any]:
    """The same without blocks, for when Slack refuses them: short, and nothing in it is parsed but the mention."""
    call = _mention(message, mention or {})
    return {"text": fallback(message, call=call, repeat=repeat or message.possible_repeat)}


def size(blocks: list[Block]) -> int:
    """Characters of the blocks as they are sent."""
    return _units(json.dumps(blocks, ensure_ascii=False))


def fallback(message: Message, *, call: str = "", repeat: bool = False) -> str:
    """What notifications and screen readers show: title, summary, the findings, the link."""
    lines = [
        f"{call}{'(possibly a repeat) ' if repeat else ''}{glyph(message)} {safe(message.title, 300, lines=False)}"
    ]
    lines.append(safe(message.summary, 800))
    lines += [f"• {safe(f.name, 100, lines=False)}: {safe(f.text, 200, lines=False)}" for f in message.findings[:5]]
    hidden = len(message.findings[5:]) + message.more
    if hidden > 0:
        lines.append(f"… and {hidden} more")
    link = _url(message.report_url)
    if link:
        lines.append(link)
    return "\n".join(line for line in lines if line)


# --- blocks ----------------------------------------------------------------------------------------


def _blocks(message: Message, *, call: str, repeat: bool, scale: float) -> list[Block]:
    def room(characters: int) -> int:
        return max(20, int(characters * scale))

    title = cut(clean(f"{glyph(message)} {message.title[:600]}", lines=False), MAX_HEADER) or "-"
    blocks: list[Block] = [{"type": "header", "text": {"type": "plain_text", "text": title, "emoji": True}}]
    blocks.append(_section(call + (safe(message.summary, room(900)) or _WORDS.get(message.severity, "news"))))
    listed = _finding_lines(message, room(2400))
    if listed:
        blocks.append(_section(listed))
    about = _fact_lines(message, room(1400))
    if about:
        blocks.append(_section(about))
    if message.advice.strip():
        blocks.append(_section(f"*What to do:* {safe(message.advice, room(700))}"))
    blocks.append(_context(_footer(message, repeat=repeat, room=room(300))))
    return blocks


def _finding_lines(message: Message, room: int) -> str:
    """One line a finding, as many as fit; how many are left out is said, and where they are."""
    lines: list[str] = []
    used = 0
    for finding in message.findings:
        line = _finding(finding, room)
        if used + _units(line) + 1 > room or len(lines) == 20:
            break
        lines.append(line)
        used += _units(line) + 1
    hidden = len(message.findings) - len(lines) + max(0, message.more)
    if hidden > 0:
        link = _url(message.report_url)
        where = f" – <{link}|all in the report>" if link else ""
        lines.append(f"… and {hidden} more{where}")
    return "\n".join(lines)


def _finding(finding: Finding, room: int) -> str:
    name = safe(finding.name, min(120, room // 4), lines=False, code=True) or "–"
    return f"• `{name}` {safe(finding.text, min(500, room // 2), lines=False)}"


def _fact_lines(message: Message, room: int) -> str:
    lines: list[str] = []
    used = 0
    for label, value in message.facts.items():
        line = f"*{safe(label, 40, lines=False)}:* {safe(value, min(300, room // 2), lines=False)}"
        if used + _units(line) + 1 > room or len(lines) == 12:
            break
        lines.append(line)
        used += _units(line) + 1
    return "\n".join(lines)


def _footer(message: Message, *, repeat: bool, room: int) -> str:
    parts = ["possibly a repeat"] if repeat else []
    if message.window is not None:
        parts.append(f"window {message.window.start:%Y-%m-%d %H:%M} – {message.window.end:%Y-%m-%d %H:%M} UTC")
    for label, address in (("report", message.report_url), ("runbook", message.runbook)):
        link = _url(address)
        if link:
            parts.append(f"<{link}|{label}>")
        elif address:
            parts.append(f"{label}: {safe(address, room // 3, lines=False)}")
    if message.owner:
        parts.append(f"owner {safe(message.owner, room // 3, lines=False)}")
    if message.incident_ids:
        more = f" +{len(message.incident_ids) - 3}" if len(message.incident_ids) > 3 else ""
        parts.append(" ".join(safe(i, 40, lines=False) for i in message.incident_ids[:3]) + more)
    return " · ".join(parts) or _WORDS.get(message.severity, "news")


def _section(text: str) -> Block:
    # verbatim: names, addresses and channels in the text are not turned into links or calls.
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _context(text: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text, "verbatim": True}]}


# --- text ------------------------------------------------------------------------------------------


def safe(text: str, limit: int, *, lines: bool = True, code: bool = False) -> str:
    """The text with nothing in it that Slack would act on, at most ``limit`` units long after escaping.

    Cut before an entity, never inside one.
    """
    table = _CODE_ENTITIES if code else _ENTITIES
    # A megabyte of text is not worked through for a line; four times the limit leaves room for what clean() drops.
    escaped = [table.get(char, char) for char in clean(text[: 4 * limit + 4], lines=lines).strip()]
    if sum(map(_units, escaped)) <= limit:
        return "".join(escaped)
    kept: list[str] = []
    used = 0
    for piece in escaped:
        if used + _units(piece) > limit - 1:
            break
        kept.append(piece)
        used += _units(piece)
    return "".join(kept).rstrip() + "…"


def cut(text: str, limit: int) -> str:
    """At most ``limit`` UTF-16 units, as Slack counts; a cut shows."""
    if _units(text) <= limit:
        return text
    while _units(text) > limit - 1:
        text = text[: min(len(text) - 1, limit - 1)]
    return text.rstrip() + "…"


def _units(text: str) -> int:
    """Length in UTF-16 code units: a sign outside the basic plane counts twice."""
    return len(text) + sum(char > "\uffff" for char in text)


def _url(address: str | None) -> str | None:
    """The address fit for ``<address|text>``, or ``None`` when it is no web address or too long to be one."""
    if not address or len(address) > _MAX_URL or clean(address, lines=False) != address:
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.netloc or re.search(r"[\s<>|\"`\\]", address):
        return None
    return address.replace("&", "&amp;")


def _mention(message: Message, mention: Mapping[str, str]) -> str:
    """Whom the config wants called for this severity; resolutions, reminders and restatements call nobody."""
    whom = mention.get(message.severity.value, "").strip()
    if not whom or message.transition not in _LOUD:
        return ""
    if whom in ("@here", "@channel", "@everyone"):
        return f"<!{whom[1:]}> "
    if re.fullmatch(r"@?[UW][A-Z0-9]{5,}", whom):
        return f"<@{whom.lstrip('@')}> "
    if re.fullmatch(r"S[A-Z0-9]{5,}", whom):
        return f"<!subteam^{whom}> "
    # Written as Slack writes it, or a name, which is shown and calls nobody.
    return f"{whom} " if re.fullmatch(r"<[@!][\w^|@ .-]{1,100}>", whom) else f"{safe(whom, 100, lines=False)} "
