"""What can go wrong between us and somebody's database, as one small tree.

SourceError
├── TransientSourceError      worth another try: the network, a restart, a lock, a time-out
└── PermanentSourceError      somebody has to change something: a name, a right, the config
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

_TRANSIENT_STATES = ("08", "53", "40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57014", "58")
_PERMANENT_STATES = {
    "42P01": ("table_missing", "a table does not exist"),
    "3F000": ("table_missing", "a schema does not exist"),
    "42703": ("column_missing", "a column does not exist"),
    "42501": ("permission", "the role may not read it"),
    "28": ("auth", "the database refused the login"),
    "3D000": ("database_missing", "the database does not exist"),
    "25006": ("read_only", "the statement tried to write"),
    "42": ("statement", "the database did not accept the statement"),
    "22": ("value", "a value could not be read as the statement asks"),
}
_SQLITE_TRANSIENT = re.compile(r"locked|busy|disk i/o|interrupt|cancel", re.IGNORECASE)
_SQLITE_PERMANENT = (
    (re.compile(r"no such table", re.IGNORECASE), "42P01"),
    (re.compile(r"no such column|no such function", re.IGNORECASE), "42703"),
    (re.compile(r"readonly|read-only", re.IGNORECASE), "25006"),
    (re.compile(r"syntax error|unrecognized token|incomplete input", re.IGNORECASE), "42601"),
)
_NETWORK = re.compile(
    r"connect|connection|server closed|timeout|timed out|refused|could not translate|no route", re.IGNORECASE
)
_AUTH = re.compile(r"authentication|password|no pg_hba|role .* does not exist|access denied", re.IGNORECASE)


class SourceError(Exception):
    """Reading from a source failed; the text is fit for people and holds no secret."""

    def __init__(self, message: str, *, reason: str, closest: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.closest = tuple(closest)

    @property
    def public(self) -> str:
        """What may be shown to anybody; names what was asked for, never values or addresses."""
        return str(self)


class TransientSourceError(SourceError):
    """The same read may succeed later, unchanged."""


class PermanentSourceError(SourceError):
    """The same read will fail again until somebody changes the database or the config."""


def missing(what: str, name: str, *, among: Iterable[str], where: str) -> PermanentSourceError:
    """Say that a table or column is not there, and which names come closest, else which there are."""
    known = list(dict.fromkeys(among))
    near = closest(name, known)
    hint = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    if known and not near:
        hint = f"; there is {', '.join(known[:6])}" + (f" and {len(known) - 6} more" if len(known) > 6 else "")
    return PermanentSourceError(f"{where}: there is no {what} {name!r}{hint}", reason=f"{what}_missing", closest=near)


def closest(name: str, among: Iterable[str]) -> list[str]:
    """Return up to three names that look like `name`, the likeliest first, whatever their case."""
    by_fold: dict[str, str] = {}
    for candidate in among:
        by_fold.setdefault(candidate.casefold(), candidate)
    return [by_fold[fold] for fold in difflib.get_close_matches(name.casefold(), by_fold, n=3, cutoff=0.5)]


def translate(error: BaseException, *, where: str) -> SourceError:  # noqa: PLR0911
    """Turn a driver's error into ours by its SQLSTATE, or by its text where the driver gives none.

    The driver's text never reaches the message: it may quote the address, the statement or the data.
    """
    if isinstance(error, SourceError):
        return error
    cause = getattr(error, "orig", None) or error
    text = str(cause)
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or _state_of(text)
    if state and state.startswith(_TRANSIENT_STATES):
        what = "the statement ran into its time limit" if state == "57014" else "the database cannot answer just now"
        return TransientSourceError(
            f"{where}: {what} (SQLSTATE {state})", reason="timeout" if state == "57014" else "db"
        )
    if state:
        reason, what = _permanent(state)
        return PermanentSourceError(f"{where}: {what} (SQLSTATE {state})", reason=reason)
    if _AUTH.search(text):
        return PermanentSourceError(f"{where}: the database refused the login", reason="auth")
    if _SQLITE_TRANSIENT.search(text):
        return TransientSourceError(f"{where}: the database is locked or was interrupted", reason="busy")
    if _NETWORK.search(text):
        return TransientSourceError(f"{where}: the database cannot be reached", reason="unreachable")
    kind = type(cause).__name__
    return PermanentSourceError(f"{where}: the read failed ({kind}); the log has the details", reason="unknown")


def _permanent(state: str) -> tuple[str, str]:
    for prefix, answer in _PERMANENT_STATES.items():
        if state.startswith(prefix):
            return answer
    return "statement", "the database did not accept the statement"


def _state_of(text: str) -> str | None:
    return next((state for pattern, state in _SQLITE_PERMANENT if pattern.search(text)), None)


def missing_file(path: Path, *, where: str) -> PermanentSourceError:
    return PermanentSourceError(f"{where}: there is no file {path.name!r}; nothing was created", reason="file_missing")
