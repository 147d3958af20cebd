"""The newest label of each prediction, however labels come: once each, twice in one batch, or in two."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from monitor.sources import times
from monitor.sources.joining import LatestLabels
from monitor.sources.keys import KeyTable

N = 3000
DAY = 86_400_000_000


@pytest.mark.parametrize("again", ["never", "in the same batch", "in a later batch"])
def test_the_newest_label_counts_and_is_dated_by_the_first(again: str) -> None:
    rng = np.random.default_rng(3)
    keys = rng.permutation(N)[: N - 500]  # of five hundred there is no prediction
    batches = [(part, rng.random(len(part)) < 0.4, DAY + rng.integers(0, DAY, len(part))) for part in
               np.array_split(rng.permutation(N), 4)]  # fmt: skip
    if again != "never":
        at = 1 if again == "in the same batch" else 2
        some, label, landed = (part[:200] for part in batches[1])
        more = (some, ~label, landed + DAY)
        batches[at] = tuple(np.concatenate([one, two]) for one, two in zip(batches[at], more, strict=True))  # type: ignore[assignment]
    latest = LatestLabels(KeyTable(pa.array(keys)), pa.bool_())
    told: dict[int, tuple[bool, int]] = {}
    for some, label, landed in batches:
        latest.take_in(pa.array(some), pa.array(label), pa.array(landed).cast(times.UTC_US))
        for key, what, when in zip(some.tolist(), label.tolist(), landed.tolist(), strict=True):
            told[key] = (what, told[key][1]) if key in told else (what, when)
    labels, landed = latest.of(0, len(keys))
    assert labels.to_pylist() == [told[key][0] for key in keys.tolist()]
    assert landed.cast(pa.int64()).to_pylist() == [told[key][1] for key in keys.tolist()]
    twice = 0 if again == "never" else len(set(batches[1][0][:200].tolist()) & set(keys.tolist()))
    assert latest.contradictions == twice
    assert latest.n_known == len(keys) + twice
