"""A local server that answers as Slack does, and misbehaves when told to; it listens on this host only."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "xoxb-canary-0123456789-abcdefghij"
WEBHOOK_PATH = "/services/T000/B000/canaryCanaryCanary"


@dataclass(frozen=True)
class Answer:
    """What to do with one request instead of behaving.

    ``received`` says whether the request takes effect all the same (a lost answer). ``hang`` seconds pass before the
    answer; ``drop`` closes the connection without one; ``drip`` sends the body a byte at a time, so many seconds apart.
    """

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0
    drop: bool = False
    drip: float = 0.0
    received: bool = False


def error(code: str, status: int = 200) -> Answer:
    """``{"ok": false}`` as the Web API says it."""
    return Answer(status, json.dumps({"ok": False, "error": code}), {"Content-Type": "application/json"})


@dataclass
class Call:
    """One request, as it came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes = b""


class SlackServer:
    """Channels, messages, metadata, edits and webhooks, held in memory."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.messages: list[dict[str, Any]] = []
        self.uploads: list[dict[str, Any]] = []
        """Pictures: what was asked, the bytes that came, and where they were put."""
        self.script: deque[Answer] = deque()
        self.always: Answer | None = None
        self.fail: Any = None
        """Called with each :class:`Call`; an :class:`Answer` takes the place of the normal one."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.api_url = f"{self.url}/api/"
        self.webhook_url = f"{self.url}{WEBHOOK_PATH}"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def posts(self) -> list[Call]:
        return [call for call in self.calls if call.path in ("/api/chat.postMessage", WEBHOOK_PATH)]

    # --- behaving ----------------------------------------------------------------------------------

    def _take(self, call: Call) -> Answer | None:
        with self._lock:
            self.calls.append(call)
            if self.fail is not None:
                chosen = self.fail(call)
                if chosen is not None:
                    return chosen  # type: ignore[no-any-return]
            return self.script.popleft() if self.script else self.always

    def _normal(self, call: Call) -> Answer:
        with self._lock:
            if call.path == WEBHOOK_PATH:
                return self._webhook(call.body)
            if call.path.startswith("/upload/"):
                self.uploads[int(call.path.rpartition("/")[2]) - 1]["data"] = call.raw
                return Answer(200, "OK - 1234")
            if call.path.startswith("/services/"):
                return Answer(404, "no_service")
            if call.headers.get("authorization") != f"Bearer {TOKEN}":
                return error("invalid_auth")
            method = call.path.removeprefix("/api/")
            name = "_" + method.replace(".", "_").lower()
            return getattr(self, name, lambda _: error("unknown_method"))(call.body)

    def _webhook(self, body: dict[str, Any]) -> Answer:
        fault = _fault(body)
        if fault:
            return Answer(400, fault)
        self._keep("C-webhook", body)
        return Answer(200, "ok", {"Content-Type": "text/html"})

    def _keep(self, channel: str, body: dict[str, Any]) -> dict[str, Any]:
        message = {**body, "channel": channel, "ts": f"{time.time():.0f}.{len(self.messages):06d}"}
        self.messages.append(message)
        return message

    def _chat_postmessage(self, body: dict[str, Any]) -> Answer:
        fault = _fault(body)
        if fault:
            return error(fault)
        known = {message["ts"] for message in self.messages}
        if "thread_ts" in body and body["thread_ts"] not in known:
            return error("thread_not_found")
        message = self._keep("C0001" if body["channel"] == "#ml-alerts" else body["channel"], body)
        return _ok(channel=message["channel"], ts=message["ts"])

    def _chat_update(self, body: dict[str, Any]) -> Answer:
        for message in self.messages:
            if (message["channel"], message["ts"]) == (body["channel"], body["ts"]):
                fault = _fault(body)
                if fault:
                    return error(fault)
                message |= {"text": body["text"], "blocks": body.get("blocks"), "edited": True}
                return _ok(channel=body["channel"], ts=body["ts"])
        return error("message_not_found")

    def _conversations_history(self, body: dict[str, Any]) -> Answer:
        return _ok(messages=[m for m in self.messages if "thread_ts" not in m])

    def _conversations_replies(self, body: dict[str, Any]) -> Answer:
        return _ok(messages=[m for m in self.messages if body["ts"] in (m.get("thread_ts"), m["ts"])])

    def _files_getuploadurlexternal(self, body: dict[str, Any]) -> Answer:
        if not int(body["length"]) or not body["filename"]:
            return error("invalid_arguments")
        self.uploads.append(body)
        number = len(self.uploads)
        return _ok(upload_url=f"{self.url}/upload/{number}", file_id=f"F{number}")

    def _files_completeuploadexternal(self, body: dict[str, Any]) -> Answer:
        [file] = body["files"]
        upload = self.uploads[int(file["id"].removeprefix("F")) - 1]
        if len(upload.get("data", b"")) != int(upload["length"]):
            return error("file_upload_size_mismatch")
        known = {(message["channel"], message["ts"]) for message in self.messages}
        if (body["channel_id"], body["thread_ts"]) not in known:
            return error("invalid_channel")
        upload |= body
        return _ok(files=[{"id": file["id"]}])

    # --- HTTP --------------------------------------------------------------------------------------

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                call = self._read()
                told = slack._take(call)
                if told is None:
                    self._answer(slack._normal(call))
                    return
                if told.received:
                    normal = slack._normal(call)
                    told = (
                        told if told.body else Answer(normal.status, normal.body, normal.headers, told.hang, told.drop)
                    )
                slack._stopped.wait(told.hang)
                if told.drop:
                    self.connection.close()
                else:
                    self._answer(told)

            do_GET = do_POST  # noqa: N815

            def _read(self) -> Call:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                raw = data.decode("utf-8", "replace")
                parts = urlsplit(self.path)
                if parts.path.startswith("/upload/"):
                    body = {}
                elif "json" in self.headers.get("Content-Type", ""):
                    body = json.loads(raw or "{}")
                else:
                    body = {key: value[0] for key, value in parse_qs(raw + "&" + parts.query).items()}
                return Call(parts.path, {k.lower(): v for k, v in self.headers.items()}, body, data)

            def _answer(self, answer: Answer) -> None:
                data = answer.body.encode()
                try:
                    self.send_response(answer.status)
                    for key, value in answer.headers.items():
                        self.send_header(key, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    if not answer.drip:
                        self.wfile.write(data)
                        return
                    for byte in data:
                        self.wfile.write(bytes([byte]))
                        if slack._stopped.wait(answer.drip):
                            return
                except OSError:
                    pass  # the client has given up, as it should

            def log_message(self, *_: object) -> None:
                """Tests print what they need."""

        return Handler


@contextmanager
def slack_server() -> Iterator[SlackServer]:
    server = SlackServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _ok(**data: Any) -> Answer:
    return Answer(200, json.dumps({"ok": True, **data}), {"Content-Type": "application/json"})


def _fault(body: dict[str, Any]) -> str | None:
    """The code with which Slack refuses the payload, by its documented limits; ``None`` when it is fine."""
    blocks = body.get("blocks") or []
    if not body.get("text") and not blocks:
        return "no_text"
    if len(body.get("text", "")) > 40_000:
        return "msg_too_long"
    if len(blocks) > 50 or any(_bad_block(block) for block in blocks):
        return "invalid_blocks"
    if units(json.dumps(blocks, ensure_ascii=False)) > 10_000:
        return "msg_blocks_too_long"
    return None


def _bad_block(block: dict[str, Any]) -> bool:
    if block["type"] == "header":
        return not 1 <= units(block["text"]["text"]) <= 150 or block["text"]["type"] != "plain_text"
    if block["type"] == "section":
        return not 1 <= units(block["text"]["text"]) <= 3000
    if block["type"] == "context":
        return not 1 <= len(block["elements"]) <= 10 or any(
            not 1 <= units(element["text"]) <= 3000 for element in block["elements"]
        )
    return block["type"] != "divider"


def units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
