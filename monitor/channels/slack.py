"""Slack, through a bot token (threads, edits, look-ups) or an incoming webhook (posts only).

Neither client retries, follows redirects or logs by itself: retrying is the outbox's business, and both addresses and
headers hold secrets.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient, WebhookResponse

from monitor.channels.channel import ChannelBroken, Delivered, Rejected, RetryLater, check_address, check_resolved
from monitor.channels.slack_blocks import payload, plain_payload
from monitor.config import Destination
from monitor.models import OutboxItem

TIMEOUT = 10
"""Seconds for one exchange with Slack, each of connecting, sending and receiving."""
_LONGEST_ANSWER = 1_000_000
_LOOKED_BACK = 200

_LATER = frozenset(
    {"ratelimited", "rate_limited", "message_limit_exceeded", "service_unavailable", "internal_error", "fatal_error",
     "request_timeout", "rollup_error", "team_added_to_org", "accesslimited", "server_error"}
)  # fmt: skip
_REFUSED = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "invalid_payload", "msg_too_long", "msg_blocks_too_long", "no_text",
     "invalid_metadata_format", "invalid_metadata_schema", "metadata_too_large", "metadata_must_be_sent_from_app",
     "invalid_arguments", "invalid_arg_name", "invalid_array_arg", "invalid_form_data", "invalid_json",
     "json_not_object", "invalid_post_type", "too_many_attachments", "attachment_payload_limit_exceeded",
     "markdown_text_conflict", "invalid_attachments", "slack_connect_file_upload_sharing_blocked"}
)  # fmt: skip
_THREAD_GONE = frozenset({"thread_not_found", "cannot_reply_to_message", "message_not_found"})
_LATER_STATUS = frozenset({407, 408, 425, 429})
_REFUSED_STATUS = frozenset({400, 413, 414, 422})


def _silent() -> logging.Logger:
    """A logger for slack_sdk that says nothing: at several levels it would print addresses, headers and bodies."""
    logger = logging.getLogger("monitor.channels.slack.sdk")
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    logger.handlers = [logging.NullHandler()]
    return logger


def open_slack_bot(name: str, destination: Destination) -> SlackBot:
    """
    Raises
    ------
    ChannelBroken
        Without a token, or with an address that must not be posted to.
    """
    token = destination.token.get_secret_value() if destination.token else os.environ.get("SLACK_BOT_TOKEN", "")
    if not token.strip():
        raise ChannelBroken(f"{name}: no bot token; set SLACK_BOT_TOKEN or `token`")
    if not token.strip().isascii() or any(char.isspace() for char in token.strip()):
        raise ChannelBroken(f"{name}: the bot token holds characters that no token has")
    base = destination.api_url or "https://slack.com/api/"
    check_address(base, allow_insecure=destination.allow_insecure)
    return SlackBot(token.strip(), destination.slack or "", base_url=base, mention=_mentions(destination))


def open_slack_webhook(name: str, destination: Destination) -> SlackWebhook:
    """
    Raises
    ------
    ChannelBroken
        If the address must not be posted to.
    """
    if destination.webhook is None:
        raise ChannelBroken(f"{name} has no `webhook` address")
    url = destination.webhook.get_secret_value().strip()
    check_address(url, allow_insecure=destination.allow_insecure)
    return SlackWebhook(url, mention=_mentions(destination))


def _mentions(destination: Destination) -> dict[str, str]:
    return {str(severity): whom for severity, whom in destination.mention.items()}


# --- webhook ---------------------------------------------------------------------------------------


class SlackWebhook:
    """An incoming webhook: it takes a message and answers ``ok``, and knows no threads."""

    def __init__(self, url: str, *, mention: Mapping[str, str] | None = None, timeout: int = TIMEOUT) -> None:
        self._url = url
        self._mention = dict(mention or {})
        self._client = _Webhook(url, timeout=timeout, logger=_silent(), retry_handlers=[])

    def send(self, item: OutboxItem) -> Delivered:
        check_resolved(self._url)
        body = payload(item.message, mention=self._mention)
        refused = self._post(body)
        if refused is None:
            return Delivered()
        plain = plain_payload(item.message, mention=self._mention) | {"mrkdwn": False}
        refused_again = self._post(plain)
        if refused_again is None:
            return Delivered(note=f"sent as plain text: Slack answered {refused}")
        raise Rejected(f"Slack answered {refused}, and {refused_again} to plain text")

    def _post(self, body: dict[str, Any]) -> str | None:
        """``None`` once it arrived, else the code with which Slack refused this very message."""
        try:
            answer = self._client.send_dict({**body, "unfurl_links": False, "unfurl_media": False})
        except Exception as error:  # noqa: BLE001 - urllib and http.client raise a dozen kinds; all are sorted there
            _sort_out(error)
        text = (answer.body or "").strip()
        if answer.status_code == 200 and text == "ok":
            return None
        return _judge(answer.status_code, _code(text), answer.headers)

    def close(self) -> None:
        """Each post is a connection of its own."""


# --- bot -------------------------------------------------------------------------------------------


class SlackBot:
    """A bot token: posts, threads, edits the first message on resolve, and finds what it has already posted."""

    def __init__(
        self,
        token: str,
        channel: str,
        *,
        base_url: str,
        mention: Mapping[str, str] | None = None,
        timeout: int = TIMEOUT,
    ) -> None:
        base_url = base_url if base_url.endswith("/") else base_url + "/"
        self._base_url = base_url
        self._channel = channel
        self._mention = dict(mention or {})
        self._client = _Bot(token, base_url=base_url, timeout=timeout, logger=_silent(), retry_handlers=[])

    def send(self, item: OutboxItem) -> Delivered:
        """Post the message: into its thread when there is one, and once only where that can be found out.

        A resolution edits the first message of the thread before it is posted as a reply: an edit can be repeated
        without harm.
        """
        check_resolved(self._base_url)
        found, seen_all = (None, False)
        if item.message.possible_repeat or item.attempts > 0:
            found, seen_all = self._already_there(item)
        if seen_all:
            item = replace(item, message=replace(item.message, possible_repeat=False))
        if item.update_ref is not None:
            self._edit(item)
        if found is not None:
            return Delivered(found, note="was there already")
        body = payload(item.message, mention=self._mention) | self._frame(item)
        ref, refused = self._post(body)
        if ref is not None:
            return Delivered(ref)
        plain = plain_payload(item.message, mention=self._mention) | self._frame(item) | {"mrkdwn": False}
        if refused in _THREAD_GONE:
            plain = body
            plain.pop("thread_ts", None)
        ref, refused_again = self._post(plain)
        if ref is not None:
            how = "outside its thread" if refused in _THREAD_GONE else "as plain text"
            return Delivered(ref, note=f"sent {how}: Slack answered {refused}")
        raise Rejected(f"Slack answered {refused}, and {refused_again} to plain text")

    def attach(self, ref: str, png: bytes, *, title: str) -> None:
        """Upload a picture into the thread of a message; the token needs ``files:write`` for it.

        Raises
        ------
        RetryLater, Rejected, ChannelBroken
        """
        channel, ts = _parts(ref)
        asked = {"filename": "drift.png", "length": len(png)}
        place, refused = self._call("files.getUploadURLExternal", asked, form=True)
        if place is None:
            raise Rejected(f"Slack answered {refused} to a picture")
        address = str(place.get("upload_url", ""))
        check_address(address, allow_insecure=self._base_url.startswith("http:"))
        check_resolved(address)
        request = Request(address, data=png, headers={"Content-Type": "image/png"}, method="POST")  # noqa: S310 - checked
        try:
            status, headers, _ = _exchange(request, timeout=TIMEOUT)
        except Exception as error:  # noqa: BLE001 - as above
            _sort_out(error)
        if status != 200:
            raise Rejected(f"Slack answered {_judge(status, '', headers)} to a picture")
        told = {
            "files": [{"id": place.get("file_id"), "title": title}],
            "channel_id": channel,
            "thread_ts": ts,
        }
        done, refused = self._call("files.completeUploadExternal", told)
        if done is None:
            raise Rejected(f"Slack answered {refused} to a picture")

    def _frame(self, item: OutboxItem) -> dict[str, Any]:
        channel, ts = _parts(item.thread_ref)
        frame: dict[str, Any] = {
            "channel": channel or self._channel,
            "unfurl_links": False,
            "unfurl_media": False,
            "metadata": _metadata(item),
        }
        return frame | ({"thread_ts": ts} if ts else {})

    def _post(self, body: dict[str, Any]) -> tuple[str | None, str | None]:
        """``(ref, None)`` once it is posted, ``(None, code)`` when Slack refuses this very message."""
        answer, refused = self._call("chat.postMessage", body)
        return (None, refused) if answer is None else (f"{answer.get('channel')}:{answer.get('ts')}", None)

    def _edit(self, item: OutboxItem) -> None:
        """Edit the first message of the thread; where Slack permits it no more, the reply has to do."""
        channel, ts = _parts(item.update_ref)
        if not channel or not ts:
            return
        try:
            self._call("chat.update", {"channel": channel, "ts": ts, **payload(item.message)})
        except ChannelBroken:
            # Of the message or of the right to edit; if it is the channel, the reply will say so.
            return

    def _already_there(self, item: OutboxItem) -> tuple[str | None, bool]:
        """The ref of this very message if it is in the channel, and whether all that might be it was seen."""
        channel, ts = _parts(item.thread_ref)
        query: dict[str, Any] = {
            "channel": channel or self._channel,
            "include_all_metadata": True,
            "limit": _LOOKED_BACK,
            "oldest": f"{item.created_at.timestamp() - 60:.6f}",
        }
        method = "conversations.replies" if ts else "conversations.history"
        try:
            answer, _ = self._call(method, query | ({"ts": ts} if ts else {}), form=True)
        except ChannelBroken:
            return None, False
        if answer is None:
            return None, False
        for message in answer.get("messages", []):
            about = message.get("metadata", {}).get("event_payload", {})
            if about.get("dedup_key") == item.dedup_key and str(about.get("outbox_id")) == str(item.id):
                return f"{query['channel']}:{message.get('ts')}", True
        return None, not answer.get("has_more", False)

    def _call(
        self, method: str, body: dict[str, Any], *, form: bool = False
    ) -> tuple[dict[str, Any] | None, str | None]:
        try:
            answer = self._client.api_call(method, params=body if form else None, json=None if form else body)
        except _NotSlack as error:
            return None, _judge(error.status, "", error.headers)
        except SlackApiError as error:
            found = error.response
            data = found.data if isinstance(found.data, dict) else {}
            return None, _judge(found.status_code, str(data.get("error", "")), found.headers)
        except Exception as error:  # noqa: BLE001 - as above
            _sort_out(error)
        data = answer.data if isinstance(answer.data, dict) else {}
        return data, None

    def close(self) -> None:
        """Each call is a connection of its own."""


def _metadata(item: OutboxItem) -> dict[str, Any]:
    return {
        "event_type": "ml_monitor_message",
        "event_payload": {"outbox_id": str(item.id), "dedup_key": item.dedup_key},
    }


def _parts(ref: str | None) -> tuple[str | None, str | None]:
    """``channel:ts``, as :class:`Delivered` holds it."""
    channel, _, ts = (ref or "").partition(":")
    return channel or None, ts or None


# --- what an answer means --------------------------------------------------------------------------


def _judge(status: int, code: str, headers: Mapping[str, Any]) -> str:
    """The code when Slack refuses this very message; any other trouble is raised."""
    shown = code or f"HTTP {status}"
    if status in _LATER_STATUS or status >= 500 or code in _LATER:
        raise RetryLater(f"Slack answered {shown}", after=retry_after(headers) if status == 429 else None)
    if 300 <= status < 400:
        raise RetryLater(f"a redirect (HTTP {status}) instead of an answer; it was not followed")
    if code in _REFUSED or code in _THREAD_GONE:
        return code
    if status == 200 and not code:
        raise RetryLater("HTTP 200, but the answer is not Slack's (a proxy or a login page?)", maybe_sent=True)
    if status in _REFUSED_STATUS and not code:
        return shown
    raise ChannelBroken(f"Slack answered {shown}")


def retry_after(headers: Mapping[str, Any]) -> float | None:
    """Seconds of ``Retry-After``; ``None`` when absent or not a number (a date would need a clock to be trusted)."""
    for key, value in headers.items():
        if key.lower() == "retry-after":
            text = str(value[0] if isinstance(value, list) and value else value).strip()
            return float(text) if text.isdecimal() and len(text) <= 12 else None
    return None


def _code(text: str) -> str:
    """A webhook's error code; ``""`` for anything that is not one word (an HTML page, an empty body)."""
    try:
        data = json.loads(text)
        text = str(data.get("error", "")) if isinstance(data, dict) else ""
    except ValueError:
        pass
    return text if 0 < len(text) <= 60 and text.replace("_", "").isalnum() and text != "ok" else ""


def _sort_out(error: Exception) -> NoReturn:
    """Turn what urllib, http.client and slack_sdk raise into ours; their texts may hold the address."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(error, (OSError, http.client.HTTPException, SlackClientError, ValueError, LookupError)):
        # Refused or unresolved: nothing left this host. Anything else may have arrived.
        unsent = isinstance(cause, ConnectionRefusedError) or type(cause).__name__ in (
            "gaierror",
            "SSLCertVerificationError",
        )
        what = "timed out" if isinstance(cause, TimeoutError) else type(cause).__name__
        raise RetryLater(f"Slack could not be reached ({what})", maybe_sent=not unsent) from None
    raise error


# --- clients ---------------------------------------------------------------------------------------


class _NotSlack(Exception):  # noqa: N818 - a turn of events on the way, caught in this file
    """An answer that is not of Slack's kind: its status is all there is to go by."""

    def __init__(self, status: int, headers: Mapping[str, Any]) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.headers = headers


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would carry the token, or the message, to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _exchange(request: Request, *, timeout: float) -> tuple[int, dict[str, str], str]:
    """One request and its whole answer within ``timeout``, however slowly it drips; any status is an answer.

    A proxy named in the environment is used, as by any client of urllib.
    """
    deadline = time.monotonic() + timeout
    try:
        answer = build_opener(_NoRedirects, HTTPSHandler()).open(request, timeout=timeout)
    except HTTPError as error:
        answer = error
    parts: list[bytes] = []
    length = 0
    with answer:
        while chunk := answer.read1(65536):
            parts.append(chunk)
            length += len(chunk)
            if length > _LONGEST_ANSWER or time.monotonic() > deadline:
                raise TimeoutError
        return answer.status, dict(answer.headers.items()), b"".join(parts).decode("utf-8", "replace")


class _Webhook(WebhookClient):
    """slack_sdk follows redirects and reports them as success; this one does not."""

    def _perform_http_request_internal(self, _url: str, req: Request) -> WebhookResponse:
        status, headers, body = _exchange(req, timeout=self.timeout)
        return WebhookResponse(url="", status_code=status, body=body, headers=headers)


class _Bot(WebClient):
    """The same for the Web API. An answer that is not JSON is nobody's error code."""

    def _perform_urllib_http_request_internal(self, _url: str, req: Request) -> dict[str, Any]:
        status, headers, body = _exchange(req, timeout=self.timeout)
        if not body.lstrip().startswith("{"):
            raise _NotSlack(status, headers)
        return {"status": status, "headers": headers, "body": body}
