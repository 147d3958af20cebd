"""Which class was predicted and which came true, as counts that add up.

At most ``MAX_CLASSES`` classes are counted by name, the most frequent ones; the rest are together.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np

from detectors import score_labels
from detectors.development import landing_bins
from detectors.profiles import FloatArray, IntArray, ProfileError
from detectors.score_labels import ScoreLabelCounter, ScoreLabels

MAX_CLASSES = 100
_HEADER = struct.Struct("<4sBI")
_MAGIC = b"CLSS"
_VERSION = 2
_G = 1 << 13
_OTHER, _NONE = _G - 2, _G - 1
"""Numbers of "a class beyond those counted by name" and of "no label" or "no predicted class" while counting."""


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """How often each class was predicted and came true; of several groups of predictions the counts add up.

    Parameters
    ----------
    classes
        Names in order, at most ``MAX_CLASSES``.  K is their number; place K stands for all other classes together and
        K + 1 for "none": not labelled, or nothing predicted.
    cells
        Rows of (landing bin, true class, predicted class, count), shape ``(M, 4)``; unlabelled predictions are in the
        bin after the last one.
    other_hits
        Labelled predictions that were right although their class is among the others.
    edges
        Landing times after the window's end, in seconds; see :func:`detectors.development.landing_bins`.
    probabilities
        Class → its predicted probability by "is it that class" and "was it predicted".
    loss
        Labelled predictions whose class has a probability, Σ and Σ² of its negative logarithm.
    """

    classes: tuple[str, ...]
    cells: IntArray
    other_hits: int
    edges: FloatArray
    probabilities: Mapping[str, ScoreLabels] = field(default_factory=dict)
    loss: tuple[int, float, float] = (0, 0.0, 0.0)
    loss_by_age: FloatArray | None = None
    """For each landing bin so many of these labels, and Σ of their negative logarithm, ``(A + 1, 2)``."""

    @property
    def size(self) -> int:
        return len(self.classes)

    @property
    def n(self) -> int:
        """Predictions, labelled or not."""
        return int(self.cells[:, 3].sum())

    @property
    def n_labelled(self) -> int:
        return int(self.cells[self.cells[:, 1] <= self.size, 3].sum())

    @property
    def label_coverage(self) -> float | None:
        """The share of predictions whose label has landed; ``None`` without predictions."""
        return self.n_labelled / self.n if self.n else None

    def table(self, part: FloatArray | None = None) -> FloatArray:
        """Counts by true and predicted class, "others" and "none" last, shape ``(K + 2, K + 2)``.

        With ``part`` (the part of each landing bin to be counted, shape ``(A + 1,)``) of the labels landed by then.
        """
        size = self.size + 2
        weight = self.cells[:, 3].astype(float)
        true = self.cells[:, 1]
        found = np.zeros((size, size))
        if part is not None:
            known = true <= self.size
            seen = np.where(known, np.append(part, 1.0)[self.cells[:, 0]], 1.0)
            # What has not landed yet is a prediction without a label.
            np.add.at(found, (np.full(len(true), size - 1), self.cells[:, 2]), weight * (1 - seen))
            weight = weight * seen
        np.add.at(found, (true, self.cells[:, 2]), weight)
        return found

    def coarsen(self, max_scores: int = 500) -> ClassCounts:
        """The same counts with at most so many distinct probabilities a class, for keeping."""
        kept = {name: counts.coarsen(max_scores) for name, counts in self.probabilities.items()}
        return replace(self, probabilities=kept)


def empty(edges: FloatArray) -> ClassCounts:
    """The counts of no predictions: the neutral element of :func:`merge`."""
    return ClassCounts((), np.zeros((0, 4), np.int64), 0, edges)


class ClassCounter:
    """Counts predicted and true classes batch by batch; the order of rows and batches does not matter."""

    def __init__(self, edges: FloatArray, probabilities: Sequence[str] = ()) -> None:
        self._edges = edges
        self._places: dict[str, int] = {}
        self._cells: dict[int, int] = {}
        buffer = max(2**19 // max(len(probabilities), 1), 4096)
        self._probabilities = {name: ScoreLabelCounter(buffer_rows=buffer) for name in probabilities}
        self._loss = (0, 0.0, 0.0)
        self._loss_by_age = np.zeros((len(edges) + 1, 2))

    def update(
        self,
        names: Sequence[str],
        labels: IntArray,
        predicted: IntArray,
        landed: FloatArray,
        probabilities: Mapping[str, FloatArray] | None = None,
    ) -> None:
        """Count one batch.

        Parameters
        ----------
        names
            Classes that occur in the batch.
        labels, predicted
            Places in ``names``, -1 for none, shape ``(n,)``.
        landed
            When each label landed, in seconds after the end of the window; NaN where that is not known.
        probabilities
            Class → its predicted probability, shape ``(n,)``, NaN for none.
        """
        place = np.array([*(self._place(name) for name in names), _NONE], dtype=np.int64)
        true, said = place[labels], place[predicted]
        bins = np.where(true == _NONE, len(self._edges) + 1, landing_bins(landed, self._edges))
        keys, counts = np.unique((bins * _G + true) * _G + said, return_counts=True)
        for key, n in zip(keys.tolist(), counts.tolist(), strict=True):
            self._cells[key] = self._cells.get(key, 0) + n
        given = np.full(len(true), np.nan)
        for name, values in (probabilities or {}).items():
            mine = self._places.get(name, -1)
            is_it = np.where(true == _NONE, np.nan, (true == mine).astype(float))
            was_it = np.where(said == _NONE, np.nan, (said == mine).astype(float))
            self._probabilities[name].update(values, was_it, is_it)
            given = np.where(true == mine, values, given)
        held = given[np.isfinite(given)]
        loss = -np.log(np.clip(held, np.finfo(np.float64).eps, 1.0))
        when = bins[np.isfinite(given)]
        for column, weights in enumerate((None, loss)):
            self._loss_by_age[:, column] += np.bincount(when, weights=weights, minlength=len(self._edges) + 1)
        self._loss = tuple(
            map(sum, zip(self._loss, (len(held), float(loss.sum()), float((loss * loss).sum())), strict=True))
        )  # type: ignore[assignment]

    def _place(self, name: str) -> int:
        if name not in self._places and len(self._places) >= _OTHER:
            return _OTHER  # free text, or numbers: a class each
        return self._places.setdefault(name, len(self._places))

    def counts(self) -> ClassCounts:
        """What has been counted so far."""
        keys = np.array(list(self._cells), dtype=np.int64)
        counts = np.array(list(self._cells.values()), dtype=np.int64)
        cells = np.stack([keys // (_G * _G), keys // _G % _G, keys % _G, counts], axis=1).reshape(-1, 4)
        found = _pooled(list(self._places), cells, 0, self._edges)
        told = {name: counter.counts() for name, counter in self._probabilities.items()}
        return replace(found, probabilities=told, loss=self._loss, loss_by_age=self._loss_by_age)


def _pooled(names: Sequence[str], cells: IntArray, hits: int, edges: FloatArray) -> ClassCounts:
    """Cells over ``names`` (``_OTHER`` and ``_NONE`` beyond them) on the most frequent classes, in order of name."""
    weight = np.zeros(_G, np.int64)
    for column in (1, 2):
        np.add.at(weight, cells[:, column], cells[:, 3])
    ranked = sorted(range(len(names)), key=lambda at: (-int(weight[at]), names[at]))[:MAX_CLASSES]
    kept = sorted((names[at], at) for at in ranked if weight[at])
    size = len(kept)
    to = np.full(_G, size, np.int64)
    to[_NONE] = size + 1
    for place, (_, at) in enumerate(kept):
        to[at] = place
    true, said = cells[:, 1], cells[:, 2]
    alike = (true == said) & (true < _OTHER) & (to[true] == size)
    hits += int(cells[alike, 3].sum())
    moved = np.stack([cells[:, 0], to[true], to[said]], axis=1)
    distinct, inverse = np.unique(moved, axis=0, return_inverse=True)
    counts = np.zeros(len(distinct), np.int64)
    np.add.at(counts, inverse.reshape(-1), cells[:, 3])
    together = np.concatenate([distinct, counts[:, None]], axis=1)
    return ClassCounts(tuple(name for name, _ in kept), together, hits, edges)


def merge(first: ClassCounts, second: ClassCounts) -> ClassCounts:
    """The counts of the predictions of both; exact while both together have no more than ``MAX_CLASSES`` classes.

    Raises
    ------
    ProfileError
        The two were counted over different landing bins.
    """
    if not np.array_equal(first.edges, second.edges):
        raise ProfileError("classes were counted over different landing bins")
    names = sorted({*first.classes, *second.classes})
    parts = []
    for counts in (first, second):
        to = np.array([*(names.index(name) for name in counts.classes), _OTHER, _NONE], dtype=np.int64)
        parts.append(np.stack([counts.cells[:, 0], to[counts.cells[:, 1]], to[counts.cells[:, 2]],
                               counts.cells[:, 3]], axis=1))  # fmt: skip
    found = _pooled(names, np.concatenate(parts), first.other_hits + second.other_hits, first.edges)
    told = {
        name: score_labels.merge_all(c.probabilities[name] for c in (first, second) if name in c.probabilities)
        for name in sorted({*first.probabilities, *second.probabilities})
    }
    loss = tuple(a + b for a, b in zip(first.loss, second.loss, strict=True))
    by_age = [counts.loss_by_age for counts in (first, second) if counts.loss_by_age is not None]
    together = np.add.reduce(by_age) if by_age else None
    return replace(found, probabilities=told, loss=loss, loss_by_age=together)  # type: ignore[arg-type]


def merge_all(parts: Iterable[ClassCounts], edges: FloatArray) -> ClassCounts:
    """The counts of all parts; of none, the empty counts."""
    return reduce(merge, parts, empty(edges))


def to_bytes(counts: ClassCounts) -> bytes:
    """Pack for storage; :func:`from_bytes` gives the same counts back, on any machine."""
    blobs = {name: score_labels.to_bytes(each) for name, each in counts.probabilities.items()}
    head = {
        "classes": counts.classes,
        "other_hits": counts.other_hits,
        "loss": counts.loss,
        "loss_by_age": None if counts.loss_by_age is None else counts.loss_by_age.tolist(),
        "edges": counts.edges.tolist(),
        "cells": len(counts.cells),
        "probabilities": {name: len(blob) for name, blob in blobs.items()},
    }
    text = json.dumps(head, allow_nan=False).encode()
    body = zlib.compress(text + counts.cells.T.astype("<i8").tobytes(), 6)
    return _HEADER.pack(_MAGIC, _VERSION, len(text)) + struct.pack("<I", len(body)) + body + b"".join(blobs.values())


def from_bytes(blob: bytes) -> ClassCounts:
    """Unpack what :func:`to_bytes` packed.

    Raises
    ------
    ProfileError
        The bytes are damaged, of something else, or of a newer version.
    """
    try:
        magic, version, n_text = _HEADER.unpack_from(blob)
        if magic != _MAGIC or version != _VERSION:
            raise ProfileError(f"expected counts of classes of version {_VERSION}, found {magic!r} {version}")
        (n_body,) = struct.unpack_from("<I", blob, _HEADER.size)
        at = _HEADER.size + 4
        body = zlib.decompress(blob[at : at + n_body])
        head = json.loads(body[:n_text])
        cells = np.frombuffer(body, "<i8", 4 * head["cells"], n_text).reshape(4, -1).T.astype(np.int64)
        at += n_body
        told = {}
        for name, length in head["probabilities"].items():
            told[name] = score_labels.from_bytes(blob[at : at + length])
            at += length
    except (struct.error, zlib.error, ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(f"these {len(blob)} bytes are not counts of classes: {error}") from error
    return ClassCounts(
        tuple(head["classes"]),
        np.ascontiguousarray(cells),
        int(head["other_hits"]),
        np.array(head["edges"], dtype=np.float64),
        told,
        tuple(head["loss"]),
        None if head["loss_by_age"] is None else np.array(head["loss_by_age"], dtype=np.float64),
    )
