"""Two versions on the same requests: the interval holds at every look, and pairing is worth its while."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, precision_score, recall_score

from detectors.confidence_sequences import FEWEST_UNBOUNDED, Sums, asymptotic_interval, exact_interval, sums_of
from detectors.pair_counts import (
    LOG_LOSS_CLIP,
    Answers,
    PairCounts,
    count_classes,
    count_numbers,
    count_pairs,
    from_bytes,
    merge_all,
    to_bytes,
)
from detectors.paired import difference, discordant
from detectors.profiles import ProfileError

Floats = npt.NDArray[np.float64]


def drawn(rng: np.random.Generator, n: int, *, skill: float = 0.0) -> tuple[Answers, Answers, Floats]:
    """Scores of two versions that share most of their noise; ``skill`` is how much of it the challenger lacks."""
    logit = rng.normal(-1.0, 1.5, n)
    noise = rng.normal(0, 1, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    said = []
    for each in (noise, (1 - skill) * noise):
        scores = 1 / (1 + np.exp(-(logit + each + rng.normal(0, 0.3, n))))
        said.append(Answers(scores, (scores >= 0.5).astype(float)))
    return said[0], said[1], labels


# --- numbers ---------------------------------------------------------------------------------------


def test_differences_are_those_of_the_metrics_on_either_side() -> None:
    first, second, labels = drawn(np.random.default_rng(1), 3000, skill=0.8)
    counts = count_pairs(first, second, labels)
    clipped = [np.clip(each.scores, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP) for each in (first, second)]
    expected = {
        "error": accuracy_score(labels, first.decisions) - accuracy_score(labels, second.decisions),
        "precision": precision_score(labels, second.decisions) - precision_score(labels, first.decisions),
        "recall": recall_score(labels, second.decisions) - recall_score(labels, first.decisions),
        "brier": brier_score_loss(labels, second.scores) - brier_score_loss(labels, first.scores),
        "log_loss": log_loss(labels, clipped[1]) - log_loss(labels, clipped[0]),
    }
    for metric, value in expected.items():
        found = difference(counts, metric)
        assert found.value == pytest.approx(value, abs=1e-12), metric
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high


def test_what_decisions_are_worth_is_the_mean_difference_of_their_worth() -> None:
    first, second, labels = drawn(np.random.default_rng(2), 2000)
    worth = {"tp": 5.0, "fp": -1.0, "fn": -8.0}
    found = difference(count_pairs(first, second, labels), "value", worth=worth)
    gains = np.where(labels == 1, 13.0, -1.0) * (second.decisions - first.decisions)
    assert found.value == pytest.approx(gains.mean())
    assert found.low is not None
    assert found.low >= -13.0


def test_mcnemars_cells_are_the_requests_that_only_one_got_right() -> None:
    first, second, labels = drawn(np.random.default_rng(3), 1000, skill=0.5)
    right = [each.decisions == labels for each in (first, second)]
    assert discordant(count_pairs(first, second, labels)) == (
        int((right[1] & ~right[0]).sum()),
        int((right[0] & ~right[1]).sum()),
    )


def test_requests_without_label_count_for_agreement_only() -> None:
    first, second, labels = drawn(np.random.default_rng(4), 1000)
    half = np.where(np.arange(1000) < 500, labels, np.nan)
    counts = count_pairs(first, second, half)
    assert (counts.n, counts.n_labelled, counts.n_decided) == (1000, 500, 1000)
    assert counts.n_differing == int((first.decisions != second.decisions).sum())
    part = [Answers(each.scores[:500], each.decisions[:500]) for each in (first, second)]
    alone = count_pairs(part[0], part[1], labels[:500])
    for metric in ("error", "brier", "log_loss", "precision", "recall"):
        assert difference(counts, metric) == difference(alone, metric)


@pytest.mark.parametrize(
    ("first", "second", "labels", "metric", "reason"),
    [
        ([], [], [], "error", "no_pairs"),
        ([0.2], [0.7], [math.nan], "error", "no_labels"),
        ([0.2, 0.1], [0.7, 0.3], [0, 0], "recall", "no_positives"),
        ([0.2, 0.1], [0.7, 0.3], [0, 1], "precision", "no_positive_decisions"),
        ([3.0, 0.1], [0.7, 0.3], [0, 1], "brier", "scores_are_no_probabilities"),
        ([3.0, 0.1], [0.7, 0.3], [0, 1], "absolute_error", "not_counted"),
    ],
)
def test_undefined_is_a_reason(
    first: list[float], second: list[float], labels: list[float], metric: str, reason: str
) -> None:
    told = [Answers(np.array(s), (np.array(s) >= 0.5).astype(float)) for s in (first, second)]
    found = difference(count_pairs(told[0], told[1], np.array(labels, dtype=float)), metric)
    assert (found.value, found.reason) == (None, reason)


def test_without_decisions_there_is_still_a_brier_score() -> None:
    nothing = np.full(3, np.nan)
    counts = count_pairs(
        Answers(np.array([0.1, 0.9, 0.4]), nothing), Answers(np.array([0.2, 0.8, 0.4]), nothing), np.array([0.0, 1, 1])
    )
    assert difference(counts, "error").reason == "no_decisions"
    assert difference(counts, "brier").value == pytest.approx((0.03 + 0.03 + 0) / 3)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_windows_add_up_to_the_whole_in_any_order(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    first, second, labels = drawn(rng, sum(sizes))
    labels = np.where(rng.random(len(labels)) < 0.2, np.nan, labels)
    cuts = np.cumsum([0, *sizes])
    parts = [
        count_pairs(
            Answers(first.scores[a:b], first.decisions[a:b]), Answers(second.scores[a:b], second.decisions[a:b]), labels[a:b],
            only_champion=1, complete=True,
        )
        for a, b in pairwise(cuts)
    ]  # fmt: skip
    whole = count_pairs(first, second, labels, only_champion=len(parts), complete=True)
    for merged in (merge_all(parts), merge_all(reversed(parts))):
        assert (merged.table == whole.table).all()
        assert (merged.only_champion, merged.complete) == (len(parts), True)
        for name, sums in whole.sums.items():
            if name in merged.sums:
                assert merged.sums[name].n == sums.n
                assert merged.sums[name].total == pytest.approx(sums.total, abs=1e-9)
    again = from_bytes(to_bytes(whole))
    assert (again.table == whole.table).all()
    assert again.sums == dict(whole.sums)


@pytest.mark.parametrize(
    "blob", [b"", b"{}", b'{"version":3}', b'{"version":2,"table":[1],"sums":{},"only":[0,0],"complete":true}']
)
def test_bytes_of_something_else_are_refused(blob: bytes) -> None:
    with pytest.raises(ProfileError):
        from_bytes(blob)


def test_a_loss_without_a_bound_has_an_asymptotic_interval() -> None:
    """Absolute errors of a regression: whoever counts them gives their sums, and the rest is the same."""
    rng = np.random.default_rng(13)
    gone = np.full(4000, np.nan)
    counts = count_pairs(Answers(gone, gone), Answers(gone, gone), np.ones(4000))
    errors = np.abs(rng.normal(0, [[5.0], [4.0]], (2, 4000)))
    found = difference(
        replace(counts, sums={"absolute_error": sums_of(errors[1] - errors[0], bound=None)}), "absolute_error"
    )
    assert found.value == pytest.approx((errors[1] - errors[0]).mean())
    assert not found.exact
    assert found.high is not None
    assert found.high < 0


# --- classes, numbers, and labels that can never be ------------------------------------------------


def test_of_classes_the_difference_is_that_of_the_shares_of_wrong_ones() -> None:
    rng = np.random.default_rng(21)
    labels = rng.integers(0, 4, 2000)
    said = [np.where(rng.random(2000) < skill, labels, rng.integers(0, 4, 2000)) for skill in (0.4, 0.6)]
    given_true = (rng.uniform(0.2, 0.9, 2000), rng.uniform(0.4, 0.9, 2000))
    counts = count_classes(said[0], said[1], labels, probabilities=given_true)
    error = difference(counts, "error")
    assert error.value == pytest.approx(accuracy_score(labels, said[0]) - accuracy_score(labels, said[1]))
    assert error.exact
    assert difference(counts, "log_loss").value == pytest.approx(np.log(given_true[0] / given_true[1]).mean())
    assert (counts.n_differing, counts.n_decided) == (int((said[0] != said[1]).sum()), 2000)
    right = [each == labels for each in said]
    assert discordant(counts) == (int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum()))


def test_of_classes_what_is_not_known_is_left_out() -> None:
    counts = count_classes(np.array([0, 1, -1, 2]), np.array([0, 2, 1, -1]), np.array([0, -1, 1, 2]))
    assert (counts.n, counts.n_labelled, counts.n_decided, counts.n_differing) == (4, 3, 2, 1)
    assert difference(counts, "error").n == 1
    assert difference(count_classes(np.array([-1]), np.array([0]), np.array([0])), "error").reason == "no_decisions"
    assert difference(counts, "log_loss").reason == "scores_are_no_probabilities"


def test_of_numbers_the_differences_are_of_absolute_and_squared_errors() -> None:
    rng = np.random.default_rng(22)
    truth = rng.normal(50, 10, 1000)
    said = [truth + rng.normal(0, spread, 1000) for spread in (5.0, 4.0)]
    truth[:100] = np.nan
    counts = count_numbers(said[0], said[1], truth)
    errors = [(each - truth)[100:] for each in said]
    assert (counts.n, counts.n_labelled, counts.n_decided) == (1000, 900, 0)
    for metric, loss in (("absolute_error", np.abs), ("squared_error", np.square)):
        found = difference(counts, metric)
        assert found.value == pytest.approx((loss(errors[1]) - loss(errors[0])).mean())
        assert not found.exact
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high < 0
    few = difference(count_numbers(said[0][:350], said[1][:350], truth[:350]), "absolute_error")
    assert (few.n, few.low) == (250, -math.inf)


def test_where_a_label_can_never_be_the_difference_is_what_any_labels_would_make_of_it() -> None:
    """Every way of labelling a few requests by hand: the least and the most are the bounds that are told."""
    first, second, labels = drawn(np.random.default_rng(23), 60)
    never = np.zeros(60, bool)
    never[:9] = True
    worth = {"tp": 2.0, "fp": -1.0, "fn": -3.0}
    counts = count_pairs(first, second, np.where(never, np.nan, labels), never=never)
    assert (counts.n, counts.n_labelled, counts.n_never) == (60, 51, 9)
    for metric in ("error", "value", "brier", "log_loss", "precision", "recall"):
        told = difference(counts, metric, worth=worth)
        every = []
        for code in range(2**9):
            guess = labels.copy()
            guess[:9] = [(code >> bit) & 1 for bit in range(9)]
            every.append(difference(count_pairs(first, second, guess), metric, worth=worth).value)
        assert told.value is None
        assert told.reason == "never_labelled"
        assert told.bounds == pytest.approx((min(v for v in every if v is not None), max(v for v in every if v is not None)))  # fmt: skip
        if metric in ("precision", "recall"):
            assert (told.low, told.high) == (None, None)
            continue
        assert told.low is not None
        assert told.high is not None
        assert told.low < told.bounds[0] < told.bounds[1] < told.high


def test_where_both_decide_alike_no_label_is_needed() -> None:
    same = Answers(np.array([0.9] * 5 + [0.1] * 5), np.array([1.0] * 5 + [0.0] * 5))
    labels = np.array([1, 0, 1, 1, 0, *[np.nan] * 5])
    counts = count_pairs(same, same, labels, never=np.isnan(labels))
    assert difference(counts, "error").value == 0
    assert difference(counts, "error").n == 10
    assert difference(counts, "brier").value == 0


# --- the interval ----------------------------------------------------------------------------------


@pytest.mark.parametrize("v", [0.0, 3.0, 60.0, 2000.0])
def test_the_boundary_is_where_the_mixture_reaches_two_over_alpha(v: float) -> None:
    """The mixture over λ by numerical integration, as an oracle of the closed form."""
    _, high = exact_interval(Sums(10**6, 0.0, v))
    s = high * 10**6
    rho = 100 / (2 * math.log(20) + math.log1p(2 * math.log(20)))

    def weight(lam: float) -> float:
        u = 1 - lam
        return math.exp((rho - 1) * math.log(u) - rho * u + rho) if u > 0 else 0.0

    def grown(lam: float) -> float:
        return weight(lam) * math.exp(lam * s - (-math.log1p(-lam) - lam) * v) if lam < 1 else 0.0

    points = [min(0.99, s / (v + s + rho))]
    mixture = quad(grown, 0, 1, points=points, limit=500)[0] / quad(weight, 0, 1, limit=500)[0]
    assert mixture == pytest.approx(2 / 0.05, rel=1e-4)


def test_fewer_requests_are_never_surer() -> None:
    widths = [exact_interval(Sums(n, 0.0, 0.05 * n))[1] for n in (10, 100, 1000, 10_000, 100_000)]
    assert widths == sorted(widths, reverse=True)
    assert exact_interval(Sums(0)) == (-math.inf, math.inf)
    assert asymptotic_interval(0.0, 1.0, 1) == (-math.inf, math.inf)


def looks(
    rng: np.random.Generator, *, runs: int, n_looks: int, per_look: int, mean: float = 0.0, differ: float = 0.06
) -> tuple[Floats, Floats, Floats]:
    """Requests so far, sum and sum of squares of error differences at each look; rows are runs."""
    up, down = differ / 2 + mean / 2, differ / 2 - mean / 2
    counts = rng.multinomial(per_look, [down, 1 - differ, up], size=(runs, n_looks)).cumsum(axis=1)
    n = per_look * np.arange(1.0, n_looks + 1)
    return n, counts[..., 2] - counts[..., 0].astype(float), counts[..., 2] + counts[..., 0].astype(float)


def excluded(n: Floats, total: Floats, squares: Floats) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether zero lies outside at each look: of the sequence, and of the usual interval looked at again and again."""
    ours = np.zeros(total.shape, bool)
    for at in np.ndindex(*total.shape):
        low, high = exact_interval(Sums(int(n[at[-1]]), total[at], squares[at]))
        ours[at] = low > 0 or high < 0
    mean = total / n
    usual = np.abs(mean) > 1.96 * np.sqrt((squares / n - mean**2) / n)
    return ours, usual & (squares > 5)


def false_alarms(*, runs: int, seed: int) -> tuple[float, float]:
    ours, usual = excluded(*looks(np.random.default_rng(seed), runs=runs, n_looks=200, per_look=100))
    shares = float(ours.any(axis=1).mean()), float(usual.any(axis=1).mean())
    print(
        f"zero excluded at any of 200 looks, no difference, {runs} runs: sequence {shares[0]:.1%}, usual interval {shares[1]:.1%}"
    )
    return shares


def delays(*, runs: int, seed: int, mean: float, differ: float = 0.06) -> list[float]:
    n, total, squares = looks(
        np.random.default_rng(seed), runs=runs, n_looks=200, per_look=100, mean=mean, differ=differ
    )
    ours, _ = excluded(n, total, squares)
    found = [float(n[row.argmax()]) if row.any() else math.inf for row in ours]
    print(f"a difference of {mean:+.1%} at {differ:.0%} decided otherwise: found in {np.isfinite(found).mean():.1%} of {runs} runs, "
          f"after {np.median(found):,.0f} requests (half of the runs)")  # fmt: skip
    return found


def test_looking_every_day_excludes_zero_no_more_often_than_stated() -> None:
    ours, usual = false_alarms(runs=60, seed=6)
    assert ours <= 0.05
    assert usual >= 0.2


def test_a_true_difference_is_found() -> None:
    found = delays(runs=12, seed=7, mean=-0.02)
    assert max(found) < 20_000
    assert np.median(found) < 6000


@pytest.mark.slow
def test_looking_every_day_at_full_length() -> None:
    ours, usual = false_alarms(runs=1000, seed=8)
    assert ours <= 0.05
    assert usual >= 0.3
    for mean in (-0.01, -0.02):
        found = delays(runs=100, seed=9, mean=mean)
        assert np.isfinite(found).mean() >= 0.9


@pytest.mark.parametrize("metric", ["brier", "log_loss", "recall", "precision"])
def test_the_other_metrics_hold_at_every_look_as_well(metric: str) -> None:
    """No difference between exchangeable versions, 40 looks of 150 requests: zero stays inside in 95 % of runs."""
    rng = np.random.default_rng(10)
    wrong = 0
    for _ in range(60):
        so_far: list[PairCounts] = []
        for _ in range(40):
            first, second, labels = drawn(rng, 150)
            so_far.append(count_pairs(first, second, labels))
        running = so_far[0]
        outside = False
        for counts in so_far[1:]:
            running = running.merge(counts)
            found = difference(running, metric)
            if running.n >= 300 and found.low is not None and found.high is not None:
                outside |= found.low > 0 or found.high < 0
        wrong += outside
    assert wrong / 60 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)


def test_the_interval_holds_when_the_difference_moves_with_time() -> None:
    """What is covered is the average difference so far, whatever it does from day to day."""
    rng = np.random.default_rng(11)
    inside = []
    for _ in range(40):
        total = squares = n = truth = 0.0
        held = True
        for day in range(60):
            mean = 0.03 * math.sin(day / 5)
            count = rng.multinomial(200, [0.05 - mean / 2, 0.9, 0.05 + mean / 2])
            total, squares, n, truth = (
                total + count[2] - count[0],
                squares + count[0] + count[2],
                n + 200,
                truth + 200 * mean,
            )
            low, high = exact_interval(Sums(int(n), total, squares))
            held &= low <= truth / n <= high
        inside.append(held)
    assert np.mean(inside) >= 0.95


def shares_outside(kind: str, *, runs: int, n: int, seed: int) -> float:
    """The share of runs whose interval excludes zero after any request from ``FEWEST_UNBOUNDED`` on; no difference."""
    rng = np.random.default_rng(seed)
    size = (runs, n)
    truth = rng.normal(0, 1, size)
    spread = np.exp(rng.normal(0, 1, size)) if kind.startswith("heavy") else np.ones(size)
    errors = [spread * (truth + rng.normal(0, 0.5, size)) for _ in range(2)]
    moved = np.abs(errors[1]) - np.abs(errors[0]) if kind.endswith("absolute") else errors[1] ** 2 - errors[0] ** 2
    if kind == "one-sided":  # a challenger a little better as a rule, and far worse in one request of thirty
        moved = np.where(rng.random(size) < 0.03, rng.gamma(2, 1.5, size), -0.09 / 0.97) + rng.normal(0, 0.1, size)
    total, squares, cubes = moved.cumsum(1), (moved**2).cumsum(1), (moved**3).cumsum(1)
    outside = 0
    for run in range(runs):
        # Looks after each request at first, then ever rarer: an interval that holds here and there holds between.
        for at in sorted({int(each) for each in np.geomspace(FEWEST_UNBOUNDED, n, 150)}):
            sums = Sums(at, total[run, at - 1], squares[run, at - 1], None, cubes[run, at - 1])
            found = difference(replace(NUMBERS, sums={"absolute_error": sums}), "absolute_error")
            assert found.low is not None
            assert found.high is not None
            if found.low > 0 or found.high < 0:
                outside += 1
                break
    print(f"{kind}: zero excluded at any look up to {n:,} requests in {outside / runs:.1%} of {runs} runs")
    return outside / runs


NUMBERS = count_numbers(np.zeros(1), np.zeros(1), np.zeros(1))
KINDS = ("absolute", "squared", "heavy absolute", "heavy squared", "one-sided")


@pytest.mark.parametrize("kind", KINDS)
def test_differences_of_numbers_hold_at_every_look(kind: str) -> None:
    assert shares_outside(kind, runs=60, n=3000, seed=24) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_differences_of_numbers_hold_at_every_look_at_full_length(kind: str) -> None:
    assert shares_outside(kind, runs=1000, n=20_000, seed=25) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


def apart(rng: np.random.Generator, n: int) -> tuple[Answers, Answers, Floats, npt.NDArray[np.bool_]]:
    """Two versions as good as each other; what the champion decides positively can never be labelled."""
    logit = rng.normal(-1.0, 1.5, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    scores = [1 / (1 + np.exp(-(logit + rng.normal(0, 1, n)))) for _ in range(2)]
    first, second = (Answers(each, (each >= 0.5).astype(float)) for each in scores)
    return first, second, labels, first.decisions == 1


def test_bounds_hold_at_every_look_where_the_labelled_alone_would_mislead() -> None:
    rng = np.random.default_rng(26)
    wrong = 0
    for _ in range(20):
        running = PairCounts(np.zeros((4, 3, 3), np.int64))
        outside = False
        for _ in range(40):
            first, second, labels, never = apart(rng, 150)
            running = running.merge(count_pairs(first, second, np.where(never, np.nan, labels), never=never))
            found = difference(running, "error")
            assert found.low is not None
            assert found.high is not None
            outside |= found.low > 0 or found.high < 0
        wrong += outside
    assert wrong <= 1
    first, second, labels, never = apart(rng, 40_000)
    alone = difference(count_pairs(first, second, np.where(never, np.nan, labels)), "error")
    assert alone.low is not None
    assert alone.low > 0  # on the labelled alone the challenger, as good as the champion, seems worse


def test_pairing_is_narrower_than_comparing_two_groups() -> None:
    first, second, labels = drawn(np.random.default_rng(12), 20_000, skill=0.3)
    losses = [(each.scores - labels) ** 2 for each in (first, second)]
    paired = difference(count_pairs(first, second, labels), "brier")
    assert paired.low is not None
    assert paired.high is not None
    # The same requests as if each version had had others: the variances of both mean losses add up.
    apart = asymptotic_interval(0.0, float(losses[0].var() + losses[1].var()), 20_000)
    width = paired.high - paired.low
    print(f"width of the Brier difference on 20,000 requests: paired {width:.4f}, unpaired {apart[1] - apart[0]:.4f}")
    assert width < 0.75 * (apart[1] - apart[0])
