"""Turns what the types and checks complain about into problems with a line, plain words, and the nearest name."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from monitor.config import AlertsConfig, Config, Destination
from monitor.config_secrets import shown
from monitor.config_tree import Entry, Mapped, Node, Scalar, Sequence
from monitor.config_types import nearest

_WORDS = {
    "string_type": "expected a text",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "list_type": "expected a list",
    "path_type": "expected a path",
    "dict_type": "expected a block of `key: value` lines",
    "model_type": "expected a block of `key: value` lines",
    "model_attributes_type": "expected a block of `key: value` lines",
    "string_too_short": "must not be empty",
    "too_short": "must hold at least one entry",
    "finite_number": "expected a finite number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
}
_TAGS = frozenset({"<rolling>", "<range>", "<table>", "<query>", "<file>", "<weights>"})  # branches, not keys
_OLD_BOOLEANS = frozenset({"yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a config file; ``line`` and ``column`` count from 1, ``where`` are the keys."""

    file: str
    line: int
    column: int
    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {where}{self.message}{hint}"


@dataclass(frozen=True)
class Place:
    """How far a path of keys could be followed: the last key found, its value, its block, and the keys left over."""

    path: tuple[str | int, ...]
    shown: str
    node: Node
    entry: Entry | None
    parent: Mapped | None
    rest: tuple[str | int, ...]


def locate(root: Node, where: tuple[str | int, ...]) -> Place:
    """Follow a path of keys; what a model took from `defaults` is found there."""
    keys = tuple(key for key in where if key not in _TAGS)
    place = _follow(root, keys)
    if place.rest and len(keys) > 2 and keys[0] == "models":
        shared = _follow(root, ("defaults", *keys[2:]))
        if len(shared.path) > max(1, len(place.path) - 1):
            return shared
    return place


def _follow(root: Node, keys: tuple[str | int, ...]) -> Place:
    place = Place((), "", root, None, None, keys)
    while place.rest:
        key = place.rest[0]
        node = place.node
        if isinstance(node, Mapped) and str(key) in node.by_name:
            entry = node.by_name[str(key)]
            name = f"{place.shown}.{entry.name}" if place.shown else entry.name
            place = Place((*place.path, str(key)), name, entry.node, entry, node, place.rest[1:])
        elif isinstance(node, Mapped) and key == "destinations" and place.path == ("alerts",):
            place = Place(place.path, place.shown, node, place.entry, place.parent, place.rest[1:])
        elif isinstance(node, Sequence) and isinstance(key, int) and key < len(_kept(node)):
            item = _kept(node)[key]
            place = Place((*place.path, key), f"{place.shown}[{key}]", item, None, None, place.rest[1:])
        else:
            break
    return place


def _kept(node: Sequence) -> list[Node]:
    return [item for item in node.items if not item.dropped]


def position(place: Place, *, of_key: bool = False) -> tuple[int, int]:
    """Line and column: the value's, or the key's where the value is a block or is not what is wrong."""
    nothing = isinstance(place.node, Scalar) and place.node.plain and not place.node.raw
    if place.entry is not None and (of_key or place.rest or nothing or not isinstance(place.node, Scalar)):
        return place.entry.line, place.entry.column
    return place.node.line, place.node.column


def explain(error: ErrorDetails, root: Node, file: str) -> Problem:
    """Say in plain words what one error of the types means, and where it is."""
    location = tuple(error["loc"])
    is_key = "[key]" in location
    place = locate(root, tuple(key for key in location if key != "[key]"))
    if error["type"] == "extra_forbidden":
        return _unknown_key(place, file)
    if error["type"] == "destination" and place.entry is not None:
        guess = nearest(place.entry.name, AlertsConfig.model_fields)
        if guess is not None:
            line, column = position(place, of_key=True)
            return Problem(
                file, line, column, "alerts", f"unknown key '{place.entry.name}'", f"did you mean '{guess}'?"
            )
    line, column = position(place, of_key=is_key)
    if error["type"] == "missing":
        return Problem(file, line, column, place.shown, f"`{location[-1]}` is missing")
    if is_key:
        return _wrong_key(error, place, file)
    message, hint = _in_words(error, place)
    return Problem(file, line, column, place.shown, message, hint)


def _unknown_key(place: Place, file: str) -> Problem:
    name = place.entry.name if place.entry is not None else str(place.path[-1])
    known = known_keys(place.path[:-1])
    where = place.shown[: -len(name)].rstrip(".")
    guess = nearest(name, known)
    if guess is not None:
        hint = f"did you mean '{guess}'?"
    else:
        homes = [home for home, keys in _all_homes() if name in keys]
        hint = f"'{name}' belongs in {homes[0]}" if homes else f"known here: {', '.join(sorted(known))}"
    return Problem(file, *position(place, of_key=True), where, f"unknown key '{name}'", hint)


def _wrong_key(error: ErrorDetails, place: Place, file: str) -> Problem:
    name = place.entry.name if place.entry is not None else str(place.path[-1])
    where = place.shown[: -len(name)].rstrip(".")
    line, column = position(place, of_key=True)
    if error["type"] != "literal_error":
        return Problem(file, line, column, where, "a key must not be empty")
    expected = str(error.get("ctx", {}).get("expected", ""))
    guess = nearest(name, expected.replace(" or ", ", ").replace("'", "").split(", "))
    return Problem(
        file,
        line,
        column,
        where,
        f"unknown key '{name}'",
        f"did you mean '{guess}'?" if guess else f"known: {expected}",
    )


def _in_words(error: ErrorDetails, place: Place) -> tuple[str, str]:
    context: Mapping[str, Any] = error.get("ctx", {})
    hint = ""
    if error["type"] == "literal_error":
        expected = str(context["expected"])
        message = f"expected {expected}"
        if isinstance(place.node, Scalar):
            guess = nearest(place.node.raw, expected.replace(" or ", ", ").replace("'", "").split(", "))
            hint = f"did you mean '{guess}'?" if guess else ""
    elif error["type"] == "value_error":
        message = str(context["error"])
    else:
        message = _WORDS.get(error["type"], error["msg"]).format(**context)
    if isinstance(place.node, Scalar) and not hint:
        hint = _advice(error["type"], place.node)
    if message.startswith(("expected", "must")) and not place.rest:
        message += f", found {_found(place)}"
    return message, hint


def _advice(kind: str, node: Scalar) -> str:
    if kind == "bool_type" and node.raw.lower() in _OLD_BOOLEANS:
        return f"'{node.raw}' is a text in YAML 1.2: write true or false"
    if kind == "string_type" and node.value is not None:
        return "put it in quotes if it is meant as a text"
    if kind in ("int_type", "float_type") and not node.plain and not node.from_environment:
        return "write it without quotes"
    return ""


def _found(place: Place) -> str:
    node = place.node
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapped):
        return "a block of keys"
    if node.value is None:
        return "nothing"
    key = str(next((step for step in reversed(place.path) if isinstance(step, str)), ""))
    text = shown(node.raw, key=key, from_environment=node.from_environment)
    return node.raw if not isinstance(node.value, str) and not node.from_environment else text


# --- which keys there are ------------------------------------------------------------------------


@cache
def known_keys(path: tuple[str | int, ...]) -> frozenset[str]:
    """The keys that the block at ``path`` may hold."""
    return frozenset(key for block in _blocks_at(path) for key in keys_of(block))


def keys_of(block: type[BaseModel]) -> dict[str, Any]:
    """Key as written → its type."""
    return {item.alias or name: item.annotation for name, item in block.model_fields.items()}


def _blocks_at(path: tuple[str | int, ...]) -> list[type[BaseModel]]:
    current: list[Any] = [Config]
    for step in path:
        current = [found for item in current for found in _step(item, step)]
    return [item for item in current if isinstance(item, type) and issubclass(item, BaseModel)]


def _step(item: Any, step: str | int) -> Iterator[Any]:
    if isinstance(item, type) and issubclass(item, BaseModel):
        known = keys_of(item)
        if step in known:
            yield from _alternatives(known[str(step)])
        elif item is AlertsConfig:
            yield Destination
    elif get_origin(item) is dict:
        yield from _alternatives(get_args(item)[1])


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part)
    else:
        yield annotation


@cache
def _all_homes() -> tuple[tuple[str, set[str]], ...]:
    return tuple(_homes())


def _homes() -> Iterator[tuple[str, set[str]]]:
    """Where each key is at home: the blocks of the file, from the top."""
    yield "the top of the file", set(keys_of(Config))
    queue: list[tuple[str, Any]] = [("", Config)]
    seen: set[Any] = {Config}
    while queue:
        path, item = queue.pop(0)
        for key, annotation in keys_of(item).items():
            if key == "defaults":
                continue
            for found in _alternatives(annotation):
                name = key
                inner = found
                if get_origin(found) is dict:
                    inner, name = next(_alternatives(get_args(found)[1])), f"{key}.NAME"
                if isinstance(inner, type) and issubclass(inner, BaseModel) and inner not in seen:
                    seen.add(inner)
                    here = f"{path}.{name}" if path else name
                    yield here, set(keys_of(inner))
                    queue.append((here, inner))
