"""Columns seen together: a bounded sample of each window's rows, measured in the pass that counts, and never kept.

What is kept of the sample are its pairwise correlations, as a stored profile of the column ``__joint__``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.multivariate import (
    Correlations,
    JointChange,
    Usual,
    correlation_change,
    correlations,
    interaction_change,
)
from detectors.profiles import ColumnSpec, NumericSpec
from monitor.checks import Evidence, Scope
from monitor.config import ModelConfig
from monitor.counting import TIME, floats
from monitor.models import Check, Result, StoredProfile, Verdict, Window
from monitor.thresholds import judge_effect

JOINT = "__joint__"
METRIC = "correlation_change"
INTERACTION = "interaction_change"
METRICS = (METRIC, INTERACTION)
HISTORY = 30
"""Windows before this one that show how far correlations scatter."""
ROWS = 2000
"""Rows of a window that are looked at: a correlation is then known to about 0.02."""
COLUMNS = 50
"""Numeric columns that are looked at, the first ones of the table: 1,225 pairs."""
WARN, ALERT = 0.1, 0.2
"""Changes of a correlation worth a look, and worth a message."""
_MOST_ALPHA = 0.001
_KEYED = 4


def columns_of(specs: Mapping[str, ColumnSpec], model: ModelConfig) -> list[str]:
    """The numeric features that are looked at together; fewer than two are none."""
    if model.drift.multivariate == "off":
        return []
    ignored = {name for name, own in model.drift.features.items() if own.ignore}
    names = [name for name, spec in specs.items() if isinstance(spec, NumericSpec) and not name.startswith("__")]
    chosen = [name for name in names if name not in ignored][:COLUMNS]
    return chosen if len(chosen) > 1 else []


class Sampled:
    """A stream of record batches that keeps a few of the rows that pass.

    Which rows are kept follows from their own values (time and the first columns, hashed), so neither the order of
    rows nor how they are batched shows in the sample, and every database gives the same one.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch], names: Sequence[str], *, rows: int = ROWS) -> None:
        self._batches, self._names, self._rows = batches, list(names), rows
        self._keys: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._values = np.empty((0, len(self._names)))

    @property
    def duplicates(self) -> int:
        return int(getattr(self._batches, "duplicates", 0))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            if self._names and batch.num_rows:
                self._look(batch)
            yield batch

    def _look(self, batch: pa.RecordBatch) -> None:
        keys = _keys(batch, self._names[:_KEYED])
        chosen = np.flatnonzero(keys < self._keys[-1]) if len(self._keys) == self._rows else np.arange(len(keys))
        if len(chosen) > self._rows:
            chosen = chosen[np.argpartition(keys[chosen], self._rows)[: self._rows]]
        if not len(chosen):
            return
        taken = pa.array(chosen)
        self._keep(keys[chosen], np.column_stack([floats(batch.column(name).take(taken)) for name in self._names]))

    def _keep(self, keys: npt.NDArray[np.uint64], values: npt.NDArray[np.float64]) -> None:
        keys = np.concatenate([self._keys, keys])
        order = np.argsort(keys, kind="stable")[: self._rows]
        self._keys, self._values = keys[order], np.concatenate([self._values, values])[order]

    def state(self) -> bytes:
        """The rows that are kept, for the :meth:`add` of one that saw other rows of the same window."""
        return self._keys.tobytes() + np.ascontiguousarray(self._values).tobytes()

    def add(self, state: bytes) -> None:
        """Take in the rows that another kept, as :meth:`state` told them."""
        size = len(state) // (8 * (1 + len(self._names)))
        values = np.frombuffer(state, dtype=np.float64, offset=8 * size)
        self._keep(np.frombuffer(state, dtype=np.uint64, count=size), values.reshape(size, len(self._names)))

    def measure(self) -> Correlations | None:
        """How the columns of the rows that have passed go together; ``None`` when nothing was looked at."""
        return correlations(self._names, self._values) if len(self._values) else None


def _keys(batch: pa.RecordBatch, names: Sequence[str]) -> npt.NDArray[np.uint64]:
    """A well-mixed 64-bit number for each row, from its time and its first columns (splitmix64)."""
    parts = [floats(batch.column(name)).view(np.uint64) for name in names]
    if TIME in batch.schema.names:
        moments = batch.column(TIME).cast(pa.int64()).fill_null(0)
        parts.append(moments.to_numpy(zero_copy_only=False).view(np.uint64))
    mixed = np.zeros(batch.num_rows, dtype=np.uint64)
    for part in parts:
        mixed = (mixed ^ part) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def of(profiles: Iterable[StoredProfile], bad: Collection[datetime] = ()) -> list[Correlations]:
    """The correlations among stored profiles, without those of windows that began at one of ``bad``."""
    return [p.profile for p in profiles if isinstance(p.profile, Correlations) and p.window.start not in bad]


def stored(model: str, window: Window, measured: Correlations | None) -> list[StoredProfile]:
    """What is kept of a window's sample."""
    return [] if measured is None else [StoredProfile(model, window, JOINT, measured)]


@dataclass(frozen=True)
class Known:
    """What a window's correlations are compared with: the baseline's windows, and the fine ones since."""

    reference: Sequence[Correlations] | Usual
    history: Sequence[Correlations] = ()


def joint_drift(scope: Scope, known: Known, current: Correlations | None) -> list[Result]:
    """Do the numeric features go together as they did in the baseline: by pairs, and beyond correlation?

    The two tests share the part of the budget.
    """
    if current is None or not len(known.reference):
        return []
    evidence = Evidence(scope, "joint", 2)
    alpha = evidence.alpha(confirm=1)
    if scope.model.drift.significance is None:
        alpha = min(_MOST_ALPHA, alpha)
    if current.n_rows < scope.model.min_rows:
        reason = f"{current.n_rows} rows, min_rows is {scope.model.min_rows}"
        return [_result(scope, METRIC, None, verdict=Verdict.CANNOT_TELL, threshold=ALERT, detail={"reason": reason})]
    results = []
    for metric, test in ((METRIC, correlation_change), (INTERACTION, interaction_change)):
        if metric == INTERACTION and scope.model.drift.multivariate != "all":
            continue
        found = test(known.reference, current, history=known.history, alpha=alpha)
        if found is not None:
            results.append(_judged(scope, metric, found, known, told=evidence.told(alpha), alpha=alpha))
    return results


def _judged(
    scope: Scope, metric: str, found: JointChange, known: Known, *, told: Mapping[str, Any], alpha: float
) -> Result:
    judged = judge_effect(found.value, found.p_value, warn=WARN, alert=ALERT, alpha=alpha)
    verdict = judged.verdict
    if verdict is Verdict.CANNOT_TELL and found.smallest <= ALERT:
        verdict = Verdict.OK  # the largest of many pairs is often beyond the limit of one by chance
    detail: dict[str, Any] = {
        "pair": list(found.pair),
        "reference": found.reference,
        "current": found.current,
        "n_pairs": found.n_pairs,
        **told,
        "smallest_detectable": found.smallest,
        "spread": found.spread,
        "against": "baseline",
    }
    if metric == INTERACTION and verdict is Verdict.CANNOT_TELL:
        detail["decides"] = False  # correlations say whether the window tells enough
    if max(len(known.reference), len(known.history)) < 3:
        detail["assumes"] = "rows are independent: there are too few windows to see how correlations scatter"
    if judged.reason and verdict is not Verdict.OK:
        detail["reason"] = judged.reason
    if verdict in (Verdict.WARN, Verdict.ALERT):
        detail["what"] = _words(metric, found)
    return _result(scope, metric, found, verdict=verdict, threshold=judged.threshold, detail=detail)


def _words(metric: str, found: JointChange) -> str:
    names = f"{', '.join(found.pair[:-1])} and {found.pair[-1]}"
    change = f"{found.reference:.2f} → {found.current:.2f}"
    if metric == METRIC:
        more = f", and {len(found.also)} more pairs" if found.also else ""
        return f"correlation of {names} {change}{more}"
    more = f", and {len(found.also)} more" if found.also else ""
    return f"how {names} go together, beyond correlation, {change}{more}"


def _result(
    scope: Scope,
    metric: str,
    found: JointChange | None,
    *,
    verdict: Verdict,
    threshold: float | None,
    detail: dict[str, Any],
) -> Result:
    return scope.result(
        Check.FEATURE_DRIFT,
        metric,
        value=None if found is None else found.value,
        p_value=None if found is None else found.p_value,
        threshold=threshold,
        verdict=verdict,
        n_reference=None if found is None else found.n_reference,
        n_current=None if found is None else found.n_current,
        detail=detail,
    )
