"""Evidently's page is drawn by a child that is quiet, bounded in time, and whose end costs us nothing."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from monitor.reports.evidently_page import _QUIET, _frames, draw


def sample(seed: int, *, shift: float = 0.0, rows: int = 400) -> pa.Table:
    rng = np.random.default_rng(seed)
    country = rng.choice(["DE", "FR"], rows).astype(object)
    country[0] = "Jane Roe"
    country[1:20] = "</script><script>alert(1)</script>"
    return pa.table({"amount": rng.normal(shift, 1, rows), "<b>country</b>": pa.array(country, pa.string())})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evidently") / "page.evidently.html"
    found = draw(sample(1), sample(2, shift=1), ["amount", "<b>country</b>"], out, timeout=timedelta(seconds=100))
    assert found.reason is None
    assert found.path == out
    return out


def test_the_page_names_the_columns_and_no_rare_value(drawn: Path) -> None:
    page = drawn.read_text()
    assert "1. amount" in page
    assert "‹b›country‹/b›" in page or "\\u2039b\\u203acountry" in page
    assert "Jane Roe" not in page
    assert "<script>alert(1)" not in page


def test_nothing_is_left_beside_the_page(drawn: Path) -> None:
    assert [p.name for p in drawn.parent.iterdir()] == [drawn.name]


def test_a_child_that_takes_too_long_is_killed_and_says_why(tmp_path: Path) -> None:
    found = draw(sample(1), sample(2), ["amount"], tmp_path / "x.html", timeout=timedelta(seconds=0.2))
    assert found.path is None
    assert found.reason == "Evidently took longer than 0.2 s"
    assert list(tmp_path.iterdir()) == []


def test_nothing_in_common_is_a_reason_and_no_child_is_started(tmp_path: Path) -> None:
    found = draw(sample(1), sample(2), ["other"], tmp_path / "x.html", timeout=timedelta(seconds=1))
    assert found.reason == "nothing to compare: no rows, or no column that both sides have"


def test_rare_categories_merge_before_the_child_draws(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    paths = []
    for k in (0, 1):
        paths.append(str(tmp_path / f"{k}.parquet"))
        pq.write_table(sample(k), paths[-1])
    frames, numeric, categorical = _frames(paths, min_category_rows=10)
    assert numeric == ["1. amount"]
    assert set(frames[0][categorical[0]]) == {"DE", "FR", "(other)", "‹/script›‹script›alert(1)‹/script›"}
    assert [len(frame) for frame in frames] == [400, 400]


def test_the_service_itself_never_loads_evidently() -> None:
    code = "import sys, monitor.reports.site, monitor.reports.evidently_page; print('evidently' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_the_child_connects_to_nobody(tmp_path: Path) -> None:
    """An audit hook refuses every connection and lookup: the page is drawn all the same, and none was tried."""
    import os

    import pyarrow.parquet as pq

    paths = []
    for k in (0, 1):
        paths.append(str(tmp_path / f"{k}.parquet"))
        pq.write_table(sample(k), paths[-1])
    code = (
        "import sys\n"
        "def watch(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'): open(sys.argv[1], 'a').write(event)\n"
        "sys.addaudithook(watch)\n"
        "from monitor.reports.evidently_page import main\n"
        "main(sys.argv[2:])\n"
    )
    tried = tmp_path / "tried"
    subprocess.run(
        [sys.executable, "-c", code, str(tried), *paths, str(tmp_path / "page.html"), "10"],
        env=os.environ | _QUIET | {"HOME": str(tmp_path)},
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "page.html").is_file()
    assert not tried.exists()
