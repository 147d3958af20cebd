"""Folders of Parquet or CSV files: a subfolder, a file or a glob is a table."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from detectors.profiles import NumericProfile, NumericSpec
from monitor.config import SourceConfig
from monitor.memory import release
from monitor.sources import keys, normal, row_groups, times
from monitor.sources.arrow_columns import column_info
from monitor.sources.errors import PermanentSourceError, TransientSourceError, missing, missing_file
from monitor.sources.shapes import ColumnInfo, Extent, Relation, Scan, Span

_SAMPLE = 2000
_KEPT = 500
"""Values of a column that stay at hand; of very many columns, a tenth."""


class Folder:
    """A scanner over files; a dataset is looked up anew at each read, so that new files are seen."""

    def __init__(self, name: str, config: SourceConfig) -> None:
        if config.path is None:
            raise ValueError("a folder needs a path")
        self.path = config.path
        self.format = config.format
        self.where = f"source {name!r}"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except pa.ArrowException as error:
            raise PermanentSourceError(f"{self.where}: a file does not read as {self.format}", reason="file") from error
        except FileNotFoundError as error:
            raise TransientSourceError(f"{self.where}: a file vanished while it was read", reason="file") from error
        except PermissionError as error:
            raise PermanentSourceError(f"{self.where}: a file may not be read", reason="permission") from error
        except OSError as error:
            raise TransientSourceError(f"{self.where}: a file could not be read", reason="io") from error

    def _dataset(self, relation: Relation) -> ds.Dataset:
        if relation.table is None:
            raise PermanentSourceError(f"{self.where}: a folder of files takes no `query`", reason="unsupported")
        if relation.where is not None:
            raise PermanentSourceError(f"{self.where}: a folder of files takes no `where`", reason="unsupported")
        files = self._files(relation.table)
        with self._errors():
            dataset = ds.dataset([str(f) for f in files], format=self.format)
            schema = pa.unify_schemas(
                [f.physical_schema for f in dataset.get_fragments()], promote_options="permissive"
            )
            return dataset.replace_schema(schema)

    def _coded(self, dataset: ds.Dataset, scan: Scan) -> ds.Dataset:
        """The same dataset, with text that is only counted as dictionary codes."""
        form = row_groups.parquet_format(scan, dataset.schema) if self.format == "parquet" else None
        names = form.read_options.dictionary_columns if form is not None else ()
        if form is None or not names:
            return dataset
        coded = [field.with_type(normal.STRINGS) if field.name in names else field for field in dataset.schema]
        with self._errors():
            return ds.dataset(dataset.files, format=form, schema=pa.schema(coded))

    def _files(self, table: str) -> list[Path]:
        if not self.path.exists():
            raise missing_file(self.path, where=self.where)
        if self.path.is_file():
            hint = "give the folder it lies in, or for a SQLite database its URL: sqlite:///FILE"
            raise PermanentSourceError(f"{self.where}: {self.path.name!r} is a file; {hint}", reason="file_missing")
        if ".." in Path(table).parts or Path(table).is_absolute():
            raise PermanentSourceError(f"{self.where}: {table!r} is outside of the folder", reason="table_missing")
        ending = f".{self.format}"
        exact = self.path / table
        if exact.is_dir():
            found = [f for f in exact.rglob(f"*{ending}") if not f.name.startswith((".", "_"))]
        elif exact.is_file():
            found = [exact]
        else:
            found = [f for f in self.path.glob(table) if f.is_file()] or list(self.path.glob(f"{table}{ending}"))
        if not found:
            names = [p.stem if p.suffix == ending else p.name for p in self.path.iterdir()]
            raise missing("table", table, among=names, where=self.where)
        return sorted(found)

    def describe(self, relation: Relation, *, window: tuple[datetime, datetime] | None = None) -> list[ColumnInfo]:  # noqa: ARG002
        dataset = self._dataset(relation)
        with self._errors():
            head = row_groups.head(dataset, _SAMPLE)
        wide = head.num_columns > row_groups.WIDE
        n_kept = _KEPT // 10 if wide else _KEPT
        found = [column_info(head.column(name), name, n_kept=n_kept) for name in head.column_names]
        if wide:
            del head
            release()
        return found

    def _filter(self, scan: Scan, schema: pa.Schema) -> Any:
        """A filter on time that row groups' statistics can answer; the exact cut is made on the parsed times."""
        parts = []
        for span in (scan.span, scan.upto):
            if span is not None:
                parts += _bounds(span, schema.field(span.time.column).type)
        if scan.keys is not None:
            names, wanted = scan.keys
            for at, name in enumerate(names):
                kind = schema.field(name).type
                values = pa.array([normal.fit(key[at], kind) for key in wanted])
                parts.append(ds.field(name).isin(values.cast(kind)))
        if scan.between is not None:
            name, low, high = scan.between
            parts += [ds.field(name) >= low, ds.field(name) <= high]
        if scan.only is not None:
            name, picked = scan.only
            kind = schema.field(name).type
            plain = kind.value_type if pa.types.is_dictionary(kind) else kind
            values = pa.array([normal.fit(value, plain) for value in picked]).cast(plain)
            parts.append(ds.field(name).cast(plain).isin(values))
        answer = None
        for part in parts:
            answer = part if answer is None else answer & part
        return answer

    def scan(self, scan: Scan) -> Iterator[pa.RecordBatch]:
        """Stream the rows of a scan; a joined table is looked up for each batch's keys."""
        dataset = self._dataset(scan.relation)
        keep = self._last_rows(dataset, scan) if scan.dedupe else None
        columns = {name: read.column for name, read in scan.reads.items() if not read.joined}
        if scan.join:
            columns |= {f"__left{i}__": column for i, column in enumerate(scan.join.left)}
        condition = self._filter(scan, dataset.schema)
        for batch in self._raw(self._coded(dataset, scan), columns, condition, keep=keep, bounds=_all_bounds(scan)):
            cut = batch.slice(0, scan.limit) if scan.limit is not None else batch
            yield self._joined(cut, scan) if scan.join else cut

    def _raw(
        self,
        dataset: ds.Dataset,
        columns: dict[str, str],
        condition: Any,
        *,
        keep: Any = None,
        bounds: Sequence[row_groups.Bounds] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        seen = 0
        with self._errors():
            for batch in row_groups.stream(dataset, columns, condition, bounds=bounds):
                size = batch.num_rows
                if keep is not None:
                    batch = batch.filter(pa.array(keep[seen : seen + size]))  # noqa: PLW2901
                seen += size
                if batch.num_rows:
                    yield batch

    def _last_rows(self, dataset: ds.Dataset, scan: Scan) -> Any:
        """Mark the latest row of each key among the rows the filter passes; keyless rows all stay.

        ``None`` where no key occurs twice.
        """
        if scan.span is None:
            raise ValueError("without a time there is no last row")
        columns = {f"__key{i}__": name for i, name in enumerate(scan.dedupe)}
        columns[scan.span.time.column] = scan.span.time.column
        parts = list(self._raw(dataset, columns, self._filter(scan, dataset.schema), bounds=_all_bounds(scan)))
        if not parts:
            return None
        table = pa.Table.from_batches(parts)
        key = keys.joined([table.column(f"__key{i}__") for i in range(len(scan.dedupe))])
        several = keys.repeated(key)
        if several is None:
            return None
        moment = times.to_utc(normal.storage(table.column(scan.span.time.column)), scan.span.time)
        rows = pa.table({"key": key, "time": moment.cast(pa.int64()), "row": pa.array(np.arange(len(key)))})
        rows = rows.filter(pa.array(several)).sort_by([(name, "ascending") for name in ("key", "time", "row")])
        ordered = rows.column("key").combine_chunks()
        last = pa.concat_arrays([pc.not_equal(ordered[1:], ordered[:-1]), pa.array([True])])
        keep = ~several
        keep[rows.column("row").to_numpy()] = last.to_numpy(zero_copy_only=False)
        return keep

    def _joined(self, batch: pa.RecordBatch, scan: Scan) -> pa.RecordBatch:
        join = scan.join
        if join is None:
            return batch
        names = {name: read.column for name, read in scan.reads.items() if read.joined}
        left = [normal.whole_text(normal.storage(batch.column(f"__left{i}__"))) for i in range(len(join.left))]
        dataset = self._dataset(join.relation)
        columns = names | {f"__right{i}__": column for i, column in enumerate(join.right)}
        entities = list(zip(*(part.to_pylist() for part in left), strict=True))
        probe = replace(
            scan, relation=join.relation, span=None, upto=None, keys=(join.right, list(dict.fromkeys(entities)))
        )
        parts = list(self._raw(dataset, columns, self._filter(probe, dataset.schema)))
        outputs = {n: normal.storage(batch.column(n)) for n in scan.reads if n in batch.schema.names}
        if parts:
            table = pa.Table.from_batches(parts)
            right = [normal.whole_text(normal.storage(table.column(f"__right{i}__"))) for i in range(len(join.right))]
            places = {key: at for at, key in enumerate(zip(*(part.to_pylist() for part in right), strict=True))}
            at = pa.array([places.get(key) for key in entities], pa.int64())
            outputs |= {n: normal.storage(table.column(n)).take(at) for n in names}
        else:
            outputs |= {n: pa.nulls(batch.num_rows, dataset.schema.field(c).type) for n, c in names.items()}
        ordered = [outputs[name] for name in scan.reads]
        return pa.RecordBatch.from_arrays(ordered, names=list(scan.reads))

    def aggregate(self, scan: Scan, *, time: str) -> Extent:
        dataset = self._dataset(scan.relation)
        told: Extent = (0, None, None)
        condition, bounds = self._filter(scan, dataset.schema), _all_bounds(scan)
        with self._errors():
            for part in row_groups.parts(dataset, condition):
                known = part.extent(time) if _is_told(dataset.schema.field(time).type) and part.covers(bounds) else None
                if known is not None:
                    told = _together(told, known)
                    continue
                for batch in row_groups.rows_of(part, dataset.schema, {"v": time}, condition, bounds=bounds):
                    told = _joint(told, normal.storage(batch.column("v")))
        return told

    def aggregate_each(self, scan: Scan, spans: Sequence[Span], *, time: str) -> list[Extent]:
        """The same within each span, all in one pass over the files; spans that overlap, one after the other."""
        if any(one.end is None or other.start is None or one.end > other.start for one, other in pairwise(spans)):
            return [each for span in spans for each in self.aggregate_each(scan, [span], time=time)]
        form = spans[0].time
        dataset, whole = self._dataset(scan.relation), replace(scan, span=Span(form, spans[0].start, spans[-1].end))
        columns, condition = {"v": time, "t": form.column}, self._filter(whole, dataset.schema)
        alone = [_all_bounds(replace(scan, span=span)) for span in spans]
        plain = form.form == "aware" and _is_told(dataset.schema.field(time).type)
        starts, ends = (pa.array(at, times.UTC_US).cast(pa.int64()).to_numpy()
                        for at in ([span.start for span in spans], [span.end for span in spans]))  # fmt: skip
        told: list[Extent] = [(0, None, None)] * len(spans)
        with self._errors():
            for part in row_groups.parts(dataset, condition):
                first = (part.extent(form.column) or (0, None, None))[1] if plain else None
                whose = -1 if first is None else bisect([span.start for span in spans], first) - 1
                known = part.extent(time) if whose >= 0 and part.covers(alone[whose]) else None
                if known is not None:
                    told[whose] = _together(told[whose], known)
                    continue
                rows = row_groups.rows_of(part, dataset.schema, columns, condition, bounds=_all_bounds(whole))
                for batch in rows:
                    moments = times.to_utc(normal.storage(batch.column("t")), form)
                    kept = moments.is_valid()
                    when = moments.filter(kept).cast(pa.int64()).to_numpy()
                    values = normal.storage(batch.column("v")).filter(kept)
                    place = np.searchsorted(starts, when, side="right") - 1
                    inside = (place >= 0) & (when < ends[place])
                    for at in np.unique(place[inside]).tolist():
                        told[at] = _joint(told[at], values.filter(pa.array(inside & (place == at))))
        return told

    def duplicates(self, scan: Scan, key: Sequence[str]) -> int:
        dataset = self._dataset(scan.relation)
        keep = self._last_rows(dataset, replace(scan, dedupe=tuple(key)))
        return 0 if keep is None else int((~keep).sum())

    def tables(self) -> list[str]:
        ending = f".{self.format}"
        there = (p for p in self.path.iterdir() if not p.name.startswith((".", "_")))
        return sorted(p.stem if p.suffix == ending else p.name for p in there if p.is_dir() or p.suffix == ending)

    def is_small(self, relation: Relation, n_rows: int) -> bool:  # noqa: ARG002 - there is no other way to read it
        return True

    pushes_down = False
    exact_keys = True
    spread = None

    def count_numbers(self, scan: Scan, specs: Mapping[str, NumericSpec]) -> dict[str, NumericProfile]:  # noqa: ARG002
        raise PermanentSourceError(f"{self.where}: files have no engine of their own to count in", reason="unsupported")

    def probe(self) -> list[str]:
        if not self.path.exists():
            raise missing_file(self.path, where=self.where)
        return [f"{self.format} files, read with pyarrow {pa.__version__}"]

    def cancel(self) -> None:
        """Files answer, or their file system has a time limit of its own."""

    def close(self) -> None:
        """Nothing stays open between reads."""


def _is_told(kind: pa.DataType) -> bool:
    """Whether statistics of such a column give the values that the column would: whole numbers, and times of day."""
    return pa.types.is_integer(kind) or (pa.types.is_timestamp(kind) and kind.unit in ("ms", "us"))


def _joint(told: Extent, values: pa.Array) -> Extent:
    """What is known of some values, and what of further ones, together."""
    found = pc.min_max(values).as_py()
    return _together(told, (len(values) - values.null_count, found["min"], found["max"]))


def _together(one: Extent, other: Extent) -> Extent:
    ends = [[extent[at] for extent in (one, other) if extent[at] is not None] for at in (1, 2)]
    return one[0] + other[0], min(ends[0], default=None), max(ends[1], default=None)


def one_file(path: Path) -> tuple[Folder, Relation]:
    """Give a scanner and relation for one file (or folder of files), the format told by its ending."""
    config = SourceConfig(path=path.parent, format="csv" if path.suffix.lower() == ".csv" else "parquet")
    return Folder(path.name, config), Relation(table=path.name)


def _all_bounds(scan: Scan) -> list[row_groups.Bounds] | None:
    """The bounds of a scan whose filter says no more than these."""
    if scan.keys is not None or scan.only is not None:
        return None
    spans = [(span.time.column, *times.bounds(span)) for span in (scan.span, scan.upto) if span is not None]
    return spans if scan.between is None else [*spans, (scan.between[0], scan.between[1], scan.between[2] + 1)]


def _bounds(span: Span, kind: pa.DataType) -> list[Any]:
    low, high = times.bounds(span)
    field = ds.field(span.time.column)
    scalars = [None if bound is None else times.scalar(bound, kind) for bound in (low, high)]
    return [
        *([field >= scalars[0]] if scalars[0] is not None else []),
        *([field < scalars[1]] if scalars[1] is not None else []),
    ]
