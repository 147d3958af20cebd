"""The documentation is held against the code: keys, commands, exit codes, examples and links.

``MONITOR_UPDATE_DOCS=1 pytest tests/test_docs.py`` writes the reference of docs/config.md anew from the JSON schema.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from monitor.cli import app
from monitor.cli.common import Exit
from monitor.config import Config
from monitor.config_file import json_schema, load

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = re.compile(r"(<!-- reference -->\n).*(<!-- /reference -->)", flags=re.DOTALL)
UPDATE = bool(os.environ.get("MONITOR_UPDATE_DOCS"))

Schema = dict[str, Any]


# --- the reference of config.yaml -----------------------------------------------------------------


def reference(schema: Schema) -> str:
    """Every block of the config as a table: key, default, meaning; each block where it is met first."""
    parts = []
    for path, block in _blocks(schema, schema, path="", seen=set()):
        head = f"### `{path}`" if path else "### Top level"
        if path.endswith(".baseline"):  # one of several forms, told apart by the key that each of them must have
            head += f" with `{block['required'][0]}`"
        rows = [f"| `{key}` | {_default(key, item, block)} | {_cell(item, schema)} |" for key, item in _keys(block)]
        intro = f"\n{block['description']}\n" if path and block.get("description") else ""
        parts.append("\n".join([head, intro, "| key | default | meaning |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _keys(block: Schema) -> list[tuple[str, Schema]]:
    """The keys of a block, also where a short form (a name, a URL) may stand in its place."""
    forms = [block, *block.get("anyOf", ()), *block.get("oneOf", ())]
    return [item for form in forms for item in form.get("properties", {}).items()]


def _blocks(node: Schema, schema: Schema, *, path: str, seen: set[str]) -> Iterator[tuple[str, Schema]]:
    yield path, node
    for key, item in _keys(node):
        inner = f"{path}.{key}" if path else key
        for name, suffix in _references(item):
            if name in seen or key == "defaults":  # `defaults` holds keys of a model, and these are described there
                continue
            seen.add(name)
            yield from _blocks(schema["$defs"][name], schema, path=inner + suffix, seen=seen)


def _references(item: Any, suffix: str = "") -> Iterator[tuple[str, str]]:
    if "$ref" in item:
        yield item["$ref"].rsplit("/", 1)[1], suffix
    for choice in (*item.get("anyOf", ()), *item.get("oneOf", ()), *item.get("allOf", ())):
        yield from _references(choice, suffix)
    if isinstance(item.get("additionalProperties"), dict):
        yield from _references(item["additionalProperties"], suffix + ".<name>")


def _default(key: str, item: Schema, block: Schema) -> str:
    if any(key in form.get("required", ()) for form in (block, *block.get("anyOf", ()))):
        return "required"
    if item.get("default") in (None, "", {}, []):
        return ""
    if list(_references(item)):
        return "see below"
    value = item["default"]
    if value == "**********":  # what a schema makes of a secret; this one holds none
        value = {"store": Config.model_fields["store"].default.get_secret_value()}[key]
    return f"`{_duration(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def _duration(text: str) -> str:
    """``PT15M`` is what a schema says and ``15m`` is what a config says; of a year it knows 365 days."""
    if years := re.fullmatch(r"P(\d+)Y(\d+)D", text):
        return f"{365 * int(years[1]) + int(years[2])}d"
    if not re.fullmatch(r"P(?=.)(\d+D)?(T(\d+H)?(\d+M)?(\d+S)?)?|P0D", text):
        return text
    return "".join(re.findall(r"\d+[DHMS]", text)).lower() or "0"


def _cell(item: Schema, schema: Schema) -> str:
    text = item.get("description", "")
    if not text:
        text = next((schema["$defs"][name].get("description", "") for name, _ in _references(item)), "")
    return " ".join(text.split()).replace("|", "\\|")


def test_the_reference_of_the_config_is_that_of_the_code() -> None:
    page = ROOT / "docs" / "config.md"
    wanted = REFERENCE.sub(lambda found: found[1] + "\n" + reference(json_schema()) + "\n" + found[2], page.read_text())
    if UPDATE:
        page.write_text(wanted)
    assert page.read_text() == wanted, "run MONITOR_UPDATE_DOCS=1 pytest tests/test_docs.py, and read the diff"


def test_every_config_key_is_documented_with_its_meaning() -> None:
    schema = json_schema()
    blank = [
        f"{path}.{key}"
        for path, block in _blocks(schema, schema, path="", seen=set())
        for key, item in _keys(block)
        if not _cell(item, schema)
    ]
    assert blank == []


# --- examples -------------------------------------------------------------------------------------


def yaml_blocks() -> list[Any]:
    found = []
    for page in PAGES:
        for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)):
            found.append(pytest.param(block, id=f"{page.name}-{number}"))
    return found


@pytest.mark.parametrize("block", yaml_blocks())
def test_every_config_shown_is_valid(tmp_path: Path, block: str) -> None:
    """A fragment is completed with a source and a model, so that it can show only what it is about."""
    whole = block
    if not re.search(r"^models:", block, re.MULTILINE):
        whole += "\nmodels: {churn: {table: predictions, time: predicted_at}}\n"
    if not re.search(r"^sources:", block, re.MULTILINE):
        whole += "\nsources: {main: 'sqlite:///logs.db'}\n"
    path = tmp_path / "config.yaml"
    path.write_text(whole)
    config = load(
        path, env={"SLACK_BOT_TOKEN": "t", "SLACK_WEBHOOK_URL": "https://hooks.example.com/x", "DB_URL": "x://"}
    )
    assert config.models


def test_the_annotated_config_is_valid() -> None:
    assert load(ROOT / "config.yaml", env={}).models


# --- commands -------------------------------------------------------------------------------------


def commands() -> dict[str, set[str]]:
    """Every command with its options, as Typer sees them."""
    root = typer.main.get_command(app)
    found: dict[str, set[str]] = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        for full, leaf in (
            {f"{name} {sub}": item for sub, item in inner.items()}.items() if inner else [(name, command)]
        ):
            found[full] = {
                option for parameter in leaf.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
    return found


COMMANDS = commands()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"`monitor {command}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"schema", "worker"}))
def test_every_command_that_tells_something_does_so_in_json_as_well(command: str) -> None:
    assert "--json" in COMMANDS[command]
    assert f"`{command}" in (ROOT / "docs" / "json.md").read_text().replace("`monitor ", "`")


def shown_commands() -> list[Any]:
    """Each `monitor …` line of the pages, in shell blocks and in running text."""
    lines = set()
    for page in PAGES:
        text = page.read_text()
        shells = re.findall(r"^```(?:sh|console|ini|yaml|dockerfile)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for source in (
            *re.findall(r"`(monitor [^`]+)`", text),
            *(line for shell in shells for line in shell.splitlines()),
        ):
            if match := re.match(r"\s*(?:\S*/)?monitor ([a-z].*?)(?:\s+[#|>].*)?$", source):
                lines.add((page.name, match[1]))
    unit = (ROOT / "deploy" / "ml-monitor.service").read_text()
    lines |= {("ml-monitor.service", line) for line in re.findall(r"^ExecStart=\S*/monitor (.+)", unit, re.MULTILINE)}
    return [pytest.param(line, id=f"{page}: {line}") for page, line in sorted(lines)]


@pytest.mark.parametrize("line", shown_commands())
def test_every_command_shown_exists_with_its_options(line: str) -> None:
    words = line.split()
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    assert name in COMMANDS or any(known.startswith(name + " ") for known in COMMANDS), line
    used = set(re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", line))
    if name in COMMANDS:
        assert used <= COMMANDS[name] | {"--help"}


def test_every_exit_code_is_in_the_readme() -> None:
    table = re.findall(r"^\| `(\d)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [int(code) for code in table] == sorted(int(code) for code in Exit)


# --- deployment -----------------------------------------------------------------------------------


def test_the_containers_start_what_the_project_has() -> None:
    compose = YAML(typ="safe").load(ROOT / "deploy" / "compose.yaml")
    build = compose["services"]["monitor"]["build"]
    dockerfile = ROOT / build["dockerfile"]
    assert (ROOT / "deploy" / build["context"]).resolve() == ROOT.resolve()
    (command,) = re.findall(r'^CMD \["([^"]+)"', dockerfile.read_text(), re.MULTILINE)
    assert command in COMMANDS
    for source in re.findall(r"^COPY (?!--from)(\S+)", dockerfile.read_text(), re.MULTILINE):
        assert (ROOT / source).exists()


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    inner = [target for target in targets if "://" not in target]
    assert [target for target in inner if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"`((?:monitor|detectors|tests|deploy|alembic|docs)/[\w./-]+)`", page.read_text()))
    assert sorted(name for name in named if not (ROOT / name).exists() and "<" not in name) == []
