"""A small world for the daemon: a log with planted drifts, its config, and `monitor` as real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from ruamel.yaml import YAML
from slack_server import TOKEN, SlackServer

from monitor.config import Config
from monitor.config_file import load
from monitor.models import Job, RunState, WindowRow
from monitor.store import Store

STEP = timedelta(hours=3)
STEPS = 24
"""Three days of windows of three hours."""
CALM = 8
AMOUNT_DRIFTS = range(6, 10)
SCORE_DRIFTS = range(15, 18)
HOOK = "/services/T000/B000/canaryCanaryCanary"


def newest_cut() -> datetime:
    """The end of the last whole window."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return now - timedelta(hours=now.hour % 3)


def write_log(url: str, *, steps: int = STEPS, rows: int = 600, table: str = "predictions") -> datetime:
    """Log `steps` windows up to now, with a day of calm before; give the first one's start."""
    rng = np.random.default_rng(11)
    start = newest_cut() - steps * STEP
    records: list[dict[str, Any]] = []
    for step in range(-CALM, steps):
        begin = start + step * STEP
        # the largest of three is larger, and still nothing that was never seen
        draws = rng.gamma(4.0, 10.0, (3, rows))
        amount = draws.max(axis=0) if step in AMOUNT_DRIFTS else draws[0]
        score = rng.beta(2, 5, rows) if step not in SCORE_DRIFTS else rng.beta(6, 3, rows)
        plan = rng.choice(["basic", "plus", "pro"], rows, p=[0.5, 0.3, 0.2])
        at = np.sort(rng.uniform(0, STEP.total_seconds() - 1, rows))
        records += [
            {
                "request_id": f"{step}-{i}",
                "at": begin + timedelta(seconds=float(at[i])),
                "amount": float(amount[i]),
                "plan": str(plan[i]),
                "score": float(score[i]),
            }
            for i in range(rows)
        ]
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    # SQLite keeps times without a zone: written and read as UTC
    kind = sa.DateTime(timezone=engine.dialect.name != "sqlite")
    if engine.dialect.name == "sqlite":
        for record in records:
            record["at"] = record["at"].replace(tzinfo=None)
    spec = sa.Table(
        table,
        sa.MetaData(),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("at", kind),
        sa.Column("amount", sa.Float),
        sa.Column("plan", sa.Text),
        sa.Column("score", sa.Float),
    )
    with engine.begin() as connection:
        spec.create(connection)
        connection.execute(spec.insert(), records)
    return start


def model(start: datetime, *, steps: int = STEPS, **more: Any) -> dict[str, Any]:
    """Windows from `start`; the next one after `steps` of them is due in three hours."""
    past = datetime.now(UTC) - (start + steps * STEP)
    return {
        "table": "predictions",
        "time": "at",
        "key": "request_id",
        "score": {"column": "score", "previous": False},
        "window": "3h",
        "start": start.isoformat(),
        "settle": f"{int(past.total_seconds() // 60)}m",
        "lateness": "1m",
        "min_rows": 50,
        "confirm": 2,
        "recover": 2,
        "baseline": {"from": (start - CALM * STEP).isoformat(), "to": start.isoformat()},
    } | more


@dataclass
class World:
    """A folder with a config, and what runs on it."""

    folder: Path
    store_url: str
    env: dict[str, str] = field(default_factory=dict)
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "config.yaml"

    def write(self, told: dict[str, Any]) -> None:
        """Write the config at once, as an editor would: never half of it."""
        new = self.folder / "config.new"
        with new.open("w") as file:
            writer = YAML(typ="safe")
            writer.representer.ignore_aliases = lambda *_: True
            writer.dump(told, file)
        new.replace(self.path)

    def config(self) -> Config:
        return load(self.path, env={**os.environ, **self.env})

    def start(
        self, *arguments: str, log: str = "worker.log", env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """`monitor worker` as a process of its own; its log is in the folder."""
        with (self.folder / log).open("a") as out:
            process = subprocess.Popen(
                [Path(sys.executable).parent / "monitor", "worker", "-c", str(self.path), *arguments],
                cwd=self.folder,
                env={**os.environ, "MONITOR_LOG_LEVEL": "INFO", **self.env, **(env or {})},
                stdout=subprocess.DEVNULL,
                stderr=out,
                text=True,
            )
        self.running.append(process)
        return process

    def command(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).parent / "monitor", *arguments, "-c", str(self.path)],
            cwd=self.folder,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def log(self, name: str = "worker.log") -> str:
        return (self.folder / name).read_text()

    def store(self) -> Store:
        return Store.open(self.store_url)

    def rows(self, name: str | None = None, job: Job | None = None) -> list[WindowRow]:
        with self.store() as store:
            return store.windows(name, job)

    def states(self, name: str | None = None) -> dict[str, int]:
        found: dict[str, int] = {}
        with contextlib.suppress(Exception):  # while it is being made
            for row in self.rows(name):
                found[row.state.value] = found.get(row.state.value, 0) + 1
        return found

    def done(self, name: str | None = None) -> int:
        states = self.states(name)
        return sum(n for state, n in states.items() if RunState(state).finished)

    def unsent(self) -> int:
        with self.store() as store:
            return sum(
                n for each in store.outbox_counts().values() for s, n in each.items() if s not in ("sent", "dead")
            )

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(10)


@contextmanager
def world(folder: Path, store_url: str, told: dict[str, Any], **env: str) -> Iterator[World]:
    made = World(folder, store_url, env={"STORE_URL": store_url, **env})
    made.write(told)
    try:
        yield made
    finally:
        made.close()


def settings(
    source_url: str, models: dict[str, Any], *, slack: SlackServer | None = None, **more: Any
) -> dict[str, Any]:
    """A whole config with quick clocks; `slack` adds a bot and a webhook."""
    alerts: dict[str, Any] = {"repeat": None, "max_age": "3650d"}
    if slack is not None:
        alerts |= {
            "bot": {"slack": "#ml-alerts", "token": "${BOT_TOKEN}", "api_url": slack.api_url},
            "hook": {"webhook": "${HOOK_URL}"},
        }
    return {
        "store": "${STORE_URL}",
        "sources": {"main": "${SOURCE_URL}"},
        "models": models,
        "alerts": alerts | more.pop("alerts", {}),
        "reports": {"dir": "reports", "evidently": "never"},
        "worker": {"tick": "1s", "lease": "5s", "metrics": None, "grace": "20s"} | more.pop("worker", {}),
    } | more


def secrets_of(source_url: str, slack: SlackServer | None = None) -> dict[str, str]:
    told = {"SOURCE_URL": source_url, "BOT_TOKEN": TOKEN}
    return told | ({"HOOK_URL": slack.webhook_url} if slack is not None else {})


def until(what: Callable[[], Any], *, seconds: float = 120, every: float = 0.1, why: Any = "") -> Any:
    """Wait for something to come true: long, as the machine may be busy with other things."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = what()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {why() if callable(why) else why or what}")


def stop(process: subprocess.Popen[str], *, seconds: float = 30) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(seconds)


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])
