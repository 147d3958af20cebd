"""Delivery from an outbox to a real local Slack: nothing is lost, little is repeated, nothing is a storm."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from slack_server import TOKEN, Answer, SlackServer, error, slack_server

from monitor.channels import Broken, Channel, ChannelBroken, Delivered, RetryLater
from monitor.channels.slack import SlackBot, SlackWebhook
from monitor.delivery import LONGEST_PAUSE, DeliveryReport, Lane, Pace, deliver
from monitor.models import Message, OutboxItem, Transition, Verdict, Window
from monitor.store import Store

START = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass
class Clock:
    """Time that passes only when somebody sleeps."""

    now: datetime = START
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


@dataclass
class Row:
    id: int
    destination: str
    key: str
    message: Message
    created_at: datetime
    not_before: datetime
    state: str = "pending"
    attempts: int = 0
    ref: str | None = None
    error: str | None = None


class Memory:
    """The store's outbox in memory, with the same promises."""

    hold = timedelta(minutes=2)

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows: list[Row] = []

    def enqueue(self, messages: list[tuple[str, str, Message]]) -> None:
        for destination, key, message in messages:
            if not any((row.destination, row.key) == (destination, key) for row in self.rows):
                self.rows.append(Row(len(self.rows) + 1, destination, key, message, self.clock(), self.clock()))

    def outbox_due(self, destination: str, *, limit: int = 50) -> list[OutboxItem]:
        due = [row for row in self.rows if row.destination == destination and self._open(row)]
        return [self._item(row) for row in due][:limit]

    def _open(self, row: Row) -> bool:
        return row.state in ("pending", "sending") and row.not_before <= self.clock()

    def _item(self, row: Row) -> OutboxItem:
        message = replace(row.message, possible_repeat=row.state == "sending")
        return OutboxItem(row.id, row.destination, message, row.attempts, row.created_at, row.key)

    def thread_ref(self, destination: str, thread_key: str) -> str | None:
        refs = (row.ref for row in self.rows if row.destination == destination and row.message.thread_key == thread_key)
        return next((ref for ref in refs if ref), None)

    def mark_sending(self, item_id: int) -> bool:
        row = self.rows[item_id - 1]
        if not self._open(row):
            return False
        row.state, row.attempts, row.not_before = "sending", row.attempts + 1, self.clock() + self.hold
        return True

    def mark_sent(self, item_id: int, *, remote_ref: str | None) -> None:
        self.rows[item_id - 1].state, self.rows[item_id - 1].ref = "sent", remote_ref

    def mark_retry(self, item_id: int, *, not_before: datetime, error: str) -> None:
        row = self.rows[item_id - 1]
        row.state, row.not_before, row.error = "pending", not_before, error

    def mark_dead(self, item_id: int, *, error: str) -> None:
        self.rows[item_id - 1].state, self.rows[item_id - 1].error = "dead", error

    def states(self, destination: str = "team") -> str:
        return " ".join(row.state for row in self.rows if row.destination == destination)


def message(number: int = 1, *, transition: Transition = Transition.OPENED, thread: str = "") -> Message:
    resolved = transition is Transition.RESOLVED
    window = Window(START - timedelta(days=1), START)
    return Message(
        f"m: news {number}", "It drifted.", Verdict.OK if resolved else Verdict.ALERT, transition, "m", window,
        thread_key=thread or f"inc_{number}",
    )  # fmt: skip


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with slack_server() as server:
        yield server


class Scene:
    """An outbox, a clock, and a Slack that the test scripts."""

    def __init__(self, slack: SlackServer, *, webhook: bool = False) -> None:
        self.slack = slack
        self.clock = Clock()
        self.store = Memory(self.clock)
        team: Channel = SlackBot(TOKEN, "#ml-alerts", base_url=slack.api_url, timeout=1)
        self.channels: dict[str, Channel] = {"team": SlackWebhook(slack.webhook_url, timeout=1) if webhook else team}
        self.lanes: dict[str, Lane] = {}

    def queue(self, *messages: Message, to: str = "team") -> None:
        self.store.enqueue([(to, f"{m.title}|{m.transition}", m) for m in messages])

    def deliver(self, **options: Any) -> DeliveryReport:
        return deliver(
            self.store, self.channels, clock=self.clock, sleep=self.clock.sleep, rng=random.Random(0),
            lanes=self.lanes, **options,
        )  # fmt: skip

    def until_sent(self, *, most: int = 60) -> None:
        for _ in range(most):
            self.deliver()
            if not {"pending", "sending"} & set(self.store.states().split()):
                return
            self.clock.forward(minutes=20)
        pytest.fail(f"still waiting: {self.store.states()}")


@pytest.fixture
def scene(slack: SlackServer) -> Scene:
    return Scene(slack)


def test_messages_go_out_oldest_first_and_no_faster_than_slack_wants(scene: Scene) -> None:
    scene.queue(message(1), message(2), message(3))
    assert scene.deliver() == DeliveryReport(sent=3)
    assert [m["text"].split("\n")[0] for m in scene.slack.messages] == ["🔴 m: news 1", "🔴 m: news 2", "🔴 m: news 3"]
    assert scene.clock.slept == [1.1, 1.1]


def test_the_distance_between_posts_outlasts_the_call_and_a_clock_set_back(scene: Scene) -> None:
    scene.queue(message(1))
    scene.deliver()
    scene.clock.forward(days=-1)
    scene.queue(message(2))
    scene.deliver()
    assert scene.clock.slept == [1.1]


def test_a_conversation_is_one_thread_whose_first_message_is_edited_at_the_end(scene: Scene) -> None:
    scene.queue(message(1, thread="t"))
    scene.deliver()
    scene.queue(
        message(2, thread="t", transition=Transition.WORSENED), message(3, thread="t", transition=Transition.RESOLVED)
    )
    scene.deliver()
    first, worse, done = scene.slack.messages
    assert first["edited"]
    assert worse["thread_ts"] == done["thread_ts"] == first["ts"]


def test_a_thread_may_begin_in_the_batch_that_continues_it(scene: Scene) -> None:
    scene.queue(message(1, thread="t"), message(2, thread="t", transition=Transition.WORSENED))
    scene.deliver()
    assert scene.slack.messages[1]["thread_ts"] == scene.slack.messages[0]["ts"]


def test_a_partial_resolution_does_not_edit_the_first_message(scene: Scene) -> None:
    scene.queue(message(1, thread="t"))
    scene.deliver()
    scene.queue(replace(message(2, thread="t", transition=Transition.RESOLVED), severity=Verdict.ALERT))
    scene.deliver()
    assert "edited" not in scene.slack.messages[0]


@pytest.mark.parametrize(
    ("retry_after", "low", "high"),
    [("30", 30, 30), ("1000000000", LONGEST_PAUSE, LONGEST_PAUSE), ("0", 1, 1), ("abc", 1, 5), (None, 1, 5)],
)
def test_a_rate_limit_pauses_the_whole_destination(
    scene: Scene, retry_after: str | None, low: float, high: float
) -> None:
    scene.queue(message(1), message(2))
    scene.slack.script.append(Answer(429, "", {} if retry_after is None else {"Retry-After": retry_after}))
    assert scene.deliver().retried == 1
    paused = scene.lanes["team"].paused_until
    assert paused is not None
    assert low <= (paused - scene.clock.now).total_seconds() <= high
    scene.clock.now = paused - timedelta(seconds=0.5)
    scene.deliver()
    assert len(scene.slack.posts()) == 1, "the second message must wait as well"
    scene.clock.forward(seconds=20)
    scene.deliver()
    assert scene.store.states() == "sent sent"


@pytest.mark.parametrize(
    "fault", [Answer(500), Answer(503), Answer(drop=True), Answer(200, "<html>"), error("fatal_error")]
)
def test_a_bad_moment_costs_a_pause_and_no_message(scene: Scene, fault: Answer) -> None:
    scene.queue(message(1), message(2))
    scene.slack.script.extend([fault, fault, fault])
    scene.until_sent()
    assert sorted(m["text"][:14] for m in scene.slack.messages) == ["🔴 m: news 1\nIt", "🔴 m: news 2\nIt"]


def test_pauses_grow_and_are_random_and_never_exceed_a_quarter_of_an_hour(scene: Scene) -> None:
    scene.queue(message(1))
    scene.slack.always = Answer(500)
    pauses = []
    for _ in range(12):
        scene.deliver()
        wait = scene.store.rows[0].not_before - scene.clock.now
        pauses.append(wait.total_seconds())
        scene.clock.now += timedelta(seconds=LONGEST_PAUSE)
    assert max(pauses[:2]) <= 10
    assert max(pauses) > 100
    assert all(1 <= pause <= LONGEST_PAUSE for pause in pauses)
    assert len(set(pauses)) > 8


def test_a_crash_between_post_and_mark_repeats_nothing_with_a_bot(scene: Scene) -> None:
    scene.queue(message(1))
    [item] = scene.store.outbox_due("team")
    scene.store.mark_sending(item.id)
    scene.channels["team"].send(item)  # … and the process dies here
    assert scene.deliver() == DeliveryReport(), "held for the worker that may be alive"
    scene.clock.forward(minutes=3)
    assert scene.deliver().sent == 1
    assert len(scene.slack.messages) == 1


def test_a_crash_between_post_and_mark_is_a_labelled_repeat_with_a_webhook(slack: SlackServer) -> None:
    scene = Scene(slack, webhook=True)
    scene.queue(message(1))
    [item] = scene.store.outbox_due("team")
    scene.store.mark_sending(item.id)
    scene.channels["team"].send(item)
    scene.clock.forward(minutes=3)
    scene.deliver()
    assert ["possibly a repeat" in m["text"] for m in slack.messages] == [False, True]


def test_a_lost_answer_is_a_labelled_repeat_with_a_webhook(slack: SlackServer) -> None:
    scene = Scene(slack, webhook=True)
    scene.queue(message(1))
    slack.script.append(Answer(drop=True, received=True))
    scene.until_sent()
    assert ["possibly a repeat" in m["text"] for m in slack.messages] == [False, True]


def test_a_rate_limited_message_is_no_repeat(slack: SlackServer) -> None:
    scene = Scene(slack, webhook=True)
    scene.queue(message(1))
    slack.script.append(Answer(429))
    scene.until_sent()
    assert ["possibly a repeat" in m["text"] for m in slack.messages] == [False]


def test_a_message_that_is_taken_by_another_worker_is_left_to_it(scene: Scene) -> None:
    scene.queue(message(1), message(2))
    due = scene.store.outbox_due
    taken = due("team")
    scene.store.outbox_due = lambda destination, *, limit=50: taken  # type: ignore[method-assign]
    scene.store.mark_sending(1)
    assert scene.deliver().sent == 1
    assert [m["text"].split("\n")[0] for m in scene.slack.messages] == ["🔴 m: news 2"]


@pytest.mark.parametrize("code", ["invalid_auth", "channel_is_archived", "not_in_channel", "missing_scope"])
def test_a_broken_destination_keeps_its_messages_and_the_fallback_is_told_once(scene: Scene, code: str) -> None:
    scene.channels["mail"] = Recorder()
    scene.queue(message(1), message(2))
    scene.slack.always = error(code)
    for _ in range(5):
        report = scene.deliver(fallbacks={"team": "mail"})
        assert report.broken == {"team": f"Slack answered {code}"}
        scene.clock.forward(minutes=31)
    told = scene.channels["mail"]
    assert isinstance(told, Recorder)
    assert [m.title for m in told.got] == ["alerts to team are not delivered"]
    assert "2 messages wait" in told.got[0].summary
    assert scene.store.states() == "pending pending"
    scene.slack.always = None
    scene.until_sent()
    assert scene.deliver().broken == {}


def test_a_refused_message_dies_alone_and_somebody_is_told(scene: Scene) -> None:
    scene.queue(message(1), message(2))
    scene.slack.fail = lambda call: error("no_text") if "news 1" in call.body.get("text", "").split("\n")[0] else None
    scene.deliver()
    assert scene.store.states() == "dead sent pending"
    scene.slack.fail = None
    scene.deliver()
    assert "refused 1 message for good (Slack answered no_text" in scene.slack.messages[-1]["text"]


def test_news_of_a_dead_message_does_not_breed(scene: Scene) -> None:
    scene.queue(message(1))
    scene.slack.always = error("no_text")
    for _ in range(5):
        scene.deliver()
        scene.clock.forward(hours=1)
    assert scene.store.states() == "dead dead"


def test_what_could_not_be_delivered_for_a_week_is_dead_and_not_silent(scene: Scene) -> None:
    scene.queue(message(1))
    scene.slack.always = Answer(500)
    scene.channels["mail"] = Recorder()
    for _ in range(9):
        scene.deliver(fallbacks={"team": "mail"})
        scene.clock.forward(days=1)
    assert scene.store.states() == "dead"
    assert "not delivered in 7 days" in (scene.store.rows[0].error or "")
    assert scene.store.states("mail") == "sent"


def test_three_days_of_outage_end_in_one_digest(scene: Scene) -> None:
    scene.slack.always = Answer(503)
    for number in range(500):
        scene.queue(message(number))
        if number % 50 == 0:
            scene.deliver()
        scene.clock.forward(minutes=8.64)
    scene.clock.forward(hours=2)
    scene.slack.always = None
    scene.slack.calls.clear()
    report = scene.deliver()
    assert report.sent == 1
    assert report.digested == 500
    assert len(scene.slack.posts()) == 1
    assert "500 messages on 1 model" in scene.slack.messages[0]["text"]
    assert set(scene.store.states().split()) == {"sent"}


def test_a_digest_that_does_not_arrive_keeps_all_its_messages(scene: Scene) -> None:
    scene.queue(*[message(n) for n in range(30)])
    scene.clock.forward(hours=2)
    scene.slack.script.append(Answer(503))
    scene.deliver()
    assert set(scene.store.states().split()) == {"pending"}
    scene.until_sent()
    assert len(scene.slack.messages) == 1


def test_a_digest_is_nobodys_thread(scene: Scene) -> None:
    scene.queue(*[message(n) for n in range(30)])
    scene.clock.forward(hours=2)
    scene.deliver()
    scene.queue(message(3, transition=Transition.RESOLVED))
    scene.deliver()
    assert "edited" not in scene.slack.messages[0]
    assert "thread_ts" not in scene.slack.messages[1]


def test_young_messages_are_sent_one_by_one_however_many(scene: Scene) -> None:
    scene.queue(*[message(n) for n in range(25)])
    assert scene.deliver().sent == 25


def test_delivery_stops_when_asked_and_at_its_budget(scene: Scene) -> None:
    scene.queue(*[message(n) for n in range(6)])
    assert scene.deliver(max_messages=2).sent == 2
    assert scene.deliver(stop=lambda: len(scene.slack.messages) >= 3).sent == 1
    assert scene.deliver(stop=lambda: True).sent == 0


class Recorder:
    """A channel that takes everything."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.got: list[Message] = []
        self.fault = fault

    def send(self, item: OutboxItem) -> Delivered:
        if self.fault is not None:
            raise self.fault
        self.got.append(item.message)
        return Delivered()

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("fault", [ZeroDivisionError("a bug"), ChannelBroken("gone"), RetryLater("later")])
def test_trouble_in_one_destination_does_not_hold_up_another(scene: Scene, fault: Exception) -> None:
    scene.channels = {"odd": Recorder(fault), "here": Recorder()}
    scene.queue(message(1), to="odd")
    scene.queue(message(2), to="here")
    assert scene.deliver().sent == 1
    assert scene.store.states("odd") == "pending"


def test_one_poisonous_message_does_not_hold_up_those_behind_it(scene: Scene) -> None:
    scene.slack.fail = lambda call: Answer(500) if "news 0" in call.body.get("text", "") else None
    scene.queue(*[message(n) for n in range(4)])
    for _ in range(30):
        scene.deliver()
        scene.clock.forward(seconds=6)
    assert scene.store.states() == "pending sent sent sent"


def test_a_destination_that_could_not_be_opened_keeps_its_messages(scene: Scene) -> None:
    scene.channels = {"team": Broken("no bot token")}
    scene.queue(message(1))
    assert scene.deliver().broken == {"team": "no bot token"}
    assert scene.store.states() == "pending"


def test_with_a_quarter_of_all_posts_failing_every_message_arrives_exactly_once(scene: Scene) -> None:
    rng = random.Random(4)
    faults = [Answer(500), Answer(429, "", {"Retry-After": "2"}), Answer(drop=True), Answer(drop=True, received=True)]
    scene.slack.fail = lambda call: (
        rng.choice(faults) if call.path.endswith("postMessage") and rng.random() < 0.25 else None
    )
    for batch in range(4):
        scene.queue(*[message(10 * batch + n) for n in range(10)])
        for _ in range(200):
            scene.deliver(pace=Pace(digest_over=1000))
            scene.clock.forward(seconds=30)
            if "pending" not in scene.store.states():
                break
    titles = [m["text"].split("\n")[0].split("🔴 ")[1] for m in scene.slack.messages]
    assert sorted(titles) == sorted(f"m: news {n}" for n in range(40))


# --- the real store ----------------------------------------------------------------------------------


# --- pictures ------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def test_the_first_message_of_a_conversation_gets_its_picture_in_the_thread(scene: Scene) -> None:
    scene.queue(message(1, thread="t"), message(2, thread="t", transition=Transition.WORSENED))
    assert scene.deliver(picture=lambda _: PNG).sent == 2
    [upload] = scene.slack.uploads
    assert upload["data"] == PNG
    assert upload["thread_ts"] == scene.slack.messages[0]["ts"]


@pytest.mark.parametrize("method", ["files.getUploadURLExternal", "upload", "files.completeUploadExternal"])
@pytest.mark.parametrize(
    "fault", [error("missing_scope"), Answer(500), Answer(200, drop=True), error("invalid_arguments")]
)
def test_a_picture_that_cannot_be_sent_costs_nothing_else(scene: Scene, method: str, fault: Answer) -> None:
    scene.slack.fail = lambda call: fault if method in call.path else None
    scene.queue(message(1), message(2))
    assert scene.deliver(picture=lambda _: PNG).sent == 2
    scene.clock.forward(days=1)
    assert scene.deliver(picture=lambda _: PNG).sent == 0
    assert len(scene.slack.messages) == 2


def test_without_the_right_to_upload_pictures_are_not_tried_again(scene: Scene) -> None:
    scene.slack.fail = lambda call: error("missing_scope") if "files." in call.path else None
    scene.queue(message(1), message(2))
    scene.deliver(picture=lambda _: PNG)
    assert sum("files." in call.path for call in scene.slack.calls) == 1


def test_a_picture_that_cannot_be_drawn_and_a_webhook_that_takes_none(scene: Scene, slack: SlackServer) -> None:
    def broken(_: Message) -> bytes:
        raise ValueError

    scene.queue(message(1))
    assert scene.deliver(picture=broken).sent == 1
    hooked = Scene(slack, webhook=True)
    hooked.queue(message(1))
    assert hooked.deliver(picture=lambda _: PNG).sent == 1
    assert slack.uploads == []


@pytest.fixture
def stored(slack: SlackServer, sqlite_url: str) -> Iterator[Scene]:
    scene = Scene(slack)
    store = Store.open(sqlite_url, clock=scene.clock)
    scene.store = store  # type: ignore[assignment]
    yield scene
    store.close()


def test_the_store_and_delivery_agree_on_a_whole_conversation(stored: Scene) -> None:
    stored.queue(message(1, thread="t"), message(2, thread="t", transition=Transition.WORSENED))
    stored.queue(message(1, thread="t"))
    assert stored.deliver().sent == 2
    stored.queue(message(3, thread="t", transition=Transition.RESOLVED))
    stored.deliver()
    first, worse, done = stored.slack.messages
    assert first["edited"]
    assert worse["thread_ts"] == done["thread_ts"] == first["ts"]


def test_the_store_and_delivery_agree_on_a_crash(stored: Scene) -> None:
    stored.queue(message(1))
    [item] = stored.store.outbox_due("team")
    assert stored.store.mark_sending(item.id)
    assert stored.deliver().sent == 0
    stored.clock.forward(minutes=3)
    stored.channels = {"team": SlackWebhook(stored.slack.webhook_url, timeout=1)}
    assert stored.deliver().sent == 1
    assert "possibly a repeat" in stored.slack.messages[0]["text"]


def test_the_store_and_delivery_agree_on_an_outage_and_its_digest(stored: Scene) -> None:
    stored.queue(*[message(n) for n in range(60)])
    stored.slack.script.append(Answer(503))
    assert stored.deliver().retried == 1
    stored.clock.forward(hours=2)
    assert stored.deliver().digested == 60
    assert stored.store.outbox_counts()["team"]["sent"] == 60  # type: ignore[attr-defined]


def test_the_store_and_delivery_agree_on_a_broken_destination(stored: Scene) -> None:
    stored.channels["mail"] = Recorder()
    stored.queue(message(1))
    stored.slack.always = error("invalid_auth")
    for _ in range(3):
        assert stored.deliver(fallbacks={"team": "mail"}).broken
        stored.clock.forward(minutes=31)
    assert stored.store.outbox_counts()["mail"]["sent"] == 1  # type: ignore[attr-defined]
    assert stored.store.outbox_counts()["team"]["pending"] == 1  # type: ignore[attr-defined]
