"""What goes into the store comes out of it, the same from both databases, whatever the values."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from detectors.profiles import CategoricalProfile, CategoricalSpec, Column, NumericProfile, NumericSpec
from monitor.models import (
    Check,
    Finding,
    Incident,
    IncidentState,
    Job,
    Message,
    Outcome,
    Result,
    RunState,
    StoredProfile,
    Transition,
    Verdict,
    Window,
)
from monitor.store import ALL, Store, to_storable
from monitor.store.outbox import message_of
from monitor.store.storable import clean_text, dump_json, finite

NUMBERS = itertools.count()
T0 = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOSTILE = [
    "",
    "a\x00b",
    "\ud800",
    "\udc80x",
    "Ünïcödé 🙂",
    "x" * 10_000,
    "'; DROP TABLE result;--",
    "\u202e",
    "%s :p ?",
]
texts = st.text(st.characters(), max_size=20) | st.sampled_from(HOSTILE)
floats = st.floats() | st.sampled_from([1e308, 5e-324, -0.0, math.nan, math.inf, -math.inf, 1e23])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | floats
    | texts
    | st.integers(-(2**62), 2**62).map(np.int64)
    | floats.map(np.float64)
    | st.floats(width=32).map(np.float32)
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]))
    | st.decimals(allow_nan=True)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store.open(database_url, clock=lambda: NOW) as opened:
        yield opened


def day(k: int) -> Window:
    return Window(T0 + k * DAY, T0 + (k + 1) * DAY)


def run_window(store: Store, k: int, outcome: Outcome, model: str = "m") -> None:
    store.plan(model, Job.INPUTS, [day(k)], spec_version="s")
    claim = store.claim("w", lease=timedelta(minutes=5), models=[model])
    assert claim is not None
    assert claim.window == day(k)
    assert store.commit(claim, outcome)


def result(**changes: Any) -> Result:
    return replace(Result("m", Check.FEATURE_DRIFT, "psi", day(0), 0.5, Verdict.OK, feature="amount"), **changes)


@settings(deadline=None)
@given(values)
@example({"a": [np.float32("nan"), {"b": math.inf}, np.arange(3), {2, 1}, Path("x"), Decimal("NaN")]})
def test_whatever_becomes_storable_is_json_and_stays_as_it_is(value: Any) -> None:
    plain = to_storable(value)
    assert "NaN" not in dump_json(plain).replace('"', "") or "NaN" in str(value)
    assert to_storable(plain) == plain
    dump_json(plain).encode("utf-8")


@pytest.mark.parametrize("value", [b"x", object(), len])
def test_what_has_no_plain_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be kept"):
        to_storable({"a": [value]})


def test_a_naive_time_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="aware times only"):
        to_storable(datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="aware times only"):
        store.results("m", start=datetime(2026, 1, 1))  # noqa: DTZ001


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=floats, name=texts, detail=st.dictionaries(texts, values, max_size=4))
def test_any_result_comes_back_as_its_storable_self(
    store: Store, value: float, name: str, detail: dict[str, Any]
) -> None:
    model = f"m{next(NUMBERS)}"  # one for each example: the store is that of the whole test
    given_result = result(
        model=model, value=value, feature=name, segment=name, p_value=value, detail=detail, interval=(value, 1.0)
    )
    run_window(store, 0, Outcome(RunState.OK, results=[replace(given_result, n_current=np.int64(7))]), model=model)  # type: ignore[arg-type]
    (found,) = store.results(model, feature=name)
    assert found.value == finite(value)
    assert (found.feature, found.segment, found.n_current) == (clean_text(name), clean_text(name), 7)
    expected = to_storable(detail)
    if not math.isfinite(value):
        expected.setdefault("reason", "nan" if math.isnan(value) else "infinite")
    assert found.detail == expected


def test_names_of_any_length_have_profiles_and_keys_of_their_own(store: Store) -> None:
    names = ["x" * 10_000, "x" * 9_999 + "y", "X", "x"]
    counts = CategoricalProfile(n=1, missing=0, unseen=0, counts=np.array([1], dtype=np.int64))
    kept = [
        StoredProfile("m", day(0), name, counts, segment) for name in names for segment in (None, "s=" + "é" * 5000)
    ]
    run_window(store, 0, Outcome(RunState.OK, profiles=kept))
    found = store.profiles("m", start=day(0).start, end=day(0).end, segment=ALL)
    assert {(each.column, each.segment) for each in found} == {(each.column, each.segment) for each in kept}
    assert [each.column for each in store.profiles("m", start=T0, end=NOW, columns=[names[1]])] == [names[1]]


def test_times_of_one_instant_are_equal_and_order_whatever_their_zone(store: Store) -> None:
    east = timezone(timedelta(hours=9))
    store.plan("m", Job.INPUTS, [day(0), day(1)], spec_version="s")
    assert store.plan("m", Job.INPUTS, [Window(day(0).start.astimezone(east), day(0).end)], spec_version="s") == 0
    tenth = timedelta(microseconds=100_000)
    rows = store.windows("m", start=(day(0).end - tenth).astimezone(east), end=day(1).start + tenth)
    assert [row.window for row in rows] == [day(0), day(1)]
    assert all(row.window.start.tzinfo is UTC for row in rows)


# --- baselines ---------------------------------------------------------------------------------------


def column(name: str) -> Column:
    edges = np.arange(50, dtype=np.float64)
    spec = NumericSpec(edges, np.zeros(50), np.array([0, 50, 101], dtype=np.int64))
    cells = np.arange(101, dtype=np.int64)
    return Column(name, spec, NumericProfile(int(cells.sum()), 0, 0, 0, cells, 0.0, 49.0, 25.0, 3.0, 0.0, 0.0))


def save_baseline(store: Store, names: list[str], spec_hash: str = "h") -> Any:
    return store.save_baseline(
        "m", spec_hash=spec_hash, source="table train", window=day(0), n_rows=10,
        columns={name: column(name) for name in names}, detail={"auc": np.float64(0.7)}, created_at=T0,
    )  # fmt: skip


def test_a_baseline_comes_back_whole_in_its_order_and_the_newest_counts(store: Store) -> None:
    first = save_baseline(store, ["b", "a", "__score__"])
    second = save_baseline(store, ["c"], "h2")
    assert (list(first.columns), first.features) == (["b", "a", "__score__"], ["b", "a"])
    assert np.array_equal(first.columns["a"].reference.cells, column("a").reference.cells)  # type: ignore[union-attr]
    assert np.array_equal(first.columns["a"].spec.edges, column("a").spec.edges)  # type: ignore[union-attr]
    assert (first.window, first.detail, first.created_at) == (day(0), {"auc": 0.7}, T0)
    newest = store.baseline("m")
    assert newest is not None
    assert (newest.id, newest.spec_hash) == (second.id, "h2")
    assert store.baseline("other") is None
    assert list(store.baseline_by_id(first.id).columns) == ["b", "a", "__score__"]
    assert [(each.id, each.columns) for each in store.baselines("m")] == [(second.id, {}), (first.id, {})]
    with pytest.raises(LookupError, match="no baseline number 999"):
        store.baseline_by_id(999)


def test_a_category_spec_survives(store: Store) -> None:
    spec = CategoricalSpec(("a", "🙂", ""))
    reference = CategoricalProfile(6, 1, 2, np.array([1, 1, 1], dtype=np.int64), {"new": 2})
    saved = store.save_baseline(
        "m", spec_hash="h", source="s", window=None, n_rows=6, columns={"c": Column("c", spec, reference)}
    )
    assert saved.columns["c"].spec.categories == spec.categories  # type: ignore[union-attr]
    assert saved.columns["c"].reference.heavy_unseen == {"new": 2}  # type: ignore[union-attr]
    assert saved.window is None


# --- outbox ------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def post(database_url: str, clock: Clock) -> Iterator[Store]:
    with Store.open(database_url, clock=clock) as opened:
        yield opened


def message(title: str = "t", thread: str = "", kind: Transition = Transition.OPENED) -> Message:
    return Message(title, "s", Verdict.ALERT, kind, "m", day(0), thread_key=thread)


kept_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
"""Texts that both databases keep as they are."""


@given(
    message=st.builds(
        Message,
        title=kept_texts,
        summary=kept_texts,
        severity=st.sampled_from(Verdict),
        transition=st.sampled_from(Transition),
        model=kept_texts,
        window=st.sampled_from([None, day(0)]),
        more=st.integers(0, 9),
        findings=st.lists(st.builds(Finding, kept_texts, st.sampled_from(Verdict), kept_texts), max_size=3),
        facts=st.dictionaries(kept_texts, kept_texts, max_size=3),
        incident_ids=st.lists(kept_texts, max_size=2),
        report_url=st.none() | kept_texts,
        thread_key=kept_texts,
        possible_repeat=st.booleans(),
    )
)
def test_a_message_survives_the_outbox(message: Message) -> None:
    assert message_of(json.loads(dump_json(to_storable(message)))) == message


def titles(store: Store, destination: str = "team") -> list[str]:
    return [item.message.title for item in store.outbox_due(destination)]


def test_a_message_is_queued_once_for_each_destination_even_after_it_was_sent(post: Store) -> None:
    assert post.enqueue([("team", "k", message()), ("team", "k", message()), ("other", "k", message())]) == 2
    post.mark_sent(post.outbox_due("team")[0].id)
    assert post.enqueue([("team", "k", message()), ("team", "k" * 5000, message())]) == 1
    assert post.outbox_counts()["team"] == {"pending": 1, "sending": 0, "sent": 1, "dead": 0}


def test_only_one_worker_may_post_a_message(post: Store) -> None:
    post.enqueue([("team", "k", message())])
    (item,) = post.outbox_due("team")
    assert post.mark_sending(item.id)
    assert not post.mark_sending(item.id)
    assert post.outbox_due("team") == []


def test_a_message_left_in_sending_comes_again_as_a_possible_repeat(post: Store, clock: Clock) -> None:
    post.enqueue([("team", "k", message())])
    (item,) = post.outbox_due("team")
    assert not item.message.possible_repeat
    post.mark_sending(item.id, hold=timedelta(seconds=30))
    clock.now += timedelta(seconds=30)
    (again,) = post.outbox_due("team")
    assert (again.id, again.attempts, again.message.possible_repeat) == (item.id, 1, True)


def test_a_retry_waits_and_holds_up_its_thread_but_no_other(post: Store, clock: Clock) -> None:
    post.enqueue(
        [
            ("team", "1", message("opened", "x")),
            ("team", "2", message("y", "y")),
            ("team", "3", message("resolved", "x")),
        ]
    )
    first = post.outbox_due("team")[0]
    assert titles(post) == ["opened", "y", "resolved"]
    post.mark_sending(first.id)
    post.mark_retry(first.id, not_before=timedelta(minutes=1), error="503")
    assert titles(post) == ["y"]
    clock.now += timedelta(minutes=1)
    assert titles(post) == ["opened", "y", "resolved"]
    post.mark_dead(first.id, error="404")
    assert titles(post) == ["y", "resolved"]
    assert post.check() == ["1 message(s) for team could not be delivered"]


def test_what_was_sent_stays_sent(post: Store) -> None:
    post.enqueue([("team", "k", message())])
    (item,) = post.outbox_due("team")
    post.mark_sent(item.id, remote_ref="r")
    post.mark_retry(item.id, not_before=NOW, error="late")
    post.mark_dead(item.id, error="late")
    assert post.outbox_counts()["team"]["sent"] == 1


def test_later_messages_know_the_first_of_their_thread(post: Store) -> None:
    resolved = message("b", "x", Transition.RESOLVED)
    post.enqueue([("team", "1", message("a", "x")), ("team", "2", resolved), ("team", "3", message("c", "x"))])
    first, *_ = post.outbox_due("team")
    assert first.thread_ref is None
    post.mark_sent(first.id, remote_ref="C1/17.5")
    second, third = post.outbox_due("team")
    assert (second.thread_ref, second.update_ref) == ("C1/17.5", "C1/17.5")
    assert (third.thread_ref, third.update_ref) == ("C1/17.5", None)
    assert (post.thread_ref("team", "x"), post.thread_ref("other", "x")) == ("C1/17.5", None)
    assert post.thread_ref("team", "") is None


# --- incidents, mutes, ticks ---------------------------------------------------------------------------


def incident(name: str, *, state: IncidentState = IncidentState.OPEN, opened: int = 0) -> Incident:
    begin = T0 + opened * DAY
    return Incident(name, "m", Check.SKEW, state, Verdict.ALERT, begin, begin, features=["a", "b"], detail={"x": 1})


def test_an_acknowledgement_outlives_the_next_window(store: Store) -> None:
    run_window(store, 0, Outcome(RunState.OK, incidents=[incident("inc_aa01")]))
    assert store.acknowledge("inc_aa", who="ada", note="on it").acknowledged_by == "ada"
    run_window(store, 1, Outcome(RunState.OK, incidents=[replace(incident("inc_aa01"), summary="worse")]))
    (found,) = store.incidents("m", states=[IncidentState.OPEN])
    assert (found.summary, found.acknowledged_by, found.acknowledged_note) == ("worse", "ada", "on it")
    assert found.acknowledged_at == NOW


def test_an_incident_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    store.save_incidents([incident("inc_aa01"), incident("inc_ab02", opened=1)])
    assert [each.id for each in store.incidents()] == ["inc_ab02", "inc_aa01"]
    found = store.incident("ab")
    assert found == incident("inc_ab02", opened=1)
    assert store.incident("inc_aa01") is not None
    assert (store.incident("zz"), store.incident(""), store.incident("%")) == (None, None, None)
    with pytest.raises(LookupError, match="several incidents: inc_aa01, inc_ab02"):
        store.incident("inc_a")
    with pytest.raises(LookupError, match="no incident 'zz'"):
        store.acknowledge("zz", who="ada")


def test_a_mute_ends_by_itself_or_when_told(store: Store) -> None:
    store.mute("m", feature="a", until=NOW + DAY, who="ada", reason="known")
    store.mute("m", feature="a", until=NOW + 2 * DAY, who="bob")
    store.mute("m", who="ada")
    assert [(each.feature, each.until, each.who) for each in store.mutes()] == [
        (None, None, "ada"),
        ("a", NOW + 2 * DAY, "bob"),
    ]
    assert [each.feature for each in store.mutes(at=NOW + 2 * DAY)] == [None]
    assert store.unmute("m", feature="a")
    assert not store.unmute("m", feature="a")
    assert len(store.mutes()) == 1


def test_the_last_tick_of_each_worker_is_kept(store: Store) -> None:
    store.tick("a", detail={"n": 1})
    store.tick("a", detail={"n": 2})
    (found,) = store.last_ticks()
    assert (found.worker, found.at, found.detail) == ("a", NOW, {"n": 2})


# --- size and retention --------------------------------------------------------------------------------


def test_pruning_keeps_the_evidence_of_open_incidents(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.store.ops.CHUNK", 3)
    counts = CategoricalProfile(n=1, missing=0, unseen=0, counts=np.array([1], dtype=np.int64))
    for model in ("m", "calm"):
        for k in range(10):
            found = [result(model=model, window=day(k), check=Check.SKEW, detail={"examples": [1], "n": 2})] * 2
            kept = [StoredProfile(model, day(k), name, counts) for name in ("a", "b")]
            run_window(store, k, Outcome(RunState.OK, results=found, profiles=kept), model=model)
    store.save_incidents([incident("inc_1", opened=6), incident("inc_2", opened=1, state=IncidentState.RESOLVED)])
    store.enqueue([("team", "k1", message()), ("team", "k2", message())])
    store.mark_sent(store.outbox_due("team")[0].id)
    gone = store.prune(
        results_before=day(8).end, profiles_before=day(8).end, samples_before=day(9).start, outbox_before=NOW + DAY
    )
    # calm: windows 0–8; m: windows 0–4, for window 5 ends where the incident's first begins
    assert gone == {"results": 2 * 9 + 2 * 5, "profiles": 2 * 9 + 2 * 5, "outbox": 1, "samples": 2 * 4}
    assert {each.window for each in store.results("calm")} == {day(9)}
    assert {each.window for each in store.results("m")} == {day(k) for k in range(5, 10)}
    assert [each.detail for each in store.results("m", start=day(8).start, end=day(8).end)] == [{"n": 2}] * 2
    assert len(store.windows("m")) == 10
    assert store.prune(results_before=day(8).end, profiles_before=day(8).end)["results"] == 0


def test_a_wide_window_commits_and_a_month_of_profiles_reads_quickly(store: Store) -> None:
    names = [f"f{k:03d}" for k in range(500)]
    counts = column("x").reference
    found = [result(feature=name, metric=metric, detail={"d": 1}) for name in names for metric in "abcdef"]
    kept = [StoredProfile("m", day(0), name, counts) for name in names]
    # our own time, not that of whatever else this machine does
    begin = time.process_time()
    run_window(store, 0, Outcome(RunState.OK, results=found, profiles=kept))
    committed = time.process_time() - begin
    store.save_profiles([StoredProfile("m", day(k), name, counts) for k in range(1, 31) for name in names])
    begin = time.process_time()
    assert len(store.profiles("m", start=day(1).start, end=day(30).end)) == 30 * 500
    read = time.process_time() - begin
    begin = time.process_time()
    assert len(store.results("m", feature="f007")) == 6
    looked_up = time.process_time() - begin
    print(f"commit {committed:.2f} s, read {read:.2f} s, look up {looked_up:.3f} s")
    assert committed < 1.5
    assert read < 2.0
    assert looked_up < 0.2
