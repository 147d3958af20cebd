"""Columns together: how often the tests of correlations and interactions are wrong without change, and what they find.

The tables are printed by ``make calibrate``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import ndtri

from benchmarks.shares import share_of
from detectors.multivariate import Correlations, Usual, correlation_change, correlations, interaction_change, usual
from monitor import budget
from monitor.joint import ALERT

SEED = 20261121
ALPHAS = (0.01, 0.001)
COLUMNS = 8
ROWS = (200, 2000)
"""Rows of a window: the service looks at 2000 at most."""
KNOWN = {"baseline, 8": 8, "baseline, 30": 30, "production, 30": 1}
"""Where the scatter between windows is known from → windows of the baseline."""
TESTED = 40
"""Windows that are tested against one baseline."""
STEPS = (4000, 8000, 16_000, 64_000)
"""Windows that a cell tests: the next more until each interval lies on one side of its bound."""
TESTS = {"correlations": correlation_change, "interactions": interaction_change}
N_TESTS = {"correlations": math.comb(COLUMNS, 2), "interactions": 3 * math.comb(COLUMNS, 2) + math.comb(COLUMNS, 3)}
Rows = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Rows]
NAMES = [f"x{place}" for place in range(COLUMNS)]


# --- rows without change -------------------------------------------------------------------------


def independent(rng: np.random.Generator, n: int) -> Rows:
    """Independent rows; the first four columns are correlated by 0.5."""
    values = rng.standard_normal((n, COLUMNS))
    values[:, :4] += rng.standard_normal((n, 1))
    return values


def autoregressive(phi: float) -> Draw:
    """Each row resembles the one before it."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        noise = independent(rng, n) * math.sqrt(1 - phi * phi)
        first = phi * independent(rng, 1)
        return np.asarray(lfilter([1.0], [1.0, -phi], noise, axis=0, zi=first)[0])

    return draw


def entities(rng: np.random.Generator, n: int) -> Rows:
    """Every entity has ten rows that differ little."""
    return np.repeat(independent(rng, n // 10), 10, axis=0) + 0.1 * rng.standard_normal((n, COLUMNS))


def ties(rng: np.random.Generator, n: int) -> Rows:
    """Whole numbers, more than half of them 0."""
    return np.maximum(0.0, np.round(independent(rng, n)))


def zeros(rng: np.random.Generator, n: int) -> Rows:
    """Columns of which nine rows of ten are 0."""
    return np.where(rng.random((n, COLUMNS)) < 0.9, 0.0, independent(rng, n))


def heavy_tails(rng: np.random.Generator, n: int) -> Rows:
    """Student's t with two degrees of freedom: columns are far out together."""
    return independent(rng, n) / np.sqrt(rng.chisquare(2, (n, 1)) / 2)


KINDS: dict[str, Draw] = {
    "independent": independent,
    "AR(1) 0.5": autoregressive(0.5),
    "AR(1) 0.9": autoregressive(0.9),
    "10 rows per entity": entities,
    "heavy ties": ties,
    "zero inflation": zeros,
    "heavy tails": heavy_tails,
}


# --- false alarms --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """p-values of windows without change, shape ``(baselines, windows of each)``."""

    test: str
    kind: str
    n: int
    known: str
    p: Rows
    n_tests: int

    @property
    def bound(self) -> int:
        return 4 if self.kind == "AR(1) 0.9" else 2

    def mark(self) -> str:
        """As of the test of one column: ``over`` or within the bound for certain, or not decided."""
        found = [(alpha, *share_of(self.p <= alpha)) for alpha in ALPHAS]
        if any(low > self.bound * alpha for alpha, _, low, _ in found):
            return "over"
        if any(high > self.bound * alpha for alpha, _, _, high in found):
            return "unclear"
        if found[0][3] >= ALPHAS[0] / 2:
            return "ok"
        return f"conservative: finds changes {self.larger():.0%} larger"

    def larger(self) -> float:
        """By how much larger a change has to be to be found at 0.01 than with a test that meets the level exactly."""
        exact = min(0.5, float(np.quantile(self.p, ALPHAS[0])))
        here, there = (0.84 - float(ndtri(level / self.n_tests / 2)) for level in (ALPHAS[0], exact))
        return here / there - 1


def false_alarms(kind: str, n: int, *, scale: float = 1.0) -> list[Cell]:
    """Test drift-free windows against baselines of 8 and 30 windows, and against one with 30 windows since."""
    rng = np.random.default_rng([SEED, *kind.encode(), n])
    found: dict[tuple[str, str], list[list[float]]] = {(test, known): [] for test in TESTS for known in KNOWN}
    for step in STEPS:
        while len(found["correlations", "baseline, 8"]) * TESTED < step * scale:
            for key, p_values in _against_one_baseline(rng, kind, n).items():
                found[key].append(p_values)
        cells = [Cell(test, kind, n, known, np.array(p), N_TESTS[test]) for (test, known), p in found.items()]
        if all(cell.mark() != "unclear" for cell in cells):
            break
    return cells


def _against_one_baseline(rng: np.random.Generator, kind: str, n: int) -> dict[tuple[str, str], list[float]]:
    past = [measured(KINDS[kind](rng, n)) for _ in range(31)]
    now = [measured(KINDS[kind](rng, n)) for _ in range(TESTED)]
    found = {}
    for known, windows in KNOWN.items():
        before = usual(past[:windows], now[0])
        since = past[1:] if windows == 1 else []
        for name, test in TESTS.items():
            found[name, known] = [_p_value(test(before, window, history=since)) for window in now]
    return found


def measured(values: Rows) -> Correlations:
    return correlations(NAMES, values)


def _p_value(found: object) -> float:
    return float(getattr(found, "p_value", 1.0))


def table_false_alarms(pool: ProcessPoolExecutor, scale: float) -> str:
    jobs = [pool.submit(false_alarms, kind, n, scale=scale) for kind in KINDS for n in ROWS]
    lines = [
        "| test of | rows are | n | scatter known from, windows | windows tested | below 0.01 | below 0.001 | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cells = [cell for job in jobs for cell in job.result()]
    for cell in sorted(cells, key=lambda cell: cell.test):
        shares = [f"{rate:.4f} ({low:.4f} – {high:.4f})" for rate, low, high in (share_of(cell.p <= a) for a in ALPHAS)]
        lines.append(
            f"| {cell.test} | {cell.kind} | {cell.n:,} | {cell.known} | {cell.p.size:,} "
            f"| {' | '.join(shares)} | {cell.mark()} |"
        )
    return "\n".join(lines)


# --- what is found -------------------------------------------------------------------------------


def _paired(change: float) -> Draw:
    """Two columns that were independent go together by this much."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        values = rng.standard_normal((n, COLUMNS))
        values[:, 1] = change * values[:, 0] + math.sqrt(1 - change * change) * values[:, 1]
        return values

    return draw


def _exclusive(share: float) -> Draw:
    """In this share of the rows a column is high where exactly one of two others is: any two are independent."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        values = rng.standard_normal((n, COLUMNS))
        agree = np.sign(values[:, 0] * values[:, 1])
        return np.column_stack(
            [values[:, :2], np.where(rng.random(n) < share, -agree * np.abs(values[:, 2]), values[:, 2]), values[:, 3:]]
        )

    return draw


def _far_out(share: float) -> Draw:
    """In this share of the rows a column is far out where another is, on either side: no correlation shows it."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        values = rng.standard_normal((n, COLUMNS))
        same = np.abs(values[:, 0]) * rng.choice([-1.0, 1.0], n)
        values[:, 1] = np.where(rng.random(n) < share, same, values[:, 1])
        return values

    return draw


CHANGES: dict[str, Draw] = {
    "nothing": _paired(0.0),
    **{f"correlation 0 → {size}": _paired(size) for size in (0.1, 0.2, 0.3)},
    **{f"exclusive or, in {share:.0%} of the rows": _exclusive(share) for share in (0.2, 0.4, 0.6)},
    **{f"far out together, in {share:.0%} of the rows": _far_out(share) for share in (0.2, 0.4, 0.6)},
}


def power(name: str, n: int, *, reps: int, windows: int = 30) -> dict[str, tuple[float, float]]:
    """Share of single windows in which each test is significant, and in which it alerts (0.2 or more)."""
    rng = np.random.default_rng([SEED, *name.encode(), n])
    spent = budget.spend(1, timedelta(days=90), look=timedelta(days=1), check="joint", n_tests=len(TESTS))
    alpha = budget.level(spent, confirm=1, alike=0.0, check="joint", n_tests=len(TESTS))
    hits = {test: np.zeros(2) for test in TESTS}
    before: Usual | None = None
    for rep in range(reps):
        now = measured(CHANGES[name](rng, n))
        if before is None or rep % TESTED == 0:
            before = usual((measured(CHANGES["nothing"](rng, n)) for _ in range(windows)), now)
        for test, function in TESTS.items():
            found = function(before, now)
            if found is not None and found.p_value <= alpha:
                hits[test] += (1, found.value >= ALERT)
    return {test: (float(k[0]) / reps, float(k[1]) / reps) for test, k in hits.items()}


def table_power(pool: ProcessPoolExecutor, scale: float) -> str:
    lines = ["| change | n | " + " | ".join(TESTS) + " |", "|---|---|" + "---|" * len(TESTS)]
    plans = [(name, n) for name in CHANGES for n in (500, 2000)]
    jobs = [pool.submit(power, *plan, reps=max(1, int(400 * scale))) for plan in plans]
    for (name, n), job in zip(plans, jobs, strict=True):
        cells = [f"{sure:.0%}, alert {alert:.0%}" for sure, alert in job.result().values()]
        lines.append(f"| {name} | {n:,} | {' | '.join(cells)} |")
    return "\n".join(lines)
