"""What earlier windows turned out to be off by goes into the interval, and what no window is off by does not."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

from detectors.corrected import corrected, fit
from detectors.delay import DelayLaw, learn
from detectors.delay_counts import DelayCounts, age_edges, count_delays, merge
from detectors.hindsight import look_back
from detectors.posterior import Landed

DAY = 86400.0
EDGES = age_edges(40 * DAY, 60)
DECISIONS = np.array([0, 1])


class Days:
    """Days of 2,000 predictions; on each, positives of one decision land at a pace that differs by ``uneven``."""

    def __init__(self, seed: int, *, uneven: float) -> None:
        self.rng, self.uneven = np.random.default_rng(seed), uneven

    def day(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Decisions, labels, and days until they land."""
        decided = (self.rng.random(2000) < 0.4).astype(np.int64)
        label = (self.rng.random(2000) < np.where(decided == 1, 0.5, 0.1)).astype(np.int64)
        swing = self.rng.normal(0, self.uneven)
        slow = np.exp(swing * np.where(decided == 1, 1.0, -1.0) * np.where(label == 1, 1.0, -1.0))
        return decided, label, slow * self.rng.exponential(5.0, 2000)

    def matured(self) -> DelayCounts:
        decided, label, delay = self.day()
        return count_delays(delay * DAY, label, np.full(2000, 41 * DAY), edges=EDGES, strata=decided, n_strata=2)

    def law(self, windows: int = 28) -> DelayLaw:
        past = [self.matured() for _ in range(windows)]
        return learn(reduce(merge, past), windows=past, times=list(range(windows)), target=windows + 40)

    def young(self, age: float) -> tuple[Landed, float]:
        """A day as of some days later, and its precision in the end."""
        decided, label, delay = self.day()
        held = delay <= age
        labels = np.zeros((1, 2, 2), np.int64)
        np.add.at(labels, (0, decided[held], label[held]), 1)
        found = Landed(np.array([age * DAY]), np.bincount(decided, minlength=2)[None], labels, DECISIONS)
        return found, float(label[decided == 1].mean())


def coverage(days: Days, *, looking_back: bool) -> float:
    held = 0
    for _ in range(7):
        law = days.law()
        for _ in range(10):
            landed, truth = days.young(4.0)
            found = corrected(landed, law if looking_back else replace(law, past=()))["precision"]
            assert found.low is not None
            assert found.high is not None
            held += found.low <= truth <= found.high
    return held / 70


def test_windows_that_land_unevenly_widen_the_interval_until_it_holds() -> None:
    assert coverage(Days(1, uneven=0.2), looking_back=False) < 0.8
    assert coverage(Days(1, uneven=0.2), looking_back=True) >= 0.9


def test_windows_that_land_as_the_law_says_widen_the_interval_little() -> None:
    days, ratios = Days(2, uneven=0.0), []
    for _ in range(10):
        law = days.law()
        landed, _ = days.young(4.0)
        widths = []
        for each in (law, replace(law, past=())):
            found = corrected(landed, each)["precision"]
            assert found.low is not None
            assert found.high is not None
            widths.append(found.high - found.low)
        ratios.append(widths[0] / widths[1])
    assert min(ratios) > 0.95
    assert np.mean(ratios) < 1.15


def test_too_few_matured_windows_tell_nothing() -> None:
    days = Days(3, uneven=0.2)
    law, (landed, _) = days.law(5), days.young(4.0)
    assert look_back(landed, law) is None
    found = fit(landed, law)
    assert not isinstance(found, str)


def test_an_earlier_window_is_looked_back_at_as_it_was_at_that_age() -> None:
    days = Days(4, uneven=0.0)
    law, (landed, _) = days.law(), days.young(4.0)
    back = look_back(landed, law)
    assert back is not None
    shares = 1 / (1 + np.exp(-back.landed))
    assert shares.mean() == pytest.approx(1 - np.exp(-4 / 5), abs=0.01)
    assert 1 / (1 + np.exp(-back.levels[:, 1].mean())) == pytest.approx(0.5, abs=0.02)
    chance = np.sqrt(back.promised[:, 1, 1].mean())
    assert np.sqrt(np.mean(back.errors[:, 1] ** 2)) == pytest.approx(chance, rel=0.4)
