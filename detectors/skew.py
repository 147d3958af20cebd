"""Do the online and the offline value of the same request agree, and if not, in what way do they differ?

The kind of a mismatch is a diagnosis with its evidence, so that the message can say "online is 1000 × offline"
rather than "37 % differ".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from detectors.intervals import Interval, wilson
from detectors.profiles import BoolArray, FloatArray

ObjectArray = npt.NDArray[np.object_]
Kind = Literal[
    "none",
    "missing_online",
    "missing_offline",
    "default_fill",
    "float32",
    "rounding",
    "truncation",
    "unit",
    "offset",
    "linear",
    "time_zone",
    "stale",
    "case",
    "recode",
    "true_mismatch",
]

_EXPLAINS = 0.9
"""A kind is named when it accounts for at least this share of the mismatches (see also ``_MIN_PAIRS``)."""
_MIN_PAIRS = 5
_FLOAT32_REL = 2.0**-23
_KNOWN_SCALES = {
    1000.0: "thousand",
    100.0: "hundred",
    10.0: "ten",
    1e6: "million",
    60.0: "minutes and seconds",
    3600.0: "hours and seconds",
    24.0: "days and hours",
    86400.0: "days and seconds",
    12.0: "years and months",
    7.0: "weeks and days",
    365.25: "years and days",
    2.54: "inches and centimetres",
    0.3048: "feet and metres",
    1.609344: "miles and kilometres",
    0.45359237: "pounds and kilograms",
}


@dataclass(frozen=True)
class SkewMeasure:
    """How many pairs of one feature differ, how, and how strongly.

    ``n_pairs`` are the requests with a row on both sides; ``mismatched`` counts those whose values differ, a value
    missing on one side only included; missing on both sides agrees.  ``mismatch_rate`` is ``None`` (with a
    ``reason``) without pairs.  ``unmatched`` requests have no offline row at all and are not pairs.  ``kind`` and
    ``parameters`` say in what way the mismatches differ, ``explained`` which share of them that accounts for.
    ``effect`` ranks features: the mismatch rate times how large the differences are on the scale of the offline
    values (at least 0.5, at most 1), so that in doubt the feature with more wrong rows comes first.
    """

    n_pairs: int
    mismatched: int
    mismatch_rate: float | None
    interval: Interval | None
    missing_online: int = 0
    missing_offline: int = 0
    both_missing: int = 0
    unmatched: int = 0
    kind: Kind = "none"
    explained: float = 0.0
    parameters: dict[str, Any] = field(default_factory=dict)
    effect: float = 0.0
    reason: str | None = None
    rows: tuple[int, ...] = ()
    """Positions of the first mismatched pairs in the input, for examples."""

    @property
    def text(self) -> str:
        """The diagnosis in plain words."""
        return _WORDS[self.kind].format(**self.parameters) if self.kind in _WORDS else self.kind.replace("_", " ")


_WORDS: dict[Kind, str] = {
    "none": "the values agree",
    "missing_online": "the value is missing online",
    "missing_offline": "the value is missing offline",
    "default_fill": "online is the fixed value {value}",
    "float32": "online went through a 32-bit float",
    "rounding": "online is rounded to {digits} decimals",
    "truncation": "online is cut off after {digits} decimals",
    "unit": "online is {factor:.6g} × offline",
    "offset": "online is offline {shift:+.6g}",
    "linear": "online is {factor:.6g} × offline {shift:+.6g}",
    "time_zone": "online is {hours:+g} hours away from offline",
    "stale": "online is an older value ({lag})",
    "case": "the values differ in case or blanks only",
    "recode": "the same categories under other names: {example}",
    "true_mismatch": "the values differ without a pattern",
}


def compare_pairs(
    online: npt.ArrayLike,
    offline: npt.ArrayLike,
    *,
    kind: Literal["numeric", "categorical"],
    abs: float = 1e-6,  # noqa: A002 - the word of the configuration
    rel: float = 1e-4,
    spread_cap: float | None = 0.002,
    matched: npt.ArrayLike | None = None,
    lagged: Mapping[str, npt.ArrayLike] | None = None,
    level: float = 0.95,
    examples: int = 5,
    min_rows: int = 10,
) -> SkewMeasure:
    """Compare the value each request was served with to the value that the offline store has for it.

    Numbers agree when ``|online - offline| <= abs + min(rel · |offline|, spread_cap · IQR(offline))``; equal infinities
    agree, and an infinity never agrees with a number.  Categories agree when they are the same text.  NaN and ``None``
    are missing.

    Parameters
    ----------
    online, offline
        Shape ``(n,)``, row by row of the same request: numbers, or text for ``kind="categorical"``.
    abs, rel
        Tolerances, ``>= 0``, for numbers.  The default ``rel`` lets a float32 round trip pass.
    spread_cap
        Limits the relative tolerance to this share of the interquartile range of the offline values (where that is not
        0): of numbers that are large but differ little, such as epoch seconds, a relative tolerance alone would let an
        hour pass.  ``None``: no such limit.
    matched
        Shape ``(n,)``: whether the offline side has a row at all; default: all.  Rows without are counted apart.
    lagged
        Other offline values of the same requests (by name: "the version before", "24h"), shape ``(n,)`` each; when
        online agrees with one of them where it disagrees with the current one, the feature is stale.
    examples
        How many positions of mismatched rows to return.
    min_rows
        Categories in fewer mismatched rows are not named in ``parameters``.

    Raises
    ------
    ValueError
        Shapes differ, or a tolerance is negative.
    """
    if abs < 0 or rel < 0:
        raise ValueError(f"tolerances must not be negative, found abs={abs} and rel={rel}")
    sides: _Numbers | _Texts = _Numbers(abs, rel) if kind == "numeric" else _Texts(min_rows)
    left, right = sides.read(online), sides.read(offline)
    if isinstance(sides, _Numbers) and spread_cap is not None:
        sides = replace(sides, most=spread_cap * _interquartile_range(right) or math.inf)
    n = len(left)
    pairs = np.ones(n, dtype=bool) if matched is None else np.asarray(matched, dtype=bool)
    if not len(right) == len(pairs) == n:
        raise ValueError(f"sides of different length: {n} online, {len(right)} offline, {len(pairs)} match flags")
    no_left, no_right = sides.missing(left) & pairs, sides.missing(right) & pairs
    both = pairs & ~no_left & ~no_right
    differ = both.copy()
    differ[both] = ~sides.agree(left[both], right[both])
    wrong = differ | (no_left ^ no_right)
    n_pairs, mismatched = int(pairs.sum()), int(wrong.sum())
    tally: dict[str, Any] = {
        "missing_online": int((no_left & ~no_right).sum()),
        "missing_offline": int((no_right & ~no_left).sum()),
        "both_missing": int((no_left & no_right).sum()),
        "unmatched": n - n_pairs,
    }
    if n_pairs == 0:
        return SkewMeasure(0, 0, None, None, **tally, reason="no_pairs" if n else "no_requests")
    candidates = {name: sides.read(values) for name, values in (lagged or {}).items()}
    if any(len(values) != n for values in candidates.values()):
        raise ValueError(f"lagged offline values must have length {n}")
    diagnosis = _diagnose(sides, left, right, differ=differ, tally=tally, lagged=candidates)
    rate = mismatched / n_pairs
    return SkewMeasure(
        n_pairs,
        mismatched,
        rate,
        wilson(mismatched, n_pairs, level=level),
        **tally,
        kind=diagnosis.kind,
        explained=diagnosis.explained,
        parameters=diagnosis.parameters,
        effect=rate * (0.5 + 0.5 * _severity(sides, left, right, differ=differ, both=both, mismatched=mismatched)),
        rows=tuple(int(row) for row in np.flatnonzero(wrong)[:examples]),
    )


@dataclass(frozen=True)
class _Numbers:
    """How numbers are read and compared."""

    abs: float
    rel: float
    most: float = math.inf
    """What the relative tolerance never exceeds."""

    def read(self, values: npt.ArrayLike) -> npt.NDArray[Any]:
        return np.asarray(values, dtype=np.float64)

    def missing(self, values: npt.NDArray[Any]) -> BoolArray:
        return np.asarray(np.isnan(values), dtype=bool)

    def agree(self, left: npt.NDArray[Any], right: npt.NDArray[Any]) -> BoolArray:
        with np.errstate(invalid="ignore", over="ignore"):
            close = np.abs(left - right) <= self.abs + np.minimum(self.rel * np.abs(right), self.most)
        return np.asarray((left == right) | (close & np.isfinite(left) & np.isfinite(right)), dtype=bool)


@dataclass(frozen=True)
class _Texts:
    """How categories are read and compared, and in how many rows one must be to be named."""

    min_rows: int = 10

    def read(self, values: npt.ArrayLike) -> npt.NDArray[Any]:
        given = np.asarray(values, dtype=object)
        return np.array([None if _absent(value) else str(value) for value in given], dtype=object)

    def missing(self, values: npt.NDArray[Any]) -> BoolArray:
        return np.array([value is None for value in values], dtype=bool)

    def agree(self, left: npt.NDArray[Any], right: npt.NDArray[Any]) -> BoolArray:
        return np.asarray(left == right, dtype=bool)


def _interquartile_range(values: FloatArray) -> float:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0
    low, high = np.quantile(finite, [0.25, 0.75])
    return float(high - low)


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _severity(
    sides: _Numbers | _Texts,
    left: npt.NDArray[Any],
    right: npt.NDArray[Any],
    *,
    differ: BoolArray,
    both: BoolArray,
    mismatched: int,
) -> float:
    """From 0 (differences are small beside the spread of the offline values) to 1 (as large, or not numbers)."""
    if not isinstance(sides, _Numbers) or not differ.any():
        return 1.0 if mismatched else 0.0
    usable = differ & np.isfinite(left) & np.isfinite(right)
    base = right[both & np.isfinite(right)]
    spread = float(np.std(base)) if len(base) > 1 else 0.0
    if not usable.any() or spread == 0:
        return 1.0
    return min(float(np.median(np.abs(left[usable] - right[usable]))) / spread, 1.0)


# --- the kind of a mismatch ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Diagnosis:
    """A kind of mismatch, the share of the mismatches it accounts for, and its parameters."""

    kind: Kind
    explained: float
    parameters: dict[str, Any] = field(default_factory=dict)


def _diagnose(
    sides: _Numbers | _Texts,
    left: npt.NDArray[Any],
    right: npt.NDArray[Any],
    *,
    differ: BoolArray,
    tally: dict[str, int],
    lagged: Mapping[str, npt.NDArray[Any]],
) -> Diagnosis:
    """Name the kind that accounts for most; a one-sided missing value counts against all others."""
    n_differ = int(differ.sum())
    total = n_differ + tally["missing_online"] + tally["missing_offline"]
    if total == 0:
        return Diagnosis("none", 1.0)
    for side in ("missing_online", "missing_offline"):
        if 2 * tally[side] > total:
            return Diagnosis("missing_online" if side == "missing_online" else "missing_offline", tally[side] / total)
    if n_differ < _MIN_PAIRS:
        return Diagnosis("true_mismatch", n_differ / total, {"too_few_to_tell": True})
    a, b = left[differ], right[differ]
    found = _stale(sides, a, {name: values[differ] for name, values in lagged.items()})
    if found is None:
        found = next(filter(None, (test(a, b) for test in _tests(sides))), None)
    if found is None:
        return Diagnosis("true_mismatch", n_differ / total)
    return Diagnosis(found.kind, found.explained * n_differ / total, found.parameters)


def _stale(
    sides: _Numbers | _Texts, online: npt.NDArray[Any], lagged: Mapping[str, npt.NDArray[Any]]
) -> Diagnosis | None:
    best: Diagnosis | None = None
    for name, values in lagged.items():
        there = ~sides.missing(values)
        agree = np.zeros(len(online), dtype=bool)
        agree[there] = sides.agree(online[there], values[there])
        share = float(agree.mean())
        if share >= _EXPLAINS and (best is None or share > best.explained):
            best = Diagnosis("stale", share, {"lag": name})
    return best


def _finite_pairs(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    held = np.isfinite(a) & np.isfinite(b)
    return a[held], b[held], float(held.mean())


def _float32(a: FloatArray, b: FloatArray) -> Diagnosis | None:
    with np.errstate(over="ignore"):
        same = np.abs(a - b) <= _FLOAT32_REL * np.abs(b)
    return Diagnosis("float32", float(same.mean())) if same.mean() >= _EXPLAINS else None


def _default_fill(sides: _Numbers | _Texts, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Diagnosis | None:
    """One online value stands for many offline ones."""
    values, counts = np.unique(a, return_counts=True)
    top = int(np.argmax(counts))
    share = float(counts[top] / len(a))
    replaced = len(np.unique(b[a == values[top]]))
    if share < _EXPLAINS or replaced < 3:
        return None
    value: float | str = "a rare one"
    if isinstance(sides, _Numbers):
        value = float(values[top])
    elif counts[top] >= sides.min_rows:
        value = str(values[top])
    return Diagnosis("default_fill", share, {"value": value})


def _rounding(a: FloatArray, b: FloatArray) -> Diagnosis | None:
    x, y, held = _finite_pairs(a, b)
    for digits in range(-3, 7):
        unit = 10.0**-digits
        with np.errstate(over="ignore", invalid="ignore"):
            steps = x / unit
            # A number read back from decimal text is off its grid by a few ulp only.
            on_grid = np.abs(steps - np.rint(steps)) <= 1e-9 + 1e-12 * np.abs(steps)
            near = np.abs(x - y) <= 0.5 * unit * (1 + 1e-6)
            below = (np.abs(x - y) < unit * (1 + 1e-6)) & (np.abs(x) <= np.abs(y))
        if (on_grid & near).mean() * held >= _EXPLAINS:
            return Diagnosis("rounding", float((on_grid & near).mean()) * held, {"digits": digits})
        if (on_grid & below).mean() * held >= _EXPLAINS:
            return Diagnosis("truncation", float((on_grid & below).mean()) * held, {"digits": digits})
    return None


def _linear(sides: _Numbers, a: FloatArray, b: FloatArray) -> Diagnosis | None:
    """A factor, a shift, or both, that the same numbers were put through."""
    x, y, held = _finite_pairs(b, a)
    if len(x) < _MIN_PAIRS or (x == x[0]).all():
        return None  # any line meets a single point
    fitting: list[tuple[float, Diagnosis]] = []
    for kind, factor, shift in _lines(x, y):
        share = float(_on_line(x, y, factor, shift, sides).mean()) * held
        if share >= _EXPLAINS:
            residual = float(np.median(np.abs(y - (factor * x + shift))))
            fitting.append((residual, _name_line(kind, factor, shift, share)))
    if not fitting:
        return None
    # Lines come simplest first; a later one must fit clearly better, not by the last digits alone.
    enough = 10 * min(residual for residual, _ in fitting) + 1e-12 * float(np.median(np.abs(y)))
    return next(diagnosis for residual, diagnosis in fitting if residual <= enough)


def _on_line(x: FloatArray, y: FloatArray, factor: float, shift: float, sides: _Numbers) -> BoolArray:
    """Whether the line meets each point within ten times the tolerance, as its own parameters are estimates."""
    return _Numbers(10 * sides.abs, 10 * sides.rel, 10 * sides.most).agree(y, factor * x + shift)


def _lines(x: FloatArray, y: FloatArray) -> list[tuple[Kind, float, float]]:
    """Candidate lines by medians, which a tenth of strangers does not move: through 0, of slope 1, and free."""
    lines: list[tuple[Kind, float, float]] = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratios = y[x != 0] / x[x != 0]
        if len(ratios):
            lines.append(("unit", float(np.median(ratios)), 0.0))
        lines.append(("offset", 1.0, float(np.median(y - x))))
        # Slopes between each point and the one half the sample away in order of x: a repeated-median in one pass.
        order = np.argsort(x, kind="stable")
        half = len(x) // 2
        rise, run = y[order][half:] - y[order][: len(x) - half], x[order][half:] - x[order][: len(x) - half]
        if (run != 0).any():
            slope = float(np.median(rise[run != 0] / run[run != 0]))
            lines.append(("linear", slope, float(np.median(y - slope * x))))
    usable = [line for line in lines if math.isfinite(line[1]) and math.isfinite(line[2])]
    return [line for line in usable if line[1] != 0 and (line[1], line[2]) != (1.0, 0.0)]


def _name_line(kind: Kind, factor: float, shift: float, share: float) -> Diagnosis:
    parameters: dict[str, Any] = {"factor": factor, "shift": shift}
    if kind == "unit":
        for scale, name in _KNOWN_SCALES.items():
            if math.isclose(factor, scale, rel_tol=1e-3) or math.isclose(factor, 1 / scale, rel_tol=1e-3):
                parameters["unit"] = name
    if kind == "offset":
        for per_hour in (3600.0, 3_600_000.0, 3.6e9):
            hours = shift / per_hour
            quarter = round(hours * 4) / 4
            if quarter and abs(quarter) <= 14 and math.isclose(hours, quarter, rel_tol=1e-6):
                return Diagnosis("time_zone", share, parameters | {"hours": quarter})
    if kind == "linear" and math.isclose(abs(factor), 1.8, rel_tol=1e-3) and math.isclose(shift, 32, rel_tol=1e-2):
        parameters["unit"] = "Celsius and Fahrenheit"
    return Diagnosis(kind, share, parameters)


def _case(a: ObjectArray, b: ObjectArray) -> Diagnosis | None:
    same = np.array([_plain(x) == _plain(y) for x, y in zip(a, b, strict=True)], dtype=bool)
    return Diagnosis("case", float(same.mean())) if same.mean() >= _EXPLAINS else None


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _recode(sides: _Texts, a: ObjectArray, b: ObjectArray) -> Diagnosis | None:
    """Each offline category has one online name, and the other way round; the rare are not named."""
    pairs, counts = np.unique(np.array([f"{y}\x00{x}" for x, y in zip(a, b, strict=True)]), return_counts=True)
    split = [pair.split("\x00", 1) for pair in pairs]
    heaviest: dict[str, tuple[int, str]] = {}
    for (old, new), count in zip(split, counts, strict=True):
        heaviest[old] = max(heaviest.get(old, (0, "")), (int(count), new))
    mapping = {old: new for old, (_, new) in heaviest.items()}
    if len(set(mapping.values())) < len(mapping) or len(mapping) < 2:
        return None
    share = sum(count for count, _ in heaviest.values()) / len(a)
    if share < _EXPLAINS:
        return None
    named = {old: new for old, new in mapping.items() if heaviest[old][0] >= sides.min_rows}
    if not named:
        return Diagnosis("recode", share, {"mapping": {}, "example": "each of them is rare"})
    old, new = max(named.items(), key=lambda item: heaviest[item[0]][0])
    return Diagnosis("recode", share, {"mapping": named, "example": f"{old!r} became {new!r}"})


def _tests(sides: _Numbers | _Texts) -> tuple[Callable[[Any, Any], Diagnosis | None], ...]:
    # In this order: a fixed value would pass as a line of slope 0, a 32-bit float as rounding, rounding as a line.
    if isinstance(sides, _Numbers):
        return partial(_default_fill, sides), _float32, _rounding, partial(_linear, sides)
    return _case, partial(_default_fill, sides), partial(_recode, sides)
