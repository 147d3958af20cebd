"""Sources that hang, break and change under us: what each window does then, and who is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from service_world import STEP, World, model, secrets_of, settings, until, world, write_log
from tcp_proxy import Proxy, proxy

from monitor import counting, failures, holding, run
from monitor.models import IncidentState, Job, RunState
from monitor.run import run_due
from monitor.service import Service
from monitor.store import Store
from monitor.worker import Worker

STEPS = 4


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


def small(url: str, **more: Any) -> dict[str, Any]:
    """A model of a few windows that need no confirmation."""
    start = write_log(url, steps=STEPS, rows=80)
    return model(start, steps=STEPS, confirm=1, recover=1, min_rows=20, **more)


def service_of(folder: Path, store: Store, source: str, told: dict[str, Any], **more: Any) -> Service:
    made = World(folder, "", env={"STORE_URL": "sqlite:///unused.db", **secrets_of(source)})
    made.write(settings(source, told, **more))
    return Service(made.config(), store)


def states(store: Store, name: str = "m") -> list[str]:
    return [row.state.value for row in store.windows(name)]


def told(store: Store, destination: str = "team") -> list[Any]:
    return [item.message for item in store.outbox_due(destination, limit=100)]


def again(service: Service) -> Any:
    """Another round an hour later, when the pauses are over: by the store's clock only."""
    hours = getattr(service.store._clock, "hours", 0) + 1

    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(hours=hours)

    clock.hours = hours  # type: ignore[attr-defined]
    service.store._clock = clock
    return run_due(service, now=datetime.now(UTC), worker="again")


def alter(url: str, *statements: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


CONSOLE = {"team": {"console": True}}


# --- a connection behind which nobody answers --------------------------------------------------------


@pytest.fixture
def holed(postgres_server_url: str) -> Iterator[Proxy]:
    with proxy(postgres_server_url) as made:
        yield made


@pytest.mark.parametrize("after", [0, 12_000])
def test_a_window_behind_a_black_hole_ends_at_its_deadline_and_is_computed_once_bytes_pass_again(
    tmp_path: Path, store: Store, postgres_url: str, holed: Proxy, after: int
) -> None:
    service = service_of(tmp_path, store, holed.url(postgres_url), {"m": small(postgres_url)})
    service.config.sources["main"].connect_timeout = timedelta(seconds=2)
    run_due(service, now=datetime.now(UTC) - 3 * STEP, worker="w")
    assert states(store) == ["ok"]
    service.config.worker.window_deadline = timedelta(seconds=2)
    real = counting.count

    def slowly(*arguments: Any, **more: Any) -> Any:
        holed.black_hole(after=after)
        return real(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitor.run.counting.count", slowly)
        began = time.monotonic()
        service.store.plan("m", Job.INPUTS, _windows(service), spec_version="x")
        claim = store.claim("w", lease=timedelta(minutes=1))
        assert claim is not None
        with service.holding(claim):
            run.run_window(service, claim, now=datetime.now(UTC), report=run.RunReport())
    assert time.monotonic() - began < 8
    row = store.windows("m", Job.INPUTS)[1]
    assert row.state is RunState.PENDING
    assert "window_deadline" in str(row.reason)
    holed.back()
    service.config.worker.window_deadline = timedelta(minutes=5)
    again(service)
    assert states(store) == ["ok"] * STEPS
    assert store.check() == []


def _windows(service: Service) -> list[Any]:
    from monitor import windows

    told = service.model("m")
    return windows.due_windows(
        told.window, service.config.zone, start=told.start, now=datetime.now(UTC), settle=told.settle, anchor=told.start
    )


def test_a_statement_behind_a_black_hole_ends_by_the_statements_own_limit(
    tmp_path: Path, store: Store, postgres_url: str, holed: Proxy
) -> None:
    service = service_of(tmp_path, store, holed.url(postgres_url), {"m": small(postgres_url)})
    service.config.sources["main"].statement_timeout = timedelta(seconds=1)
    service.config.sources["main"].connect_timeout = timedelta(seconds=2)
    with service.source("m") as source:
        roles = service.roles("m", source, now=datetime.now(UTC))
        holed.black_hole()
        began = time.monotonic()
        with pytest.raises(failures.SourceError):
            source.fingerprints(service.model("m"), roles, _windows(service)[:1], job=Job.INPUTS, now=datetime.now(UTC))
    assert time.monotonic() - began < 8


def test_a_source_that_hangs_does_not_hold_up_the_models_of_another(
    tmp_path: Path, postgres_url: str, sqlite_url: str, holed: Proxy
) -> None:
    fine, stuck = small(sqlite_url), small(postgres_url)
    config = settings("", {"fine": fine | {"source": "file"}, "stuck": stuck | {"source": "far"}})
    config["sources"] = {"file": sqlite_url, "far": {"url": "${FAR}", "connect_timeout": "2s"}}
    config["worker"] |= {"window_deadline": "60s"}
    holed.black_hole()
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with world(tmp_path, url, config, FAR=holed.url(postgres_url)) as made, Store.open(url) as store:
        worker = Worker(made.config(), made.path)
        worker._service = Service(worker.config, store)
        began = time.monotonic()
        until(lambda: _ticked(worker) and states(store, "fine") == ["ok"] * STEPS, seconds=30)
        assert time.monotonic() - began < 30
        assert "ok" not in states(store, "stuck")
        # ticks are completed meanwhile: the worker is alive, and says so
        assert worker.vital.age() < 5
        holed.back()
        worker.stopping.set()
        until(lambda: not any(lane.busy for lane in worker.lanes.values()), seconds=30)
        worker.service.close()


def _ticked(worker: Worker) -> bool:
    worker.tick(patience=0.5)
    return True


# --- sources that are broken, or not as they were ----------------------------------------------------


def test_a_renamed_column_stops_the_windows_names_the_nearest_one_and_they_resume_by_themselves(
    tmp_path: Path, store: Store, database_url: str
) -> None:
    told_model = small(database_url)
    alter(database_url, "ALTER TABLE predictions RENAME COLUMN score TO scores")
    service = service_of(tmp_path, store, database_url, {"m": told_model, "n": told_model}, alerts=CONSOLE)
    report = run_due(service, now=datetime.now(UTC), worker="w")
    assert len(report.errors) == 2  # the oldest window of each model; the others wait behind it
    assert told(store) == []  # the columns may only be known of old: looked at once more
    for _ in range(3):
        again(service)
    messages = told(store)
    assert [m.title for m in messages] == ["source main: cannot be read"]
    assert "'score'" in messages[0].summary
    assert "did you mean 'scores'" in messages[0].summary
    assert messages[0].facts["Models"] == "m, n"
    assert states(store) == ["pending"] * STEPS
    assert store.windows("m")[0].attempt == 0  # no fault of the window's
    alter(database_url, "ALTER TABLE predictions RENAME COLUMN scores TO score")
    again(service)
    assert states(store) == states(store, "n") == ["ok"] * STEPS


def test_a_vanished_feature_is_a_finding_and_the_window_is_computed(
    tmp_path: Path, store: Store, database_url: str
) -> None:
    service = service_of(tmp_path, store, database_url, {"m": small(database_url)}, alerts=CONSOLE)
    run_due(service, now=datetime.now(UTC) - 2 * STEP, worker="w")
    assert states(store) == ["ok"] * 2
    alter(database_url, "ALTER TABLE predictions RENAME COLUMN amount TO amount_eur")
    for _ in range(3):  # the columns are known from before: the first try finds out
        again(service)
    assert states(store) == ["ok"] * STEPS
    found = [r for r in store.results("m") if r.metric == "column_missing" and r.verdict.value == "alert"]
    assert {r.feature for r in found} == {"amount"}
    assert "amount" in {feature for incident in store.incidents("m") for feature in incident.features}


def test_a_column_of_another_type_is_told_and_stops_nothing(tmp_path: Path, store: Store, postgres_url: str) -> None:
    service = service_of(tmp_path, store, postgres_url, {"m": small(postgres_url)}, alerts=CONSOLE)
    run_due(service, now=datetime.now(UTC) - 2 * STEP, worker="w")
    alter(postgres_url, "ALTER TABLE predictions ALTER COLUMN amount TYPE text")
    for _ in range(3):
        again(service)
    assert states(store) == ["ok"] * STEPS
    found = [r for r in store.results("m") if r.metric in ("column_type", "column_missing") and r.feature == "amount"]
    assert {r.verdict.value for r in found} == {"alert"}, [(r.metric, r.feature) for r in store.results("m")]


def test_a_missing_right_is_told_once_for_the_source(tmp_path: Path, store: Store, postgres_url: str) -> None:
    told_model = small(postgres_url)
    alter(
        postgres_url,
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN",
        "GRANT SELECT ON predictions TO reader",
    )
    reader = sa.make_url(postgres_url).set(username="reader").render_as_string(hide_password=False)
    service = service_of(tmp_path, store, reader, dict.fromkeys(("m", "n", "o"), told_model), alerts=CONSOLE)
    alter(postgres_url, "REVOKE SELECT ON predictions FROM reader")
    for _ in range(4):
        again(service)
    assert [m.title for m in told(store)] == ["source main: cannot be read"]
    assert "42501" in told(store)[0].summary
    alter(postgres_url, "GRANT SELECT ON predictions TO reader")
    again(service)
    assert states(store) == states(store, "o") == ["ok"] * STEPS
    service.close()
    alter(postgres_url, "DROP OWNED BY reader", "DROP ROLE reader")


def test_a_source_that_is_down_is_told_of_once_it_lasts_and_nothing_is_lost(
    tmp_path: Path, store: Store, postgres_url: str, holed: Proxy
) -> None:
    service = service_of(tmp_path, store, holed.url(postgres_url), {"m": small(postgres_url)}, alerts=CONSOLE)
    run_due(service, now=datetime.now(UTC) - 3 * STEP, worker="w")
    holed.gone()
    for _ in range(3):
        again(service)
    assert told(store) == []  # a restart of the database is nobody's business
    again(service)
    assert [m.title for m in told(store)] == ["source main: cannot be read"]
    holed.back()
    again(service)
    assert states(store) == ["ok"] * STEPS


def test_a_window_that_nobody_can_compute_ends_as_an_error_and_the_later_ones_go_on(
    tmp_path: Path, store: Store, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_of(tmp_path, store, sqlite_url, {"m": small(sqlite_url)}, alerts=CONSOLE)
    run_due(service, now=datetime.now(UTC) - 3 * STEP, worker="w")
    poison = store.windows("m")[0].window.end
    real: Callable[..., Any] = run.STORIES[Job.INPUTS]

    def story(service: Service, claim: Any, now: datetime) -> Any:
        if claim.window.start == poison:
            raise ZeroDivisionError("customer 4711 owes 12,000")
        return real(service, claim, now)

    monkeypatch.setitem(run.STORIES, Job.INPUTS, story)
    for _ in range(4):
        again(service)
    assert states(store) == ["ok", "error", "ok", "ok"]
    assert store.windows("m")[1].attempt == service.config.worker.max_attempts
    (message,) = told(store)
    assert message.title == "m: a window could not be computed"
    assert "ZeroDivisionError" in message.summary
    assert "4711" not in str(message)
    assert "4711" not in str(store.windows("m"))
    monkeypatch.setitem(run.STORIES, Job.INPUTS, real)
    assert store.gaps("m", Job.INPUTS) == []


# --- windows that are worked on ----------------------------------------------------------------------


def test_run_takes_over_what_a_dead_worker_left_and_gives_up_what_kills_everyone(
    tmp_path: Path, store: Store, sqlite_url: str
) -> None:
    service = service_of(tmp_path, store, sqlite_url, {"m": small(sqlite_url)}, alerts=CONSOLE)
    service.store.plan("m", Job.INPUTS, _windows(service), spec_version="x")
    for death in range(service.config.worker.max_attempts):
        assert store.claim(f"doomed-{death}", lease=timedelta(milliseconds=1)) is not None
        time.sleep(0.01)
    run_due(service, now=datetime.now(UTC), worker="w")
    assert states(store) == ["error", "ok", "ok", "ok"]
    assert store.windows("m")[0].reason == "worker_died"
    assert [m.title for m in told(store)] == ["m: a window was given up"]


def test_a_lease_is_renewed_for_as_long_as_the_window_takes(tmp_path: Path, store: Store, sqlite_url: str) -> None:
    service = service_of(tmp_path, store, sqlite_url, {"m": small(sqlite_url)})
    store.plan("m", Job.INPUTS, _windows(service), spec_version="x")
    lease = timedelta(seconds=0.3)
    claim = store.claim("w", lease=lease)
    assert claim is not None
    with service.holds.hold(store, claim, lease=lease, deadline=timedelta(minutes=1), cut=lambda: None):
        time.sleep(1.0)
        assert store.claim("thief", lease=lease) is None
        assert store.renew(claim, lease=lease)
    assert service.holds.oldest() == 0.0


def test_past_its_deadline_or_without_its_lease_a_window_is_cut_and_not_renewed(
    tmp_path: Path, store: Store, sqlite_url: str
) -> None:
    service = service_of(tmp_path, store, sqlite_url, {"m": small(sqlite_url)})
    store.plan("m", Job.INPUTS, _windows(service), spec_version="x")
    for deadline, lost in ((0.2, False), (60, True)):
        lease = timedelta(seconds=0.4)
        claim = store.claim("w", lease=lease)
        assert claim is not None
        cut = threading.Event()
        holds = holding.Holds()
        with holds.hold(store, claim, lease=lease, deadline=timedelta(seconds=deadline), cut=cut.set):
            if lost:
                store.release(claim)
            assert cut.wait(5)
            assert holds.is_late(claim) is not lost
        time.sleep(0.5)


# --- windows that come late --------------------------------------------------------------------------


def test_what_old_windows_show_is_told_in_one_message_once_the_backlog_is_done(
    tmp_path: Path, store: Store, sqlite_url: str
) -> None:
    start = write_log(sqlite_url)
    told_model = model(start, confirm=1, recover=1)
    # of the three days only the last hours are news
    service = service_of(
        tmp_path, store, sqlite_url, {"m": told_model, "n": told_model}, alerts=CONSOLE | {"max_age": "3h"}
    )
    run_due(service, now=datetime.now(UTC), worker="w")
    found = {m.model: m for m in told(store)}
    assert sorted(m.model for m in told(store)) == ["m", "n"]
    assert {m.title for m in told(store)} == {f"{name}: caught up on 4 older messages" for name in "mn"}
    assert [f.text for f in found["m"].findings if "amount" in f.text]
    assert len(found["m"].findings) == 4
    assert len(store.incidents("m", states=[IncidentState.RESOLVED])) == 2
    run_due(service, now=datetime.now(UTC), worker="w")
    assert len(told(store)) == 2


def test_a_backfill_without_alerts_holds_nothing_back(tmp_path: Path, store: Store, sqlite_url: str) -> None:
    from monitor.backfill import backfill_range

    start = write_log(sqlite_url, rows=200)
    service = service_of(
        tmp_path, store, sqlite_url, {"m": model(start, confirm=1)}, alerts=CONSOLE | {"max_age": "3h"}
    )
    backfill_range(service, start=start, end=start + 12 * STEP, now=datetime.now(UTC), alerts=False)
    assert store.incidents("m")
    assert store.held_models() == set()
    assert told(store) == []
