"""How answers look in a terminal: worst first, one line for each number, whatever the width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from monitor.models import Incident, Result, Window
    from monitor.restated import Belief, Restated

GLYPHS = {"ok": "✓", "warn": "◆", "alert": "▲", "cannot_tell": "?", "no_data": "∅"}
COLOURS = {"ok": "green", "warn": "yellow", "alert": "bold red", "cannot_tell": "cyan", "no_data": "dim"}
NO_LIMIT = "·"
"""Beside a number that has no limit: its verdict is ``ok``, and means nothing."""
WORDS = {
    "ok": "ok",
    "warn": "with a warning",
    "alert": "with an alert",
    "cannot_tell": "cannot tell",
    "no_data": "without rows",
}
WIDE = 110
"""Columns from which the check and the p-value are shown beside each number."""


def mark(verdict: str, *, word: bool = False) -> Text:
    """A verdict as glyph and colour, and its word where the glyph alone might not say enough."""
    from rich.text import Text

    return Text(GLYPHS[verdict] + (f" {verdict}" if word else ""), style=COLOURS[verdict])


def mark_of(result: Result) -> Text:
    """The mark of one number; what no limit was set for is not said to be ok."""
    from rich.text import Text

    from monitor.curves import has_no_limit

    return Text(NO_LIMIT, style="dim") if has_no_limit(result) else mark(result.verdict.value)


def moment(value: datetime | None) -> str:
    """A time in UTC, as short as it can be said: the day alone at midnight."""
    if value is None:
        return ""
    return f"{value:%Y-%m-%d}" if (value.hour, value.minute) == (0, 0) else f"{value:%Y-%m-%d %H:%M}Z"


def span(window: Window) -> str:
    """A window in words: its start, and how long it is where that is not one day."""
    from monitor.config import format_duration

    length = "" if window.length == timedelta(days=1) else f" ({format_duration(window.length)})"
    return moment(window.start) + length


def counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def number(value: float | None) -> str:
    if value is None:
        return "—"
    plain_number = abs(value) < 1e15 and (abs(value) >= 1000 or (abs(value) >= 10 and value == int(value)))
    return f"{value:,.0f}" if plain_number else f"{value:.3g}"


def limit(result: Result) -> str:
    """The limit as it is held against the value: most are bounds, some are changes against the baseline."""
    if result.threshold is None:
        return ""
    if result.metric == "n_rows":
        return f"-{result.threshold:.0%}"
    sign = {"decision_rate": "±", "missing_rate": "+"}.get(result.metric, "")
    return sign + number(result.threshold)


def chance(p_value: float | None) -> str:
    """A p-value as far as it means anything: nobody tells 1e-40 from 1e-300."""
    if p_value is None:
        return ""
    return "<1e-9" if p_value < 1e-9 else f"{p_value:.1g}" if p_value < 0.01 else f"{p_value:.2f}"


def subject(result: Result) -> str:
    """What a number is about: a feature, or in brackets what of the model."""
    whole = {"score_drift": "(score)", "performance": "(model)", "quality": "(rows)", "skew": "(requests)"}
    name = result.feature or whole.get(result.check.value, "(model)")
    if name.startswith("__"):
        name = f"({name.strip('_').replace('__', ' of ')})"
    if result.metric == "decision_rate":
        name = "(decisions)"
    return f"{name} [{result.segment}]" if result.segment else name


def words(result: Result) -> str:
    """What changed, or why nothing can be said."""
    if result.metric == "n_rows":
        return _volume(result)
    if result.of_versions:  # which versions these are stands before it
        told = str(result.detail.get("what") or result.detail.get("reason") or "")
        return told.split("same requests", 1)[-1].lstrip(": ,")
    if "bounds" in result.detail:
        return str(result.detail.get("what") or "")
    what, reason = str(result.detail.get("what") or ""), str(result.detail.get("reason") or "").replace("_", " ")
    text = (what or reason) if result.verdict.decides else ": ".join(part for part in (reason, what) if part)
    against = result.detail.get("against")
    return f"{text} (window before)" if against == "previous" and text else text


def _volume(result: Result) -> str:
    usual, duplicates = result.detail.get("usual"), result.detail.get("duplicates")
    told = [f"usually {usual:,.0f}"] if usual else []
    return ", ".join(told + ([f"{duplicates:,} duplicates left out"] if duplicates else []))


def by_badness(result: Result) -> tuple[object, ...]:
    """Worst verdict first, then the effect that is furthest beyond its limit."""
    from monitor.messages import excess

    beyond = excess(result)
    return (-result.verdict.rank, result.segment is not None, -beyond, result.check.value, subject(result))


def results_table(found: Iterable[Result], console: Console) -> Table:
    """One line for each number; what does not fit into the width is cut, never wrapped."""
    wide = console.width >= WIDE
    check, p = (["check"], ["p"]) if wide else ([], [])
    table = plain_table(["", *check, "of", "metric", "value", "limit", *p, ""])
    for column in table.columns:
        if column.header in ("value", "limit", "p"):
            column.justify = "right"
        elif column.header == "of":
            column.max_width = 30 if wide else 20
    for r in found:
        optional = [r.check.value] if wide else []
        table.add_row(
            mark_of(r),
            *optional,
            plain(subject(r)),
            r.metric if r.kind in (None, "realized") else f"{r.metric} ({r.kind})",
            number(r.value),
            limit(r),
            *([chance(r.p_value)] if wide else []),
            plain(words(r)),
        )
    return table


def plain_table(heads: Sequence[str]) -> Table:
    """A table without frame whose last column takes, and gives, what room there is."""
    from rich.table import Table

    table = Table(
        box=None, pad_edge=False, show_header=any(heads), header_style="dim", padding=(0, 2, 0, 0), expand=True
    )
    for head in heads[:-1]:
        table.add_column(head, no_wrap=True, overflow="ellipsis")
    table.add_column(heads[-1], no_wrap=True, overflow="ellipsis", ratio=1)
    return table


def indented(table: RenderableType) -> RenderableType:
    from rich.padding import Padding

    return Padding(table, (0, 0, 0, 2))


def show_results(found: Sequence[Result], console: Console) -> None:
    """A heading for each model and window, its numbers below it, worst first."""
    groups: dict[tuple[str, Window], list[Result]] = {}
    for r in sorted(found, key=lambda r: (r.model, r.window, r.revision)):
        groups.setdefault((r.model, r.window), []).append(r)
    for n, ((model, window), members) in enumerate(groups.items()):
        console.print(f"{'' if n == 0 else chr(10)}[bold]{escaped(model)}[/]  {span(window)}  {tally(members)}")
        console.print(indented(results_table(sorted(members, key=by_badness), console)))


def tally(found: Iterable[Result]) -> str:
    """How many numbers have which verdict, worst first, as markup."""
    counts: dict[str, int] = {}
    for r in sorted(found, key=lambda r: -r.verdict.rank):
        counts[r.verdict.value] = counts.get(r.verdict.value, 0) + 1
    return " ".join(f"[{COLOURS[v]}]{GLYPHS[v]}{n}[/]" for v, n in counts.items())


def show_incident(incident: Incident, console: Console, *, brief: bool = False) -> None:
    """Which, since when and how it stands; then what, and why. ``brief`` says it in two lines."""
    line = mark(incident.severity.value if incident.state.value == "open" else "ok")
    until = "" if incident.resolved_window is None else f" to {moment(incident.resolved_window)}"
    line.append(f" {incident.id}", style="bold")
    line.append("  " if brief else f"  {incident.model}  ", style="")
    line.append(f"{incident.check.value}  ", style="")
    is_open = incident.state.value == "open"
    line.append(incident.standing, style="bold" if is_open else "green")
    line.append(f"{' since' if is_open else ''} {moment(incident.opened_window)}{until}", style="")
    if is_open and incident.last_window > incident.opened_window:
        line.append(f", last bad {moment(incident.last_window)}", style="")
    if incident.acknowledged_by:
        line.append(f"  taken on by {incident.acknowledged_by}", style="cyan")
    told = [(incident.summary or "no summary") + _dated(incident)]
    if incident.features:
        more = f" and {len(incident.features) - 5} more" if len(incident.features) > 5 else ""
        told.append(", ".join(incident.features[:5]) + more)
    if incident.cause and incident.cause != "cannot_tell":
        sure = "" if incident.cause_confidence is None else f" ({incident.cause_confidence:.0%})"
        told.append("likely cause: " + incident.cause.replace("_", " ") + sure)
    console.print(indented(line) if brief else line)
    for text in ["; ".join(told)] if brief else told:
        console.print(indented(indented(plain(text)) if brief else plain(text)))


def _dated(incident: Incident) -> str:
    """When it began, where that was not with its first bad window."""
    from monitor.messages.naming import began

    onset = incident.onset or incident.opened_window
    told = began(incident) if onset != incident.opened_window else ""
    return f"; began {told}, first bad window {moment(incident.opened_window)}" if told else ""


def show_history(found: Sequence[Result], console: Console) -> None:
    """One line for each window: value, verdict, a bar against the limit, what changed; the curves of one together."""
    from monitor.curves import has_no_limit, is_early_sample

    several = any(r.kind not in (None, "none") for r in found)
    top = max((abs(r.value) for r in found if r.value is not None), default=0.0)
    limits = {r.threshold for r in found if r.threshold is not None}
    top = max([top, *limits]) or 1.0
    width = 20 if console.width < WIDE else 40
    table = plain_table(["window", "value", "limit", *(["of"] if several else []), "", "", ""])
    for column in table.columns[1:3]:
        column.justify = "right"
    for r in found:
        bar = "" if r.value is None else "█" * round(width * abs(r.value) / top)
        table.add_row(
            moment(r.window.start),
            number(r.value),
            limit(r) or ("none" if has_no_limit(r) else ""),
            *([("early labels" if is_early_sample(r) else r.kind or "")] if several else []),
            mark_of(r),
            bar.ljust(width),
            plain(words(r)),
        )
    console.print(table)
    if any(has_no_limit(r) for r in found):
        console.print(f"{NO_LIMIT} has no limit, and is not judged: performance.alert sets one", style="dim")


def plain(text: str, *, style: str = "") -> Text:
    """Text as it is: a feature called `[red]` is a name and no colour."""
    from rich.text import Text

    return Text(text, style=style)


def escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


MOST_RESTATED = 5
"""Restatements that are told one by one."""


def show_restated(found: Sequence[Restated], console: Console) -> None:
    """What was believed of a window beside what is known of it now, the newest windows first."""
    if not found:
        return
    console.print("\nrestated, as rows or labels came in:", style="dim")
    for each in sorted(found, key=lambda one: one.window, reverse=True)[:MOST_RESTATED]:
        name = " ".join(part for part in (each.feature, each.metric) if part)
        told = f"{name} of {span(each.window)}: believed {_belief(each.then)}; known now {_belief(each.now)}"
        console.print(indented(plain(told + (f" [{each.segment}]" if each.segment else ""))))
    if len(found) > MOST_RESTATED:
        console.print(indented(plain(f"and {len(found) - MOST_RESTATED} more: --json")))


def _belief(belief: Belief) -> str:
    ends = "" if belief.interval is None else f" [{number(belief.interval[0])}, {number(belief.interval[1])}]"
    labelled = "" if belief.label_coverage is None else f"{belief.label_coverage:.0%} labelled"
    when = "" if belief.as_of is None else moment(belief.as_of)
    how = ", ".join(part for part in (belief.kind or "", labelled, when) if part)
    return f"{number(belief.value)}{ends} {belief.verdict.value.replace('_', ' ')}{f' ({how})' if how else ''}"
