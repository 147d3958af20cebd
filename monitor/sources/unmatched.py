"""Labels whose id no prediction has, and how old the others are: a bounded sample of those that landed in a window."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
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

    Predictions are looked for from ``since`` on; ``ages`` are how long after theirs the other labels landed.
    """

    n_landed: int
    n_checked: int
    n_unmatched: int
    since: datetime
    ages: tuple[timedelta, ...] = ()


class Drawn:
    """The ids with the smallest hashes: the same ones whatever the order of the rows, each as likely as any other."""

    def __init__(self, n: int = SAMPLE) -> None:
        self._n = n
        self._marks: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._ids: _Ids = []
        self._landed: list[Any] = []
        self.n_rows = 0

    def add(self, parts: list[pa.Array], landed: pa.Array) -> None:
        """Take in the rows of one batch: the columns of their id, and when they landed.

        A row without an id is left out; of an id that comes twice one row counts.
        """
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
        moments = landed.take(pa.array(places[first])).to_pylist()
        whole, at = np.unique(np.concatenate([self._marks, marks[: self._n]]), return_index=True)
        kept = at[: self._n].tolist()
        together, when = self._ids + ids, self._landed + moments
        self._marks = whole[: self._n]
        self._ids, self._landed = [together[place] for place in kept], [when[place] for place in kept]

    @property
    def ids(self) -> _Ids:
        return self._ids

    def looked_up(self, found: Iterable[tuple[_Ids, Iterable[datetime | None]]]) -> tuple[int, tuple[timedelta, ...]]:
        """How many ids no prediction has, and how old the labels of the others are.

        ``found`` are ids of predictions and when these were made; of several of one id the first counts. The same id is
        the same text whatever the types of its columns.
        """
        there: dict[tuple[str, ...], datetime] = {}
        for ids, moments in found:
            for each, moment in zip(ids, moments, strict=True):
                if moment is not None:
                    spelled = _spelled(each)
                    there[spelled] = min(moment, there.get(spelled, moment))
        asked = [there.get(_spelled(each)) for each in self._ids]
        ages = [landed - made for landed, made in zip(self._landed, asked, strict=True) if made is not None]
        return sum(each is None for each in asked), tuple(ages)


def _spelled(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(normal.canonical(value) for value in values)
