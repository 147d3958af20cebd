"""The config: what loads, what is refused and where, and what may never show in a message."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitor.config import Config, RangeBaseline, RollingBaseline, format_duration, parse_duration, spec_hash
from monitor.config_file import ConfigErrors, json_schema, load
from monitor.config_tree import parse, to_data
from monitor.starter import starter

HERE = Path(__file__).parent / "config"
TOP = Path(__file__).parents[1] / "config.yaml"
ENVIRONMENT = {
    "WAREHOUSE_PASSWORD": "canary-password",
    "WEBHOOK": "https://hooks.slack.com/services/T0/B0/canary",
    "PAGER": "pagerduty://canary@key",
    "SLACK_BOT_TOKEN": "xoxb-canary",
}
BAD_ENVIRONMENT = {"EMPTY": "", "SET": "canary-value"}
LEAST = 'sources: {main: "sqlite:///logs.db"}\nmodels:\n  churn:\n    table: t\n    time: ts\n'

_EXPECT = re.compile(r"^# expect: (\d+): (.*)$", re.MULTILINE)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(written(tmp_path, text), env=env or {})
    return str(caught.value).splitlines()


def everything() -> Config:
    return load(HERE / "good" / "everything.yaml", env=ENVIRONMENT)


# --- what is refused ------------------------------------------------------------------------------


def test_there_are_at_least_a_hundred_ways_to_be_wrong() -> None:
    assert len(list((HERE / "bad").glob("*.yaml"))) >= 100


@pytest.mark.parametrize("path", sorted((HERE / "bad").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_bad_file_fails_with_its_why_and_its_line_and_nothing_else(path: Path) -> None:
    expected = [(int(line), words) for line, words in _EXPECT.findall(path.read_text("utf-8", errors="replace"))]
    with pytest.raises(ConfigErrors) as caught:
        load(path, env=BAD_ENVIRONMENT)
    found = caught.value.problems
    assert expected
    assert sorted(line for line, _ in expected) == [problem.line for problem in found], str(caught.value)
    for line, words in expected:
        told = [str(problem) for problem in found if problem.line == line and words in str(problem)]
        assert told, str(caught.value)
        assert told[0].startswith(f"{path}:{line}:")
    assert "can/ary" not in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_problem_names_file_line_column_keys_and_the_nearest_name(tmp_path: Path) -> None:
    told = problems(tmp_path, LEAST.replace("table: t", "tabel: t"))
    assert told == [f"{tmp_path}/config.yaml:4:5: models.churn: unknown key 'tabel'; did you mean 'table'?"]


def test_a_file_of_fifty_megabytes_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with path.open("wb") as stream:
        stream.truncate(50_000_000)
    with pytest.raises(ConfigErrors, match="larger than 1 MB"):
        load(path, env={})


def test_a_truly_empty_file_is_refused(tmp_path: Path) -> None:
    assert "the file is empty" in problems(tmp_path, "")[0]


def test_a_file_that_is_not_there_is_a_problem_like_others(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="cannot be read: no such file"):
        load(tmp_path / "none.yaml", env={})


def test_ten_thousand_brackets_are_refused_without_recursion(tmp_path: Path) -> None:
    assert "nested deeper than 32" in problems(tmp_path, "a: " + "[" * 10_000)[0]


def test_what_the_environment_holds_never_shows_in_a_problem(tmp_path: Path) -> None:
    text = LEAST + "    settle: ${SECRET}\n    confirm: ${SECRET}\n    positive: ['${SECRET}']\n"
    text += "alerts:\n  x: {webhook: '${SECRET}'}\n  y: ${SECRET}\n"
    told = "\n".join(problems(tmp_path, text, {"SECRET": "canary"}))
    assert "canary" not in told
    assert told.count("${SECRET}") >= 2


def test_secrets_show_neither_in_the_config_nor_in_its_dump() -> None:
    config = everything()
    assert "canary" not in repr(config)
    assert "canary" not in config.model_dump_json()


# --- what loads -----------------------------------------------------------------------------------


def test_two_lines_are_a_model() -> None:
    config = load(HERE / "good" / "least.yaml", env={})
    model = config.models["churn"]
    assert (model.source, model.window, model.baseline) == ("main", "1d", RollingBaseline(rolling=timedelta(days=28)))
    assert config.zone.key == "UTC"


def test_the_annotated_default_at_the_top_loads_without_an_environment() -> None:
    config = load(TOP, env={})
    model = config.models["credit_risk"]
    assert isinstance(model.baseline, RangeBaseline)
    assert model.baseline.to == model.start == datetime(2026, 1, 21, tzinfo=UTC)
    assert config.alerts.destinations["terminal"].console


def test_the_commented_examples_of_the_default_are_valid_too(tmp_path: Path) -> None:
    text = TOP.read_text(encoding="utf-8")
    lines = text.split("\n")
    first = next(number for number, line in enumerate(lines) if line.startswith("  # churn:"))
    last = next(number for number, line in enumerate(lines) if line.startswith("# --- who is told"))
    keys = re.compile(r"^  # ?(?=\s*[a-z_]+:|  SELECT|    WHERE|    SELECT)")
    lines[first:last] = [keys.sub("  ", line) for line in lines[first:last]]
    source = next(number for number, line in enumerate(lines) if line.startswith("  # warehouse:"))
    end = next(number for number, line in enumerate(lines) if line.startswith("# --- applied"))
    lines[source:end] = [line.replace("  # ", "  ", 1) for line in lines[source:end]]
    alerts = lines.index("alerts:")
    lines[alerts:] = [re.sub(r"^  # (risk|plain|pager):", r"  \1:", line) for line in lines[alerts:]]
    text = "\n".join(lines).replace("defaults:\n", "defaults:\n  source: main\n")
    env = {
        "WAREHOUSE_PASSWORD": "x",
        "SLACK_WEBHOOK_URL": "https://x/y",
        "PAGER_URL": "json://x",
        "SLACK_BOT_TOKEN": "x",
    }
    config = load(written(tmp_path, text), env=env)
    assert set(config.models) == {"credit_risk", "churn", "fraud", "pricing"}
    assert set(config.sources) == {"main", "warehouse", "lake", "cluster"}
    assert set(config.alerts.destinations) == {"terminal", "risk", "plain", "pager"}


def test_a_model_lays_its_keys_over_the_defaults() -> None:
    fraud, churn = everything().models["fraud"], everything().models["churn"]
    assert fraud.drift.alert == {"psi": 0.25, "ks": 0.20}
    assert fraud.drift.warn == {"psi": 0.05, "ks": 0.10}
    assert fraud.drift.numeric == ["psi", "ks", "wasserstein"]
    assert isinstance(fraud.baseline, RangeBaseline)
    assert isinstance(churn.baseline, RollingBaseline)
    assert churn.score.column == "churn_probability"
    assert churn.score.warn["psi"] == 0.05
    assert fraud.skew is not None
    assert (fraud.skew.sample, fraud.skew.tolerance.rel) == (500, 1e-4)
    assert churn.skew is None
    assert (fraud.performance.min_labels, churn.max_segments) == (200, 5)


def test_another_name_of_calibration_error_is_taken() -> None:
    performance = everything().models["fraud"].performance
    assert "ece" in performance.metrics
    assert performance.warn["ece"].value == 0.02


def test_times_without_a_zone_are_read_in_the_zone_of_the_file() -> None:
    baseline = everything().models["fraud"].baseline
    assert isinstance(baseline, RangeBaseline)
    assert baseline.from_ == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert baseline.to == datetime(2026, 2, 1, 6, tzinfo=UTC)


def test_relative_paths_start_from_the_folder_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = everything()
    folder = HERE / "good"
    assert config.store.get_secret_value() == f"sqlite:///{folder}/results/monitor.db"
    cluster = config.sources["cluster"].spark
    assert cluster is not None
    assert cluster.path == str(folder / "tables")
    main = config.sources["main"].url
    assert main is not None
    assert main.get_secret_value() == f"sqlite:///{folder}/logs.db"
    assert config.sources["lake"].path == folder / "files"
    assert config.reports.dir == folder / "reports"
    assert getattr(config.models["pricing"].baseline, "file", None) == folder / "training.parquet"


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite:////var/x.db", "sqlite:///file:x?mode=ro&uri=true", "postgresql://h/d"],
)
def test_addresses_that_name_no_relative_file_stay_as_they_are(tmp_path: Path, url: str) -> None:
    config = load(written(tmp_path, f'store: "{url}"\n{LEAST}'), env={})
    assert config.store.get_secret_value() == url


def test_destinations_have_short_forms() -> None:
    named = everything().alerts.destinations
    kinds = {
        name: next(kind for kind in ("slack", "webhook", "apprise", "console") if getattr(item, kind))
        for name, item in named.items()
    }
    assert kinds == {
        "default": "slack", "risk": "slack", "plain": "webhook", "fake": "webhook",
        "pager": "apprise", "mail": "apprise", "terminal": "console",
    }  # fmt: skip
    token = named["default"].token
    assert token is not None
    assert token.get_secret_value() == "xoxb-canary"


def test_an_empty_value_turns_an_optional_setting_off() -> None:
    config = everything()
    assert config.worker.metrics is None
    assert config.reports.url is None


def test_features_from_a_table_may_be_written_either_way() -> None:
    features = everything().models["joined"].features
    assert (features.from_, features.table, features.key) == (None, "ml.features", ["request_id"])


@pytest.mark.parametrize(
    ("yaml", "value"),
    [
        ("22:30", "22:30"), ("no", "no"), ("010", 10), ("0o10", 8), ("0x1F", 31), ("1_000", "1_000"), ("1e3", 1000.0),
        ("~", None), ("2026-01-01", "2026-01-01"), ("'5'", "5"), ("yes", "yes"), ("True", True), (".5", 0.5),
    ],
)  # fmt: skip
def test_words_have_the_types_of_yaml_1_2(yaml: str, value: object) -> None:
    data = to_data(parse(f"a: {yaml}")[0])["a"]
    assert (data, type(data)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${N}", 3), ("${M:-4}", 4), ("${EMPTY:-5}", 5),
    ],
)  # fmt: skip
def test_a_variable_gets_its_type_after_it_was_put_in(tmp_path: Path, text: str, value: int) -> None:
    config = load(written(tmp_path, f"{LEAST}    confirm: {text}\n"), env={"N": "3", "EMPTY": ""})
    assert config.models["churn"].confirm == value


def test_a_doubled_dollar_is_a_literal_one(tmp_path: Path) -> None:
    config = load(written(tmp_path, f"{LEAST}    where: \"x = '$${{A}}' and y = '$1'\"\n"), env={})
    assert config.models["churn"].where == "x = '${A}' and y = '$1'"


def test_a_variable_cannot_smuggle_yaml_in(tmp_path: Path) -> None:
    config = load(written(tmp_path, LEAST + "    owner: ${OWNER}\n"), env={"OWNER": "a\n    confirm: 9"})
    assert config.models["churn"].confirm == 2
    assert config.models["churn"].owner == "a\n    confirm: 9"


@pytest.mark.parametrize(
    ("limits", "warn", "alert"),
    [
        pytest.param("alert: {psi: 0.5}", {"psi": 0.1, "ks": 0.1}, {"psi": 0.5, "ks": 0.2}, id="others_stay"),
        pytest.param("alert: {psi: 0.05}", {"psi": 0.05, "ks": 0.1}, {"psi": 0.05, "ks": 0.2}, id="stricter_alert"),
        pytest.param("warn: {psi: 0.4}", {"psi": 0.4, "ks": 0.1}, {"psi": 0.4, "ks": 0.2}, id="laxer_warning"),
        pytest.param("alert: {ks: null}", {"psi": 0.1, "ks": 0.1}, {"psi": 0.2}, id="null_takes_away"),
        pytest.param("numeric: [psi]", {"psi": 0.1}, {"psi": 0.2}, id="not_computed"),
    ],
)
def test_a_limit_changes_itself_only(
    tmp_path: Path, limits: str, warn: dict[str, float], alert: dict[str, float]
) -> None:
    drift = load(written(tmp_path, f"{LEAST}    drift: {{{limits}}}\n"), env={}).models["churn"].drift
    assert (drift.warn, drift.alert) == (warn, alert)


def test_a_feature_may_be_judged_more_strictly_than_the_rest(tmp_path: Path) -> None:
    text = f"{LEAST}    drift: {{features: {{age: {{alert: {{psi: 0.05}}}}}}}}\n"
    drift = load(written(tmp_path, text), env={}).models["churn"].drift
    assert drift.limits("age") == ({"psi": 0.05, "ks": 0.1}, {"psi": 0.05, "ks": 0.2})
    assert drift.limits("income") == ({"psi": 0.1, "ks": 0.1}, {"psi": 0.2, "ks": 0.2})


@pytest.mark.parametrize("text", ["90s", "15m", "6h", "28d"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert format_duration(parse_duration(text)) == text


# --- what makes results comparable ----------------------------------------------------------------


def changed(**keys: Any) -> str:
    model = {"table": "t", "time": "ts", **keys}
    return spec_hash(Config.model_validate({"sources": {"m": "sqlite://"}, "models": {"a": model}}).models["a"])


@pytest.mark.parametrize(
    "keys",
    [{"drift": {"bins": 20}}, {"window": "1h"}, {"baseline": {"rolling": "7d"}}, {"drift": {"alert": {"psi": 1}}}],
)
def test_what_changes_results_changes_the_hash(keys: dict[str, Any]) -> None:
    assert changed(**keys) != changed()


@pytest.mark.parametrize("keys", [{"owner": "me"}, {"confirm": 1}, {"settle": "1h"}, {"drift": {"bins": 10}}])
def test_what_changes_no_result_keeps_the_hash(keys: dict[str, Any]) -> None:
    assert changed(**keys) == changed()


# --- documentation --------------------------------------------------------------------------------


def test_every_key_is_described_in_the_schema() -> None:
    schema = json_schema()
    blocks = {"config": schema, **schema["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, block in blocks.items()
        for part in [block, *block.get("anyOf", [])]
        for key, item in part.get("properties", {}).items()
        if not item.get("description")
    ]
    assert len(blocks) > 25
    assert silent == []


# --- a config to start from -----------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    name: str
    kind: str
    unique: bool = False
    values: tuple[object, ...] = ()


LOG = [
    Column("request_id", "text", unique=True), Column("predicted_at", "text"), Column("model_version", "text"),
    Column("credit_score", "numeric"), Column("default_probability", "numeric"), Column("declined", "bool"),
    Column("label", "numeric"), Column("labelled_at", "time"), Column("age", "numeric"),
]  # fmt: skip


def test_a_starter_guesses_roles_and_says_so(tmp_path: Path) -> None:
    text = starter(LOG, source_url="sqlite:///demo.db", table="predictions")
    model = load(written(tmp_path, text), env={}).models["predictions"]
    assert (model.time.column, model.key, model.model_version) == ("predicted_at", ["request_id"], "model_version")
    assert (model.score.column, model.prediction) == ("default_probability", "declined")
    assert model.labels is not None
    assert (model.labels.label, getattr(model.labels.time, "column", None)) == ("label", "labelled_at")
    assert text.count("# guessed: ") == 7


def test_a_starter_without_a_source_is_valid(tmp_path: Path) -> None:
    text = starter([])
    assert "guessed" not in text
    assert load(written(tmp_path, text), env={}).models["my_model"].table == "predictions"


def test_a_starter_never_writes_a_password_down(tmp_path: Path) -> None:
    text = starter(LOG, source_url="postgresql://me:canary@db/logs", table="ml.predictions")
    assert "canary" not in text
    assert load(written(tmp_path, text), env={"MONITOR_SOURCE": "postgresql://me:canary@db/logs"}).models["predictions"]


@pytest.mark.parametrize("name", ["a: b", "x\n    confirm: 9", "${HOME}", "#x", "true", "7", "'", '"', "ä 😀", "- a"])
def test_hostile_names_survive_a_starter(tmp_path: Path, name: str) -> None:
    columns = [Column("ts", "time"), Column(f"{name}_score", "numeric")]
    model = load(written(tmp_path, starter(columns, source_url="sqlite:///x.db", table=name)), env={})
    only = next(iter(model.models.values()))
    assert (only.table, only.score.column, only.confirm) == (name, f"{name}_score", 2)
