"""Channels against a real local server: every fault of the network and of Slack, and what must come of it."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slack_server import TOKEN, Answer, SlackServer, _fault, error, slack_server

from monitor.channels import CHANNELS, Broken, ChannelBroken, Rejected, RetryLater, kind_of, open_channel, open_channels
from monitor.channels.channel import check_address, check_resolved
from monitor.channels.console import ConsoleChannel
from monitor.channels.slack import SlackBot, SlackWebhook
from monitor.channels.slack_blocks import (
    MAX_BLOCKS,
    MAX_TOTAL,
    payload,
    plain_payload,
    safe,
    size,
)
from monitor.channels.text import clean
from monitor.config import Destination
from monitor.models import Finding, Message, OutboxItem, Transition, Verdict, Window
from monitor.redact import HIDDEN, RedactingFilter, Redactor

GOLDEN = Path(__file__).parent / "golden"
DAY = Window(datetime(2026, 11, 19, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC))

DRIFT = Message(
    title="fraud: 4 features drifted",
    summary="4 features drifted since 2026-11-18.",
    severity=Verdict.ALERT,
    transition=Transition.OPENED,
    model="fraud",
    window=DAY,
    findings=[
        Finding("amount", Verdict.ALERT, "PSI 0.38, limit 0.2: median 41 → 63"),
        Finding("country", Verdict.ALERT, "PSI 0.31, limit 0.2: new: 'XX' 12 %"),
        Finding("age", Verdict.WARN, "KS 0.12, limit 0.1: missing 0.2 % → 8 %"),
    ],
    facts={"Likely cause": "pipeline bug (80% sure)", "Since": "2026-11-18", "Chance alone": "p < 0.0001"},
    more=1,
    advice="Compare what the feature job wrote before and after the onset.",
    report_url="https://reports.example.com/fraud/2026-11-19.html?a=1&b=2",
    runbook="https://wiki.example.com/fraud",
    owner="risk-ml",
    incident_ids=["inc_0123456789"],
    thread_key="inc_0123456789",
)
RESOLVED = dataclasses.replace(
    DRIFT,
    title="fraud: resolved – 4 features drifted",
    summary="Resolved after 3 days: 4 features drifted (since 2026-11-18).",
    severity=Verdict.OK,
    transition=Transition.RESOLVED,
    findings=[],
    more=0,
    facts={},
    advice="",
)
EVIL = "<!channel> <@U1> <http://evil.example|click> `rm` *b* & \u202egpj.exe \x00\x1b[31m " + "x" * 5000


def item(message: Message = DRIFT, **changes: Any) -> OutboxItem:
    base = OutboxItem(7, "team", message, attempts=0, created_at=datetime.now(UTC), dedup_key="news-1")
    return dataclasses.replace(base, **changes)


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with slack_server() as server:
        yield server


def bot(slack: SlackServer, **options: Any) -> SlackBot:
    return SlackBot(TOKEN, "#ml-alerts", base_url=slack.api_url, **{"timeout": 1, **options})


def webhook(slack: SlackServer, **options: Any) -> SlackWebhook:
    return SlackWebhook(slack.webhook_url, **{"timeout": 1, **options})


@pytest.fixture(params=["bot", "webhook"])
def channel(request: pytest.FixtureRequest, slack: SlackServer) -> SlackBot | SlackWebhook:
    return bot(slack) if request.param == "bot" else webhook(slack)


# --- a good day ------------------------------------------------------------------------------------


def test_a_message_arrives_with_blocks_and_a_text_fallback(
    slack: SlackServer, channel: SlackBot | SlackWebhook
) -> None:
    channel.send(item())
    [message] = slack.messages
    assert message["blocks"][0]["text"]["text"] == "🔴 fraud: 4 features drifted"
    assert "amount: PSI 0.38" in message["text"]
    assert not message["unfurl_links"]


def test_a_bot_names_the_message_and_later_windows_answer_in_its_thread(slack: SlackServer) -> None:
    first = bot(slack).send(item())
    assert first.remote_ref == f"C0001:{slack.messages[0]['ts']}"
    bot(slack).send(item(id=8, dedup_key="news-2", thread_ref=first.remote_ref))
    assert slack.messages[1]["thread_ts"] == slack.messages[0]["ts"]
    assert slack.messages[1]["channel"] == "C0001"
    assert slack.messages[0]["metadata"]["event_payload"] == {"outbox_id": "7", "dedup_key": "news-1"}


def test_a_resolution_edits_the_first_message_and_answers_in_the_thread(slack: SlackServer) -> None:
    ref = bot(slack).send(item()).remote_ref
    bot(slack).send(item(RESOLVED, id=8, dedup_key="news-2", thread_ref=ref, update_ref=ref))
    first, reply = slack.messages
    assert first["edited"]
    assert first["blocks"][0]["text"]["text"].startswith("✅")
    assert reply["thread_ts"] == first["ts"]


def test_a_first_message_that_is_gone_does_not_keep_the_resolution_back(slack: SlackServer) -> None:
    sent = bot(slack).send(item(RESOLVED, thread_ref="C0001:1.0", update_ref="C0001:1.0"))
    assert sent.note == "sent outside its thread: Slack answered thread_not_found"
    assert len(slack.messages) == 1


def test_an_edit_that_is_rate_limited_is_tried_again_before_anything_is_posted(slack: SlackServer) -> None:
    ref = bot(slack).send(item()).remote_ref
    slack.script.append(Answer(429, "", {"Retry-After": "3"}))
    resolved = item(RESOLVED, id=8, dedup_key="news-2", thread_ref=ref, update_ref=ref)
    with pytest.raises(RetryLater):
        bot(slack).send(resolved)
    assert len(slack.posts()) == 1
    bot(slack).send(dataclasses.replace(resolved, attempts=1))
    assert len(slack.posts()) == 2


def test_a_possible_repeat_that_is_in_the_channel_is_not_posted_again(slack: SlackServer) -> None:
    first = bot(slack).send(item())
    again = bot(slack).send(item(dataclasses.replace(DRIFT, possible_repeat=True), attempts=1))
    assert again.remote_ref == f"#ml-alerts:{slack.messages[0]['ts']}" or again.remote_ref == first.remote_ref
    assert len(slack.messages) == 1


def test_a_possible_repeat_that_cannot_be_looked_up_is_posted_and_says_so(slack: SlackServer) -> None:
    slack.fail = lambda call: error("missing_scope") if "conversations" in call.path else None
    bot(slack).send(item(dataclasses.replace(DRIFT, possible_repeat=True), attempts=1))
    assert "possibly a repeat" in slack.messages[0]["text"]
    assert "possibly a repeat" in slack.messages[0]["blocks"][-1]["elements"][0]["text"]


def test_an_answer_lost_after_receipt_makes_no_second_message_with_a_bot(slack: SlackServer) -> None:
    slack.script.append(Answer(drop=True, received=True))
    with pytest.raises(RetryLater) as caught:
        bot(slack).send(item())
    assert caught.value.maybe_sent
    assert bot(slack).send(item(attempts=1)).note == "was there already"
    assert len(slack.messages) == 1


# --- faults ----------------------------------------------------------------------------------------

LATER = [
    pytest.param(Answer(429, "", {"Retry-After": "30"}), 30.0, False, id="429 with Retry-After 30"),
    pytest.param(Answer(429, ""), None, False, id="429 without Retry-After"),
    pytest.param(Answer(429, "", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), None, False, id="429 with a date"),
    pytest.param(Answer(429, "", {"Retry-After": "abc"}), None, False, id="429 with garbage"),
    pytest.param(Answer(429, "", {"Retry-After": "1000000000"}), 1e9, False, id="429 with 10^9, clamped by the outbox"),
    pytest.param(Answer(500, "oops"), None, False, id="500"),
    pytest.param(Answer(502, "<html>bad gateway"), None, False, id="502 with a page"),
    pytest.param(Answer(503, ""), None, False, id="503"),
    pytest.param(Answer(504, ""), None, False, id="504"),
    pytest.param(Answer(408, ""), None, False, id="408"),
    pytest.param(Answer(407, ""), None, False, id="407: the proxy wants a password"),
    pytest.param(Answer(hang=3), None, True, id="timeout before receipt"),
    pytest.param(Answer(hang=3, received=True), None, True, id="timeout after receipt"),
    pytest.param(Answer(drop=True), None, True, id="connection dropped"),
    pytest.param(Answer(200, "x" * 40, drip=0.2), None, True, id="an answer that drips for ever"),
    pytest.param(Answer(200, "<html>Please log in"), None, True, id="captive portal: 200 with a page"),
    pytest.param(Answer(200, ""), None, True, id="200 with nothing"),
    pytest.param(Answer(302, "", {"Location": "http://127.0.0.1:1/elsewhere"}), None, False, id="302 elsewhere"),
    pytest.param(Answer(307, "", {"Location": "http://127.0.0.1:1/elsewhere"}), None, False, id="307 elsewhere"),
]


@pytest.mark.parametrize(("answer", "after", "maybe_sent"), LATER)
def test_what_may_pass_later_is_tried_later(
    slack: SlackServer, channel: SlackBot | SlackWebhook, answer: Answer, after: float | None, maybe_sent: bool
) -> None:
    slack.always = answer
    with pytest.raises(RetryLater) as caught:
        channel.send(item())
    assert caught.value.after == after
    assert caught.value.maybe_sent is maybe_sent
    assert len(slack.calls) == 1, "the client must not retry or follow by itself"


@pytest.mark.parametrize("code", ["ratelimited", "internal_error", "fatal_error", "service_unavailable"])
def test_codes_of_a_bad_moment_are_tried_later(slack: SlackServer, code: str) -> None:
    slack.always = error(code)
    with pytest.raises(RetryLater, match=code):
        bot(slack).send(item())


BROKEN_BOT = [
    "invalid_auth",
    "account_inactive",
    "token_revoked",
    "token_expired",
    "not_authed",
    "channel_not_found",
    "not_in_channel",
    "is_archived",
    "channel_is_archived",
    "missing_scope",
    "restricted_action",
    "a_code_of_the_future",
]


@pytest.mark.parametrize("code", BROKEN_BOT)
def test_codes_about_the_token_or_channel_break_the_channel(slack: SlackServer, code: str) -> None:
    slack.always = error(code)
    with pytest.raises(ChannelBroken, match=code):
        bot(slack).send(item())


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, "invalid_token"),
        (403, "action_prohibited"),
        (404, "no_service"),
        (404, "channel_not_found"),
        (404, "<html>not found"),
        (410, "channel_is_archived"),
        (401, ""),
        (400, "user_not_found"),
    ],
)
def test_a_webhook_that_was_taken_away_is_broken(slack: SlackServer, status: int, body: str) -> None:
    slack.always = Answer(status, body)
    with pytest.raises(ChannelBroken):
        webhook(slack).send(item())


@pytest.mark.parametrize("code", ["invalid_blocks", "msg_too_long", "msg_blocks_too_long"])
def test_a_refused_payload_is_sent_once_more_as_plain_text(
    slack: SlackServer, channel: SlackBot | SlackWebhook, code: str
) -> None:
    slack.script.append(error(code) if isinstance(channel, SlackBot) else Answer(400, code))
    sent = channel.send(item())
    assert code in sent.note
    assert len(slack.posts()) == 2
    assert "blocks" not in slack.messages[0]
    assert "4 features drifted" in slack.messages[0]["text"]


@pytest.mark.parametrize("code", ["invalid_blocks", "msg_too_long", "no_text"])
def test_a_payload_that_is_refused_as_plain_text_too_is_rejected_and_never_loops(
    slack: SlackServer, channel: SlackBot | SlackWebhook, code: str
) -> None:
    slack.always = error(code) if isinstance(channel, SlackBot) else Answer(400, code)
    with pytest.raises(Rejected, match=code):
        channel.send(item())
    assert len(slack.posts()) == 2


def test_nobody_listening_is_tried_later_and_cannot_have_arrived() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/services/x"
        with pytest.raises(RetryLater) as caught:
            SlackWebhook(url, timeout=1).send(item())
    assert not caught.value.maybe_sent


# --- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/",
        "https://metadata.google.internal/x",
        "https://[fd00:ec2::254]/",
        "https://100.100.100.200/",
        "https://2852039166/",
        "https://[::ffff:169.254.169.254]/",
        "http://hooks.slack.com/services/T/B/x",
        "http://10.0.0.7/hook",
        "ftp://example.com/x",
        "file:///etc/passwd",
        "hooks.slack.com/services",
        "https://",
        "http://[broken",
        "http://localhost.evil.example/x",
    ],
)
def test_an_address_that_must_not_be_posted_to_is_refused(url: str) -> None:
    with pytest.raises(ChannelBroken) as caught:
        check_address(url)
    assert "services" not in caught.value.reason


def test_plain_http_is_for_this_host_unless_allowed_and_metadata_never() -> None:
    check_address("http://127.0.0.1:8080/x")
    check_address("http://gateway.internal/x", allow_insecure=True)
    with pytest.raises(ChannelBroken):
        check_address("http://169.254.169.254/x", allow_insecure=True)


def test_a_name_that_leads_to_the_metadata_service_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(ChannelBroken):
        check_resolved("https://innocent.example/x")


# --- opening ---------------------------------------------------------------------------------------


def test_every_kind_of_destination_has_a_channel(slack: SlackServer) -> None:
    destinations = {
        "slack": Destination(slack="#ml-alerts", token=TOKEN, api_url=slack.api_url),
        "webhook": Destination(webhook=slack.webhook_url),
        "apprise": Destination(apprise="json://127.0.0.1:1/x"),
        "console": Destination(console=True),
    }
    assert {kind_of(destination) for destination in destinations.values()} == set(CHANNELS)
    assert not any(isinstance(channel, Broken) for channel in open_channels(destinations).values())
    open_channel("slack", destinations["slack"]).send(item())
    assert len(slack.messages) == 1


def test_a_destination_that_cannot_be_opened_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLACK_BOT_TOKEN", raising=False)
    opened = open_channels({"team": Destination(slack="#x"), "here": Destination(console=True)})
    with pytest.raises(ChannelBroken, match="SLACK_BOT_TOKEN"):
        opened["team"].send(item())
    assert isinstance(opened["here"], ConsoleChannel)


def test_the_bot_token_comes_from_the_environment(slack: SlackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", TOKEN)
    open_channel("team", Destination(slack="#ml-alerts", api_url=slack.api_url)).send(item())
    assert len(slack.messages) == 1


def test_apprise_posts_to_what_it_is_given_and_waits_when_that_fails(slack: SlackServer) -> None:
    address = slack.url.replace("http://", "json://") + "/services/x"
    with pytest.raises(RetryLater):
        open_channel("mail", Destination(apprise=address)).send(item())
    slack.always = Answer(200, "")
    open_channel("mail", Destination(apprise=address)).send(item())
    assert "4 features drifted" in slack.calls[-1].body["title"]


def test_an_address_apprise_does_not_know_breaks_the_channel() -> None:
    with pytest.raises(ChannelBroken) as caught:
        open_channel("x", Destination(apprise="nosuchkind://secret-canary@x"))
    assert "canary" not in str(caught.value)


def test_the_console_shows_the_message_and_takes_markup_as_text() -> None:
    out = io.StringIO()
    evil = dataclasses.replace(DRIFT, findings=[Finding("[red]name[/red]\x1b[31m", Verdict.ALERT, "PSI [link=x]1")])
    ConsoleChannel(out).send(item(evil))
    shown = out.getvalue()
    assert "[red]name[/red]" in shown
    assert "\x1b" not in shown
    assert "4 features drifted" in shown


# --- secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        None,
        Answer(500, "x"),
        Answer(429, ""),
        Answer(drop=True),
        Answer(404, "no_service"),
        Answer(302, "", {"Location": "http://127.0.0.1:1/"}),
        Answer(400, "invalid_blocks"),
    ],
)
def test_no_secret_is_logged_at_any_level_nor_told_in_any_error(
    slack: SlackServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], answer: Answer | None
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in (
        "slack_sdk",
        "slack_sdk.web",
        "slack_sdk.web.base_client",
        "slack_sdk.webhook",
        "slack_sdk.webhook.client",
    ):
        caplog.set_level(logging.DEBUG, logger=name)
    slack.always = answer
    said = []
    for channel in (bot(slack), webhook(slack)):
        try:
            channel.send(item())
        except (RetryLater, Rejected, ChannelBroken) as problem:
            said.append(f"{problem} {problem!r} {problem.__cause__!r}")
    logged = "\n".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records)
    everything = "\n".join([logged, *said, *capfd.readouterr()]).lower()
    assert "canary" not in everything


@pytest.mark.parametrize(
    "text",
    [
        "token xoxb-canary-123",
        "see https://hooks.slack.com/services/T0/B0/canary",
        "postgresql://me:canary@db/x",
        "https://canary@host/x",
        "?token=canary&x=1",
        "password='canary'",
        "api_key: canary",
        "Authorization: Bearer canarycanary",
        "postgresql://me:p@canary@db/x",
        "https://x/?sig=canary",
        "snowflake secret=canary",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    assert "canary" not in Redactor()(text)
    assert HIDDEN in Redactor()(text)


@pytest.mark.parametrize(
    "text", ["window 2026-11-20 ok", "https://wiki.example.com/fraud", "3 tokens counted", "a@b.example"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert Redactor()(text) == text


def test_configured_secrets_are_hidden_in_logs_and_tracebacks() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(RedactingFilter(Redactor(["s3cr3t-canary", "s3cr3t-canary-longer"])))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("it is %s, %s", "s3cr3t-canary", "s3cr3t-canary-longer")
    try:
        raise ValueError("s3cr3t-canary")  # noqa: TRY301
    except ValueError:
        logger.exception("failed")
    assert "canary" not in out.getvalue()
    assert "longer" not in out.getvalue()
    assert "Traceback" in out.getvalue()


def test_a_structured_event_is_redacted_in_depth() -> None:
    redact = Redactor(["s3cr3t"])
    event = redact.event(
        None, "info", {"event": "x", "deep": [{"url": "a s3cr3t"}], "error": ValueError("s3cr3t"), "n": 3}
    )
    assert "s3cr3t" not in str(event)
    assert event["n"] == 3


# --- rendering -------------------------------------------------------------------------------------

_WORDS = st.text(max_size=300) | st.sampled_from(
    [EVIL, "\ud800", "&<>" * 2000, '"\\' * 3000, "😀" * 4000, "`" * 4000, "\n" * 4000]
)
_LONG = st.builds(lambda word, times: word * times, _WORDS, st.integers(1, 12))
_MESSAGES = st.builds(
    Message,
    title=_LONG,
    summary=_LONG,
    severity=st.sampled_from(Verdict),
    transition=st.sampled_from(Transition),
    model=_WORDS,
    window=st.sampled_from([None, DAY]),
    findings=st.lists(st.builds(Finding, _LONG, st.sampled_from(Verdict), _LONG), max_size=25),
    facts=st.dictionaries(_WORDS, _LONG, max_size=14),
    more=st.integers(0, 10**6),
    advice=_LONG,
    report_url=st.none() | _LONG | st.just("https://r.example/x?a=1&b=<b>"),
    runbook=st.none() | _LONG,
    owner=st.none() | _LONG,
    incident_ids=st.lists(_WORDS, max_size=30),
    possible_repeat=st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(message=_MESSAGES)
def test_no_payload_exceeds_slacks_limits_whatever_the_message(message: Message) -> None:
    body = payload(message, mention={"alert": "@here", "warn": "U012345"})
    assert _fault(body) is None
    assert len(body["blocks"]) <= MAX_BLOCKS
    assert size(body["blocks"]) <= MAX_TOTAL
    assert len(plain_payload(message)["text"]) <= 4000
    json.dumps(body).encode()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(message=_MESSAGES)
def test_nothing_in_a_message_calls_anybody_or_makes_a_link(message: Message) -> None:
    message = dataclasses.replace(message, report_url=None, runbook=None)
    body = payload(message)
    texts = [body["text"]] + [b["text"]["text"] for b in body["blocks"] if b["type"] == "section"]
    texts += [element["text"] for b in body["blocks"] if b["type"] == "context" for element in b["elements"]]
    for text in texts:
        assert "<" not in text
        assert ">" not in text
        assert "\u202e" not in text
        assert "\x00" not in text


def test_hostile_names_reach_slack_inert(slack: SlackServer) -> None:
    evil = dataclasses.replace(
        DRIFT,
        title=EVIL,
        summary=EVIL,
        findings=[Finding(EVIL, Verdict.ALERT, EVIL)],
        owner=EVIL,
        advice=EVIL,
        facts={EVIL: EVIL},
        report_url="javascript:alert(1)",
    )
    webhook(slack).send(item(evil))
    sent = json.dumps(slack.messages[0]["blocks"][1:], ensure_ascii=False) + slack.messages[0]["text"]
    for bad in ("<!channel>", "<@U1>", "<http://evil", "\u202e", "<javascript"):
        assert bad not in sent
    assert "&lt;!channel&gt;" in sent


def test_a_mention_comes_from_the_config_and_only_for_news(slack: SlackServer) -> None:
    loud = payload(DRIFT, mention={"alert": "U012345"})
    assert loud["text"].startswith("<@U012345> ")
    assert loud["blocks"][1]["text"]["text"].startswith("<@U012345> ")
    repeated = dataclasses.replace(DRIFT, transition=Transition.REPEATED)
    assert "<@" not in json.dumps(payload(repeated, mention={"alert": "U012345"}))
    assert "<@" not in json.dumps(payload(RESOLVED, mention={"alert": "U012345", "warn": "U012345"}))


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("@here", "<!here> "),
        ("<!subteam^S01ABC>", "<!subteam^S01ABC> "),
        ("S01ABCD", "<!subteam^S01ABCD> "),
        ("<b>&", "&lt;b&gt;&amp; "),
    ],
)
def test_a_mention_may_be_written_in_the_ways_people_write_it(written: str, sent: str) -> None:
    assert payload(DRIFT, mention={"alert": written})["text"].startswith(sent)


def test_what_does_not_fit_is_cut_with_a_count_and_a_link() -> None:
    many = dataclasses.replace(
        DRIFT, findings=[Finding(f"feature_{i}", Verdict.ALERT, "PSI 1") for i in range(60)], more=40
    )
    text = json.dumps(payload(many)["blocks"])
    assert "\\u2026 and 80 more \\u2013 <https://reports.example.com" in text


def test_a_cut_never_falls_inside_an_entity() -> None:
    for limit in range(2, 12):
        cut = safe("&&&&", limit)
        assert cut.replace("&amp;", "").replace("…", "") == ""
        assert len(cut) <= limit


def test_clean_keeps_what_people_write() -> None:
    assert clean("Zoë 👩\u200d🚀 名前 مرحبا\n") == "Zoë 👩\u200d🚀 名前 مرحبا\n"
    assert clean("a\u202eb\x07c\ud800d\ne", lines=False) == "abc\ufffdd e"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("opened", DRIFT),
        ("resolved", RESOLVED),
        ("possible_repeat", dataclasses.replace(DRIFT, possible_repeat=True, transition=Transition.REPEATED)),
        (
            "hostile",
            dataclasses.replace(DRIFT, findings=[Finding("<!channel>`x`", Verdict.ALERT, "new: '<@U1> & *b*'")]),
        ),
    ],
)
def test_payloads_are_as_a_person_last_approved_them(name: str, message: Message) -> None:
    """Re-record with MONITOR_RECORD_GOLDEN=1 and read the difference."""
    path = GOLDEN / f"slack_{name}.json"
    found = json.dumps(payload(message, mention={"alert": "@here"}), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("MONITOR_RECORD_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")
