"""Keys of millions of rows, compared as 64-bit numbers first and as themselves where these are equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from monitor.sources import normal

Codes = npt.NDArray[np.uint64]
PREFIX = "__key"
"""What the columns of a key begin with in a scan."""
_WORD = np.dtype("<u8")
_MIX = np.uint64(0x9E3779B97F4A7C15)
_BYTES = np.array([2 ** (8 * n) - 1 for n in range(9)], np.uint64)
"""Masks that keep the first 0 to 8 bytes of a word."""


def joined(parts: list[Any]) -> pa.Array:
    """One key for each row: a whole number where the key is one column of such, else one text, null where a part is.

    The same key is the same text whatever the column types; numbers equal each other where their texts do.
    """
    plain = [normal.storage(part) for part in parts]
    if len(plain) > 1:
        return pc.binary_join_element_wise(*map(normal.whole_text, plain), "\x1f")
    only = plain[0]
    whole = pa.types.is_integer(only.type) and not pa.types.is_uint64(only.type)
    return only.cast(pa.int64()) if whole else normal.whole_text(only)


def codes(keys: pa.Array) -> Codes:
    """A number for each key, of whole numbers or texts: equal for equal keys, and hardly ever for different ones."""
    if pa.types.is_integer(keys.type):
        return np.asarray(pc.fill_null(keys, 0).to_numpy(), dtype=np.int64).view(np.uint64)
    texts = pc.fill_null(keys, "") if keys.null_count else keys
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32, count=len(texts) + 1, offset=4 * texts.offset).astype(np.int64)
    starts, lengths = bounds[:-1], np.diff(bounds)
    body = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    body = np.concatenate([body[: int(bounds[-1])], np.zeros(8, np.uint8)])
    words = np.ndarray((len(body) - 7,), _WORD, buffer=body, strides=(1,))  # the word that begins at each byte
    found = _mixed(lengths.astype(np.uint64))
    rows: Any = slice(None)
    for at in range(0, int(lengths.max(initial=0)), 8):
        left = lengths - at
        if at and left.min() <= 0:
            rows = np.flatnonzero(left > 0)
        word = words[starts[rows] + at] & _BYTES[np.minimum(left[rows], 8)]
        found[rows] = _mixed(found[rows] ^ word)
    return found


def _mixed(numbers: Codes) -> Codes:
    numbers = numbers * _MIX
    return numbers ^ (numbers >> np.uint64(29))


def repeated(keys: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Mark the keys that occur more than once; ``None`` where none does.  Null is no key.

    A different key may be marked with them, as one in some billions is.
    """
    code = codes(keys)
    valid = pc.is_valid(keys).to_numpy(zero_copy_only=False) if keys.null_count else None
    ordered = np.sort(code if valid is None else code[valid])
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return None
    twice = twice[np.concatenate([[True], twice[1:] != twice[:-1]])]
    place = np.minimum(np.searchsorted(twice, code), len(twice) - 1)
    found = twice[place] == code
    return np.asarray(found if valid is None else found & valid)


class KeyIndex:
    """Where each of some distinct keys is, made once and asked for many; null is no key."""

    def __init__(self, keys: pa.Array) -> None:
        self._keys = keys
        self._spelled: KeyIndex | None = None
        code = codes(keys)
        self._order = np.argsort(code)
        self._codes = code[self._order]
        self._clash = bool((self._codes[1:] == self._codes[:-1]).any())

    def places(self, keys: pa.Array) -> pa.Array:
        """The place of each key, int64; null where it is not among them."""
        if keys.type != self._keys.type:
            if pa.types.is_string(self._keys.type):
                return self.places(normal.whole_text(keys))
            self._spelled = self._spelled or KeyIndex(normal.whole_text(self._keys))
            return self._spelled.places(keys)
        if self._clash:
            return pc.index_in(keys, value_set=self._keys).cast(pa.int64())
        if not len(self._codes):
            return pa.nulls(len(keys), pa.int64())
        code = codes(keys)
        order = np.argsort(code)  # searched in order, neighbours are near in memory
        found = np.empty(len(code), np.int64)
        found[order] = np.searchsorted(self._codes, code[order])
        found = self._order[np.minimum(found, len(self._codes) - 1)]
        same = pc.fill_null(pc.equal(self._keys.take(pa.array(found)), keys), False)
        return pa.array(found, mask=~same.to_numpy(zero_copy_only=False))
