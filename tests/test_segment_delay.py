"""The delay law of a segment: its own where its labels have shown it, that of all where they have not."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

from benchmarks.delay import EDGES, LAWS, NOW, WORLD, Rows, delays, landed, rows
from detectors.corrected import corrected
from detectors.delay import learn
from detectors.delay_counts import DelayCounts, count_delays, merge
from detectors.segment_delay import SegmentLaw, of_segment

DAY = 86400.0
DAYS = np.arange(NOW - 100, NOW)


def part_of(rng: np.random.Generator, day: float, n: int, *, slow: float) -> Rows:
    """Rows of one segment on one day, whose labels take ``slow`` times as long."""
    part = rows(rng, LAWS["by class"], days=np.array([day]), per_day=n)
    return replace(part, delay=part.delay * slow)


def in_one_stratum(part: Rows) -> DelayCounts:
    age = NOW - part.day
    seen = part.delay <= age
    return count_delays(
        np.where(seen, part.delay * DAY, np.nan), np.where(seen, part.labels, np.nan), age * DAY, edges=EDGES
    )


def together(*parts: Rows) -> Rows:
    names = ("day", "strata", "labels", "delay", "scores")
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def laws(seed: int, *, slow: float, n: int) -> tuple[np.random.Generator, SegmentLaw, SegmentLaw]:
    """The law of a segment of n rows a day among 800 others, with its own delays and without."""
    rng = np.random.default_rng(seed)
    mine = [part_of(rng, day, n, slow=slow) for day in DAYS]
    windows = [delays(together(part, part_of(rng, day, 800, slow=1.0))) for part, day in zip(mine, DAYS, strict=True)]
    law = learn(reduce(merge, windows), windows=windows, times=list(DAYS), target=NOW - 10)
    own = [in_one_stratum(part) for part in mine]
    return rng, *(of_segment(law, each, weights=np.ones((len(WORLD.decisions), 2))) for each in (own, []))


def test_a_segment_whose_labels_take_twice_as_long_is_corrected_by_its_own_law() -> None:
    rng, own, of_all = laws(1, slow=2.0, n=300)
    assert own.own > 0.5
    assert of_all.own == 0.0
    at = np.array([10 * DAY])
    truth = 1 - np.exp(-10 / 2 / 6)
    assert own.law.at(at)[0, :, 1].mean() == pytest.approx(truth, abs=0.06)
    assert of_all.law.at(at)[0, :, 1].mean() > truth + 0.1
    held, errors = 0, {"own": [], "of all": []}
    for _ in range(20):
        part = part_of(rng, NOW - 20, 1500, slow=2.0)
        truth = part.labels[WORLD.decisions[part.strata] == 1].mean()
        found = corrected(landed(part), own.law, level=0.9)["precision"]
        held += (found.low or 0) <= truth <= (found.high or 1)
        errors["own"].append(abs((found.value or 0) - truth))
        errors["of all"].append(abs((corrected(landed(part), of_all.law)["precision"].value or 0) - truth))
    assert held >= 14, "18 expected of 20"
    assert np.mean(errors["own"]) < 0.75 * np.mean(errors["of all"])


def test_a_segment_like_the_others_gets_their_law_and_a_wider_interval_until_it_has_shown_its_own() -> None:
    rng, own, of_all = laws(2, slow=1.0, n=40)
    whole = np.abs(own.law.share - of_all.law.share)
    assert whole.max() < 0.12
    assert own.law.clock[1] < of_all.law.clock[1]
    part = part_of(rng, NOW - 20, 600, slow=1.0)
    first, second = (corrected(landed(part), each.law)["precision"] for each in (own, of_all))
    assert (first.high or 0) - (first.low or 0) < (second.high or 0) - (second.low or 0)
    for each in (first, second):
        assert (each.low or 0) <= part.labels[WORLD.decisions[part.strata] == 1].mean() <= (each.high or 0)


def test_shares_stay_shares_and_rise_with_age() -> None:
    for slow in (0.3, 1.0, 3.0):
        _, own, _ = laws(3, slow=slow, n=200)
        assert own.law.share.min() >= 0
        assert own.law.share.max() <= 1
        assert (np.diff(own.law.share, axis=2) >= -1e-12).all()
        assert np.isfinite(own.law.log_variance).all()


def test_a_segment_that_is_labelled_less_often_is_expected_to_stay_so() -> None:
    edges, mature = EDGES, 60 * DAY

    def window(n: int, missing: int) -> DelayCounts:
        label = np.where(np.arange(n) < missing, np.nan, np.arange(n) % 2)
        delay = np.where(np.isnan(label), np.nan, 3 * DAY)
        return count_delays(delay, label, np.full(n, 100 * DAY), edges=edges, mature=mature)

    windows = [window(1000, 50) for _ in range(10)]
    law = learn(reduce(merge, windows), windows=windows)
    assert law.never[0] == pytest.approx(0.05, abs=0.01)
    often = of_segment(law, [window(100, 40) for _ in range(10)], weights=np.ones((1, 2))).law
    assert often.never[0] == pytest.approx(0.4, abs=0.03)
    unseen = of_segment(law, [], weights=np.ones((1, 2))).law
    assert unseen.never[0] == pytest.approx(0.05, abs=0.01)
    assert unseen.never[1] > often.never[1]
