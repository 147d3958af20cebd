"""Champion, challenger and shadow versions: read from real logs, paired, judged, and kept out of all other checks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from monitor import run
from monitor.cli import app
from monitor.config import Config
from monitor.config_file import ConfigErrors
from monitor.config_file import load as load_config
from monitor.models import PAIRS, Check, Job, Result, Verdict
from monitor.reports.site import build_site
from monitor.service import Service
from monitor.store import ALL, Store

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PER_DAY = 300


def requests(*, days: int, per_day: int = PER_DAY, skill: float = 0.0, seed: int = 5) -> list[dict[str, Any]]:
    """Requests with the scores of two versions; ``skill`` is how much of the champion's noise the challenger lacks."""
    rng = np.random.default_rng(seed)
    rows = []
    for day in range(days):
        for i in range(per_day):
            logit = rng.normal(-0.5, 1.5)
            noise = rng.normal(0, 1.2)
            label = int(rng.random() < 1 / (1 + np.exp(-logit)))
            scores = [float(1 / (1 + np.exp(-(logit + n)))) for n in (noise, (1 - skill) * noise + rng.normal(0, 0.2))]
            at = START + day * DAY + timedelta(seconds=1 + int(86000 * i / per_day))
            rows.append({"key": f"r{day}-{i}", "at": at, "amount": float(rng.gamma(2, 10)), "scores": scores,
                         "label": label})  # fmt: skip
    return rows


def rows_apart(asked: Sequence[dict[str, Any]], *, versions: Sequence[str] = ("v3", "v4")) -> list[dict[str, Any]]:
    """A row for each request and version; only the champion's decides."""
    return [
        {
            "request_id": each["key"],
            "at": each["at"] + timedelta(milliseconds=at),
            "amount": each["amount"] + (1000.0 if at else 0.0),
            "model_version": version,
            "score": each["scores"][at],
            "declined": int(each["scores"][at] >= 0.5) if at == 0 else None,
        }
        for each in asked
        for at, version in enumerate(versions)
    ]


def columns_apart(asked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "request_id": each["key"],
            "at": each["at"],
            "amount": each["amount"],
            "score": each["scores"][0],
            "score_v4": each["scores"][1],
        }
        for each in asked
    ]


def landed(asked: Sequence[dict[str, Any]], *, after: timedelta = DAY) -> list[dict[str, Any]]:
    return [{"request_id": each["key"], "label": each["label"], "landed": each["at"] + after} for each in asked]


def write(where: Path | str, **tables: list[dict[str, Any]]) -> None:
    engine = sa.create_engine(f"sqlite:///{where}" if isinstance(where, Path) else where, poolclass=sa.NullPool)
    text = engine.dialect.name == "sqlite"
    kinds = {str: sa.Text, float: sa.Float, int: sa.Integer, datetime: sa.Text if text else sa.DateTime(timezone=True)}
    with engine.begin() as connection:
        for name, rows in tables.items():
            types = {
                column: type(value) for row in reversed(rows) for column, value in row.items() if value is not None
            }
            columns = [sa.Column(column, kinds[types.get(column, int)]) for column in rows[0]]
            table = sa.Table(name, sa.MetaData(), *columns)
            table.create(connection)
            spelled = [
                {
                    key: value.isoformat() if text and isinstance(value, datetime) else value
                    for key, value in row.items()
                }
                for row in rows
            ]
            connection.execute(table.insert(), spelled)


MODEL: dict[str, Any] = {
    "table": "predictions",
    "time": "at",
    "key": "request_id",
    "threshold": 0.5,
    "start": (START + 2 * DAY).isoformat(),
    "baseline": {"from": START.isoformat(), "to": (START + 2 * DAY).isoformat()},
    "labels": {"table": "labels", "label": "label", "time": "landed", "delay": "2d"},
    "min_rows": 50,
}


def config(folder: Path, *, source: str | None = None, **more: Any) -> Config:
    return Config.model_validate(
        {
            "store": f"sqlite:///{folder / 'store.db'}",
            "sources": {"main": source or f"sqlite:///{folder / 'log.db'}"},
            "models": {"credit": MODEL | more},
            "alerts": {"terminal": {"console": True}, "max_age": "900d"},
            "worker": {"max_catch_up": "900d"},
        }
    )


def lived(folder: Path, told: Config, *, until: int, days: Sequence[int] | None = None) -> Service:
    service = Service(told, Store.open(f"sqlite:///{folder / 'store.db'}"))
    for day in days or [until]:
        report = run.run_due(service, now=START + day * DAY + timedelta(hours=1), worker="w")
        assert not report.errors
    return service


def compared(service: Service, metric: str, *, version: str = "v4") -> list[Result]:
    return [r for r in service.store.results("credit", metric=metric) if r.detail.get("version") == version]


# --- rows of their own -----------------------------------------------------------------------------


def test_only_the_champions_rows_drive_the_other_checks(tmp_path: Path) -> None:
    asked = requests(days=6)
    write(tmp_path / "log.db", predictions=rows_apart(asked), labels=landed(asked))
    service = lived(tmp_path, config(tmp_path, compare={"champion": "v3"}), until=6)
    results = service.store.results("credit")
    volume = [r for r in results if r.metric == "n_rows"]
    assert {r.n_current for r in volume} == {PER_DAY}
    # The shadow's amounts are a thousand higher: had they come in, the feature would have drifted or split in two.
    baseline = service.store.baseline("credit")
    assert baseline is not None
    assert baseline.n_rows == 2 * PER_DAY
    spec = baseline.columns["amount"].spec
    assert spec.edges[-1] < 1000  # type: ignore[union-attr]
    accuracy = [r for r in results if r.metric == "accuracy" and r.kind == "realized"]
    assert {r.n_current for r in accuracy if r.detail["mature"]} == {PER_DAY}
    assert not [r for r in volume if r.detail.get("duplicates")]


def test_a_better_challenger_is_found_and_pages_nobody(tmp_path: Path) -> None:
    asked = requests(days=8, skill=0.9)
    write(tmp_path / "log.db", predictions=rows_apart(asked), labels=landed(asked))
    service = lived(tmp_path, config(tmp_path, compare={"champion": "v3", "challengers": ["v4"]}), until=8)
    newest = [r for r in compared(service, "brier_difference") if r.value is not None][-1]
    assert newest.verdict is Verdict.WARN
    assert newest.detail["standing"] == "better"
    assert newest.interval is not None
    assert newest.interval[1] < 0
    assert (newest.check, newest.kind, newest.segment) == (Check.PERFORMANCE, "realized", "version=v4")
    assert (newest.detail["version"], newest.detail["versus"]) == ("v4", "v3")
    assert newest.n_current == newest.detail["n_windows"] * PER_DAY
    assert "same requests: Brier score −" in newest.detail["what"]
    assert service.store.incidents("credit") == []
    assert service.store.outbox_counts() == {}


def test_the_champion_is_who_took_most_decisions_in_the_baseline_and_stays_so(tmp_path: Path) -> None:
    asked = requests(days=6)
    # The shadow logs before the champion does, and more often: that it decides nothing tells them apart.
    extra = [row | {"request_id": f"x{row['request_id']}"} for row in rows_apart(asked) if row["model_version"] == "v4"]
    write(tmp_path / "log.db", predictions=[*rows_apart(asked), *extra], labels=landed(asked))
    service = lived(tmp_path, config(tmp_path, prediction="declined", compare={}), until=6)
    found = compared(service, "decision_disagreement")
    assert {r.detail["versus"] for r in found} == {"v3"}
    baseline = service.store.baseline("credit")
    assert baseline is not None
    assert baseline.detail["roles"]["champion"] == "v3"
    lonely = compared(service, "unpaired_rate")[-1]
    assert lonely.value == pytest.approx(1 / 2)
    assert (lonely.detail["only_champion"], lonely.detail["only_challenger"]) == (0, PER_DAY)


def test_the_last_row_of_each_key_and_version_counts(tmp_path: Path) -> None:
    asked = requests(days=4)
    rows = rows_apart(asked)
    first = [row | {"at": row["at"] - timedelta(milliseconds=500), "score": 1 - row["score"]} for row in rows]
    write(tmp_path / "log.db", predictions=[*first, *rows], labels=landed(asked))
    twice = lived(tmp_path, config(tmp_path, compare={"champion": "v3"}), until=4)
    once_folder = tmp_path / "once"
    once_folder.mkdir()
    write(once_folder / "log.db", predictions=rows, labels=landed(asked))
    once = lived(once_folder, config(once_folder, compare={"champion": "v3"}), until=4)
    for metric in ("decision_disagreement", "score_difference"):
        pairs = list(zip(compared(once, metric)[1:], compared(twice, metric)[1:], strict=True))
        assert pairs
        assert [b.value for _, b in pairs] == pytest.approx([a.value for a, _ in pairs]), metric
    assert compared(twice, "unpaired_rate")[-1].detail["duplicates"] == 2 * PER_DAY


def test_several_challengers_each_have_a_series_and_a_silent_one_is_said_to_be_silent(tmp_path: Path) -> None:
    asked = requests(days=5)
    rows = rows_apart(asked)
    rows += [
        row | {"model_version": "v5"} for row in rows if row["model_version"] == "v4" and row["at"] < START + 3 * DAY
    ]
    write(tmp_path / "log.db", predictions=rows, labels=landed(asked))
    service = lived(tmp_path, config(tmp_path, compare={"champion": "v3", "challengers": ["v4", "v5", "v6"]}), until=5)
    found = compared(service, "decision_disagreement", version="v5")
    assert [r.verdict for r in found] == [Verdict.OK, Verdict.NO_DATA, Verdict.NO_DATA]
    assert found[-1].detail["reason"] == "v5 answered no request in this window"
    never = compared(service, "error_difference", version="v6")
    assert {(r.verdict, r.value) for r in never} == {(Verdict.NO_DATA, None)}
    assert all(r.verdict is Verdict.OK for r in compared(service, "decision_disagreement", version="v4"))


def test_versions_that_share_no_request_cannot_be_paired(tmp_path: Path) -> None:
    asked = requests(days=4)
    rows = [row for at, row in enumerate(rows_apart(asked)) if (at // 2) % 2 == (row["model_version"] == "v4")]
    write(tmp_path / "log.db", predictions=rows, labels=landed(asked))
    service = lived(tmp_path, config(tmp_path, compare={"champion": "v3"}), until=4)
    for metric in ("decision_disagreement", "error_difference"):
        newest = compared(service, metric)[-1]
        assert (newest.value, newest.verdict) == (None, Verdict.NO_DATA)
        assert newest.detail["reason"].startswith("no request was answered by both: 150 by v3 only, 150 by v4 only")


def test_rows_without_a_version_are_counted_and_belong_to_nobody(tmp_path: Path) -> None:
    asked = requests(days=4)
    rows = rows_apart(asked)
    rows += [row | {"request_id": f"n{at}", "model_version": None} for at, row in enumerate(rows[::4])]
    write(tmp_path / "log.db", predictions=rows, labels=landed(asked))
    service = lived(tmp_path, config(tmp_path, compare={"champion": "v3"}), until=4)
    assert compared(service, "unpaired_rate")[-1].detail["rows_without_version"] == PER_DAY // 2
    assert {r.n_current for r in service.store.results("credit", metric="n_rows")} == {PER_DAY}


def test_without_labels_the_versions_agreement_is_told_with_the_inputs(tmp_path: Path) -> None:
    asked = requests(days=4)
    write(tmp_path / "log.db", predictions=rows_apart(asked))
    service = lived(tmp_path, config(tmp_path, labels=None, compare={"champion": "v3"}), until=4)
    newest = compared(service, "decision_disagreement")[-1]
    own = [each for each in asked if each["at"] >= START + 3 * DAY]
    differing = sum((each["scores"][0] >= 0.5) != (each["scores"][1] >= 0.5) for each in own)
    assert newest.value == pytest.approx(differing / len(own))
    moved = [each["scores"][1] - each["scores"][0] for each in own]
    score = compared(service, "score_difference")[-1]
    assert score.value == pytest.approx(np.mean(moved))
    assert score.detail["percentiles"]["p95"] == pytest.approx(np.percentile(moved, 95))
    assert compared(service, "error_difference") == []
    assert service.store.windows("credit", Job.LABELS) == []


def test_versions_are_told_apart_by_numbers_in_files_and_databases(tmp_path: Path, postgres_url: str) -> None:
    asked = requests(days=4)
    rows = rows_apart(asked, versions=("3", "4"))
    folder = tmp_path / "lake"
    folder.mkdir()
    numbered = [row | {"model_version": int(row["model_version"])} for row in rows]
    pq.write_table(pa.Table.from_pylist(numbered), folder / "predictions.parquet")
    pq.write_table(pa.Table.from_pylist(landed(asked)), folder / "labels.parquet")
    told = config(tmp_path, source=str(folder), compare={"champion": 3})
    service = lived(tmp_path, told, until=4)
    assert {r.n_current for r in service.store.results("credit", metric="n_rows")} == {PER_DAY}
    write(tmp_path / "log.db", predictions=rows, labels=landed(asked))
    write(postgres_url, predictions=numbered, labels=landed(asked))
    for name, url in (("sqlite", f"sqlite:///{tmp_path / 'log.db'}"), ("postgres", postgres_url)):
        (tmp_path / name).mkdir()
        same = lived(tmp_path / name, config(tmp_path / name, source=url, compare={"champion": "3"}), until=4)
        for metric in ("decision_disagreement", "score_difference", "brier_difference"):
            values = [[r.value for r in compared(each, metric, version="4")] for each in (service, same)]
            assert values[0] == pytest.approx(values[1]), (name, metric)


def test_shadow_rows_in_a_table_of_their_own_come_by_a_query(tmp_path: Path) -> None:
    asked = requests(days=5)
    rows = rows_apart(asked)
    tables = {name: [row for row in rows if row["model_version"] == name] for name in ("v3", "v4")}
    write(tmp_path / "log.db", live=tables["v3"], shadow=tables["v4"], predictions=rows, labels=landed(asked))
    columns = "request_id, at, amount, model_version, score, declined"
    query = f"SELECT {columns} FROM live UNION ALL SELECT {columns} FROM shadow"
    found = []
    for name, relation in (("query", {"table": None, "query": query}), ("table", {})):
        folder = tmp_path / name
        folder.mkdir()
        told = config(folder, source=f"sqlite:///{tmp_path / 'log.db'}", compare={"champion": "v3"}, **relation)
        service = lived(folder, told, until=5)
        found.append([(r.metric, r.value) for r in service.store.results("credit") if r.of_versions])
    assert found[0] == found[1]
    assert len(found[0]) == 8 * 3


# --- columns of their own --------------------------------------------------------------------------


def test_shadow_columns_say_the_same_as_rows_of_their_own(tmp_path: Path) -> None:
    asked = requests(days=6, skill=0.5)
    found = []
    for name, rows, compare in (
        ("rows", rows_apart(asked), {"champion": "v3"}),
        ("columns", columns_apart(asked), {"champion": "v3", "shadow": {"v4": "score_v4"}}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "log.db", predictions=rows, labels=landed(asked))
        service = lived(folder, config(folder, compare=compare), until=6)
        metrics = ("decision_disagreement", "score_difference", "error_difference", "brier_difference")
        found.append([[(r.value, r.interval) for r in compared(service, metric)] for metric in metrics])
        assert "score_v4" not in {r.feature for r in service.store.results("credit")}
    assert found[0] == found[1]
    assert found[0][2][0][0] is not None


# --- late labels -----------------------------------------------------------------------------------


def test_a_window_enters_once_its_labels_are_complete_and_those_after_it_wait(tmp_path: Path) -> None:
    asked = requests(days=6)
    # Positives land at once, negatives after a day and a half: what has landed first is not a fair sample. All labels
    # of the fifth day land at once, yet those of the fourth are still waited for.
    quick = [each["label"] == 1 or each["at"] >= START + 4 * DAY for each in asked]
    rows = [
        row
        for each, soon in zip(asked, quick, strict=True)
        for row in landed([each], after=DAY * (0.02 if soon else 1.5))
    ]
    write(tmp_path / "log.db", predictions=rows_apart(asked), labels=rows)
    service = lived(tmp_path, config(tmp_path, compare={"champion": "v3"}), until=5, days=[3, 4, 5])
    newest = compared(service, "error_difference")
    # Windows of days 2, 3, 4 at the end of day 4: the first is mature, the others are not all in.
    assert [r.value is None for r in newest] == [False, True, True]
    assert newest[1].verdict is Verdict.CANNOT_TELL
    assert newest[1].detail["reason"].startswith("labels of this window are still landing (")
    assert newest[2].label_coverage == 1
    assert newest[2].detail["reason"].startswith("labels of the window from 2026-03-04")
    lived(tmp_path, config(tmp_path, compare={"champion": "v3"}), until=8, days=[6, 7, 8])
    later = compared(service, "error_difference")
    assert [r.n_current for r in later if r.value is not None][:4] == [PER_DAY * n for n in (1, 2, 3, 4)]


def test_a_window_whose_labels_landed_is_added_up_with_the_sums_of_the_others(tmp_path: Path) -> None:
    asked = requests(days=8)
    write(tmp_path / "log.db", predictions=rows_apart(asked), labels=landed(asked))
    service = lived(tmp_path, config(tmp_path, compare={"champion": "v3"}), until=10)
    first = compared(service, "error_difference")[-1]
    # The log of the earlier windows is gone; the newest window is read again, and the whole stays what it was.
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'log.db'}", poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM predictions WHERE at < '2026-03-08'"))
    service.store.reopen("credit", Job.LABELS, first.window, reason="test")
    run.run_due(service, now=START + 10 * DAY + timedelta(hours=2), worker="w")
    again = compared(service, "error_difference")[-1]
    assert again.revision == first.revision + 1
    assert (again.value, again.interval, again.n_current) == (first.value, first.interval, first.n_current)
    kept = service.store.profiles("credit", start=START, end=START + 9 * DAY, columns=[PAIRS], segment=ALL)
    assert {profile.segment for profile in kept} == {'["v3", "v4"]'}


# --- what is told ----------------------------------------------------------------------------------


def test_a_message_is_sent_once_and_only_where_it_is_asked_for(tmp_path: Path) -> None:
    asked = requests(days=9, skill=0.9, per_day=150)
    write(tmp_path / "log.db", predictions=rows_apart(asked), labels=landed(asked))
    told = config(tmp_path, compare={"champion": "v3", "metrics": ["brier", "error"], "alert": True})
    service = lived(tmp_path, told, until=9, days=[6, 9])
    assert sum(service.store.outbox_counts()["terminal"].values()) == 1
    assert service.store.incidents("credit") == []


# --- pages -----------------------------------------------------------------------------------------


def test_the_pages_say_who_is_better_since_when_and_on_how_many_requests(tmp_path: Path) -> None:
    asked = requests(days=9, skill=0.9)
    write(tmp_path / "log.db", predictions=rows_apart(asked), labels=landed(asked))
    told = config(tmp_path, compare={"champion": "v3", "metrics": ["brier", "error"]})
    service = lived(tmp_path, told, until=9)
    now = START + 9 * DAY + timedelta(hours=1)
    build_site(service.store, told, now=now, out=tmp_path / "site")
    page = (tmp_path / "site" / "credit" / "index.html").read_text()
    known = [r for r in compared(service, "brier_difference") if r.value is not None]
    assert "v4 beside v3" in page
    assert f"On {known[-1].n_current:,} same requests: Brier score −0." in page
    first = next(r for r in known if r.detail["standing"] == "better")
    assert f"better since {first.window.start.day} Mar 2026" in page
    assert "labels of later windows are still landing" in page
    assert 'class="bf"' in page
    windows = sorted((tmp_path / "site" / "credit").glob("2026*.html"))
    assert "Versions on the same requests" in windows[0].read_text()
    # What is said of a challenger neither is a segment nor changes what is said of the window.
    assert "version=v4" not in page
    assert "beyond its limit" not in page


# --- the config ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compare", "words"),
    [
        ("{champion: v3, challengers: [v3]}", "'v3' is the champion"),
        ("{shadow: {v4: score_v4}, challengers: [v5]}", "unknown shadow version 'v5'"),
        ("{champion: v3, challengers: [v4], thresholds: {v44: 0.5}}", "unknown version 'v44'"),
        ("{metrics: [value]}", "`value` needs `performance.value`"),
        ("{champion: 2026.10}", "in quotes"),
        ("{shadow: {v4: {}}}", "give a shadow version a `score`, a `prediction`, or both"),
        ("{metrics: []}", "at least one entry"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, compare: str, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "sources: {main: 'sqlite:///logs.db'}\n"
        f"models: {{churn: {{table: p, time: at, key: id, compare: {compare}}}}}\n"
    )
    with pytest.raises(ConfigErrors) as refused:
        load_config(path, env={})
    assert words in str(refused.value)


def test_rows_of_several_versions_need_a_key(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("sources: {main: 'sqlite:///logs.db'}\nmodels: {churn: {table: p, time: at, compare: {}}}\n")
    with pytest.raises(ConfigErrors, match="need a `key`"):
        load_config(path, env={})


def test_without_a_column_of_versions_the_config_is_told_to_name_one(tmp_path: Path) -> None:
    write(tmp_path / "log.db", predictions=columns_apart(requests(days=1)))
    told = config(tmp_path, labels=None, compare={})
    service = Service(told, Store.open(f"sqlite:///{tmp_path / 'store.db'}"))
    with service.source("credit") as source, pytest.raises(Exception, match="model_version"):
        service.roles("credit", source, now=START)


@pytest.mark.parametrize(
    ("compare", "words"),
    [
        ({"champion": "v33"}, "no row of the newest window has the version 'v33' of `compare`; there are v3, v4"),
        ({"champion": "v3", "challengers": ["v5"]}, "no row of the newest window has the version 'v5'"),
        (None, "compare: {champion: NAME}"),
    ],
)
def test_validate_tells_of_versions_that_are_not_there_or_not_told_apart(
    tmp_path: Path, compare: dict[str, Any] | None, words: str
) -> None:
    asked = requests(days=4, per_day=60)
    write(tmp_path / "log.db", predictions=rows_apart(asked), labels=landed(asked))
    path = tmp_path / "config.yaml"
    more = {} if compare is None else {"compare": compare}
    model = MODEL | {"score": "score"} | more
    told = {"sources": {"main": f"sqlite:///{tmp_path / 'log.db'}"}, "models": {"credit": model}}
    path.write_text(json.dumps(told))
    found = CliRunner().invoke(app, ["validate", "-c", str(path), "--json"])
    assert found.exit_code == 0, found.output
    assert words in found.stdout
