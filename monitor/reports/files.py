"""Pages get names that are safe on every file system, and are put in place whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import unicodedata
from datetime import UTC, timedelta
from pathlib import Path

from monitor.config import format_duration
from monitor.models import Window


class ReportError(OSError):
    """A page could not be written; the message says which, why, and never holds data."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)

    def __str__(self) -> str:
        return str(self.strerror)


_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|index|f-.*)")
_OTHER = re.compile(r"[^a-z0-9_]+")
MANIFEST = ".pages.json"


def safe_name(name: str) -> str:
    """Name a file or folder after ``name`` so that two names never share one, also where case is ignored.

    A name that is already short lower-case ASCII stays as it is; any other becomes a slug, ``~`` and a hash. The
    tilde cannot occur in the first kind, so the two kinds never meet.

    Examples
    --------
    >>> safe_name("fraud_v7")
    'fraud_v7'
    >>> safe_name("../../etc/x")
    'etc-x~f9ff8a47'
    """
    if _PLAIN.fullmatch(name) and not _RESERVED.fullmatch(name):
        return name
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = _OTHER.sub("-", ascii_only.lower()).strip("-_")[:40] or "x"
    return f"{slug}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def window_name(window: Window) -> str:
    """``2026-11-18`` for a UTC day, else with the time and the length: ``2026-11-18T0600Z_1h``."""
    start = window.start.astimezone(UTC)
    name = f"{start:%Y-%m-%d}"
    if (start.hour, start.minute, start.second, start.microsecond) != (0, 0, 0, 0):
        name += f"T{start:%H%M}" + (f"{start:%S}" if start.second else "") + "Z"
    return name if window.length == timedelta(days=1) else f"{name}_{format_duration(window.length)}"


def model_page_path(model: str) -> str:
    return f"{safe_name(model)}/index.html"


def window_page_path(model: str, window: Window) -> str:
    """Where the page of a window lies, relative to the root of the site (and to `reports.url`)."""
    return f"{safe_name(model)}/{window_name(window)}.html"


def evidently_page_path(model: str, window: Window) -> str:
    """Where Evidently's page of a window lies, relative to the root; our page links to it once it is there."""
    return f"{safe_name(model)}/{window_name(window)}.evidently.html"


def feature_page_path(model: str, feature: str) -> str:
    return f"{safe_name(model)}/f-{safe_name(feature)}.html"


def open_root(out: Path) -> Path:
    """Create the folder of the site if need be, and return where it really is.

    Raises
    ------
    ReportError
        It cannot be made, or is a file.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return out.resolve(strict=True)
    except OSError as error:
        raise ReportError(f"reports.dir cannot be used ({error.strerror}): give a folder that can be written") from None


def inside(root: Path, relative: str) -> Path:
    """Resolve a page's place, and refuse to leave the root: no ``..``, and no folder that is a link elsewhere."""
    parts = relative.split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise ReportError(f"not a page name: {relative!r}")
    folder = root
    for part in parts[:-1]:
        folder = folder / part
        if folder.is_symlink():
            raise ReportError(f"reports: {part!r} is a symbolic link; pages are not written through it")
    return folder / parts[-1]


def write_page(root: Path, relative: str, content: str | bytes) -> bool:
    """Put a page in place at once (a reader sees the old one or the new one), unless it is there already.

    Returns
    -------
    Whether it was written.

    Raises
    ------
    ReportError
        The disk is full, the folder is not writable, or the place lies outside the root.
    """
    target = inside(root, relative)
    data = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
    try:
        if not target.is_symlink() and target.is_file() and target.read_bytes() == data:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, data)
    except OSError as error:
        raise ReportError(f"reports: {relative} could not be written ({error.strerror})") from None
    return True


def _replace(target: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=".page-", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_manifest(root: Path, folder: str) -> dict[str, str]:
    """The pages that we wrote into a model's folder, each with the fingerprint of what it was drawn from."""
    try:
        found = json.loads(inside(root, f"{folder}/{MANIFEST}").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(key): str(value) for key, value in found.items() if "/" not in key and key.endswith(".html")}


def write_manifest(root: Path, folder: str, pages: dict[str, str]) -> None:
    write_page(root, f"{folder}/{MANIFEST}", json.dumps(pages, sort_keys=True, indent=0))


def remove_pages(root: Path, folder: str, names: set[str]) -> None:
    """Remove pages that we once wrote and that are no longer part of the site, and Evidently's beside them."""
    for name in sorted(names):
        for victim in (name, name.removesuffix(".html") + ".evidently.html"):
            try:
                inside(root, f"{folder}/{victim}").unlink(missing_ok=True)
            except OSError as error:
                raise ReportError(f"reports: {folder}/{victim} could not be removed ({error.strerror})") from None
