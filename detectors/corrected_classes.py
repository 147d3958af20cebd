"""How good predicted classes will prove to be, while labels land: by the share of each class's labels that is in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.class_counts import ClassCounts
from detectors.classification import Measure
from detectors.development import MIN_COMPLETENESS, developed, landed_by
from detectors.multiclass import AS_ACCURACY, AVERAGES, CORRECTABLE, OF_DECISIONS, Matrix, log_loss, matrix
from detectors.profiles import FloatArray

MIN_LABELS = 30
"""Labels of a class from which its own delay may be learned; one with fewer leans on that of all."""


def corrected(
    counts: ClassCounts,
    past: Sequence[ClassCounts],
    *,
    age: float,
    metrics: Sequence[str],
    min_rows: int = 0,
    level: float = 0.95,
) -> dict[str, Measure]:
    """Where will each metric be once all labels are in?

    The share F_y of class y that has landed by this age is learned from matured windows.  Of the predictions of a class
    that have no label yet, so many are of class y as the labels seen and F_y make most likely.  How far this was off in
    each of the matured windows at the same age, each by the law of the others, gives the interval.  The log loss goes
    on as it did in past windows from this age.

    Parameters
    ----------
    past
        Matured windows, with the landing times of their labels, over the same bins.
    age
        Seconds since the end of the window.

    Returns
    -------
    A measure for each of ``metrics`` that is in ``CORRECTABLE``; with reason ``no_delay_law`` where too few windows
    have matured or labels carry no time, and ``not_identifiable`` where next to none of a class can have landed.
    """
    asked = [name for name in metrics if name in CORRECTABLE]
    wanted = [name for name in asked if name in OF_DECISIONS]
    nothing = "no_predictions" if counts.n == 0 else "no_labels" if counts.n_labelled == 0 else None
    if nothing:
        return {name: Measure(None, reason=nothing) for name in asked}
    part = landed_by(age, counts.edges)
    timed = [each for each in past if _timed(each)]
    if not timed:
        return {name: Measure(None, n=counts.n, reason="no_delay_law") for name in asked}
    names = sorted({name for each in (*timed, counts) for name in each.classes})
    early, late = (np.array([_by_class(each, names, p) for each in timed]) for p in (part, None))
    labels, landed = late.sum(axis=0), early.sum(axis=0)
    law, rare = _law(landed, labels), labels < MIN_LABELS
    if (law[~rare] < MIN_COMPLETENESS).any() or law[rare].min(initial=1.0) < MIN_COMPLETENESS:
        return {name: Measure(None, n=counts.n, reason="not_identifiable") for name in asked}
    never = 1 - sum(each.n_labelled for each in timed) / max(sum(each.n for each in timed), 1)
    found = _completed(counts, counts.table(), names, law, never, min_rows=min_rows)
    then = []
    for place, each in enumerate(timed):
        others = _law(landed - early[place], labels - late[place])
        then.append(
            (_completed(each, each.table(part), names, others, never, min_rows=min_rows),
             matrix(each, min_rows=min_rows))
        )  # fmt: skip
    thin = float(early.sum()) / len(timed) / max(counts.n_labelled, 1)
    told = {}
    for name in wanted:
        value = _plain(found, name)
        if isinstance(value, str):
            told[name] = Measure(None, n=counts.n, reason=value)
            continue
        seen = [(_plain(before, name), _plain(after, name)) for before, after in then]
        pairs = [(a, b) for a, b in seen if not isinstance(a, str) and not isinstance(b, str)]
        told[name] = developed(value, pairs, scale="logit", n=round(found.n), thin=thin, level=level)
    if "log_loss" in asked:
        told["log_loss"] = _corrected_loss(counts, timed, part, thin=thin, level=level)
    return told


def _corrected_loss(
    counts: ClassCounts, past: Sequence[ClassCounts], part: FloatArray, *, thin: float, level: float
) -> Measure:
    """Where the log loss goes, as it went in past windows from this age on."""
    now = log_loss(counts, level=level)
    if now.value is None:
        return now
    pairs = []
    for each in past:
        n, total = (0.0, 0.0) if each.loss_by_age is None else (part @ each.loss_by_age).tolist()
        if n > 0:
            pairs.append((total / n, each.loss[1] / each.loss[0]))
    return developed(now.value, pairs, scale="log", n=now.n, thin=thin, level=level)


def _timed(counts: ClassCounts) -> bool:
    return bool((counts.cells[:, 0] < len(counts.edges)).any())


def _by_class(counts: ClassCounts, names: Sequence[str], part: FloatArray | None) -> FloatArray:
    """Labels of each class, other classes last."""
    found = np.zeros(len(names) + 1)
    to = [*(names.index(name) for name in counts.classes), len(names)]
    np.add.at(found, to, counts.table(part)[:-1].sum(axis=1))
    return found


def _law(seen: FloatArray, labels: FloatArray) -> FloatArray:
    """The share of each class that has landed; of a class with few labels drawn to that of all."""
    overall = float(seen.sum()) / max(float(labels.sum()), 1.0)
    return np.asarray(np.clip((seen + MIN_LABELS / 3 * overall) / (labels + MIN_LABELS / 3), 1e-6, 1.0))


_ROUNDS = 300


def _completed(
    counts: ClassCounts, table: FloatArray, names: Sequence[str], law: FloatArray, never: float, *, min_rows: int
) -> Matrix:
    """The confusion matrix with the labels that are still out, by the EM algorithm for each predicted class."""
    share = law[[*(names.index(name) for name in counts.classes), len(names)]][:, None]
    seen = table[:-1, :]
    out = np.maximum(table.sum(axis=0) * (1 - never) - seen.sum(axis=0), 0.0)
    odds = seen / share
    # Where nothing of a predicted class has landed, the classes of all others are the best guess.
    odds = odds + 1e-3 * (odds.sum(axis=1, keepdims=True) + 1e-9) / max(float(odds.sum()), 1e-9)
    full = seen
    for _ in range(_ROUNDS):
        rate = odds / np.maximum(odds.sum(axis=0), 1e-12)
        missing = rate * (1 - share)
        full = seen + out * missing / np.maximum(missing.sum(axis=0), 1e-12)
        if np.abs(full - odds).max(initial=0.0) < 1e-6 * max(float(full.max(initial=0.0)), 1.0):
            break
        odds = full
    whole = np.concatenate([full, np.zeros((1, full.shape[1]))])
    return matrix(counts, min_rows=min_rows, table=whole)


def _plain(found: Matrix, name: str) -> float | str:
    if found.n <= 0:
        return "no_predicted_classes"
    if name in AS_ACCURACY:
        return (float(found.right.sum()) + found.hits) / found.n
    told = AVERAGES[name](found)
    return told if isinstance(told, str) else told[0]
