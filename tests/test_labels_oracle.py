"""Labels joined to predictions are those that a plain walk over all rows finds, odd ones among them, from any storage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from databases import write_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor import label_counting
from monitor import labels as late
from monitor.config import ModelConfig, SourceConfig
from monitor.models import Window
from monitor.sources import joining, open_source

DAY = datetime(2026, 1, 5, tzinfo=UTC)
WINDOW = Window(DAY, DAY + timedelta(days=1))
MODEL = {
    "table": "predictions", "time": "at", "key": "id", "score": "score", "threshold": 0.5,
    "labels": {"table": "labels", "key": "id", "label": "label", "time": "landed", "delay": "20d"},
}  # fmt: skip
KEYS = st.one_of(st.none(), st.integers(0, 12))
PREDICTIONS = st.lists(st.tuples(KEYS, st.sampled_from([0.1, 0.4, 0.6, None])), min_size=1, max_size=14)
LABELS = st.lists(st.tuples(KEYS, st.sampled_from([0, 1, None]), st.integers(-2, 12)), max_size=30)


def frames(predictions: Any, labels: Any, *, text: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The first prediction lies before the window; no two are at one time, so that it is plain which is the last."""
    left = pd.DataFrame(predictions, columns=["id", "score"])
    left["at"] = [DAY + timedelta(hours=at - 1, microseconds=1) for at in range(len(left))]
    right = pd.DataFrame(labels, columns=["id", "label", "days"])
    right["landed"] = [DAY + timedelta(days=int(each)) for each in right.days]
    for frame in (left, right):
        frame["id"] = frame.id.astype("Int64")
        frame["id"] = ("key " + frame.id.astype("string")) if text else frame.id
    right["label"] = right.label.astype("Int64")
    return left, right[["id", "label", "landed"]]


def expected(left: pd.DataFrame, right: pd.DataFrame, now: datetime) -> tuple[list[Any], dict[str, int]]:
    rows, odd = [], {"duplicates": 0, "contradictions": 0, "before_prediction": 0}
    known = right[right.id.notna() & right.label.notna() & (right.landed <= now)]
    inside = left[left["at"] >= DAY]
    for at, row in inside.iterrows():
        if pd.notna(row.id) and (inside.id.loc[at + 1 :] == row.id).any():  # type: ignore[operator,misc]
            odd["duplicates"] += 1
            continue
        mine = known[known.id == row.id] if pd.notna(row.id) else known.iloc[:0]
        odd["contradictions"] += mine.label.nunique() > 1
        last = mine[mine.landed == mine.landed.max()].label.unique()
        told = len(last) == 1  # of several that landed last, at one time, none
        landed = mine.landed.min() if told else None
        odd["before_prediction"] += told and bool(landed < row["at"])
        rows.append((row["at"], bool(last[0]) if told else None, landed.to_pydatetime() if told else None))
    return sorted(rows, key=lambda each: each[0]), odd


def config(folder: Path, storage: str, left: pd.DataFrame, right: pd.DataFrame) -> dict[str, Any]:
    if storage == "parquet":
        left.to_parquet(folder / "predictions.parquet", row_group_size=4)
        right.to_parquet(folder / "labels.parquet", row_group_size=4)
        return {"path": str(folder)}
    (folder / "log.db").unlink(missing_ok=True)
    url = f"sqlite:///{folder / 'log.db'}"
    kind, stamp = sa.Text() if left.id.dtype == "string" else sa.Integer(), sa.DateTime(timezone=True)
    for table, frame, kinds in (
        ("predictions", left, {"id": kind, "score": sa.Float, "at": stamp}),
        ("labels", right, {"id": kind, "label": sa.Integer, "landed": stamp}),
    ):
        plain = frame.astype(object).where(frame.notna(), None)
        write_table(url, table, kinds, plain[list(kinds)].to_dict("records"))  # type: ignore[arg-type]
    return {"url": url}


@pytest.mark.parametrize("storage", ["parquet", "sqlite"])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    predictions=PREDICTIONS,
    labels=LABELS,
    text=st.booleans(),
    days=st.integers(1, 10),
    in_parts=st.booleans(),
    chosen_there=st.booleans(),
)
def test_labels_are_those_that_a_plain_walk_finds(
    tmp_path: Path, storage: str, predictions: Any, labels: Any, text: bool, days: int, in_parts: bool,
    chosen_there: bool,
) -> None:  # fmt: skip
    left, right = frames(predictions, labels, text=text)
    now = DAY + timedelta(days=days)
    model = ModelConfig.model_validate(MODEL)
    source = open_source("main", SourceConfig.model_validate(config(tmp_path, storage, left, right)), zone="UTC")
    with pytest.MonkeyPatch.context() as patched:
        if in_parts:
            patched.setattr(joining, "_HELD_BYTES", 1)
            patched.setattr(joining, "_GATHERED_ROWS", 1)
            patched.setattr(joining, "_SETTLE_FROM", 2)
        if chosen_there:
            patched.setattr(joining, "_WHOLE_UP_TO", 0)
        stream = source.read_labels(model, source.roles(model), WINDOW, now=now)
        rows = [row for batch in stream for row in batch.to_pylist()]
    source.close()
    wanted, odd = expected(left, right, now)
    found = [(row["__time__"], row["__label__"], row["__label_time__"]) for row in rows]
    assert sorted(found, key=lambda each: each[0]) == wanted
    assert {name: getattr(stream, name) for name in odd} == odd


def test_counts_of_many_labels_are_those_that_pandas_counts(tmp_path: Path) -> None:
    """Corrections, duplicates, contradictions and labels that come late or early, in thousands of rows."""
    rng, n = np.random.default_rng(4), 3_000
    at = DAY + pd.to_timedelta(np.sort(rng.integers(0, 86_400_000_000, n)), unit="us")
    left = pd.DataFrame({"id": rng.permutation(4 * n)[:n], "score": rng.beta(1, 3, n).round(3), "at": at})
    picked = rng.choice(n, 2 * n)
    after = pd.to_timedelta(rng.exponential(4 * 86_400_000_000, 2 * n).astype(np.int64) - 3_600_000_000, unit="us")
    right = pd.DataFrame(
        {"id": left.id.to_numpy()[picked], "label": rng.integers(0, 2, 2 * n), "landed": at[picked] + after}
    )
    strangers = right.iloc[:500].assign(id=right.id[:500] + 10**7)
    right = pd.concat([right, strangers, right.iloc[:700]], ignore_index=True)
    model, now = ModelConfig.model_validate(MODEL), DAY + timedelta(days=6)
    known = right[right.landed <= now].sort_values(["landed", "label"])
    kinds = known[known.id < 10**7].groupby("id").label.nunique()
    newest = known.drop_duplicates("id", keep="last").drop(columns="landed")
    joined = left.merge(newest, on="id", how="left").merge(known.groupby("id").landed.min(), on="id", how="left")
    odd = {"contradictions": int((kinds > 1).sum()), "before_prediction": int((joined.landed < joined["at"]).sum())}
    grid = label_counting.grid_of(model, None, WINDOW)
    ages, delays = (
        (now - joined["at"]).dt.total_seconds(),
        (joined.landed - joined["at"]).dt.total_seconds().clip(lower=0),
    )
    for storage in ("parquet", "sqlite"):
        source = open_source("main", SourceConfig.model_validate(config(tmp_path, storage, left, right)), zone="UTC")
        counted = late.count_window(source, model, source.roles(model), WINDOW, baseline=None, now=now, grid=grid)
        source.close()
        table = counted.scores[None]
        for label, of_label in ((0, table.negatives), (1, table.positives)):
            size = joined[joined.label == label].groupby("score").size().reindex(table.scores, fill_value=0)
            assert of_label.sum(axis=1).tolist() == size.tolist()
        assert table.unlabelled.sum() == joined.label.isna().sum()
        assert counted.notes == odd
        assert counted.newest == joined.landed.max()
        landed = counted.delays.landed.sum(axis=0)
        for label in (0, 1):
            mine = joined.label == label
            bins = [
                int((mine & (delays > low if place else mine) & (delays <= high) & (ages >= high)).sum())
                for place, (low, high) in enumerate(zip(grid.edges[:-1], grid.edges[1:], strict=True))
            ]
            assert landed[label].tolist() == bins
