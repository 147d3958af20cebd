"""The promises of the run protocol, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from detectors.profiles import CategoricalProfile
from monitor.models import (
    Check,
    Claim,
    Finding,
    Incident,
    IncidentState,
    Job,
    Message,
    Outcome,
    Result,
    RunState,
    SeriesState,
    StoredProfile,
    Transition,
    Verdict,
    Window,
)
from monitor.store import ALL, Store

T0 = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
LEASE = timedelta(minutes=2)


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 4, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, by: timedelta) -> None:
        self.now += by


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[Store]:
    with Store.open(database_url, clock=clock, lease_clock=clock) as opened:
        yield opened


def day(k: int) -> Window:
    return Window(T0 + k * DAY, T0 + (k + 1) * DAY)


def plan(store: Store, *days: int, model: str = "m", job: Job = Job.INPUTS, spec: str = "s1") -> int:
    return store.plan(model, job, [day(k) for k in days], spec_version=spec)


def claim(store: Store, worker: str = "w") -> Claim:
    taken = store.claim(worker, lease=LEASE)
    assert taken is not None
    return taken


def message(title: str = "amount drifts", *, thread: str = "t", kind: Transition = Transition.OPENED) -> Message:
    return Message(
        title=title,
        summary="median 41 → 63",
        severity=Verdict.ALERT,
        transition=kind,
        model="m",
        window=day(0),
        findings=[Finding("amount", Verdict.ALERT, "PSI 0.38")],
        facts={"rows": "2,000"},
        thread_key=thread,
    )


def outcome(window: Window, value: float = 0.38, *, state: RunState = RunState.OK) -> Outcome:
    result = Result("m", Check.FEATURE_DRIFT, "psi", window, value, Verdict.ALERT, feature="amount", n_current=9)
    counts = CategoricalProfile(n=3, missing=1, unseen=0, counts=np.array([2], dtype=np.int64))
    return Outcome(
        state=state,
        n_rows=9,
        fingerprint="f",
        results=[result],
        profiles=[StoredProfile("m", window, "amount", counts), StoredProfile("m", window, "amount", counts, "s=1")],
        series=[SeriesState("m", Check.FEATURE_DRIFT, "amount", None, bad=1, verdict=Verdict.ALERT)],
        incidents=[incident("inc_0123456789")],
        messages=[("team", f"opened/{window.start}", message())],
    )


def incident(name: str, *, state: IncidentState = IncidentState.OPEN, opened: int = 0) -> Incident:
    begin = T0 + opened * DAY
    return Incident(name, "m", Check.FEATURE_DRIFT, state, Verdict.ALERT, begin, begin, features=["amount"])


# --- planning and claiming ---------------------------------------------------------------------------


def test_planning_twice_inserts_once(store: Store) -> None:
    assert plan(store, 0, 1, 2) == 3
    assert plan(store, 1, 2, 3) == 1
    assert [row.window for row in store.windows("m")] == [day(k) for k in range(4)]


def test_a_changed_window_length_does_not_repeat_the_past(store: Store) -> None:
    plan(store, 0, 1)
    hours = [Window(T0 + k * DAY / 24, T0 + (k + 1) * DAY / 24) for k in range(72)]
    assert store.plan("m", Job.INPUTS, hours, spec_version="s2") == 24
    assert store.gaps("m", Job.INPUTS) == []


def test_windows_are_claimed_oldest_first_and_one_at_a_time_for_each_model_and_job(store: Store) -> None:
    plan(store, 1, 0)
    plan(store, 0, job=Job.LABELS)
    plan(store, 2, model="other")
    taken = [claim(store) for _ in range(3)]
    assert {(each.model, each.job, each.window) for each in taken} == {
        ("m", Job.INPUTS, day(0)),
        ("m", Job.LABELS, day(0)),
        ("other", Job.INPUTS, day(2)),
    }
    assert store.claim("w", lease=LEASE) is None


def test_an_older_window_planned_later_waits_until_the_claimed_one_is_done(store: Store) -> None:
    plan(store, 5)
    held = claim(store)
    plan(store, 1)
    assert store.claim("w", lease=LEASE) is None
    assert store.commit(held, Outcome(RunState.OK))
    assert claim(store).window == day(1)


def test_claims_keep_to_the_models_and_jobs_asked_for(store: Store) -> None:
    plan(store, 0, model="a")
    plan(store, 0, model="b", job=Job.LABELS)
    assert store.claim("w", lease=LEASE, models=["b"], jobs=[Job.INPUTS]) is None
    assert store.claim("w", lease=LEASE, exclude_models=["a", "b"]) is None
    assert store.claim("w", lease=LEASE, models=[]) is None
    found = store.claim("w", lease=LEASE, exclude_models=["a"])
    assert found is not None
    assert found.model == "b"


def test_two_workers_at_once_never_hold_two_windows_of_one_model_and_job(database_url: str) -> None:
    with Store.open(database_url) as store:
        for model in ("a", "b"):
            plan(store, *range(12), model=model)
        seen: list[tuple[str, Window]] = []
        busy: set[str] = set()
        clashes: list[str] = []

        def work(name: str) -> None:
            while (taken := store.claim(name, lease=LEASE)) is not None or len(seen) < 24:
                if taken is None:
                    continue
                if taken.model in busy:
                    clashes.append(taken.model)
                busy.add(taken.model)
                seen.append((taken.model, taken.window))
                busy.discard(taken.model)
                assert store.commit(taken, Outcome(RunState.OK))

        threads = [threading.Thread(target=work, args=(f"w{k}",)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert clashes == []
        assert sorted(seen) == sorted((model, day(k)) for model in ("a", "b") for k in range(12))


# --- leases ----------------------------------------------------------------------------------------


def test_a_lost_lease_fences_out_renew_commit_fail_and_release(store: Store, clock: Clock) -> None:
    plan(store, 0)
    slow = claim(store, "slow")
    clock.forward(LEASE)
    fast = claim(store, "fast")
    assert (fast.window, fast.attempt) == (day(0), 2)
    assert not store.renew(slow, lease=LEASE)
    assert not store.commit(slow, outcome(day(0)))
    assert not store.fail(slow, reason="x", operator_messages=[("team", "k", message())])
    assert not store.release(slow)
    assert (store.results(), store.outbox_counts(), store.incidents()) == ([], {}, [])
    assert store.commit(fast, outcome(day(0)))


def test_a_lease_that_ended_may_not_commit_even_if_nobody_took_over(store: Store, clock: Clock) -> None:
    plan(store, 0)
    late = claim(store)
    clock.forward(LEASE)
    assert not store.commit(late, outcome(day(0)))


def test_a_renewed_lease_outlives_the_first_one(store: Store, clock: Clock) -> None:
    plan(store, 0)
    held = claim(store)
    clock.forward(LEASE * 0.75)
    assert store.renew(held, lease=LEASE)
    clock.forward(LEASE * 0.75)
    assert store.commit(held, outcome(day(0)))


def test_a_simulated_day_does_not_end_a_lease(database_url: str) -> None:
    clock = Clock()
    with Store.open(database_url, clock=clock) as store:
        plan(store, 0)
        held = claim(store)
        clock.forward(DAY)
        assert store.reap(max_attempts=1) == 0
        assert store.commit(held, outcome(day(0)))
        assert store.windows("m")[0].finished_at == clock.now


def test_a_worker_that_dies_too_often_leaves_an_error_and_the_next_window_goes_on(store: Store, clock: Clock) -> None:
    plan(store, 0, 1)
    for attempt in (1, 2):
        assert claim(store).attempt == attempt
        clock.forward(LEASE)
    told = store.reap(max_attempts=2, announce=lambda row: [("ops", f"died/{row.window.start}", message())])
    assert told == 1
    first, second = store.windows("m")
    assert (first.state, first.reason, second.state) == (RunState.ERROR, "worker_died", RunState.PENDING)
    assert store.outbox_counts()["ops"]["pending"] == 1
    assert claim(store).window == day(1)


def test_a_released_window_has_lost_no_attempt(store: Store, clock: Clock) -> None:
    plan(store, 0)
    assert store.release(claim(store), reason="shutdown", not_before=timedelta(seconds=5))
    assert store.claim("w", lease=LEASE) is None
    clock.forward(timedelta(seconds=5))
    assert claim(store).attempt == 1


def test_a_window_that_waits_for_its_retry_holds_up_later_ones_and_one_that_failed_does_not(
    store: Store, clock: Clock
) -> None:
    plan(store, 0, 1)
    assert store.fail(claim(store), reason="source_down", retry_at=clock.now + timedelta(minutes=1))
    assert store.claim("w", lease=LEASE) is None
    clock.forward(timedelta(minutes=1))
    again = claim(store)
    assert (again.window, again.attempt) == (day(0), 2)
    assert store.fail(again, reason="table_missing", operator_messages=[("ops", "k", message())])
    assert claim(store).window == day(1)
    row = store.windows("m", states=[RunState.ERROR])[0]
    assert (row.reason, row.finished_at) == ("table_missing", clock.now)
    assert store.outbox_counts()["ops"]["pending"] == 1


# --- commit ----------------------------------------------------------------------------------------


def test_a_commit_keeps_all_of_its_parts(store: Store, clock: Clock) -> None:
    plan(store, 0)
    assert store.commit(claim(store), outcome(day(0)))
    row = store.windows("m")[0]
    assert (row.state, row.n_rows, row.fingerprint, row.finished_at) == (RunState.OK, 9, "f", clock.now)
    assert store.results("m") == outcome(day(0)).results
    assert [p.segment for p in store.profiles("m", start=T0, end=T0 + DAY)] == [None]
    assert len(store.profiles("m", start=T0, end=T0 + DAY, segment=ALL)) == 2
    assert store.series("m") == {(Check.FEATURE_DRIFT, "amount", None): outcome(day(0)).series[0]}
    assert store.incidents() == outcome(day(0)).incidents
    assert store.outbox_due("team")[0].message == message()


def test_a_commit_repeated_because_its_answer_was_lost_changes_nothing(store: Store) -> None:
    plan(store, 0)
    held = claim(store)
    assert store.commit(held, outcome(day(0), 0.1))
    assert store.commit(held, outcome(day(0), 0.2))
    assert [each.value for each in store.results("m")] == [0.1]


def test_an_error_that_was_noted_cannot_be_committed_over(store: Store) -> None:
    plan(store, 0)
    held = claim(store)
    assert store.fail(held, reason="x")
    assert not store.commit(held, outcome(day(0)))


def test_a_commit_that_fails_half_way_leaves_nothing(store: Store) -> None:
    plan(store, 0)
    held = claim(store)
    bad = outcome(day(0))
    bad.messages.append(("team", "k", message().__class__(**{**message().__dict__, "facts": {"x": object()}})))
    with pytest.raises(Exception, match="cannot be kept"):
        store.commit(held, bad)
    assert (store.results(), store.incidents(), store.outbox_counts()) == ([], [], {})
    assert store.commit(held, outcome(day(0)))


def test_an_unfinished_outcome_is_refused(store: Store) -> None:
    plan(store, 0)
    with pytest.raises(ValueError, match="cannot end as pending"):
        store.commit(claim(store), Outcome(RunState.PENDING))


def test_a_new_revision_is_shown_and_the_old_one_kept(store: Store) -> None:
    plan(store, 0, 1)
    store.commit(claim(store), outcome(day(0), 0.1))
    assert store.reopen("m", Job.INPUTS, day(0), reason="late_rows") == 1
    assert store.reopen("m", Job.INPUTS, day(0), reason="late_rows") == 1
    assert [each.value for each in store.results("m")] == [0.1]
    again = claim(store)
    assert (again.window, again.revision) == (day(0), 1)
    store.commit(again, outcome(day(0), 0.3))
    assert [(each.value, each.revision) for each in store.results("m")] == [(0.3, 1)]
    assert [each.value for each in store.results("m", all_revisions=True)] == [0.1, 0.3]
    assert [row.revision for row in store.windows("m")] == [1, 0]
    assert len(store.profiles("m", start=T0, end=T0 + DAY, segment=ALL)) == 2


def test_the_two_jobs_of_a_window_do_not_push_each_other_out(store: Store) -> None:
    plan(store, 0)
    plan(store, 0, job=Job.LABELS)
    for _ in range(2):
        taken = claim(store)
        column = "amount" if taken.job is Job.INPUTS else "__other__"
        done = outcome(day(0))
        counts = done.profiles[0].profile
        store.commit(
            taken, Outcome(RunState.OK, results=done.results, profiles=[StoredProfile("m", day(0), column, counts)])
        )
    assert len(store.results("m")) == 2
    assert {each.column for each in store.profiles("m", start=T0, end=T0 + DAY)} == {"amount", "__other__"}


def test_reopening_what_was_never_planned_is_an_error(store: Store) -> None:
    with pytest.raises(LookupError, match="m has no inputs window"):
        store.reopen("m", Job.INPUTS, day(0), reason="x")


# --- skipping, gaps, backfill -------------------------------------------------------------------------


def test_skipped_windows_are_rows_with_a_reason_and_leave_no_gap(store: Store) -> None:
    plan(store, 0)
    told = [("ops", "skipped", message())]
    assert store.skip("m", Job.INPUTS, [day(k) for k in range(3)], spec_version="s1", reason="catchup_limit") == 3
    assert store.skip("m", Job.INPUTS, [day(0)], spec_version="s1", reason="x", operator_messages=told) == 0
    plan(store, 3)
    assert {row.reason for row in store.windows("m", states=[RunState.SKIPPED])} == {"catchup_limit"}
    assert store.gaps("m", Job.INPUTS) == []
    assert store.outbox_counts() == {}
    assert store.check() == []


def test_a_hole_between_windows_is_a_gap_that_check_names(store: Store) -> None:
    store.monitor_start("m", T0)
    plan(store, -5, 0, 3)
    assert store.gaps("m", Job.INPUTS) == [Window(day(0).end, day(3).start)]
    assert store.check() == ["m, inputs: 1 gap(s) between windows, the first 2026-03-02 00:00 – 2026-03-04 00:00 UTC"]


def test_a_backfill_takes_up_what_was_skipped_failed_or_of_another_spec(store: Store) -> None:
    plan(store, 0, 1, 2)
    store.commit(claim(store), Outcome(RunState.OK))
    store.fail(claim(store), reason="x")
    store.skip("m", Job.INPUTS, [day(2)], spec_version="s1", reason="y")
    days = [day(k) for k in range(4)]
    assert store.plan("m", Job.INPUTS, days, spec_version="s1", again=True) == 3
    assert store.plan("m", Job.INPUTS, days, spec_version="s1", again=True) == 0
    assert [(row.state, row.revision) for row in store.windows("m")] == [
        (RunState.OK, 0),
        (RunState.PENDING, 1),
        (RunState.PENDING, 1),
        (RunState.PENDING, 0),
    ]
    assert store.plan("m", Job.INPUTS, days, spec_version="s2", again=True) == 1
    assert {row.spec_version for row in store.windows("m")} == {"s2"}


def test_the_first_to_ask_decides_when_monitoring_began(store: Store) -> None:
    assert store.monitor_start("m", T0) == T0
    assert store.monitor_start("m", T0 + DAY) == T0
