"""Keys are found again by 64-bit numbers, and yet by what they are: whatever their type, and if two numbers clash."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.sources import keys

TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=20), st.sampled_from(["a", "a\0", "", "12345678", "123456789"])))
CLOSE = st.lists(st.one_of(st.none(), st.integers(-9, 9)))
NUMBERS = st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3)))


def arrays(kind: pa.DataType, values: list[object]) -> pa.Array:
    return pa.concat_arrays([pa.array(["?"] if kind == pa.string() else [7], kind), pa.array(values, kind)])[1:]


def expected(known: list[object], asked: list[object]) -> list[int]:
    return [known.index(each) if each is not None and each in known else -1 for each in asked]


@pytest.mark.parametrize("kind", [pa.string(), pa.int64()])
@settings(deadline=None)
@given(data=st.data())
def test_keys_are_found_where_they_are(kind: pa.DataType, data: st.DataObject) -> None:
    drawn = TEXTS if kind == pa.string() else data.draw(st.sampled_from([NUMBERS, CLOSE]))
    known = data.draw(drawn)
    asked = data.draw(drawn) + known[::2]
    table = keys.KeyTable(arrays(kind, known))
    assert table.places(arrays(kind, asked)).tolist() == expected(known, asked)
    assert table.first.tolist() == expected(known, known)
    assert table.has_repeats is (len({each for each in known if each is not None}) < sum(k is not None for k in known))


@pytest.mark.parametrize("loose", [0, 4])
def test_many_keys_are_found_whether_close_or_far_apart(monkeypatch: pytest.MonkeyPatch, loose: int) -> None:
    monkeypatch.setattr(keys, "_LOOSE", loose)
    rng = np.random.default_rng(3)
    for known in (rng.permutation(50_000) - 20_000, rng.integers(-(2**63), 2**63 - 1, 50_000)):
        known[:100] = known[100:200]
        first = {each: at for at, each in reversed(list(enumerate(known.tolist())))}
        asked = np.concatenate([known[::3], known[:1000] + 1, [-(2**63), 2**63 - 1]])
        table = keys.KeyTable(pa.array(known))
        assert table.places(pa.array(asked)).tolist() == [first.get(each, -1) for each in asked.tolist()]
        texts = keys.KeyTable(pa.array(known.astype(str)))
        assert texts.first.tolist() == table.first.tolist() == [first[each] for each in known.tolist()]


@pytest.mark.parametrize("kind", [pa.string(), pa.int64()])
@settings(deadline=None)
@given(data=st.data())
def test_repeated_keys_are_marked_and_null_is_none(kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(TEXTS if kind == pa.string() else NUMBERS)
    marked = keys.repeated(arrays(kind, values))
    expected = [value is not None and values.count(value) > 1 for value in values]
    assert (marked is None) if not any(expected) else marked.tolist() == expected


def test_keys_whose_numbers_clash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "codes", lambda texts: np.full(len(texts), 5, np.uint64))
    known, asked = pa.array(["a", "b", None, "c", "b"]), pa.array(["c", None, "x", "a", "b"])
    table = keys.KeyTable(known)
    assert table.places(asked).tolist() == [3, -1, -1, 0, 1]
    assert table.first.tolist() == [0, 1, -1, 3, 1]
    assert table.has_repeats
    assert keys.KeyTable(known.slice(0, 1)).places(asked).tolist() == [-1, -1, -1, 0, -1]


def test_the_same_key_is_found_across_column_types() -> None:
    texts, numbers = pa.array(["5.0", "6", "x"]), pa.array([6, 5, None], pa.int32())
    assert keys.KeyTable(keys.joined([texts])).places(keys.joined([numbers])).tolist() == [1, 0, -1]
    assert keys.KeyTable(keys.joined([numbers])).places(keys.joined([texts])).tolist() == [1, 0, -1]
    assert keys.KeyTable(keys.joined([texts, texts])).places(keys.joined([numbers, numbers])).tolist() == [1, 0, -1]
