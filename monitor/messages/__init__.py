"""Messages in plain words, composed once and rendered by each channel; nothing here sends them."""

from __future__ import annotations

from monitor.messages.composing import closes_thread, compose, dedup_key
from monitor.messages.naming import excess, finding_text, spent_on, split_of, subject_of
from monitor.messages.service import (
    DIGESTED,
    caught_up,
    digest,
    operator,
    removed,
    skipped,
    source_broken,
    undeliverable,
)
from monitor.messages.words import duration, metric_word, moment, number

__all__ = [
    "DIGESTED",
    "caught_up",
    "closes_thread",
    "compose",
    "dedup_key",
    "digest",
    "duration",
    "excess",
    "finding_text",
    "metric_word",
    "moment",
    "number",
    "operator",
    "removed",
    "skipped",
    "source_broken",
    "spent_on",
    "split_of",
    "subject_of",
    "undeliverable",
]
