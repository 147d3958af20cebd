"""A small world for the pages: a store in memory that answers as the real one does, filled by the real checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from detectors.edges import CategoryBuilder, EdgeBuilder
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.profiles import CategoricalSpec, Column, ColumnProfile, ColumnSpec, NumericSpec
from monitor import checks
from monitor.config import Config
from monitor.models import (
    SCORE,
    Baseline,
    Check,
    Incident,
    IncidentState,
    Job,
    Mute,
    Result,
    RunState,
    StoredProfile,
    Verdict,
    Window,
    WindowRow,
)

DAY = timedelta(days=1)
START = datetime(2026, 10, 1, tzinfo=UTC)


@dataclass
class FakeStore:
    """The reading half of the store, from lists."""

    rows: list[WindowRow] = field(default_factory=list)
    found: list[Result] = field(default_factory=list)
    kept: list[StoredProfile] = field(default_factory=list)
    known: dict[str, Baseline] = field(default_factory=dict)
    happened: list[Incident] = field(default_factory=list)
    silenced: list[Mute] = field(default_factory=list)
    asked: int = 0

    def windows(self, model: str | None = None, job: Job | None = None, *, start=None, end=None, states=None):
        self.asked += 1
        rows = [r for r in self.rows if model in (None, r.model) and _within(r.window, start, end)]
        return sorted(rows, key=lambda r: (r.window, r.job))

    def results(self, model: str | None = None, *, start=None, end=None, all_revisions: bool = False, **_: Any):
        self.asked += 1
        rows = [r for r in self.found if model in (None, r.model) and _within(r.window, start, end)]
        newest: dict[Any, int] = {}
        for r in rows:
            newest[r.window, r.check] = max(r.revision, newest.get((r.window, r.check), 0))
        return [r for r in rows if all_revisions or r.revision == newest[r.window, r.check]]

    def profiles(self, model: str, *, start, end, columns: Sequence[str] | None = None, segment: Any = None):
        self.asked += 1
        return [
            p
            for p in self.kept
            if p.model == model and p.window.start >= start and p.window.end <= end and p.segment == segment
            if columns is None or p.column in columns
        ]

    def baseline(self, model: str) -> Baseline | None:
        return self.known.get(model)

    def baseline_by_id(self, number: int) -> Baseline:
        raise LookupError(number)

    def incidents(self, model: str | None = None, *, states=None) -> list[Incident]:
        return [i for i in self.happened if model in (None, i.model)]

    def mutes(self, *, at: datetime | None = None) -> list[Mute]:
        return self.silenced


def _within(window: Window, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or window.end > start) and (end is None or window.start < end)


def day(i: int) -> Window:
    return Window(START + i * DAY, START + (i + 1) * DAY)


def config_for(models: Sequence[str] = ("fraud",), **more: Any) -> Config:
    model = {
        "table": "t",
        "time": "at",
        "owner": "risk-ml",
        "runbook": "https://wiki.example.com/fraud",
        "min_rows": 50,
        "labels": {"label": "y"},
        "skew": {"offline": {"table": "o"}},
        "performance": {"alert": {"recall": -0.05}},
    }
    return Config.model_validate({"sources": {"main": "sqlite:///x.db"}, "models": dict.fromkeys(models, model | more)})


def numeric_spec(values: np.ndarray) -> NumericSpec:
    builder = EdgeBuilder()
    builder.update(values)
    spec = builder.spec()
    assert spec is not None
    return spec


def counted(spec: ColumnSpec, values: np.ndarray) -> ColumnProfile:
    if isinstance(spec, NumericSpec):
        counter = NumericCounter(spec)
        counter.update(values)
        return counter.profile()
    words, sizes = np.unique(values, return_counts=True)
    categories = CategoricalCounter(spec)
    categories.update([str(w) for w in words], sizes)
    return categories.profile()


def category_spec(values: np.ndarray) -> CategoricalSpec:
    words, sizes = np.unique(values, return_counts=True)
    builder = CategoryBuilder(200)
    builder.update([str(w) for w in words], sizes)
    return builder.spec()


def world(
    *,
    model: str = "fraud",
    numeric: Sequence[str] = ("amount", "age", "tenure"),
    categorical: Sequence[str] = ("country",),
    categories: Sequence[str] = ("DE", "FR", "IT"),
    windows: int = 8,
    shifted: int = 2,
    rows: int = 400,
) -> tuple[FakeStore, Config]:
    """A model whose first feature moved in the last ``shifted`` windows."""
    rng = np.random.default_rng(7)
    config = config_for([model])
    numeric = [*numeric, SCORE]
    sample = {n: rng.normal(40, 10, 2000) for n in numeric} | {n: rng.choice(categories, 2000) for n in categorical}
    columns = {}
    for name, values in sample.items():
        spec = category_spec(values) if name in categorical else numeric_spec(values)
        columns[name] = Column(name, spec, counted(spec, values))
    store = FakeStore(known={model: Baseline(1, model, "h", START, "table t", day(-30), 2000, columns)})
    for i in range(windows):
        window, bad = day(i), i >= windows - shifted
        profiles = {
            name: counted(
                column.spec,
                rng.choice(categories, rows)
                if name in categorical
                else rng.normal(60 if bad and name == numeric[0] else 40, 10, rows),
            )
            for name, column in columns.items()
        }
        scope = checks.Scope(name=model, model=config.models[model], window=window, revision=0)
        store.found += checks.feature_drift(scope, columns, profiles) + checks.score_drift(scope, columns, profiles)
        store.found += checks.data_quality(scope, columns, profiles)
        store.found += extra(model, window, bad=bad, feature=numeric[0])
        store.kept += [StoredProfile(model, window, n, p, baseline_id=1) for n, p in profiles.items()]
        store.rows.append(WindowRow(model, Job.INPUTS, window, RunState.OK, n_rows=rows))
    if shifted:
        store.happened.append(incident(model, numeric[0], day(windows - shifted), day(windows - 1)))
    return store, config


TABLES: dict[str, Any] = {
    "tables_of": "corrected",
    "thresholds": [
        {"threshold": at / 10 + 0.05, "tp": 30, "fp": 10, "fn": 20, "tn": 240}
        | {key: [0.512, 0.4012, 0.6123] for key in ("precision", "recall", "f1", "specificity", "positive_rate")}
        for at in range(1, 10)
    ],
    "reliability": [{"predicted": 0.15, "observed": 0.124, "n": 100, "low": 0.101, "high": 0.151}],
    "confusion": {"tp": 25, "fp": 8, "fn": 12, "tn": 180},
    "confusion_expected": {key: [30.2, 26.1, 36.0] for key in ("tp", "fp", "fn", "tn")},
    "labels": {"contradictions": 3},
}


def extra(model: str, window: Window, *, bad: bool, feature: str) -> list[Result]:
    """What labels and offline values would add."""
    recall = Result(
        model, Check.PERFORMANCE, "recall", window, 0.8 if bad else 0.91, Verdict.ALERT if bad else Verdict.OK,
        threshold=0.86, n_current=300, kind="realized", interval=(0.78, 0.94), label_coverage=0.82,
        detail={"rule": "labels are mature", "age_days": 31.0, "reference": 0.91} | TABLES,
    )  # fmt: skip
    skew = Result(
        model, Check.SKEW, "mismatch_rate", window, 0.0002, Verdict.OK, feature=feature, threshold=0.01, n_current=2000,
        interval=(0.0, 0.001), detail={"kind": "none"},
    )  # fmt: skip
    return [recall, replace(recall, metric="precision", value=0.7, verdict=Verdict.CANNOT_TELL), skew]


def incident(model: str, feature: str, opened: Window, last: Window) -> Incident:
    return Incident(
        id="inc-12ab", model=model, check=Check.FEATURE_DRIFT, state=IncidentState.OPEN, severity=Verdict.ALERT,
        opened_window=opened.start, last_window=last.start, features=[feature], cause="pipeline bug",
        cause_confidence=0.8, onset=opened.start, summary="amount moved by a third",
    )  # fmt: skip
