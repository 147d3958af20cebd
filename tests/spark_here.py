"""Whether Spark can be tested here, and how it is started: two local processes that find this package."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest

_MISSING = (
    "the extra `spark` is not installed: make test-spark"
    if importlib.util.find_spec("pyspark") is None
    else "Spark needs Java"
    if shutil.which("java") is None
    else ""
)
needs_spark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)
OPTIONS = {
    "spark.sql.shuffle.partitions": 4,
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.executorEnv.PYTHONPATH": str(Path(__file__).parents[1]),
}


def spark_block(path: Path | None = None, **options: Any) -> dict[str, Any]:
    """What stands under `spark:` of a source."""
    block: dict[str, Any] = {"master": "local[2]", "options": OPTIONS | options}
    return block if path is None else block | {"path": str(path)}
