"""Which version of a model decides: named in the config, frozen with the baseline, or seen in its rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from monitor import baselines
from monitor.config import Config, ModelConfig
from monitor.models import Roles, Window
from monitor.sources import Source, by_rows, seen_versions
from monitor.store import Store

LOOKED_BACK = timedelta(days=28)
"""Rows that show who decides, where the baseline is no stretch of the log."""


def appointed(name: str, config: Config, roles: Roles, *, store: Store, source: Source, now: datetime) -> Roles:
    """The roles with the champion, where versions log a row each; otherwise every row is the champion's.

    A champion that the config does not name is the version that took most decisions in the baseline's rows (the
    earliest of equals), and stays so as long as the baseline does.
    """
    model = config.models[name]
    if not by_rows(model) or model.compare is None:
        return roles
    champion = model.compare.champion
    if champion is None:
        kept = store.baseline(name)
        told = None if kept is None else kept.detail.get("roles", {}).get("champion")
        champion = told or busiest(source, model, roles, now=now)
    return replace(roles, champion=champion)


def busiest(source: Source, model: ModelConfig, roles: Roles, *, now: datetime) -> str | None:
    """The version with most decisions in the baseline's stretch of the log; ``None`` where no row has a version."""
    span = baselines.reference_span(model, Window(now, now + timedelta(seconds=1)))
    found = seen_versions(source, model, roles, span or Window(now - LOOKED_BACK, now), now=now)
    return min(found, key=lambda version: (-found[version].n_decided, found[version].first, version), default=None)
