"""Evidently's page of a few columns as the drill-down: drawn by a child process, within limits, or not at all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd

MEMORY = 6 * 2**30
"""Address space of the child in bytes; numerical libraries reserve far more than they use."""
_SIDE, _RARE = "__side__", "(other)"
_QUIET = {
    "DO_NOT_TRACK": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "EVIDENTLY_DISABLE_TELEMETRY": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
"""Telemetry off by every name it goes by, and one thread for each library."""
_INERT = str.maketrans({"<": "‹", ">": "›", "&": "＆", '"': "”", "'": "’", "`": "’"})


@dataclass(frozen=True)
class Drawn:
    """The page, or why there is none."""

    path: Path | None
    reason: str | None = None


def draw(
    reference: pa.Table | pd.DataFrame,
    current: pa.Table | pd.DataFrame,
    columns: Sequence[str],
    out: Path,
    *,
    timeout: timedelta,
    min_category_rows: int = 10,
) -> Drawn:
    """Compare two samples column by column on a page of Evidently's; never raises for what Evidently does.

    Parameters
    ----------
    reference, current
        Samples of raw rows; they live in a temporary folder while the page is drawn, and no longer.
    columns
        The columns to compare; those that one side lacks are left out.
    timeout
        The child is killed after this time.
    min_category_rows
        Categories with fewer rows on both sides are merged into "(other)".
    """
    import pyarrow.parquet as pq  # noqa: PLC0415 - 5 MB, which a daemon that has drawn nothing does without

    sides = [_table(reference), _table(current)]
    shared = [name for name in columns if all(name in side.column_names for side in sides)]
    if not shared or not all(side.num_rows for side in sides):
        return Drawn(None, "nothing to compare: no rows, or no column that both sides have")
    with tempfile.TemporaryDirectory(prefix="drill-down-") as folder:
        paths = [Path(folder) / f"{name}.parquet" for name in ("reference", "current")]
        for side, path in zip(sides, paths, strict=True):
            pq.write_table(side.select(shared), path)
        page = Path(folder) / "page.html"
        reason = _child(paths, page, home=folder, timeout=timeout, min_category_rows=min_category_rows)
        if reason is not None:
            return Drawn(None, reason)
        return _place(page, out)


def _table(rows: pa.Table | pd.DataFrame) -> pa.Table:
    return rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)


def _place(page: Path, out: Path) -> Drawn:
    from monitor.reports.files import ReportError, write_page  # noqa: PLC0415 - the child need not load it

    try:
        write_page(out.parent.resolve(), out.name, page.read_bytes())
    except ReportError as error:
        return Drawn(None, str(error))
    return Drawn(out)


def _child(paths: Sequence[Path], page: Path, *, home: str, timeout: timedelta, min_category_rows: int) -> str | None:
    """Run the child; return why there is no page.  It gets no variable of ours, thus no secret."""
    package_root = str(Path(__file__).parents[2])
    env = {"PATH": os.environ.get("PATH", ""), "HOME": home, "PYTHONPATH": package_root, "LANG": "C.UTF-8", **_QUIET}
    command = [sys.executable, "-m", __name__, *map(str, paths), str(page), str(min_category_rows)]
    with subprocess.Popen(  # noqa: S603 - our own module, no shell
        command, env=env, cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:  # fmt: skip
        try:
            code = child.wait(timeout.total_seconds())
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return f"Evidently took longer than {timeout.total_seconds():g} s"
    if code != 0 or not page.is_file():
        return f"Evidently ended with code {code}" if code >= 0 else f"Evidently was killed by signal {-code}"
    return None


# --- in the child --------------------------------------------------------------------------------


def _inert(value: object) -> object:
    """Text that cannot end a script or open a tag on a page that we did not write."""
    from monitor.reports.text import clean  # noqa: PLC0415

    return str(clean(value)).translate(_INERT) if isinstance(value, str) else value


def _frames(paths: Sequence[str], *, min_category_rows: int) -> tuple[list[pd.DataFrame], list[str], list[str]]:
    """Both samples with inert names and values, numeric and other columns told apart."""
    import pandas as pd  # noqa: PLC0415

    both = pd.concat([pd.read_parquet(path).assign(**{_SIDE: k}) for k, path in enumerate(paths)], ignore_index=True)
    numeric, categorical = [], []
    for name in [c for c in both.columns if c != _SIDE]:
        column: Any = both[name]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            numeric.append(name)
            both[name] = column.astype("float64")
            continue
        categorical.append(name)
        words = column.map(lambda v: None if v is None or v is pd.NA else _inert(str(v))).astype(object)
        sizes = [words[both[_SIDE] == k].value_counts() for k in (0, 1)]
        rare = {v for side in sizes for v in side.index if all(s.get(v, 0) < min_category_rows for s in sizes)}
        both[name] = words.where(~words.isin(rare), _RARE)
    safe = {name: f"{i + 1}. {_inert(str(name))}"[:80] for i, name in enumerate([*numeric, *categorical])}
    both = both.rename(columns=safe)
    sides = [both[both[_SIDE] == k].drop(columns=_SIDE).reset_index(drop=True) for k in (0, 1)]
    return sides, [safe[n] for n in numeric], [safe[n] for n in categorical]


def main(arguments: Sequence[str]) -> None:
    """``reference.parquet current.parquet page.html min_category_rows``"""
    first, second, page, rows = arguments
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415
    from evidently.presets import DataDriftPreset  # noqa: PLC0415

    frames, numeric, categorical = _frames([first, second], min_category_rows=int(rows))
    shape = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
    sides = [Dataset.from_pandas(frame, data_definition=shape) for frame in frames]
    Report([DataDriftPreset()]).run(current_data=sides[1], reference_data=sides[0]).save_html(page)


if __name__ == "__main__":
    main(sys.argv[1:])
