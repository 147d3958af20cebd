"""A process with nothing to do that still holds what its work has loaded replaces itself by a fresh one.

Libraries stay loaded and allocators keep fragments: after its windows a daemon is larger by half than one that has just
been started.  ``exec`` keeps the process id, so that whoever supervises the process notices nothing.  What the new one
has to know is handed over in the environment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

RENEW = -1
"""What :meth:`monitor.worker.Worker.run` returns instead of an exit code: end in order, and start anew."""
QUIET_TICKS = 3
"""Ticks in a row without work before a process counts as idle."""
HANDED_OVER = "MONITOR_HANDED_OVER"
"""The environment variable; not for users, and gone once it has been read."""
_TO_END = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Legacy:
    """What one process leaves to the next."""

    pid: int
    """Of both."""
    name: str
    """The worker's, so that nobody looks for a second one that has fallen silent."""
    memory: float
    """MB that the old process held."""
    mark: tuple[int, int] | None
    """Of the config file for which the pages were drawn."""
    planned: dict[str, datetime] = field(default_factory=dict)
    """When each model's windows were last looked for: a `schedule` fires neither twice nor never."""


def resident() -> float | None:
    """Memory of this process in MB (10⁶ bytes); ``None`` where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def inherited() -> Legacy | None:
    """What this very process has left to itself, once; ``None`` in one that was started afresh."""
    text = os.environ.pop(HANDED_OVER, None)
    if text is None:
        return None
    told = json.loads(text)
    if told["pid"] != os.getpid():  # whoever copied our environment is not us
        return None
    mark = None if told["mark"] is None else (told["mark"][0], told["mark"][1])
    planned = {name: datetime.fromisoformat(at) for name, at in told["planned"].items()}
    return Legacy(told["pid"], told["name"], told["memory"], mark, planned)


def hand_over(legacy: Legacy) -> None:
    """Leave this for the next worker of this process."""
    os.environ[HANDED_OVER] = json.dumps(asdict(legacy), default=datetime.isoformat)


def replace_process(*, unless: Callable[[], bool]) -> str:
    """Start this program anew in its own place: same command, environment, folder and process id.

    SIGTERM and SIGINT are blocked before, and stay so in the new process until it can take them, when
    :func:`let_signals_in` delivers those that came meanwhile.

    Parameters
    ----------
    unless
        Asked last of all: whether a signal that came before has ended it for good.

    Returns
    -------
    str
        Why it could not be done; else it does not return.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _TO_END)
    if unless():
        return "told to end"
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command, and no shell
    except OSError as error:
        return error.strerror or type(error).__name__


def let_signals_in() -> None:
    """Those signals that have waited since before the process was replaced arrive now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TO_END)
