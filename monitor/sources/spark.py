"""Spark: tables, folders and queries that a cluster reads, and counts itself.

Windows and baselines are counted by the kernel inside ``mapInArrow``, so that a few profiles come to the driver.
Labels, skew and samples need rows: these are streamed as Arrow batches, one partition at a time and few columns wide.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa

from detectors.profiles import NumericProfile, NumericSpec
from monitor.config import SourceConfig, SparkConfig
from monitor.sources import normal, times
from monitor.sources.arrow_columns import column_info
from monitor.sources.batches import batch_rows
from monitor.sources.errors import PermanentSourceError, SourceError, TransientSourceError, missing
from monitor.sources.shapes import ColumnInfo, Extent, Join, Relation, Scan, Span, Work

_SAMPLE = 2000
_PARTS_PER_CORE = 2
"""Parts that leave a profile each, at most, for each core of the cluster."""
_DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.sql.session.timeZone": "UTC",
}
_BATCH = "spark.sql.execution.arrow.maxRecordsPerBatch"
_INSTALL = "pip install 'ml-monitor[spark]'"


class Spark:
    """A scanner over what a Spark session sees; Spark is started at the first read, and shared by all such sources."""

    pushes_down = False
    exact_keys = True

    def __init__(self, name: str, config: SourceConfig) -> None:
        if config.spark is None:
            raise ValueError("Spark needs its block of the config")
        self.config = config.spark
        self.where = f"source {name!r}"
        self._limit = config.statement_timeout.total_seconds()
        self._tag = f"ml-monitor-{uuid.uuid4().hex}"
        self._session: Any = None
        self._cut = threading.Event()

    # --- the session -----------------------------------------------------------------------------

    @contextmanager
    def _job(self, relation: Relation | None = None) -> Iterator[Any]:
        """The session, with everything that is started in the block under a time limit, and its errors as ours."""
        if self._session is None:
            self._session = _RUNNING.join(self.config, where=self.where)
        context = self._session.sparkContext
        timer = threading.Timer(self._limit, self.cancel)
        timer.daemon = True
        timer.start()
        self._cut.clear()
        try:
            with self._errors(relation):
                context.addJobTag(self._tag)
                yield self._session
        finally:
            timer.cancel()
            with suppress(Exception):
                context.removeJobTag(self._tag)

    @contextmanager
    def _errors(self, relation: Relation | None) -> Iterator[None]:
        from py4j.protocol import Py4JError  # noqa: PLC0415
        from pyspark.errors import PySparkException  # noqa: PLC0415

        try:
            yield
        except SourceError:
            raise
        except (PySparkException, Py4JError, OSError) as error:
            if self._cut.is_set():
                raise TransientSourceError(
                    f"{self.where}: the read ran into its time limit", reason="timeout"
                ) from error
            raise self._translated(error, relation) from error

    def _translated(self, error: BaseException, relation: Relation | None) -> SourceError:
        """Ours for Spark's, by its error class; its own text may quote paths and values, so it stays in the log."""
        text = str(error)
        named = f"{self.where}, {relation.name}" if relation is not None else self.where
        for pattern, reason, told in _PERMANENT:
            if re.search(pattern, text):
                return PermanentSourceError(f"{named}: {told.format(format=self.config.format)}", reason=reason)
        if re.search(_TRANSIENT, text) or isinstance(error, OSError):
            return TransientSourceError(f"{self.where}: Spark cannot answer just now", reason="unreachable")
        kind = type(error).__name__
        return PermanentSourceError(
            f"{named}: the read failed in Spark ({kind}); the log has the details", reason="unknown"
        )

    def cancel(self) -> None:
        """End every job of this source that is under way, from another thread; each read raises."""
        session = self._session
        if session is not None:
            self._cut.set()
            with suppress(Exception):
                session.sparkContext.cancelJobsWithTag(self._tag)

    def close(self) -> None:
        if self._session is not None:
            self._session = None
            _RUNNING.leave()

    # --- frames ----------------------------------------------------------------------------------

    def _frame(self, session: Any, relation: Relation, window: tuple[datetime, datetime] | None) -> Any:
        """The rows of a relation, without a row having been read."""
        if relation.query is not None:
            text = relation.query.strip().rstrip(";")
            bound = zip(("start", "end"), window or (), strict=False)
            return session.sql(text, args={name: value for name, value in bound if re.search(rf":{name}\b", text)})
        frame = self._table(session, relation.table or "")
        return frame.where(relation.where) if relation.where else frame

    def _table(self, session: Any, name: str) -> Any:
        if self.config.path is not None:
            return self._folder(session, name)
        from pyspark.errors import AnalysisException  # noqa: PLC0415

        try:
            return session.table(".".join(_quoted(part) for part in name.split(".")))
        except AnalysisException as error:
            if "NOT_FOUND" not in str(error):
                raise
            schema = name.rpartition(".")[0]
            known: list[str] = []
            with suppress(Exception):
                found = session.catalog.listTables(schema or None)
                known = [f"{schema}.{table.name}" if schema else table.name for table in found]
            raise missing("table", name, among=known, where=self.where) from error

    def _folder(self, session: Any, name: str) -> Any:
        from pyspark.errors import AnalysisException  # noqa: PLC0415

        home, form = (self.config.path or "").rstrip("/"), self.config.format
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise PermanentSourceError(f"{self.where}: {name!r} is outside of the folder", reason="table_missing")
        reader = session.read.format(form)
        if form == "csv":
            reader = reader.option("header", True).option("inferSchema", True)
        for place in (f"{home}/{name}", f"{home}/{name}.{form}"):
            try:
                return reader.load(place)
            except AnalysisException as error:
                if "PATH_NOT_FOUND" not in str(error):
                    raise
        local = Path(home)
        if "://" not in home and not local.is_dir():
            raise PermanentSourceError(
                f"{self.where}: there is no folder {local.name!r}; is `spark.path` right?", reason="file_missing"
            )
        there = [] if "://" in home else [p.stem if p.suffix == f".{form}" else p.name for p in local.iterdir()]
        raise missing("table", name, among=there, where=self.where)

    def _kept(self, session: Any, scan: Scan) -> Any:
        """The rows of the scan's own relation that pass its conditions."""
        from pyspark.sql import functions as f  # noqa: PLC0415

        frame = self._frame(session, scan.relation, scan.window)
        for span in (scan.span, scan.upto):
            if span is not None:
                frame = _within(frame, span)
        if scan.keys is not None:
            frame = frame.where(_is_among(frame, *scan.keys))
        if scan.between is not None:
            name, low, high = scan.between
            frame = frame.where(f.col(_quoted(name)).between(low, high))
        if scan.among is not None:
            mine, other, theirs = scan.among
            keys = self._kept(session, other).select(
                *(f.col(_quoted(n)).alias(f"__among{i}__") for i, n in enumerate(theirs))
            )
            pairs = [(name, f"__among{i}__") for i, name in enumerate(mine)]
            frame = frame.join(keys, _equal(frame, keys, pairs), "left_semi")
        return frame

    def _rows(self, session: Any, scan: Scan) -> Any:
        """The frame of a scan, its columns named as its reads are."""
        from pyspark.sql import functions as f  # noqa: PLC0415

        frame = self._kept(session, scan)
        if scan.dedupe and scan.span:
            frame = _newest(frame, scan.dedupe, scan.span.time.column)
        own = [f.col(_quoted(read.column)).alias(name) for name, read in scan.reads.items() if not read.joined]
        if scan.join is not None:
            left = [f.col(_quoted(name)).alias(f"__left{i}__") for i, name in enumerate(scan.join.left)]
            frame = self._joined(session, frame.select(*own, *left), scan, scan.join)
        else:
            frame = frame.select(*own)
        return frame if scan.limit is None else frame.limit(scan.limit)

    def _joined(self, session: Any, frame: Any, scan: Scan, join: Join) -> Any:
        from pyspark.sql import functions as f  # noqa: PLC0415

        other = self._frame(session, join.relation, scan.window)
        if join.dedupe:
            other = _newest(other, join.right, join.newest_by, keyless=False)
        told = [f.col(_quoted(read.column)).alias(name) for name, read in scan.reads.items() if read.joined]
        right = [f.col(_quoted(name)).alias(f"__right{i}__") for i, name in enumerate(join.right)]
        other = other.select(*told, *right)
        pairs = [(f"__left{i}__", f"__right{i}__") for i in range(len(join.left))]
        return frame.join(other, _equal(frame, other, pairs), "left").select(*(_quoted(name) for name in scan.reads))

    # --- reading ---------------------------------------------------------------------------------

    def scan(self, scan: Scan) -> Iterator[pa.RecordBatch]:
        """Stream the rows of a scan to the driver, one partition at a time."""
        with self._job(scan.relation) as session:
            session.conf.set(_BATCH, batch_rows(len(scan.reads)))
            for row in self._rows(session, scan).mapInArrow(_packed, "rows binary").toLocalIterator():
                yield from (batch for batch in pa.ipc.open_stream(row["rows"]) if batch.num_rows)

    def spread(self, scan: Scan, work: Work) -> Iterator[tuple[str, bytes]]:
        """Do ``work`` to each part of the rows in the cluster; what the parts leave is handed over piece by piece."""
        with self._job(scan.relation) as session:
            session.conf.set(_BATCH, batch_rows(len(scan.reads)))
            parts = self._rows(session, scan).coalesce(_PARTS_PER_CORE * session.sparkContext.defaultParallelism)
            left = parts.mapInArrow(_Worker(work), "key string, blob binary")
            # The exchange counts all parts at once; without it, toLocalIterator would run one after the other.
            for row in left.repartition("key").toLocalIterator():
                yield row["key"], bytes(row["blob"])

    def aggregate(self, scan: Scan, *, time: str) -> Extent:
        """Count the rows with a value in a column, and give the earliest and latest."""
        from pyspark.sql import functions as f  # noqa: PLC0415

        with self._job(scan.relation) as session:
            value = f.col(_quoted(time))
            asked = self._kept(session, scan).agg(f.count(value), f.min(value), f.max(value))
            count, low, high = (column[0].as_py() for column in asked.toArrow().columns)
            return int(count), low, high

    def aggregate_each(self, scan: Scan, spans: Sequence[Span], *, time: str) -> list[Extent]:
        return [self.aggregate(replace(scan, span=span), time=time) for span in spans]

    def duplicates(self, scan: Scan, key: Sequence[str]) -> int:
        """Count the rows of the scan that another row of the same key replaces."""
        from pyspark.sql import functions as f  # noqa: PLC0415

        with self._job(scan.relation) as session:
            columns = [f.col(_quoted(name)) for name in key]
            keyed = reduce(lambda frame, column: frame.where(column.isNotNull()), columns, self._kept(session, scan))
            groups = keyed.groupBy(*columns).agg((f.count(f.lit(1)) - 1).alias("n"))
            return int(groups.agg(f.coalesce(f.sum("n"), f.lit(0))).toArrow().column(0)[0].as_py())

    def tables(self) -> list[str]:
        return []

    def is_small(self, relation: Relation, n_rows: int) -> bool:  # noqa: ARG002
        return False

    def describe(self, relation: Relation, *, window: tuple[datetime, datetime] | None = None) -> list[ColumnInfo]:
        """List the columns of a relation, with what its first rows show."""
        window = window or (datetime(1970, 1, 1, tzinfo=times.UTC), datetime(2100, 1, 1, tzinfo=times.UTC))
        with self._job(relation) as session:
            head = self._frame(session, relation, window).limit(_SAMPLE).toArrow()
        return [column_info(head.column(name), name) for name in head.column_names]

    def count_numbers(self, scan: Scan, specs: Mapping[str, NumericSpec]) -> dict[str, NumericProfile]:  # noqa: ARG002
        raise PermanentSourceError(f"{self.where}: Spark counts with the kernel itself", reason="unsupported")

    def probe(self) -> list[str]:
        """Say which Spark answers, and whether its workers can count; runs one small job."""
        with self._job() as session:
            context = session.sparkContext
            session.range(1).mapInArrow(_Worker(_nothing), "key string, blob binary").toArrow()
            return [f"Spark {session.version}, {context.defaultParallelism} cores; its workers can count"]


class _Running:
    """The one Spark of this process: started for the first source that needs it, and stopped with the last."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._session: Any = None
        self._ours = False
        self._users = 0

    def join(self, config: SparkConfig, *, where: str) -> Any:
        """A session of one's own in the running Spark, which is started if there is none.

        Raises
        ------
        PermanentSourceError
            ``driver``: PySpark or Java is missing; ``spark``: Spark does not start, or another one runs.
        """
        try:
            from pyspark.sql import SparkSession  # noqa: PLC0415
        except ImportError as error:
            told = f"{where}: PySpark is not installed; {_INSTALL}"
            raise PermanentSourceError(told, reason="driver") from error
        warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas", category=FutureWarning)
        with self._guard:
            if self._session is None or _is_stopped(self._session):
                before = SparkSession.getActiveSession()
                self._session = before or _started(SparkSession, config, where=where)
                self._ours, self._users = before is None, 0
            running = self._session.sparkContext.master
            if config.master is not None and config.master != running:
                told = f"{where}: this process runs another Spark already; give all sources the same `spark.master`"
                raise PermanentSourceError(told, reason="spark")
            self._users += 1
            own = self._session.newSession()
        for name, value in {**_DEFAULTS, **_options(config)}.items():
            if own.conf.isModifiable(name):
                own.conf.set(name, value)
        return own

    def leave(self) -> None:
        with self._guard:
            self._users = max(0, self._users - 1)
            if not self._users and self._session is not None:
                if self._ours:
                    with suppress(Exception):
                        self._session.stop()
                self._session = None


_RUNNING = _Running()


def _options(config: SparkConfig) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in config.options.items()
    }


def _started(builder_of: Any, config: SparkConfig, *, where: str) -> Any:
    from py4j.protocol import Py4JError  # noqa: PLC0415
    from pyspark.errors import PySparkException  # noqa: PLC0415

    options = {**_DEFAULTS, **_options(config)}
    if config.master is not None:
        options["spark.master"] = config.master
    is_here = (config.master or "").startswith("local")
    python = options.get("spark.pyspark.python") or (sys.executable if is_here else None)
    if python:  # read from the environment only; else workers are whatever `python3` is
        os.environ.setdefault("PYSPARK_PYTHON", python)
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)  # PySpark's: our errors say it
    builder = builder_of.builder.appName("ml-monitor")
    for name, value in options.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except (PySparkException, Py4JError, OSError, RuntimeError) as error:
        text = str(error)
        if "JAVA_GATEWAY_EXITED" in text or "java" in text.lower().split("\n")[0]:
            told = f"{where}: Spark does not start; is Java 17 or newer installed (JAVA_HOME, or `java` on the path)?"
            raise PermanentSourceError(told, reason="driver") from error
        hint = "`spark.master` takes local[2], yarn, spark://host:7077 or k8s://https://host"
        told = "none is set" if config.master is None else "is it there, and does it take this version of Spark?"
        raise PermanentSourceError(
            f"{where}: Spark does not start on its master: {told}; {hint}", reason="spark"
        ) from error


def _is_stopped(session: Any) -> bool:
    context = session.sparkContext
    try:
        return context._jsc is None or bool(context._jsc.sc().isStopped())
    except Exception:  # noqa: BLE001 - its process is gone
        return True


_PERMANENT = (
    (r"TABLE_OR_VIEW_NOT_FOUND|SCHEMA_NOT_FOUND", "table_missing", "a table that is read does not exist"),
    (r"PATH_NOT_FOUND", "table_missing", "there is nothing at its path"),
    (r"UNABLE_TO_INFER_SCHEMA", "table_missing", "there are no {format} files in it"),
    (r"DATA_SOURCE_NOT_FOUND", "driver", "Spark does not know the format {format!r}; "
     "`spark.options` can bring it, e.g. spark.jars.packages"),
    (r"UNRESOLVED_COLUMN|FIELD_NOT_FOUND", "column_missing", "a column does not exist"),
    (r"PARSE_SYNTAX_ERROR|PARSE_EMPTY|UNBOUND_SQL_PARAMETER|DATATYPE_MISMATCH", "statement",
     "Spark did not accept the statement"),
    (r"TIMESTAMP\(NANOS", "value", "Spark does not read times in nanoseconds; with "
     "`spark.options: {{spark.sql.legacy.parquet.nanosAsLong: true}}` it takes them for numbers"),
    (r"Failed to merge|CANNOT_MERGE_SCHEMA|PARQUET_COLUMN_DATA_TYPE_MISMATCH", "file",
     "its files disagree on a column's type"),
    (r"CANNOT_READ_FILE_FOOTER|is not a Parquet file|NOT_A_PARQUET", "file", "a file does not read as {format}"),
    (r"CAST_INVALID_INPUT|CAST_OVERFLOW|ARITHMETIC_OVERFLOW|DIVIDE_BY_ZERO", "value",
     "a value could not be read as the statement asks"),
    (r"No module named '(monitor|detectors|numpy|pyarrow|pandas|pydantic|sqlalchemy)|ModuleNotFoundError", "driver",
     "the workers' Python lacks this package; install ml-monitor there, or ship it with spark.archives"),
    (r"PYTHON_VERSION_MISMATCH", "driver", "the workers run another Python than this process"),
    (r"AccessControlException|AccessDenied|Permission denied|INSUFFICIENT_PERMISSIONS|Status Code: 403", "permission",
     "it may not be read"),
)  # fmt: skip
"""What Spark's texts are recognized by, the reason, and what is said; the first that fits counts."""
_TRANSIENT = (
    r"FAILED_READ_FILE|FileNotFoundException|ExecutorLost|executor lost|FetchFailed|heartbeat|OutOfMemory|refused|"
    r"timed out|UnknownHost|stopped SparkContext|SparkContext was shut down|Answer from Java side is empty|cancelled"
)


# --- inside the cluster ---------------------------------------------------------------------------


class _Worker:
    """A work as ``mapInArrow`` calls it: record batches of one partition in, keys and blobs out."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for key, blob in self._work(batches):
            yield pa.RecordBatch.from_arrays([pa.array([key]), pa.array([blob], pa.binary())], names=["key", "blob"])


def _packed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Each batch as one value, so that it comes to the driver as it is."""
    for batch in batches:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        yield pa.RecordBatch.from_arrays([pa.array([sink.getvalue().to_pybytes()], pa.binary())], names=["rows"])


def _nothing(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, bytes]]:
    yield "rows", str(sum(batch.num_rows for batch in batches)).encode()


# --- conditions -----------------------------------------------------------------------------------


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _within(frame: Any, span: Span) -> Any:
    """Rows within the span, perhaps a few more: the exact cut is made on the parsed times."""
    from pyspark.sql import functions as f  # noqa: PLC0415

    column = f.col(_quoted(span.time.column))
    low, high = times.bounds(span)
    if low is not None:
        frame = frame.where(column >= _literal(low))
    return frame if high is None else frame.where(column < _literal(high))


def _literal(value: Any) -> Any:
    """A bound as Spark's own literal: Python's naive times would be taken for this machine's."""
    from pyspark.sql import functions as f  # noqa: PLC0415

    if isinstance(value, datetime):
        if value.tzinfo is None:
            return f.expr(f"TIMESTAMP_NTZ '{value.isoformat(sep=' ')}'")
        return f.expr(f"TIMESTAMP '{value.astimezone(times.UTC).replace(tzinfo=None).isoformat(sep=' ')}+00:00'")
    return f.expr(f"DATE '{value.isoformat()}'") if isinstance(value, date) else f.lit(value)


def _is_among(frame: Any, names: Sequence[str], keys: Sequence[tuple[Any, ...]]) -> Any:
    """Whether the key is one of these; a value that does not fit a column's type matches nothing."""
    from pyspark.sql import functions as f  # noqa: PLC0415
    from pyspark.sql.pandas.types import to_arrow_type  # noqa: PLC0415

    types = {field.name: field.dataType for field in frame.schema.fields}
    kinds = [to_arrow_type(types[name]) for name in names]
    fitted = [tuple(normal.fit(value, kind) for value, kind in zip(key, kinds, strict=True)) for key in keys]
    literals = [
        [f.lit(v).cast(types[name]) for v, name in zip(key, names, strict=True)] for key in fitted if None not in key
    ]
    if not literals:
        return f.lit(False)
    columns = [f.col(_quoted(name)) for name in names]
    if len(names) == 1:
        return columns[0].isin([values[0] for values in literals])
    return f.struct(*columns).isin([f.struct(*values) for values in literals])


def _equal(left: Any, right: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    """Keys that agree: as they are where their types do, else as text."""
    types = [{field.name: field.dataType for field in frame.schema.fields} for frame in (left, right)]
    conditions = []
    for a, b in pairs:
        mine, theirs = left[_quoted(a)], right[_quoted(b)]
        if types[0][a] != types[1][b]:
            mine, theirs = mine.cast("string"), theirs.cast("string")
        conditions.append(mine == theirs)
    return reduce(lambda one, other: one & other, conditions)


def _newest(frame: Any, key: Sequence[str], time: str | None, *, keyless: bool = True) -> Any:
    """The latest row of each key; rows without a key are requests of their own and all stay."""
    from pyspark.sql import Window  # noqa: PLC0415
    from pyspark.sql import functions as f  # noqa: PLC0415

    columns = [f.col(_quoted(name)) for name in key]
    order = f.col(_quoted(time)).desc_nulls_last() if time is not None else columns[0]
    ranked = frame.withColumn("__rank__", f.row_number().over(Window.partitionBy(*columns).orderBy(order)))
    keep = f.col("__rank__") == 1
    if keyless:
        keep = reduce(lambda one, column: one | column.isNull(), columns, keep)
    return ranked.where(keep).drop("__rank__")
