"""What a run needs at hand: the config, the store, and the sources, opened once and kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitor.config import Config, ImportanceTable, ModelConfig
from monitor.holding import Held, Holds
from monitor.models import Claim, Roles
from monitor.store import Store

if TYPE_CHECKING:
    from monitor.sources import Source

ROLES_KEPT = timedelta(minutes=5)
"""How long a table's columns are taken to be what they were."""


@dataclass
class _Known:
    roles: Roles
    at: datetime


class Service:
    """Config, store and sources of one process.

    A source is opened at first use and used by one window at a time; how a table's columns resolve is looked up
    again every few minutes, so that a changed table is noticed without a restart.
    """

    def __init__(self, config: Config, store: Store, *, holds: Holds | None = None) -> None:
        self.config = config
        self.store = store
        self.holds = holds or Holds()
        self._sources: dict[str, Source] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._roles: dict[str, _Known] = {}
        self._guard = threading.Lock()

    def model(self, name: str) -> ModelConfig:
        return self.config.models[name]

    def source_name(self, name: str) -> str:
        return self.model(name).source or next(iter(self.config.sources))

    @contextmanager
    def source(self, model: str) -> Iterator[Source]:
        """The source of a model, for one user at a time."""
        name = self.source_name(model)
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._sources:
                # It brings Arrow with it, which commands that only read the store can do without.
                from monitor.sources import open_source  # noqa: PLC0415

                self._sources[name] = open_source(
                    name, self.config.sources[name], zone=self.config.timezone, others=self.config.sources
                )
            yield self._sources[name]

    def roles(self, model: str, source: Source, *, now: datetime) -> Roles:
        """What each column of the model is for, as the database has it now."""
        known = self._roles.get(model)
        if known is None or abs(now - known.at) > ROLES_KEPT:
            # It knows baselines and all that counts them, which commands that only read the store can do without.
            from monitor import champions  # noqa: PLC0415

            found = source.roles(self.model(model))
            found = champions.appointed(model, self.config, found, store=self.store, source=source, now=now)
            known = self._roles[model] = _Known(found, now)
        return known.roles

    def importance(self, model: str, source: Source) -> Mapping[str, float]:
        """Feature importance that ranks what is shown: a mapping in the config, or a table."""
        told = self.model(model).features.importance
        if isinstance(told, ImportanceTable):
            return source.read_importance(told)
        return told or {}

    def holding(self, claim: Claim) -> AbstractContextManager[Held]:
        """Keep a claim while the block works on it, and cut what it reads at its deadline."""
        worker = self.config.worker
        return self.holds.hold(
            self.store,
            claim,
            lease=worker.lease,
            deadline=worker.window_deadline,
            cut=lambda: self.cut(claim.model),
        )

    def cut(self, model: str) -> None:
        """End whatever is being read for a model; it raises there."""
        source = self._sources.get(self.source_name(model))
        if source is not None:
            source.cancel()

    def forget(self, model: str) -> None:
        """Drop what is known of a model and its source, after an error: the next window starts afresh."""
        self._roles.pop(model, None)
        source = self._sources.pop(self.source_name(model), None)
        if source is not None:
            source.close()

    def close(self) -> None:
        for source in self._sources.values():
            source.close()
        self._sources.clear()
