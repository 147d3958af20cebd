"""Words and safe text that all channels share: a message as plain lines, and strings made inert."""

from __future__ import annotations

import unicodedata

from monitor.models import Message, Transition, Verdict

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNSEEN = frozenset("\u200b\u2060\ufeff\u00ad\u180e")
_GLYPHS = {Verdict.ALERT: "🔴", Verdict.WARN: "🟡", Verdict.OK: "🟢"}


def glyph(message: Message) -> str:
    """One sign for how bad it is; the words beside it say the same."""
    if message.transition is Transition.RESOLVED and message.severity is Verdict.OK:
        return "✅"
    return _GLYPHS.get(message.severity, "⚪")


def clean(text: str, *, lines: bool = True) -> str:
    """The text without what could disguise it: control and direction characters, and lone surrogates.

    Parameters
    ----------
    lines
        Keep line breaks; otherwise they become spaces.
    """
    kept = []
    for char in text:
        category = unicodedata.category(char)
        if char == "\n":
            kept.append(char if lines else " ")
        elif char in "\t\r\u2028\u2029\x85":
            kept.append(" ")
        elif category == "Cs":
            kept.append("\ufffd")
        elif category != "Cc" and char not in _BIDI and char not in _UNSEEN:
            kept.append(char)
    return "".join(kept)


def plain_text(message: Message) -> str:
    """The whole message as lines of plain text, for channels without blocks."""
    lines = ["(possibly a repeat)"] if message.possible_repeat else []
    lines.append(clean(message.summary))
    lines += [f"• {clean(f.name, lines=False)}: {clean(f.text, lines=False)}" for f in message.findings]
    if message.more:
        lines.append(f"… and {message.more} more")
    lines += [f"{clean(label, lines=False)}: {clean(value, lines=False)}" for label, value in message.facts.items()]
    if message.advice:
        lines.append(f"What to do: {clean(message.advice)}")
    for label, value in (("Report", message.report_url), ("Runbook", message.runbook), ("Owner", message.owner)):
        if value:
            lines.append(f"{label}: {clean(value, lines=False)}")
    return "\n".join(lines)
