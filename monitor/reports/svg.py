"""Small drawings as inline SVG, one path for each side; colours come from the page's style, so dark mode is free."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from detectors.display import Histogram
from monitor.models import Verdict
from monitor.reports.text import clean

_OPEN = Markup(
    '<svg class="{kind}" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
    'aria-label="{label}">'
)


def _open(kind: str, width: int, height: int, label: str) -> Markup:
    return _OPEN.format(kind=kind, width=width, height=height, label=clean(label))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def histogram(bars: Histogram, label: str, *, width: int = 220, height: int = 44) -> Markup:
    """Baseline as filled bars, the window as a line over them, on one axis and one scale."""
    return _open("h", width, height, label) + bars_paths(bars, width=width, height=height) + Markup("</svg>")


def bars_paths(bars: Histogram, *, width: int, height: int) -> Markup:
    """The two paths of a histogram: stairs where the axis is a scale, a cap on each bar where it is a list."""
    count = len(bars.reference)
    top = max([*bars.reference, *bars.current, 1e-9])
    floor = height - 1
    step = width / max(1, count)
    gap = 0.6 if bars.edges else max(1.0, step * 0.12)
    tall = [[(floor - 2) * share / top for share in side] for side in (bars.reference, bars.current)]
    grey = "".join(
        f"M{_n(i * step + gap / 2)},{floor}v-{_n(h)}h{_n(step - gap)}v{_n(h)}z"
        for i, h in enumerate(tall[0])
        if h > 0.05
    )
    scale = max(0, len(bars.edges) - 1)
    line = "M0," + str(floor) if scale else ""
    for i, h in enumerate(tall[1]):
        if i < scale:
            line += f"V{_n(floor - h)}H{_n((i + 1) * step)}"
        else:
            line += f"M{_n(i * step + gap / 2)},{_n(floor - h)}h{_n(step - gap)}"
    return Markup('<path class="rf" d="{}"/><path class="cu" d="{}"/><path class="ax" d="M0,{}h{}"/>').format(
        grey, line, floor, width
    )


def sparkline(
    values: Sequence[float | None],
    limit: float | None,
    label: str,
    *,
    verdict: Verdict,
    width: int = 150,
    height: int = 36,
) -> Markup:
    """The last windows with the limit dashed; a window without a value breaks the line."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    top = max([*known, (limit or 0) * 1.3, 1e-9])
    step = (width - 8) / max(1, len(values) - 1)

    def y(value: float) -> str:
        return _n(height - 3 - (height - 6) * value / top)

    path, pen, last = "", "M", ""
    for i, value in enumerate(values):
        if value is None or not math.isfinite(value):
            pen = "M"
            continue
        path += f"{pen}{_n(i * step + 3)},{y(value)}"
        pen = "L"
        last = Markup('<circle class="{}" cx="{}" cy="{}" r="2.5"/>').format(verdict.value, _n(i * step + 3), y(value))
    dashed = "" if limit is None else Markup('<path class="li" d="M0,{}h{}"/>').format(y(limit), width)
    return (
        _open("s", width, height, label)
        + dashed
        + Markup('<path class="sp" d="{}"/>').format(path)
        + last
        + Markup("</svg>")
    )


def verdict_row(verdicts: Sequence[Verdict | None], label: str, *, cell: int = 12, height: int = 18) -> Markup:
    """One feature over the windows: the worse, the taller and the darker, so that it reads without colour, too."""
    tall = {
        Verdict.ALERT: height - 2,
        Verdict.WARN: height * 0.6,
        Verdict.OK: 4,
        Verdict.CANNOT_TELL: 2,
        Verdict.NO_DATA: 1,
    }
    paths = Markup()
    for verdict in Verdict:
        cells = "".join(
            f"M{i * cell},{_n(height - tall[verdict])}h{cell - 2}v{_n(tall[verdict])}h-{cell - 2}z"
            for i, found in enumerate(verdicts)
            if found is verdict
        )
        if cells:
            paths += Markup('<path class="f-{}" d="{}"/>').format(verdict.value, cells)
    return _open("v", cell * max(1, len(verdicts)), height, label) + paths + Markup("</svg>")


def line_chart(
    values: Sequence[float | None],
    label: str,
    *,
    bounds: Sequence[tuple[float, float] | None] = (),
    kinds: Sequence[str | None] = (),
    limits: Sequence[float] = (),
    reference: float | None = None,
    written: Callable[[float], str] = "{:.2g}".format,
    width: int = 340,
    height: int = 120,
) -> Markup:
    """One number over the windows, with its interval as a band, limits dashed and the baseline's value dotted.

    ``kinds`` says of which curve each value is: ``realized`` is drawn through, ``corrected`` and ``estimated`` are
    dashed and dotted, and each has a mark of its own. ``written`` writes a value at the axis.
    """
    ends = [end for pair in bounds if pair for end in pair]
    known = [v for v in [*values, *ends, *limits, reference] if v is not None and math.isfinite(v)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    pad = (high - low) * 0.1 or 0.05
    low, high = low - pad, high + pad
    step = (width - 60) / max(1, len(values) - 1)

    def y(value: float) -> str:
        return _n(6 + (height - 12) * (high - value) / (high - low))

    band = "".join(
        f"M{_n(44 + i * step)},{y(pair[0])}V{y(pair[1])}" for i, pair in enumerate(bounds) if pair is not None
    )
    parts = _open("c", width, height, label)
    for kind, level in [*(("li", limit) for limit in limits), ("re", reference)]:
        if level is not None and math.isfinite(level):
            parts += Markup('<path class="{}" d="M40,{}H{}"/>').format(kind, y(level), width)
    for level in (high - pad, low + pad):
        parts += Markup('<text x="40" y="{}" text-anchor="end">{}</text>').format(
            _n(float(y(level)) + 4), written(level)
        )
    points = [
        None
        if value is None or not math.isfinite(value)
        else (44 + i * step, float(y(value)), kinds[i] if i < len(kinds) else None)
        for i, value in enumerate(values)
    ]
    return parts + Markup('<path class="bd" d="{}"/>').format(band) + _curve(points) + Markup("</svg>")


_STYLES = {"corrected": "cu cc", "estimated": "cu ce"}
_CERTAIN = ("estimated", "corrected")
"""Least certain first: between two kinds the line is that of the less certain one."""


def _curve(points: Sequence[tuple[float, float, str | None] | None]) -> Markup:
    """The line through the points, each piece in the style of its kind, and the marks of those that have a kind."""
    lines: dict[str, str] = {}
    marks: dict[str, str] = {}
    before: tuple[float, float, str | None] | None = None
    pen = ""
    for point, after in zip(points, [*points[1:], None], strict=True):
        if point is not None:
            x, at, kind = point
            if before is not None:
                weaker = next((each for each in _CERTAIN if each in (kind, before[2])), "")
                style = _STYLES.get(weaker, "cu")
                start = f"M{_n(before[0])},{_n(before[1])}" if style != pen else ""
                lines[style] = lines.get(style, "") + f"{start}L{_n(x)},{_n(at)}"
                pen = style
            else:
                pen = ""
            if kind is not None or (before is None and after is None):
                marks[kind or "realized"] = marks.get(kind or "realized", "") + mark_path(kind or "realized", x, at)
        before = point
    return Markup().join(
        [
            *(Markup('<path class="{}" d="{}"/>').format(style, path) for style, path in lines.items()),
            *(Markup('<path class="mk m-{}" d="{}"/>').format(kind, path) for kind, path in marks.items()),
        ]
    )


def mark_path(kind: str, x: float, y: float) -> str:
    """A dot for what labels say, an empty one for what is corrected, a diamond for what is estimated."""
    if kind == "estimated":
        return f"M{_n(x)},{_n(y - 2.6)}l2.6,2.6l-2.6,2.6l-2.6,-2.6z"
    return f"M{_n(x - 2)},{_n(y)}a2,2 0 1 0 4,0a2,2 0 1 0 -4,0"


def key(kind: str) -> Markup:
    """A sample of a curve for a legend."""
    style = _STYLES.get(kind, "cu")
    return Markup(
        '<svg class="ky" width="30" height="12" viewBox="0 0 30 12" aria-hidden="true"><path class="{}" d="M1,6H29"/>'
        '<path class="mk m-{}" d="{}"/></svg>'
    ).format(style, kind, mark_path(kind, 15, 6))


def band_chart(
    values: Sequence[float | None],
    label: str,
    *,
    bounds: Sequence[tuple[float, float] | None],
    width: int = 520,
    height: int = 130,
) -> Markup:
    """A difference over the windows with its interval as a band, and zero dotted; the first, wide ones are cut off."""
    pairs = [(v, b) for v, b in zip(values, bounds, strict=True) if v is not None and b is not None]
    spread = sorted(b[1] - b[0] for _, b in pairs)
    wide = 2 * spread[len(spread) // 2] if spread else 1.0
    ends = [end for v, b in pairs for end in (max(b[0], v - wide), min(b[1], v + wide))]
    known = [end for end in [0.0, *ends, *(v for v in values if v is not None)] if math.isfinite(end)]
    low, high = min(known), max(known)
    pad = (high - low) * 0.08 or 0.05
    low, high = low - pad, high + pad
    step = (width - 64) / max(1, len(values) - 1)

    def y(value: float) -> str:
        return _n(4 + (height - 8) * (high - min(max(value, low), high)) / (high - low))

    upper, lower, path, pen = "", "", "", "M"
    for i, (value, pair) in enumerate(zip(values, bounds, strict=True)):
        if value is None or pair is None:
            continue
        x = _n(56 + i * step)
        upper += f"{'M' if not upper else 'L'}{x},{y(pair[1])}"
        lower = f"L{x},{y(pair[0])}" + lower
        path += f"{pen}{x},{y(value)}"
        pen = "L"
    parts = _open("c", width, height, label)
    parts += Markup('<path class="bf" d="{}{}z"/><path class="re" d="M50,{}H{}"/>').format(upper, lower, y(0.0), width)
    shown: list[float] = []
    for level in (0.0, high - pad, low + pad):
        if all(abs(level - other) > 0.12 * (high - low) for other in shown):
            shown.append(level)
            text = f"{level:+.2g}".replace("-", "−") if level else "0"
            parts += Markup('<text x="46" y="{}" text-anchor="end">{}</text>').format(_n(float(y(level)) + 4), text)
    return parts + Markup('<path class="cu" d="{}"/></svg>').format(path)
