"""The whole of `config.yaml`: its blocks, and how `defaults` are laid under each model."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, model_validator

from monitor.config.alerts import AlertsConfig
from monitor.config.baselines import RangeBaseline
from monitor.config.block import Block
from monitor.config.models import Defaults, ModelConfig
from monitor.config.service import ReportsConfig, RetentionConfig, WorkerConfig
from monitor.config.sources import SourceConfig
from monitor.config_types import NonEmpty, Zone, in_zone, rate_of


class Config(Block):
    """The whole file."""

    version: Literal[1] = 1
    """Version of this format."""
    store: SecretStr = SecretStr("sqlite:///monitor.db")
    """Where results live: SQLite (a relative file lies beside the config file) or PostgreSQL."""
    timezone: Zone = "UTC"
    """Windows and schedules are cut in this zone; times without a zone are read in it."""
    sources: Annotated[dict[NonEmpty, SourceConfig], Field(min_length=1)]
    """Where logged data lives, by name."""
    defaults: Defaults = Defaults()
    """Applied to every model unless the model says otherwise."""
    models: Annotated[dict[NonEmpty, ModelConfig], Field(min_length=1)]
    """What is watched, by name."""
    alerts: AlertsConfig = AlertsConfig()
    """Where messages go, and when."""
    reports: ReportsConfig = ReportsConfig()
    """The static HTML pages."""
    retention: RetentionConfig = RetentionConfig()
    """How long things are kept."""
    worker: WorkerConfig = WorkerConfig()
    """The daemon."""

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which windows are cut."""
        return ZoneInfo(self.timezone)

    @model_validator(mode="before")
    @classmethod
    def _merge_defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("defaults"), dict):
            return value
        models = value.get("models")
        if not isinstance(models, dict):
            return value
        merged = {
            name: merge_defaults(value["defaults"], model) if isinstance(model, dict) else model
            for name, model in models.items()
        }
        return {**value, "models": merged}

    @model_validator(mode="after")
    def _settle(self) -> Config:
        """Give naive moments the config's zone, and models without a source the only one there is."""
        only = next(iter(self.sources)) if len(self.sources) == 1 else None
        for model in [self.defaults, *self.models.values()]:
            if isinstance(model.baseline, RangeBaseline):
                model.baseline.from_ = in_zone(model.baseline.from_, self.zone)
                model.baseline.to = in_zone(model.baseline.to, self.zone)
        for model in self.models.values():
            model._false_pages = rate_of(self.alerts.false_pages)
            if model.labels is not None and model.labels.task != "binary":
                model.performance = model.performance.of_task(model.labels.task)
            model.source = model.source or only
            if model.start is not None:
                model.start = in_zone(model.start, self.zone)
        return self


def merge_defaults(defaults: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Lay a model's keys over the defaults, block by block; the model wins.

    A baseline is replaced as a whole (its forms exclude each other), and `skew` is only taken where the model has it.
    """
    short = model.get("score")
    own = {**model, "score": {"column": short}} if isinstance(short, str) else model
    taken = {key: item for key, item in defaults.items() if key != "skew" or isinstance(own.get("skew"), dict)}
    return _merge(taken, own, whole=("baseline",))


def _merge(below: dict[str, Any], above: dict[str, Any], *, whole: tuple[str, ...] = ()) -> dict[str, Any]:
    merged = dict(below)
    for key, item in above.items():
        under = merged.get(key)
        both = isinstance(under, dict) and isinstance(item, dict) and key not in whole
        merged[key] = _merge(under, item) if both and isinstance(under, dict) else item
    return merged
