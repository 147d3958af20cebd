"""What only makes sense together: names that must exist, keys that need each other, limits that must be in order.

Every check looks at a :class:`~monitor.config.Config` and yields what is wrong and where; lines are added by
`monitor/config_file.py`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from monitor.config import (
    AGAINST_BASELINE,
    COMPARE_METRICS,
    EITHER_WAY,
    FALLING_IS_WORSE,
    TASK_METRICS,
    UNBOUNDED,
    WORTH,
    CompareConfig,
    Config,
    Destination,
    DriftLimits,
    ModelConfig,
    NullLimits,
    PerformanceConfig,
    PerformanceLimit,
    QueryBaseline,
    RollingBaseline,
    TableBaseline,
    Task,
)
from monitor.config_types import format_duration, nearest, parse_duration

Where = tuple[str | int, ...]

_HIGHEST = {"psi": 10.0, "ks": 1.0, "jensen_shannon": 1.0, "l_infinity": 1.0}
"""A limit beyond these can never be met, or is a percentage by mistake."""
_CATEGORICAL_ONLY = frozenset({"chi2", "l_infinity"})
_NUMERIC_ONLY = frozenset({"ks", "wasserstein"})
_NAME = re.compile(r"\w([\w .:@+-]{0,98}[\w.+-])?")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; ``where`` are the keys that lead to it.

    ``if_written`` findings do not matter where nobody wrote that value: it is built in, or follows from another.
    """

    where: Where
    message: str
    hint: str = ""
    if_written: bool = False


@dataclass(frozen=True)
class Known:
    """The names that may be referred to."""

    sources: frozenset[str]
    destinations: frozenset[str]


def check(config: Config, *, known: Known, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Everything that is wrong across the keys of a config whose values are right one by one.

    ``known`` may hold more names than the config: those whose own block could not be read.
    """
    yield from _names(config)
    yield from _store_and_sources(config)
    yield from _destinations(config, known, environment)
    for name, model in config.models.items():
        where: Where = ("models", name)
        for part in (_references, _needs_key, _labels, _windows, _drift_limits, _shares, _performance, _compare):
            yield from part(model, known, where)


def unknown(kind: str, name: str, known: Iterable[str]) -> tuple[str, str]:
    """The message and the hint for a name that is not there."""
    guess = nearest(name, known)
    return f"unknown {kind} '{name}'", f"did you mean '{guess}'?" if guess else f"there is {_listed(known)}"


def _listed(names: Iterable[str]) -> str:
    listed = sorted(names)
    return (", ".join(listed[:8]) + (" …" if len(listed) > 8 else "")) or "none"


def _names(config: Config) -> Iterator[Finding]:
    for block, names in (
        (("sources",), config.sources),
        (("models",), config.models),
        (("alerts", "destinations"), config.alerts.destinations),
    ):
        for name in names:
            if not _NAME.fullmatch(name):
                yield Finding(
                    (*block, name),
                    "a name is 1 to 100 letters, digits, spaces and . : @ + - _, and begins with a letter or digit",
                )


def _store_and_sources(config: Config) -> Iterator[Finding]:
    scheme = config.store.get_secret_value().split("://")[0].split("+")[0]
    if scheme not in ("sqlite", "postgresql"):
        hint = "write postgresql://…" if scheme == "postgres" else ""
        yield Finding(("store",), "the store is SQLite (sqlite:///FILE) or PostgreSQL (postgresql+psycopg://…)", hint)
    masters: dict[str, str] = {}
    for name, source in config.sources.items():
        if source.spark is not None and source.spark.master is not None:
            masters.setdefault(source.spark.master, name)
            if len(masters) > 1:
                first = next(iter(masters.values()))
                yield Finding(
                    ("sources", name, "spark", "master"),
                    f"is another Spark than that of source {first!r}: one process has one",
                    "give both the same `master`, or run them with a config of their own",
                )
        if source.url is None:
            continue
        scheme, found, _ = source.url.get_secret_value().partition("://")
        if not found:
            yield Finding(("sources", name, "url"), "expected a database URL such as postgresql://reader@host/database")
        elif scheme == "postgres":
            yield Finding(("sources", name, "url"), "unknown database 'postgres'", "did you mean 'postgresql'?")
        elif scheme in ("s3", "gs", "gcs", "abfs", "abfss", "az", "file", "http", "https"):
            yield Finding(("sources", name, "url"), f"'{scheme}' is no database; `path` takes a local folder of files")


def _destinations(config: Config, known: Known, environment: Mapping[str, str]) -> Iterator[Finding]:
    named = config.alerts.destinations
    for name, destination in named.items():
        where: Where = ("alerts", "destinations", name)
        if destination.slack is not None and destination.token is None and not environment.get("SLACK_BOT_TOKEN"):
            yield Finding(
                (*where, "slack"), "needs a bot token",
                "set the environment variable SLACK_BOT_TOKEN, or give `token: ${VARIABLE}`",
            )  # fmt: skip
        if destination.fallback is not None:
            if destination.fallback not in known.destinations:
                yield Finding((*where, "fallback"), *unknown("destination", destination.fallback, known.destinations))
            elif destination.fallback == name:
                yield Finding((*where, "fallback"), "a destination cannot be its own fallback")
        yield from _addresses(destination, where)


def _addresses(destination: Destination, where: Where) -> Iterator[Finding]:
    webhook = destination.webhook.get_secret_value() if destination.webhook is not None else None
    for key, url in (("webhook", webhook), ("api_url", destination.api_url)):
        if url is None:
            continue
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield Finding((*where, key), "expected an address that begins with https://")
        elif _link_local(parts.hostname):
            yield Finding((*where, key), "points at a link-local address, which serves machine credentials on clouds")
        elif parts.scheme == "http" and not destination.allow_insecure and not _loopback(parts.hostname):
            yield Finding(
                (*where, key), "sends messages over http:// without encryption", "use https, or allow_insecure: true"
            )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _link_local(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_link_local


def _references(model: ModelConfig, known: Known, where: Where) -> Iterator[Finding]:
    if model.source is None:
        yield Finding(where, "`source` is missing", f"there is more than one: {_listed(known.sources)}")
    for path, source in _named_sources(model):
        if source is not None and source not in known.sources:
            yield Finding((*where, *path, "source"), *unknown("source", source, known.sources))
    for index, name in enumerate(model.alerts):
        if name not in known.destinations:
            yield Finding((*where, "alerts", index), *unknown("destination", name, known.destinations))


def _named_sources(model: ModelConfig) -> Iterator[tuple[Where, str | None]]:
    yield (), model.source
    if model.labels is not None:
        yield ("labels",), model.labels.source
        for index, further in enumerate(model.labels.also):
            yield ("labels", "also", index), further.source
    if model.skew is not None:
        yield ("skew", "offline"), model.skew.offline.source
    if isinstance(model.baseline, (TableBaseline, QueryBaseline)):
        yield ("baseline",), model.baseline.source
    importance = model.features.importance
    if importance is not None and not isinstance(importance, dict):
        yield ("features", "importance"), importance.source


def _needs_key(model: ModelConfig, _known: Known, where: Where) -> Iterator[Finding]:
    labels, features, skew = model.labels, model.features, model.skew
    hint = "name the columns of a request in the model's `key`, or here"
    if labels is not None and (labels.table or labels.query) and not (labels.key or model.key):
        yield Finding((*where, "labels"), "labels in a table of their own need a `key`", hint)
    if features.table is not None and not (features.key or model.key):
        yield Finding((*where, "features"), "features in a table of their own need a `key`", hint)
    if skew is not None and not (skew.offline.key or model.key):
        yield Finding((*where, "skew", "offline"), "offline values need a `key`", hint)
    if skew is not None and skew.join == "asof" and skew.offline.time is None:
        yield Finding((*where, "skew", "offline"), "`join: asof` needs `time`, from which an offline row holds")
    if model.prediction is None and model.score.column is None and model.threshold is not None:
        yield Finding((*where, "threshold"), "`threshold` needs a `score` to be compared with")


def _windows(model: ModelConfig, _known: Known, where: Where) -> Iterator[Finding]:
    if not isinstance(model.baseline, RollingBaseline) or " " in model.window:
        return
    if model.baseline.rolling < max(parse_duration(model.window), timedelta(minutes=1)):
        message = f"a rolling baseline of {format_duration(model.baseline.rolling)} is shorter than a window"
        yield Finding((*where, "baseline", "rolling"), f"{message} ({model.window})")


def _drift_limits(model: ModelConfig, _known: Known, where: Where) -> Iterator[Finding]:
    drift = model.drift
    computed = {*drift.numeric, *drift.categorical}
    for kind, metrics, others in (
        ("numeric", drift.numeric, _CATEGORICAL_ONLY),
        ("categorical", drift.categorical, _NUMERIC_ONLY),
    ):
        for index, metric in enumerate(metrics):
            if metric in others:
                yield Finding((*where, "drift", kind, index), f"'{metric}' is not for {kind} features")
    blocks: list[tuple[Where, DriftLimits, DriftLimits, bool]] = [
        (("drift",), drift.warn, drift.alert, True),
        (("score",), model.score.warn, model.score.alert, False),
    ]
    blocks += [
        (("drift", "features", name), dict(own.warn), dict(own.alert), True) for name, own in drift.features.items()
    ]
    for path, warn, alert, of_features in blocks:
        for side, limits in (("warn", warn), ("alert", alert)):
            for metric, limit in limits.items():
                here = (*where, *path, side, metric)
                if of_features and metric not in computed:
                    hint = "add it to drift.numeric or drift.categorical"
                    yield Finding(here, f"'{metric}' is not computed", hint, if_written=True)
                elif limit > _HIGHEST.get(metric, float("inf")):
                    message = f"{limit:g} is beyond reason; {metric} limits are at most {_HIGHEST[metric]:g}"
                    yield Finding(here, message, if_written=True)
        for metric in warn.keys() & alert.keys():
            if warn[metric] > alert[metric]:
                yield Finding((*where, *path, "warn", metric), _disorder(warn[metric], alert[metric]))


def _disorder(warn: float, alert: float) -> str:
    return f"warns at {warn:g}, which is above the alert at {alert:g}: it would never warn"


def _shares(model: ModelConfig, _known: Known, where: Where) -> Iterator[Finding]:
    limits: list[tuple[Where, NullLimits]] = [
        (("drift", "nulls"), model.drift.nulls),
        (("quality", "unseen"), model.quality.unseen),
        (("quality", "out_of_range"), model.quality.out_of_range),
        (("quality", "volume"), model.quality.volume),
        (("score", "decision_rate"), model.score.decision_rate),
    ]
    for path, limit in limits:
        if limit.warn > limit.alert:
            yield Finding((*where, *path, "warn"), _disorder(limit.warn, limit.alert))
    if model.skew is not None and model.skew.warn > model.skew.alert:
        yield Finding((*where, "skew", "warn"), _disorder(model.skew.warn, model.skew.alert))


def _labels(model: ModelConfig, _known: Known, where: Where) -> Iterator[Finding]:
    labels = model.labels
    if labels is None:
        return
    if labels.task == "regression" and model.prediction is not None and model.score.column is not None:
        yield Finding((*where, "prediction"), "the predicted number is `prediction` or `score`, not both")
    seen: set[str] = set()
    for index, further in enumerate(labels.also):
        here: Where = (*where, "labels", "also", index)
        if further.name in seen:
            yield Finding((*here, "name"), f"there are two labels called '{further.name}'")
        seen.add(further.name)
        if (further.table or further.query) and not (further.key or model.key):
            hint = "name the columns of a request in the model's `key`, or here"
            yield Finding(here, "labels in a table of their own need a `key`", hint)
        if further.task == "multiclass" and further.prediction is None and labels.task != "multiclass":
            yield Finding(here, "a multiclass label needs `prediction`, the column with the predicted class")


def _performance(model: ModelConfig, _known: Known, where: Where) -> Iterator[Finding]:
    blocks: list[tuple[Where, Task, PerformanceConfig]] = [
        ((*where, "performance"), "binary" if model.labels is None else model.labels.task, model.performance)
    ]
    for index, further in enumerate(() if model.labels is None else model.labels.also):
        if further.performance is not None:
            here: Where = (*where, "labels", "also", index, "performance")
            blocks.append((here, further.task, further.performance.of_task(further.task)))
    for here, task, performance in blocks:
        yield from _limits(here, task, performance)


_NO_WORTH = "say in performance.value what each outcome of a decision is worth"
_NO_PERCENT = {"bias": ("the label's unit", "write '±2'"), WORTH: ("the unit of performance.value", "write '-0.5'")}


def _limits(where: Where, task: Task, performance: PerformanceConfig) -> Iterator[Finding]:
    for index, metric in enumerate(performance.metrics):
        if metric not in TASK_METRICS[task] and not (metric == WORTH and performance.value and task == "binary"):
            hint = _NO_WORTH if metric == WORTH else f"there is {_listed(TASK_METRICS[task])}"
            yield Finding((*where, "metrics", index), f"'{metric}' is not for {task} labels", hint, if_written=True)
    for side, limits in (("warn", performance.warn), ("alert", performance.alert)):
        for metric, limit in limits.items():
            here = (*where, side, metric)
            if metric not in performance.metrics and not (metric == WORTH and performance.value):
                computable = metric in TASK_METRICS[task]
                hint = "add it to performance.metrics" if computable else f"the labels are {task}"
                hint = _NO_WORTH if metric == WORTH else hint
                yield Finding(here, f"'{metric}' is not computed", hint, if_written=not computable)
                continue
            sign = -1 if metric in FALLING_IS_WORSE else 1
            if metric not in UNBOUNDED and abs(limit.value) > 1:
                yield Finding(here, "expected a limit such as -5% or '< 0.60'")
            elif limit.kind == "change" and limit.value * sign <= 0 and metric not in EITHER_WAY:
                right = f"{sign * (abs(limit.value) or 0.05):+.4g}"
                way = "falling" if sign < 0 else "rising"
                yield Finding(
                    here, f"{metric} gets worse by {way}", f"write '{right}', or '{_bound(sign)} …' for a bound"
                )
            elif limit.kind == "below" and metric in AGAINST_BASELINE:
                yield Finding(
                    here, f"{metric} is a distance from the baseline, which gets worse by rising", "write '> …'"
                )
            elif limit.percent and metric in _NO_PERCENT:
                unit, hint = _NO_PERCENT[metric]
                yield Finding(here, f"{metric} is in {unit}, of which there are no per cent", hint)
            other = performance.alert.get(metric)
            if side == "warn" and other is not None and _stricter(other, limit):
                yield Finding(here, "the warning is further off than the alert: it would never warn")


def _bound(sign: int) -> str:
    return "<" if sign < 0 else ">"


def _stricter(alert: PerformanceLimit, warn: PerformanceLimit) -> bool:
    """Whether the alert fires before the warning does; limits of different kinds cannot be compared."""
    if alert.kind != warn.kind:
        return False
    if alert.kind in ("change", "either"):
        return abs(warn.value) > abs(alert.value)
    return warn.value < alert.value if alert.kind == "below" else warn.value > alert.value


def _compare(model: ModelConfig, _known: Known, where: Where) -> Iterator[Finding]:
    compare = model.compare
    if compare is None:
        return
    here: Where = (*where, "compare")
    if compare.champion is not None:
        for key, names in (("challengers", compare.challengers), ("shadow", list(compare.shadow))):
            if compare.champion in names:
                place = names.index(compare.champion) if key == "challengers" else compare.champion
                yield Finding((*here, key, place), f"'{compare.champion}' is the champion")
    if compare.shadow:
        for at, name in enumerate(compare.challengers):
            if name not in compare.shadow:
                yield Finding((*here, "challengers", at), *unknown("shadow version", name, compare.shadow))
    elif not model.key:
        hint = "name the columns of a request in the model's `key`"
        yield Finding(here, "rows of several versions need a `key` that pairs them", hint)
    named = {*compare.challengers, *compare.shadow, *([compare.champion] if compare.champion else [])}
    if compare.champion is not None and (compare.challengers or compare.shadow):
        for name in compare.thresholds:
            if name not in named:
                yield Finding((*here, "thresholds", name), *unknown("version", name, named))
    yield from _compared_labels(model, compare, here)
    if "value" in compare.metrics and not model.performance.value:
        at = compare.metrics.index("value")
        yield Finding((*here, "metrics", at), "`value` needs `performance.value`: what each outcome is worth")


def _compared_labels(model: ModelConfig, compare: CompareConfig, here: Where) -> Iterator[Finding]:
    labels = model.labels
    known = {} if labels is None else {each.name: each for each in labels.also}
    for version, columns in compare.shadow.items():
        for name in columns.also:
            if name not in known:
                yield Finding((*here, "shadow", version, "also", name), *unknown("label", name, known))
    tasks: set[Task] = {"binary"} if labels is None else {labels.task, *(each.task for each in labels.also)}
    for at, metric in enumerate(compare.metrics):
        if not any(metric in COMPARE_METRICS[task] for task in tasks):
            there = [each for task in sorted(tasks) for each in COMPARE_METRICS[task]]
            hint = f"there is {_listed(there)}"
            words = f"'{metric}' is not for {' or '.join(sorted(tasks))} labels"
            yield Finding((*here, "metrics", at), words, hint, if_written=True)
