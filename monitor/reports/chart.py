"""The picture in a message: the worst features of a window as PNG, from the same drawing as the page's."""

from __future__ import annotations

import resvg_py
from markupsafe import Markup

from detectors.display import histogram, what_changed
from detectors.profiles import CategoricalProfile, NumericProfile, ProfileError
from monitor.config import Config
from monitor.models import SCORE, Baseline, Check, StoredProfile, Verdict, Window
from monitor.reports import svg
from monitor.reports.reading import Facts, ModelFacts, Reading
from monitor.reports.text import GLYPHS, clean, column_words, metric_value, metric_words, short
from monitor.reports.views import feature_order, primary

_WIDTH, _ROW, _PLOT = 720, 84, 300
_WORDS = 52
_COLOURS = {
    Verdict.ALERT: "#b3261e",
    Verdict.WARN: "#855600",
    Verdict.OK: "#1a7334",
    Verdict.CANNOT_TELL: "#59636e",
    Verdict.NO_DATA: "#59636e",
}
_STYLE = (
    "text{font-family:'DejaVu Sans','Liberation Sans',Arial,sans-serif;fill:#1b1f24}"
    ".rf{fill:#aab3bd}.cu{fill:none;stroke:#0067a3;stroke-width:2}.ax{fill:none;stroke:#dfe3e8}"
)


def chart_png(store: Reading, config: Config, *, model: str, window: Window, top: int = 3) -> bytes | None:
    """Draw the ``top`` worst features of a window, and the score: baseline in grey, the window as a line, in words.

    ``None`` when none of them is worse than `ok`, or nothing can be drawn of those that are.
    """
    results = [r for r in store.results(model, start=window.start, end=window.end) if r.window == window]
    facts = Facts(window=window, row=None, jobs={}, results=results, older=[], incidents=[])
    known = ModelFacts(
        name=model,
        config=config.models[model],
        windows=[facts],
        incidents=[],
        mutes=[],
        baseline=store.baseline(model),
    )
    score = [r for r in facts.of(Check.SCORE_DRIFT) if r.detail.get("against", "baseline") == "baseline"]
    order = [(n, r) for n, r in feature_order(known, facts) if r.verdict in (Verdict.ALERT, Verdict.WARN)][:top]
    order += [(SCORE, r) for r in ([primary(score)] if score else []) if r.verdict in (Verdict.ALERT, Verdict.WARN)]
    if not order:
        return None
    kept = {
        p.column: p
        for p in store.profiles(model, start=window.start, end=window.end, columns=[n for n, _ in order])
        if p.window == window and p.segment is None
    }
    rows = []
    for name, result in order:
        drawing = _bars(store, known.baseline, kept.get(name), min_rows=config.reports.min_category_rows)
        if drawing is not None:
            value = f"{metric_words(result.metric)} {metric_value(result.metric, result.value)}"
            rows.append((name, result.verdict, value, *drawing))
    return _render(rows) if rows else None


def _bars(
    store: Reading, newest: Baseline | None, kept: StoredProfile | None, *, min_rows: int
) -> tuple[Markup, str] | None:
    if kept is None or newest is None or not isinstance(kept.profile, NumericProfile | CategoricalProfile):
        return None
    try:
        other = kept.baseline_id is not None and kept.baseline_id != newest.id
        baseline = store.baseline_by_id(kept.baseline_id or 0) if other else newest
        column = baseline.columns[kept.column]
        bars = histogram(column.spec, column.reference, kept.profile, min_rows=min_rows)
        words = what_changed(column.spec, column.reference, kept.profile, min_rows=min_rows)
    except (ProfileError, ValueError, LookupError):
        return None
    return svg.bars_paths(bars, width=_PLOT, height=56), words


def _render(rows: list[tuple[str, Verdict, str, Markup, str]]) -> bytes:
    height = _ROW * len(rows) + 16
    image = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}"><style>{style}</style>'
    ).format(w=_WIDTH, h=height, style=Markup(_STYLE))  # noqa: S704 - our own words
    for i, (name, verdict, value, drawing, words) in enumerate(rows):
        y = 8 + i * _ROW
        image += Markup(
            '<text x="16" y="{}" font-size="17" font-weight="bold">{}</text>'
            '<text x="16" y="{}" font-size="15" font-weight="bold" style="fill:{}">{} {}</text>'
            '<text x="16" y="{}" font-size="13" style="fill:#56606b">{}</text>'
            '<g transform="translate({},{})">{}</g>'
        ).format(
            y + 22,
            clean(short(column_words(name), 36)),
            y + 45,
            _COLOURS[verdict],
            GLYPHS[verdict],
            value,
            y + 66,
            clean(short(words if len(words) <= _WORDS else words.partition(";")[0], _WORDS)),
            _WIDTH - _PLOT - 16,
            y + 8,
            drawing,
        )
    return bytes(resvg_py.svg_to_bytes(svg_string=str(image + Markup("</svg>")), background="#ffffff", zoom=2))
