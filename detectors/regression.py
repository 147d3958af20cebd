"""How far off predicted numbers were, from sums over the labelled rows: windows add up, and no row is read twice."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt
import scipy

from detectors.classification import Measure
from detectors.development import MIN_COMPLETENESS, Scale, developed, landed_by, landing_bins
from detectors.intervals import mean_interval, z_value
from detectors.profiles import FloatArray, IntArray, ProfileError

_HEADER = struct.Struct("<4sBHIQQQ3d")
_MAGIC = b"RESI"
_VERSION = 1
_GROWTH = math.log(1.01)
_ZERO_AT = 100_000
"""Cell numbers of the error grid: the sign of the error times (this + the power of 1.01); 0 is no error at all."""

# Columns of ``sums`` and of ``by_age``; e is predicted less true, u the label less ``centre``.
_E, _ABS, _E2, _E4, _APE, _APE2, _U, _U2, _U3, _U4, _E2U, _E2U2, _ABS3, _E6, _APE3 = range(15)
_SUMS = 15
_LANDED, _NONZERO = 4, 5


@dataclass(frozen=True, eq=False)
class Errors:
    """Sums over labelled predictions of a number; of several groups they add up.

    Parameters
    ----------
    n
        Predictions with a predicted value, labelled or not.
    n_labelled, n_nonzero
        Those with a label, and with a label other than 0.
    n_unpredicted
        Predictions without a predicted value; they take no part.
    sums
        Σ of e, abs(e), e², e⁴, abs(e / y), (e / y)², of u, u², u³, u⁴, e²u, e²u², and of abs(e)³, e⁶, abs(e / y)³,
        shape ``(15,)``, where e is predicted less true and u the label y less ``centre``.
    low, high
        The extreme labels; NaN without labels.
    edges
        Landing times after the window's end, in seconds; see :func:`detectors.development.landing_bins`.
    by_age
        For each landing bin Σ of e, abs(e), e², abs(e / y), and the labels and those other than 0, ``(A + 1, 6)``.
    cells, cell_counts
        How many errors lie in each cell of a grid whose borders grow by 1 %: signed cell numbers, increasing.

    References
    ----------
    C. Masson, J. E. Rim & H. K. Lee, "DDSketch: a fast and fully-mergeable quantile sketch", VLDB 2019 (the grid).
    """

    n: int
    n_labelled: int
    n_nonzero: int
    n_unpredicted: int
    centre: float
    sums: FloatArray
    low: float
    high: float
    edges: FloatArray
    by_age: FloatArray
    cells: IntArray
    cell_counts: IntArray

    @property
    def label_coverage(self) -> float | None:
        """The share of predictions whose label has landed; ``None`` without predictions."""
        return self.n_labelled / self.n if self.n else None

    def quantile(self, q: float) -> float | None:
        """The error below which the share ``q`` of errors lies, to 0.5 % of its size; ``None`` without labels."""
        return _value(self.cells[_place(self.cell_counts, q)]) if len(self.cells) else None


def empty(edges: FloatArray) -> Errors:
    """The sums of no predictions: the neutral element of :func:`merge`."""
    none = np.zeros(0, np.int64)
    nan = math.nan
    return Errors(0, 0, 0, 0, 0.0, np.zeros(_SUMS), nan, nan, edges, np.zeros((len(edges) + 1, 6)), none, none)


@np.errstate(over="ignore", invalid="ignore")  # what overflows is told as that
def count(
    predicted: npt.ArrayLike,
    labels: npt.ArrayLike,
    landed: npt.ArrayLike | None = None,
    *,
    edges: FloatArray,
) -> Errors:
    """Sum up one batch.

    Parameters
    ----------
    predicted, labels
        Shape ``(n,)``; what is not finite is "none".
    landed
        When each label landed, in seconds after the end of the window; NaN (or ``None``) where that is not known.
    """
    value, label = np.asarray(predicted, np.float64), np.asarray(labels, np.float64)
    if value.shape != label.shape:
        raise ValueError(f"predicted values of shape {value.shape} came with labels of shape {label.shape}")
    when = np.full(value.shape, np.nan) if landed is None else np.asarray(landed, np.float64)
    there = np.isfinite(value)
    known = there & np.isfinite(label)
    y, e = label[known], value[known] - label[known]
    found = replace(empty(edges), n=int(there.sum()), n_unpredicted=int((~there).sum()))
    if not len(y):
        return found
    ape = np.abs(np.divide(e, y, out=np.zeros_like(e), where=y != 0))
    # Moments are taken about a value near the labels: about 0 they would lose all digits for labels like 1.7e9.
    centre = float(np.round(np.median(y), 0)) + 0.0
    u, e2, size = y - centre, e * e, np.abs(e)
    sums = [e, size, e2, e2 * e2, ape, ape**2, u, u**2, u**3, u**4, e2 * u, e2 * u * u, size * e2, e2**3, ape**3]
    by_age = np.zeros((len(edges) + 1, 6))
    place = landing_bins(when[known], edges)
    for column, part in enumerate([e, np.abs(e), e2, ape, np.ones_like(e), (y != 0).astype(float)]):
        by_age[:, column] = np.bincount(place, weights=part, minlength=len(edges) + 1)
    cells, counts = np.unique(_cells(e), return_counts=True)
    return replace(
        found,
        n_labelled=len(y),
        n_nonzero=int(np.count_nonzero(y)),
        centre=centre,
        sums=np.array([float(part.sum()) for part in sums]),
        low=float(y.min()),
        high=float(y.max()),
        by_age=by_age,
        cells=cells,
        cell_counts=counts.astype(np.int64),
    )


def _cells(errors: FloatArray) -> IntArray:
    size = np.abs(errors)
    # 1e-300: the smallest that has a cell of its own; nearer to 0 is 0.
    power = np.ceil(np.log(np.maximum(size, 1e-300)) / _GROWTH).astype(np.int64)
    return np.where(size < 1e-300, 0, np.sign(errors).astype(np.int64) * (_ZERO_AT + power))


def _value(cell: int | np.int64) -> float:
    """The value in the middle of a cell: at most 0.5 % off what lies in it."""
    if cell == 0:
        return 0.0
    power = abs(int(cell)) - _ZERO_AT
    return math.copysign(math.exp(power * _GROWTH) * 2 / (1 + math.exp(_GROWTH)), int(cell))


def _place(counts: IntArray, q: float) -> int:
    """The cell that holds the order statistic number ``⌈q n⌉``."""
    total = np.cumsum(counts)
    return int(np.searchsorted(total, min(max(math.ceil(q * total[-1]), 1), int(total[-1]))))


@np.errstate(over="ignore", invalid="ignore")
def merge(first: Errors, second: Errors) -> Errors:
    """The sums over the predictions of both.

    Raises
    ------
    ProfileError
        The two were counted over different landing bins.
    """
    if not np.array_equal(first.edges, second.edges):
        raise ProfileError("errors were counted over different landing bins")
    centre = first.centre if first.n_labelled else second.centre
    cells = np.concatenate([first.cells, second.cells])
    distinct, place = np.unique(cells, return_inverse=True)
    weights = np.concatenate([first.cell_counts, second.cell_counts])
    together = np.zeros(len(distinct), np.int64)
    np.add.at(together, place, weights)
    return Errors(
        first.n + second.n,
        first.n_labelled + second.n_labelled,
        first.n_nonzero + second.n_nonzero,
        first.n_unpredicted + second.n_unpredicted,
        centre,
        _moved(first, centre) + _moved(second, centre),
        float(np.fmin(first.low, second.low)),
        float(np.fmax(first.high, second.high)),
        first.edges,
        first.by_age + second.by_age,
        distinct,
        together,
    )


def merge_all(parts: Iterable[Errors], edges: FloatArray) -> Errors:
    """The sums over all parts; of none, the empty sums."""
    return reduce(merge, parts, empty(edges))


def _moved(counts: Errors, centre: float) -> FloatArray:
    """The same sums with the labels' moments about another centre."""
    d, n, old = counts.centre - centre, counts.n_labelled, counts.sums
    if d == 0 or n == 0:
        return old
    new = old.copy()
    new[_U] = old[_U] + n * d
    new[_U2] = old[_U2] + 2 * d * old[_U] + n * d**2
    new[_U3] = old[_U3] + 3 * d * old[_U2] + 3 * d**2 * old[_U] + n * d**3
    new[_U4] = old[_U4] + 4 * d * old[_U3] + 6 * d**2 * old[_U2] + 4 * d**3 * old[_U] + n * d**4
    new[_E2U] = old[_E2U] + d * old[_E2]
    new[_E2U2] = old[_E2U2] + 2 * d * old[_E2U] + d**2 * old[_E2]
    return new


# --- measures --------------------------------------------------------------------------------------


def _why_nothing(counts: Errors) -> str | None:
    if counts.n == 0:
        return "no_predictions"
    return "no_labels" if counts.n_labelled == 0 else None


def _undefined(reason: str, n: int = 0) -> Measure:
    return Measure(None, n=n, reason=reason)


def _skewed_mean(
    total: float, squares: float, cubes: float, n: int, *, level: float
) -> tuple[float, float, float] | None:
    """A mean of what is not negative, with its interval; ``None`` where sums have overflown or there is no spread.

    Hall's interval: the t statistic made symmetric by a cubic in the sample's skewness, without which the interval of
    a mean of squares would lie too low.

    References
    ----------
    P. Hall, "On the removal of skewness by transformation", J. R. Statist. Soc. B 1992.
    """
    mean = total / n
    variance = max(squares / n - mean * mean, 0.0) * n / max(n - 1, 1)
    if n < 2 or not math.isfinite(variance) or variance == 0:
        return None
    spread = np.sqrt(variance)
    skew = (cubes / n - 3 * mean * squares / n + 2 * mean**3) / spread**3
    if not math.isfinite(skew):
        return None
    # A sample of n cannot show a skewness beyond √n; what is near that would bend the interval out of shape.
    skew = min(max(skew, -math.sqrt(n) / 3), math.sqrt(n) / 3)
    half = float(scipy.special.stdtrit(n - 1, 0.5 + level / 2)) / math.sqrt(n)
    low, high = (mean - spread * _unbent(step, skew, n) for step in (half, -half))
    return mean, max(low, 0.0), high


def _unbent(step: float, skew: float, n: int) -> float:
    """The t statistic over √n whose transform is ``step``."""
    if abs(skew) < 1e-6:
        return step
    return 3 / skew * (math.copysign(abs(inner := 1 + skew * (step - skew / (6 * n))) ** (1 / 3), inner) - 1)


def _of_mean(total: float, squares: float, cubes: float, n: int, *, level: float) -> Measure:
    mean = total / n
    if not math.isfinite(mean):
        return _undefined("overflow", n)
    found = _skewed_mean(total, squares, cubes, n, level=level)
    if found is None:  # one label, or all errors alike
        return Measure(mean, mean, mean, n) if n > 1 and math.isfinite(squares) else Measure(mean, n=n)
    return Measure(mean, min(found[1], mean), max(found[2], mean), n)


def mae(counts: Errors, level: float) -> Measure:
    """Mean absolute error, in the label's unit."""
    s = counts.sums
    return _of_mean(s[_ABS], s[_E2], s[_ABS3], counts.n_labelled, level=level)


def bias(counts: Errors, level: float) -> Measure:
    """Mean of predicted less true: above 0, predictions are too high."""
    n, s = counts.n_labelled, counts.sums
    mean = float(s[_E]) / n
    if not math.isfinite(mean):
        return _undefined("overflow", n)
    variance = max(float(s[_E2]) / n - mean * mean, 0.0) * n / max(n - 1, 1)
    low, high = mean_interval(mean, variance, n, level=level)
    return Measure(mean, low, high, n) if math.isfinite(high - low) else Measure(mean, n=n)


def rmse(counts: Errors, level: float) -> Measure:
    """Root of the mean squared error."""
    s = counts.sums
    found = _of_mean(s[_E2], s[_E4], s[_E6], counts.n_labelled, level=level)
    value, low, high = (None if x is None else math.sqrt(x) for x in (found.value, found.low, found.high))
    return Measure(value, low, high, found.n, found.reason)


def mape(counts: Errors, level: float) -> Measure:
    """Mean of abs(e / y), as a share, over the labels other than 0; ``n`` says how many those are."""
    if counts.n_nonzero == 0:
        return _undefined("all_labels_zero")
    s = counts.sums
    return _of_mean(s[_APE], s[_APE2], s[_APE3], counts.n_nonzero, level=level)


def median_absolute_error(counts: Errors, level: float) -> Measure:
    """The absolute error that half of the predictions keep below, to 0.5 %; its interval is by order statistics."""
    size = np.abs(counts.cells)
    distinct, place = np.unique(size, return_inverse=True)
    weights = np.bincount(place, weights=counts.cell_counts).astype(np.int64)
    n = counts.n_labelled
    half = z_value(level) / (2 * math.sqrt(n))
    low, value, high = (_value(distinct[_place(weights, q)]) for q in (0.5 - half, 0.5, min(0.5 + half + 1 / n, 1.0)))
    return Measure(value, low, high, n)


def r2(counts: Errors, level: float) -> Measure:
    """The share of the labels' variance that the predictions explain: ``1 - Σe² / Σ(y - ȳ)²``; below 0 is worse
    than always predicting the mean."""
    n, s = counts.n_labelled, counts.sums
    if counts.low == counts.high:
        return _undefined("constant_labels", n)
    m = s[_U] / n
    spread = s[_U2] / n - m * m
    if not spread > 0 or not math.isfinite(s[_E2] / spread):
        return _undefined("overflow", n)
    rest = s[_E2] / n / spread
    value = 1 - rest
    # Of the ratio Σe² / Σ(y - ȳ)², by the influence of each label: e² - rest (y - ȳ)².
    fourth = s[_U4] / n - 4 * m * s[_U3] / n + 6 * m**2 * s[_U2] / n - 3 * m**4
    mixed = s[_E2U2] / n - 2 * m * s[_E2U] / n + m**2 * s[_E2] / n
    variance = (s[_E4] / n - 2 * rest * mixed + rest**2 * fourth) / spread**2 / max(n - 1, 1)
    if rest == 0:
        return Measure(value, value, value, n)
    if n < 3 or not math.isfinite(variance):
        return Measure(value, n=n)
    step = float(scipy.special.stdtrit(n - 1, 0.5 + level / 2)) * math.sqrt(max(variance, 0.0)) / rest
    return Measure(value, 1 - rest * math.exp(min(step, 700.0)), 1 - rest * math.exp(-step), n)


METRICS: dict[str, Callable[[Errors, float], Measure]] = {
    "mae": mae,
    "rmse": rmse,
    "mape": mape,
    "bias": bias,
    "median_absolute_error": median_absolute_error,
    "r2": r2,
}


def performance(counts: Errors, metrics: Sequence[str] = tuple(METRICS), *, level: float = 0.95) -> dict[str, Measure]:
    """How far off were the labelled predictions?  One measure for each name in ``metrics``.

    Where a value is ``None`` the reason is ``no_predictions``, ``no_labels``, ``all_labels_zero`` (of ``mape``),
    ``constant_labels`` (of ``r2``), or ``overflow``: sums beyond what a double can hold.

    Raises
    ------
    ValueError
        A name is not in ``METRICS``.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ValueError(f"unknown metrics {unknown}; known are {sorted(METRICS)}")
    nothing = _why_nothing(counts)
    if nothing:
        return {name: _undefined(nothing) for name in metrics}
    # Sums that are too large or too small for their powers give infinity or NaN, and that is told as no number.
    with np.errstate(all="ignore"):
        return {name: _plain(METRICS[name](counts, level)) for name in metrics}


def _plain(measure: Measure) -> Measure:
    """As Python's own numbers, and without an interval that is none."""
    if measure.value is None:
        return measure
    value, bounds = float(measure.value), (measure.low, measure.high)
    if not math.isfinite(value):
        return _undefined("overflow", measure.n)
    if any(bound is None or not math.isfinite(bound) for bound in bounds):
        return Measure(value, n=measure.n)
    low, high = (float(bound or 0.0) for bound in bounds)
    return Measure(value, low, high, measure.n)


_SCALES: dict[str, Scale] = {"mae": "log", "rmse": "log", "mape": "log", "bias": "plain"}
CORRECTABLE = tuple(_SCALES)
"""The metrics that have a corrected value: those that are means."""


def corrected(
    counts: Errors, past: Sequence[Errors], *, age: float, metrics: Sequence[str], level: float = 0.95
) -> dict[str, Measure]:
    """Where will each metric be once all labels are in?  As past windows went on from this age.

    Parameters
    ----------
    past
        Matured windows, with the landing times of their labels, over the same bins.
    age
        Seconds since the end of the window.

    Returns
    -------
    A measure for each of ``metrics`` that is in ``CORRECTABLE``; with reason ``no_delay_law`` where too few windows
    have matured or labels carry no time, and ``not_identifiable`` where by this age next to none had landed.
    """
    wanted = [name for name in metrics if name in CORRECTABLE]
    nothing = _why_nothing(counts)
    if nothing:
        return {name: _undefined(nothing) for name in wanted}
    part = landed_by(age, counts.edges)
    timed = [each for each in past if each.by_age[:-1, _LANDED].sum() > 0]
    shares = [float(part @ each.by_age[:, _LANDED]) / each.n_labelled for each in timed]
    if shares and float(np.mean(shares)) < MIN_COMPLETENESS:
        return {name: _undefined("not_identifiable", counts.n_labelled) for name in wanted}
    seen = [float(part @ each.by_age[:, _LANDED]) for each in timed]
    thin = float(np.mean(seen)) / counts.n_labelled if seen else 1.0
    found = {}
    for name in wanted:
        now = performance(counts, [name], level=level)[name]
        pairs = [(early, late) for each in timed if (early := _early(each, part, name)) is not None
                 and (late := performance(each, [name], level=level)[name].value) is not None]  # fmt: skip
        found[name] = (
            now
            if now.value is None
            else developed(now.value, pairs, scale=_SCALES[name], n=now.n, thin=thin, level=level)
        )
    return found


def _early(window: Errors, part: FloatArray, name: str) -> float | None:
    """What a window had shown when so much of each landing bin was over."""
    e, size, squares, ape, n, nonzero = (part @ window.by_age).tolist()
    if name == "mape":
        return ape / nonzero if nonzero > 0 else None
    if n <= 0:
        return None
    return float({"mae": size / n, "bias": e / n, "rmse": math.sqrt(squares / n)}[name])


# --- storage ---------------------------------------------------------------------------------------


def to_bytes(counts: Errors) -> bytes:
    """Pack for storage; :func:`from_bytes` gives the same sums back, on any machine."""
    header = _HEADER.pack(
        _MAGIC, _VERSION, len(counts.edges), len(counts.cells),
        counts.n, counts.n_labelled, counts.n_unpredicted, counts.centre, counts.low, counts.high,
    )  # fmt: skip
    body = [counts.edges, counts.sums, counts.by_age.ravel(), np.array([counts.n_nonzero], float)]
    whole = b"".join(part.astype("<f8").tobytes() for part in body)
    return header + zlib.compress(
        whole + counts.cells.astype("<i8").tobytes() + counts.cell_counts.astype("<i8").tobytes(), 6
    )


def from_bytes(blob: bytes) -> Errors:
    """Unpack what :func:`to_bytes` packed.

    Raises
    ------
    ProfileError
        The bytes are damaged, of something else, or of a newer version.
    """
    try:
        magic, version, n_edges, n_cells, n, n_labelled, n_unpredicted, centre, low, high = _HEADER.unpack_from(blob)
        if magic != _MAGIC or version != _VERSION:
            raise ProfileError(f"expected sums of errors of version {_VERSION}, found {magic!r} {version}")
        body = zlib.decompress(blob[_HEADER.size :])
        sizes = [n_edges, _SUMS, 6 * (n_edges + 1), 1]
        numbers = np.frombuffer(body, "<f8", sum(sizes)).astype(np.float64)
        edges, sums, by_age, nonzero = np.split(numbers, np.cumsum(sizes)[:-1])
        whole = np.frombuffer(body, "<i8", 2 * n_cells, 8 * sum(sizes)).astype(np.int64)
    except (struct.error, zlib.error, ValueError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(f"these {len(blob)} bytes are not sums of errors: {error}") from error
    return Errors(
        n, n_labelled, int(nonzero[0]), n_unpredicted, centre, sums, low, high, edges,
        by_age.reshape(n_edges + 1, 6), whole[:n_cells], whole[n_cells:],
    )  # fmt: skip
