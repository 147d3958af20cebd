"""The shapes of what the service keeps: windows, runs, results, incidents and messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detectors.class_counts import ClassCounts
    from detectors.delay_counts import DelayCounts
    from detectors.multivariate import Correlations
    from detectors.pair_counts import PairCounts
    from detectors.profiles import Column, ColumnProfile, ColumnSpec
    from detectors.regression import Errors
    from detectors.score_labels import ScoreLabels


class Verdict(StrEnum):
    """What a comparison says; ``no_data`` and ``cannot_tell`` are answers, not errors."""

    OK = "ok"
    WARN = "warn"
    ALERT = "alert"
    CANNOT_TELL = "cannot_tell"
    NO_DATA = "no_data"

    @property
    def rank(self) -> int:
        """How bad it is, for sorting worst first."""
        return {"alert": 4, "warn": 3, "cannot_tell": 2, "no_data": 1, "ok": 0}[self.value]

    @property
    def decides(self) -> bool:
        """Whether the window was able to say anything: only then may it open or resolve an incident."""
        return self in (Verdict.OK, Verdict.WARN, Verdict.ALERT)


class Check(StrEnum):
    """The five questions asked of every window."""

    FEATURE_DRIFT = "feature_drift"
    SCORE_DRIFT = "score_drift"
    PERFORMANCE = "performance"
    SKEW = "skew"
    QUALITY = "quality"


class Job(StrEnum):
    """The clocks of a model: inputs are read once a window closes, offline values and labels when they land."""

    INPUTS = "inputs"
    SKEW = "skew"
    LABELS = "labels"


class RunState(StrEnum):
    PENDING = "pending"
    LEASED = "leased"
    OK = "ok"
    NO_DATA = "no_data"
    INSUFFICIENT = "insufficient"
    ERROR = "error"
    SKIPPED = "skipped"

    @property
    def finished(self) -> bool:
        return self not in (RunState.PENDING, RunState.LEASED)


@dataclass(frozen=True, order=True)
class Window:
    """A half-open span of event time ``[start, end)``, both aware, UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a window needs aware times")
        if self.end <= self.start:
            raise ValueError(f"a window must end after it starts: {self.start} … {self.end}")

    @property
    def length(self) -> timedelta:
        return self.end - self.start


@dataclass(frozen=True)
class Claim:
    """The right to work on one window until the lease ends; ``token`` fences out whoever lost it."""

    run_id: int
    model: str
    job: Job
    window: Window
    revision: int
    attempt: int
    token: str
    spec_version: str
    alerts: bool = True


@dataclass(frozen=True)
class WindowRow:
    """One window of one job as the store knows it: what became of it, and why."""

    model: str
    job: Job
    window: Window
    state: RunState
    reason: str | None = None
    revision: int = 0
    attempt: int = 0
    n_rows: int | None = None
    fingerprint: str | None = None
    spec_version: str = ""
    alerts: bool = True
    not_before: datetime | None = None
    lease_owner: str | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One number and what it means: a row of the `result` table and of `monitor results --json`."""

    model: str
    check: Check
    metric: str
    window: Window
    value: float | None
    verdict: Verdict
    feature: str | None = None
    segment: str | None = None
    p_value: float | None = None
    threshold: float | None = None
    n_reference: int | None = None
    n_current: int | None = None
    revision: int = 0
    kind: str | None = None
    interval: tuple[float, float] | None = None
    label_coverage: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def of_versions(self) -> bool:
        """Whether it compares two versions of the model: that says nothing of how the model does."""
        return "versus" in self.detail


@dataclass(frozen=True)
class StoredProfile:
    """The counts of one column in one window, over the edges of baseline ``baseline_id``.

    ``column`` is the feature's name, ``__score__``, ``__decision__``, ``__labels__``, ``__delays__`` (how long labels
    take; both followed by the name of a further label), ``__outcomes__`` (numbers and classes predicted and true),
    ``__joint__`` (how the numeric features go together), or ``__pairs__`` (two versions on the same requests);
    ``segment`` is ``None`` for all rows, else ``column=value``.
    """

    model: str
    window: Window
    column: str
    profile: ColumnProfile | ScoreLabels | Correlations | DelayCounts | PairCounts | Errors | ClassCounts
    segment: str | None = None
    baseline_id: int | None = None


@dataclass(frozen=True)
class Baseline:
    """The frozen, numbered artefact that windows are compared with.

    ``columns`` holds features plus ``__score__`` and ``__decision__`` where the model has them. ``detail`` carries
    where it came from (for people) and the reference performance; ``roles`` the resolved feature list.
    """

    id: int
    model: str
    spec_hash: str
    created_at: datetime
    source: str
    window: Window | None
    n_rows: int
    columns: dict[str, Column]
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def features(self) -> list[str]:
        return [name for name in self.columns if not name.startswith("__")]

    def specs(self) -> dict[str, ColumnSpec]:
        return {name: column.spec for name, column in self.columns.items()}


@dataclass(frozen=True)
class Roles:
    """What each column of a model is for; resolved from the config and the database, kept with the baseline.

    ``features`` maps a feature to ``"numeric"`` or ``"categorical"``, in table order; ``left_out`` says why a column
    is not a feature; ``guessed`` names the roles that the config did not spell out (role → column).  ``champion`` is
    the version whose rows count, where several log rows for one request.
    """

    features: dict[str, str]
    time: str
    key: tuple[str, ...] = ()
    score: str | None = None
    decision: str | None = None
    label: str | None = None
    version: str | None = None
    segments: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    guessed: dict[str, str] = field(default_factory=dict)
    champion: str | None = None


SCORE = "__score__"
DECISION = "__decision__"
WEEKLY = "same time of the week"
CYCLES = {"same time of day": timedelta(days=1), WEEKLY: timedelta(days=7)}
"""What a window of a column with seasons was compared with, in words (``detail.season``), and when that comes again."""
PAIRS = "__pairs__"
ACCUMULATED = "psi_accumulated"
"""Metric of several small windows judged together."""


@dataclass(frozen=True)
class SeriesState:
    """How many windows in a row one series has been bad or good: rows, so that downtime neither fires nor clears."""

    model: str
    check: Check
    feature: str | None
    segment: str | None
    bad: int = 0
    good: int = 0
    verdict: Verdict = Verdict.OK
    last_window: datetime | None = None
    since: datetime | None = None
    """Start of the first window of the bad streak; ``None`` while ``bad`` is 0."""


class IncidentState(StrEnum):
    OPEN = "open"
    RESOLVED = "resolved"
    REMOVED = "removed"


TAKEN_BACK = "taken_back"
"""In the ``detail`` of an incident that later data has shown to be none."""


@dataclass(frozen=True)
class Incident:
    """A check that fires, from opened to resolved."""

    id: str
    model: str
    check: Check
    state: IncidentState
    severity: Verdict
    opened_window: datetime
    last_window: datetime
    resolved_window: datetime | None = None
    features: list[str] = field(default_factory=list)
    cause: str | None = None
    cause_confidence: float | None = None
    onset: datetime | None = None
    summary: str = ""
    acknowledged_by: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    acknowledged_at: datetime | None = None
    acknowledged_note: str | None = None

    @property
    def standing(self) -> str:
        """Its state in words; ``taken back`` where later data has shown that there was no fault."""
        taken_back = self.state is IncidentState.RESOLVED and self.detail.get(TAKEN_BACK)
        return "taken back" if taken_back else self.state.value


@dataclass(frozen=True)
class Mute:
    """A person's wish to hear nothing of a model, or of one of its features, until a time (``None``: until unmuted)."""

    model: str
    feature: str | None
    until: datetime | None
    who: str
    reason: str
    created_at: datetime


@dataclass(frozen=True)
class Tick:
    """The last sign of life of one worker."""

    worker: str
    at: datetime
    detail: dict[str, Any] = field(default_factory=dict)


class Transition(StrEnum):
    """Why a message is sent; every decision to notify has one of these names."""

    OPENED = "opened"
    WORSENED = "worsened"
    REPEATED = "repeated"
    RESOLVED = "resolved"
    RESTATED = "restated"
    NO_DATA = "no_data"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Finding:
    """One line of a message: a feature or metric, in plain words."""

    name: str
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Message:
    """Composed once, rendered by every channel; plain data so that it can wait in the outbox."""

    title: str
    summary: str
    severity: Verdict
    transition: Transition
    model: str
    window: Window | None
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    more: int = 0
    advice: str = ""
    report_url: str | None = None
    runbook: str | None = None
    owner: str | None = None
    incident_ids: list[str] = field(default_factory=list)
    thread_key: str = ""
    possible_repeat: bool = False


@dataclass(frozen=True)
class OutboxItem:
    """One message for one destination, on its way."""

    id: int
    destination: str
    message: Message
    attempts: int
    created_at: datetime
    dedup_key: str
    thread_ref: str | None = None
    update_ref: str | None = None


@dataclass(frozen=True)
class Outcome:
    """All that one run of one window leaves behind; committed in one transaction."""

    state: RunState
    n_rows: int = 0
    reason: str | None = None
    fingerprint: str | None = None
    results: list[Result] = field(default_factory=list)
    profiles: list[StoredProfile] = field(default_factory=list)
    series: list[SeriesState] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    messages: list[tuple[str, str, Message]] = field(default_factory=list)
    """``(destination, dedup_key, message)``"""
    held: list[tuple[str, str, Message]] = field(default_factory=list)
    """The same, of a window too old for a message of its own: to be told together when the backlog is done."""
    gone: list[str] = field(default_factory=list)
    """Ids of incidents that turned out to be a part of another one."""
    detail: dict[str, Any] = field(default_factory=dict)
