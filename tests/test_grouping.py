"""What has one reason is one family: one page, its root told first, and no other cause hidden in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitor.grouping import explains, group, interval, is_follower, shared_group, shared_segment
from monitor.incidents import Rules, SeriesKey, Step, advance
from monitor.messages import compose
from monitor.models import Check, Incident, IncidentState, Result, SeriesState, Transition, Verdict, Window

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def day(number: int) -> Window:
    return Window(START + number * DAY, START + (number + 1) * DAY)


def result(check: Check, feature: str | None, window: Window, *, metric: str = "psi", bad: bool = True) -> Result:
    verdict = Verdict.ALERT if bad else Verdict.OK
    return Result("m", check, metric, window, 0.5 if bad else 0.0, verdict, feature=feature, threshold=0.2)


@dataclass
class World:
    """A model whose windows are taken in, grouped, and kept."""

    series: dict[SeriesKey, SeriesState] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)

    def take(self, number: int, results: Sequence[Result], **options: Any) -> Step:
        known = list(self.incidents.values())
        step = advance(
            model="m", window=day(number), results=results, series=self.series,
            open_incidents=known, rules=Rules(), **options,
        )  # fmt: skip
        step = group(step, known=known, results=results, length=DAY)
        self.series |= {(s.check, s.feature, s.segment): s for s in step.series}
        self.incidents |= {incident.id: incident for incident in step.incidents}
        return step

    def days(self, first: int, last: int, *about: tuple[Check, str | None, str]) -> list[str]:
        """Take in bad days of some series; what was told each day, as ``check:transition``."""
        told = []
        for number in range(first, last):
            results = [result(check, feature, day(number), metric=metric) for check, feature, metric in about]
            step = self.take(number, results)
            told.append(" ".join(sorted(f"{i.check.value}:{t.value}" for t, i in step.transitions)))
        return told

    def of(self, check: Check) -> Incident:
        [found] = [incident for incident in self.incidents.values() if incident.check is check]
        return found


DRIFT = (Check.FEATURE_DRIFT, "x", "psi")
NULLS = (Check.QUALITY, "x", "missing_rate")
UNSEEN = (Check.QUALITY, "x", "unseen_rate")
SCORE = (Check.SCORE_DRIFT, None, "psi")
FALL = (Check.PERFORMANCE, None, "recall")
SKEW = (Check.SKEW, "x", "mismatch_rate")


@pytest.mark.parametrize(
    ("about", "root"),
    [
        pytest.param((DRIFT, SCORE), Check.FEATURE_DRIFT, id="the score follows its inputs"),
        pytest.param((DRIFT, NULLS), Check.QUALITY, id="drift follows lost values"),
        pytest.param((DRIFT, UNSEEN), Check.FEATURE_DRIFT, id="new categories follow drift"),
        pytest.param((DRIFT, SKEW), Check.SKEW, id="drift follows skew"),
        pytest.param((SCORE, FALL), Check.SCORE_DRIFT, id="performance follows the score"),
        pytest.param((DRIFT, NULLS, SCORE, FALL, SKEW), Check.SKEW, id="all of them follow one"),
    ],
)
def test_what_fires_together_is_one_family_with_the_first_cause_as_its_root(
    about: tuple[tuple[Check, str | None, str], ...], root: Check
) -> None:
    world = World()
    world.days(0, 2, *about)
    roots = [incident for incident in world.incidents.values() if not is_follower(incident)]
    assert [incident.check for incident in roots] == [root]
    followers = {incident.id for incident in world.incidents.values() if is_follower(incident)}
    assert set(roots[0].detail["related"]) == followers
    assert {i.detail["root"] for i in world.incidents.values() if is_follower(i)} == {roots[0].id}


def test_a_follower_that_comes_later_is_news_in_the_roots_thread_and_no_page() -> None:
    world = World()
    assert world.days(0, 2, DRIFT) == ["", "feature_drift:opened"]
    assert world.days(2, 4, DRIFT, SCORE) == ["", "score_drift:worsened"]
    assert world.of(Check.SCORE_DRIFT).detail["thread"] == world.of(Check.FEATURE_DRIFT).detail["thread"]


def test_the_cause_that_is_seen_after_its_effect_joins_what_people_know() -> None:
    world = World()
    assert world.days(0, 2, SCORE) == ["", "score_drift:opened"]
    assert world.days(2, 4, SCORE, DRIFT) == ["", "feature_drift:worsened"]
    assert world.of(Check.FEATURE_DRIFT).detail["root"] == world.of(Check.SCORE_DRIFT).id


def test_a_fall_that_begins_long_after_an_open_drift_is_a_page_of_its_own() -> None:
    world = World()
    world.days(0, 10, DRIFT)
    assert world.days(10, 12, DRIFT, FALL)[-1] == "performance:opened"
    assert not is_follower(world.of(Check.PERFORMANCE))


def test_labels_that_land_after_the_drift_is_over_still_belong_to_it() -> None:
    world = World()
    world.days(0, 4, DRIFT)
    for number in range(4, 7):
        world.take(number, [result(Check.FEATURE_DRIFT, "x", day(number), bad=False)])
    assert world.of(Check.FEATURE_DRIFT).state is IncidentState.RESOLVED
    assert world.days(0, 2, FALL)[-1] == "performance:worsened"
    assert world.of(Check.PERFORMANCE).detail["root"] == world.of(Check.FEATURE_DRIFT).id


def test_a_root_that_nobody_was_told_of_silences_nothing() -> None:
    world = World()
    for number in range(2):
        world.take(number, [result(*DRIFT[:2], day(number))], tell=False)
    step = world.take(1, [result(*SCORE[:2], day(1))])
    step = world.take(2, [result(*SCORE[:2], day(2))])
    assert [transition for transition, _ in step.transitions] == [Transition.OPENED]


def test_another_column_that_breaks_later_is_a_page_of_its_own() -> None:
    world = World()
    world.days(0, 6, DRIFT)
    told = world.days(6, 8, DRIFT, (Check.QUALITY, "other", "missing_rate"))
    assert told[-1] == "quality:opened"


def test_one_message_names_the_root_and_what_goes_with_it() -> None:
    world = World()
    world.days(0, 1, DRIFT, SCORE)
    results = [result(*DRIFT[:2], day(1)), result(*SCORE[:2], day(1))]
    step = world.take(1, results)
    message = compose(model="m", window=day(1), changes=step.transitions, results=results)
    assert message.title == "m: x drifted"
    assert "With it: the score drifted" in message.summary


def test_an_onset_interval_stands_for_the_first_bad_window() -> None:
    world = World()
    world.days(0, 2, DRIFT)
    incident = world.of(Check.FEATURE_DRIFT)
    assert interval(incident, length=DAY) == (START, START + DAY)
    told = [(START - DAY).isoformat(), (START + DAY).isoformat()]
    dated = replace(incident, detail=incident.detail | {"onset_interval": told})
    assert interval(dated, length=DAY) == (START - DAY, START + DAY)


def test_silence_explains_nothing_and_is_explained_by_nothing() -> None:
    world = World()
    world.days(0, 2, DRIFT)
    drift = world.of(Check.FEATURE_DRIFT)
    silence = replace(drift, id="inc_0", check=Check.QUALITY, features=[], detail={"kind": "no_data", "series": []})
    assert not explains(drift, silence, length=DAY)
    assert not explains(silence, drift, length=DAY)


# --- what they share --------------------------------------------------------------------------------

FEATURES = [f"bureau_{k}" for k in range(8)] + [f"app_{k}" for k in range(22)]
GROUPS = {"bureau": ["bureau_*"], "application": ["app_*"]}


@pytest.mark.parametrize(
    ("fired", "name"),
    [
        ([f"bureau_{k}" for k in range(6)], "bureau"),
        ([*(f"bureau_{k}" for k in range(6)), "app_1"], "bureau"),
        (["bureau_1"], None),
        (["bureau_1", "bureau_2"], None),
        (["bureau_1", "app_1", "app_2", "app_3"], None),
        ([f"app_{k}" for k in range(5)], None),
    ],
)
def test_a_shared_feed_is_named_when_it_is_no_coincidence(fired: list[str], name: str | None) -> None:
    found = shared_group(fired, GROUPS, FEATURES)
    assert (found.name if found else None) == name
    if found is not None:
        assert "of the 8 features of bureau" in str(found)


def in_segment(name: str, verdict: Verdict) -> Result:
    return replace(result(Check.FEATURE_DRIFT, "x", day(0)), segment=name, verdict=verdict)


@pytest.mark.parametrize(
    ("verdicts", "name"),
    [
        ({"country=DE": "alert", "country=FR": "ok", "country=IT": "ok"}, "country=DE"),
        ({"country=DE": "alert", "country=FR": "alert", "country=IT": "ok"}, None),
        ({"country=DE": "alert", "country=FR": "warn"}, None),
        ({"country=DE": "alert"}, None),
        ({"country=DE": "alert", "country=FR": "cannot_tell"}, None),
    ],
)
def test_a_shared_segment_is_named_when_its_siblings_hold(verdicts: dict[str, str], name: str | None) -> None:
    found = shared_segment(in_segment(segment, Verdict(verdict)) for segment, verdict in verdicts.items())
    assert (found.name if found else None) == name


def test_a_cause_that_another_clock_finds_later_joins_the_family_though_nobody_was_told() -> None:
    world = World()
    for number in range(2):
        world.take(
            number, [result(*DRIFT[:2], day(number)), result(*NULLS[:2], day(number), metric=NULLS[2])], tell=False
        )
    for number in range(2):
        world.take(number, [result(*SKEW[:2], day(number))], tell=False)
    roots = [incident.check for incident in world.incidents.values() if not is_follower(incident)]
    assert roots == [Check.QUALITY]
