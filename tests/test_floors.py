"""Imports point downwards, and what is pure stays pure: read from the source, so that no import order can hide it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS: dict[str, int] = {
    # 4: process, clock, signals, terminal
    "monitor.worker": 4,
    "monitor.cli": 4,
    "monitor.demo": 4,
    "monitor.__main__": 4,
    # 3: run, and whatever else tells a whole story: every module that is not named here
    # 2: input and output; no two of these know of each other
    "monitor.sources": 2,
    "monitor.channels": 2,
    "monitor.reports": 2,
    "monitor.store": 2,
    "monitor.counting": 2,
    "monitor.demo_log": 2,
    # 1: the shapes of what is configured and kept
    "monitor.config": 1,
    "monitor.config_file": 1,
    "monitor.config_types": 1,
    "monitor.config_tree": 1,
    "monitor.config_problems": 1,
    "monitor.config_checks": 1,
    "monitor.config_secrets": 1,
    "monitor.starter": 1,
    "monitor.label_tasks": 1,
    "monitor.models": 1,
    "monitor.redact": 1,
    "monitor.memory": 1,
    # 1 as well: decisions made of these shapes and nothing else
    "monitor.windows": 1,
    "monitor.thresholds": 1,
    "monitor.incidents": 1,
    "monitor.waiting": 1,
    "monitor.curves": 1,
    "monitor.messages": 1,
    "monitor.cause": 1,
    "monitor.grouping": 1,
    "monitor.restated": 1,
    # 0: numbers
    "detectors": 0,
}
STORY = 3
PURE = (
    "monitor.windows",
    "monitor.thresholds",
    "monitor.incidents",
    "monitor.waiting",
    "monitor.curves",
    "monitor.messages",
    "monitor.cause",
    "monitor.grouping",
    "monitor.restated",
)
DETECTORS_MAY_IMPORT = set(
    re.findall(
        r"\w+",
        "numpy scipy detectors __future__ abc bisect collections copy dataclasses datetime enum functools hashlib heapq "
        "itertools json math operator statistics struct sys types typing warnings zlib",
    )
)
WORLD = set(
    re.findall(
        r"\w+",
        "adbc_driver_manager adbc_driver_postgresql adbc_driver_sqlite alembic apprise apscheduler asyncio evidently "
        "http httpx multiprocessing os pandas pathlib psycopg pyarrow random requests shutil signal slack_sdk socket "
        "sqlalchemy sqlite3 subprocess tempfile threading time urllib",
    )
)
CLOCK_READS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def sources(*packages: str) -> dict[str, Path]:
    return {module_name(path): path for package in packages for path in sorted((ROOT / package).rglob("*.py"))}


MODULES = sources("monitor", "detectors")


def part_of(module: str) -> str | None:
    """The part that a module belongs to: the longest name in FLOORS, else its own; ``None`` for what is not ours."""
    names = [name for name in FLOORS if module == name or module.startswith(name + ".")]
    return max(names, key=len, default=module if module.startswith("monitor.") else None)


def floor(part: str) -> int:
    return FLOORS.get(part, STORY)


def imports(path: Path, *, at_import_time: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported; ``from monitor import windows`` is ``monitor.windows``."""
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _statements(ast.parse(path.read_text()), at_import_time=at_import_time):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in MODULES else base


def _statements(node: ast.AST, *, at_import_time: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if at_import_time and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if at_import_time and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _statements(child, at_import_time=at_import_time)


def upward(module: str, path: Path) -> list[str]:
    mine = part_of(module)
    assert mine is not None, module
    wrong = []
    for line, target in imports(path):
        theirs = part_of(target)
        if theirs is None or theirs == mine:
            continue
        neighbours = floor(theirs) == floor(mine) == 2
        if floor(theirs) > floor(mine) or neighbours:
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {target}")
    return wrong


def clock_reads(tree: ast.AST) -> list[str]:
    """Calls on the types of `datetime` and on `time`; `.time()` of a value takes its time of day and is no read."""
    return [
        f"line {node.lineno}: {node.func.value.id}.{node.func.attr}()"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CLOCK_READS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"datetime", "date", "time"}
    ]


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name)])
def test_imports_point_downwards(module: str) -> None:
    assert upward(module, MODULES[module]) == []


@pytest.mark.parametrize("module", sources("detectors"))
def test_detectors_know_numbers_and_nothing_else(module: str) -> None:
    wrong = [
        f"{MODULES[module].name}:{line} imports {name}"
        for line, name in imports(MODULES[module])
        if name.split(".")[0] not in DETECTORS_MAY_IMPORT
    ]
    assert wrong == []


@pytest.mark.parametrize("module", sources("detectors"))
def test_detectors_open_no_file_and_read_no_clock(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"}
    assert clock_reads(tree) == []


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name) in PURE])
def test_decisions_touch_neither_the_world_nor_the_clock(module: str) -> None:
    assert [name for _, name in imports(MODULES[module]) if name.split(".")[0] in WORLD] == []
    assert clock_reads(ast.parse(MODULES[module].read_text())) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {
        name: {target for _, target in imports(path, at_import_time=True) if target in MODULES and target != name}
        for name, path in MODULES.items()
    }
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    assert graph == {}


def test_the_library_folder_of_migrations_is_no_package() -> None:
    """``alembic/__init__.py`` would shadow the library of the same name."""
    assert not (ROOT / "alembic" / "__init__.py").exists()


def test_a_broken_floor_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    source = tmp_path / "monitor" / "sources" / "bad.py"
    source.parent.mkdir(parents=True)
    source.write_text("import os\nfrom monitor.run import go\n\ndef f():\n    from monitor.store import Store\n")
    found = upward("monitor.sources.bad", source)
    assert [line.split(" imports ")[1] for line in found] == ["monitor.run", "monitor.store"]
