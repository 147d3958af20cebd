"""Counting by segment gives what counting the rows of each segment by themselves gives."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wild_values import integers

from detectors.edges import EdgeBuilder
from detectors.kernel import sort_rows
from detectors.profiles import CategoricalSpec, ColumnSpec, NumericProfile, NumericSpec
from monitor import counting

AWKWARD = [0.0, -0.0, 5e-324, 1.0, 1.0 + 2**-52, 0.1, 1e308, -1e308, 2.0**53, math.nan, -math.nan, math.inf, -math.inf]
number = st.one_of(st.none(), st.sampled_from(AWKWARD), st.integers(-3, 3).map(float), st.floats(-5, 5, width=32))
word = st.sampled_from([None, "a", "b", "", "new", "(other)"])
flag = st.sampled_from([None, True, False])
rows = st.lists(st.tuples(number, word, st.sampled_from([None, "x", "y", "z", "w", "(other)"]), flag), max_size=60)
SPLITS = {"by": ["x", "y", "never"], "flag": ["true"]}


def spec_of(values: object, **options: int) -> NumericSpec:
    builder = EdgeBuilder(**options)
    builder.update(values)  # type: ignore[arg-type]
    spec = builder.spec()
    assert spec is not None
    return spec


SPECS: dict[str, ColumnSpec] = {
    "number": spec_of([0.0] * 30 + [0.1] * 40 + [1.0, 2.0, 2.0, -2.0, 1e308, 2.0**53] * 5),
    "word": CategoricalSpec(("a", "b", "")),
}


def table(of: list[tuple[object, ...]], *, with_null: bool = False) -> pa.Table:
    """``with_null`` puts the missing segment values into the dictionary, as some writers do."""
    by = pa.array([row[2] for row in of], pa.string())
    return pa.table(
        {
            "number": pa.array([row[0] for row in of], pa.float64()),
            "word": pa.array([row[1] for row in of], pa.string()),
            "by": by.dictionary_encode(null_encoding="encode" if with_null else "mask"),
            "flag": pa.array([row[3] for row in of], pa.bool_()),
        }
    )


def apart(of: pa.Table, column: str, known: list[str]) -> dict[str, pa.Table]:
    """The rows of each segment, by the book."""
    told = ["true" if v is True else "false" if v is False else v for v in of.column(column).to_pylist()]
    names = [None if v is None else v if v in known else "(other)" for v in told]
    return {f"{column}={name}": of.filter(pa.array([n == name for n in names])) for name in set(names) - {None}}


def hold(of: pa.Table, batches: list[pa.RecordBatch], specs: dict[str, ColumnSpec]) -> None:
    seen = counting.count(batches, specs, segments=SPLITS, threads=1)
    expected = {name: part for column, known in SPLITS.items() for name, part in apart(of, column, known).items()}
    expected["all rows"] = of
    assert seen.segments.keys() == expected.keys() - {"all rows"}
    for name, part in expected.items():
        alone = counting.count(part.combine_chunks().to_batches(), specs, threads=1).columns
        for column, profile in (seen.segments | {"all rows": seen.columns})[name].items():
            assert integers(profile) == integers(alone[column]), (name, column)
            if isinstance(profile, NumericProfile):
                same_moments(profile, alone[column])


def same_moments(one: NumericProfile, other: object) -> None:
    assert isinstance(other, NumericProfile)
    for what in ("minimum", "maximum"):
        ours, theirs = getattr(one, what), getattr(other, what)
        assert (ours == theirs and math.copysign(1, ours) == math.copysign(1, theirs)) or math.isnan(ours + theirs)
    scale = max(abs(other.minimum), abs(other.maximum)) if other.n_finite else 0.0
    for what in ("mean", "low_sum", "high_sum"):
        # The mean of 0 and the smallest number there is is rounded to either, by the order of the sums.
        near = pytest.approx(getattr(other, what), rel=1e-12, abs=1e-12 * scale + 5e-324, nan_ok=True)
        assert getattr(one, what) == near, what
    if math.isfinite(other.m2) and math.isfinite(one.m2):
        assert one.m2 == pytest.approx(other.m2, rel=1e-12, abs=1e-12 * scale * scale, nan_ok=True)


@settings(max_examples=150, deadline=None)
@given(
    of=rows,
    cuts=st.lists(st.integers(0, 60), max_size=3),
    order=st.randoms(use_true_random=False),
    with_null=st.booleans(),
)
@example(of=[(math.nan, None, "x", None)], cuts=[], order=None, with_null=False)
@example(of=[(math.inf, "a", "x", True), (-math.inf, "a", "x", False)], cuts=[], order=None, with_null=True)
def test_each_segment_is_counted_as_if_its_rows_were_alone(of, cuts, order, with_null):
    whole = table(of, with_null=with_null)
    shuffled = list(of)
    if order is not None:
        order.shuffle(shuffled)
    places = sorted({0, len(of), *(min(cut, len(of)) for cut in cuts)})
    parts = [table(shuffled[a:b], with_null=with_null) for a, b in pairwise(places)]
    hold(whole, [batch for part in parts for batch in part.combine_chunks().to_batches()], SPECS)


@pytest.mark.parametrize("rows_in_a_batch", [500, 20_000], ids=["fewer rows than cells", "more rows than cells"])
@pytest.mark.parametrize("step", [0.0, 0.01, 1e-13], ids=["continuous", "rounded", "alike but for the last bits"])
def test_many_rows_over_many_edges_are_counted_as_if_alone(step, rows_in_a_batch):
    rng = np.random.default_rng(7)
    values = rng.normal(size=20_000)
    values = 1.0 + np.round(values * 3) * step if step == 1e-13 else np.round(values, 2) if step else values
    values[rng.random(20_000) < 0.02] = np.nan
    by = rng.choice(["x", "y", "z", "w"], 20_000).tolist()
    of = pa.table({"number": values, "by": by, "flag": rng.random(20_000) < 0.1})
    of = of.set_column(1, "by", pa.array(by, mask=rng.random(20_000) < 0.05))
    spec = spec_of(values[np.isfinite(values)][:5000])
    hold(of, of.combine_chunks().to_batches(max_chunksize=rows_in_a_batch), {"number": spec})


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(AWKWARD), st.floats(), st.floats(1, 1 + 1e-13)), max_size=200))
def test_rows_are_sorted_by_value_with_missing_ones_last(values):
    array = np.array(values, dtype=np.float64)
    rows_by_value, ordered = sort_rows(array)
    assert sorted(rows_by_value.tolist()) == list(range(len(values)))
    present = np.sort(array[~np.isnan(array)])
    assert ordered.tolist() == present.tolist()
    assert array[rows_by_value[: len(present)]].tolist() == present.tolist()
    assert np.isnan(array[rows_by_value[len(present) :]]).all()
    assert np.array_equal(array, np.array(values, dtype=np.float64), equal_nan=True)
