"""What the metrics of the score will be once all labels are in: ROC-AUC, PR-AUC, Brier, log loss and calibration error.

The delay law tells how many positives each stratum of predictions will have (:func:`detectors.corrected.fit`).  Within
a stratum labels land by class only, so the odds of a positive among the labels that have landed are those among the
others times a constant: how they rise with the score is read off the landed labels, and the constant is what makes the
stratum's positives add up.  That gives the expected positives and negatives at each score, and with them whatever is a
function of these counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detectors.calibration import Calibrator
from detectors.classification import Measure
from detectors.intervals import Interval, logit_normal, z_value
from detectors.posterior import Fit
from detectors.profiles import FloatArray, IntArray
from detectors.score_labels import ScoreLabels

MOST_GROUPS = 4096
"""More distinct scores than these are put together with their neighbours, within a stratum."""
_STEEP = (1.0, 1.0)
"""Log-odds are expected to rise with those that the score promises by this much, give or take this."""
_APART = 0.5
"""How far the strata's slopes differ from each other: a standard deviation."""
_CALIBRATION_BINS = 10


def pooled(found: Fit, groups: IntArray) -> Fit:
    """The same fit for unions of strata: ``groups`` of shape ``(K,)`` numbers each stratum's union from 0."""
    size = int(groups.max(initial=-1)) + 1
    into = np.zeros((size, len(groups)))
    into[groups, np.arange(len(groups))] = 1.0
    expected = into @ found.expected
    part = into * found.expected / np.maximum(expected, 1e-12)[:, None]
    decisions = np.zeros(size, np.int64)
    decisions[groups] = found.decisions
    return replace(
        found,
        share=part @ found.share,
        covariance=part @ found.covariance @ part.T,
        expected=expected,
        decisions=decisions,
    )


def corrected_scores(
    counts: ScoreLabels,
    found: Fit | str,
    strata: IntArray,
    *,
    metrics: Sequence[str],
    calibrator: Calibrator | None = None,
    absent: int | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Measure]:
    """Which metrics of the score will this window have once all its labels are in?

    Parameters
    ----------
    counts
        The window's predictions by score, decision and label as of now.
    found
        What :func:`detectors.corrected.fit` says of the same predictions; a reason is passed on.
    strata
        The stratum of the predictions at each score with each decision, shape ``(S, 3)``.
    calibrator
        What scores meant in the past, for the shape within a stratum where few labels have landed.
    absent
        The class that the lack of a label will mean once the window is mature.
    seed
        Of the draws that the calibration error is told from.

    Returns
    -------
    A measure for each of ``metrics`` that is in ``SCORE_METRICS``.  The interval holds the *eventual* value with
    probability ``level``; ``rate`` is that of the rate behind it, with the sampling error of the whole window.

    Notes
    -----
    By the delta method from three sources of error: the positives of each stratum (their covariance is the fit's and
    includes the delay law), which of the unlabelled they are, and how steeply log-odds rise with the score.  The
    calibration error is a sum of absolute values, which noise makes larger; so the gaps of its bins are drawn from
    their posterior under a prior whose size is learned from the same gaps.
    """
    table = expect(counts, found, strata, calibrator=calibrator)
    return score_measures(table, counts, metrics=metrics, absent=absent, level=level, seed=seed)


def score_measures(
    table: Expected | str,
    counts: ScoreLabels,
    *,
    metrics: Sequence[str],
    absent: int | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Measure]:
    """The metrics of :func:`corrected_scores`, of what :func:`expect` has told; its reason is passed on."""
    wanted = [name for name in metrics if name in SCORE_METRICS]
    if isinstance(table, str):
        return {name: Measure(None, n=counts.n, reason=table) for name in wanted}
    told = {}
    for name in wanted:
        missing = _why_not(name, counts, table, absent)
        told[name] = (
            Measure(None, n=round(table.size), reason=missing)
            if missing is not None
            else SCORE_METRICS[name](table, level, seed)
        )
    return told


def expect(
    counts: ScoreLabels,
    found: Fit | str,
    strata: IntArray,
    *,
    calibrator: Calibrator | None = None,
    thresholds: Sequence[float] = (),
) -> Expected | str:
    """How many positives and negatives will there be at each score once all labels are in?

    Parameters are those of :func:`corrected_scores`.  Scores from each of ``thresholds`` on are kept apart from those
    below it.  A reason where nothing can be known.
    """
    if isinstance(found, str):
        return found
    return _why_nothing(counts) or _expect(_rows(counts, strata, found, calibrator, thresholds), found)


def _why_nothing(counts: ScoreLabels) -> str | None:
    if counts.n == 0:
        return "no_predictions"
    if not len(counts.scores):
        return "no_scores"
    return "no_labels" if counts.n_labelled == 0 else None


def _why_not(name: str, counts: ScoreLabels, table: Expected, absent: int | None) -> str | None:
    """Of a class that could be seen, at least one label must have been: else its scores are anybody's guess."""
    if name not in ("roc_auc", "pr_auc"):
        return "scores_not_probabilities" if counts.low < 0 or counts.high > 1 else None
    seen = (counts.negatives.sum() > 0 or absent == 0, counts.positives.sum() > 0 or absent == 1)
    if name == "pr_auc":
        missing = None if seen[1] and table.n_positive > 1e-9 else "no_positives"
    else:
        both = all(seen) and min(table.n_positive, table.size - table.n_positive) > 1e-9
        missing = None if both else "one_class"
    return missing or ("constant_scores" if np.count_nonzero(table.total > 0) == 1 else None)


# --- expected counts -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rows:
    """Predictions of one score, decision and stratum: one row each, R of them; ``place`` is the score's, among S.

    ``x`` are the log-odds that the score promises.
    """

    scores: FloatArray
    place: IntArray
    stratum: IntArray
    positives: FloatArray
    negatives: FloatArray
    out: FloatArray
    x: FloatArray


def _rows(
    counts: ScoreLabels, strata: IntArray, found: Fit, calibrator: Calibrator | None, thresholds: Sequence[float]
) -> _Rows:
    scores, group = _grouped(counts, strata, thresholds)
    parts = []
    for decision in range(3):
        cells = [each[:, decision] for each in (counts.positives, counts.negatives, counts.unlabelled)]
        inhabited = sum(cells) > 0
        parts.append(np.stack([group, strata[:, decision], *cells], axis=1)[inhabited])
    whole = np.concatenate(parts)
    n_strata = len(found.share)
    key = whole[:, 0] * n_strata + whole[:, 1]
    distinct, inverse = np.unique(key, return_inverse=True)
    positives, negatives, unlabelled = (_sums(inverse, whole[:, column], len(distinct)) for column in (2, 3, 4))
    place, stratum = distinct // n_strata, distinct % n_strata
    labelled = _sums(stratum, positives + negatives, n_strata)
    waiting = _sums(stratum, unlabelled, n_strata)
    # Of the predictions without a label, some never get one.
    will = np.clip((found.expected - labelled) / np.maximum(waiting, 1e-12), 0.0, 1.0)
    weight = _sums(place, positives + negatives + unlabelled, len(scores))
    promised = _promised(scores, counts, calibrator, weight=weight)
    return _Rows(scores, place, stratum, positives, negatives, unlabelled * will[stratum], promised[place])


def _sums(places: IntArray, weights: FloatArray, size: int) -> FloatArray:
    """Sums of the weights at each of the places ``0 … size - 1``."""
    return np.asarray(np.bincount(places, weights=weights, minlength=size), dtype=np.float64)


def _grouped(counts: ScoreLabels, strata: IntArray, thresholds: Sequence[float]) -> tuple[FloatArray, IntArray]:
    """At most about ``MOST_GROUPS`` scores, and the number of each original one among them.

    No group goes over the border of strata, of bins of calibration, or of a threshold.
    """
    finite = np.isfinite(counts.scores)
    inner = counts.scores[finite]
    held = counts.scores if finite.all() else np.clip(counts.scores, inner.min(initial=0.0), inner.max(initial=1.0))
    if len(held) <= MOST_GROUPS:
        return held, np.arange(len(held))
    weight = (counts.positives + counts.negatives + counts.unlabelled).sum(axis=1).astype(float)
    middle = np.cumsum(weight) - weight / 2
    part = (middle * MOST_GROUPS / weight.sum()).astype(np.int64)
    border = np.diff(part, prepend=-1) != 0
    border[1:] |= (strata[1:] != strata[:-1]).any(axis=1)
    cuts = [*np.searchsorted(held, thresholds, side="left"), *np.searchsorted(held, bin_edges(), side="right")]
    border[[cut for cut in cuts if cut < len(held)]] = True
    starts, group = np.flatnonzero(border), np.cumsum(border) - 1
    size = len(starts)
    mean = _sums(group, weight * held, size) / _sums(group, weight, size)
    return np.clip(mean, held[starts], held[np.append(starts[1:], len(held)) - 1]), group


def _promised(
    scores: FloatArray, counts: ScoreLabels, calibrator: Calibrator | None, *, weight: FloatArray
) -> FloatArray:
    """The log-odds that each score promises: by what scores meant in the past, as a probability, or by its rank."""
    if calibrator is not None:
        p = calibrator.probability(scores)
    elif counts.low >= 0 and counts.high <= 1:
        p = scores
    else:
        p = (np.cumsum(weight) - weight / 2) / max(float(weight.sum()), 1.0)
    inside = np.clip(p, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(inside / (1 - inside)))


@dataclass(frozen=True, eq=False)
class Expected:
    """Expected counts at each of S increasing scores, and what moves them.

    Parameters
    ----------
    positives, total
        Positives, and labels, once all are in, shape ``(S,)``.
    coin
        Variance of the positives at each row, given its stratum's: shape ``(R,)``.
    place, stratum
        The score and the stratum of each row, shape ``(R,)``.
    x
        The log-odds that a row's score promises, less their mean over its stratum: shape ``(R,)``.
    covariance
        Of the positives of each stratum, shape ``(K, K)``.
    slopes
        Covariance of the strata's slopes, shape ``(K, K)``.
    """

    scores: FloatArray
    positives: FloatArray
    total: FloatArray
    coin: FloatArray
    place: IntArray
    stratum: IntArray
    x: FloatArray
    covariance: FloatArray
    slopes: FloatArray

    @property
    def n_positive(self) -> float:
        return float(self.positives.sum())

    @property
    def size(self) -> float:
        return float(self.total.sum())

    @property
    def negatives(self) -> FloatArray:
        return np.asarray(np.maximum(self.total - self.positives, 0.0))

    def spread(self, gradients: FloatArray) -> FloatArray:
        """The covariance of the errors of m functions of the positives, whose gradients are of shape ``(m, S)``."""
        g = gradients[:, self.place]
        mass = self._by_stratum(self.coin[None])[0]
        mean = self._by_stratum(g * self.coin) / np.maximum(mass, 1e-300)
        mean[:, mass <= 1e-12] = 0.0
        rest = g - mean[:, self.stratum]
        steep = self._by_stratum(rest * self.coin * self.x)
        chance = (rest * self.coin) @ rest.T
        return np.asarray(mean @ self.covariance @ mean.T + chance + steep @ self.slopes @ steep.T)

    def _by_stratum(self, values: FloatArray) -> FloatArray:
        """Sums over the rows of each stratum, shape ``(m, K)`` from ``(m, R)``."""
        return np.array([_sums(self.stratum, row, len(self.covariance)) for row in values])


def _expect(rows: _Rows, found: Fit) -> Expected:
    n_strata = len(found.share)

    def by_stratum(values: FloatArray) -> FloatArray:
        return _sums(rows.stratum, values, n_strata)

    def by_score(values: FloatArray) -> FloatArray:
        return _sums(rows.place, values, len(rows.scores))

    steep, slopes = _steepness(rows, n_strata)
    out = by_stratum(rows.out)
    most = np.maximum(out, 0.0)
    wanted = np.clip(found.expected * found.share - by_stratum(rows.positives), 1e-9 * most, (1 - 1e-9) * most)
    lean = steep[rows.stratum] * rows.x
    low, high = np.full(n_strata, -60.0), np.full(n_strata, 60.0)
    for _ in range(60):  # what is to be added to the log-odds so that each stratum's positives add up
        middle = (low + high) / 2
        more = by_stratum(rows.out * _share(lean + middle[rows.stratum])) < wanted
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    p = _share(lean + ((low + high) / 2)[rows.stratum])
    coin = rows.out * p * (1 - p)
    centre = by_stratum(coin * rows.x) / np.maximum(by_stratum(coin), 1e-300)
    return Expected(
        rows.scores,
        by_score(rows.positives + rows.out * p),
        by_score(rows.positives + rows.negatives + rows.out),
        coin,
        rows.place,
        rows.stratum,
        rows.x - np.where(by_stratum(coin) > 1e-12, centre, 0.0)[rows.stratum],
        found.covariance * np.outer(found.expected, found.expected),
        slopes,
    )


def _share(log_odds: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -700, 700))))


def _steepness(rows: _Rows, n_strata: int) -> tuple[FloatArray, FloatArray]:
    """How steeply log-odds rise with ``x`` in each stratum, and the covariance of these slopes.

    A logistic regression of the labels that have landed, with a level of its own for each stratum: which class lands
    first moves levels, and no slope.  Slopes are drawn to each other and to ``_STEEP``.
    """
    labels = rows.positives + rows.negatives
    held = labels > 0
    design = np.zeros((int(held.sum()), 2 * n_strata))
    at = np.arange(len(design))
    design[at, rows.stratum[held]] = 1.0
    design[at, n_strata + rows.stratum[held]] = rows.x[held]
    n, hits = labels[held], rows.positives[held]
    middle = math.log((hits.sum() + 0.5) / (n.sum() - hits.sum() + 0.5))
    target = np.append(np.full(n_strata, middle), np.full(n_strata, _STEEP[0]))
    prior = np.zeros((2 * n_strata, 2 * n_strata))
    prior[:n_strata, :n_strata] = np.eye(n_strata) / 9
    between = np.full((n_strata, n_strata), _STEEP[1] ** 2) + _APART**2 * np.eye(n_strata)
    prior[n_strata:, n_strata:] = np.linalg.inv(between)
    state: FloatArray = target.copy()
    information: FloatArray = prior
    for _ in range(30):
        p = _share(design @ state)
        weight = np.maximum(n * p * (1 - p), 1e-12)
        information = design.T @ (design * weight[:, None]) + prior
        step = np.linalg.solve(information, design.T @ (hits - n * p) - prior @ (state - target))
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        state = state + step
        if float(np.abs(step).max()) < 1e-8:
            break
    covariance: FloatArray = np.asarray(np.linalg.inv(information), dtype=np.float64)
    return state[n_strata:], covariance[n_strata:, n_strata:]


# --- measures --------------------------------------------------------------------------------------


def _measured(
    table: Expected, value: float, interval: Interval, sampling: float, *, level: float, top: float = 1.0
) -> Measure:
    """With ``rate``: the interval once more, with the sampling error (a variance) of all labels of the window."""
    low, high = min(max(interval.low, 0.0), value), max(min(interval.high, top), value)
    half = z_value(level) * math.sqrt(max(sampling, 0.0))
    rate = (max(value - math.hypot(value - low, half), 0.0), min(value + math.hypot(high - value, half), top))
    return Measure(float(value), float(low), float(high), max(round(table.size), 1), rate=rate)


def roc_auc(table: Expected, level: float, _seed: int) -> Measure:
    """How likely a positive scores higher than a negative, ties counting one half; the interval on the logit."""
    pos, neg = table.positives, table.negatives
    n_pos, n_neg = float(pos.sum()), float(neg.sum())
    below = np.cumsum(neg) - neg / 2
    above = n_pos - np.cumsum(pos) + pos / 2
    value = min(float(pos @ below) / (n_pos * n_neg), 1.0)
    gradient = (below - above) / (n_pos * n_neg) - value * (1 / n_pos - 1 / n_neg)
    variance = float(table.spread(gradient[None])[0, 0])
    # DeLong's, of all labels.
    sampling = float(pos @ (below / n_neg - value) ** 2) / n_pos / max(n_pos - 1, 1)
    sampling += float(neg @ (above / n_pos - value) ** 2) / n_neg / max(n_neg - 1, 1)
    return _measured(table, value, _of_share(value, variance, min(n_pos, n_neg), level=level), sampling, level=level)


def bin_edges() -> FloatArray:
    """The inner edges of the bins of calibration, each closed on the right: shape ``(9,)``."""
    return np.asarray(np.linspace(0.0, 1.0, _CALIBRATION_BINS + 1)[1:-1])


def _of_share(value: float, variance: float, n: float, *, level: float) -> Interval:
    if variance <= 1e-15:
        return Interval(value, value)
    inside = min(max(value, 0.5 / max(n, 1)), 1 - 0.5 / max(n, 1))
    return logit_normal(inside, variance, level=level)


def pr_auc(table: Expected, level: float, _seed: int) -> Measure:
    """Average precision; a positive at a score counts itself, however unsure it is that there is one."""
    pos, total = table.positives[::-1], table.total[::-1]
    n_pos = float(pos.sum())
    held = _sums(table.place, table.coin, len(pos))[::-1]
    hits, above = np.cumsum(pos), np.maximum(np.cumsum(total), 1e-12)
    value = min(float(np.sum((pos * hits + held) / above)) / n_pos, 1.0)
    later = np.cumsum((pos / above)[::-1])[::-1]
    gradient = ((hits / above + later) / n_pos - value / n_pos)[::-1]
    variance = float(table.spread(gradient[None])[0, 0])
    interval = _of_share(value, variance, n_pos, level=level)
    share = min(max(value, 0.5 / max(n_pos, 1.0)), 1 - 0.5 / max(n_pos, 1.0))
    return _measured(table, value, interval, share * (1 - share) / max(n_pos, 1.0), level=level)


def _mean_loss(table: Expected, of_positive: FloatArray, of_negative: FloatArray, *, level: float) -> Measure:
    n = table.size
    value = float(table.positives @ of_positive + table.negatives @ of_negative) / n
    variance = float(table.spread(((of_positive - of_negative) / n)[None])[0, 0])
    squares = table.positives @ (of_positive - value) ** 2 + table.negatives @ (of_negative - value) ** 2
    half = z_value(level) * math.sqrt(max(variance, 0.0))
    top = float(max(of_positive.max(), of_negative.max()))
    interval = Interval(value - half, value + half)
    return _measured(table, value, interval, float(squares) / n / max(n - 1, 1), level=level, top=max(top, value))


def brier(table: Expected, level: float, _seed: int) -> Measure:
    """The mean squared distance of the score, read as a probability, from the label."""
    return _mean_loss(table, (1 - table.scores) ** 2, table.scores**2, level=level)


def log_loss(table: Expected, level: float, _seed: int) -> Measure:
    """The mean negative logarithm of the probability given to what came true."""
    tiny = np.finfo(np.float64).eps
    p = np.clip(table.scores, tiny, 1 - tiny)
    return _mean_loss(table, -np.log(p), -np.log1p(-p), level=level)


_SIZES = np.array([0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64])
"""How far off scores may be as probabilities, before anything is known: each as likely."""
_DRAWS = 4000


def ece(table: Expected, level: float, seed: int) -> Measure:
    """Expected calibration error over ten bins of equal width, as it will be once all labels are in."""
    _, gaps, sampling = gap_draws(table, seed)
    draws = np.abs(gaps).sum(axis=1)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return _measured(table, float(draws.mean()), Interval(low, high), sampling, level=level)


def gap_draws(table: Expected, seed: int = 0) -> tuple[IntArray, FloatArray, float]:
    """By how much positives will differ from what scores promise, in the bins of calibration, as shares of all labels.

    Returns
    -------
    The inhabited bins, shape ``(B,)``; draws of their gaps, ``(n, B)``; and the variance that sampling alone gives to
    the sum of their absolute values.
    """
    bins = np.searchsorted(bin_edges(), table.scores)
    n = table.size
    size = _sums(bins, table.total, _CALIBRATION_BINS)
    kept = np.flatnonzero(size > 0)
    inside = (bins[None] == kept[:, None]).astype(float)
    gaps = inside @ (table.positives - table.total * table.scores) / n
    error = table.spread(inside / n)
    coin = inside @ (table.total * table.scores * (1 - table.scores)) / n**2
    part = size[kept] / n
    share = np.clip(inside @ table.positives / size[kept], 0.0, 1.0)
    sampling = float(np.sum(part**2 * share * (1 - share) / size[kept]))
    return kept, _posterior(gaps, error, coin, part, np.random.default_rng(seed)), sampling


def _posterior(
    gaps: FloatArray, error: FloatArray, coin: FloatArray, part: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Draws of the eventual gaps of the bins, shape ``(_DRAWS, B)``.

    Their prior is normal about 0: what chance makes of scores that are probabilities (``coin``), and how far scores are
    off, one of ``_SIZES`` as likely as the gaps that are seen make it.
    """
    error = error + 1e-15 * np.eye(len(gaps))
    if float(np.trace(error)) <= 1e-12:
        return np.repeat(gaps[None], 2, axis=0)
    priors = [np.diag(coin + (size * part) ** 2) for size in _SIZES]
    weights = np.array([_log_density(gaps, prior + error) for prior in priors])
    weights = np.exp(weights - weights.max())
    many = rng.multinomial(_DRAWS, weights / weights.sum())
    drawn = []
    for prior, n in zip(priors, many.tolist(), strict=True):
        if n:
            gain = np.linalg.solve(prior + error, prior).T
            left = prior - gain @ prior
            values, vectors = np.linalg.eigh((left + left.T) / 2)
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            drawn.append(gain @ gaps + rng.standard_normal((n, len(gaps))) @ root.T)
    return np.concatenate(drawn)


def _log_density(gaps: FloatArray, covariance: FloatArray) -> float:
    _, size = np.linalg.slogdet(covariance)
    return float(-0.5 * (size + gaps @ np.linalg.solve(covariance, gaps)))


SCORE_METRICS: dict[str, Callable[[Expected, float, int], Measure]] = {
    "roc_auc": roc_auc,
    "pr_auc": pr_auc,
    "brier": brier,
    "log_loss": log_loss,
    "ece": ece,
}
