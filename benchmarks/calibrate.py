"""How often verdicts are wrong without drift, and what they find with it, beside the peers' defaults: seeded tables.

`make calibrate` prints them; ``--write`` puts them into docs/statistics.md with the date, ``--scale 0.1`` takes a
tenth of the repetitions.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.optimize import brentq

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import together
from benchmarks.shares import share_of
from benchmarks.streams import BINS, KINDS, Counts, of_shares
from detectors.change import ChangeTest, History, Watched, change
from detectors.effective_size import MIN_WINDOWS, measure, measure_score
from detectors.profiles import (
    CategoricalProfile,
    CategoricalSpec,
    ColumnProfile,
    ColumnSpec,
    NumericProfile,
    NumericSpec,
)
from detectors.psi import psi_terms
from monitor import budget
from monitor.checks import windows_together

SEED = 20261121
DOCS = Path(__file__).parents[1] / "docs" / "statistics.md"
BEGIN, END = "<!-- calibrate: begin -->", "<!-- calibrate: end -->"
ALPHAS = (0.01, 0.001)
ROWS = (200, 1000, 10_000, 100_000)
BASELINES = (1000, 10_000, 100_000, 1_000_000)


# --- counts as profiles --------------------------------------------------------------------------


def spec_of(n_bins: int) -> ColumnSpec:
    """A numeric column with so many bins of values; beyond 20 of them, categories."""
    if n_bins > 20:
        return CategoricalSpec(tuple(f"c{place:04}" for place in range(n_bins)))
    bounds = np.append(np.arange(0, 2 * n_bins, 2), 2 * n_bins - 1)
    return NumericSpec(np.arange(n_bins - 1.0), np.zeros(n_bins - 1), bounds)


def profile_of(spec: ColumnSpec, counts: Counts) -> ColumnProfile:
    n, missing, values = int(counts.sum()), int(counts[-1]), counts[:-1]
    if isinstance(spec, CategoricalSpec):
        return CategoricalProfile(n, missing, 0, values.copy(), {})
    cells = np.zeros(spec.n_cells, dtype=np.int64)
    cells[0::2] = values
    return NumericProfile(n, missing, 0, 0, cells, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)


def history_from(spec: ColumnSpec, windows: Counts, groups: Counts | None = None) -> History:
    if isinstance(spec, CategoricalSpec):
        windows = np.insert(windows, windows.shape[1] - 1, 0, axis=1)
    return History(windows, groups)


# --- 1: false alarms -----------------------------------------------------------------------------

STEPS = (4000, 8000, 16_000, 128_000, 512_000)
"""Windows that a cell tests: the next more until each level's interval lies on one side of its bound."""
LOOSE = ("AR(1) 0.9", 30)
"""Rows this dependent, known from no more windows, may reach four times the nominal share; all others twice."""


@dataclass(frozen=True)
class Cell:
    """What the test does without change where rows of one kind come in windows of ``n`` from a baseline.

    ``p`` are p-values, shape ``(baselines, windows of each)``; 1 where the test cannot tell.  ``larger`` is by how
    much a change has to be larger to be found at 0.01 than with a test that meets the level exactly.
    """

    kind: str
    n: int
    baseline: int
    known: str
    p: np.ndarray
    told: float
    larger: float

    @property
    def bound(self) -> int:
        return 4 if self.kind == LOOSE[0] and int(self.known.split()[-1]) <= LOOSE[1] else 2

    def share(self, alpha: float) -> tuple[float, float, float]:
        """The share below a level and its 95 % interval; windows of one baseline share its luck."""
        return share_of(self.p <= alpha)

    def decided(self) -> bool:
        return all(high <= self.bound * a or low > self.bound * a for a in ALPHAS for _, low, high in [self.share(a)])

    def mark(self) -> str:
        """``over`` the bound or within it for certain, or ``unclear``; ``conservative``: below half of the nominal."""
        found = [(a, *self.share(a)) for a in ALPHAS]
        if any(low > self.bound * a for a, _, low, _ in found):
            return "over"
        if any(high > self.bound * a for a, _, _, high in found):
            return "unclear"
        return "conservative" if found[0][3] < found[0][0] / 2 else "ok"


def false_alarms(kind: str, n: int, baseline: int, *, scale: float = 1.0) -> Cell:
    """Test drift-free windows, with what the test has to go by in the service.

    The baseline is cut into windows of ``n`` rows; where that gives fewer than eight, thirty windows of production
    before the tested ones show how far shares wander.  Windows are tested until the cell is decided.
    """
    rng = np.random.default_rng([SEED, hash_of(kind), n, baseline])
    per = 1 if baseline <= n else 4
    p_values: list[list[float]] = []
    for windows in STEPS:
        while len(p_values) * per < max(windows * scale, per):
            tests = _windows_of(rng, kind, n, baseline, per=per)
            p_values.append([test.p_value if test.can_tell else 1.0 for test in tests])
        cell = Cell(kind, n, baseline, _known(n, baseline, kind), np.array(p_values), 0.0, 0.0)
        if cell.decided():
            break
    told = np.array([test.can_tell for _ in range(40) for test in _windows_of(rng, kind, n, baseline, per=1)])
    exact = float(np.quantile(cell.p, ALPHAS[0]))
    test = _windows_of(rng, kind, n, baseline, per=1)[0]
    here, there = (test.smallest_detectable(level) for level in (ALPHAS[0], min(exact, 0.5)))
    larger = here / there - 1 if here and there else 0.0
    return replace(cell, told=float(told.mean()), larger=larger)


def _known(n: int, baseline: int, kind: str) -> str:
    n_windows = baseline // n
    return "production, 30" if n_windows < MIN_WINDOWS else f"baseline, {min(n_windows, _most(kind))}"


def _most(kind: str) -> int:
    return 196 if kind == "weekly season" else 60


def _windows_of(rng: np.random.Generator, kind: str, n: int, baseline: int, *, per: int) -> list[ChangeTest]:
    """The test of ``per`` windows after one baseline."""
    stream, n_windows = KINDS[kind], baseline // n
    by_production = n_windows < MIN_WINDOWS
    n_history = 30 if by_production else min(n_windows, _most(kind))
    drawn = stream(rng, n_history + per, n)
    spec, past = spec_of(drawn.shape[1] - 1), drawn[:n_history]
    seasonal = kind == "weekly season" and n_history >= 21 and not by_production
    groups = np.arange(n_history) % 7 if seasonal else None
    if by_production:
        reference, worth = stream(rng, 1, baseline)[0], max(1.0, baseline / n)
    else:
        reference, worth = past.sum(axis=0), float(n_history)
        if n_windows > n_history and not seasonal:  # more of the same: only the reference grows
            reference, worth = reference + stream(rng, 1, (n_windows - n_history) * n)[0], float(n_windows)
    known = history_from(spec, past, groups)
    tests = []
    for place in range(per):
        side, its = reference, worth
        if groups is not None:
            same = past[groups == (n_history + place) % 7]
            side, its = same.sum(axis=0), float(len(same))
        now = profile_of(spec, drawn[n_history + place])
        tests.append(change(spec, profile_of(spec, side), now, history=known, reference_windows=its))
    return tests


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode()[:6], "little")


def table_false_alarms(pool: ProcessPoolExecutor, scale: float) -> str:
    cells = [(kind, n, baseline) for kind in KINDS for n in ROWS for baseline in BASELINES]
    slow_first = sorted(cells, key=lambda cell: cell[0] != "1000 categories")
    futures = {cell: pool.submit(false_alarms, *cell, scale=scale) for cell in slow_first}
    rows = [
        "| rows are | n | baseline | wander known from, windows | windows tested | below 0.01 | below 0.001 | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in cells:
        cell = futures[key].result()
        shares = [f"{rate:.4f} ({low:.4f} – {high:.4f})" for rate, low, high in map(cell.share, ALPHAS)]
        mark = cell.mark()
        if mark == "conservative":
            mark += f": finds changes {cell.larger:.0%} larger"
        if cell.told < 1:
            mark += f"; cannot tell in {1 - cell.told:.0%}"
        rows.append(
            f"| {cell.kind} | {cell.n:,} | {cell.baseline:,} | {cell.known} | {cell.p.size:,} "
            f"| {' | '.join(shares)} | {mark} |"
        )
    return "\n".join(rows)


# --- 2: model-years ------------------------------------------------------------------------------


SCALES = (2, 4, 8, 16, 32)
"""Windows that are judged together in model-years: each look at all of these."""


def model_years(
    years: int, *, look: str, n: int, confirm: int, seed: int, n_features: int = 50
) -> tuple[int, int, int, int]:
    """Pages over drift-free years of 50 features: of evidence alone (any effect), with the limit of PSI 0.2, and of
    evidence from the last windows together.

    Half of the rows of each feature share one cause. The baseline are 28 days of windows.
    """
    rng = np.random.default_rng([SEED, seed, n, confirm])
    per_day = 24 if look == "hourly" else 1
    n_base, n_look = 28 * per_day, 365 * per_day
    period = timedelta(days=1) / per_day
    pages = np.zeros(3, dtype=np.int64)
    for _ in range(years):
        paged = np.zeros((3, n_look), dtype=bool)
        common = rng.multinomial(n // 2, np.full(BINS, 1 / BINS), size=n_base + n_look)
        for _ in range(n_features):
            own = rng.multinomial(n - n // 2, np.full(BINS, 1 / BINS), size=n_base + n_look)
            counts = common[:, rng.permutation(BINS)] + own
            run = _bad_windows(counts, n_base, period=period, confirm=confirm, n_features=n_features)
            for _ in range(1, confirm):
                run[:, 1:] &= run[:, :-1].copy()
                run[:, 0] = False
            paged |= run
        pages += paged.sum(axis=1)
    return years, int(pages[0]), int(pages[1]), int(pages[2])


def _bad_windows(counts: Counts, n_base: int, *, period: timedelta, confirm: int, n_features: int) -> np.ndarray:
    """Which windows are significant, by the same laws as the service; which of them are beyond PSI 0.2; and which are
    significant together with those before them, shape ``(3, looks)``, all at once.
    """

    def level(check: str, *, alike: float = 0.0, confirm: int = 1) -> float:
        spent = budget.spend(1, timedelta(days=90), look=period, check=check, n_tests=n_features)
        return budget.level(spent, confirm=confirm, alike=alike, check=check, n_tests=n_features)

    base, looks = counts[:n_base], counts[n_base:]
    n, m = float(looks[0].sum()), float(base.sum())
    scores = stats.norm.ppf((np.arange(BINS) + 0.5) / BINS)
    scores = (scores - scores.mean()) / scores.std()
    dependence, of_level = measure(base), measure_score(base, scores)
    own, shared = dependence.spread(n), dependence.reference_spread(m, n_base)
    alike = (dependence.first_lag * own + shared) / (own + shared)
    p = base.sum(axis=0) / m

    def significant(rows: Counts, alpha: float, windows: int) -> np.ndarray:
        size = windows * n
        law = dependence.law(size, m, windows=windows, reference_windows=n_base)
        moved = rows / size - p
        values = (moved**2 / ((rows + base.sum(axis=0)) / (size + m))).sum(axis=1) > law.critical(alpha / 2)
        spread = of_level.spread(size, windows) + of_level.reference_spread(m, n_base)
        limit = -stats.t.ppf(alpha / 4, min(of_level.df, 1e9))
        return np.asarray(values | (np.abs(moved @ scores) / math.sqrt(spread) > limit))

    alone = significant(looks, level("feature_drift", alike=alike, confirm=confirm), 1)
    chance = dependence.law(n, m, reference_windows=n_base).mean
    effect = np.array([psi_terms(p, row / n, floor=1e-4).sum() for row in looks[alone]])
    far, together = np.zeros(len(looks), dtype=bool), np.zeros(len(looks), dtype=bool)
    far[alone] = effect - chance >= 0.2
    sums = np.cumsum(np.vstack([np.zeros_like(looks[:1]), looks]), axis=0)
    for k in SCALES:
        together[k - 1 :] |= significant(sums[k:] - sums[:-k], level("accumulated") / len(SCALES), k)
    return np.stack([alone, far, together])


def table_model_years(pool: ProcessPoolExecutor, scale: float) -> str:
    rows = [
        "| looks | rows a window | confirm | model-years | budget a year | pages a year, any effect | 95 % interval "
        "| pages a year, limit PSI 0.2 | pages a year, windows together, any effect | 95 % interval |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    plans = [("daily", 1000, 1), ("daily", 1000, 2), ("hourly", 200, 1), ("hourly", 200, 2)]
    parts = 10
    for look, n, confirm in plans:
        years = max(1, round(200 * scale / parts))
        jobs = [pool.submit(model_years, years, look=look, n=n, confirm=confirm, seed=seed) for seed in range(parts)]
        total, *pages = (int(x) for x in np.array([job.result() for job in jobs]).sum(axis=0))

        def told(k: int, total: int = total) -> str:
            low = stats.chi2.ppf(0.025, 2 * k) / 2 if k else 0.0
            high = stats.chi2.ppf(0.975, 2 * k + 2) / 2
            return f"{k / total:.3f} | {low / total:.3f} – {high / total:.3f}"

        rows.append(
            f"| {look} | {n} | {confirm} | {total} | {365 / 90:.2f} | {told(pages[0])} "
            f"| {pages[1] / total:.3f} | {told(pages[2])} |"
        )
    return "\n".join(rows)


# --- 3: the smallest detectable effect -----------------------------------------------------------


def found_share(n: int, each: int, alpha: float, *, reps: int) -> tuple[int, int, float, float, float]:
    """Share of windows in which a change of exactly the stated smallest detectable size is found."""
    rng = np.random.default_rng([SEED, n, each])
    p = np.full(BINS, 1 / BINS)
    spec, found, sizes = spec_of(BINS), 0, []
    for _ in range(reps):
        base = of_shares(p)(rng, 30, n // each) * each
        known, reference = history_from(spec, base), profile_of(spec, base.sum(axis=0))
        still = profile_of(spec, of_shares(p)(rng, 1, n // each)[0] * each)
        size = change(spec, reference, still, history=known).smallest_detectable(alpha) or math.inf
        direction = rng.permutation(np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.0, 0.0]))
        moved = _moved(p, direction, size)
        if moved is None:
            continue
        window = profile_of(spec, of_shares(moved)(rng, 1, n // each)[0] * each)
        found += change(spec, reference, window, history=known).p_value <= alpha
        sizes.append(size)
    return n, each, alpha, float(np.mean(sizes)), found / len(sizes)


def _moved(p: np.ndarray, direction: np.ndarray, psi: float) -> np.ndarray | None:
    """Shares at exactly this PSI from ``p``, all moved by as much; ``None`` where there are none."""

    def beyond(t: float) -> float:
        q = p + t * direction
        return float(((q - p) * np.log(q / p)).sum()) - psi

    most = 0.999 / BINS
    return p + direction * brentq(beyond, 0.0, most) if beyond(most) > 0 else None


def table_detectable(pool: ProcessPoolExecutor, scale: float) -> str:
    rows = ["| n | rows per entity | α | stated (PSI) | found |", "|---|---|---|---|---|"]
    plans = [(n, each, alpha) for n in (500, 2000, 10_000) for each in (1, 5) for alpha in (0.001, 1e-4)]
    for job in [pool.submit(found_share, *plan, reps=int(1500 * scale)) for plan in plans]:
        n, each, alpha, size, share = job.result()
        rows.append(f"| {n:,} | {each} | {alpha:g} | {size:.4f} | {share:.1%} |")
    return "\n".join(rows)


# --- 4: power beside the peers -------------------------------------------------------------------

Sample = np.ndarray
Change_ = Callable[[np.random.Generator, Sample, int], Sample]
DAYS = 14
DAYS_BEFORE = 30
"""Days without change between the baseline and the onset."""
LOW_LIMIT = 0.005
"""A PSI that is of no consequence to anybody: what evidence alone finds."""


def _shift(size: float) -> Change_:
    return lambda _, x, __: x + size


def _scale(factor: float) -> Change_:
    return lambda _, x, __: x * factor


def _nulls(rate: float) -> Change_:
    return lambda rng, x, _: np.where(rng.random(len(x)) < rate, np.nan, x)


def _trend(per_day: float) -> Change_:
    return lambda _, x, day: x + per_day * (day + 1)


def _new_category(share: float) -> Change_:
    return lambda rng, x, _: np.where(rng.random(len(x)) < share, CATEGORIES[-1], x)


CHANGES: dict[str, Change_] = {
    "nothing": lambda _, x, __: x,
    **{f"mean + {size} σ": _shift(size) for size in (0.1, 0.2, 0.3, 0.5, 1.0)},
    **{f"scale × {factor}": _scale(factor) for factor in (1.25, 1.5, 2.0)},
    "nulls 2 % → 6 %": _nulls(0.0408),
    "trend 0.05 σ a day": _trend(0.05),
    "one new category of 1 %": _new_category(0.01),
}
CATEGORIES = np.arange(BINS + 1.0)
"""Values of the column of categories; the last is the new one."""
OURS = ("ours: alert", "ours: warn or worse", "ours: significant", "ours: limit PSI 0.005")
PEERS = ("Evidently", "NannyML", "KS 0.05 Bonferroni", "PSI 0.1", "PSI 0.2")
RAISED = ("Wasserstein, raised", "Jensen–Shannon, raised", "KS, raised", "PSI, raised")
METHODS = (*OURS, *PEERS, *RAISED)
COLUMNS_WATCHED = 50


def _level(check: str = "feature_drift", *, confirm: int = 2) -> tuple[float, float]:
    """What one column of fifty may spend in a day, and the most that any of its drift-free windows may be beyond."""
    spent = budget.spend(1, timedelta(days=90), look=timedelta(days=1), check=check, n_tests=COLUMNS_WATCHED)
    return spent, budget.level(spent, confirm=confirm, alike=0.0, check=check, n_tests=COLUMNS_WATCHED)


def _rows(rng: np.random.Generator, shape: tuple[int, ...], *, categories: bool) -> Sample:
    """Standard normal rows, or ten categories of falling frequency, with 2 % nulls."""
    p = 1 / np.arange(1, BINS + 1)
    rows = rng.choice(CATEGORIES[:-1], shape, p=p / p.sum()) if categories else rng.standard_normal(shape)
    rows[rng.random(shape) < 0.02] = np.nan
    return rows


def drift_free_scores(seed: int, *, n: int, categories: bool, baselines: int = 4, windows: int = 250) -> np.ndarray:
    """The peers' scores of drift-free windows, shape ``(windows, RAISED)``: what raised thresholds are taken from."""
    rng = np.random.default_rng([SEED, seed, n])
    scores = []
    for _ in range(baselines):
        judge = _judges(_rows(rng, (28 + DAYS_BEFORE, n), categories=categories), categories=categories)
        scores += [judge(_rows(rng, (n,), categories=categories))[1] for _ in range(windows)]
    return np.array(scores)


def power(name: str, *, n: int, reps: int, raised: Sequence[float]) -> dict[str, tuple[float, float]]:
    """Share of streams in which each method fires within 14 days of the onset, and after how many days it does.

    Rows are standard normal with 2 % nulls (a new category: ten categories); 28 days of baseline.  Ours alert after two
    windows in a row, the peers' defaults at the first.  NannyML: Jensen–Shannon over Doane's bins (or the categories),
    mean + 3 σ over the reference's 28 daily chunks.  Evidently: Wasserstein over σ of at least 0.1, for categories
    Jensen–Shannon of at least 0.1 (its defaults beyond 1000 reference rows).  The peers' scores with a *raised*
    threshold need two days in a row like ours, and each drift-free window is beyond it as seldom as ours may be.
    """
    rng = np.random.default_rng([SEED, hash_of(name[::-1]), n])
    categories = "category" in name
    first: dict[str, list[int]] = {method: [] for method in METHODS}
    for _ in range(reps):
        judge = _judges(_rows(rng, (28 + DAYS_BEFORE, n), categories=categories), categories=categories)
        series = {method: np.zeros(DAYS, dtype=bool) for method in METHODS}
        for day in range(DAYS):
            bad, scores = judge(CHANGES[name](rng, _rows(rng, (n,), categories=categories), day))
            bad |= {method: score > limit for method, score, limit in zip(RAISED, scores, raised, strict=True)}
            for method, found in bad.items():
                series[method][day] = found
        for method, found in series.items():
            fires = found if method in PEERS else found & np.append(False, found[:-1])
            if fires.any():
                first[method].append(int(fires.argmax()) + 1)
    return {m: (len(days) / reps, float(np.mean(days)) if days else math.nan) for m, days in first.items()}


Judge = Callable[[Sample], tuple[dict[str, bool], list[float]]]


def _judges(days: Sample, *, categories: bool) -> Judge:
    """What each method says of a window, and the scores of ``RAISED``; the last of ``days`` follow the baseline."""
    base, since = days[:-DAYS_BEFORE], days[-DAYS_BEFORE:]
    flat = base[~np.isnan(base)]
    cuts = CATEGORIES[:-1] if categories else np.quantile(flat, np.arange(1, BINS) / BINS)
    spec: ColumnSpec = CategoricalSpec(tuple(f"c{x:.0f}" for x in CATEGORIES[:-1])) if categories else spec_of(BINS)

    def counts(rows: Sample) -> Counts:
        """Rows in each bin; of categories the last but one are the never-seen ones; the last bin is of missing ones."""
        present = rows[~np.isnan(rows)]
        values = np.bincount(np.searchsorted(cuts, present), minlength=BINS + categories)
        return np.append(values, len(rows) - len(present)).astype(np.int64)

    def profile(c: Counts) -> ColumnProfile:
        if not categories:
            return profile_of(spec, c)
        return CategoricalProfile(
            int(c.sum()), int(c[-1]), int(c[-2]), c[:-2].copy(), {"new": int(c[-2])} if c[-2] else {}
        )

    windows = np.array([counts(row) for row in base])
    known, reference = History(windows), profile(windows.sum(axis=0))
    recent = [profile(counts(row)) for row in since]
    p_all = windows.sum(axis=0) / windows.sum()
    sigma, sorted_base = float(flat.std()), np.sort(flat)
    edges = np.append(CATEGORIES, BINS + 1.0) - 0.5 if categories else np.histogram_bin_edges(flat, "doane")
    p_bins = np.histogram(flat, edges)[0] / len(flat)

    def js(rows: Sample) -> float:
        present = rows[~np.isnan(rows)]
        q = np.append(np.histogram(present, edges)[0], 0) / max(1, len(present))
        q[-1] = max(0.0, 1 - q.sum())
        p = np.append(p_bins, 0)
        middle = (p + q) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.where(p > 0, p * np.log2(p / middle), 0) + np.where(q > 0, q * np.log2(q / middle), 0)
        return math.sqrt(max(0.0, parts.sum() / 2))

    chunks = [js(row) for row in base]
    limit = float(np.mean(chunks) + 3 * np.std(chunks))
    spent, _ = _level()
    _, alpha_together = _level("accumulated", confirm=1)
    tests = 2 * COLUMNS_WATCHED
    for_shares = budget.spend(1, timedelta(days=90), look=timedelta(days=1), check="quality", n_tests=tests)
    beta = budget.level(for_shares, confirm=2, alike=0.0, check="quality", n_tests=tests)

    def judge(rows: Sample) -> tuple[dict[str, bool], list[float]]:
        c = counts(rows)
        present = rows[~np.isnan(rows)]
        today = profile(c)
        test = change(spec, reference, today, history=known)
        watched = Watched("x", spec, reference, known, len(known), recent=tuple(recent[-DAYS_BEFORE:]))
        together = windows_together(watched, today, limit=LOW_LIMIT, alpha=alpha_together, min_rows=100)
        recent.append(today)
        alpha = budget.level(spent, confirm=2, alike=test.alike, check="feature_drift", n_tests=COLUMNS_WATCHED)
        value = float(psi_terms(p_all, c / c.sum(), floor=1e-4).sum())
        effect = value - test.bias_factor * BINS * (1 / len(rows) + 1 / base.size)
        moved = stats.ks_2samp(sorted_base, present, method="asymp")
        far = effect if categories else max(effect, float(moved.statistic))
        sure = test.p_value <= alpha
        low = sure and effect >= LOW_LIMIT
        low |= any(one.test.p_value <= alpha_together / len(together) and one.effect >= LOW_LIMIT for one in together)
        shares = [(c[-1] / c.sum() - p_all[-1], test.parts.get("missing", 1.0), 0.10, 0.02)]
        if categories:
            shares.append((c[-2] / c.sum(), test.parts.get("new", 1.0), 0.05, 0.01))
        alert = any(p <= beta and rise >= high for rise, p, high, _ in shares)
        warn = any(p <= beta and rise >= low for rise, p, _, low in shares)
        shifted = js(rows) if categories else float(stats.wasserstein_distance(sorted_base[::7], present)) / sigma
        square = _chi2(windows.sum(axis=0)[:-1], c[:-1]) if categories else float(moved.pvalue)
        return {
            "ours: alert": (sure and far >= 0.2) or alert,
            "ours: warn or worse": (sure and far >= 0.1) or warn,
            "ours: significant": sure,
            "ours: limit PSI 0.005": low,
            "Evidently": shifted >= (0.1 / math.log(2) ** 0.5 if categories else 0.1),
            "NannyML": js(rows) > limit,
            "KS 0.05 Bonferroni": square <= 0.05 / COLUMNS_WATCHED,
            "PSI 0.1": value >= 0.1,
            "PSI 0.2": value >= 0.2,
        }, [shifted, js(rows), -math.log(max(square, 1e-300)), value]

    return judge


def _chi2(before: Counts, now: Counts) -> float:
    seen = before + now > 0
    return float(stats.chi2_contingency(np.stack([before[seen], now[seen]]), correction=False)[1])


def table_power(pool: ProcessPoolExecutor, scale: float) -> str:
    n, (_, alpha) = 1000, _level()
    free = {
        kind: [pool.submit(drift_free_scores, seed, n=n, categories=kind) for seed in range(max(4, round(10 * scale)))]
        for kind in (False, True)
    }
    raised = {
        kind: [float(x) for x in np.quantile(np.concatenate([job.result() for job in jobs]), 1 - alpha, axis=0)]
        for kind, jobs in free.items()
    }
    rows = ["| change | " + " | ".join(METHODS) + " |", "|---|" + "---|" * len(METHODS)]
    jobs = {
        name: pool.submit(power, name, n=n, reps=max(1, int(200 * scale)), raised=raised["category" in name])
        for name in CHANGES
    }
    for name, job in jobs.items():
        found = job.result()
        cells = [f"{share:.0%}" + (f", {days:.1f} d" if share else "") for share, days in found.values()]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


# --- all of it -----------------------------------------------------------------------------------

TABLES = {
    "False alarms of the test of one column": table_false_alarms,
    "Pages in drift-free model-years": table_model_years,
    "The stated smallest detectable change is found": table_detectable,
    "What is found within 14 days, and after how many, beside the peers' defaults": table_power,
    "False alarms of the tests of columns together": together.table_false_alarms,
    "What the tests of columns together find in a single window": together.table_power,
}


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="this share of the repetitions")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/statistics.md")
    parser.add_argument("--only", type=int, choices=range(1, len(TABLES) + 1), help="one table")
    given = parser.parse_args(None if arguments is None else list(arguments))
    scale, began = given.scale, time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        for number, (title, table) in enumerate(TABLES.items(), 1):
            if given.only not in (None, number):
                continue
            when = f"Measured on {datetime.now(UTC):%Y-%m-%d}, seed {SEED}, {scale:g} of the repetitions:"
            told = f"{when}\n\n{table(pool, scale)}\n"
            print(f"\n### {title}\n\n{told}\n({time.monotonic() - began:.0f} s)", flush=True)
            if given.write:
                write(title, told)


def write(title: str, told: str) -> None:
    """Put one table into the documentation, in place of what stood there."""
    before, rest = DOCS.read_text(encoding="utf-8").split(BEGIN)
    block, after = rest.split(END)
    parts = dict(part.split("\n", 1) for part in block.split("### ")[1:])
    parts[title] = f"\n{told}\n"
    block = "".join(f"### {name}\n{parts[name]}" for name in TABLES if name in parts)
    DOCS.write_text(f"{before}{BEGIN}\n{block}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
