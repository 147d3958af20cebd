"""What a window says, worked out once: the verdict in one sentence, the five numbers, the features worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from statistics import median
from zoneinfo import ZoneInfo

from markupsafe import Markup

from detectors.display import histogram, what_changed
from detectors.profiles import ColumnProfile, ProfileError
from monitor.curves import KINDS, curve_shown, has_no_limit, is_early_sample, plainly
from monitor.messages.naming import Split, split_of
from monitor.models import SCORE, Baseline, Check, Incident, IncidentState, Result, RunState, Verdict, Window
from monitor.reports import svg
from monitor.reports.files import feature_page_path
from monitor.reports.reading import Facts, ModelFacts, excess, limits_of, worst
from monitor.reports.text import (
    FLAGS,
    brief,
    column_words,
    count,
    metric_value,
    metric_words,
    number,
    percent,
    plural,
    short,
    span,
    state_words,
    when,
)

STRIP = 30
"""Windows in a strip or a sparkline."""

_ADVICE = {
    Check.FEATURE_DRIFT: "Compare the named features with their source: a changed unit, join or default shows as a "
    "jump; a changed world moves slowly and with the score. If it is here to stay, set a new baseline or retrain.",
    Check.SCORE_DRIFT: "See which features moved with the score. If none did, look at the model version and at the "
    "step that turns scores into decisions.",
    Check.PERFORMANCE: "Check that the labels are complete, then whether inputs drifted. If they did not, the world "
    "now answers differently: retrain on recent labels.",
    Check.SKEW: "Serving and training compute these features differently. Compare both code paths for one request.",
    Check.QUALITY: "Look at the job that fills the table: a failed load, a renamed column or a new default.",
}


@dataclass(frozen=True)
class Card:
    value: str
    label: str
    verdict: Verdict | None
    title: str


@dataclass(frozen=True)
class FeatureRow:
    name: str
    verdict: Verdict
    metric: str
    value: str
    limit: str
    what: str
    href: str
    importance: str
    reason: str
    drawing: Markup | None = None
    spark: Markup | None = None


@dataclass(frozen=True)
class IncidentView:
    id: str
    model: str
    title: str
    verdict: Verdict
    state: str
    summary: str
    cause: str
    sureness: str
    onset: str
    opened: str
    advice: str
    features: list[str]
    acknowledged: str
    href: str = ""
    others: list[str] = field(default_factory=list)
    """What else has the same reason."""
    waits: str = ""
    """What it waits for before it is over."""


@dataclass(frozen=True)
class Line:
    """One result as a row of a table."""

    name: str
    metric: str
    value: str
    verdict: Verdict
    limit: str = ""
    interval: str = ""
    note: str = ""
    coverage: str = ""
    kind: str = ""
    reference: str = ""
    n: str = ""
    split: Split | None = None
    """What of a change of performance inputs explain; of the row that decides only."""
    decides: bool = False
    muted: bool = False
    """Beside the curve that decides: it is shown, and says nothing more."""
    unlimited: bool = False


@dataclass(frozen=True)
class SegmentRow:
    name: str
    verdict: Verdict
    n: str
    worst: str
    score: str
    performance: str


@dataclass(frozen=True)
class Summary:
    """The answer to "is anything wrong?" for one window."""

    verdict: Verdict
    sentence: str
    n_judged: int = 0
    n_drifted: int = 0
    n_warn: int = 0
    checks: dict[Check, Verdict] = field(default_factory=dict)


def _drift_by_feature(facts: Facts) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in facts.of(Check.FEATURE_DRIFT):
        if result.feature is not None:
            found.setdefault(result.feature, []).append(result)
    return found


def features_limit(limit: int | float, n: int) -> int:
    return limit if isinstance(limit, int) else max(1, round(limit * n))


def summarise(model: ModelFacts, facts: Facts) -> Summary:
    """Put a window into one verdict and one sentence."""
    by_feature = {name: worst(r.verdict for r in found) for name, found in _drift_by_feature(facts).items()}
    drifted = sum(v is Verdict.ALERT for v in by_feature.values())
    warned = sum(v is Verdict.WARN for v in by_feature.values())
    own = [r for r in facts.results if not r.of_versions]
    checks = {
        check: worst(r.verdict for r in own if r.check is check)
        for check in Check
        if any(r.check is check for r in own)
    }
    joint = any(r.verdict is Verdict.ALERT for r in facts.of(Check.FEATURE_DRIFT) if r.feature is None)
    if by_feature and not joint and drifted < features_limit(model.config.drift.features_alert, len(by_feature)):
        of_all = [r.verdict for r in facts.of(Check.FEATURE_DRIFT) if r.feature is None and r.segment is None]
        whole = worst([*by_feature.values(), *(v for v in of_all if v is not Verdict.ALERT)])
        checks[Check.FEATURE_DRIFT] = Verdict.WARN if whole is Verdict.ALERT else whole
    if facts.row is not None and facts.state not in (RunState.OK, RunState.LEASED, RunState.PENDING):
        verdict = Verdict.NO_DATA if facts.state is RunState.NO_DATA else Verdict.CANNOT_TELL
        # That labels land as ever, or volume is as odd as the day before, makes no window without rows a good one.
        if verdict is not Verdict.NO_DATA or worst(checks.values()).rank < Verdict.WARN.rank:
            return Summary(verdict, state_words(facts.state, facts.row.reason), len(by_feature), checks=checks)
    sentence = _sentence(facts, checks, drifted=drifted, warned=warned, n=len(by_feature))
    if facts.state is RunState.NO_DATA:
        sentence = f"no rows arrived; {sentence}"
    return Summary(worst(checks.values()), sentence, len(by_feature), drifted, warned, checks)


def _sentence(facts: Facts, checks: dict[Check, Verdict], *, drifted: int, warned: int, n: int) -> str:
    bad = {check for check, verdict in checks.items() if verdict in (Verdict.ALERT, Verdict.WARN)}
    said = []
    if drifted:
        said.append(f"{drifted} of {plural(n, 'feature')} drifted")
    elif warned:
        said.append(f"{warned} of {plural(n, 'feature')} moved a little")
    elif Check.FEATURE_DRIFT in bad:
        said.append("features drifted in a segment")
    if Check.SCORE_DRIFT in bad:
        said.append("the score moved")
    if Check.PERFORMANCE in bad:
        names = [r.metric for r in facts.of(Check.PERFORMANCE) if r.verdict in (Verdict.ALERT, Verdict.WARN)]
        said.append(f"{_lowered(metric_words(names[0])) if names else 'performance'} is beyond its limit")
    if Check.SKEW in bad:
        names = [short(r.feature) for r in facts.of(Check.SKEW) if r.feature and r.verdict.rank >= Verdict.WARN.rank]
        said.append(f"{names[0] if len(names) == 1 else plural(len(names), 'feature')} differs from offline"
                    if len(names) == 1 else "online and offline values differ")  # fmt: skip
    if Check.QUALITY in bad:
        bad_quality = [r for r in facts.of(Check.QUALITY) if r.verdict.rank >= Verdict.WARN.rank]
        first = max(bad_quality, key=lambda r: r.verdict.rank, default=None)
        said.append(
            "data quality"
            if first is None
            else f"{short(first.feature or 'volume')}: {metric_words(first.metric).lower()}"
        )
    if said:
        return "; ".join(said)
    if not any(v.decides for v in checks.values()):
        return "nothing can be said about this window"
    return f"nothing unusual in {plural(n, 'feature')}" if n else "nothing unusual"


def _lowered(words: str) -> str:
    """Lower-case the first letter, but not that of an abbreviation."""
    return words if words[1:2].isupper() or words[1:2].isdigit() else words[:1].lower() + words[1:]


# --- cards ---------------------------------------------------------------------------------------


def cards(model: ModelFacts, facts: Facts, summary: Summary, *, zone: ZoneInfo) -> list[Card]:
    """The five numbers atop a window's page; a check that is not configured has no card."""
    found = [
        _drift_card(model, summary),
        _score_card(facts),
        _performance_card(model, facts, zone),
        _quality_card(facts),
    ]
    return [card for card in [*found, _skew_card(model, facts, zone)] if card is not None]


def _drift_card(model: ModelFacts, summary: Summary) -> Card | None:
    if not summary.n_judged:
        return None
    limit = features_limit(model.config.drift.features_alert, summary.n_judged)
    more = f", {summary.n_warn} more moved" if summary.n_warn else ""
    return Card(
        f"{summary.n_drifted} drifted",
        f"of {summary.n_judged}, alert limit {limit}{more}",
        summary.checks.get(Check.FEATURE_DRIFT),
        "Features",
    )


def _score_card(facts: Facts) -> Card | None:
    found = facts.of_check(Check.SCORE_DRIFT)
    if not found:
        return None
    quiet = max(found, key=lambda r: (r.segment is None, not _is_before(r), r.metric == "psi"))
    first = telling(found) or quiet
    nearest = min(limits_of(first), key=lambda limit: abs(limit - (first.value or 0.0)), default=None)
    name = metric_words(first.metric)
    about = _lowered(name) if first.metric == "decision_rate" else f"score {name}"
    told = [f"{about}{_in_segment(first)}{' against the window before' if _is_before(first) else ''}"]
    if nearest is not None:
        told.append(f"limit {metric_value(first.metric, nearest)}")
    return Card(metric_value(first.metric, first.value), ", ".join(told), worst(r.verdict for r in found), "Score")


def telling(found: Sequence[Result]) -> Result | None:
    """The result that made the verdict of a check; ``None`` where nothing is beyond its limit."""
    bad = [r for r in found if r.verdict in (Verdict.WARN, Verdict.ALERT)]
    return max(
        bad,
        key=lambda r: (r.verdict.rank, r.segment is None, not _is_before(r), r.metric == "psi", excess(r)),
        default=None,
    )


def _is_before(result: Result) -> bool:
    """Whether it is held against the window before, and not against the baseline."""
    return result.detail.get("against") == "previous"


def _in_segment(result: Result) -> str:
    return f" [{short(result.segment, 28)}]" if result.segment else ""


def headline_metric(model: ModelFacts, results: Sequence[Result]) -> Result | None:
    """The one performance number to show: what alerts, else recall, precision, or the first there is."""
    order = [*model.config.performance.alert, *model.config.performance.warn, "recall", "precision", "accuracy", "mae"]
    known = sorted((r for r in results if r.value is not None), key=lambda r: r.detail.get("decides") is True)
    by_metric = {r.metric: r for r in known}
    return next((by_metric[m] for m in order if m in by_metric), next(iter(by_metric.values()), None))


def _newest_with(model: ModelFacts, facts: Facts, check: Check) -> tuple[Facts, list[Result]] | None:
    own = [r for r in facts.of_check(check) if r.value is not None]
    if telling(own) is not None:
        return facts, own
    for other in reversed([w for w in model.windows if w.window <= facts.window]):
        found = [r for r in other.of(check) if r.value is not None and r.verdict.decides]
        if found:
            return other, found
    for other in reversed([w for w in model.windows if w.window <= facts.window]):
        found = [r for r in other.of(check) if r.value is not None]
        if found:
            return other, found
    return None


def _performance_card(model: ModelFacts, facts: Facts, zone: ZoneInfo) -> Card | None:
    if model.config.labels is None:
        return None
    found = _newest_with(model, facts, Check.PERFORMANCE)
    if found is None:
        return Card("no labels yet", "performance", Verdict.NO_DATA, "Performance")
    other, results = found
    result = telling(results) or headline_metric(model, results)
    if result is None:
        return None
    verdict = worst(r.verdict for r in results)
    # That nothing is estimated to be wrong is no word that all is well: a changed rule is invisible to it.
    hopeful = verdict is Verdict.OK and (result.kind == "estimated" or has_no_limit(result))
    where = "" if other.window == facts.window else f", {brief(other.window, zone)} window"
    about = f"{_kind_words(result)}{_lowered(metric_words(result.metric))}{_in_segment(result)}{where}"
    blind = ", blind to a changed rule" if result.kind == "estimated" else ""
    return Card(
        metric_value(result.metric, result.value) + _plus_minus(result),
        f"{about}{_labels_words(result)}{blind}",
        None if hopeful else verdict,
        "Performance",
    )


def _kind_words(result: Result) -> str:
    """What is not simply what labels said has to say so."""
    return f"{result.kind} " if result.kind in ("estimated", "corrected") else ""


def _labels_words(result: Result) -> str:
    if result.label_coverage is None:
        return ""
    age = result.detail.get("age_days")
    old = f", {float(age):.0f} d old" if isinstance(age, (int, float)) else ""
    return f" ({percent(result.label_coverage)} labelled{old})"


def _plus_minus(result: Result) -> str:
    if result.interval is None:
        return ""
    half = (result.interval[1] - result.interval[0]) / 2
    value = metric_value(result.metric, half)
    return f"\u00a0±\u00a0{value.removesuffix(' %')}"


def _quality_card(facts: Facts) -> Card | None:
    found = [r for r in facts.of(Check.QUALITY) if r.metric != "column_new"]
    if not found:
        return None
    rates = [r for r in found if r.metric == "missing_rate" and r.value is not None]
    bad = max(found, key=lambda r: (r.verdict.rank if r.verdict.decides else 0, excess(r)))
    verdict = worst(r.verdict for r in found)
    if bad.verdict in (Verdict.ALERT, Verdict.WARN):
        name = short(bad.feature or "", 28)
        label = f"{metric_words(bad.metric).lower()}{': ' + name if name else ''}"
        return Card(
            "yes" if bad.metric in FLAGS else metric_value(bad.metric, bad.value), label, verdict, "Data quality"
        )
    top = max(rates, key=lambda r: r.value or 0.0, default=None)
    if top is None:
        return Card("fine", "nulls, ranges, volume", verdict, "Data quality")
    return Card(percent(top.value), f"most missing: {short(top.feature or '', 28)}", verdict, "Data quality")


def _skew_card(model: ModelFacts, facts: Facts, zone: ZoneInfo) -> Card | None:
    if model.config.skew is None:
        return None
    found = _newest_with(model, facts, Check.SKEW)
    if found is None:
        return Card("no pairs yet", "online / offline", Verdict.NO_DATA, "Skew")
    other, results = found
    rates = [r for r in results if r.feature is not None]
    top = max(rates or results, key=lambda r: (r.verdict.rank, r.value or 0.0))
    where = "" if other.window == facts.window else f", {brief(other.window, zone)} window"
    label = (
        f"online/offline differ: {short(top.feature or 'all', 28)}{where}"
        if top.value
        else f"online/offline differ{where}"
    )
    return Card(percent(top.value), label, worst(r.verdict for r in results), "Skew")


# --- features ------------------------------------------------------------------------------------


def primary(results: Sequence[Result]) -> Result:
    """The metric a feature is shown by: PSI, unless another metric is the one that judged it worse."""
    return max(results, key=lambda r: (r.verdict.rank if r.verdict.decides else -1, r.metric == "psi", excess(r)))


def history(model: ModelFacts, key: tuple[Check, str | None, str], windows: Sequence[Facts]) -> list[Result | None]:
    series = model.by_series.get(key, {})
    return [series.get(w.window) for w in windows]


def recent(model: ModelFacts, facts: Facts, n: int = STRIP) -> list[Facts]:
    index = model.windows.index(facts)
    return model.windows[max(0, index - n + 1) : index + 1]


def words_for(result: Result) -> str:
    return str(result.detail.get("what") or "")


def draw_bars(
    baseline: Baseline | None,
    column: str,
    profile: ColumnProfile | None,
    *,
    min_rows: int,
    width: int = 220,
    height: int = 44,
) -> tuple[Markup | None, str]:
    """The histogram of a column and what changed, in words; nothing where the counts do not line up."""
    if baseline is None or profile is None or column not in baseline.columns:
        return None, ""
    spec, reference = baseline.columns[column].spec, baseline.columns[column].reference
    try:
        bars = histogram(spec, reference, profile, min_rows=min_rows, max_bars=32 if width < 400 else 48)
        what = what_changed(spec, reference, profile, min_rows=min_rows)
    except (ProfileError, ValueError):
        return None, ""
    label = f"{short(column_words(column))}: baseline and window. {what}"
    return svg.histogram(bars, label, width=width, height=height), what


def axis_words(baseline: Baseline | None, column: str, profile: ColumnProfile | None, *, min_rows: int) -> str:
    """What the axis of a large histogram spans, or its bars from left to right."""
    if baseline is None or profile is None or column not in baseline.columns:
        return ""
    try:
        bars = histogram(
            baseline.columns[column].spec, baseline.columns[column].reference, profile, min_rows=min_rows, max_bars=48
        )
    except (ProfileError, ValueError):
        return ""
    if len(bars.edges) < 2:
        return "Bars from left: " + ", ".join(short(label, 40) for label in bars.labels)
    scale = ", logarithmic" if bars.log else ""
    missing = "; the last bar is missing values" if len(bars.labels) >= len(bars.edges) else ""
    return f"From {number(bars.edges[0])} to {number(bars.edges[-1])}{scale}; the outer bars are open{missing}."


def feature_order(model: ModelFacts, facts: Facts) -> list[tuple[str, Result]]:
    """The features of a window and the result each is shown by, worst first."""
    weights = importance(model)
    found = {name: primary(results) for name, results in _drift_by_feature(facts).items()}
    order = sorted(found, key=lambda n: (-found[n].verdict.rank, -weights.get(n, 0.0), -excess(found[n]), n))
    return [(name, found[name]) for name in order]


def feature_rows(
    model: ModelFacts,
    facts: Facts,
    profiles: dict[str, ColumnProfile],
    baseline: Baseline | None,
    *,
    min_rows: int,
) -> list[FeatureRow]:
    """Features worst first; within a verdict the more important, then the further beyond the limit."""
    weights = importance(model)
    shown = recent(model, facts)
    rows = []
    for name, result in feature_order(model, facts):
        drawing, what = draw_bars(baseline, name, profiles.get(name), min_rows=min_rows)
        past = history(model, (Check.FEATURE_DRIFT, name, result.metric), shown)
        label = f"{metric_words(result.metric)} of {short(name)} over the last {plural(len(past), 'window')}"
        limit = result.threshold
        rows.append(
            FeatureRow(
                name=name,
                verdict=result.verdict,
                metric=metric_words(result.metric),
                value=metric_value(result.metric, result.value),
                limit="" if limit is None else number(limit),
                what=words_for(result) or what,
                href=feature_page_path(model.name, name).split("/")[1],
                importance=f"{weights[name]:.3g}" if name in weights else "",
                reason=str(result.detail.get("reason") or result.detail.get("confined") or ""),
                drawing=drawing,
                spark=svg.sparkline([r.value if r else None for r in past], limit, label, verdict=result.verdict),
            )
        )
    return rows


def importance(model: ModelFacts) -> dict[str, float]:
    configured = model.config.features.importance
    if isinstance(configured, dict):
        return configured
    kept = model.baseline.detail.get("importance") if model.baseline else None
    return {str(k): float(v) for k, v in kept.items()} if isinstance(kept, dict) else {}


# --- the other sections --------------------------------------------------------------------------


def line(result: Result) -> Line:
    limit = result.threshold
    reference = result.detail.get("reference")
    against = {"previous": " (against the window before)"}.get(str(result.detail.get("against")), "")
    return Line(
        name=column_words(result.feature) if result.feature else "",
        metric=metric_words(result.metric) + against,
        value=metric_value(result.metric, result.value),
        verdict=result.verdict,
        limit="" if limit is None or result.metric in FLAGS else metric_value(result.metric, limit),
        interval=_interval(result),
        note=words_for(result) if "bounds" in result.detail else _reason(result) or words_for(result),
        coverage="" if result.label_coverage is None else percent(result.label_coverage),
        kind=str(result.kind or result.detail.get("kind") or "").replace("none", ""),
        reference=metric_value(result.metric, reference) if isinstance(reference, (int, float)) else "",
        n=count(result.n_current),
        split=split_of(result),
        unlimited=has_no_limit(result),
    )


def performance_lines(facts: Facts) -> list[Line]:
    """The curves of each metric together, the one that decides first; metrics whose deciding curve is worst first."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in facts.of(Check.PERFORMANCE):
        groups.setdefault((result.feature or "", result.metric), []).append(result)
    shown = {key: curve_shown(found) or found[0] for key, found in groups.items()}

    def order(key: tuple[str, str]) -> tuple[object, ...]:
        chief = shown[key]
        rank = chief.verdict.rank if chief.verdict.decides else 0
        return -rank, has_no_limit(chief), chief.feature is not None, -excess(chief), key

    rows = []
    for key in sorted(groups, key=order):
        rest = sorted((r for r in groups[key] if r is not shown[key]), key=lambda r: KINDS.index(r.kind or KINDS[0]))
        chief = line(shown[key])
        rows.append(replace(chief, decides=bool(shown[key].detail.get("decides"))))
        rows += [replace(line(r), muted=True) for r in rest]
    return rows


def _interval(result: Result) -> str:
    """The 95 % interval; what are bounds is said to be such."""
    if result.interval is None:
        return ""
    ends = " – ".join(metric_value(result.metric, end) for end in result.interval)
    return f"bounds {ends}" if "bounds" in result.detail else ends


def _reason(result: Result) -> str:
    """Why, in words: some reasons are names, such as ``no_labels``."""
    return plainly(str(result.detail.get("reason") or ""))


def lines(facts: Facts, check: Check, *, only_bad: bool = False) -> list[Line]:
    found = sorted(
        facts.of(check),
        key=lambda r: (
            -(r.verdict.rank if r.verdict.decides else 0),
            r.feature is not None,
            -excess(r),
            r.feature or "",
            r.metric,
        ),
    )
    return [line(r) for r in found if not only_bad or r.verdict is not Verdict.OK]


@dataclass(frozen=True)
class ClassRow:
    """One class of a label with several."""

    label: str
    name: str
    n_labels: str
    n_predicted: str
    precision: str
    recall: str
    f1: str


def class_rows(facts: Facts) -> list[ClassRow]:
    """Each class of each label with several, those with most labels first; rare ones are not named."""
    rows = []
    for result in facts.of(Check.PERFORMANCE):
        for told in result.detail.get("classes", ()):
            shares = {name: _share_words(told[name]) for name in ("precision", "recall", "f1")}
            numbers = count(told["n_labels"]), count(told["n_predicted"])
            rows.append(ClassRow(result.feature or "", str(told["class"]), *numbers, **shares))
    return rows


def _share_words(told: object) -> str:
    """A share with its interval; a dash where it is undefined."""
    if not isinstance(told, list):
        return "–"
    value, low, high = told
    return f"{percent(value)} ({percent(low)} – {percent(high)})"


def segment_rows(facts: Facts, *, min_rows: int) -> tuple[list[SegmentRow], int]:
    """One row for each segment, worst first, and the number of segments with too few rows to be named."""
    groups: dict[str, list[Result]] = {}
    for result in facts.results:
        if result.segment is not None and not result.of_versions:
            groups.setdefault(result.segment, []).append(result)
    rows, hidden = [], 0
    for name, found in groups.items():
        n = max((r.n_current or 0 for r in found), default=0)
        if n < min_rows:
            hidden += 1
            continue
        drift = [r for r in found if r.check is Check.FEATURE_DRIFT]
        top = max(drift, key=lambda r: (r.verdict.rank if r.verdict.decides else 0, excess(r)), default=None)
        score = next((r for r in found if r.check is Check.SCORE_DRIFT), None)
        rows.append(
            SegmentRow(
                name=name,
                verdict=worst(r.verdict for r in found),
                n=count(n),
                worst="–"
                if top is None
                else f"{short(top.feature or '')} {metric_words(top.metric)} {number(top.value)}",
                score="–" if score is None else f"{metric_words(score.metric)} {number(score.value)}",
                performance=_segment_performance([r for r in found if r.check is Check.PERFORMANCE]),
            )
        )
    return sorted(rows, key=lambda r: (-(r.verdict.rank if r.verdict.decides else 0), r.name)), hidden


def _segment_performance(found: Sequence[Result]) -> str:
    """One metric of a segment: on the curve that decides, else corrected, else on the labels so far, and how many.

    It is the one with the worst verdict, else the first that has a limit, else the first.
    """
    valued = [r for r in found if r.value is not None]
    if not valued:
        return "–"
    metric = max(
        valued,
        key=lambda r: (r.verdict.rank if r.verdict in (Verdict.WARN, Verdict.ALERT) else -1, r.threshold is not None),
    ).metric
    of_kind = {r.kind: r for r in found if r.metric == metric}
    decides = next((r for r in of_kind.values() if r.value is not None and r.detail.get("decides") is True), None)
    known = [of_kind[kind] for kind in ("corrected", "realized", "estimated") if kind in of_kind]
    shown = decides or next(r for r in known if r.value is not None)
    early = "on early labels, not a fair sample: " if is_early_sample(shown) else ""
    told = f"{early}{_kind_words(shown)}{metric_words(metric)} {metric_value(metric, shown.value)}"
    if shown.interval is not None:
        told += f" ({metric_value(metric, shown.interval[0])} – {metric_value(metric, shown.interval[1])})"
    if isinstance(shown.detail.get("reference"), float):
        told += f", baseline {metric_value(metric, shown.detail['reference'])}"
    if shown.kind == "realized" and (shown.label_coverage or 0.0) < 1:
        told += f", {percent(shown.label_coverage)} labelled"
    if has_no_limit(shown):
        told += ", no limit"
    refused = of_kind.get("corrected")
    if refused is not None and refused.value is None and refused.detail.get("reason"):
        told += f"; no corrected value: {plainly(str(refused.detail['reason']))}"
    return told


def performance_words(facts: Facts) -> str:
    """What the rows of the performance table are, as far as this window has them."""
    found = [r for r in facts.of(Check.PERFORMANCE) if not r.of_versions]
    kinds = {r.kind for r in found}
    told = [words for kind, words in _CURVES.items() if kind in kinds]
    if any("rule_change" in r.detail for r in found):
        told.append(
            "Of a change from the baseline: what changed inputs explain, and what they leave to a changed rule, each "
            "with its 95 % interval."
        )
    if any(r.detail.get("decides") for r in found):
        told.append("Of each metric the curve that decides comes first.")
    if any("bounds" in r.detail for r in found):
        told.append("Bounds: what it can be, whatever the labels of predictions that can never have one.")
    metrics = {r.metric for r in found}
    if any(metric.startswith(("macro_", "weighted_")) for metric in metrics):
        told.append("Macro: each class counts alike. Weighted: each by its labels.")
    if metrics & {"mae", "rmse", "bias"}:
        told.append("Errors are in the unit of the label; bias is predicted less true.")
    return " ".join(told)


_CURVES = {
    "realized": "Realized: on the labels that have landed.",
    "corrected": "Corrected: for labels still to come.",
    "estimated": "Estimated: from the scores, before labels; blind to a rule that has changed.",
}


def by_cause(incidents: Sequence[Incident]) -> list[list[Incident]]:
    """Open incidents of one model that have one reason together, the one that explains the others first.

    Those belong together of which one is the other's root, or that have the same likely cause.
    """
    groups: list[list[Incident]] = []
    for incident in sorted(incidents, key=lambda i: ("root" in i.detail, not i.detail.get("related"), i.opened_window)):
        mine = next((group for group in groups if any(_have_one_reason(incident, each) for each in group)), None)
        if mine is None:
            groups.append([incident])
        else:
            mine.append(incident)
    return groups


def _have_one_reason(first: Incident, second: Incident) -> bool:
    linked = first.detail.get("root") == second.id or second.detail.get("root") == first.id
    return linked or (first.cause == second.cause and first.cause not in (None, "cannot_tell"))


def group_view(group: Sequence[Incident], *, zone: ZoneInfo, href: str = "", waits: str = "") -> IncidentView:
    """One card for all of a group: its first incident, with the others named below it."""
    first, *others = group
    told = [f"{each.check.value.replace('_', ' ')}: {each.summary or 'no summary'} ({each.id})" for each in others]
    return replace(incident_view(first, zone=zone, href=href), others=told, waits=waits)


def incident_view(incident: Incident, *, zone: ZoneInfo, href: str = "") -> IncidentView:
    names = [short(column_words(name), 40) for name in incident.features[:6]]
    more = len(incident.features) - len(names)
    return IncidentView(
        id=incident.id,
        model=incident.model,
        title=incident.check.value.replace("_", " "),
        verdict=incident.severity if incident.state is IncidentState.OPEN else Verdict.OK,
        state=incident.standing,
        summary=incident.summary,
        cause="" if incident.cause in (None, "cannot_tell") else str(incident.cause).replace("_", " "),
        sureness="" if incident.cause_confidence is None else f"{incident.cause_confidence:.0%}".replace("%", " %"),
        onset=when(incident.onset or incident.opened_window, zone),
        opened=when(incident.opened_window, zone),
        advice=str(incident.detail.get("advice") or _ADVICE[incident.check]),
        features=[*names, f"and {more} more"] if more > 0 else names,
        acknowledged=incident.acknowledged_by or "",
        href=href,
    )


def volume_words(model: ModelFacts, facts: Facts) -> str:
    """Rows of the window, and their change against last week or the usual."""
    n = facts.n_rows
    if n is None:
        return ""
    rows = plural(n, "row")
    before = {w.window.start: w.n_rows for w in model.windows if w.window < facts.window and w.n_rows}
    week = before.get(facts.window.start - timedelta(days=7))
    usual, name = (week, "last week") if week else (median(before.values()) if before else None, "the median before")
    if not usual:
        return rows
    change = n / usual - 1
    return f"{rows}, {change:+.0%} on {name}".replace("%", " %")


def streak(model: ModelFacts, facts: Facts, verdicts: dict[Window, Verdict]) -> str:
    """ "Third window in a row", where this one is bad and those before it were."""
    n = 0
    for other in reversed([w for w in model.windows if w.window <= facts.window]):
        if verdicts[other.window] is not Verdict.ALERT:
            break
        n += 1
    return "" if n < 2 else f"{plural(n, 'window')} in a row."


def baseline_words(baseline: Baseline | None, zone: ZoneInfo) -> str:
    if baseline is None:
        return "no baseline yet"
    where = span(baseline.window, zone) if baseline.window else short(baseline.source, 80)
    return f"baseline {where} ({plural(baseline.n_rows, 'row')}, no. {baseline.id})"


def score_drawing(
    baseline: Baseline | None, profiles: dict[str, ColumnProfile], *, min_rows: int
) -> tuple[Markup | None, str]:
    return draw_bars(baseline, SCORE, profiles.get(SCORE), min_rows=min_rows, width=520, height=120)
