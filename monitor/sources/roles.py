"""Which column of a model is for what: the config decides, plain names are guessed, and the rest are features."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from monitor import label_tasks
from monitor.config import LabelConfig, ModelConfig, TimeColumn
from monitor.models import Roles
from monitor.sources.errors import missing
from monitor.sources.shapes import ColumnInfo

_SCORES = (
    "score", "y_score", "y_pred_proba", "y_proba", "pred_proba", "predict_proba", "predicted_probability", "proba",
    "probability", "prediction_score", "model_score", "prediction_proba", "prediction_probability",
)  # fmt: skip
_DECISIONS = ("prediction", "decision", "y_pred", "predicted", "predicted_label", "predicted_class", "prediction_label")
_LABELS = ("label", "y_true", "ground_truth", "actual", "target")
_LABEL_TIMES = ("label_time", "labeled_at", "labelled_at", "label_at", "label_timestamp", "labeled_time")
_VERSIONS = ("model_version", "version")
_KEYS = ("request_id", "prediction_id", "inference_id", "event_id", "row_id", "uuid", "id")
_FEW = 50


def resolve(
    columns: Sequence[ColumnInfo], model: ModelConfig, *, features: Sequence[ColumnInfo] | None, where: str
) -> Roles:
    """Resolve every column's role.

    Parameters
    ----------
    columns
        Columns of the model's own relation.
    features
        Columns of the joined feature table, or the keys found in a JSON column; ``None`` when the features are in the
        relation itself.

    Raises
    ------
    PermanentSourceError
        When a column that the config names does not exist; carries the closest names.
    """
    here = {info.name: info for info in columns}
    named = _configured(model, here, where=where)
    guessed = _guess(model, here, taken=set(_flat(named.values())))
    chosen = {**{k: v for k, v in named.items() if v}, **{k: (v,) for k, v in guessed.items()}}
    left_out: dict[str, str] = {column: role for role, names in chosen.items() for column in names if role != "segment"}
    pool = _feature_pool(columns, features, model, left_out, where=where)
    if by_rows(model) and "version" not in chosen:
        raise missing("column", "model_version", among=here, where=f"{where} (`compare` tells versions apart by it)")
    kinds, rejected = _features(pool, model, taken=left_out if features is None else {})
    left_out = {name: f"is the {role}" for name, role in left_out.items()} | rejected
    one = {role: names[0] for role, names in chosen.items() if names}
    return Roles(
        features=kinds,
        time=model.time.column,
        key=tuple(chosen.get("key", ())),
        score=one.get("score"),
        decision=one.get("decision"),
        label=one.get("label"),
        version=one.get("version"),
        segments=tuple(model.segments),
        left_out=left_out,
        guessed=guessed,
    )


def spelled_out(model: ModelConfig, roles: Roles) -> ModelConfig:
    """The model as if its config named what was guessed: key and label, and of several versions the champion."""
    found = roles.guessed
    update: dict[str, object] = {}
    if model.key is None and "key" in found:
        update["key"] = [found["key"]]
    if model.labels is None and "label" in found:
        landed = found.get("label time")
        update["labels"] = LabelConfig(label=found["label"], time=TimeColumn(column=landed) if landed else None)
    if by_rows(model) and model.compare is not None:
        update["compare"] = model.compare.model_copy(update={"champion": roles.champion or model.compare.champion})
        update["model_version"] = model.model_version or roles.version
    return model.model_copy(update=update) if update else model


def by_rows(model: ModelConfig) -> bool:
    """Whether several versions log a row each for one request, so that the champion's rows must be picked out."""
    return model.compare is not None and not model.compare.shadow


def _flat(groups: Iterable[Sequence[str]]) -> list[str]:
    return [name for group in groups for name in group]


def own_labels(model: ModelConfig) -> bool:
    """Whether labels are in the predictions' own relation."""
    return model.labels is not None and model.labels.table is None and model.labels.query is None


def _configured(model: ModelConfig, here: Mapping[str, ColumnInfo], *, where: str) -> dict[str, list[str]]:
    labels = model.labels
    score, decision = _predicted(model)
    named: dict[str, list[str]] = {
        "time": [model.time.column],
        "key": list(model.key or []),
        "entity": list(model.entity or []),
        "score": [score] if score else [],
        "decision": [decision] if decision else [],
        "version": [model.model_version] if model.model_version else [],
        "label": [labels.label] if labels is not None and own_labels(model) else [],
        "label time": [labels.time.column] if labels is not None and own_labels(model) and labels.time else [],
        "score of a shadow version": _shadow_columns(model, "score"),
        "decision of a shadow version": _shadow_columns(model, "prediction"),
        "probability of a class by a shadow version": _shadow_columns(model, "scores"),
        "JSON of the features": [model.features.from_] if model.features.from_ else [],
        **_of_further_labels(model),
    }
    condition = None if labels is None or labels.only_when is None else labels.only_when.column
    others = [condition] if condition is not None else []
    others += [] if model.features.table or model.features.from_ else list(model.segments)
    for name in _flat(named.values()) + others:
        if name not in here:
            raise missing("column", name, among=here, where=where)
    return named


def _shadow_columns(model: ModelConfig, role: Literal["score", "prediction", "scores"]) -> list[str]:
    shadow = model.compare.shadow.values() if model.compare is not None else ()
    found: list[str] = []
    for each in [part for version in shadow for part in (version, *version.also.values())]:
        told = getattr(each, role)
        found += [] if told is None else [told] if isinstance(told, str) else told.values()
    return list(dict.fromkeys(found))


def _predicted(model: ModelConfig) -> tuple[str | None, str | None]:
    """The columns of the score and of the decision: a predicted number is a score."""
    if model.labels is not None and model.labels.task == "regression" and model.prediction is not None:
        return model.prediction, None
    return model.score.column, model.prediction


def _of_further_labels(model: ModelConfig) -> dict[str, list[str]]:
    """What is neither a feature nor the model's own score, decision or label, but belongs to one of its labels."""
    roles = ("probability of a class", "prediction of a further label", "further label")
    found: dict[str, list[str]] = {role: [] for role in roles}
    for view in label_tasks.views(model):
        labels = view.labels
        if labels is None:
            continue
        found["probability of a class"] += labels.scores.values()
        if labels.name is not None:
            mine = [view.score.column, view.prediction]
            found["prediction of a further label"] += [
                name for name in mine if name and name not in (model.score.column, model.prediction)
            ]
            if own_labels(view):
                found["further label"] += [labels.label, *([labels.time.column] if labels.time else [])]
    return {role: list(dict.fromkeys(names)) for role, names in found.items()}


def _guess(model: ModelConfig, here: Mapping[str, ColumnInfo], *, taken: set[str]) -> dict[str, str]:
    """Guess only what a plain name and the type agree on; a wrong guess would silently drop a feature."""
    guessed: dict[str, str] = {}
    wanted = set(model.features.numeric) | set(model.features.categorical) | set(model.features.include or [])

    def first(role: str, names: Sequence[str], *, kinds: Sequence[str]) -> None:
        for name, info in here.items():
            fits = name.casefold() in names and info.kind in kinds
            if fits and name not in taken and name not in wanted and name not in guessed.values():
                guessed[role] = name
                return

    task = "binary" if model.labels is None else model.labels.task
    if _predicted(model)[0] is None and task != "multiclass":
        first("score", _SCORES, kinds=("numeric",))
    if model.prediction is None and (task != "regression" or ("score" not in guessed and model.score.column is None)):
        first("decision", _DECISIONS, kinds=("bool", "text", "numeric"))
        column = guessed.get("decision")
        info = here[column] if column else None
        number = info is not None and info.kind == "numeric" and (info.n_distinct > 2 or not info.whole)
        if info is not None and task != "multiclass" and (number or task == "regression"):
            del guessed["decision"]
            if model.score.column is None and "score" not in guessed:
                guessed["score"] = info.name
    if not own_labels(model):
        first("label", _LABELS, kinds=("bool", "numeric", "text"))
        first("label time", _LABEL_TIMES, kinds=("time", "date", "text", "numeric"))
    if model.model_version is None:
        first("version", _VERSIONS, kinds=("text", "numeric"))
    if model.key is None:
        alike = [n for n in _KEYS if n in {c.casefold() for c in here} and n not in {t.casefold() for t in taken}]
        first("key", [n for n in alike if _names_each(_by_fold(here, n))][:1], kinds=("text", "numeric", "other"))
    return guessed


def _by_fold(here: Mapping[str, ColumnInfo], name: str) -> ColumnInfo:
    return next(info for column, info in here.items() if column.casefold() == name)


def _names_each(info: ColumnInfo) -> bool:
    return info.unique or (info.n_sampled >= 2 and info.n_distinct == info.n_sampled)


def _feature_pool(
    columns: Sequence[ColumnInfo],
    features: Sequence[ColumnInfo] | None,
    model: ModelConfig,
    left_out: Mapping[str, str],
    *,
    where: str,
) -> list[ColumnInfo]:
    pool = list(columns if features is None else features)
    names = [info.name for info in pool]
    asked = [*model.features.numeric, *model.features.categorical, *(model.features.include or [])]
    for name in asked:
        if not _is_glob(name) and name not in names:
            raise missing("column", name, among=[n for n in names if n not in left_out], where=where)
    if features is None:
        return pool
    keys = set(model.features.key or model.key or []) if model.features.table else set()
    return [
        info for info in pool if info.name not in keys and not (model.features.table and info.name == model.time.column)
    ]


def _is_glob(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _features(
    pool: Sequence[ColumnInfo], model: ModelConfig, *, taken: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    kinds: dict[str, str] = {}
    rejected: dict[str, str] = {}
    config = model.features
    for info in pool:
        if info.name in taken:
            continue
        if _matches(info.name, config.exclude):
            rejected[info.name] = "excluded by the config"
        elif _matches(info.name, config.numeric):
            kinds[info.name] = "numeric"
        elif _matches(info.name, config.categorical):
            kinds[info.name] = "categorical"
        elif config.include is not None and not _matches(info.name, config.include):
            rejected[info.name] = "not in features.include"
        else:
            reason = _unfit(info, named=config.include is not None and info.name in config.include)
            if reason:
                rejected[info.name] = reason
            else:
                kinds[info.name] = "numeric" if info.kind == "numeric" else "categorical"
    return kinds, rejected


def _unfit(info: ColumnInfo, *, named: bool) -> str | None:  # noqa: PLR0911
    if info.kind in ("time", "date"):
        return f"is a {info.kind} ({info.type}); derive a number from it to monitor it"
    if info.kind in ("json", "other"):
        return f"has the type {info.type}, which is neither number nor category"
    if named:
        return None
    folded = info.name.casefold()
    id_like = folded in _KEYS or folded.endswith(("_id", "_uuid"))
    if info.kind == "numeric":
        each = info.whole and info.n_sampled >= _FEW and info.n_distinct == info.n_sampled
        return "looks like an identifier: whole numbers, all different" if id_like and (each or info.unique) else None
    if info.kind == "text" and info.unique:
        return "is unique by constraint: an identifier"
    if info.kind == "text" and info.n_sampled >= _FEW and info.n_distinct > 0.9 * info.n_sampled:
        return "looks like an identifier or free text: nearly all sampled values differ"
    return None


def from_json(rows: Sequence[Mapping[str, object]], *, where: str, column: str) -> list[ColumnInfo]:
    """Describe the keys found in a sample of JSON objects, in order of first appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise missing("column", column, among=[], where=f"{where}: no JSON object found")
    infos = []
    for name in names:
        values = [row[name] for row in rows if row.get(name) is not None]
        numeric = bool(values) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        nested = bool(values) and all(isinstance(v, (list, dict)) for v in values)
        flags = bool(values) and all(isinstance(v, bool) for v in values)
        spelled = {str(v) for v in values}
        kind = "numeric" if numeric else "other" if nested else "bool" if flags else "text"
        info = ColumnInfo(name, "json", "text", n_sampled=len(values), n_distinct=len(spelled))
        infos.append(replace(info, kind=kind, whole=numeric and all(float(v).is_integer() for v in values)))  # type: ignore[arg-type]
    return infos
