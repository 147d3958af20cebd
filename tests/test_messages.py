"""What people read: one message per model and window, in plain words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitor.alerting import shown
from monitor.incidents import Rules, advance
from monitor.messages import (
    DIGESTED,
    caught_up,
    closes_thread,
    compose,
    dedup_key,
    digest,
    duration,
    finding_text,
    number,
    skipped,
    source_broken,
    split_of,
    undeliverable,
)
from monitor.models import Check, Incident, IncidentState, Message, Result, Transition, Verdict, Window

START = datetime(2026, 11, 19, tzinfo=UTC)
DAY = Window(START, START + timedelta(days=1))


def result(feature: str | None = "amount", value: float | None = 0.38, **changes: Any) -> Result:
    base = Result(
        "fraud",
        Check.FEATURE_DRIFT,
        "psi",
        DAY,
        value,
        Verdict.ALERT,
        feature=feature,
        threshold=0.2,
        p_value=1e-9,
        detail={"what": "median 41 → 63"},
    )
    return replace(base, **changes)


def incident(check: Check = Check.FEATURE_DRIFT, *features: str, **changes: Any) -> Incident:
    base = Incident(
        f"inc_{check.value}",
        "fraud",
        check,
        IncidentState.OPEN,
        Verdict.ALERT,
        START - timedelta(days=1),
        START,
        features=list(features),
        detail={"series": [[name, None] for name in features] or [[None, None]]},
    )
    return replace(base, **changes)


DRIFT = incident(Check.FEATURE_DRIFT, "amount", "age", "income", "country")
RESULTS = [
    result("country", 0.25),
    result("amount"),
    result("age", 0.9),
    result("income", 0.3),
    result("fine", 0.01, verdict=Verdict.OK),
    result("amount", 0.25, metric="ks"),
]


def message_of(*changes: tuple[Transition, Incident], results: list[Result] | None = None, **options: Any) -> Message:
    return compose(
        model="fraud", window=DAY, changes=changes, results=RESULTS if results is None else results, **options
    )


def test_the_worst_three_features_are_spelled_out_and_the_rest_counted() -> None:
    message = message_of((Transition.OPENED, DRIFT))
    assert [finding.name for finding in message.findings] == ["age", "amount", "income"]
    assert message.more == 1
    assert message.title == "fraud: 4 features drifted"
    assert message.summary == "4 features drifted since 2026-11-18."


def test_a_finding_says_the_number_the_limit_and_what_changed() -> None:
    assert finding_text(result()) == "PSI 0.38, limit 0.2: median 41 → 63"
    skew = result(metric="mismatch_rate", check=Check.SKEW, value=0.123, threshold=0.01, detail={})
    assert finding_text(skew) == "mismatch rate 12.3 %, limit 1.0 %"
    assert finding_text(result(detail={"against": "previous"})) == "PSI 0.38, limit 0.2 against the window before"
    fell = result(
        None, 0.61, check=Check.PERFORMANCE, metric="recall", threshold=0.7, detail={"what": "recall 0.800 → 0.610"}
    )
    assert finding_text(fell) == "0.61, limit 0.7: recall 0.800 → 0.610"


def test_all_that_happened_in_a_window_is_one_message_with_a_word_for_each_check() -> None:
    score = incident(Check.SCORE_DRIFT, id="inc_score")
    results = [*RESULTS, result(None, 0.5, check=Check.SCORE_DRIFT)]
    message = message_of((Transition.OPENED, DRIFT), (Transition.OPENED, score), results=results)
    assert message.title == "fraud: 4 features drifted; the score drifted"
    assert {finding.name for finding in message.findings} == {"age", "amount", "score"}
    assert message.more == 2
    assert message.incident_ids == ["inc_feature_drift", "inc_score"]


def test_of_equal_effects_the_more_important_feature_comes_first() -> None:
    results = [result("age"), result("amount"), result("income")]
    ranked = message_of((Transition.OPENED, DRIFT), results=results, ranks={"income": 0.9, "amount": 0.1})
    assert [finding.name for finding in ranked.findings] == ["income", "amount", "age"]


def test_no_cause_is_named_where_none_can_be_told() -> None:
    unclear = replace(DRIFT, cause="cannot_tell", cause_confidence=0.0)
    assert "Likely cause" not in message_of((Transition.OPENED, unclear)).facts


def test_cause_confidence_advice_and_certainty_are_told() -> None:
    known = replace(
        DRIFT, cause="pipeline_bug", cause_confidence=0.8, detail=DRIFT.detail | {"advice": "Check the job."}
    )
    message = message_of((Transition.OPENED, known), owner="risk", runbook="https://w", report_url="https://r")
    assert message.facts == {
        "Likely cause": "pipeline bug (80% sure)",
        "Since": "2026-11-18",
        "Chance alone": "p < 0.0001",
    }
    assert (message.advice, message.owner, message.runbook, message.report_url) == (
        "Check the job.",
        "risk",
        "https://w",
        "https://r",
    )


def test_performance_says_how_many_labels_it_stands_on() -> None:
    fell = result(None, 0.6, check=Check.PERFORMANCE, metric="recall", threshold=0.7, label_coverage=0.83, p_value=None)
    message = message_of((Transition.OPENED, incident(Check.PERFORMANCE)), results=[fell])
    assert message.facts["Labels"] == "83% have landed"
    assert message.title == "fraud: performance fell"


FELL = {"explained_change": [-0.02, -0.05, 0.01], "rule_change": [-0.1, -0.14, -0.06]}


def test_a_fall_is_told_as_what_inputs_explain_and_what_the_rule() -> None:
    words = "of a change by -0.120: inputs explain -0.020 [-0.050, +0.010]; the rule -0.100 [-0.140, -0.060]"
    fell = result(None, 0.6, check=Check.PERFORMANCE, metric="recall", threshold=0.7, p_value=None, detail=FELL)
    assert split_of(fell) == (f"{words}, beyond chance", True)
    message = message_of((Transition.OPENED, incident(Check.PERFORMANCE)), results=[fell])
    assert message.facts["Inputs or rule"] == f"recall: {words}, beyond chance"
    inputs_only = replace(fell, detail={"explained_change": [-0.1, -0.12, -0.08], "rule_change": [0.0, -0.03, 0.03]})
    told = split_of(inputs_only)
    assert told is not None
    assert not told.beyond_chance
    assert told.words.endswith("the rule 0.000 [-0.030, +0.030], may be chance")
    assert split_of(replace(fell, detail={})) is None
    drift = message_of((Transition.OPENED, DRIFT), results=[*RESULTS, fell])
    assert "Inputs or rule" not in drift.facts, "the incident of another check"


def test_a_resolution_says_how_long_it_lasted_and_closes_the_thread() -> None:
    over = replace(DRIFT, state=IncidentState.RESOLVED, resolved_window=START + timedelta(days=2, hours=4))
    message = message_of((Transition.RESOLVED, over))
    assert message.summary == "Resolved after 3 days 4 h: 4 features drifted (since 2026-11-18)."
    assert message.severity is Verdict.OK
    assert closes_thread(message)
    assert message.findings == []


def test_a_resolution_of_one_while_another_is_open_is_no_all_clear() -> None:
    over = replace(DRIFT, state=IncidentState.RESOLVED, resolved_window=START)
    message = message_of((Transition.RESOLVED, over), still_open=[incident(Check.PERFORMANCE)])
    assert message.summary.endswith("Still open: performance fell.")
    assert not closes_thread(message)
    assert message.severity is Verdict.ALERT


def test_what_is_found_when_it_is_over_says_from_when_to_when_and_is_no_alarm() -> None:
    over = {"state": IncidentState.RESOLVED, "resolved_window": START}
    detail = {"series": [[None, None]], "advice": "Look at what changed."}
    fell = incident(Check.PERFORMANCE, **over, summary="Recall 0.4.", detail=detail)
    message = message_of((Transition.OPENED, fell), results=[])
    assert message.title == "fraud: performance fell, over by now"
    assert message.summary == "Performance fell since 2026-11-18, until 2026-11-19: found only now. Recall 0.4."
    assert message.severity is Verdict.WARN
    assert message.advice == "Look at what changed."


def test_an_incident_that_is_quiet_in_the_window_at_hand_is_told_by_its_last_bad_one() -> None:
    fell = incident(Check.PERFORMANCE)
    quiet = result(None, check=Check.PERFORMANCE, metric="recall", verdict=Verdict.CANNOT_TELL)
    bad = replace(quiet, value=0.31, verdict=Verdict.ALERT, detail={"what": "recall 0.44 → 0.31"})
    before = Window(START - timedelta(days=1), START)
    results = shown(
        [quiet], [(Transition.OPENED, fell)], window=before, earlier=lambda at: [bad] if at == START else []
    )
    [finding] = message_of((Transition.OPENED, fell), results=results).findings
    assert "recall 0.44 → 0.31" in finding.text
    assert shown([bad], [(Transition.OPENED, fell)], window=before, earlier=lambda _: [quiet]) == [bad]


def test_what_is_taken_back_says_so() -> None:
    detail = {"series": [[None, None]], "taken_back": True}
    fell = incident(Check.PERFORMANCE, state=IncidentState.RESOLVED, resolved_window=START, detail=detail)
    message = message_of((Transition.RESTATED, fell), results=[])
    assert message.summary == "Performance fell since 2026-11-18: taken back, later data shows otherwise."
    assert message.severity is Verdict.OK


@pytest.mark.parametrize(
    ("transition", "title"),
    [
        (Transition.OPENED, "fraud: 4 features drifted"),
        (Transition.WORSENED, "fraud: more of it – 4 features drifted"),
        (Transition.REPEATED, "fraud: still – 4 features drifted"),
        (Transition.RESTATED, "fraud: restated – 4 features drifted"),
        (Transition.RESOLVED, "fraud: resolved – 4 features drifted"),
    ],
)
def test_the_title_names_why_it_is_sent(transition: Transition, title: str) -> None:
    assert message_of((transition, DRIFT)).title == title


def test_what_follows_from_something_told_is_no_more_of_it_when_it_is_first_told() -> None:
    skew = incident(Check.SKEW, features=["income"], detail={"series": [["income", None]], "root": "inc_1"})
    first = replace(skew, detail=skew.detail | {"told": [["income", None]], "new": ["income"]})
    message = message_of((Transition.WORSENED, first), results=[])
    assert message.title == "fraud: online and offline values differ in income, too"
    assert "new:" not in message.summary
    later = replace(
        first,
        features=["income", "age"],
        detail=first.detail | {"told": [["income", None], ["age", None]], "new": ["age"]},
    )
    message = message_of((Transition.WORSENED, later), results=[])
    assert message.title == "fraud: more of it – online and offline values differ in 2 features"
    assert message.summary.endswith("; new: age.")


def test_missing_rows_are_named_as_such() -> None:
    silent = incident(Check.QUALITY, detail={"series": [["__rows__", None]], "kind": "no_data"})
    assert message_of((Transition.NO_DATA, silent), results=[]).title == "fraud: no rows arrive"


def test_later_windows_answer_in_the_thread_in_which_the_incident_opened() -> None:
    step = advance(model="fraud", window=DAY, results=RESULTS, series={}, open_incidents=[], rules=Rules(confirm=1))
    opened = message_of(*step.transitions)
    worse = replace(step.incidents[0], features=["amount", "zip"])
    assert opened.thread_key
    assert message_of((Transition.WORSENED, worse)).thread_key == opened.thread_key


def test_nothing_changed_is_no_message() -> None:
    with pytest.raises(ValueError, match="at least one change"):
        message_of()


def test_the_same_news_has_one_key_and_other_news_another() -> None:
    changes = [(Transition.OPENED, DRIFT), (Transition.OPENED, incident(Check.SKEW))]
    key = dedup_key("fraud", DAY, changes=changes)
    assert key == dedup_key("fraud", DAY, changes=changes[::-1])
    others = {
        dedup_key("other", DAY, changes=changes),
        dedup_key("fraud", None, changes=changes),
        dedup_key("fraud", DAY, changes=changes[:1]),
        dedup_key("fraud", DAY, changes=changes, revision=1),
        dedup_key("fraud", DAY, changes=[(Transition.REPEATED, DRIFT), changes[1]]),
    }
    assert len(others | {key}) == 6


def test_operators_are_told_what_is_broken_and_what_to_do() -> None:
    broken = source_broken("main", reason="table_missing: predictions (closest: prediction)", models=["a", "b"])
    assert broken.transition is Transition.OPERATOR
    assert "2 models wait" in broken.summary
    lost = skipped("fraud", [DAY, Window(DAY.end, DAY.end + timedelta(days=1))], reason="older than max_catch_up")
    assert "2 windows from 2026-11-19 to 2026-11-21 skipped" in lost.summary
    assert "--from 2026-11-19 --to 2026-11-21" in lost.advice
    assert "1 message for good" in undeliverable("team", reason="no_text", lost=[broken]).summary


def test_a_catch_up_is_one_message_with_the_worst_first() -> None:
    over = replace(DRIFT, state=IncidentState.RESOLVED, resolved_window=START)
    many = [message_of((Transition.RESOLVED, over))] + [message_of((Transition.OPENED, DRIFT))] * 20
    message = caught_up("fraud", messages=many)
    assert message.title == "fraud: caught up on 21 older messages"
    assert message.findings[0].verdict is Verdict.ALERT
    assert len(message.findings) == DIGESTED
    assert message.more == 11


def test_a_digest_shows_the_newest_of_each_thread() -> None:
    opened = message_of((Transition.OPENED, DRIFT))
    over = replace(DRIFT, state=IncidentState.RESOLVED, resolved_window=START)
    message = digest([opened, message_of((Transition.RESOLVED, over))], why="Slack was away")
    assert message.title == "2 messages on 1 model"
    assert message.summary == "Slack was away. In them: 1 opened, 1 resolved."
    assert [finding.text for finding in message.findings] == ["fraud: resolved – 4 features drifted"]
    assert message.severity is Verdict.OK


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.384, "0.384"),
        (2.0, "2"),
        (12345.0, "12,345"),
        (1e-7, "1.00e-07"),
        (3.14159e9, "3,141,590,000"),
        (None, "undefined"),
        (-0.05, "-0.05"),
        (1234567.8, "1,234,568"),
        (14132.4, "14,132"),
    ],
)
def test_numbers_are_plain(value: float | None, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("hours", "shown"), [(0, "0 min"), (0.5, "30 min"), (25, "1 day 1 h"), (76.5, "3 days 4 h"), (48, "2 days")]
)
def test_durations_are_two_units(hours: float, shown: str) -> None:
    assert duration(timedelta(hours=hours)) == shown
