"""Reads `config.yaml` and reports everything that is wrong with it at once, each with its line.

Text → tree with lines (`config_tree`) → `${VAR}` put in, written-out secrets refused → types (`config`) → what only
makes sense together (`config_checks`) → relative paths resolved against the folder of the file.
A value that is wrong is set aside and the rest is read again, so that one mistake hides no other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from monitor.config import AlertsConfig, Config, FileBaseline
from monitor.config_checks import Known, check
from monitor.config_problems import Place, Problem, explain, known_keys, locate, position
from monitor.config_secrets import literal_secret
from monitor.config_tree import (
    MAX_BYTES,
    Entry,
    Mapped,
    Node,
    Refused,
    Scalar,
    Sequence,
    decode,
    parse,
    substitute,
    to_data,
)
from monitor.config_types import nearest

__all__ = ["ConfigErrors", "Problem", "json_schema", "load"]

_MAX_ROUNDS = 12
_CASCADING = frozenset({"value_error", "baseline", "too_short"})


class ConfigErrors(Exception):  # noqa: N818 - it holds many
    """All that is wrong with a config file; nothing of it has been used."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.line, problem.column, problem.message))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def load(path: Path, *, env: Mapping[str, str] | None = None) -> Config:
    """Read and check a config file.

    Parameters
    ----------
    path
        The file; messages name it as it is given here. Relative paths inside it (SQLite files, folders, a baseline's
        file, the reports' folder) start from the folder it lies in, whatever the working directory.
    env
        The environment for ``${VAR}`` (default: the process's own).

    Raises
    ------
    ConfigErrors
        With every problem at once.
    """
    environment = os.environ if env is None else env
    file = str(path)
    try:
        root, refused = _read(path)
    except Refused as problem:
        raise ConfigErrors([_of_refused(problem, file)]) from None
    problems = [_of_refused(problem, file) for problem in refused]
    if not isinstance(root, Mapped):
        found = "a list" if isinstance(root, Sequence) else "a single value"
        message = f"expected `key: value` lines at the top of the file, found {found}"
        raise ConfigErrors([*problems, Problem(file, root.line, root.column, "", message)])
    problems += _fill_in(root, environment, file)
    config, wrong = _validate(root, file)
    problems += wrong
    if config is not None:
        problems += _check(config, root, environment, file)
    if problems or config is None:
        raise ConfigErrors(_once(problems))
    return _settled(config, path.absolute().parent, environment)


def json_schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors (`monitor schema`)."""
    schema = Config.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "config.yaml"
    definitions: dict[str, Any] = schema["$defs"]
    for name in ("SourceConfig", "TimeColumn", "ScoreConfig", "Destination", "PerformanceLimit"):
        block = definitions[name]
        short = ["string", "number"] if name == "PerformanceLimit" else "string"
        definitions[name] = {"description": block.pop("description", ""), "anyOf": [{"type": short}, block]}
    definitions["AlertsConfig"]["additionalProperties"] = {"$ref": "#/$defs/Destination"}
    for block in definitions.values():
        block.pop("title", None)
    return schema


def _read(path: Path) -> tuple[Node, list[Refused]]:
    try:
        with path.open("rb") as stream:
            blob = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Refused(f"cannot be read: {(error.strerror or 'unknown error').lower()}") from None
    return parse(decode(blob))


def _of_refused(problem: Refused, file: str) -> Problem:
    return Problem(file, problem.line, problem.column, "", problem.message, problem.hint)


def _fill_in(root: Node, environment: Mapping[str, str], file: str) -> list[Problem]:
    """Put ``${VAR}`` in, and refuse secrets that are written out."""
    problems: list[Problem] = []
    for where, node in _scalars(root):
        kind = literal_secret(node.raw, where=where)
        if kind is not None:
            hint = "put it into an environment variable and write ${NAME} here"
            message = f"{kind} is written out in the file"
            problems.append(Problem(file, node.line, node.column, where, message, hint))
        wrong = substitute(node, environment)
        node.dropped = bool(wrong)
        problems += [Problem(file, node.line, node.column, where, message) for message in wrong]
    return problems


def _scalars(node: Node, where: str = "") -> Iterator[tuple[str, Scalar]]:
    if isinstance(node, Scalar):
        yield where, node
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from _scalars(item, f"{where}[{index}]")
    else:
        for entry in node.entries:
            yield from _scalars(entry.node, f"{where}.{entry.name}" if where else entry.name)


def _validate(root: Mapped, file: str) -> tuple[Config | None, list[Problem]]:
    """Check against the types, again and again, each time without what was found wrong."""
    problems: list[Problem] = []
    for _ in range(_MAX_ROUNDS):
        try:
            return Config.model_validate(to_data(root)), problems
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
        places = [(item, locate(root, tuple(key for key in item["loc"] if key != "[key]"))) for item in details]
        problems += [explain(item, root, file) for item, place in places if not _follows(item, place)]
        changed = [_set_aside(item, place, root) for item, place in places]
        if not any(changed):
            break
    return None, problems


def _follows(error: ErrorDetails, place: Place) -> bool:
    """Whether an error only says that something is absent which was set aside before."""
    if error["type"] == "missing":
        return not place.rest
    if error["type"] not in _CASCADING or not isinstance(place.node, Mapped):
        return False
    return any(entry.node.dropped for entry in place.node.entries)


def _set_aside(error: ErrorDetails, place: Place, root: Mapped) -> bool:
    """Mend what can be guessed, drop what cannot; say whether anything has changed."""
    if error["type"] == "missing" and not place.rest:  # it is there, but was set aside: so is what needs it
        place = locate(root, place.path[:-1])
    node = place.node
    if error["type"] == "extra_forbidden" and place.parent is not None and place.entry is not None:
        return _rename(place.parent, place.entry, place.path) or _drop(node)
    if len(place.path) == 2 and place.path[0] == "models" and isinstance(node, Mapped):
        return _complete(node, error)
    if not place.path:
        return False
    return _drop(node)


def _drop(node: Node) -> bool:
    changed = not node.dropped
    node.dropped = True
    return changed


def _rename(parent: Mapped, entry: Entry, path: tuple[str | int, ...]) -> bool:
    """Read a misspelt key as the nearest one, so that what it says is checked and nothing seems to be missing."""
    guess = nearest(entry.name, known_keys(path[:-1]))
    if guess is None or guess in parent.by_name:
        return False
    parent.by_name = {guess if item is entry else name: item for name, item in parent.by_name.items()}
    return True


def _complete(model: Mapped, error: ErrorDetails) -> bool:
    """Give a model that lacks its table or time a stand-in, so that the rest of it is checked."""
    if error["type"] == "missing":
        name = str(error["loc"][-1])
    elif "table" in model.by_name and "query" in model.by_name:
        return _drop(model.by_name["query"].node) or _drop(model)
    else:
        name = "table"
    if name in model.by_name and not model.by_name[name].node.dropped:
        return _drop(model)
    model.by_name[name] = Entry(name, model.line, model.column, Scalar(model.line, model.column, "", False, "stand-in"))
    return True


def _check(config: Config, root: Mapped, environment: Mapping[str, str], file: str) -> list[Problem]:
    known = Known(
        sources=frozenset(config.sources) | _names_in(root, "sources"),
        destinations=frozenset(config.alerts.destinations)
        | (_names_in(root, "alerts") - set(AlertsConfig.model_fields)),
    )
    problems = []
    for finding in check(config, known=known, environment=environment):
        place = locate(root, finding.where)
        if not (place.rest and finding.if_written):
            problems.append(Problem(file, *position(place), place.shown, finding.message, finding.hint))
    return problems


def _names_in(root: Mapped, block: str) -> set[str]:
    entry = root.get(block)
    return set(entry.node.by_name) if entry is not None and isinstance(entry.node, Mapped) else set()


def _once(problems: list[Problem]) -> list[Problem]:
    """One of each; what comes from `defaults` would otherwise be told for every model."""
    seen: dict[tuple[int, int, str], Problem] = {}
    for problem in problems:
        seen.setdefault((problem.line, problem.column, problem.message), problem)
    return list(seen.values())


def _settled(config: Config, folder: Path, environment: Mapping[str, str]) -> Config:
    """Resolve relative paths against the file's folder, and give Slack destinations their token."""
    config.store = _beside(config.store, folder)
    for source in config.sources.values():
        source.url = _beside(source.url, folder) if source.url is not None else None
        source.path = folder / source.path if source.path is not None else None
        if source.spark is not None and source.spark.path is not None and "://" not in source.spark.path:
            source.spark.path = str(folder / source.spark.path)
    for model in config.models.values():
        if isinstance(model.baseline, FileBaseline):
            model.baseline.file = folder / model.baseline.file
    config.reports.dir = folder / config.reports.dir
    token = environment.get("SLACK_BOT_TOKEN")
    for destination in config.alerts.destinations.values():
        if destination.slack is not None and destination.token is None and token:
            destination.token = SecretStr(token)
    return config


def _beside(url: SecretStr, folder: Path) -> SecretStr:
    """Make the file of a SQLite URL absolute; ``:memory:``, ``file:`` names and other databases stay as they are."""
    text = url.get_secret_value()
    scheme, found, rest = text.partition(":///")
    name, mark, options = rest.partition("?")
    if not found or not scheme.startswith("sqlite") or not name or name.startswith((":memory:", "file:", "/")):
        return url
    return SecretStr(f"{scheme}:///{folder / name}{mark}{options}")
