"""Databases: statements built with SQLAlchemy Core, streamed as Arrow batches, read-only and under time limits."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import URL

from detectors.profiles import NumericProfile, NumericSpec, restrict
from monitor.config import SourceConfig
from monitor.sources import pushdown, times
from monitor.sources.batches import batch_rows
from monitor.sources.errors import PermanentSourceError, SourceError, closest, missing, missing_file, translate
from monitor.sources.lifeline import Lifeline, Lifelines
from monitor.sources.normal import any_column
from monitor.sources.shapes import ColumnInfo, Extent, Kind, Read, Relation, Scan, Span

_PG_BATCH_BYTES = 16 << 20
_SAMPLE = 2000
_SPANS_AT_ONCE = 400
"""Spans that one statement tells apart; it grows with them."""
_ANY_COLON = re.compile(r"(?<![:\w\\]):(?!(?:start|end)\b)(?=\w)")


class Database:
    """A scanner over one database; connections are opened when needed, and one idle one is kept."""

    spread = None

    def __init__(self, name: str, config: SourceConfig, *, adbc: bool = True) -> None:
        if config.url is None:
            raise ValueError("a database needs a url")
        self.url = _parse_url(config.url.get_secret_value(), name)
        self.config = config
        self.dialect_name = self.url.get_backend_name()
        self.where = f"source {name!r}"
        asked = config.push_down
        self.pushes_down = asked == "always" or (asked == "auto" and self.dialect_name in pushdown.WAREHOUSES)
        self.exact_keys = self.dialect_name in ("postgresql", "sqlite")
        self.adbc = adbc and self.dialect_name in ("postgresql", "sqlite")
        self._slots = threading.BoundedSemaphore(max(2, config.max_connections))
        self._lines = self._lifelines()
        self._engine = self._open_engine()
        self.dialect = self._literal_dialect()

    # --- connections -----------------------------------------------------------------------------

    def _open_engine(self) -> sa.Engine:
        """The SQLAlchemy side: reflection, small aggregates, and streaming where ADBC has no driver."""
        timeout = int(self.config.connect_timeout.total_seconds())
        arguments: dict[str, Any] = {}
        url = self.url
        if self.dialect_name == "sqlite":
            url = url.set(database=f"file:{quote(str(self._file()))}", query={"mode": "ro", "uri": "true"})
            arguments = {"timeout": timeout, "check_same_thread": False}
        elif self.dialect_name == "postgresql":
            url = url.set(drivername="postgresql+psycopg") if "+" not in url.drivername else url
            arguments = {"connect_timeout": timeout, "options": self._pg_options(), "application_name": "ml-monitor"}
        try:
            engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
            if engine.driver == "psycopg":
                sa.event.listen(engine, "connect", _forgive_far_times)
            return engine  # noqa: TRY300
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            raise PermanentSourceError(
                f"{self.where}: no driver for {self.dialect_name!r} is installed", reason="driver"
            ) from error

    def _file(self) -> Path:
        database = self.url.database
        if not database or database == ":memory:":
            raise PermanentSourceError(f"{self.where}: a SQLite source needs a file", reason="file_missing")
        return Path(database.removeprefix("file:"))

    def _check_file(self) -> None:
        if self.dialect_name == "sqlite" and not self._file().is_file():
            raise missing_file(self._file(), where=self.where)

    def _pg_options(self) -> str:
        limit = int(self.config.statement_timeout.total_seconds() * 1000)
        settings = {
            "default_transaction_read_only": "on",
            "statement_timeout": limit,
            "lock_timeout": min(limit, 10_000),
            "idle_in_transaction_session_timeout": limit,
            "timezone": "UTC",
        }
        return " ".join(f"-c {key}={value}" for key, value in settings.items())

    def _literal_dialect(self) -> sa.Dialect:
        """A dialect whose literals are those of a server with standard strings (its default since 9.1)."""
        if self.dialect_name == "postgresql":
            from sqlalchemy.dialects.postgresql.base import PGDialect  # noqa: PLC0415

            dialect: sa.Dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]
            dialect._backslash_escapes = False  # type: ignore[attr-defined]
            return dialect
        if self.dialect_name == "sqlite":
            from sqlalchemy.dialects.sqlite.base import SQLiteDialect  # noqa: PLC0415

            return SQLiteDialect(paramstyle="named")
        return self._engine.dialect

    def _connect_adbc(self) -> Any:
        self._check_file()
        if self.dialect_name == "sqlite":
            from adbc_driver_sqlite import dbapi as sqlite  # noqa: PLC0415

            return sqlite.connect(f"file:{quote(str(self._file()))}?mode=ro")
        from adbc_driver_postgresql import dbapi as postgres  # noqa: PLC0415

        query = {
            **self.url.query,
            "options": self._pg_options(),
            "connect_timeout": str(int(self.config.connect_timeout.total_seconds())),
            "application_name": "ml-monitor",
        }
        url = self.url.set(drivername="postgresql", query=query)
        return postgres.connect(url.render_as_string(hide_password=False).replace("+", "%20"))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Let only our own errors out; the driver's own stays as the cause, for the log."""
        try:
            yield
        except SourceError:
            raise
        except (sa.exc.SQLAlchemyError, OSError, pa.ArrowException) as error:
            raise translate(error, where=self.where) from error
        except Exception as error:
            if not type(error).__module__.startswith(("adbc_driver_manager", "psycopg", "sqlite3", "_sqlite3")):
                raise
            raise translate(error, where=self.where) from error

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        self._check_file()
        with self._slots, self._errors(), self._lines.watch(self._engine.connect) as (connection, line), connection:
            if self.dialect_name == "sqlite":
                line.interrupt = connection.connection.dbapi_connection.interrupt  # type: ignore[union-attr]
            with line.within(self._patience):
                yield connection

    def _lifelines(self) -> Lifelines:
        if self.dialect_name == "sqlite":
            return Lifelines(port=None)
        folder = self.url.host or self.url.query.get("host") or "/"
        port = self.url.port or (5432 if self.dialect_name == "postgresql" else None)
        path = folder if isinstance(folder, str) and folder.startswith("/") else None
        return Lifelines(port=port, folder=path, patience=self.config.connect_timeout.total_seconds() + 5)

    @property
    def _patience(self) -> float:
        """Seconds after which a statement is cut: a little more than the server is given."""
        return self.config.statement_timeout.total_seconds() * 1.1 + 1

    def cancel(self) -> None:
        """End every read that is under way, from another thread; each raises as after a lost connection."""
        self._lines.cut()

    # --- statements ------------------------------------------------------------------------------

    def _from(self, relation: Relation, alias: str, columns: Sequence[str], window: Any) -> Any:
        if relation.table is not None:
            schema, _, table = relation.table.rpartition(".")
            if schema and self._has_dotted(relation.table):
                schema, table = "", relation.table
            names: list[Any] = [sa.column(name) for name in dict.fromkeys(columns)]
            return sa.table(_quoted(table), *names, schema=_quoted(schema) if schema else None).alias(alias)
        text = _ANY_COLON.sub(r"\\:", (relation.query or "").strip().rstrip(";"))
        start, end = window or (None, None)
        clause = sa.text(text)
        bound = {name: value for name, value in (("start", start), ("end", end)) if f":{name}" in text}
        clause = clause.bindparams(*(sa.bindparam(k, self._moment(v), self._moment_type()) for k, v in bound.items()))
        return clause.columns(*(sa.column(name) for name in dict.fromkeys(columns))).subquery(alias)

    def _has_dotted(self, name: str) -> bool:
        """Whether the dot is part of the table's name and no schema is meant."""
        if self.dialect_name != "sqlite":
            return False
        with self._connection() as connection:
            return name in sa.inspect(connection).get_table_names()

    def _moment(self, value: datetime | None) -> Any:
        """A query's ``:start`` and ``:end``: timestamps, or in SQLite text that sorts with ISO text."""
        if self.dialect_name != "sqlite":
            return value
        return value.astimezone(times.UTC).strftime("%Y-%m-%d %H:%M:%S") if value is not None else None

    def _moment_type(self) -> Any:
        return sa.Text() if self.dialect_name == "sqlite" else sa.DateTime(timezone=True)

    def _span(self, span: Span, source: Any) -> list[Any]:
        column = source.c[span.time.column]
        low, high = times.bounds(span)
        kind = _bound_type(low if low is not None else high)
        return [
            *([column >= sa.literal(low, kind)] if low is not None else []),
            *([column < sa.literal(high, kind)] if high is not None else []),
        ]

    def _expression(self, read: Read, column: Any, *, careful: bool) -> Any:
        """One column in a type that the driver passes on fast and unchanged."""
        if self.dialect_name == "sqlite":
            return self._sqlite_expression(read, column, careful=careful)
        declared = read.info.type
        if read.how == "number" and read.info.kind == "numeric" and _is_exact(declared):
            return sa.cast(column, sa.Double())
        if (
            read.how in ("text", "whole", "raw", "bool")
            and read.info.kind in ("other", "json")
            and self.dialect_name == "postgresql"
        ):
            return sa.cast(column, sa.Text())
        if read.how in ("text", "whole") and _is_exact(declared):
            return sa.cast(column, sa.Text())
        if read.how == "time" and read.time is not None and read.time.form == "epoch" and _is_exact(declared):
            return sa.cast(column, sa.Double())
        return column

    def _sqlite_expression(self, read: Read, column: Any, *, careful: bool) -> Any:
        """SQLite's columns hold anything: numbers among text are taken, text among numbers is missing."""
        if read.how == "number" and read.info.kind == "numeric":
            if not careful:
                return column
            return sa.case((sa.func.typeof(column).in_(["integer", "real"]), sa.cast(column, sa.REAL())))
        if read.how == "bool":
            return sa.cast(column, sa.Text())
        if read.how == "time" and read.time is not None and read.time.form == "epoch":
            numeric = sa.func.typeof(column).in_(["integer", "real"])
            return sa.case((numeric, sa.cast(column, sa.BigInteger() if read.time.whole else sa.REAL())))
        if not careful and (read.how == "whole" or _holds_text(read.info.type)):
            return column
        return sa.cast(column, sa.Text())

    def _seed(self, read: Read, *, careful: bool) -> Any:
        """The value of a first row that tells ADBC's SQLite driver the type, which it infers from what it meets."""
        if read.how == "number" and read.info.kind == "numeric":
            return sa.literal_column("0.0")
        if read.how == "whole" and not careful:
            return sa.literal_column("0")
        if read.how == "time" and read.time is not None and read.time.form == "epoch":
            return sa.literal_column("0" if read.time.whole else "0.0")
        return sa.literal_column("''")

    def statement(self, scan: Scan, *, careful: bool = False) -> sa.Select[Any]:
        """Build the SELECT of a scan."""
        needed = [read.column for read in scan.reads.values() if not read.joined]
        needed += [s.time.column for s in (scan.span, scan.upto) if s] + list(scan.dedupe)
        needed += list(scan.keys[0]) if scan.keys else []
        needed += list(scan.join.left) if scan.join else []
        needed += list(scan.among[0]) if scan.among else []
        needed += [each[0] for each in (scan.only, scan.between) if each]
        base: Any = self._from(scan.relation, "t", needed, scan.window)
        conditions = [c for s in (scan.span, scan.upto) if s for c in self._span(s, base)]
        if scan.relation.where:
            conditions.append(sa.text(f"({_ANY_COLON.sub(chr(92) * 2 + ':', scan.relation.where)})"))
        if scan.keys:
            conditions.append(_key_condition([base.c[name] for name in scan.keys[0]], scan.keys[1]))
        if scan.among:
            conditions.append(self._among(scan.among, base))
        conditions += _only(scan, base) + _between(scan, base)
        if scan.dedupe and scan.span:
            base, conditions = _newest(base, conditions, scan.dedupe, scan.span.time.column, needed), []
        source: Any = base
        joined: Any = None
        if scan.join:
            if conditions:  # a `where` of the user's must not see the joined table's columns
                kept = sa.select(*(base.c[name] for name in dict.fromkeys(needed))).where(*conditions)
                base, conditions = kept.subquery("b"), []
            source, joined = self._join(scan, base)
        outputs = [
            self._expression(read, (joined if read.joined else base).c[read.column], careful=careful).label(name)
            for name, read in scan.reads.items()
        ]
        query = sa.select(*outputs).select_from(source).where(*conditions)
        return query.limit(scan.limit) if scan.limit is not None else query

    def _join(self, scan: Scan, base: Any) -> tuple[Any, Any]:
        join = scan.join
        if join is None:
            raise ValueError("the scan has no join")
        needed = [read.column for read in scan.reads.values() if read.joined] + list(join.right)
        needed += [join.newest_by] if join.newest_by else []
        joined: Any = self._from(join.relation, "f", needed, scan.window)
        if join.dedupe:
            joined = _newest(joined, [], join.right, join.newest_by, needed, alias="f1")
        on = sa.and_(*(base.c[a] == joined.c[b] for a, b in zip(join.left, join.right, strict=True)))
        return base.outerjoin(joined, on), joined

    def _among(self, among: tuple[tuple[str, ...], Scan, tuple[str, ...]], outer: Any) -> Any:
        """Rows whose key is a key of the other scan's rows: as IN, which every planner hashes, indexed or not."""
        mine, other, theirs = among
        names = [*theirs, *([other.span.time.column] if other.span else [])]
        inner = self._from(other.relation, "w", names, other.window)
        conditions = self._span(other.span, inner) if other.span else []
        if other.relation.where:
            conditions.append(sa.text(f"({_ANY_COLON.sub(chr(92) * 2 + ':', other.relation.where)})"))
        keys = sa.select(*(inner.c[name] for name in theirs)).select_from(inner).where(*conditions)
        if len(mine) == 1:
            return outer.c[mine[0]].in_(keys)
        return sa.tuple_(*(outer.c[name] for name in mine)).in_(keys)

    def compile(self, query: Any) -> str:
        """Render with all values as literals of the dialect, for drivers that stream only plain text."""
        return str(query.compile(dialect=self.dialect, compile_kwargs={"literal_binds": True}))

    # --- reading ---------------------------------------------------------------------------------

    def scan(self, scan: Scan) -> Iterator[pa.RecordBatch]:
        """Stream the rows of a scan; a SQLite column that turns out to hold text among numbers is read with care."""
        given = 0
        try:
            for batch in self._stream(scan, careful=False):
                given += batch.num_rows
                yield batch
        except _MixedTypes:
            skip = given
            for batch in self._stream(scan, careful=True):
                kept = batch.slice(min(skip, batch.num_rows))
                skip -= batch.num_rows - kept.num_rows
                if kept.num_rows:
                    yield kept

    def _stream(self, scan: Scan, *, careful: bool) -> Iterator[pa.RecordBatch]:
        query: Any = self.statement(scan, careful=careful)
        if not self.adbc:
            yield from self._stream_rows(query, scan)
            return
        if self.dialect_name == "sqlite":
            seeds: list[Any] = [self._seed(read, careful=careful).label(name) for name, read in scan.reads.items()]
            rows: Any = query if scan.limit is None else sa.select(query.subquery("q"))
            query = sa.union_all(sa.select(*seeds), rows)
        yield from self._stream_adbc(self.compile(query), scan, careful=careful)

    def _stream_adbc(self, text: str, scan: Scan, *, careful: bool) -> Iterator[pa.RecordBatch]:
        seeded = self.dialect_name == "sqlite"
        kinds = {
            name: pa.types.is_floating if read.how == "number" else pa.types.is_integer
            for name, read in scan.reads.items()
            if seeded
            and read.info.kind == "numeric"
            and (read.how == "number" or (read.how == "whole" and not careful))
        }
        with self._slots, self._errors(), self._lines.watch(self._connect_adbc) as (connection, line):
            try:
                cursor = connection.cursor()
                key = "adbc.sqlite.query.batch_rows" if seeded else "adbc.postgresql.batch_size_hint_bytes"
                cursor.adbc_statement.set_options(
                    **{key: str(batch_rows(len(scan.reads)) if seeded else _PG_BATCH_BYTES)}
                )
                if seeded:
                    line.interrupt = cursor.adbc_cancel
                with self._deadline(cursor, line):
                    cursor.execute(text)
                    reader = cursor.fetch_record_batch()
                    if any(not is_kind(reader.schema.field(name).type) for name, is_kind in kinds.items()):
                        raise _MixedTypes
                    yield from _batches(reader, skip=1 if seeded else 0)
                cursor.close()
            finally:
                with suppress(Exception):
                    connection.close()

    @contextmanager
    def _deadline(self, cursor: Any, line: Lifeline) -> Iterator[None]:
        """Cancel the statement when its time is up, also where the server has no limit of its own; then cut."""
        timer = threading.Timer(self._patience, cursor.adbc_cancel)
        timer.daemon = True
        timer.start()
        try:
            with line.within(self._patience + 2):
                yield
        finally:
            timer.cancel()

    def count_numbers(self, scan: Scan, specs: Mapping[str, NumericSpec]) -> dict[str, NumericProfile]:
        """Count the numeric reads of a scan inside the database, a statement a column, in one transaction.

        Over the edges of each spec, or some of them (see :mod:`monitor.sources.pushdown`); nothing but counts is
        fetched.  The scan's time bounds must be exact in the column's own form.
        """
        rows = self._as_doubles(scan, list(specs)).subquery("w")
        found: dict[str, NumericProfile] = {}
        with self._connection() as connection:
            if self.dialect_name == "postgresql":
                connection.exec_driver_sql(
                    "SET LOCAL jit = off"
                )  # compiling a long expression costs more than it saves
            for name, spec in specs.items():
                kept = pushdown.counted_over(self.dialect_name, spec)
                query = pushdown.statement(self.dialect_name, rows, name, restrict(spec, kept))
                found[name] = pushdown.profile(spec, connection.execute(query).all(), kept=kept)
        return found

    def _as_doubles(self, scan: Scan, names: Sequence[str]) -> Any:
        reads = {name: scan.reads[name] for name in names}
        base = self.statement(replace(scan, reads=reads), careful=True).subquery("s")
        return sa.select(*(sa.cast(base.c[name], sa.Double()).label(name) for name in names))

    def _stream_rows(self, query: Any, scan: Scan) -> Iterator[pa.RecordBatch]:
        """A server-side cursor where there is no ADBC driver: rows, turned into Arrow batch by batch."""
        names = list(scan.reads)
        with self._connection() as connection:
            result = connection.execution_options(stream_results=True, yield_per=batch_rows(len(scan.reads))).execute(
                query
            )
            for rows in result.partitions():
                cells: Any = zip(*rows, strict=True)
                columns = [any_column(list(values)) for values in cells]
                yield pa.RecordBatch.from_arrays(columns, names=names)

    def aggregate(self, scan: Scan, *, time: str) -> Extent:
        """Count the rows with a value in a column, and give the earliest and latest, as the database orders them."""
        base = self._aggregated(scan, time)
        column = base.c[time]
        query = sa.select(sa.func.count(column), sa.func.min(column), sa.func.max(column))
        query = query.select_from(base).where(*self._conditions(scan, base))
        with self._connection() as connection:
            row = connection.exec_driver_sql(self._driver_text(query)).one()
            return int(row[0]), row[1], row[2]

    def aggregate_each(self, scan: Scan, spans: Sequence[Span], *, time: str) -> list[Extent]:
        """The same within each span, of many in one statement: a row's span is found by a tree of comparisons.

        Where spans as the column tells time overlap, each is asked for by itself.
        """
        ends = [end for span in spans for end in times.bounds(span)]
        if len(spans) == 1 or not _in_order(ends):
            return [self.aggregate(replace(scan, span=span), time=time) for span in spans]
        told: list[Extent] = []
        for at in range(0, len(spans), _SPANS_AT_ONCE):
            told += self._aggregate_some(scan, spans[at : at + _SPANS_AT_ONCE], time=time)
        return told

    def _aggregate_some(self, scan: Scan, spans: Sequence[Span], *, time: str) -> list[Extent]:
        form = spans[0].time
        base = self._aggregated(scan, time, form.column)
        whole = replace(scan, span=Span(form, spans[0].start, spans[-1].end))
        starts = [times.bounds(span)[0] for span in spans]
        cuts = sorted({*starts, *(times.bounds(span)[1] for span in spans)})
        cell = pushdown.place(base.c[form.column], [sa.literal(cut, _bound_type(cut)) for cut in cuts])
        rows = sa.select(cell.label("cell"), base.c[time].label("v")).select_from(base)
        one = rows.where(*self._conditions(whole, base)).subquery("one")
        query = sa.select(one.c.cell, sa.func.count(one.c.v), sa.func.min(one.c.v), sa.func.max(one.c.v))
        with self._connection() as connection:
            lines = connection.exec_driver_sql(self._driver_text(query.group_by(one.c.cell))).all()
        found = {int(row[0]): (int(row[1]), row[2], row[3]) for row in lines}
        return [found.get(cuts.index(start) + 1, (0, None, None)) for start in starts]

    def _aggregated(self, scan: Scan, *columns: str) -> Any:
        """What is aggregated, with the columns that conditions are on."""
        names = [*columns, *([scan.only[0]] if scan.only else []), *(scan.among[0] if scan.among else [])]
        names += [s.time.column for s in (scan.span, scan.upto) if s]
        return self._from(scan.relation, "t", names, scan.window)

    def _conditions(self, scan: Scan, base: Any) -> list[Any]:
        found = [c for s in (scan.span, scan.upto) if s for c in self._span(s, base)] + _only(scan, base)
        if scan.relation.where:
            found.append(sa.text(f"({_ANY_COLON.sub(chr(92) * 2 + ':', scan.relation.where)})"))
        if scan.among:
            found.append(self._among(scan.among, base))
        return found

    def duplicates(self, scan: Scan, key: Sequence[str]) -> int:
        """Count the rows of the scan that another row of the same key replaces."""
        base = self._aggregated(scan, *key)
        conditions = self._conditions(scan, base)
        columns = [base.c[name] for name in key]
        conditions += [column.is_not(None) for column in columns]
        groups = sa.select((sa.func.count() - 1).label("n")).where(*conditions).group_by(*columns)
        groups = groups.having(sa.func.count() > 1)
        query = sa.select(sa.func.coalesce(sa.func.sum(groups.subquery("g").c.n), 0))
        with self._connection() as connection:
            return int(connection.exec_driver_sql(self._driver_text(query)).scalar_one())

    def tables(self) -> list[str]:
        with self._connection() as connection:
            inspector = sa.inspect(connection)
            return sorted([*inspector.get_table_names(), *inspector.get_view_names()])

    def is_small(self, relation: Relation, n_rows: int) -> bool:
        """Whether a table has no more rows than this, counting no further; of queries and other dialects, no."""
        if relation.table is None or not self.adbc:
            return False
        some: Any = sa.select(sa.literal_column("1").label("one")).select_from(self._from(relation, "t", [], None))
        query = sa.select(sa.func.count()).select_from(some.limit(n_rows + 1).subquery("s"))
        with self._connection() as connection:
            return int(connection.exec_driver_sql(self._driver_text(query)).scalar_one()) <= n_rows

    def _driver_text(self, query: Any) -> str:
        text = self.compile(query)
        return text.replace("%", "%%") if self.adbc and self.dialect_name == "postgresql" else text

    # --- looking around --------------------------------------------------------------------------

    def describe(self, relation: Relation, *, window: tuple[datetime, datetime] | None = None) -> list[ColumnInfo]:
        """List the columns of a relation, with what its first rows show.

        Raises
        ------
        PermanentSourceError
            ``table_missing`` with the closest names, when there is no such table.
        """
        if relation.table is not None:
            self._check_table(relation.table)
        window = window or (datetime(1970, 1, 1, tzinfo=times.UTC), datetime(2100, 1, 1, tzinfo=times.UTC))
        base = self._from(relation, "t", [], window)
        query = sa.select(sa.text("*")).select_from(base).limit(_SAMPLE)
        with self._connection() as connection:
            result = connection.exec_driver_sql(self._driver_text(query))
            names = list(result.keys())
            rows = result.fetchall()
            declared = self._declared(connection, relation, result)
            unique = self._unique(connection, relation)
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
        return [
            _column_info(name, declared.get(name, ""), list(values), unique=name in unique)
            for name, values in zip(names, columns, strict=True)
        ]

    def _check_table(self, table: str) -> None:
        with self._connection() as connection:
            inspector = sa.inspect(connection)
            schema, _, name = table.rpartition(".")
            here = [*inspector.get_table_names(), *inspector.get_view_names()]
            if table in here:
                return
            if schema:
                known = inspector.get_schema_names()
                if schema in known:
                    here = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
                    if name in here:
                        return
                    here = [f"{schema}.{n}" for n in here]
                else:
                    here = [*here, *(f"{near}.{name}" for near in closest(schema, known))]
            try:
                found = inspector.has_table(name, schema=schema or None)
            except sa.exc.SQLAlchemyError:
                found = False
            if not found:
                raise missing("table", table, among=here or _elsewhere(inspector, name), where=self.where)

    def _declared(self, connection: sa.Connection, relation: Relation, result: Any) -> dict[str, str]:
        """Column types by name: from the catalogue for tables, from the result's description for queries."""
        if relation.table is not None:
            inspector = sa.inspect(connection)
            schema, _, name = relation.table.rpartition(".")
            for where, table in ((None, relation.table), (schema or None, name)):
                with suppress(sa.exc.SQLAlchemyError):
                    return {c["name"]: _type_name(c["type"]) for c in inspector.get_columns(table, schema=where)}
            return {}
        if self.dialect_name == "postgresql":
            codes = {d[0]: d[1] for d in result.context.cursor.description or []} if result.context.cursor else {}
            return self._pg_types(connection, codes)
        return {}

    def _pg_types(self, connection: sa.Connection, codes: dict[str, int]) -> dict[str, str]:
        if not codes:
            return {}
        listed = ",".join(str(int(code)) for code in set(codes.values()))
        rows = connection.exec_driver_sql(f"SELECT oid, format_type(oid, NULL) FROM pg_type WHERE oid IN ({listed})")  # noqa: S608
        by_code = {int(row[0]): str(row[1]).upper() for row in rows}
        return {name: by_code.get(int(code), "") for name, code in codes.items()}

    def _unique(self, connection: sa.Connection, relation: Relation) -> set[str]:
        """Columns that are unique by a constraint of their own."""
        if relation.table is None:
            return set()
        schema, _, name = relation.table.rpartition(".")
        inspector = sa.inspect(connection)
        with suppress(sa.exc.SQLAlchemyError, NotImplementedError):
            groups = [inspector.get_pk_constraint(name, schema=schema or None)["constrained_columns"]]
            groups += [c["column_names"] for c in inspector.get_unique_constraints(name, schema=schema or None)]
            return {group[0] for group in groups if len(group) == 1 and group[0]}
        return set()

    def probe(self) -> list[str]:
        """Say which driver and version answer, and whether the role could write; connects once."""
        driver = "ADBC" if self.adbc else self._engine.driver
        with self._connection() as connection:
            version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
            notes = [f"{self.dialect_name} {version} through {driver}"]
            if self.dialect_name == "postgresql":
                query = (
                    "SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), EXISTS ("
                    "SELECT 1 FROM information_schema.role_table_grants WHERE grantee IN (current_user, 'PUBLIC') AND "
                    "privilege_type IN ('INSERT', 'UPDATE', 'DELETE') AND table_schema NOT IN "
                    "('pg_catalog', 'information_schema'))"
                )
                superuser, writes = connection.exec_driver_sql(query).one()
                if superuser or writes:
                    rights = "is a superuser" if superuser else "may write to tables"
                    notes.append(f"the role {rights}; give the monitor one that may only SELECT")
            return notes

    def close(self) -> None:
        self._engine.dispose()


def _elsewhere(inspector: sa.Inspector, table: str) -> list[str]:
    """The same name in the other schemas, and all that is there if it is in none: for the hint."""
    named = [(schema, name) for schema in inspector.get_schema_names() if schema not in _SYSTEM
             for name in (*inspector.get_table_names(schema), *inspector.get_view_names(schema))]  # fmt: skip
    same = [f"{schema}.{name}" for schema, name in named if name == table]
    return same or [f"{schema}.{name}" for schema, name in named]


_SYSTEM = frozenset({"information_schema", "pg_catalog", "mysql", "performance_schema", "sys"})


def _forgive_far_times(connection: Any, _record: Any) -> None:
    """Read times that Python cannot hold (infinity, the year 10000) as missing, where psycopg would refuse the row."""
    import psycopg  # noqa: PLC0415
    from psycopg.types import datetime as loaders  # noqa: PLC0415

    for name, loader in (
        ("timestamptz", loaders.TimestamptzLoader),
        ("timestamp", loaders.TimestampLoader),
        ("date", loaders.DateLoader),
    ):

        class Forgiving(loader):  # type: ignore[misc, valid-type]
            def load(self, data: Any) -> Any:
                try:
                    return super().load(data)
                except psycopg.DataError:
                    return None

        connection.adapters.register_loader(name, Forgiving)


class _MixedTypes(Exception):  # noqa: N818 - a signal to start again, never seen outside
    """SQLite held text in a column of numbers."""


def _batches(reader: pa.RecordBatchReader, *, skip: int) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (OSError, pa.ArrowInvalid) as error:
            if "Type mismatch" in str(error):
                raise _MixedTypes from error
            raise
        batch, skip = batch.slice(min(skip, batch.num_rows)), max(0, skip - batch.num_rows)
        if batch.num_rows:
            yield batch


def _quoted(name: str) -> Any:
    return sa.sql.quoted_name(name, quote=True)


def _parse_url(text: str, name: str) -> URL:
    try:
        return sa.make_url(text)
    except sa.exc.ArgumentError:
        raise PermanentSourceError(f"source {name!r}: the url does not read as one", reason="url") from None


def _bound_type(value: Any) -> Any:
    if isinstance(value, datetime):
        return sa.DateTime(timezone=value.tzinfo is not None)
    if isinstance(value, date):
        return sa.Date()
    if isinstance(value, int):
        return sa.BigInteger()
    return sa.Float() if isinstance(value, float) else sa.Text()


def _is_exact(declared: str) -> bool:
    return declared.upper().startswith(("NUMERIC", "DECIMAL", "NUMBER", "MONEY"))


def _holds_text(declared: str) -> bool:
    """Whether SQLite turns whatever is stored in such a column into text (not blobs): it needs no cast then."""
    return "INT" not in declared and re.search(r"CHAR|CLOB|TEXT", declared) is not None


def _key_condition(columns: Sequence[Any], keys: Sequence[tuple[Any, ...]]) -> Any:
    """Match any of the keys; spelled without row values, which not every database knows."""
    if len(columns) == 1:
        return columns[0].in_([_literal(key[0]) for key in keys])
    return sa.or_(*(sa.and_(*(c == _literal(v) for c, v in zip(columns, key, strict=True))) for key in keys))


def _only(scan: Scan, source: Any) -> list[Any]:
    if scan.only is None:
        return []
    name, values = scan.only
    return [_key_condition([source.c[name]], [(value,) for value in values])]


def _between(scan: Scan, source: Any) -> list[Any]:
    if scan.between is None:
        return []
    name, low, high = scan.between
    return [source.c[name] >= sa.literal(low, sa.BigInteger()), source.c[name] <= sa.literal(high, sa.BigInteger())]


def _literal(value: Any) -> Any:
    if isinstance(value, datetime):
        return sa.literal(value, sa.DateTime(timezone=value.tzinfo is not None))
    if isinstance(value, Decimal):
        return sa.literal(value, sa.Numeric())
    return sa.literal(value)


def _newest(  # noqa: PLR0917
    base: Any, conditions: Sequence[Any], key: Sequence[str], time: str | None, names: Sequence[str], alias: str = "d"
) -> Any:
    """Keep the latest row of each key; rows without a key are requests of their own and all stay."""
    wanted = [base.c[name] for name in dict.fromkeys([*names, *key])]
    order = [base.c[time].desc()] if time else [base.c[name] for name in key]
    rank = sa.func.row_number().over(partition_by=[base.c[name] for name in key], order_by=order).label("monitor_rank")
    inner = sa.select(*wanted, rank).where(*conditions).subquery("r")
    keyless = sa.or_(*(inner.c[name].is_(None) for name in key))
    return (
        sa.select(*(c for c in inner.c if c.key != "monitor_rank"))
        .where(sa.or_(inner.c.monitor_rank == 1, keyless))
        .subquery(alias)
    )


def _in_order(ends: Sequence[Any]) -> bool:
    """Whether starts and ends of spans, one after the other, are all there and never go back."""
    return None not in ends and all(one <= other for one, other in pairwise(ends))


def _type_name(kind: Any) -> str:
    try:
        return str(kind)
    except sa.exc.CompileError:
        return type(kind).__name__.upper()


def _column_info(name: str, declared: str, values: list[Any], *, unique: bool) -> ColumnInfo:
    present = [v for v in values if v is not None]
    kind, type_name = _kind(declared.upper(), present)
    spelled = {str(v) for v in present}
    numbers = [v for v in present if isinstance(v, (int, float, Decimal)) and not isinstance(v, bool)]
    whole = bool(numbers) and all(_whole(v) for v in numbers)
    kept = tuple(float(v) if isinstance(v, Decimal) else v for v in present[:500])
    return ColumnInfo(
        name, type_name, kind, unique=unique, n_sampled=len(present), n_distinct=len(spelled), whole=whole, values=kept
    )


def _whole(value: Any) -> bool:
    try:
        return bool(value == int(value))
    except (ValueError, OverflowError):
        return False


def _kind(declared: str, present: Sequence[Any]) -> tuple[Kind, str]:  # noqa: PLR0911
    """Tell a column's kind by its declared type, and by its values where the type says little (SQLite, queries)."""
    numbers = bool(present) and all(isinstance(v, (int, float, Decimal)) for v in present)
    texts = bool(present) and all(isinstance(v, str) for v in present)
    if (present and all(isinstance(v, bool) for v in present)) or "BOOL" in declared:
        return "bool", declared or "boolean"
    if declared.startswith(("TIMESTAMP", "DATETIME")):
        if texts or numbers:
            return "time", f"text in {declared}" if texts else f"number in {declared}"
        zone = any(getattr(v, "tzinfo", None) is not None for v in present) or "WITH TIME ZONE" in declared
        return "time", "timestamp with tz" if zone else "timestamp"
    if declared == "DATE":
        return "date", "text in DATE" if texts else "date"
    if "JSON" in declared:
        return "json", declared
    if re.match(r"(TINY|SMALL|MEDIUM|BIG)?INT|NUMERIC|DECIMAL|REAL|DOUBLE|FLOAT|NUMBER|SERIAL", declared):
        if texts and declared.startswith(("INT", "NUMERIC")) and present:
            return "text", declared
        return "numeric", declared
    if re.search(r"CHAR|TEXT|STRING|ENUM|UUID|CLOB|DOMAIN", declared):
        return ("other" if "UUID" in declared else "text"), declared
    return _kind_of_values(declared, present, numbers=numbers, texts=texts)


def _kind_of_values(declared: str, present: Sequence[Any], *, numbers: bool, texts: bool) -> tuple[Kind, str]:  # noqa: PLR0911
    if not present:
        return ("other", declared) if declared and declared != "NULL" else ("numeric", "untyped")
    if numbers:
        return "numeric", declared or "number"
    if texts:
        return "text", declared or "text"
    first = present[0]
    if isinstance(first, datetime):
        return "time", "timestamp with tz" if first.tzinfo else "timestamp"
    if isinstance(first, date):
        return "date", "date"
    if isinstance(first, (dict, list)):
        return "json", declared or "json"
    mixed = all(isinstance(v, (int, float, str)) for v in present)
    return ("text", declared or "mixed") if mixed else ("other", declared or type(first).__name__)
