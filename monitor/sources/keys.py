"""Keys of millions of rows, compared as 64-bit numbers first and as themselves where these are equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from monitor.sources import normal

Codes = npt.NDArray[np.uint64]
BLOCK = 1 << 14
"""Keys at once: the arrays that are made of them fit the processor's cache."""
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
    found = np.empty(len(texts), np.uint64)
    for at in range(0, len(texts), BLOCK):
        _code_texts(texts.slice(at, BLOCK), found[at : at + BLOCK])
    return found


def _code_texts(texts: pa.Array, into: Codes) -> None:
    """The codes of some texts: of eight bytes at a time, and of those that are left at the end."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32, count=len(texts) + 1, offset=4 * texts.offset).astype(np.int64)
    starts, lengths = bounds[:-1], np.diff(bounds)
    into[:] = _mixed(lengths.astype(np.uint64))
    if data is None:
        return
    length = int(lengths[0])
    if length >= _WORD.itemsize and (lengths == length).all():
        first, rest = int(bounds[0]), length % 8
        for at in range(0, length - rest, 8):
            into ^= np.ndarray(len(texts), _WORD, buffer=data, offset=first + at, strides=(length,))
            into[:] = _mixed(into)
        if rest:  # the end of the last eight bytes
            last = np.ndarray(len(texts), _WORD, buffer=data, offset=first + length - 8, strides=(length,))
            into ^= last >> np.uint64(8 * (8 - rest))
            into[:] = _mixed(into)
        return
    body = np.frombuffer(data, np.uint8)[int(bounds[0]) : int(bounds[-1])]
    body, starts = np.concatenate([body, np.zeros(8, np.uint8)]), starts - bounds[0]
    words = np.ndarray((len(body) - 7,), _WORD, buffer=body, strides=(1,))  # the word that begins at each byte
    rows: Any = slice(None)
    for at in range(0, int(lengths.max(initial=0)), 8):
        left = lengths - at
        if at and left.min() <= 0:
            rows = np.flatnonzero(left > 0)
        word = words[starts[rows] + at] & _BYTES[np.minimum(left[rows], 8)]
        into[rows] = _mixed(into[rows] ^ word)


def _letters(texts: pa.Array) -> npt.NDArray[np.uint8] | None:
    """The bytes of texts of one length, a row for each; ``None`` where they are not."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32, count=len(texts) + 1, offset=4 * texts.offset)
    length = int(bounds[1] - bounds[0]) if len(texts) else 0
    if data is None or not length or not (np.diff(bounds) == length).all():
        return None
    return np.ndarray((len(texts), length), np.uint8, buffer=data, offset=int(bounds[0]))


def _mixed(numbers: Codes) -> Codes:
    numbers = numbers * _MIX
    return numbers ^ (numbers >> np.uint64(29))


def scattered(codes: Codes) -> Codes:
    """The numbers in an order that has nothing to do with the keys', for drawing some of them evenly."""
    return _mixed(_mixed(codes) + _MIX)


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


class KeyTable:
    """Where each key of some rows is, made once and asked for many; null is no key.

    Whole numbers that lie close together are their own place in a table.  Other keys are found by their codes in a
    table of at least four times as many places, and then compared as themselves.

    Parameters
    ----------
    keys
        One for each row, as :func:`joined` makes them; several rows may have the same one.
    """

    def __init__(self, keys: pa.Array) -> None:
        self.keys, self._code = keys, codes(keys)
        self._whole = pa.types.is_integer(keys.type)
        self._spelled: KeyTable | None = None
        self._distinct: pa.Array | None = None
        self._letters: npt.NDArray[np.uint8] | None = None
        self.n_rows = len(keys)
        rows = np.arange(len(keys))
        self.first = rows
        """For each row the first one with the same key; -1 without a key."""
        if keys.null_count:
            valid = pc.is_valid(keys).to_numpy(zero_copy_only=False)
            self.first, rows = np.where(valid, rows, -1), np.flatnonzero(valid)
        ends = pc.min_max(keys).as_py() if self._whole and len(rows) else {"min": 0, "max": 2**64}
        self._lowest, self._span = ends["min"], ends["max"] - ends["min"]
        self._dense = self._span <= _LOOSE * len(rows)
        self.has_repeats = False
        if self._dense:
            self._put_at_own_places(rows)
        else:
            self._table = np.full(1 << max(4, (4 * len(rows)).bit_length()), -1, np.int32)
            self.first = self.first.copy()
            for at in range(0, len(rows), _FILLED):
                self._fill(rows[at : at + _FILLED])
            if not self._whole:
                self._check()
            self.has_repeats = bool(np.any((self.first != np.arange(len(keys))) & (self.first >= 0)))

    @property
    def is_plain(self) -> bool:
        """Whether every row has a key, and no two the same."""
        return not self.has_repeats and not self.keys.null_count

    def _put_at_own_places(self, rows: npt.NDArray[np.int64]) -> None:
        self._table = np.full(self._span + 2, -1, np.int32)
        for at in range((len(rows) - 1) // BLOCK * BLOCK, -1, -BLOCK):  # backwards: the first is put last, and stays
            some = rows[at : at + BLOCK][::-1]
            self._table[self._own_places(self._code[some])] = some
        if np.count_nonzero(self._table >= 0) < len(rows):
            self.has_repeats = True
            self.first = self.first.copy()
            self.first[rows] = self._table.take(self._own_places(self._code[rows]))

    def _own_places(self, code: Codes) -> npt.NDArray[np.int64]:
        """The place of each number in a dense table; what lies outside has the last one, which stays empty."""
        away = code - np.uint64(self._lowest % 2**64)  # what is lower wraps around, and is far outside
        return np.asarray(np.minimum(away, np.uint64(self._span + 1)).view(np.int64))

    def _slots(self, code: Codes) -> npt.NDArray[np.int64]:
        n_bits = (len(self._table) - 1).bit_length()
        return ((code * _MIX) >> np.uint64(64 - n_bits)).view(np.int64)

    def _fill(self, rows: npt.NDArray[np.int64]) -> None:
        """Put the first row of each key at its slot, or at the next one that is free."""
        slots, last = self._slots(self._code[rows]), len(self._table) - 1
        while len(rows):
            free = np.flatnonzero(self._table.take(slots) < 0)[::-1]  # backwards: the first is written last, and stays
            self._table[slots.take(free)] = rows.take(free)
            there = self._table.take(slots)
            alike = self._code.take(there) == self._code.take(rows)
            self.first[rows[alike]] = there[alike]
            left = np.flatnonzero(~alike)
            rows, slots = rows.take(left), (slots.take(left) + 1) & last

    def _check(self) -> None:
        """Make sure that keys of one code are one key."""
        again = np.flatnonzero((self.first >= 0) & (self.first != np.arange(len(self.first))))
        if not pc.all(pc.equal(self.keys.take(again), self.keys.take(self.first[again])), min_count=0).as_py():
            self._tell_apart()

    def _tell_apart(self) -> None:
        """Two different keys have one code: Arrow has to find them."""
        coded = self.keys.dictionary_encode()
        places = pc.fill_null(coded.indices, len(coded.dictionary)).to_numpy()
        self._distinct = coded.dictionary
        self._table = np.full(len(coded.dictionary) + 1, -1, np.int32)
        self._table[places[::-1]] = np.arange(len(places))[::-1]
        self._table[-1] = -1
        self.first = self._table.take(places).astype(np.int64)

    def places(self, keys: pa.Array) -> npt.NDArray[np.int64]:
        """The first row with each key; -1 where there is none."""
        if keys.type != self.keys.type:
            if pa.types.is_string(self.keys.type):
                return self.places(normal.whole_text(keys))
            self._spelled = self._spelled or KeyTable(normal.whole_text(self.keys))
            return self._spelled.places(keys)
        if self._distinct is not None:
            at = pc.fill_null(pc.index_in(keys, value_set=self._distinct), len(self._distinct))
            return np.asarray(self._table.take(at.to_numpy()), dtype=np.int64)
        code = codes(keys)
        found = np.empty(len(code), np.int64)
        for at in range(0, len(code), BLOCK):
            some = code[at : at + BLOCK]
            found[at : at + BLOCK] = self._table.take(self._own_places(some)) if self._dense else self._sought(some)
        if keys.null_count:
            found[pc.is_null(keys).to_numpy(zero_copy_only=False)] = -1
        if not self._whole:
            there = np.flatnonzero(found >= 0)
            found[there[~self._are(found[there], keys, there)]] = -1
        return found

    def _are(self, rows: npt.NDArray[np.int64], keys: pa.Array, there: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether the keys of these rows are the texts of those that were asked for, places ``there`` among them."""
        if self._letters is None:
            self._letters = _letters(self.keys)
        mine, theirs = self._letters, _letters(keys)
        if mine is None or theirs is None or mine.shape[1] != theirs.shape[1]:
            same = pc.equal(self.keys.take(rows), keys if len(there) == len(keys) else keys.take(there))
            return np.asarray(same.to_numpy(zero_copy_only=False), dtype=bool)
        found = np.empty(len(rows), bool)
        for at in range(0, len(rows), BLOCK):
            some = slice(at, at + BLOCK)
            one, other = mine.take(rows[some], axis=0), theirs.take(there[some], axis=0)
            found[some] = True if np.array_equal(one, other) else (one == other).all(axis=1)
        return found

    def _sought(self, code: Codes) -> npt.NDArray[np.int64]:
        found, asked = np.full(len(code), -1), np.arange(len(code))
        slots, last = self._slots(code), len(self._table) - 1
        while len(asked):
            there = self._table.take(slots)
            taken = there >= 0
            alike = taken & (self._code.take(there) == code) if len(self._code) else taken
            found[asked[alike]] = there[alike]
            left = np.flatnonzero(taken & ~alike)
            asked, slots, code = asked.take(left), (slots.take(left) + 1) & last, code.take(left)
        return found


_FILLED = 1 << 16
_LOOSE = 4
"""Whole numbers have a table of their own places where it needs at most so many for each."""
