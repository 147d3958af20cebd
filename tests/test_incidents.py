"""The alerting promise, one row for each sentence of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.incidents import (
    ROWS,
    Rules,
    SeriesKey,
    Step,
    advance,
    as_of_then,
    incident_id,
    is_overtaken,
    members,
    removed,
    replay,
    replay_from,
    unspent,
)
from monitor.messages import spent_on
from monitor.models import WEEKLY, Check, Incident, IncidentState, Result, SeriesState, Transition, Verdict, Window

START = datetime(2026, 1, 1, tzinfo=UTC)
LETTERS = {"A": Verdict.ALERT, "w": Verdict.WARN, "o": Verdict.OK, "c": Verdict.CANNOT_TELL, "n": Verdict.NO_DATA}
UNDECIDED = "u"
"""A test was made, and could not tell; ``c`` is a window in which none was."""
SHOWN = {
    Transition.OPENED: "open",
    Transition.WORSENED: "worse",
    Transition.REPEATED: "again",
    Transition.RESOLVED: "done",
    Transition.RESTATED: "restated",
    Transition.NO_DATA: "silence",
}


def day(number: int) -> Window:
    return Window(START + timedelta(days=number), START + timedelta(days=number + 1))


def result(letter: str, window: Window, feature: str | None = "x", **changes: Any) -> Result:
    verdict = Verdict.CANNOT_TELL if letter == UNDECIDED else LETTERS[letter]
    base = Result("m", Check.FEATURE_DRIFT, "psi", window, 0.3, verdict, feature=feature, threshold=0.2)
    if letter == UNDECIDED:
        base = replace(base, p_value=0.1)
    return replace(base, **changes)


@dataclass
class World:
    """A model whose windows are taken in one after the other, with its state kept between."""

    rules: Rules = field(default_factory=Rules)
    series: dict[SeriesKey, SeriesState] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)

    def take(self, number: int, results: Sequence[Result], **options: Any) -> Step:
        step = advance(
            model="m",
            window=day(number),
            results=results,
            series=self.series,
            open_incidents=self.incidents.values(),
            rules=self.rules,
            **options,
        )
        self.series |= {(s.check, s.feature, s.segment): s for s in step.series}
        self.incidents |= {incident.id: incident for incident in step.incidents}
        return step

    def run(self, **verdicts: str) -> str:
        """Take in one letter a day for each feature; what was told, day by day (``.`` for nothing)."""
        days = max(map(len, verdicts.values()))
        told = []
        for number in range(days):
            results = [
                result(letters[number], day(number), name)
                for name, letters in verdicts.items()
                if letters[number] != " "
            ]
            news = [SHOWN[transition] for transition, _ in self.take(number, results).transitions]
            told.append("+".join(news) or ".")
        return " ".join(told)

    @property
    def only(self) -> Incident:
        [incident] = self.incidents.values()
        return incident


@pytest.mark.parametrize(
    ("rules", "verdicts", "told"),
    [
        pytest.param({}, "oAo", ". . .", id="one bad window is not enough"),
        pytest.param({}, "oAA", ". . open", id="confirm bad windows in a row open an incident"),
        pytest.param({"confirm": 1}, "oA", ". open", id="confirm 1 opens at once"),
        pytest.param({}, "AoA", ". . .", id="bad windows that are not in a row do not open"),
        pytest.param({}, "AwA", ". . open", id="a warning neither confirms nor clears"),
        pytest.param({}, "www", ". . .", id="warnings alone never open"),
        pytest.param({}, "AcA", ". . open", id="a window without a test neither confirms nor clears"),
        pytest.param({}, "AuA", ". . .", id="bad windows with a test that did not alert between them are not in a row"),
        pytest.param({}, "AuAA", ". . . open", id="after which the count begins anew"),
        pytest.param({}, "AAuA", ". open . .", id="an open incident goes on"),
        pytest.param({}, "AAouo", ". open . . done", id="and good windows stay in a row"),
        pytest.param({"confirm": 3}, "AAuAAcA", ". . . . . . open", id="for any number of windows"),
        pytest.param({}, "Acc", ". . .", id="cannot_tell does not count as bad"),
        pytest.param({}, "A A", ". . open", id="a window that failed changes nothing"),
        pytest.param({}, "AAAA", ". open . .", id="an open incident is told of once"),
        pytest.param({"repeat": timedelta(days=2)}, "AAAAAA", ". open . again . again", id="and again each `repeat`"),
        pytest.param(
            {"repeat": timedelta(days=1)}, "AAooA", ". open . done .", id="only while it is bad is it repeated"
        ),
        pytest.param({}, "AAo", ". open .", id="one good window does not resolve"),
        pytest.param({}, "AAoo", ". open . done", id="recover good windows in a row resolve"),
        pytest.param({"recover": 1}, "AAo", ". open done", id="recover 1 resolves at once"),
        pytest.param({}, "AAoAo", ". open . . .", id="good windows that are not in a row do not resolve"),
        pytest.param({}, "AAowoo", ". open . . . done", id="a warning breaks the good streak"),
        pytest.param({}, "AAoco", ". open . . done", id="cannot_tell keeps the good streak"),
        pytest.param({}, "AAcccc", ". open . . . .", id="cannot_tell never resolves"),
        pytest.param({"no_data": 9}, "AAnnnn", ". open . . . .", id="no data never resolves"),
        pytest.param({}, "AA    oo", ". open . . . . . done", id="downtime neither fires nor clears"),
        pytest.param({}, "AAooAA", ". open . done . open", id="a new streak is a new incident"),
    ],
)
def test_sentences_of_the_promise(rules: dict[str, Any], verdicts: str, told: str) -> None:
    assert World(Rules(**rules)).run(x=verdicts) == told


@pytest.mark.parametrize(
    ("rules", "verdicts", "told"),
    [
        pytest.param({}, {"x": "AAAA", "y": "ooAA"}, ". open . worse", id="a feature that confirms later joins"),
        pytest.param({}, {"x": "AAAAA", "y": "ooAoA"}, ". open . . .", id="one that does not confirm does not"),
        pytest.param({}, {"x": "AAAAA", "y": "ooAAA"}, ". open . worse .", id="a new set is told of once"),
        pytest.param({}, {"x": "AAoo", "y": "AAAA"}, ". open . .", id="resolves only when all its series recover"),
        pytest.param({}, {"x": "AAoooo", "y": "AAAAoo"}, ". open . . . done", id="resolves when the last one does"),
        pytest.param({}, {"x": "AAoo", "y": "AAcc"}, ". open . .", id="not while one cannot tell"),
        pytest.param({"features_alert": 2}, {"x": "AAA", "y": "ooo"}, ". . .", id="fewer features than wanted"),
        pytest.param({"features_alert": 2}, {"x": "AAA", "y": "oAA"}, ". . open", id="as many features as wanted"),
        pytest.param({"features_alert": 0.5, "n_features": 4}, {"x": "AA", "y": "AA"}, ". open", id="a share of them"),
        pytest.param({"features_alert": 0.5, "n_features": 5}, {"x": "AA", "y": "AA"}, ". .", id="a share rounds up"),
    ],
)
def test_sentences_about_several_features(rules: dict[str, Any], verdicts: dict[str, str], told: str) -> None:
    assert World(Rules(**rules)).run(**verdicts) == told


@pytest.mark.parametrize(("share", "n", "needed"), [(0.1, 30, 3), (0.1, 31, 4), (0.1, 0, 1), (1.0, 7, 7), (3, 100, 3)])
def test_a_share_of_features_is_a_count(share: float, n: int, needed: int) -> None:
    assert Rules(features_alert=share, n_features=n).features_needed == needed


def test_an_incident_says_since_when_and_when_it_was_confirmed() -> None:
    world = World()
    world.run(x="oAwA")
    assert world.only.opened_window == world.only.onset == day(1).start
    assert world.only.detail["confirmed_window"] == day(3).start.isoformat()
    assert world.only.last_window == day(3).start
    assert world.only.id == incident_id("m", Check.FEATURE_DRIFT, day(1).start)


def test_an_alert_before_an_undecided_test_does_not_date_the_incident() -> None:
    world = World()
    world.run(x="AuuuAA")
    assert world.only.opened_window == day(4).start


def test_undecided_windows_do_not_gather_chance_alerts_into_a_page() -> None:
    """At a level of 2 % two in a row come once in 2500 windows; any two of many come every 100."""
    rng = random.Random(11)
    letters = "".join("A" if rng.random() < 0.02 else "u" for _ in range(5000))
    assert World().run(x=letters).count("open") == letters.count("AA") <= 6


def test_a_test_that_cannot_tell_counts_again_once_it_can() -> None:
    world = World()
    world.run(x="Au")
    world.take(1, [result("A", day(1))])
    assert world.series[Check.FEATURE_DRIFT, "x", None].bad == 1
    world.take(2, [result("A", day(2))])
    assert world.only.opened_window == day(1).start


def test_features_come_worst_first_by_effect_against_their_limit() -> None:
    world = World(Rules(confirm=1))
    world.take(
        0,
        [
            result("A", day(0), "mild", value=0.3, threshold=0.2),
            result("A", day(0), "worst", value=0.4, threshold=0.1),
            result("A", day(0), "middle", value=4.0, threshold=2.0, metric="wasserstein"),
            result("o", day(0), "fine"),
        ],
    )
    assert world.only.features == ["worst", "middle", "mild"]


def test_the_worst_metric_speaks_for_the_series() -> None:
    world = World()
    for number in range(2):
        world.take(number, [result("o", day(number)), result("A", day(number), metric="ks")])
    assert world.only.features == ["x"]
    for number in range(2, 6):
        world.take(number, [result("o", day(number)), result("c", day(number), metric="ks")])
    assert world.only.state is IncidentState.OPEN, "half an answer resolves nothing"


def test_checks_have_incidents_of_their_own_and_segments_are_series() -> None:
    world = World(Rules(confirm=1))
    step = world.take(
        0,
        [
            result("A", day(0)),
            result("A", day(0), None, check=Check.PERFORMANCE, segment="country=DE", value=0.5, threshold=0.6),
            result("o", day(0), None, check=Check.PERFORMANCE, value=0.7, threshold=0.6),
        ],
    )
    assert {i.check for i in step.incidents} == {Check.FEATURE_DRIFT, Check.PERFORMANCE}
    drift, performance = sorted(step.incidents, key=lambda incident: incident.check)
    assert members(performance) == [(Check.PERFORMANCE, None, "country=DE")]
    assert performance.features == []
    assert drift.detail["thread"] == performance.detail["thread"], "told together, threaded together"


APP = "channel=app"


def days_of(world: World, whole: str, segment: str, *, since: int = 0) -> list[str]:
    """Performance of all rows and of one segment, a letter a day; what was told."""
    told = []
    for number, letters in enumerate(zip(whole, segment, strict=True), start=since):
        found = [
            result(letter, day(number), None, check=Check.PERFORMANCE, segment=name)
            for letter, name in zip(letters, (None, APP), strict=True)
            if letter != " "
        ]
        told.append("+".join(SHOWN[transition] for transition, _ in world.take(number, found).transitions) or ".")
    return told


@pytest.mark.parametrize(
    ("whole", "segment", "told"),
    [
        pytest.param("AAAoo", "AAAcc", "done", id="a segment that became too small goes with all rows"),
        pytest.param("AAAoo", "AAA  ", "done", id="one that has no rows any more as well"),
        pytest.param("AAAoo", "AAAAc", ".", id="one that went on alone, and then fell silent, does not"),
        pytest.param("AAAoo", "AAAow", ".", id="one that still warns does not"),
        pytest.param("AAAoo", "AAAco", ".", id="one that can be judged is judged"),
        pytest.param("oooooo", "AAAccc", ".", id="where all rows never fell they say nothing of a segment"),
        pytest.param("AAAccc", "AAAccc", ".", id="silence of all is no recovery"),
    ],
)
def test_a_segment_that_fell_silent_does_not_keep_open_what_is_over(whole: str, segment: str, told: str) -> None:
    world = World()
    assert days_of(world, whole, segment)[-1] == told
    assert (world.only.state is IncidentState.RESOLVED) == (told == "done")


@pytest.mark.parametrize(
    ("detectable", "value", "ends"),
    [
        pytest.param(0.28, 0.04, True, id="too small for the limit, and not for what there was"),
        pytest.param(0.50, 0.04, False, id="too small for what there was"),
        pytest.param(0.28, 0.25, False, id="beyond the limit, and no more than chance"),
        pytest.param(None, 0.04, False, id="not asked what it could show"),
    ],
)
def test_a_small_segment_is_well_where_it_could_show_what_there_was(
    detectable: float | None, value: float, ends: bool
) -> None:
    world = World()
    for number in range(3):
        world.take(number, [result("A", day(number), segment=APP, value=0.4), result("o", day(number), value=0.01)])
    assert world.only.state is IncidentState.OPEN
    detail = {} if detectable is None else {"smallest_detectable": detectable}
    for number in range(3, 6):
        small = result("u", day(number), segment=APP, value=value, detail=detail)
        world.take(number, [small, result("o", day(number), value=0.01)])
    assert (world.only.state is IncidentState.RESOLVED) == ends
    fresh = World()
    fresh.take(0, [result("u", day(0), segment=APP, value=value, detail=detail)])
    assert not any(state.segment == APP for state in fresh.series.values()), "where nothing is open it cannot tell"


def test_what_a_silent_segment_had_is_no_part_of_its_next_incident() -> None:
    world = World()
    days_of(world, "AAAoo", "AAAcc")
    assert days_of(world, "oo", "Ao", since=5) == [".", "."], "one bad window is not enough, as for any other"
    assert days_of(world, "oo", "AA", since=7)[-1] == "open"
    assert [i.opened_window for i in world.incidents.values()] == [day(0).start, day(7).start]


def test_a_replay_that_begins_after_a_segment_fell_silent_ends_the_incident_as_well() -> None:
    world = World()
    days_of(world, "AAAcccccccc", "AAAcccccccc")
    late = [(day(n), [result("o", day(n), None, check=Check.PERFORMANCE)]) for n in range(7, 11)]
    step = replay(model="m", windows=late, rules=world.rules, incidents=world.incidents.values())
    assert [(kind, i.resolved_window) for kind, i in step.transitions] == [(Transition.RESOLVED, day(8).start)]
    [segment] = [state for state in step.series if state.segment == APP]
    assert (segment.bad, segment.since, segment.last_window) == (0, None, day(2).start)


def test_another_job_does_not_touch_what_it_did_not_look_at() -> None:
    world = World()
    world.run(x="AA")
    for number in range(2, 6):
        step = world.take(number, [result("o", day(number), None, check=Check.PERFORMANCE)])
        assert not step.transitions
    assert world.only.state is IncidentState.OPEN


def test_windows_that_are_older_than_the_series_are_ignored() -> None:
    world = World()
    world.run(x="oooA")
    before = dict(world.series)
    assert world.take(1, [result("A", day(1))]) == Step()
    assert world.take(3, [result("A", day(3))]) == Step()
    assert world.series == before


def test_labels_that_land_later_decide_a_window_that_could_not_tell() -> None:
    world = World(Rules(confirm=1))
    late = {"check": Check.PERFORMANCE, "feature": None}
    world.take(0, [replace(result("c", day(0)), **late)])
    step = world.take(0, [replace(result("A", day(0)), **late)])
    assert [transition for transition, _ in step.transitions] == [Transition.OPENED]


# --- no rows -----------------------------------------------------------------------------------------


def rows(letter: str, number: int) -> list[Result]:
    n_rows = result("n" if letter == "n" else "o", day(number), None, check=Check.QUALITY, metric="n_rows", value=0.0)
    return [n_rows, result(letter, day(number))]


def test_windows_without_rows_are_an_incident_of_their_own_that_ends_when_rows_return() -> None:
    world = World(Rules(no_data=2))
    told = [[SHOWN[t] for t, _ in world.take(n, rows(letter, n)).transitions] for n, letter in enumerate("onnno")]
    assert told == [[], [], ["silence"], [], ["done"]]
    assert world.only.check is Check.QUALITY
    assert world.only.features == []
    assert world.only.detail["kind"] == "no_data"
    assert world.series[Check.QUALITY, ROWS, None].good == 1


def test_missing_rows_do_not_resolve_a_drift_and_stand_beside_it() -> None:
    world = World(Rules(no_data=2))
    for number, letter in enumerate("AAnn"):
        world.take(number, rows(letter, number))
    assert {i.check: i.state for i in world.incidents.values()} == {
        Check.FEATURE_DRIFT: IncidentState.OPEN,
        Check.QUALITY: IncidentState.OPEN,
    }


def test_one_feature_without_values_is_not_a_window_without_rows() -> None:
    world = World(Rules(no_data=1))
    world.take(0, [result("n", day(0), "x"), result("o", day(0), "y")])
    assert not world.incidents


# --- muting, backfill, people ------------------------------------------------------------------------


def test_what_is_muted_moves_on_in_silence_and_is_told_when_the_mute_ends() -> None:
    world = World()
    for number in range(3):
        assert not world.take(number, [result("A", day(number))], muted=["x"]).transitions
    assert world.only.state is IncidentState.OPEN
    step = world.take(3, [result("A", day(3))])
    assert [transition for transition, _ in step.transitions] == [Transition.OPENED]


def test_a_backfill_moves_the_state_and_tells_nothing_and_today_tells_it_once() -> None:
    world = World()
    for number in range(4):
        assert not world.take(number, [result("A", day(number))], tell=False).transitions
    assert [t for t, _ in world.take(4, [result("A", day(4))]).transitions] == [Transition.OPENED]
    assert not world.take(5, [result("A", day(5))]).transitions


def test_what_nobody_was_told_of_is_not_resolved_aloud() -> None:
    world = World()
    for number, letter in enumerate("AAoo"):
        assert not world.take(number, [result(letter, day(number))], muted=[None]).transitions
    assert world.only.state is IncidentState.RESOLVED


def test_an_acknowledged_incident_is_not_repeated_but_still_worsens() -> None:
    world = World(Rules(repeat=timedelta(days=1)))
    world.run(x="AA")
    world.incidents = {i.id: replace(i, acknowledged_by="ada") for i in world.incidents.values()}
    assert not world.take(2, [result("A", day(2)), result("A", day(2), "y")]).transitions
    step = world.take(3, [result("A", day(3)), result("A", day(3), "y")])
    assert [t for t, _ in step.transitions] == [Transition.WORSENED]
    assert step.incidents[0].detail["new"] == ["y"]


def test_a_removed_model_closes_its_incidents_as_removed_and_not_as_resolved() -> None:
    world = World()
    world.run(x="AA")
    [closed] = removed(world.incidents.values(), window=day(2))
    assert closed.state is IncidentState.REMOVED


def test_a_feature_that_is_monitored_no_more_does_not_hold_an_incident_open() -> None:
    world = World()
    world.run(x="AA  ", y="AAoo")
    assert world.only.state is IncidentState.RESOLVED
    world = World()
    world.run(x="AA ", y="ooo")
    assert world.only.state is IncidentState.REMOVED


# --- restatement -------------------------------------------------------------------------------------


def history(**verdicts: str) -> list[tuple[Window, list[Result]]]:
    days = max(map(len, verdicts.values()))
    return [(day(n), [result(letters[n], day(n), name) for name, letters in verdicts.items()]) for n in range(days)]


def test_replaying_the_same_past_changes_nothing() -> None:
    world = World()
    world.run(x="oAAAoo", y="oooooo")
    step = replay(
        model="m", windows=history(x="oAAAoo", y="oooooo"), rules=world.rules, incidents=world.incidents.values()
    )
    assert step.transitions == []
    assert [(i.id, i.state, i.features) for i in world.incidents.values()] == [
        (i.id, i.state, i.features) for i in step.incidents or world.incidents.values()
    ]
    assert {(s.check, s.feature, s.segment): s for s in step.series if s.feature != ROWS} == {
        key: state for key, state in world.series.items() if key[1] != ROWS
    }


def test_a_restated_window_that_was_fine_takes_the_incident_back() -> None:
    world = World()
    world.run(x="oAA")
    step = replay(model="m", windows=history(x="ooA"), rules=world.rules, incidents=world.incidents.values())
    assert [(t, i.state) for t, i in step.transitions] == [(Transition.RESTATED, IncidentState.RESOLVED)]


def test_a_restated_window_that_was_bad_opens_an_incident_once() -> None:
    world = World()
    world.run(x="ooA")
    step = replay(model="m", windows=history(x="oAA"), rules=world.rules, incidents=())
    assert [t for t, _ in step.transitions] == [Transition.OPENED]
    world.series = {(s.check, s.feature, s.segment): s for s in step.series}
    world.incidents = {i.id: i for i in step.incidents}
    assert not world.take(3, [result("A", day(3))]).transitions


def test_labels_that_complete_the_past_resolve_and_worsen_as_any_window_does() -> None:
    world = World()
    world.run(x="AAcc", y="occc")
    cases = [("AAoc", "ooco", None), ("AAoo", "oooo", Transition.RESOLVED), ("AAcA", "oAAA", Transition.WORSENED)]
    for x, y, news in cases:
        step = replay(model="m", windows=history(x=x, y=y), rules=world.rules, incidents=world.incidents.values())
        assert [t for t, _ in step.transitions] == ([news] if news else [])


def test_an_incident_that_a_restatement_brings_back_is_told_as_restated() -> None:
    world = World()
    world.run(x="AAoo")
    step = replay(model="m", windows=history(x="AAoA"), rules=world.rules, incidents=world.incidents.values())
    assert [(t, i.state) for t, i in step.transitions] == [(Transition.RESTATED, IncidentState.OPEN)]


def test_an_incident_that_is_over_stays_over_where_it_was_however_often_later_windows_are_restated() -> None:
    world, days = World(), "AAooooooAAoooooooooo"
    world.run(x=days)
    ended = {i.id: (i.opened_window, i.last_window, i.resolved_window) for i in world.incidents.values()}
    assert len(ended) == 2
    for first in range(len(days)):
        start = replay_from(day(first).start, world.incidents.values())
        windows = [(window, results) for window, results in history(x=days) if window.start >= start]
        step = replay(model="m", windows=windows, rules=world.rules, incidents=world.incidents.values())
        world.incidents |= {incident.id: incident for incident in step.incidents}
        assert step.transitions == []
        assert {i.id: (i.opened_window, i.last_window, i.resolved_window) for i in world.incidents.values()} == ended


def test_an_incident_that_is_over_is_taken_back_once_where_its_windows_turn_out_good() -> None:
    world = World()
    world.run(x="AAoo")
    replayed = {"windows": history(x="oAoo"), "rules": world.rules}
    step = replay(model="m", **replayed, incidents=world.incidents.values())
    assert [(t, i.standing) for t, i in step.transitions] == [(Transition.RESTATED, "taken back")]
    world.incidents = {i.id: i for i in step.incidents}
    assert world.only.resolved_window == day(3).start
    again = replay(model="m", **replayed, incidents=world.incidents.values())
    assert (again.transitions, again.incidents) == ([], [])
    part = replay(model="m", windows=history(x="oAoo")[1:], rules=world.rules, incidents=world.incidents.values())
    assert (part.transitions, part.incidents) == ([], [])
    back = replay(model="m", windows=history(x="AAoA"), rules=world.rules, incidents=world.incidents.values())
    assert [(t, i.standing) for t, i in back.transitions] == [(Transition.RESTATED, "open")]
    assert "taken_back" not in back.transitions[0][1].detail


def test_an_incident_that_is_over_is_not_taken_back_by_other_windows_under_new_rules() -> None:
    world = World(Rules(confirm=1))
    world.run(x="Aoooo")
    replayed = {"windows": history(x="Aoooo"), "rules": Rules(confirm=2), "incidents": world.incidents.values()}
    assert replay(model="m", **replayed, anew=[day(3)]).incidents == []
    assert [i.standing for i in replay(model="m", **replayed, anew=[day(0)]).incidents] == ["taken back"]


def test_what_is_found_late_and_is_over_by_then_is_told_once() -> None:
    windows = history(x="oAAoo")
    step = replay(model="m", windows=windows, rules=Rules())
    assert [(t, i.state) for t, i in step.transitions] == [(Transition.OPENED, IncidentState.RESOLVED)]
    assert step.incidents[0].detail["told"] == [["x", None]]
    again = replay(model="m", windows=windows, rules=Rules(), incidents=step.incidents)
    assert (again.transitions, again.incidents) == ([], [])
    muted = replay(model="m", windows=windows, rules=Rules(), muted=["x"])
    assert (muted.transitions, len(muted.incidents)) == ([], 1)


def test_a_replay_sees_what_came_before_its_range_where_it_comes_again_with_a_season() -> None:
    def seasonal(letter: str, number: int) -> list[Result]:
        return [result(letter, day(number), detail={"season": WEEKLY})]

    windows = [(day(n), seasonal("A" if n == 7 else "o", n)) for n in range(5, 10)]
    seen = replay(model="m", windows=windows, rules=Rules(), earlier=lambda _: seasonal("A", 0))
    assert [i.opened_window for i in seen.incidents] == [day(7).start]
    assert replay(model="m", windows=windows, rules=Rules()).incidents == []


def named(letter: str, number: int, metric: str, **detail: Any) -> Result:
    return result(letter, day(number), None, check=Check.PERFORMANCE, metric=metric, detail=detail)


def test_an_incident_is_not_over_by_what_other_metrics_say_while_its_own_are_silent() -> None:
    """Corrected precision is well in windows whose labels are too young to say whether scores mean what they meant."""
    world = World()
    for number in range(2):
        world.take(number, [named("o", number, "precision"), named("A", number, "calibration_drift")])
    for number in range(2, 6):
        young = named("c", number, "calibration_drift", decides=False)
        world.take(number, [named("o", number, "precision"), young])
    assert world.only.state is IncidentState.OPEN
    for number in range(6, 8):  # the last windows together speak for one that is too small
        small = named("c", number, "calibration_drift", decides=False)
        together = named("o", number, "calibration_drift_accumulated")
        world.take(number, [named("o", number, "precision"), small, together])
    assert world.only.state is IncidentState.RESOLVED


def test_what_is_no_longer_computed_keeps_nothing_open() -> None:
    world = World()
    for number in range(2):
        world.take(number, [named("o", number, "precision"), named("A", number, "recall")])
    for number in range(2, 4):
        world.take(number, [named("o", number, "precision")])
    assert world.only.state is IncidentState.RESOLVED


def test_a_silent_replay_leaves_the_telling_to_the_next_window() -> None:
    step = replay(model="m", windows=history(x="AA"), rules=Rules(), tell=False)
    assert step.transitions == []
    world = World()
    world.series = {(s.check, s.feature, s.segment): s for s in step.series}
    world.incidents = {i.id: i for i in step.incidents}
    assert [t for t, _ in world.take(2, [result("A", day(2))]).transitions] == [Transition.OPENED]


def test_a_replay_keeps_what_people_did_and_said() -> None:
    world = World()
    world.run(x="oAAA")
    world.incidents = {i.id: replace(i, acknowledged_by="ada", cause="pipeline_bug") for i in world.incidents.values()}
    step = replay(model="m", windows=history(x="oAAo"), rules=world.rules, incidents=world.incidents.values())
    kept = next(iter(step.incidents))
    assert (kept.acknowledged_by, kept.cause) == ("ada", "pipeline_bug")
    assert kept.detail["told"] == world.only.detail["told"]


def test_a_replay_leaves_the_incidents_of_other_checks_alone() -> None:
    other = Incident(
        "inc_1",
        "m",
        Check.PERFORMANCE,
        IncidentState.RESOLVED,
        Verdict.ALERT,
        day(-9).start,
        day(1).start,
        day(1).start,
    )
    assert replay(model="m", windows=history(x="ooo"), rules=Rules(), incidents=[other]).incidents == []


# --- laws --------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(verdicts=st.text("Awoc", max_size=30), confirm=st.integers(1, 4), recover=st.integers(1, 4))
def test_laws_of_any_history(verdicts: str, confirm: int, recover: int) -> None:
    """They alternate; an opening ends ``confirm`` bad windows, a resolution ``recover`` good ones."""
    world = World(Rules(confirm=confirm, recover=recover))
    decided = ""
    state = "done"
    for number, letter in enumerate(verdicts):
        step = world.take(number, [result(letter, day(number))])
        decided += letter if letter != "c" else ""
        for transition, _ in step.transitions:
            assert SHOWN[transition] != state
            state = SHOWN[transition]
            streak = decided.replace("w", "") if state == "open" else decided
            assert streak.endswith("A" * confirm if state == "open" else "o" * recover)
    again = replay(
        model="m", windows=[(day(n), [result(v, day(n))]) for n, v in enumerate(verdicts)], rules=world.rules
    )
    stored = {i.id: (i.state, i.opened_window, i.resolved_window) for i in world.incidents.values()}
    assert {i.id: (i.state, i.opened_window, i.resolved_window) for i in again.incidents} == stored


def test_the_order_of_results_changes_nothing() -> None:
    results = [result("A", day(0), name, value=value) for name, value in (("a", 0.3), ("b", 0.9), ("c", 0.5))]
    steps = []
    for seed in range(5):
        random.Random(seed).shuffle(results)
        steps.append(World(Rules(confirm=1)).take(0, results).incidents)
    assert all(step == steps[0] for step in steps)


@pytest.mark.parametrize(
    "quiet",
    [
        pytest.param({"metric": "precision", "threshold": None}, id="a metric without a limit"),
        pytest.param({"metric": "recall", "kind": "estimated"}, id="an estimate from before the labels"),
        pytest.param({"metric": "recall", "detail": {"decides": False}}, id="a curve that does not decide"),
    ],
)
def test_an_incident_is_not_resolved_by(quiet: dict[str, Any]) -> None:
    world = World()
    bad = {"check": Check.PERFORMANCE, "metric": "roc_auc", "value": 0.5, "threshold": 0.7}
    for number in range(2):
        world.take(number, [result("A", day(number), None, **bad)])
    opened = [incident for incident in world.incidents.values() if incident.check is Check.PERFORMANCE]
    assert len(opened) == 1
    for number in range(2, 6):
        world.take(number, [result("o", day(number), None, check=Check.PERFORMANCE, value=0.9, **quiet)])
    assert [incident.state for incident in world.incidents.values()] == [IncidentState.OPEN]


def test_an_open_incident_spends_nothing_more_of_the_budget() -> None:
    world = World()
    spending = [
        [result("A", day(n), detail={"spend": 1e-4, "against": "baseline"}),
         result("A", day(n), metric="ks", detail={"spend": 1e-4, "against": "baseline"}),
         result("o", day(n), "y", detail={"spend": 1e-4})]
        for n in range(3)
    ]  # fmt: skip
    seen = []
    for number, results in enumerate(spending):
        seen.append(unspent(results, world.incidents.values(), window=day(number)))
        world.take(number, seen[-1])
    assert [[r.detail["spend"] for r in window] for window in seen] == [[1e-4] * 3, [1e-4] * 3, [0.0, 0.0, 1e-4]]
    assert spent_on([r for window in seen for r in window]) == pytest.approx(1e-4)  # two windows confirm one page
    over = [replace(i, state=IncidentState.RESOLVED, resolved_window=day(3).start) for i in world.incidents.values()]
    assert unspent(spending[2], over, window=day(5))[0].detail["spend"] == 1e-4


def test_an_incident_that_began_earlier_keeps_its_id_and_what_was_told_of_it() -> None:
    world = World()
    world.run(x="oooAAA")
    told = world.only
    step = replay(model="m", windows=history(x="oAAAAA"), rules=world.rules, incidents=[told], tell=False)
    [joined] = step.incidents
    assert (joined.id, joined.opened_window, joined.onset) == (told.id, day(1).start, day(1).start)
    assert joined.detail["told"] == told.detail["told"]
    assert step.gone == []
    again = replay(model="m", windows=history(x="oAAAAA"), rules=world.rules, incidents=[joined])
    assert (again.incidents, again.transitions) == ([], [])


def test_two_incidents_that_turn_out_to_be_one_fault_are_one() -> None:
    world = World()
    world.run(x="AAooAAA")
    first, second = sorted(world.incidents.values(), key=lambda one: one.opened_window)
    follower = replace(first, id="inc_q", check=Check.QUALITY, detail={"series": [], "root": first.id})
    for heard, kept in ((first, first), (second, second)):
        stored = [
            replace(each, detail={k: v for k, v in each.detail.items() if k != "told" or each is heard})
            for each in (first, second)
        ]
        step = replay(
            model="m", windows=history(x="AAAAAAA"), rules=world.rules, incidents=[*stored, follower], tell=False
        )
        [whole] = [each for each in step.incidents if each.check is Check.FEATURE_DRIFT]
        assert (whole.id, whole.opened_window, whole.state) == (kept.id, day(0).start, IncidentState.OPEN)
        assert step.gone == [each.id for each in (first, second) if each is not heard]
        if heard is second:
            assert [each.detail["root"] for each in step.incidents if each.id == "inc_q"] == [second.id]


def test_what_is_judged_late_changes_nothing_of_what_later_windows_have_said() -> None:
    world = World()
    world.run(x="    AAA")
    assert is_overtaken(day(1), [result("A", day(1))], world.series)
    assert not is_overtaken(day(7), [result("A", day(7))], world.series)
    past = [(window, results) for window, results in history(x="AAA") if window <= day(1)]
    step = replay(model="m", windows=past, rules=world.rules, incidents=world.incidents.values(), tell=False)
    then = as_of_then(step, window=day(1), series=world.series, known=world.incidents.values())
    assert then.series == []
    assert [(each.opened_window, each.state) for each in then.incidents] == [(day(0).start, IncidentState.OPEN)]
