"""What can go wrong between the service and its store.

StoreError
├── StoreUnavailable   busy, gone for a moment, full: the same call may work later
├── StoreMissing       there is no store at this place yet
├── StoreOutdated      the store is older than this program and was not to be migrated
├── StoreNewer         the store was written by a newer program
├── StoreDenied        the rights are not there: read-only file, wrong role or password
└── StoreCorrupt       not a database, damaged, or deleted while in use; never written over

No message holds a URL: passwords hide in more places than the password field.
"""

from __future__ import annotations

from sqlalchemy import exc

_LATER = ("08", "53", "57P", "40001", "40P01", "55P03", "57014", "25P03", "25P04")
_DENIED = ("28", "42501", "25006", "3D000")
_SQLITE_BY_NAME = {
    "SQLITE_NOTADB": "corrupt",
    "SQLITE_CORRUPT": "corrupt",
    "SQLITE_READONLY": "denied",
    "SQLITE_PERM": "denied",
    "SQLITE_AUTH": "denied",
}


class StoreError(Exception):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):  # noqa: N818 - every one is a StoreError, and the names are read in logs
    """The store is busy, full or not reachable; the same call may work later."""


class StoreMissing(StoreError):  # noqa: N818 - every one is a StoreError, and the names are read in logs
    """There is no store at this place yet."""


class StoreOutdated(StoreError):  # noqa: N818 - every one is a StoreError, and the names are read in logs
    """The store's tables are older than this program."""


class StoreNewer(StoreError):  # noqa: N818 - every one is a StoreError, and the names are read in logs
    """The store was written by a newer program than this one."""


class StoreDenied(StoreError):  # noqa: N818 - every one is a StoreError, and the names are read in logs
    """The rights to use the store are missing."""


class StoreCorrupt(StoreError):  # noqa: N818 - every one is a StoreError, and the names are read in logs
    """What is there is not our store any more; it is left as it is."""


def translate(error: exc.SQLAlchemyError, *, name: str) -> StoreError:
    """Give a driver's error its place in the tree; ``name`` is the store's name without secrets.

    Raises
    ------
    TypeError, ValueError
        As :func:`monitor.store.storable.to_storable` did when it refused a value.
    """
    original = getattr(error, "orig", None)
    if isinstance(original, (TypeError, ValueError)) and not isinstance(error, exc.DBAPIError):
        # refused before it reached the database: a value that cannot be kept is the caller's mistake
        raise original from None
    state = getattr(original, "sqlstate", None)
    code = str(getattr(original, "sqlite_errorname", "") or "")
    if isinstance(state, str):
        return _translate_postgres(state, name)
    if code:
        return _translate_sqlite(code, name)
    if isinstance(error, (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)) or (
        isinstance(error, exc.DBAPIError) and error.connection_invalidated
    ):
        if original is not None and _is_denial(str(original)):
            return StoreDenied(f"{name} refuses this login: check user, password and database of `store`")
        return StoreUnavailable(f"{name} cannot be reached; it is tried again")
    return StoreError(f"{name} refused a statement ({type(original or error).__name__})")


def _is_denial(text: str) -> bool:
    # a failed connection has no SQLSTATE in psycopg: the server's sentence is all there is
    lowered = text.lower()
    return (
        "authentication failed" in lowered
        or ("role" in lowered and "does not exist" in lowered)
        or ("database" in lowered and "does not exist" in lowered)
    )


def _translate_postgres(state: str, name: str) -> StoreError:
    if state.startswith(_LATER):
        return StoreUnavailable(f"{name} is not available just now (SQLSTATE {state}); it is tried again")
    if state.startswith(_DENIED):
        return StoreDenied(f"{name} refuses this login or role (SQLSTATE {state}): check its rights")
    if state.startswith(("XX", "58")):
        return StoreCorrupt(f"{name} reports damage (SQLSTATE {state}); nothing was written")
    if state in ("42P01", "42703"):
        return StoreCorrupt(f"{name} lacks a table or column of ours (SQLSTATE {state}): was it changed by hand?")
    return StoreError(f"{name} refused a statement (SQLSTATE {state})")


def _translate_sqlite(code: str, name: str) -> StoreError:
    kind = next((kind for prefix, kind in _SQLITE_BY_NAME.items() if code.startswith(prefix)), None)
    if kind == "corrupt":
        return StoreCorrupt(f"{name} is not a database, or is damaged ({code}); it was left as it is")
    if kind == "denied":
        return StoreDenied(f"{name} cannot be written ({code}): check the rights of the file and its folder")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreUnavailable(f"{name} is locked by another program ({code}); it is tried again")
    if code.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_NOMEM")):
        return StoreUnavailable(f"{name} cannot be written or opened ({code}): is the disk full, or the folder gone?")
    return StoreError(f"{name} refused a statement ({code})")
