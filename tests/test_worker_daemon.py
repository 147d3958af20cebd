"""`monitor worker` as a real process on PostgreSQL, with a local Slack: three days, told as promised."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from databases import fresh_database
from service_world import (
    AMOUNT_DRIFTS,
    SCORE_DRIFTS,
    STEP,
    STEPS,
    model,
    secrets_of,
    settings,
    stop,
    until,
    world,
    write_log,
)
from slack_server import slack_server

from monitor.models import RunState


@dataclass
class Ended:
    """What three days left behind."""

    results: list[Any]
    states: dict[str, int]
    problems: list[str]
    bot: list[dict[str, Any]]
    hook: list[dict[str, Any]]
    pictures: list[dict[str, Any]]
    incidents: list[Any]
    pages: int


@pytest.fixture(scope="module")
def source(postgres_server_url: str) -> Iterator[str]:
    with fresh_database(postgres_server_url) as url:
        yield url


@pytest.fixture(scope="module")
def start(source: str) -> Any:
    return write_log(source)


def live_through(
    folder: Path, server_url: str, source: str, start: Any, *, kill_at: tuple[int, ...] = (), workers: int = 1
) -> Ended:
    """Run the daemon until all is done and told; kill it hard whenever so many windows are done."""
    with (
        fresh_database(server_url) as store_url,
        slack_server() as slack,
        world(
            folder, store_url, settings(source, {"credit": model(start)}, slack=slack), **secrets_of(source, slack)
        ) as made,
    ):
        processes = [made.start() for _ in range(workers)]
        for count in kill_at:
            until(lambda count=count: made.done() >= count, every=0.02, why=f"{count} windows\n{made.log()}")
            processes[0].kill()
            processes[0].wait()
            processes[0] = made.start()
        until(lambda: made.done() >= STEPS and not made.unsent(), seconds=90, why=made.log)
        until(lambda: list((folder / "reports").rglob("*.html")), why=made.log)
        for process in processes:
            assert stop(process) == 0, made.log()
        with made.store() as store:
            return Ended(
                results=[_plain(result) for result in store.results("credit", all_revisions=True)],
                states=made.states(),
                problems=store.check(),
                bot=[m for m in slack.messages if m["channel"] != "C-webhook"],
                hook=[m for m in slack.messages if m["channel"] == "C-webhook"],
                pictures=slack.uploads,
                incidents=store.incidents("credit"),
                pages=len(list((folder / "reports").rglob("*.html"))),
            )


def _plain(result: Any) -> tuple[Any, ...]:
    return (result.check, result.metric, result.feature, result.window, result.value, result.verdict, result.p_value)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, postgres_server_url: str, source: str, start: Any) -> Ended:
    return live_through(tmp_path_factory.mktemp("calm"), postgres_server_url, source, start)


def titles(messages: list[dict[str, Any]]) -> list[str]:
    return [re.sub(r"^\S+ ", "", str(m["text"]).splitlines()[0]) for m in messages]


def test_three_days_end_in_exactly_the_messages_that_they_call_for(calm: Ended) -> None:
    assert calm.states == {"ok": STEPS}
    assert calm.problems == []
    wanted = [
        "credit: amount drifted",
        "credit: resolved – amount drifted",
        "credit: the score drifted",
        "credit: resolved – the score drifted",
    ]
    assert titles(calm.hook) == wanted
    assert [line for line in titles(calm.bot) if line not in wanted] == []


def test_with_a_bot_token_what_follows_is_in_the_thread_and_the_first_message_says_that_it_is_over(calm: Ended) -> None:
    first, end_of_first, second, end_of_second = calm.bot
    assert "thread_ts" not in first
    assert "thread_ts" not in second
    assert end_of_first["thread_ts"] == first["ts"]
    assert end_of_second["thread_ts"] == second["ts"]
    assert [picture["thread_ts"] for picture in calm.pictures] == [first["ts"], second["ts"]]
    assert all(picture["data"].startswith(b"\x89PNG") for picture in calm.pictures)
    assert first["edited"]
    assert second["edited"]


def test_incidents_begin_and_end_with_the_planted_windows(calm: Ended, start: Any) -> None:
    found = sorted(calm.incidents, key=lambda incident: incident.opened_window)
    assert [(i.features, i.state.value) for i in found] == [(["amount"], "resolved"), ([], "resolved")]
    for incident, planted in zip(found, (AMOUNT_DRIFTS, SCORE_DRIFTS), strict=True):
        # opened at once or by the second bad window; over with the second good one
        assert (incident.opened_window - start) / STEP in (planted.start, planted.start + 1)
        assert (incident.resolved_window - start) / STEP == planted.stop + 1
    assert calm.pages > STEPS


def test_killed_hard_again_and_again_it_ends_with_the_same_results_and_messages(
    tmp_path: Path, postgres_server_url: str, source: str, start: Any, calm: Ended
) -> None:
    ended = live_through(tmp_path, postgres_server_url, source, start, kill_at=(2, 13))
    assert ended.problems == []
    assert ended.states == {"ok": STEPS}
    assert ended.results == calm.results
    # the bot finds what it has posted by its metadata; the webhook can only say that it may be a repeat
    assert Counter(titles(ended.bot)) == Counter(titles(calm.bot))
    told = [line for line in titles(ended.hook) if "possibly a repeat" not in line]
    repeats = len(ended.hook) - len(told)
    assert set(told) <= set(titles(calm.hook))
    assert len(told) == len(set(told))
    assert repeats <= 3


@pytest.mark.slow
def test_two_workers_at_once_share_the_work_and_tell_nothing_twice(
    tmp_path: Path, postgres_server_url: str, source: str, start: Any, calm: Ended
) -> None:
    ended = live_through(tmp_path, postgres_server_url, source, start, workers=2)
    assert ended.problems == []
    assert ended.results == calm.results
    assert Counter(titles(ended.bot)) == Counter(titles(calm.bot))
    assert Counter(titles(ended.hook)) == Counter(titles(calm.hook))
    assert all(state is not RunState.ERROR for state in ended.states)
