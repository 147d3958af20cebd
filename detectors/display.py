"""Profiles for people: quantiles, histograms, and what changed in plain words."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectors.profiles import (
    CategoricalProfile,
    CategoricalSpec,
    ColumnProfile,
    ColumnSpec,
    FloatArray,
    NumericProfile,
    NumericSpec,
    ProfileError,
)
from detectors.statistic import numeric_pair

MIN_ROWS = 10
"""Categories with fewer rows are never named: a rare value can identify a person."""
OTHER = "(other)"
MISSING = "(missing)"

_POINT = 0.01


@dataclass(frozen=True)
class Histogram:
    """Bars of both sides on one axis, as shares of all rows; the last bar is missing values, if there are any.

    ``labels``, ``reference`` and ``current`` have one entry for each bar.  ``edges`` are the limits of the numeric bars
    (one more than these; empty for categories and for single values), ``log`` tells that they are spaced evenly on a
    logarithmic axis.
    """

    labels: list[str]
    reference: list[float]
    current: list[float]
    edges: list[float] = field(default_factory=list)
    log: bool = False


# --- where values lie -----------------------------------------------------------------------------


def quantile(spec: NumericSpec, profile: NumericProfile, q: float) -> float | None:
    """The value that a share ``q`` of the finite values lies below, as ``np.quantile`` interpolates it.

    Exact where values lie on edges; inside an interval they are taken to lie evenly, never beyond the smallest and
    the largest value seen.  ``None`` without finite values.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile is asked for at a share between 0 and 1, not {q}")
    if not profile.n_finite:
        return None
    position = q * (profile.n_finite - 1)
    low, high = (_ranked(spec, profile, int(rank)) for rank in (math.floor(position), math.ceil(position)))
    t = position - math.floor(position)
    return low if low == high else low * (1 - t) + high * t


def _ranked(spec: NumericSpec, profile: NumericProfile, rank: int) -> float:
    """The finite value with ``rank`` smaller or equal ones before it (0: the smallest)."""
    if rank == 0:
        return profile.minimum
    if rank == profile.n_finite - 1:
        return profile.maximum
    rank += profile.neg_inf
    cumulative = np.cumsum(profile.cells)
    cell = int(np.searchsorted(cumulative, rank, side="right"))
    if cell % 2:
        return float(spec.edges[cell // 2])
    place = rank - int(cumulative[cell] - profile.cells[cell])
    held = int(profile.cells[cell])
    if cell == 0:
        held, place = held - profile.neg_inf, place - profile.neg_inf
        return _bent(profile.minimum, float(spec.edges[0]), mean=profile.low_sum / held, t=place / held)
    if cell == spec.n_cells - 1:
        held -= profile.pos_inf
        return _bent(float(spec.edges[-1]), profile.maximum, mean=profile.high_sum / held, t=(place + 1) / held)
    low = max(float(spec.edges[cell // 2 - 1]), profile.minimum)
    high = min(float(spec.edges[cell // 2]), profile.maximum)
    t = (place + 1) / (held + 1)
    return low * (1 - t) + high * t


def _bent(low: float, high: float, *, mean: float, t: float) -> float:
    """A value at share ``t`` of an open outer interval: from ``low`` over the known mean, half-way, to ``high``."""
    if not low <= mean <= high:  # overflowed
        return low * (1 - t) + high * t
    return low * (1 - 2 * t) + mean * 2 * t if t < 0.5 else mean * (2 - 2 * t) + high * (2 * t - 1)


def _share_up_to(spec: NumericSpec, profile: NumericProfile, points: FloatArray) -> FloatArray:
    """Share of the finite values at or below each of ``points``."""
    cells = profile.cells.astype(np.float64)
    cells[0] -= profile.neg_inf
    cells[-1] -= profile.pos_inf
    lows = np.concatenate([[min(profile.minimum, spec.edges[0])], spec.edges])
    highs = np.concatenate([spec.edges, [max(profile.maximum, spec.edges[-1])]])
    before = np.concatenate([[0.0], np.cumsum(cells)[1::2]])
    inside = cells[0::2]
    place = np.searchsorted(spec.edges, points, side="right")
    width = highs[place] - lows[place]
    t = np.divide(points - lows[place], width, out=np.ones(len(points)), where=width > 0).clip(0, 1)
    shares: FloatArray = (before[place] + inside[place] * t) / max(1, profile.n_finite)
    return shares


def describe(spec: ColumnSpec, profile: ColumnProfile, *, min_rows: int = MIN_ROWS) -> dict[str, Any]:
    """What a column looked like, as plain data.

    Numeric: ``n, missing, missing_rate, infinite, mean, std`` (``ddof = 1``), ``min, p1 … p99, max``.  Categorical:
    ``n, missing, missing_rate, unseen, unseen_rate, top`` (share by category, those with at least ``min_rows`` rows,
    heaviest first).  A number that is not defined is ``None``.
    """
    rows: dict[str, Any] = {
        "n": profile.n,
        "missing": profile.missing,
        "missing_rate": profile.missing / profile.n if profile.n else None,
    }
    if isinstance(profile, NumericProfile):
        if not isinstance(spec, NumericSpec):
            raise ProfileError("a numeric profile needs the numeric spec that it was counted over")
        n = profile.n_finite
        rows["infinite"] = profile.pos_inf + profile.neg_inf
        rows["mean"] = _finite(profile.mean)
        rows["std"] = _finite(math.sqrt(profile.m2 / (n - 1))) if n > 1 and math.isfinite(profile.m2) else None
        rows["min"] = _finite(profile.minimum)
        rows |= {f"p{percent}": quantile(spec, profile, percent / 100) for percent in (1, 5, 25, 50, 75, 90, 95, 99)}
        rows["max"] = _finite(profile.maximum)
        return rows
    rows["unseen"] = profile.unseen
    rows["unseen_rate"] = profile.unseen / profile.n if profile.n else None
    counts = sorted(_named(spec, profile, min_rows=min_rows).items(), key=lambda item: (-item[1], item[0]))
    rows["top"] = {name: count / profile.n for name, count in counts[:20]}
    return rows


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _named(spec: ColumnSpec, profile: CategoricalProfile, *, min_rows: int) -> dict[str, int]:
    """Rows of each category, known or new, that is frequent enough to be named."""
    if not isinstance(spec, CategoricalSpec):
        raise ProfileError("a categorical profile needs the categorical spec that it was counted over")
    counts = dict(zip(spec.categories, profile.counts.tolist(), strict=True)) | profile.heavy_unseen
    return {name: count for name, count in counts.items() if count >= min_rows}


# --- bars -----------------------------------------------------------------------------------------


def histogram(
    spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile, max_bars: int = 32, *, min_rows: int = MIN_ROWS
) -> Histogram:
    """Both sides as bars on one axis, at most ``max_bars`` and one for missing values.

    Numeric: one bar for each value where both sides have few distinct ones, else evenly spaced bars over the range
    that holds the inner 99 % of either side (on a logarithmic axis where this spans more than a factor of 1000); the
    outer bars are open, and hold infinite values, too.  Categorical: the heaviest on either side, then "(other)";
    categories with fewer than ``min_rows`` rows on both sides are always in "(other)".
    """
    if isinstance(reference, CategoricalProfile) and isinstance(current, CategoricalProfile):
        bars = _category_bars(spec, reference, current, max_bars=max_bars, min_rows=min_rows)
    else:
        numeric, reference, current = numeric_pair(spec, reference, current)
        bars = _value_bars(numeric, reference, current, max_bars=max_bars) or _interval_bars(
            numeric, reference, current, max_bars=max_bars
        )
    if reference.missing or current.missing:
        bars.labels.append(MISSING)
        bars.reference.append(reference.missing / max(1, reference.n))
        bars.current.append(current.missing / max(1, current.n))
    return bars


def _category_bars(
    spec: ColumnSpec, reference: CategoricalProfile, current: CategoricalProfile, *, max_bars: int, min_rows: int
) -> Histogram:
    sides = reference, current
    frequent = [_named(spec, side, min_rows=min_rows) for side in sides]
    everything = [_named(spec, side, min_rows=0) for side in sides]
    size = [max(1, side.n) for side in sides]
    shares = {
        name: (everything[0].get(name, 0) / size[0], everything[1].get(name, 0) / size[1])
        for name in set(frequent[0]) | set(frequent[1])
    }
    named = sorted(shares, key=lambda name: (-max(shares[name]), name))
    if len(named) > max_bars - 1:
        named = named[: max_bars - 1]
    bars = Histogram(list(named), [shares[name][0] for name in named], [shares[name][1] for name in named])
    shown = [sum(everything[k].get(name, 0) for name in named) for k in (0, 1)]
    rest = [side.n - side.missing - count for side, count in zip(sides, shown, strict=True)]
    if any(rest):
        bars.labels.append(OTHER)
        bars.reference.append(rest[0] / size[0])
        bars.current.append(rest[1] / size[1])
    return bars


def _value_bars(
    spec: NumericSpec, reference: NumericProfile, current: NumericProfile, *, max_bars: int
) -> Histogram | None:
    """One bar for each value, if all rows of both sides lie on few edges."""
    both = reference.cells + current.cells
    used = np.flatnonzero(both[1::2])
    if both[0::2].any() or len(used) > max_bars:
        return None
    labels = [number(float(value)) for value in spec.edges[used]]
    n, m = max(1, reference.n), max(1, current.n)
    return Histogram(labels, (reference.cells[1::2][used] / n).tolist(), (current.cells[1::2][used] / m).tolist())


def _interval_bars(
    spec: NumericSpec, reference: NumericProfile, current: NumericProfile, *, max_bars: int
) -> Histogram:
    sides = [side for side in (reference, current) if side.n_finite]
    if not sides:
        return Histogram([], [], [])
    low = min(quantile(spec, side, 0.005) or 0.0 for side in sides)
    high = max(quantile(spec, side, 0.995) or 0.0 for side in sides)
    log = low > 0 and high / low > 1000
    if log:
        edges = np.geomspace(low, high, max_bars + 1)
    elif high > low:
        edges = np.linspace(low, high, max_bars + 1) if math.isfinite(high - low) else np.array([low, high])
    else:
        edges = np.array([low, high])
    shares = [_bar_shares(spec, side, edges=edges) for side in (reference, current)]
    labels = [f"{number(float(a))} … {number(float(b))}" for a, b in itertools.pairwise(edges)]
    return Histogram(labels, shares[0], shares[1], edges.tolist(), log)


def _bar_shares(spec: NumericSpec, profile: NumericProfile, *, edges: FloatArray) -> list[float]:
    """Share of all rows in each bar; the outer bars are open."""
    if not profile.n:
        return [0.0] * (len(edges) - 1)
    with np.errstate(over="ignore", invalid="ignore"):
        inner = _share_up_to(spec, profile, edges[1:-1]) if profile.n_finite else np.zeros(len(edges) - 2)
    rows = np.diff(np.concatenate([[0.0], inner * profile.n_finite, [profile.n_finite]]))
    rows[0] += profile.neg_inf
    rows[-1] += profile.pos_inf
    return [float(count) / profile.n for count in rows]


# --- in words -------------------------------------------------------------------------------------


def number(value: float) -> str:
    """A number as a person would write it: three significant digits, whole numbers up to a million in full."""
    if value == round(value) and abs(value) < 1e6:
        return str(round(value))
    if 1e3 <= abs(value) < 1e6:
        return str(round(value))
    return f"{value:.3g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def percent(share: float) -> str:
    """A share as a percentage with a digit more where it is small."""
    value = 100 * share
    if 0 < value < 0.1:
        return "< 0.1 %"
    return f"{value:.1f} %" if value < 10 and value != round(value) else f"{value:.0f} %"


def what_changed(
    spec: ColumnSpec,
    reference: ColumnProfile,
    current: ColumnProfile,
    *,
    min_rows: int = MIN_ROWS,
    max_clauses: int = 3,
) -> str:
    """What differs between two windows of a column, in plain words, the largest change first.

    Such as ``median 41 → 63; missing 0.2 % → 8 %`` or ``new: 'X' 12 %``.  Categories with fewer than ``min_rows`` rows
    are not named.  For numbers to act on, see the detectors: this names a change without judging it.
    """
    if not reference.n or not current.n:
        return "no rows in the reference" if not reference.n else "no rows in the window"
    if isinstance(reference, CategoricalProfile) and isinstance(current, CategoricalProfile):
        clauses = _category_clauses(spec, reference, current, min_rows=min_rows)
    else:
        numeric, reference, current = numeric_pair(spec, reference, current)
        clauses = _numeric_clauses(numeric, reference, current)
    clauses += _missing_clause(reference, current)
    clauses.sort(key=lambda clause: -clause[0])
    return "; ".join(text for _, text in clauses[:max_clauses]) or "no single change stands out"


Clause = tuple[float, str]
"""How large the change is, as a share of rows that are affected; and the words."""


def _missing_clause(reference: ColumnProfile, current: ColumnProfile) -> list[Clause]:
    p, q = reference.missing / reference.n, current.missing / current.n
    return [(abs(q - p), f"missing {percent(p)} → {percent(q)}")] if abs(q - p) >= _POINT else []


def _category_clauses(
    spec: ColumnSpec, reference: CategoricalProfile, current: CategoricalProfile, *, min_rows: int
) -> list[Clause]:
    known = set(spec.categories) if isinstance(spec, CategoricalSpec) else set()
    before, after = (_named(spec, side, min_rows=min_rows) for side in (reference, current))
    everything = [_named(spec, side, min_rows=0) for side in (reference, current)]
    clauses: list[Clause] = []
    named_new = 0
    for name in sorted(set(before) | set(after)):
        p, q = everything[0].get(name, 0) / reference.n, everything[1].get(name, 0) / current.n
        if abs(q - p) < _POINT:
            continue
        if name not in known and not p:
            named_new += after[name]
            clauses.append((q, f"new: '{name}' {percent(q)}"))
        elif not q:
            clauses.append((p, f"gone: '{name}' (was {percent(p)})"))
        else:
            clauses.append((abs(q - p), f"'{name}' {percent(p)} → {percent(q)}"))
    p, q = reference.unseen / reference.n, max(0, current.unseen - named_new) / current.n
    if q - p >= _POINT:
        clauses.append((q - p, f"{OTHER} {percent(p)} → {percent(q)}" if p else f"new, rare values: {percent(q)}"))
    return clauses


def _numeric_clauses(spec: NumericSpec, reference: NumericProfile, current: NumericProfile) -> list[Clause]:
    clauses: list[Clause] = []
    p, q = ((side.pos_inf + side.neg_inf) / side.n for side in (reference, current))
    if abs(q - p) >= _POINT:
        clauses.append((abs(q - p), f"infinite {percent(p)} → {percent(q)}"))
    if not reference.n_finite or not current.n_finite:
        return clauses
    if current.minimum == current.maximum and reference.minimum < reference.maximum:
        return [*clauses, (1.0, f"always {number(current.minimum)}")]
    return clauses + _location_clauses(spec, reference, current) + _single_value_clauses(spec, reference, current)


def _location_clauses(spec: NumericSpec, reference: NumericProfile, current: NumericProfile) -> list[Clause]:
    """Median, else spread, and values beyond the range seen before.

    Where half of the rows lie beyond the outermost edges their median is not known, but their mean is: it is named.
    """
    clauses: list[Clause] = []
    known = 2 * max(int(current.cells[0]), int(current.cells[-1])) < current.n_finite
    middle = [quantile(spec, side, 0.5) or 0.0 for side in (reference, current)]
    spread = [
        (quantile(spec, side, 0.75) or 0.0) - (quantile(spec, side, 0.25) or 0.0) for side in (reference, current)
    ]
    moved = abs(float(_share_up_to(spec, reference, np.array([middle[1]]))[0]) - 0.5)
    if not known and math.isfinite(current.mean):
        middle = [reference.mean, current.mean]
    texts = [number(value) for value in middle]
    if moved >= 0.02 and texts[0] != texts[1]:
        ratio = middle[1] / middle[0] if middle[0] else math.inf
        times = f" (× {number(ratio)})" if math.isfinite(ratio) and (ratio >= 5 or 0 < ratio <= 0.2) else ""
        clauses.append((2 * moved, f"{'median' if known else 'mean'} {texts[0]} → {texts[1]}{times}"))
    elif spread[0] > 0 and not 0.8 <= spread[1] / spread[0] <= 1.25:
        clauses.append((0.1, f"middle half spans {number(spread[0])} → {number(spread[1])}"))
    for cell, bound, side in ((0, reference.minimum, "below"), (-1, reference.maximum, "above")):
        rows = int(current.cells[cell]) - (current.neg_inf if cell == 0 else current.pos_inf)
        share = rows / current.n
        outside = current.minimum < bound if cell == 0 else current.maximum > bound
        if share >= _POINT and outside and not reference.cells[cell]:
            clauses.append((share, f"{percent(share)} {side} {number(bound)}, the {_END[side]} seen before"))
    return clauses


_END = {"below": "lowest", "above": "highest"}


def _single_value_clauses(spec: NumericSpec, reference: NumericProfile, current: NumericProfile) -> list[Clause]:
    """One value that many more, or many fewer, rows have than before: a default, a cap, a fill."""
    p, q = reference.cells[1::2] / reference.n, current.cells[1::2] / current.n
    place = int(np.argmax(np.abs(q - p)))
    change = abs(float(q[place] - p[place]))
    if change < _SPIKE:
        return _spike_clauses(spec, reference, current)
    value = number(float(spec.edges[place]))
    return [(change, f"exactly {value}: {percent(float(p[place]))} → {percent(float(q[place]))}")]


_SPIKE = 0.05
"""Rows that have one value more than before, as a share, from which on that is named."""
_SPIKE_ROWS = 30
"""Fewer rows than this come together by chance somewhere."""


def _spike_clauses(spec: NumericSpec, reference: NumericProfile, current: NumericProfile) -> list[Clause]:
    """Many rows in one narrow interval, and not beside it: a fill with a value that the baseline does not have."""
    if len(spec.edges) < 4:
        return []
    # Shares of rows up to each edge; a spike lies between two of them that hold next to nothing of the baseline.
    p, q = (np.cumsum(side.cells)[1::2] / side.n for side in (reference, current))
    last = np.searchsorted(p, p + _SPIKE / 5, side="right") - 1
    more = (q[last] - q) - (p[last] - p)
    place = int(np.argmax(more))
    first, end = place, int(last[place])
    if more[place] < max(_SPIKE, _SPIKE_ROWS / current.n) or end == first:
        return []
    before = int(np.searchsorted(p, p[first] - _SPIKE / 5))
    beside = max(float(more[end]), float((q[first] - q[before]) - (p[first] - p[before])))
    if beside > more[place] / 3:
        return []
    while q[first + 1] - q[first] < _SPIKE / 50 and first + 1 < end:
        first += 1
    while q[end] - q[end - 1] < _SPIKE / 50 and first + 1 < end:
        end -= 1
    low, high = number(float(spec.edges[first])), number(float(spec.edges[end]))
    where = f"at about {low}" if low == high else f"between {low} and {high}"
    return [(float(more[place]), f"a spike {where}: {percent(p[end] - p[first])} → {percent(q[end] - q[first])}")]
