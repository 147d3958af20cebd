"""Keys are found again by 64-bit numbers, and yet by what they are: whatever their type, and if two numbers clash."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.sources import keys

TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=20), st.sampled_from(["a", "a\0", "", "12345678", "123456789"])))
NUMBERS = st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3)))


def arrays(kind: pa.DataType, values: list[object]) -> pa.Array:
    return pa.concat_arrays([pa.array(["?"] if kind == pa.string() else [7], kind), pa.array(values, kind)])[1:]


@pytest.mark.parametrize("kind", [pa.string(), pa.int64()])
@given(data=st.data())
def test_keys_are_found_where_they_are(kind: pa.DataType, data: st.DataObject) -> None:
    drawn = TEXTS if kind == pa.string() else NUMBERS
    known = arrays(kind, list({each for each in data.draw(drawn) if each is not None}))
    asked = arrays(kind, data.draw(drawn) + known.to_pylist()[::2])
    assert keys.KeyIndex(known).places(asked).equals(pc.index_in(asked, value_set=known).cast(pa.int64()))


@pytest.mark.parametrize("kind", [pa.string(), pa.int64()])
@given(data=st.data())
def test_repeated_keys_are_marked_and_null_is_none(kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(TEXTS if kind == pa.string() else NUMBERS)
    marked = keys.repeated(arrays(kind, values))
    expected = [value is not None and values.count(value) > 1 for value in values]
    assert (marked is None) if not any(expected) else marked.tolist() == expected


def test_keys_whose_numbers_clash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "codes", lambda texts: np.full(len(texts), 5, np.uint64))
    known, asked = pa.array(["a", "b", "c"]), pa.array(["c", None, "x", "a"])
    assert keys.KeyIndex(known).places(asked).to_pylist() == [2, None, None, 0]
    assert keys.KeyIndex(known.slice(0, 1)).places(asked).to_pylist() == [None, None, None, 0]


def test_the_same_key_is_found_across_column_types() -> None:
    texts, numbers = pa.array(["5.0", "6", "x"]), pa.array([6, 5, None], pa.int32())
    assert keys.KeyIndex(keys.joined([texts])).places(keys.joined([numbers])).to_pylist() == [1, 0, None]
    assert keys.KeyIndex(keys.joined([numbers]).drop_null()).places(keys.joined([texts])).to_pylist() == [1, 0, None]
    assert keys.KeyIndex(keys.joined([texts, texts])).places(keys.joined([numbers, numbers])).to_pylist() == [
        1,
        0,
        None,
    ]
