"""The site: an index, a page for each model, window and feature, drawn from the store alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from detectors.display import describe
from detectors.profiles import CategoricalProfile, ColumnProfile, NumericProfile, ProfileError
from monitor.config import Config
from monitor.curves import KINDS, has_no_limit
from monitor.models import Baseline, Check, Incident, IncidentState, Mute, Result, Verdict, Window
from monitor.reports import svg, versions, views
from monitor.reports.files import (
    evidently_page_path,
    feature_page_path,
    inside,
    model_page_path,
    open_root,
    read_manifest,
    remove_pages,
    safe_name,
    window_name,
    window_page_path,
    write_manifest,
    write_page,
)
from monitor.reports.outcomes import outcomes
from monitor.reports.reading import (
    Facts,
    ModelFacts,
    Reading,
    excess,
    limits_of,
    read_model,
    reference_of,
    worst,
)
from monitor.reports.restated import restated_views
from monitor.reports.text import (
    GLYPHS,
    WORDS,
    ago,
    brief,
    clean,
    column_words,
    count,
    ended,
    link,
    metric_value,
    metric_words,
    moment,
    number,
    p_words,
    plural,
    short,
    span,
    when,
)
from monitor.waiting import waits_for

_COUNTS = (NumericProfile, CategoricalProfile)
_CHUNK = 16
"""Windows whose profiles are in memory at once."""


@cache
def environment() -> Environment:
    """Templates that escape everything, refuse what is undefined, and pass every value through `clean` first."""
    found = Environment(
        loader=PackageLoader("monitor.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"short": short, "link": link}
    found.globals |= {"glyphs": GLYPHS, "words": WORDS}
    return found


def _css() -> Markup:
    source, _, _ = PackageLoader("monitor.reports").get_source(Environment(autoescape=True), "style.css")
    return Markup(source)  # noqa: S704 - our own file


@dataclass(frozen=True)
class Cell:
    """A window as a cell of a strip or a row of a list."""

    href: str
    label: str
    verdict: Verdict
    sentence: str
    rows: str = ""


@dataclass(frozen=True)
class Chart:
    name: str
    drawing: Markup
    kinds: list[str] = field(default_factory=list)


def build_site(
    store: Reading,
    config: Config,
    *,
    now: datetime,
    out: Path | None = None,
    models: Sequence[str] | None = None,
) -> Path:
    """Draw every page that changed since it was last drawn, and remove those older than `reports.keep`.

    Parameters
    ----------
    now
        Windows that end after it do not exist; it is the only time stamped on a page.
    out
        The folder of the site; default: `reports.dir`.
    models
        Draw the pages of these models only (the index always shows all).

    Returns
    -------
    The index page.

    Raises
    ------
    ReportError
        The folder cannot be used, or a page not be written.  What was written before stays.
    """
    root = open_root(out if out is not None else config.reports.dir)
    zone = ZoneInfo(config.timezone)
    known = []
    for name, model in config.models.items():
        facts = read_model(store, name, model, start=now - config.reports.keep, now=now)
        site = ModelSite(store, config, facts, root=root, zone=zone, now=now)
        if models is None or name in models:
            site.draw()
        known.append(site)
    write_page(root, "index.html", _index(known, config, now=now, zone=zone))
    return root / "index.html"


class ModelSite:
    """The pages of one model, in one folder."""

    def __init__(
        self, store: Reading, config: Config, facts: ModelFacts, *, root: Path, zone: ZoneInfo, now: datetime
    ) -> None:
        self.store, self.config, self.model = store, config, facts
        self.root, self.zone, self.now = root, zone, now
        self.folder = safe_name(facts.name)
        self.beside = versions.Beside(facts)
        self.min_rows = config.reports.min_category_rows
        self.summaries = {w.window: views.summarise(facts, w) for w in facts.windows}
        self.verdicts = {window: summary.verdict for window, summary in self.summaries.items()}
        self._baselines: dict[int, Baseline | None] = {}
        self.pages: dict[str, str] = {}

    # --- drawing ---

    def draw(self) -> None:
        old = read_manifest(self.root, self.folder)
        for i in range(0, len(self.model.windows), _CHUNK):
            self._draw_windows(self.model.windows[i : i + _CHUNK], old)
        self._draw_features(old)
        self._put("index.html", self._render("model.html.j2", self._model_page()), "")
        gone = set(old) - set(self.pages)
        remove_pages(self.root, self.folder, gone)
        write_manifest(self.root, self.folder, self.pages)

    def _draw_windows(self, part: Sequence[Facts], old: Mapping[str, str]) -> None:
        todo = []
        for facts in part:
            name = f"{window_name(facts.window)}.html"
            page = self._window_page(facts)
            mark = fingerprint(page, facts.results, self.model.baseline.id if self.model.baseline else 0, facts.jobs)
            if old.get(name) == mark and inside(self.root, f"{self.folder}/{name}").is_file():
                self.pages[name] = mark
            else:
                todo.append((facts, name, page, mark))
        if not todo:
            return
        profiles = self._profiles([facts.window for facts, *_ in todo])
        for facts, name, page, mark in todo:
            found, baseline = profiles.get(facts.window, ({}, self.model.baseline))
            page |= {"features": views.feature_rows(self.model, facts, found, baseline, min_rows=self.min_rows)}
            page["baseline"] = views.baseline_words(baseline, self.zone)
            page["score_drawing"], page["score_words"] = views.score_drawing(baseline, found, min_rows=self.min_rows)
            self._put(name, self._render("window.html.j2", page), mark)

    def _profiles(
        self, windows: Sequence[Window], columns: Sequence[str] | None = None
    ) -> dict[Window, tuple[dict[str, ColumnProfile], Baseline | None]]:
        """Profiles of all rows, and the baseline that each window was counted over."""
        found: dict[Window, tuple[dict[str, ColumnProfile], Baseline | None]] = {}
        wanted = set(windows)
        kept = self.store.profiles(
            self.model.name, start=min(w.start for w in windows), end=max(w.end for w in windows), columns=columns
        )
        for stored in kept:
            counts = stored.profile
            if stored.window in wanted and stored.segment is None and isinstance(counts, _COUNTS):
                baseline = self._baseline(stored.baseline_id)
                found.setdefault(stored.window, ({}, baseline))[0][stored.column] = counts
        return found

    def _baseline(self, number_: int | None) -> Baseline | None:
        newest = self.model.baseline
        if number_ is None or (newest is not None and newest.id == number_):
            return newest
        if number_ not in self._baselines:
            try:
                self._baselines[number_] = self.store.baseline_by_id(number_)
            except LookupError:
                self._baselines[number_] = None
        return self._baselines[number_]

    def _put(self, name: str, page: str, mark: str) -> None:
        write_page(self.root, f"{self.folder}/{name}", page)
        self.pages[name] = mark

    def _render(self, template: str, page: dict[str, Any]) -> str:
        return environment().get_template(template).render(css=_css(), zone=self.zone.key, **page)

    # --- window ---

    def cell(self, facts: Facts, *, prefix: str = "") -> Cell:
        summary = self.summaries[facts.window]
        return Cell(
            href=f"{prefix}{window_name(facts.window)}.html",
            label=span(facts.window, self.zone),
            verdict=summary.verdict,
            sentence=summary.sentence,
            rows=count(facts.n_rows),
        )

    def strip(self, facts: Facts | None, *, prefix: str = "") -> list[Cell]:
        if facts is None:
            return []
        return [self.cell(w, prefix=prefix) for w in views.recent(self.model, facts)]

    def _neighbour(self, facts: Facts, step: int) -> dict[str, str] | None:
        index = self.model.windows.index(facts) + step
        if not 0 <= index < len(self.model.windows):
            return None
        other = self.model.windows[index].window
        return {"href": f"{window_name(other)}.html", "label": brief(other, self.zone)}

    def _window_page(self, facts: Facts) -> dict[str, Any]:
        config, summary = self.model.config, self.summaries[facts.window]
        drill = evidently_page_path(self.model.name, facts.window)
        segments, hidden = views.segment_rows(facts, min_rows=self.min_rows)
        restated, more = restated_views(facts, self.zone)
        return {
            "model": self.model.name,
            "label": span(facts.window, self.zone),
            "here": f"{window_name(facts.window)}.html",
            "summary": summary,
            "prev": self._neighbour(facts, -1),
            "next": self._neighbour(facts, 1),
            "volume": views.volume_words(self.model, facts),
            "streak": views.streak(self.model, facts, self.verdicts),
            "owner": config.owner,
            "runbook": config.runbook,
            "restated": restated,
            "restated_more": more,
            "revision": facts.revision,
            "strip": self.strip(facts),
            "cards": views.cards(self.model, facts, summary, zone=self.zone),
            "evidently": drill.split("/")[1] if inside(self.root, drill).is_file() else None,
            "incidents": [views.group_view(g, zone=self.zone) for g in views.by_cause(facts.incidents)],
            "score": views.lines(facts, Check.SCORE_DRIFT),
            "performance": views.performance_lines(facts) if config.labels else None,
            "performance_words": views.performance_words(facts),
            "outcomes": outcomes(facts),
            "classes": views.class_rows(facts),
            "skew": views.lines(facts, Check.SKEW) if config.skew else None,
            "quality": facts.of(Check.QUALITY),
            "quality_bad": views.lines(facts, Check.QUALITY, only_bad=True),
            "versions": self.beside.at(facts.window, self.zone),
            "segments": segments,
            "hidden_segments": plural(hidden, "segment") if hidden else "",
            "numbers": [self._numbers(r) for r in _in_order(facts.results, min_rows=self.min_rows)],
            "history": [
                [r and r.value for r in views.history(self.model, key, views.recent(self.model, facts))]
                for key in sorted(self.model.by_series, key=str)
                if key[0] is Check.FEATURE_DRIFT
            ],
        }

    def _numbers(self, r: Result) -> list[str]:
        return [
            r.check.value.replace("_", " "),
            " · ".join(short(part, 40) for part in (column_words(r.feature or ""), r.segment or "") if part),
            metric_words(r.metric) + (" (window before)" if r.detail.get("against") == "previous" else ""),
            metric_value(r.metric, r.value),
            p_words(r.p_value),
            number(r.threshold),
            count(r.n_reference),
            count(r.n_current),
            "no limit" if has_no_limit(r) else WORDS[r.verdict],
        ]

    # --- model ---

    def open_incidents(self) -> list[Incident]:
        found = [i for i in self.model.incidents if i.state is IncidentState.OPEN]
        return sorted(found, key=lambda i: (-i.severity.rank, -i.opened_window.timestamp(), i.id))

    def verdict(self) -> Verdict:
        """The worst of the newest window and the open incidents: a quiet day does not end what is open."""
        newest = [self.verdicts[self.model.last.window]] if self.model.last else []
        return worst([*newest, *(incident.severity for incident in self.open_incidents())])

    def standing(self) -> str:
        """How many incidents are open, since when, and how the newest window is."""
        found, last = self.open_incidents(), self.model.last
        if not found:
            return self.summaries[last.window].sentence if last else ""
        since = when(min(incident.onset or incident.opened_window for incident in found), self.zone)
        told = f"{plural(len(found), 'incident')} open since {since}"
        if last is None:
            return told
        summary = self.summaries[last.window]
        return f"{told}; newest window {WORDS[summary.verdict]}: {summary.sentence}"

    def group_view(self, group: Sequence[Incident], *, href: str = "") -> views.IncidentView:
        """A card for open incidents of one cause, with what the first of them waits for."""
        first = group[0]
        found = [
            r for w in self.model.windows if w.window.start >= first.opened_window for r in w.of_check(first.check)
        ]
        waiting = waits_for(first, found, recover=self.model.config.recover)
        told = "" if waiting is None else waiting.words(lambda at: when(at, self.zone))
        return views.group_view(group, zone=self.zone, href=href, waits=told)

    def _model_page(self) -> dict[str, Any]:
        config, last = self.model.config, self.model.last
        closed = [i for i in self.model.incidents if i.state is not IncidentState.OPEN]
        charts = self._model_charts(last) if last else []
        return {
            "model": self.model.name,
            "latest": self.cell(last) if last else None,
            "verdict": self.verdict(),
            "standing": self.standing(),
            "description": ended(config.description),
            "baseline": views.baseline_words(self.model.baseline, self.zone),
            "owner": config.owner,
            "runbook": config.runbook,
            "strip": self.strip(last),
            "mutes": [self._mute(m) for m in self.model.mutes],
            "open": [self.group_view(g) for g in views.by_cause(self.open_incidents())],
            "closed": [views.incident_view(i, zone=self.zone) for i in closed[:50]],
            "versions": self.beside.at(None, self.zone),
            "matrix": self._matrix(last) if last else [],
            "charts": charts,
            "curves": [(kind, svg.key(kind)) for kind in KINDS if any(kind in chart.kinds for chart in charts)],
            "windows": [self.cell(w) for w in reversed(self.model.windows)],
        }

    def _mute(self, mute: Mute) -> dict[str, Any]:
        until = moment(mute.until, self.zone) if mute.until else "unmuted"
        return {"feature": mute.feature, "who": mute.who, "until": until, "reason": mute.reason}

    def feature_names(self) -> list[str]:
        names = {feature for check, feature, _ in self.model.by_series if check is Check.FEATURE_DRIFT and feature}
        return sorted(names)

    def _verdict_of(self, feature: str, window: Window) -> Verdict | None:
        found = [
            series[window].verdict
            for (check, name, _), series in self.model.by_series.items()
            if check is Check.FEATURE_DRIFT and name == feature and window in series
        ]
        return worst(found) if found else None

    def _matrix(self, last: Facts) -> list[dict[str, Any]]:
        shown = views.recent(self.model, last)
        rows = []
        for name in self.feature_names():
            verdicts = [self._verdict_of(name, w.window) for w in shown]
            alerts, warns = verdicts.count(Verdict.ALERT), verdicts.count(Verdict.WARN)
            text = ", ".join(
                part
                for part in (f"{plural(alerts, 'alert')}" if alerts else "", plural(warns, "warning") if warns else "")
                if part
            )
            rows.append(
                {
                    "name": name,
                    "href": feature_page_path(self.model.name, name).split("/")[1],
                    "drawing": svg.verdict_row(verdicts, f"{short(name)}: {text or 'no alert'}"),
                    "words": text,
                    "order": (-alerts, -warns, name),
                }
            )
        return sorted(rows, key=lambda row: row["order"])

    def _chart(self, key: tuple[Check, str | None, str], windows: Sequence[Facts], name: str) -> Chart | None:
        found = views.history(self.model, key, windows)
        values = [r.value if r else None for r in found]
        known = [r for r in found if r is not None and r.value is not None]
        if not known:
            return None
        judged = next((r for r in reversed(known) if r.threshold is not None), known[-1])
        drawing = svg.line_chart(
            values,
            f"{name} over {plural(len(values), 'window')}",
            bounds=[r.interval if r else None for r in found],
            kinds=[r.kind if r and r.kind in KINDS else None for r in found],
            limits=limits_of(judged),
            reference=reference_of(known[-1]),
            written=lambda value: metric_value(key[2], value).replace(" %", "%"),
        )
        kinds = [kind for kind in KINDS if any(r.kind == kind for r in known)]
        return Chart(name, drawing, kinds)

    def _model_charts(self, last: Facts) -> list[Chart]:
        shown = views.recent(self.model, last, 60)
        keys: list[tuple[Check, str | None, str]] = [
            (Check.SCORE_DRIFT, None, "psi"),
            (Check.SCORE_DRIFT, None, "decision_rate"),
            *[(Check.PERFORMANCE, None, m) for m in self.model.config.performance.told()],
            (Check.QUALITY, None, "n_rows"),
        ]
        prefix = {Check.SCORE_DRIFT: "Score "}
        charts = [self._chart(key, shown, f"{prefix.get(key[0], '')}{metric_words(key[2])}") for key in keys]
        return [chart for chart in charts if chart is not None]

    # --- feature ---

    def _draw_features(self, old: Mapping[str, str]) -> None:
        last = next((w for w in reversed(self.model.windows) if w.of(Check.FEATURE_DRIFT)), None)
        if last is None:
            return
        todo = []
        for feature in self.feature_names():
            name = feature_page_path(self.model.name, feature).split("/")[1]
            series = {k: v for k, v in self.model.by_series.items() if k[1] == feature}
            mark = fingerprint(
                feature, [[*v.values()] for v in series.values()], last.results and last.window, self.model.config
            )
            if old.get(name) == mark and inside(self.root, f"{self.folder}/{name}").is_file():
                self.pages[name] = mark
            else:
                todo.append((feature, name, mark))
        if not todo:
            return
        bad = {feature: self._worst_window(feature) or last for feature, _, _ in todo}
        windows = {last.window, *(w.window for w in bad.values())}
        profiles = {w: self._profiles([w]).get(w, ({}, self.model.baseline)) for w in sorted(windows)}
        for feature, name, mark in todo:
            page = self._feature_page(feature, last, bad[feature], profiles)
            self._put(name, self._render("feature.html.j2", page), mark)

    def _worst_window(self, feature: str) -> Facts | None:
        scored = [
            ((r.verdict.rank if r.verdict.decides else -1, excess(r)), w)
            for w in self.model.windows
            for r in w.of(Check.FEATURE_DRIFT)
            if r.feature == feature and r.value is not None
        ]
        return max(scored, key=lambda item: (item[0], item[1].window), default=(None, None))[1]

    def _feature_page(
        self,
        feature: str,
        last: Facts,
        bad: Facts,
        profiles: Mapping[Window, tuple[dict[str, ColumnProfile], Baseline | None]],
    ) -> dict[str, Any]:
        counts, baseline = profiles[last.window]
        drawing, what = views.draw_bars(
            baseline, feature, counts.get(feature), min_rows=self.min_rows, width=520, height=140
        )
        worst_drawing, worst_what = None, ""
        if bad.window != last.window:
            found, then = profiles[bad.window]
            worst_drawing, worst_what = views.draw_bars(
                then, feature, found.get(feature), min_rows=self.min_rows, width=520, height=140
            )
        keys = [k for k in sorted(self.model.by_series, key=str) if k[1] == feature]
        metrics = [k[2] for k in keys if k[0] is Check.FEATURE_DRIFT]
        weights = views.importance(self.model)
        charts = [self._chart(key, self.model.windows[-60:], metric_words(key[2])) for key in keys]
        return {
            "model": self.model.name,
            "feature": feature,
            "verdict": self._verdict_of(feature, last.window) or Verdict.NO_DATA,
            "what": what,
            "href": f"{window_name(last.window)}.html",
            "label": span(last.window, self.zone),
            "baseline": views.baseline_words(baseline, self.zone),
            "importance": f"{weights[feature]:.3g}" if feature in weights else "",
            "drawing": drawing,
            "axis": views.axis_words(baseline, feature, counts.get(feature), min_rows=self.min_rows),
            "worst_drawing": worst_drawing,
            "worst_what": worst_what,
            "worst_href": f"{window_name(bad.window)}.html",
            "worst_label": span(bad.window, self.zone),
            "quantiles": self._quantiles(baseline, feature, counts.get(feature)),
            "charts": [chart for chart in charts if chart is not None],
            "segments": self._feature_segments(feature, last),
            "metrics": [metric_words(m) for m in metrics],
            "rows": [self._feature_row(feature, w, metrics) for w in reversed(self.model.windows)],
        }

    def _feature_row(self, feature: str, facts: Facts, metrics: Sequence[str]) -> dict[str, Any]:
        found = {r.metric: r for r in facts.of(Check.FEATURE_DRIFT) if r.feature == feature}
        return {
            "anchor": window_name(facts.window),
            "href": f"{window_name(facts.window)}.html",
            "label": span(facts.window, self.zone),
            "verdict": worst(r.verdict for r in found.values()),
            "cells": [metric_value(m, found[m].value) if m in found else "–" for m in metrics],
            "what": next((str(r.detail.get("what") or r.detail.get("reason") or "") for r in found.values()), ""),
        }

    def _feature_segments(self, feature: str, facts: Facts) -> list[views.Line]:
        found = [
            r
            for r in facts.results
            if r.feature == feature and r.segment is not None and r.check is Check.FEATURE_DRIFT
            if (r.n_current or 0) >= self.min_rows
        ]
        found.sort(key=lambda r: (-r.verdict.rank, -excess(r), r.segment or "", r.metric))
        return [
            views.Line(
                name=r.segment or "",
                metric=metric_words(r.metric),
                value=metric_value(r.metric, r.value),
                verdict=r.verdict,
                n=count(r.n_current),
            )
            for r in found
        ]

    def _quantiles(
        self, baseline: Baseline | None, feature: str, profile: ColumnProfile | None
    ) -> list[tuple[str, str, str]]:
        if baseline is None or profile is None or feature not in baseline.columns:
            return []
        column = baseline.columns[feature]
        try:
            before = describe(column.spec, column.reference, min_rows=self.min_rows)
            after = describe(column.spec, profile, min_rows=self.min_rows)
        except (ProfileError, ValueError):
            return []
        rows = [
            (_DESCRIBED.get(k, k), _described(k, before[k]), _described(k, after.get(k))) for k in before if k != "top"
        ]
        tops = before.get("top") or {}, after.get("top") or {}
        names = [*tops[0], *(n for n in tops[1] if n not in tops[0])]
        return rows + [
            (n, metric_value("missing_rate", tops[0].get(n)), metric_value("missing_rate", tops[1].get(n)))
            for n in names
        ]


_DESCRIBED = {
    "n": "rows", "missing_rate": "missing, share", "unseen_rate": "never seen before, share",
    "unseen": "never seen before", "std": "standard deviation", "p50": "median",
}  # fmt: skip


def _described(key: str, value: float | None) -> str:
    if key in ("n", "missing", "infinite", "unseen"):
        return count(value)
    return metric_value("missing_rate", value) if key.endswith("_rate") else number(value)


def _in_order(results: Sequence[Result], *, min_rows: int) -> list[Result]:
    shown = [r for r in results if r.segment is None or (r.n_current or 0) >= min_rows]
    return sorted(
        shown, key=lambda r: (r.check.value, r.segment or "", r.feature or "", r.metric, str(r.detail.get("against")))
    )


# --- index ---------------------------------------------------------------------------------------


def _index(sites: Sequence[ModelSite], config: Config, *, now: datetime, zone: ZoneInfo) -> str:
    open_now = [(site, group) for site in sites for group in views.by_cause(site.open_incidents())]
    open_now.sort(key=lambda pair: _worst_and_newest(pair[1]))
    cards: list[dict[str, Any]] = []
    for site in sites:
        last = site.model.last
        folder = f"{site.folder}/"
        n_open = len(site.open_incidents())
        cards.append(
            {
                "name": site.model.name,
                "href": model_page_path(site.model.name),
                "owner": site.model.config.owner,
                "verdict": site.verdict(),
                "standing": site.standing(),
                "latest": site.cell(last, prefix=folder) if last else None,
                "open": n_open,
                "muted": bool(site.model.mutes),
                "strip": site.strip(last, prefix=folder),
                "order": (-n_open, -(site.verdicts[last.window].rank if last else 1), site.model.name),
            }
        )
    cards.sort(key=lambda card: card["order"])
    quiet = Verdict.OK if cards and all(c["verdict"].decides for c in cards) else Verdict.CANNOT_TELL
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            css=_css(),
            zone=zone.key,
            alert=Verdict.ALERT,
            quiet=quiet,
            open=[s.group_view(g, href=model_page_path(s.model.name)) for s, g in open_now],
            n_open=sum(len(group) for _, group in open_now),
            models=cards,
            proof=_proof(sites, zone=zone),
            late=[line for site in sites if (line := _late(site, config, now=now, zone=zone))],
            drawn=moment(now, zone),
        )
    )


def _worst_and_newest(group: Sequence[Incident]) -> tuple[int, float, str]:
    newest = max(incident.opened_window for incident in group)
    return -max(incident.severity.rank for incident in group), -newest.timestamp(), group[0].id


def _proof(sites: Sequence[ModelSite], *, zone: ZoneInfo) -> str:
    """Silence must be earned: what was looked at, and how far back and forward it reaches."""
    windows = [w for site in sites for w in site.model.windows]
    if not windows:
        return "No window has been looked at yet."
    judged = [summary.n_judged for site in sites for summary in site.summaries.values()]
    features = sum(len(site.feature_names()) for site in sites)
    lasts = [(site.model.last.window.end, site.model.name) for site in sites if site.model.last]
    oldest = min(lasts)
    newest = "The newest data is" if len(lasts) == 1 else f"Least far reaches the data of {short(oldest[1])}:"
    return (
        f"Checked {plural(features, 'feature')} of {plural(len(sites), 'model')} over {plural(len(windows), 'window')} "
        f"({sum(judged):,} comparisons of a feature with its baseline), from "
        f"{when(min(w.window.start for w in windows), zone)} on. "
        f"{newest} up to {when(oldest[0], zone)}."
    )


def _late(site: ModelSite, config: Config, *, now: datetime, zone: ZoneInfo) -> str | None:
    last = site.model.last
    if last is None:
        return f"{short(site.model.name)}: no window has been looked at yet."
    overdue = now - last.window.end - site.model.config.settle - config.worker.tick
    if overdue <= 2 * last.window.length:
        return None
    age, end = ago(now - last.window.end), when(last.window.end, zone)
    return f"{short(site.model.name)}: the newest window ended {age} ago ({end})."


# --- what a page was drawn from ------------------------------------------------------------------


def fingerprint(*parts: object) -> str:
    """A short hash of plain data and dataclasses, and of the templates: equal when the page would be equal."""
    text = json.dumps(parts, default=_plain, sort_keys=True)
    return hashlib.sha256((_templates() + text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


@cache
def _templates() -> str:
    here = Path(__file__).parent
    files = sorted([*here.glob("*.py"), *(here / "templates").iterdir()])
    return hashlib.sha256(b"".join(f.read_bytes() for f in files if f.is_file())).hexdigest()


__all__ = ["build_site", "window_page_path"]
