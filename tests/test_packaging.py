"""What is installed is what was built: the wheel holds all it needs, and every version is pinned by its hash."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
DECLARED = [
    *PROJECT["dependencies"],
    *PROJECT["optional-dependencies"]["postgres"],
    *PROJECT["optional-dependencies"]["dev"],
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked as an installer would, so that nothing of the checkout is in reach."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_installed(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command from the unpacked wheel, in another folder; ``-P`` keeps that folder off the import path."""
    start = "import monitor, monitor.cli; print(monitor.__file__); monitor.cli.main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", start, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_the_wheel_holds_all_that_runs_and_no_more(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in ("monitor", "detectors")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted |= {f"monitor/_{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "alembic").rglob("*.py")}
    wanted |= {"monitor/_default_config.yaml"}
    assert wanted <= names
    outside = {name for name in names - wanted if ".dist-info/" not in name}
    assert {name for name in outside if not name.startswith("monitor/_alembic/")} == set()


def test_the_wheel_carries_its_licence_and_its_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    by_name = {name.split(".dist-info/")[1]: name for name in archive.namelist() if ".dist-info/" in name}
    assert "licenses/LICENSE" in by_name
    assert "monitor = monitor.cli:main" in archive.read(by_name["entry_points.txt"]).decode()


def test_an_installed_wheel_finds_its_own_migrations_from_any_folder(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "store: sqlite:///results.db\n"
        "sources: {main: 'sqlite:///logs.db'}\n"
        "models: {churn: {table: predictions, time: predicted_at}}\n"
    )
    done = run_installed(installed, tmp_path, "db", "upgrade")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed))
    assert (tmp_path / "results.db").is_file()


@pytest.mark.slow
def test_an_installed_wheel_runs_the_demo_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = run_installed(installed, tmp_path, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.rglob("index.html"))


@pytest.mark.parametrize("line", DECLARED)
def test_every_declared_dependency_is_pinned_to_a_version_it_allows(line: str) -> None:
    wanted = Requirement(line)
    assert wanted.specifier.contains(PINS[canonicalize_name(wanted.name)])


def test_every_pin_has_its_hashes_and_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(PINS)
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text
    assert not re.search(r"--(index-url|extra-index-url|find-links|trusted-host)", text)


def test_the_make_targets_that_people_are_told_of_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    told = set(
        re.findall(
            r"(?:^|`|#   |  )make ([a-z][a-z-]*)", (ROOT / "README.md").read_text() + makefile.split("\nPYTHON")[0]
        )
    )
    assert {"demo", "test"} <= told
    assert sorted(name for name in told if not re.search(rf"^{name}:", makefile, flags=re.MULTILINE)) == []


def test_the_checks_of_a_change_are_one_script() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_an_old_python_is_refused_in_plain_words(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = ["make", "-f", str(ROOT / "Makefile"), "install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (tmp_path / "venv").exists()
