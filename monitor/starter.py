"""Writes a config.yaml to start from: short, commented, and with every guess marked as one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from monitor.config_secrets import literal_secret

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")


class ColumnLike(Protocol):
    """What is known of a column: its name, what it holds (numeric, text, time, …), if it is unique, some values."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def unique(self) -> bool: ...
    @property
    def values(self) -> tuple[Any, ...]: ...


# Names that logs give to each role, the most telling first.
_TIME = ("predicted_at", "prediction_time", "scored_at", "event_time", "timestamp", "created_at", "ts", "time", "date")
_KEY = ("request_id", "prediction_id", "event_id", "transaction_id", "uuid", "id")
_SCORE = ("score", "probability", "proba", "prob", "y_score")
_NOT_SCORE = ("credit_score", "fico_score")  # features, whatever they are called
_LABEL = ("label", "target", "y_true", "ground_truth", "outcome", "actual")
_LABEL_TIME = ("labelled_at", "labeled_at", "label_time", "outcome_at")
_PREDICTION = ("prediction", "decision", "predicted", "y_pred", "approved", "declined")
_VERSION = ("model_version", "version")


def starter(
    columns: Sequence[ColumnLike],
    *,
    source_url: str | None = None,
    table: str | None = None,
    beside: Mapping[str, Sequence[ColumnLike]] | None = None,
) -> str:
    """Compose a commented config.yaml.

    Parameters
    ----------
    columns
        The columns of the table with logged predictions; empty when none was looked at.
    source_url
        Address of the database. A password in it is not written down, but replaced by ``${MONITOR_SOURCE}``.
    table
        Name of that table.
    beside
        Columns of the other tables there; those that look like labels or offline values are suggested, commented out.

    Notes
    -----
    Roles are guessed from names and types; each guess carries ``# guessed``, with the reason.
    """
    roles = guess(columns)
    lines = [
        "# config.yaml: what is watched, against what, and who is told.",
        "# `monitor validate` checks it; `monitor schema` gives editors completion. ${VAR} reads the environment.",
        "version: 1",
        "",
        "store: ${MONITOR_STORE:-sqlite:///monitor.db} # where results live; or postgresql+psycopg://…",
        "timezone: UTC # windows are cut in this zone",
        "",
        "sources:",
        *_source(source_url),
        "",
        "models:",
        *_model(roles, table, suggested(columns, beside or {})),
        "",
        "alerts:",
        "  terminal: console",
        '  # team: {slack: "#ml-monitoring"} # bot token: the variable SLACK_BOT_TOKEN',
        "  # plain: ${SLACK_WEBHOOK_URL} # an incoming webhook",
    ]
    return "\n".join(lines) + "\n"


def _source(url: str | None) -> list[str]:
    if url is None:
        return ["  main: ${MONITOR_SOURCE:-sqlite:///logs.db} # a database URL, or a folder of Parquet files"]
    if literal_secret(url) is not None:
        return ["  main: ${MONITOR_SOURCE} # set this variable to the database URL; it holds a password"]
    return [f"  main: {_quoted(url)}"]


def _model(roles: dict[str, tuple[str, str]], table: str | None, beside: Mapping[str, Sequence[str]]) -> list[str]:
    name = re.sub(r"\W+", "_", (table or "my_model").rsplit(".", maxsplit=1)[-1]).strip("_") or "my_model"
    lines = [f"  {_quoted(name)}:"]
    lines.append(f"    table: {_quoted(table)}" if table else "    table: predictions # one row per prediction")
    unknown = table is not None and "time" not in roles
    when = "no column looks like a time: put its name here" if unknown else "when the prediction was made"
    lines.append(_role(roles, "time", "predicted_at", when, needed=True))
    lines.append(_role(roles, "key", "request_id", "joins labels and offline values, and finds duplicates"))
    lines.append(_role(roles, "model_version", "model_version", "column with the version of the model"))
    lines.append(_role(roles, "score", "score", "the model's output"))
    lines.append(_role(roles, "prediction", "decision", "the decision taken; absent: score >= threshold"))
    lines += [
        "    # threshold: 0.5 # scores from here on are positive decisions",
        "    # positive: 1 # value of decision and label that counts as positive",
        "    # segments: [country] # each value is watched on its own as well",
        "    window: 1d",
        "    baseline: {rolling: 28d} # or {from: 2026-01-01, to: 2026-02-01}, {table: NAME}, {file: train.parquet}",
        *_features(roles),
        *(_labels(roles) if "label" in roles or not beside.get("labels") else []),
        *beside.get("labels", ()),
        *(beside.get("offline") or [_OFFLINE]),
    ]
    return lines


_OFFLINE = "    # skew: {offline: {table: features_offline}} # the same requests' values as training would see them"


def _features(roles: dict[str, tuple[str, str]]) -> list[str]:
    if "json_features" in roles:
        column, why = roles["json_features"]
        return [f"    features: {{from: {_quoted(column)}}} # guessed: {why}"]
    return [
        "    # features: {exclude: [internal_note]} # default: every column without another role",
        "    # features: {table: features, key: request_id} # in another table; or {from: payload}, a JSON column",
    ]


def _labels(roles: dict[str, tuple[str, str]]) -> list[str]:
    if "label" not in roles:
        return ["    # labels: {table: labels, label: label, time: labelled_at, delay: 30d}"]
    label, why = roles["label"]
    lines = ["    labels:", f"      label: {_quoted(label)} # guessed: {why}"]
    if "label_time" in roles:
        column, why = roles["label_time"]
        lines.append(f"      time: {_quoted(column)} # guessed: {why}")
    else:
        lines.append("      # time: labelled_at # when the label became known")
    return [*lines, "      delay: 30d # a window counts as labelled this long after its end"]


def _role(roles: dict[str, tuple[str, str]], role: str, example: str, meaning: str, *, needed: bool = False) -> str:
    if role in roles:
        column, why = roles[role]
        return f"    {role}: {_quoted(column)} # guessed: {why}"
    return f"    {'' if needed else '# '}{role}: {example} # {meaning}"


def _quoted(text: str) -> str:
    """A text as YAML: bare where that is safe, else in double quotes (JSON's are YAML's)."""
    text = text.replace("${", "$${")
    bare = re.fullmatch(r"[A-Za-z_][\w./:+-]*", text) and not text.endswith(":")
    return text if bare and text.lower() not in ("null", "true", "false") else json.dumps(text, ensure_ascii=False)


def suggested(columns: Sequence[ColumnLike], beside: Mapping[str, Sequence[ColumnLike]]) -> dict[str, list[str]]:
    """Commented lines for neighbouring tables that share a key with the predictions: ``labels`` and ``offline``."""
    key = next((column.name for name in _KEY for column in columns if column.name.lower() == name), None)
    lines: dict[str, list[str]] = {"labels": [], "offline": []}
    features = {column.name for column in columns} - {name for name, _ in guess(columns).values()} - {key}
    for table, theirs in beside.items():
        names = {column.name for column in theirs}
        if key is None or key not in names:
            continue
        rest = [column for column in theirs if column.name != key]
        times = [column for column in rest if column.kind in ("time", "date") or _tells_time(column)]
        label = _named([column for column in rest if column not in times], _LABEL) or _flag(rest, times, columns)
        known = _named(times, _LABEL_TIME) or _only(times)
        where = f"table: {_quoted(table)}, key: {_quoted(key)}"
        shared = sorted(features & names)
        if label is not None:
            when = f", time: {_quoted(known[0].name)}" if known is not None else ""
            told = f"{{{where}, label: {_quoted(label[0].name)}{when}, delay: 30d}}"
            lines["labels"].append(f"    # labels: {told} # found: {key} and a label are in it")
        elif shared:
            some = ", ".join(shared[:3]) + (" …" if len(shared) > 3 else "")
            told = f"{{offline: {{{where}}}}}"
            lines["offline"].append(f"    # skew: {told} # found: it has {key} and {some}, too")
    return lines


def _flag(
    rest: Sequence[ColumnLike], times: Sequence[ColumnLike], predictions: Sequence[ColumnLike]
) -> tuple[ColumnLike, str] | None:
    """The only column of yes and no of a table that tells when, and that the predictions do not have."""
    known = {column.name for column in predictions}
    flags = [column for column in rest if column.name not in known and column not in times and _yes_or_no(column)]
    return (flags[0], "yes or no, with a time") if times and len(flags) == 1 else None


def _yes_or_no(column: ColumnLike) -> bool:
    values = {value for value in column.values if value is not None}
    return bool(values) and (column.kind == "bool" or (column.kind == "numeric" and values <= {0, 1}))


def guess(columns: Sequence[ColumnLike]) -> dict[str, tuple[str, str]]:
    """Guess what columns are for: role → (column, why); a column has one role at most."""
    roles: dict[str, tuple[str, str]] = {}

    def assign(role: str, found: tuple[ColumnLike, str] | None) -> None:
        if found is not None:
            roles[role] = (found[0].name, found[1])

    def free() -> list[ColumnLike]:
        taken = {name for name, _ in roles.values()}
        return [column for column in columns if column.name not in taken]

    assign("label_time", _named(columns, _LABEL_TIME))
    times = [column for column in free() if column.kind in ("time", "date") or _tells_time(column)]
    assign("time", _named(times, _TIME) or _only(times) or _named(free(), _TIME))
    assign("model_version", _named(free(), _VERSION, exact=True))
    assign("key", _key(free()))
    assign("label", _named(free(), _LABEL))
    numeric = [column for column in free() if column.kind == "numeric" and column.name.lower() not in _NOT_SCORE]
    assign("score", _named(numeric, _SCORE))
    assign("prediction", _named([column for column in free() if _two_values(column)], _PREDICTION))
    assign("json_features", _json(free()))
    return roles


def _tells_time(column: ColumnLike) -> bool:
    """Whether a column of texts holds days with a time of day, as SQLite keeps them."""
    values = [value for value in column.values if value is not None]
    return bool(values) and all(isinstance(value, str) and _ISO.match(value) for value in values)


def _two_values(column: ColumnLike) -> bool:
    """Whether a column may be a decision: a number with more values than two is none."""
    return column.kind != "numeric" or len(set(column.values)) <= 2


def _json(columns: Iterable[ColumnLike]) -> tuple[ColumnLike, str] | None:
    """The first column whose sampled values are JSON objects."""
    for column in columns:
        values = [value for value in column.values if value is not None]
        if values and all(isinstance(value, dict) or _is_object(value) for value in values):
            return column, "its values are JSON objects"
    return None


def _is_object(value: object) -> bool:
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(value), dict)
    except ValueError:
        return False


def _key(columns: Iterable[ColumnLike]) -> tuple[ColumnLike, str] | None:
    unique = [column for column in columns if column.unique]
    named = _named(unique, _KEY)
    if named is not None:
        return named[0], f"{named[1]}, and no value comes twice"
    ids = [column for column in unique if column.name.lower().endswith(("_id", "id"))]
    return (ids[0], "no value comes twice") if ids else _named(columns, _KEY[:-1], exact=True)


def _only(columns: Sequence[ColumnLike]) -> tuple[ColumnLike, str] | None:
    return (columns[0], "the only column of times") if len(columns) == 1 else None


def _named(
    columns: Iterable[ColumnLike], names: Sequence[str], *, exact: bool = False
) -> tuple[ColumnLike, str] | None:
    """The column whose name says it best: equal to a name first, else with that name as one of its words."""
    listed = list(columns)
    for name in names:
        for column in listed:
            if column.name.lower() == name:
                return column, "by its name"
    for name in () if exact else names:
        for column in listed:
            if re.search(rf"(^|_){re.escape(name)}(_|$)", column.name.lower()):
                return column, f"its name holds '{name}'"
    return None
