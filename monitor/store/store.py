"""Everything that the service may ask of its store; each call is one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy import Connection, text

from monitor.models import (
    Baseline,
    Check,
    Claim,
    Incident,
    IncidentState,
    Job,
    Message,
    Mute,
    OutboxItem,
    Outcome,
    Result,
    RunState,
    SeriesState,
    StoredProfile,
    Tick,
    Window,
    WindowRow,
)
from monitor.store import baselines, incidents, ops, outbox, results, runs
from monitor.store.engine import Database, open_database
from monitor.store.errors import StoreUnavailable
from monitor.store.migrate import current_revision, ensure_current, use_write_ahead_log
from monitor.store.results import Every, ProfileMark
from monitor.store.schema import REVISION, window_run

if TYPE_CHECKING:
    from detectors.profiles import Column

Clock = Callable[[], datetime]
Queued = tuple[str, str, Message]
"""``(destination, dedup_key, message)``"""

T = TypeVar("T")
_TRIES = 5


class Store:
    """Where windows, results, incidents and messages are kept: SQLite or PostgreSQL, alike.

    Two clocks are kept apart.  ``clock`` says when something was written and when a retry or a message is due; give
    one to live in simulated days, and only one that moves.  Leases run on ``lease_clock``: by default the database's
    own, for a simulated day must not make another worker's lease end.  Event time (windows) is neither: it is always
    an argument.

    Times in and out are aware UTC; naive ones are refused.  All methods may raise
    :class:`~monitor.store.errors.StoreError`; none shows the URL.
    """

    def __init__(self, database: Database, *, clock: Clock | None = None, lease_clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock
        self._lease_clock = lease_clock

    @classmethod
    def open(
        cls, url: str, *, migrate: bool = True, clock: Clock | None = None, lease_clock: Clock | None = None
    ) -> Store:
        """Open the store at ``url``; with ``migrate``, make it or bring it up to date first.

        Raises
        ------
        StoreMissing, StoreOutdated
            If there is nothing, or something older, and ``migrate`` is off.
        StoreNewer, StoreCorrupt, StoreDenied, StoreUnavailable
            See :mod:`monitor.store.errors`.
        """
        database = open_database(url, create=migrate)
        try:
            if migrate:
                use_write_ahead_log(database)
            ensure_current(database, migrate=migrate)
            database.remember_file()
        except BaseException:
            database.engine.dispose()
            raise
        return cls(database, clock=clock, lease_clock=lease_clock)

    def close(self) -> None:
        self._database.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._database.engine.dialect.name

    @property
    def url_safe(self) -> str:
        """What to call the store before people; never with user, password or options."""
        return self._database.name

    def now(self) -> datetime:
        """What the store's clock says."""
        if self._clock is not None:
            return self._clock()
        with self._database.read() as connection:
            return self._now(connection)

    # --- windows ----------------------------------------------------------------------------------

    def monitor_start(self, model: str, default: datetime) -> datetime:
        """When the monitoring of a model began; the first call stores ``default``."""
        return self._write(lambda c: runs.monitor_start(c, model, default))

    def plan(
        self,
        model: str,
        job: Job,
        windows: Sequence[Window],
        *,
        spec_version: str,
        alerts: bool = True,
        again: bool = False,
    ) -> int:
        """Insert the windows that are not there yet, and say how many.

        A window is there when its whole span is covered, by windows of whatever length.  What still waits takes on
        ``spec_version``.  With ``again`` (a backfill), windows that were skipped, ended in an error, or were computed
        with another spec get a new revision.
        """
        return self._write(
            lambda c: runs.plan(
                c, model, job, windows, spec_version=spec_version, alerts=alerts, again=again, now=self._now(c)
            )
        )

    def skip(
        self,
        model: str,
        job: Job,
        windows: Sequence[Window],
        *,
        spec_version: str,
        reason: str,
        operator_messages: Sequence[Queued] = (),
    ) -> int:
        """Mark windows that are new or still wait as ``skipped``; the messages go out with the first such mark."""

        def work(c: Connection) -> int:
            now = self._now(c)
            changed = runs.skip(c, model, job, windows, spec_version=spec_version, reason=reason, now=now)
            if changed:
                outbox.enqueue(c, operator_messages, now=now)
            return changed

        return self._write(work)

    def claim(
        self,
        worker: str,
        *,
        lease: timedelta,
        models: Sequence[str] | None = None,
        jobs: Sequence[Job] | None = None,
        exclude_models: Sequence[str] = (),
    ) -> Claim | None:
        """Take the oldest window that waits; ``None`` if nothing is to be done now.

        Of each model and job one window is worked on at a time, oldest first.  A lease that ended is taken over, with
        ``attempt`` one higher; who may die too often is for :meth:`reap` to say.
        """

        def work(c: Connection) -> Claim | None:
            return runs.claim(
                c,
                worker,
                lease=lease,
                models=models,
                jobs=jobs,
                exclude_models=exclude_models,
                now=self._now(c),
                lease_now=self._lease_now(c),
            )

        for attempt in range(20):
            try:
                return self._write(work)
            except runs.ClaimRaced:
                time.sleep(0.005 * (attempt + 1))
        return None

    def renew(self, claim: Claim, *, lease: timedelta) -> bool:
        """Hold a claim for another ``lease`` from now; ``False`` if it was lost: stop working on it."""

        def work(c: Connection) -> bool:
            return runs.renew(c, claim, lease=lease, lease_now=self._lease_now(c))

        return self._write(work)

    def hurry(self, models: Sequence[str]) -> int:
        """Let windows that wait for another try be tried now: a person asks, who may have mended the cause."""
        return self._write(lambda c: runs.hurry(c, models, now=self._now(c)))

    def release(
        self, claim: Claim, *, reason: str | None = None, not_before: datetime | timedelta | None = None
    ) -> bool:
        """Give a window back without counting the attempt (a shutdown); ``False`` if the claim was lost."""
        return self._write(
            lambda c: runs.release(
                c, claim, reason=reason, not_before=self._when(c, not_before), lease_now=self._lease_now(c)
            )
        )

    def fail(
        self,
        claim: Claim,
        *,
        reason: str,
        retry_at: datetime | timedelta | None = None,
        counted: bool = True,
        detail: dict[str, Any] | None = None,
        operator_messages: Sequence[Queued] = (),
    ) -> bool:
        """End an attempt: try again at ``retry_at`` (a ``timedelta``: from now), or, with ``None``, state ``error``.

        With ``counted`` off it was no fault of the window's, and does not use up one of its attempts; ``detail`` is
        kept with the row until the window is computed.

        Returns ``False``, and queues nothing, if the claim was lost.
        """

        def work(c: Connection) -> bool:
            now = self._now(c)
            done = runs.fail(
                c,
                claim,
                reason=reason,
                retry_at=None if retry_at is None else self._when(c, retry_at),
                now=now,
                lease_now=self._lease_now(c),
                counted=counted,
                detail=detail,
            )
            if done:
                outbox.enqueue(c, operator_messages, now=now)
            return done

        return self._write(work)

    def commit(self, claim: Claim, outcome: Outcome) -> bool:
        """Keep all that a run leaves behind, in one transaction, if the claim still holds.

        Returns
        -------
        bool
            ``False`` if the lease was lost: then nothing was written.  ``True`` also when this claim had committed
            before, so that a commit whose answer was lost may be repeated.

        Raises
        ------
        ValueError
            If the outcome's state is not a finished one.
        """
        if not outcome.state.finished:
            raise ValueError(f"a window cannot end as {outcome.state}")
        return self._write(lambda c: self._commit(c, claim, outcome))

    def _commit(self, c: Connection, claim: Claim, outcome: Outcome) -> bool:
        now = self._now(c)
        changed = c.execute(
            window_run.update()
            .where(runs.held(claim, self._lease_now(c)))
            .values(
                state=outcome.state,
                reason=outcome.reason,
                n_rows=int(outcome.n_rows),
                fingerprint=outcome.fingerprint,
                detail=outcome.detail,
                finished_at=now,
            )
        )
        if not changed.rowcount:
            return runs.was_committed(c, claim)
        results.save_results(c, claim, outcome.results)
        results.replace_profiles(c, claim, outcome.profiles)
        self._keep(c, outcome, now=now)
        return True

    @staticmethod
    def _keep(c: Connection, outcome: Outcome, *, now: datetime) -> None:
        """The state of the incidents after a window, and what is to be told of it."""
        incidents.save_series(c, outcome.series)
        incidents.drop_incidents(c, outcome.gone)
        incidents.save_incidents(c, outcome.incidents, now=now)
        outbox.enqueue(c, outcome.messages, now=now)
        outbox.enqueue(c, outcome.held, now=now, state="held")

    def reap(self, *, max_attempts: int, announce: Callable[[WindowRow], Iterable[Queued]] | None = None) -> int:
        """Take windows back from workers that are gone; after ``max_attempts`` they end as ``error(worker_died)``.

        ``announce`` gives the messages for a window that ended so; they are queued in the same transaction.
        """

        def work(c: Connection) -> int:
            now = self._now(c)

            def queue(connection: Connection, row: WindowRow) -> None:
                if announce is not None:
                    outbox.enqueue(connection, announce(row), now=now)

            return runs.reap(c, max_attempts=max_attempts, now=now, lease_now=self._lease_now(c), announce=queue)

        return self._write(work)

    def reopen(self, model: str, job: Job, window: Window, *, reason: str) -> int:
        """Have a window computed again, as the next revision; give that revision's number.

        Raises
        ------
        LookupError
            If the window was never planned.
        """
        return self._write(lambda c: runs.reopen(c, model, job, window, reason=reason, now=self._now(c)))

    def note(self, model: str, job: Job, details: Mapping[Window, Mapping[str, Any]]) -> None:
        """Write down what is kept with finished windows, at once; those that are computed again meanwhile are left."""
        if details:
            self._write(lambda c: runs.note(c, model, job, details))

    def finished(self, model: str, job: Job) -> int:
        """How many revisions of all windows have been finished: another number means that somebody has been at work."""
        with self._database.read() as c:
            return runs.finished(c, model, job)

    def restate(
        self, row: WindowRow, outcome: Outcome, *, spec_version: str, alerts: bool, finished: int | None = None
    ) -> bool:
        """Keep what a finished window says now as its next revision, in one transaction; its profiles stay.

        Unlike :meth:`reopen` it leaves nothing that waits, so that a window whose rows are gone is never read again.

        Parameters
        ----------
        row
            The window as it was when its results were worked out.
        finished
            What :meth:`finished` said then, where series or incidents were worked out as well.

        Returns
        -------
        bool
            ``False``, with nothing written, if somebody else has the window, or the job of the model, in hand.
        """
        if not outcome.state.finished:
            raise ValueError(f"a window cannot end as {outcome.state}")

        def work(c: Connection) -> bool:
            now = self._now(c)
            claim = runs.restate(
                c,
                row,
                outcome,
                spec_version=spec_version,
                alerts=alerts,
                finished_before=finished,
                now=now,
                lease_now=self._lease_now(c),
            )
            if claim is None:
                return False
            results.save_results(c, claim, outcome.results)
            self._keep(c, outcome, now=now)
            return True

        return self._write(work)

    def windows(
        self,
        model: str | None = None,
        job: Job | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        states: Iterable[RunState] | None = None,
    ) -> list[WindowRow]:
        """The newest revision of each window that overlaps ``[start, end)``, oldest first."""
        with self._database.read() as c:
            return runs.windows(c, model=model, job=job, start=start, end=end, states=states)

    def gaps(self, model: str, job: Job) -> list[Window]:
        """Spans since the monitor's start that no window covers; always empty, or a promise is broken."""
        with self._database.read() as c:
            return runs.gaps(c, model, job)

    # --- baselines, profiles, results ---------------------------------------------------------------

    def save_baseline(
        self,
        model: str,
        *,
        spec_hash: str,
        source: str,
        window: Window | None,
        n_rows: int,
        columns: Mapping[str, Column],
        detail: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
    ) -> Baseline:
        """Freeze a baseline under the next number."""

        def work(c: Connection) -> Baseline:
            number = baselines.save(
                c,
                model,
                spec_hash=spec_hash,
                source=source,
                window=window,
                n_rows=n_rows,
                columns=columns,
                detail=detail or {},
                created_at=created_at or self._now(c),
            )
            return baselines.by_id(c, number)

        return self._write(work)

    def baseline(self, model: str) -> Baseline | None:
        """The newest baseline of a model."""
        with self._database.read() as c:
            return baselines.newest(c, model)

    def baseline_by_id(self, number: int) -> Baseline:
        """The baseline of this number.

        Raises
        ------
        LookupError
            If there is none.
        """
        with self._database.read() as c:
            return baselines.by_id(c, number)

    def baselines(self, model: str) -> list[Baseline]:
        """All baselines of a model, newest first; their ``columns`` are not loaded and empty."""
        with self._database.read() as c:
            return baselines.listed(c, model)

    def profiles(
        self,
        model: str,
        *,
        start: datetime,
        end: datetime,
        columns: Sequence[str] | None = None,
        segment: str | Every | None = None,
        baseline_id: int | None = None,
    ) -> list[StoredProfile]:
        """Profiles of the windows within ``[start, end)``, oldest first, of the newest revision.

        ``segment``: ``None`` for all rows, ``"column=value"`` for one, ``ALL`` for whatever there is.
        """
        with self._database.read() as c:
            return results.load_profiles(
                c, model, start=start, end=end, columns=columns, segment=segment, baseline_id=baseline_id
            )

    def profile_marks(
        self, model: str, *, start: datetime, end: datetime, column: str, segment: str | Every | None = None
    ) -> list[ProfileMark]:
        """The profiles of one column within ``[start, end)``, each with a mark that changes with its counts."""
        with self._database.read() as c:
            return results.profile_marks(c, model, start=start, end=end, column=column, segment=segment)

    def profiles_by_column(
        self, model: str, *, windows: Collection[Window], columns: Sequence[str], segment: str | Every | None = None
    ) -> Iterator[list[StoredProfile]]:
        """Profiles of these windows, oldest first, for each of the columns; decoded when the column's turn comes."""
        start, end = min(window.start for window in windows), max(window.end for window in windows)
        with self._database.read() as c:
            return results.load_columns(
                c, model, start=start, end=end, columns=columns, segment=segment, windows=windows
            )

    def save_profiles(
        self, profiles: Sequence[StoredProfile], baseline_id: int | None = None, *, job: Job = Job.INPUTS
    ) -> None:
        """Keep profiles outside a run: those of the windows that a baseline was made of."""
        self._write(lambda c: results.save_profiles(c, profiles, job=job, baseline_id=baseline_id))

    def profiled(self, model: str, *, start: datetime, end: datetime) -> set[Window]:
        """The windows within ``[start, end)`` whose inputs' counts are kept."""
        with self._database.read() as c:
            return results.profiled(c, model, start=start, end=end)

    def results(
        self,
        model: str | None = None,
        *,
        job: Job | None = None,
        check: Check | None = None,
        feature: str | None = None,
        metric: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        all_revisions: bool = False,
        limit: int | None = None,
    ) -> list[Result]:
        """Results of the windows that overlap ``[start, end)``, oldest first; with ``limit``, the newest that many."""
        with self._database.read() as c:
            return results.results(
                c,
                model=model,
                job=job,
                check=check,
                feature=feature,
                metric=metric,
                start=start,
                end=end,
                all_revisions=all_revisions,
                limit=limit,
            )

    # --- incidents --------------------------------------------------------------------------------

    def series(self, model: str) -> dict[tuple[Check, str | None, str | None], SeriesState]:
        """The counters of a model, by ``(check, feature, segment)``."""
        with self._database.read() as c:
            return incidents.load_series(c, model)

    def incidents(self, model: str | None = None, *, states: Iterable[IncidentState] | None = None) -> list[Incident]:
        """Incidents, newest first."""
        with self._database.read() as c:
            return incidents.load_incidents(c, model=model, states=states)

    def incident(self, id_or_prefix: str) -> Incident | None:
        """The incident with this id, or the only one whose id begins so.

        Raises
        ------
        LookupError
            If several begin so; the message names them.
        """
        with self._database.read() as c:
            return incidents.find_incident(c, id_or_prefix)

    def acknowledge(
        self, id_or_prefix: str, *, who: str, note: str | None = None, at: datetime | None = None
    ) -> Incident:
        """Note that a person has seen an incident.

        Raises
        ------
        LookupError
            If there is no such incident, or several.
        """

        def work(c: Connection) -> Incident:
            found = incidents.find_incident(c, id_or_prefix)
            if found is None:
                raise LookupError(f"there is no incident {id_or_prefix!r}: `monitor incidents` lists them")
            when = at or self._now(c)
            incidents.acknowledge(c, found.id, who=who, note=note, at=when)
            return replace(found, acknowledged_by=who, acknowledged_at=when, acknowledged_note=note)

        return self._write(work)

    def save_incidents(self, changed: Sequence[Incident], *, messages: Sequence[Queued] = ()) -> None:
        """Insert or update incidents outside a run, with their messages: those of a model that was removed."""

        def work(c: Connection) -> None:
            now = self._now(c)
            incidents.save_incidents(c, changed, now=now)
            outbox.enqueue(c, messages, now=now)

        self._write(work)

    def mute(
        self, model: str, *, feature: str | None = None, until: datetime | None = None, who: str, reason: str = ""
    ) -> Mute:
        """Send nothing of a model, or of one feature, until a time; the last wish counts."""

        def work(c: Connection) -> Mute:
            wish = Mute(model=model, feature=feature, until=until, who=who, reason=reason, created_at=self._now(c))
            incidents.save_mute(c, wish)
            return wish

        return self._write(work)

    def unmute(self, model: str, *, feature: str | None = None) -> bool:
        """End a mute; ``False`` if there was none."""
        return self._write(lambda c: incidents.drop_mute(c, model, feature))

    def mutes(self, *, at: datetime | None = None) -> list[Mute]:
        """The mutes in force, now or at a time."""
        with self._database.read() as c:
            return incidents.load_mutes(c, at=at or self._now(c))

    # --- outbox -----------------------------------------------------------------------------------

    def enqueue(self, messages: Sequence[Queued]) -> int:
        """Queue messages outside a run; those with a known ``(destination, dedup_key)`` are left out."""
        return self._write(lambda c: outbox.enqueue(c, messages, now=self._now(c)))

    def held_models(self) -> set[str]:
        """Models of which news is held, to be told together."""
        with self._database.read() as c:
            return outbox.held_models(c)

    def release_held(self, model: str, together: Callable[[Sequence[Message]], Message]) -> int:
        """Queue one message in place of those that are held for a model, to each destination; how many went in."""
        return self._write(lambda c: outbox.release_held(c, model, together, now=self._now(c)))

    def outbox_due(self, destination: str, *, limit: int = 50) -> list[OutboxItem]:
        """Messages to send now, oldest first; of a thread, none before an earlier one that waits for its retry."""
        with self._database.read() as c:
            return outbox.due(c, destination, limit=limit, now=self._now(c))

    def mark_sending(self, item_id: int, *, hold: timedelta = timedelta(minutes=2)) -> bool:
        """Take a message for posting; ``False``: do not post it, another worker does or did.

        After ``hold`` without an outcome it is due again, as a possible repeat.
        """
        return self._write(lambda c: outbox.mark_sending(c, item_id, hold=hold, now=self._now(c)))

    def mark_sent(self, item_id: int, *, remote_ref: str | None = None) -> None:
        self._write(lambda c: outbox.mark_sent(c, item_id, remote_ref=remote_ref, now=self._now(c)))

    def mark_retry(self, item_id: int, *, not_before: datetime | timedelta, error: str) -> None:
        """Not delivered; try again at a time (a ``timedelta``: from now)."""
        self._write(lambda c: outbox.mark_retry(c, item_id, not_before=self._when(c, not_before), error=error))

    def mark_dead(self, item_id: int, *, error: str) -> None:
        """Not delivered, and never to be tried again."""
        self._write(lambda c: outbox.mark_dead(c, item_id, error=error, now=self._now(c)))

    def outbox_counts(self) -> dict[str, dict[str, int]]:
        """By destination: how many are ``pending``, ``sending``, ``sent`` and ``dead``."""
        with self._database.read() as c:
            return outbox.counts(c)

    def thread_ref(self, destination: str, thread_key: str) -> str | None:
        """What the channel calls the first message it was sent of this thread."""
        with self._database.read() as c:
            return outbox.thread_ref(c, destination, thread_key)

    # --- operation --------------------------------------------------------------------------------

    def tick(self, worker: str, *, detail: Mapping[str, Any] | None = None) -> None:
        """Note that a worker has completed a round."""
        self._write(lambda c: ops.save_tick(c, worker, detail=detail or {}, now=self._now(c)))

    def last_ticks(self) -> list[Tick]:
        """The last sign of life of each worker, newest first."""
        with self._database.read() as c:
            return ops.load_ticks(c)

    def prune(
        self,
        *,
        results_before: datetime,
        profiles_before: datetime,
        samples_before: datetime | None = None,
        outbox_before: datetime | None = None,
        ticks_before: datetime | None = None,
    ) -> dict[str, int]:
        """Delete what ended before these times, in small transactions; how many rows of each kind.

        Kept for ever: which windows there were, incidents, baselines, messages on their way, and the evidence of
        open incidents.
        """
        gone = {
            "results": ops.prune_results(self._database, results_before),
            "profiles": ops.prune_profiles(self._database, profiles_before),
            "outbox": ops.prune_outbox(self._database, outbox_before or results_before),
        }
        if samples_before is not None:
            gone["samples"] = ops.prune_samples(self._database, samples_before)
        if ticks_before is not None:
            gone["ticks"] = ops.prune_ticks(self._database, ticks_before)
        return gone

    def check(self) -> list[str]:
        """What is wrong with the store, in words; empty when all promises are kept."""
        found = []
        with self._database.read() as c:
            revision = current_revision(c)
            if revision != REVISION:
                found.append(f"the tables have revision {revision}, this program needs {REVISION}")
            if self._database.is_sqlite:
                found += [f"damage: {row[0]}" for row in c.exec_driver_sql("PRAGMA quick_check") if row[0] != "ok"]
            found += runs.problems(c, lease_now=self._lease_now(c))
            found += outbox.problems(c, now=self._now(c))
        return found

    # --- clocks and transactions --------------------------------------------------------------------

    def _now(self, connection: Connection) -> datetime:
        return _database_time(connection) if self._clock is None else self._clock()

    def _lease_now(self, connection: Connection) -> datetime:
        return _database_time(connection) if self._lease_clock is None else self._lease_clock()

    def _when(self, connection: Connection, moment: datetime | timedelta | None) -> datetime:
        if isinstance(moment, datetime):
            return moment
        return self._now(connection) + (moment or timedelta(0))

    def _write(self, work: Callable[[Connection], T]) -> T:
        """Do ``work`` in one transaction; a deadlock or serialization failure is simply done again."""
        for attempt in range(_TRIES):
            try:
                with self._database.write() as connection:
                    return work(connection)
            except StoreUnavailable as error:
                state = getattr(getattr(error.__cause__, "orig", None), "sqlstate", None)
                if state not in ("40001", "40P01") or attempt == _TRIES - 1:
                    raise
                time.sleep(0.02 * 2**attempt)
        raise AssertionError("unreachable")


def _database_time(connection: Connection) -> datetime:
    if connection.dialect.name == "sqlite":
        # the file has no clock of its own: all who open it run on this machine
        return datetime.now(UTC)
    found: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return found.astimezone(UTC)
