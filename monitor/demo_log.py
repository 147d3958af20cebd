"""A believable log of a credit-risk model, written to SQLite, with incidents planted where the demo can find them.

Everything is seeded: the same arguments give the same rows, to the byte. Outside the planted incidents nothing
changes from day to day but the amount of traffic, so whatever else a monitor reports on this log is a false alarm.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Columns = dict[str, npt.NDArray[Any]]

MODEL = "credit_risk"
"""The name under which `config.yaml` watches this log."""
THRESHOLD = 0.30
"""Applications with a higher probability of default are recommended for decline."""
BASELINE_DAYS = 21
"""The first days hold no incident: the baseline of `config.yaml` covers exactly these."""
LABEL_DELAY = timedelta(days=20)
"""After this long, all but a few per cent of the labels that ever come are in."""

NUMERIC = (
    "income",
    "age",
    "debt_ratio",
    "loan_amount",
    "employment_years",
    "num_accounts",
    "utilization",
    "days_since_last_loan",
)
CATEGORICAL = ("channel", "region", "employment_type", "purpose")
FEATURES = NUMERIC + CATEGORICAL

_APPLICATION_ID = 0x6D6C6D64  # "mlmd" in the SQLite header: tells a demo log from a database that must not be replaced
_SHARES: dict[str, dict[str, float]] = {
    "channel": {"web": 0.42, "branch": 0.30, "app": 0.14, "partner": 0.14},
    "region": {"north": 0.26, "south": 0.22, "east": 0.18, "west": 0.17, "centre": 0.17},
    "employment_type": {"salaried": 0.66, "self_employed": 0.17, "public": 0.12, "retired": 0.05},
    "purpose": {"car": 0.31, "home": 0.27, "debt_consolidation": 0.22, "education": 0.12, "other": 0.08},
}
_TRAFFIC_BY_WEEKDAY = np.array([1.06, 1.05, 1.03, 1.02, 1.04, 0.93, 0.87])
_TRAFFIC_BY_HOUR = np.array([2, 1, 1, 1, 1, 2, 4, 6, 8, 9, 10, 10, 9, 9, 10, 10, 9, 8, 8, 8, 8, 7, 5, 4], dtype=float)


@dataclass(frozen=True)
class PlantedIncident:
    """One thing that goes wrong in the log, and what a monitor should say about it.

    ``first_day`` and ``last_day`` count from the first day of the log, both included. ``check`` and ``features`` are
    what a monitor has to name; ``expected`` lists every ``(check, feature)`` that may be reported for it, the culprits
    and what cannot help but move along. A feature of ``None`` stands for the model as a whole, by whatever metric.
    """

    name: str
    kind: str
    check: str
    features: tuple[str, ...]
    first_day: int
    last_day: int
    why: str
    fix: str
    expected: frozenset[tuple[str, str | None]]

    def covers(self, day: int) -> bool:
        """Whether windows of this day are touched; the day after counts, for comparisons with the day before."""
        return self.first_day <= day <= self.last_day + 1


@dataclass(frozen=True)
class DemoTruth:
    """What was planted in a demo log, so that what was found can be held against it."""

    path: Path
    start: datetime
    end: datetime
    n_rows: int
    incidents: tuple[PlantedIncident, ...] = field(default_factory=tuple)

    def day_of(self, moment: datetime) -> int:
        """The number of the day that holds ``moment``, from 0."""
        return (moment - self.start) // timedelta(days=1)

    def explain(self, check: str, feature: str | None, *, window_start: datetime) -> PlantedIncident | None:
        """The planted incident that accounts for an alert on one window, or ``None``: a false alarm."""
        day = self.day_of(window_start)
        for incident in self.incidents:
            if incident.covers(day) and incident.expected & {(check, feature), (check, None)}:
                return incident
        return None

    def culprit(self, check: str, features: Iterable[str], *, window_start: datetime) -> PlantedIncident | None:
        """The planted incident that this finding names: its own check and one of its own features, or ``None``."""
        names = set(features)
        day = self.day_of(window_start)
        for incident in self.incidents:
            culprits = not incident.features or names & set(incident.features)
            if incident.check == check and incident.covers(day) and culprits:
                return incident
        return None


INCIDENTS = (
    PlantedIncident(
        name="credit bureau outage",
        kind="broken input",
        check="quality",
        features=("utilization",),
        first_day=24,
        last_day=26,
        why="the bureau's interface timed out, so that utilization is missing for a quarter of the requests",
        fix="restore the bureau connection; decide what the model should do without the value",
        expected=frozenset({("quality", "utilization"), ("feature_drift", "utilization")}),
    ),
    PlantedIncident(
        name="payment holiday",
        kind="changed rule",
        check="performance",
        features=(),
        first_day=30,
        last_day=37,
        why="borrowers with high debt may pause their instalments: who defaults has changed, who applies has not",
        fix="do not retrain on these weeks; raise the threshold by hand until the holiday ends",
        expected=frozenset({("performance", None)}),
    ),
    PlantedIncident(
        name="partner campaign",
        kind="changed world",
        check="feature_drift",
        features=("age", "loan_amount", "channel"),
        first_day=38,
        last_day=45,
        why="a partner's campaign brings younger applicants who ask for larger loans",
        fix="check performance for channel = partner once labels land; add the campaign to the training data",
        expected=frozenset({("feature_drift", "age"), ("feature_drift", "loan_amount"), ("feature_drift", "channel")}),
    ),
    PlantedIncident(
        name="uncalibrated release",
        kind="bad release",
        check="score_drift",
        features=(),
        first_day=46,
        last_day=51,
        why="model version 2026.2 went out without its calibration step: every score is too high",
        fix="roll back to 2025.4, as was done on the last day",
        # The same applicants, scored too high: more declines, and among them fewer who would have defaulted.
        expected=frozenset({("score_drift", None), ("performance", None)}),
    ),
    PlantedIncident(
        name="income in thousands",
        kind="pipeline bug",
        check="skew",
        features=("income",),
        first_day=52,
        last_day=57,
        why="the branch service sends income in thousands; the offline store still has the right unit",
        fix="multiply by 1,000 in the branch service, and state the unit in the name of the field",
        expected=frozenset({("skew", "income"), ("feature_drift", "income"), ("quality", "income")}),
    ),
)
_OUTAGE, _HOLIDAY, _CAMPAIGN, _RELEASE, _UNIT_BUG = INCIDENTS
MIN_DAYS = max(incident.last_day for incident in INCIDENTS) + 2


def write_demo_log(
    path: Path, *, seed: int = 7, days: int = 60, per_day: int = 2000, end: date = date(2026, 3, 1)
) -> DemoTruth:
    """Write the log to a new SQLite file and say what was planted in it.

    Three tables come to be: ``predictions`` (one wide row per request), ``labels`` (who defaulted, and when that
    became known) and ``features_offline`` (the feature store's values for the same requests). Labels that land after
    ``end`` are written as well, so that a later moment can be replayed; a reader must look at ``labelled_at``.

    Parameters
    ----------
    path
        Where the file goes. A demo log that is already there is replaced; any other file is left alone.
    days, per_day
        Length of the log, at least ``MIN_DAYS``, and the average number of requests a day.
    end
        The first day (UTC) that is no longer in the log.

    Raises
    ------
    ValueError
        The log would be too short to hold the incidents, or empty.
    FileExistsError
        The path holds something that this function did not write.
    """
    if days < MIN_DAYS:
        raise ValueError(f"the planted incidents need a log of at least {MIN_DAYS} days, got {days}")
    if per_day < 1:
        raise ValueError(f"expected at least one request a day, got {per_day}")
    if path.exists() and not _is_demo_log(path):
        raise FileExistsError(f"{path} exists and is not a demo log: choose another place or move it away")
    rng = np.random.default_rng(seed)
    end_at = datetime(end.year, end.month, end.day, tzinfo=UTC)
    start = end_at - timedelta(days=days)
    day, predicted_at = _traffic(rng, start, days=days, per_day=per_day)
    truth, online = _features(rng, day)
    predictions = _predictions(day, predicted_at, online)
    labels = _labels(rng, day, predicted_at, truth)
    offline = _offline(rng, predicted_at, truth)
    _write(path, {"predictions": predictions, "labels": labels, "features_offline": offline})
    return DemoTruth(path=path, start=start, end=end_at, n_rows=len(day), incidents=INCIDENTS)


# --- the world ------------------------------------------------------------------------------------


def _traffic(
    rng: np.random.Generator, start: datetime, *, days: int, per_day: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.datetime64]]:
    """Day number and time of every request, in order; busier on weekdays, in the day time and in the campaign."""
    weekday = (start.weekday() + np.arange(days)) % 7
    expected = per_day * _TRAFFIC_BY_WEEKDAY[weekday]
    expected[_span(_CAMPAIGN)] *= 1.2
    day = np.repeat(np.arange(days), rng.poisson(expected).clip(min=1))
    hour = rng.choice(24, size=len(day), p=_TRAFFIC_BY_HOUR / _TRAFFIC_BY_HOUR.sum())
    within = hour * 3_600_000 + rng.integers(0, 3_600_000, size=len(day))
    offset = np.sort(day * 86_400_000 + within)
    return offset // 86_400_000, np.datetime64(start.replace(tzinfo=None), "ms") + offset.astype("timedelta64[ms]")


def _features(rng: np.random.Generator, day: npt.NDArray[np.int64]) -> tuple[Columns, Columns]:
    """The features as they are, and as the model was served them."""
    n = len(day)
    campaign = _during(day, _CAMPAIGN) & (rng.random(n) < 0.45)
    age = np.where(campaign, rng.normal(27, 4, n), rng.normal(43, 12, n)).clip(18, 80).round()
    loan = np.exp(np.where(campaign, rng.normal(9.85, 0.38, n), rng.normal(9.05, 0.60, n))).clip(1000, 50_000)
    tenure = rng.gamma(1.3, 2.6, n)
    truth: Columns = {
        "income": np.exp(rng.normal(10.45, 0.42, n)).clip(9000, 250_000).round(),
        "age": age,
        "debt_ratio": rng.beta(2.2, 4.0, n).round(4),
        "loan_amount": (loan / 50).round() * 50,
        "employment_years": np.minimum(tenure, age - 17.5).round(1),
        "num_accounts": rng.poisson(4.5, n).astype(float),
        "utilization": rng.beta(1.8, 2.6, n).round(4),
        "days_since_last_loan": rng.exponential(420, n).clip(1, 3650).round(),
    }
    truth["utilization"][rng.random(n) < np.where(_during(day, _OUTAGE), 0.25, 0.004)] = np.nan
    truth["days_since_last_loan"][rng.random(n) < 0.06] = np.nan  # no loan before: missing by nature, not by fault
    for name, shares in _SHARES.items():
        truth[name] = rng.choice(np.array(list(shares), dtype=object), size=n, p=list(shares.values()))
    truth["channel"][campaign] = "partner"
    online = dict(truth)
    wrong_unit = _during(day, _UNIT_BUG) & (truth["channel"] == "branch")
    online["income"] = np.where(wrong_unit, truth["income"] / 1000, truth["income"])
    return truth, online


def _risk(features: Columns, *, debt_weight: FloatArray | float = 3.4) -> FloatArray:
    """Log-odds of default: the fixed rule that the model has learned, missing values at their typical value."""
    filled = {name: np.nan_to_num(features[name].astype(float), nan=typical) for name, typical in _TYPICAL.items()}
    # Incomes below 20,000 count as 20,000: the clip is what keeps the unit bug out of the score, and so out of sight.
    income = np.log(filled["income"].clip(min=20_000) / 35_000)
    log_odds: FloatArray = (
        -1.45
        + debt_weight * (filled["debt_ratio"] - _TYPICAL["debt_ratio"])
        + 2.6 * (filled["utilization"] - _TYPICAL["utilization"])
        - 0.35 * income
        - 0.10 * (filled["employment_years"] - _TYPICAL["employment_years"])
        + 0.08 * (filled["num_accounts"] - _TYPICAL["num_accounts"])
        - 0.006 * (filled["age"] - _TYPICAL["age"])
        + 0.10 * np.log(filled["loan_amount"] / 8500)
        - 0.0004 * (filled["days_since_last_loan"] - _TYPICAL["days_since_last_loan"])
        + 0.45 * (features["employment_type"] == "self_employed")
        + 0.35 * (features["purpose"] == "debt_consolidation")
    )
    return log_odds


_TYPICAL = {
    "income": 35_000.0,
    "age": 43.0,
    "debt_ratio": 0.355,
    "loan_amount": 8500.0,
    "employment_years": 3.4,
    "num_accounts": 4.5,
    "utilization": 0.41,
    "days_since_last_loan": 420.0,
}


def _sigmoid(log_odds: FloatArray) -> FloatArray:
    probability: FloatArray = 1 / (1 + np.exp(-log_odds))
    return probability


# --- the tables -----------------------------------------------------------------------------------


def _predictions(day: npt.NDArray[np.int64], predicted_at: npt.NDArray[np.datetime64], online: Columns) -> Columns:
    release = _during(day, _RELEASE)
    score = _sigmoid(_risk(online) + np.where(release, 0.70, 0.0)).round(6)
    return {
        "request_id": _request_ids(len(day)),
        "predicted_at": _iso(predicted_at),
        "model_version": np.where(release, "2026.2", "2025.4"),
        "default_probability": score,
        "declined": (score >= THRESHOLD).astype(np.int64),
        **{name: online[name] for name in FEATURES},
    }


def _labels(
    rng: np.random.Generator, day: npt.NDArray[np.int64], predicted_at: npt.NDArray[np.datetime64], truth: Columns
) -> Columns:
    """Who defaulted, and when that became known: a default shows sooner than its absence; 3 % are never known.

    Every applicant has an outcome, also those whom the model would have declined: its advice is not yet binding.
    """
    n = len(day)
    defaulted = rng.random(n) < _sigmoid(_risk(truth, debt_weight=np.where(_during(day, _HOLIDAY), -3.4, 3.4)))
    delay_days = np.exp(np.where(defaulted, rng.normal(np.log(5), 0.45, n), rng.normal(np.log(10), 0.28, n)))
    known = rng.random(n) >= 0.03
    labelled_at = predicted_at + (delay_days * 86_400_000).astype("timedelta64[ms]")
    order = np.argsort(labelled_at[known], kind="stable")  # rows arrive in the order in which outcomes became known
    return {
        "request_id": _request_ids(n)[known][order],
        "defaulted": defaulted[known][order].astype(np.int64),
        "labelled_at": _iso(labelled_at[known][order]),
    }


def _offline(rng: np.random.Generator, predicted_at: npt.NDArray[np.datetime64], truth: Columns) -> Columns:
    """The feature store's side: the right values, up to float noise, for all but one request in two hundred."""
    kept = rng.random(len(predicted_at)) >= 0.005
    computed_at = predicted_at - rng.integers(1000, 60_000, len(predicted_at)).astype("timedelta64[ms]")
    columns: Columns = {"request_id": _request_ids(len(predicted_at))[kept], "computed_at": _iso(computed_at[kept])}
    for name in FEATURES:
        columns[name] = truth[name][kept]
    columns["debt_ratio"] = columns["debt_ratio"] * (1 + rng.normal(0, 1e-9, int(kept.sum())))
    return columns


def _during(day: npt.NDArray[np.int64], incident: PlantedIncident) -> npt.NDArray[np.bool_]:
    return (day >= incident.first_day) & (day <= incident.last_day)


def _span(incident: PlantedIncident) -> slice:
    return slice(incident.first_day, incident.last_day + 1)


def _request_ids(n: int) -> npt.NDArray[Any]:
    return np.array([f"req-{number:07d}" for number in range(n)], dtype=object)


def _iso(moments: npt.NDArray[np.datetime64]) -> npt.NDArray[Any]:
    """RFC 3339 text in UTC with milliseconds: all of one width, so that text order is time order."""
    return np.datetime_as_string(moments, unit="ms", timezone="UTC")


# --- the file -------------------------------------------------------------------------------------

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
CREATE TABLE predictions (
    request_id TEXT PRIMARY KEY, predicted_at TEXT NOT NULL, model_version TEXT NOT NULL,
    default_probability REAL NOT NULL, declined INTEGER NOT NULL,
    {", ".join(f"{name} REAL" for name in NUMERIC)}, {", ".join(f"{name} TEXT" for name in CATEGORICAL)});
CREATE TABLE labels (
    request_id TEXT NOT NULL, defaulted INTEGER NOT NULL, labelled_at TEXT NOT NULL);
CREATE TABLE features_offline (
    request_id TEXT NOT NULL, computed_at TEXT NOT NULL,
    {", ".join(f"{name} REAL" for name in NUMERIC)}, {", ".join(f"{name} TEXT" for name in CATEGORICAL)});
"""
_INDEXES = """
CREATE INDEX predictions_predicted_at ON predictions (predicted_at);
CREATE INDEX labels_request_id ON labels (request_id);
CREATE INDEX features_offline_request_id ON features_offline (request_id);
"""


def _write(path: Path, tables: dict[str, Columns]) -> None:
    """Write beside the target and rename, so that a half-written log is never taken for a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial)) as connection:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
        for table, columns in tables.items():
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", _rows(list(columns.values())))  # noqa: S608
        connection.executescript(_INDEXES)
        connection.commit()
    partial.replace(path)


def _rows(columns: Sequence[npt.NDArray[Any]]) -> Iterator[tuple[Any, ...]]:
    """Rows of plain Python values; SQLite stores NaN as NULL by itself."""
    return zip(*(column.tolist() for column in columns), strict=True)


def _is_demo_log(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID)
    except sqlite3.DatabaseError:
        return False
