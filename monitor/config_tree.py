"""Reads YAML 1.2 into a tree that still knows its lines, and refuses what has no place in a config file.

Aliases, anchors, tags, duplicate keys, several documents, tabs, deep nesting and huge files are problems here, before
anything is built from them; so no file can make the reader slow or big.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml import events as ev
from ruamel.yaml.error import MarkedYAMLError, YAMLError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32

Value = str | int | float | bool | None

# The core schema of YAML 1.2: `no` and `22:30` are texts, `010` is ten.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_VARIABLE = re.compile(r"(?<!\$)\$\{([^}]*)\}")
_VARIABLE_NAME = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$", re.DOTALL)


class Refused(Exception):  # noqa: N818 - it carries a problem; it is not an error of ours
    """The text cannot be read any further; ``line`` and ``column`` count from 1."""

    def __init__(self, message: str, *, line: int = 1, column: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.hint = hint


@dataclass
class Scalar:
    """One value; ``raw`` is the text as written, ``plain`` whether it stood without quotes.

    Here as in the other nodes, what is ``dropped`` is left out of the data, but problems can still point at it.
    """

    line: int
    column: int
    raw: str
    plain: bool
    value: Value
    from_environment: bool = False
    dropped: bool = False


@dataclass
class Sequence:
    line: int
    column: int
    items: list[Node] = field(default_factory=list)
    dropped: bool = False


@dataclass
class Mapped:
    line: int
    column: int
    by_name: dict[str, Entry] = field(default_factory=dict)
    dropped: bool = False

    @property
    def entries(self) -> list[Entry]:
        return list(self.by_name.values())

    def get(self, name: str) -> Entry | None:
        return self.by_name.get(name)


@dataclass
class Entry:
    """A key as written, and its value."""

    name: str
    line: int
    column: int
    node: Node


Node = Scalar | Sequence | Mapped


def resolve(text: str) -> Value:
    """Give an unquoted text the type that YAML 1.2 says it has."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text) and len(text) < 25:
        return int(text)
    if _BASED.fullmatch(text) and len(text) < 25:
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "", 1)) if _SPECIAL.fullmatch(text) else text


def to_data(node: Node) -> Any:
    """The plain dicts, lists and values of a tree, without what was dropped."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [to_data(item) for item in node.items if not item.dropped]
    return {name: to_data(entry.node) for name, entry in node.by_name.items() if not entry.node.dropped}


def scalars(node: Node, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Scalar]]:
    """Every value of a tree, with the keys that lead to it."""
    if isinstance(node, Scalar):
        yield where, node
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from scalars(item, where)
    else:
        for entry in node.entries:
            yield from scalars(entry.node, (*where, entry.name))


def substitute(node: Scalar, environment: Mapping[str, str]) -> list[str]:
    """Put the environment's values in the place of ``${VAR}`` and ``${VAR:-default}``.

    An empty variable counts as unset. ``$${`` stands for a literal ``${``. An unquoted value gets its type afterwards,
    so that ``confirm: ${CONFIRM:-2}`` is a number.

    Returns
    -------
    What is wrong, in words that never hold a value.
    """
    problems: list[str] = []

    def replacement(match: re.Match[str]) -> str:
        reference = _VARIABLE_NAME.match(match[1].strip())
        if reference is None or "${" in match[1]:
            problems.append("'${' must be followed by a variable's name, as in ${NAME} or ${NAME:-default}")
            return ""
        name, default = reference[1], reference[2]
        value = environment.get(name, "")
        if value == "" and default is None:
            state = "is empty, which counts as unset" if name in environment else "is not set"
            problems.append(f"the environment variable {name} {state}, and ${{{name}}} gives no default")
        return value or default or ""

    if not isinstance(node.value, str) or "${" not in node.value:
        return problems
    text = _VARIABLE.sub(replacement, node.raw)
    text = text.replace("$${", "${") if "$${" in node.raw else text
    node.from_environment = _VARIABLE.search(node.raw) is not None
    node.value = resolve(text) if node.plain and node.from_environment else text
    return problems


def decode(blob: bytes) -> str:
    """Decode the bytes of a config file.

    Raises
    ------
    Refused
        When they are too many, not UTF-8, hold control characters, or indent with tabs.
    """
    if len(blob) > MAX_BYTES:
        raise Refused(f"the file is larger than {MAX_BYTES // 1_000_000} MB; a config file is a few kB")
    try:
        text = blob.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = blob[: error.start]
        line = before.count(b"\n") + 1
        raise Refused(
            "the file is not UTF-8 text", line=line, column=error.start - (before.rfind(b"\n") + 1) + 1
        ) from None
    for number, content in enumerate(text.split("\n"), start=1):
        indent = content[: len(content) - len(content.lstrip(" \t"))]
        if "\t" in indent and content.strip():
            raise Refused("a tab in the indentation", line=number, column=indent.index("\t") + 1, hint="use spaces")
    return text


def parse(text: str) -> tuple[Node, list[Refused]]:
    """Read one YAML document into a tree, with the problems that do not keep the rest from being read.

    Raises
    ------
    Refused
        When the text is no YAML, empty, or more than one document, or uses what a config file may not.
    """
    builder = _Builder()
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise Refused(
            _first_words(error.problem or error.context or "cannot be read"), line=line, column=column
        ) from None
    except YAMLError:
        raise Refused("this is not YAML") from None
    if builder.root is None:
        raise Refused("the file is empty", hint="`monitor init` writes one to start from")
    return builder.root, builder.problems


def _first_words(problem: str) -> str:
    return "not YAML: " + " ".join(problem.split())[:200]


class _Builder:
    """Makes the tree from the parser's events, one at a time; an open stack in place of recursion."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[Refused] = []
        self._open: list[tuple[Sequence | Mapped, Scalar | None]] = []
        self._documents = 0

    def take(self, event: Any) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, ev.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise Refused("a second document begins here; a config file is a single one", line=line, column=column)
        elif isinstance(event, (ev.MappingEndEvent, ev.SequenceEndEvent)):
            self._close()
        elif isinstance(event, ev.NodeEvent):
            self._refuse(event, line=line, column=column)
            self._place(_node(event, line=line, column=column))

    def _refuse(self, event: Any, *, line: int, column: int) -> None:
        if isinstance(event, ev.AliasEvent) or event.anchor is not None:
            raise Refused(
                "anchors (&) and aliases (*) are not accepted", line=line, column=column,
                hint="`defaults` says things once for all models; quote a text that begins with & or *",
            )  # fmt: skip
        if getattr(event, "tag", None) not in (None, "!"):
            raise Refused("tags (!) are not accepted", line=line, column=column, hint="quote a text that begins with !")
        if len(self._open) >= MAX_DEPTH:
            raise Refused(f"nested deeper than {MAX_DEPTH} levels", line=line, column=column)

    def _place(self, node: Node) -> None:
        if not self._open:
            self.root = node
        else:
            parent, key = self._open[-1]
            if isinstance(parent, Sequence):
                parent.items.append(node)
            elif key is None:
                self._open[-1] = (parent, self._key(node))
                return
            else:
                self._add(parent, key, node)
                self._open[-1] = (parent, None)
        if not isinstance(node, Scalar):
            self._open.append((node, None))

    def _key(self, node: Node) -> Scalar:
        if not isinstance(node, Scalar):
            raise Refused("a key must be a plain word", line=node.line, column=node.column)
        return node

    def _add(self, parent: Mapped, key: Scalar, node: Node) -> None:
        earlier = parent.get(key.raw)
        if key.raw == "<<":
            self.problems.append(Refused("merge keys (<<) are not accepted", line=key.line, column=key.column))
        elif earlier is not None:
            message = f"the key '{key.raw}' is given twice; the first is in line {earlier.line}"
            self.problems.append(Refused(message, line=key.line, column=key.column))
        else:
            parent.by_name[key.raw] = Entry(key.raw, key.line, key.column, node)

    def _close(self) -> None:
        self._open.pop()


def _node(event: Any, *, line: int, column: int) -> Node:
    if isinstance(event, ev.MappingStartEvent):
        return Mapped(line, column)
    if isinstance(event, ev.SequenceStartEvent):
        return Sequence(line, column)
    plain = bool(event.implicit[0]) and event.style in (None, "")
    return Scalar(line, column, event.value, plain, resolve(event.value) if plain else event.value)
