"""Labels whose id no prediction has: looked for in a bounded sample of those that landed in a window."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from monitor.sources import keys, normal

SAMPLE = 500
"""So many ids are looked up: enough to tell 5 % from 10 %, and one statement."""
_Ids = list[tuple[Any, ...]]


class Unmatched(NamedTuple):
    """Labels that landed in a window, how many ids of them were looked up, and how many no prediction has.

    Predictions are looked for from ``since`` on.
    """

    n_landed: int
    n_checked: int
    n_unmatched: int
    since: datetime


class Drawn:
    """The ids with the smallest hashes: the same ones whatever the order of the rows, each as likely as any other."""

    def __init__(self, n: int = SAMPLE) -> None:
        self._n = n
        self._marks: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._ids: _Ids = []
        self.n_rows = 0

    def add(self, parts: list[pa.Array]) -> None:
        """Take in the rows of one batch, given by the columns of their id; a row without an id is left out."""
        known = np.logical_and.reduce([part.is_valid().to_numpy(zero_copy_only=False) for part in parts])
        places = np.flatnonzero(known)
        self.n_rows += len(places)
        if not len(places):
            return
        parts = [part.take(pa.array(places)) for part in parts]
        marks = keys.scattered(keys.codes(keys.joined(parts)))
        marks, first = np.unique(marks, return_index=True)
        first = first[: self._n]
        ids = list(zip(*(part.take(pa.array(first)).to_pylist() for part in parts), strict=True))
        whole, at = np.unique(np.concatenate([self._marks, marks[: self._n]]), return_index=True)
        together = self._ids + ids
        self._marks, self._ids = whole[: self._n], [together[place] for place in at[: self._n].tolist()]

    @property
    def ids(self) -> _Ids:
        return self._ids


def missing_of(ids: _Ids, found: Iterable[_Ids]) -> int:
    """How many of the ids are not among those found; the same id is the same text whatever the types of its columns."""
    there = {_spelled(each) for batch in found for each in batch}
    return sum(_spelled(each) not in there for each in ids)


def _spelled(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(normal.canonical(value) for value in values)
