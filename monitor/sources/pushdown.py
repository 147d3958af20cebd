"""Counting inside the database: the same integers as the kernel's, for slow links and warehouses.

One statement a column: each row's cell is found in the engine, and only counts come back.  A cell is the number of
*cuts* that are not above the value; there are two for each edge: the edge less its slack, and the next float above the
edge plus its slack.  So the number is the place in ``NumericProfile.cells``, whatever the dialect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, array

from detectors.profiles import NumericProfile, NumericSpec, kept_cells, restrict

WAREHOUSES = frozenset({"snowflake", "bigquery", "databricks", "trino", "redshift"})
"""Where counting in the engine is cheaper than fetching rows, wherever the monitor runs."""
MOST_EDGES = 256
"""Edges that are counted over where cells are found by comparisons: the statement grows with them."""


def cuts(spec: NumericSpec) -> list[float]:
    """The increasing values at which a new cell begins, two for each edge."""
    low = spec.edges - spec.slack
    above = np.nextafter(spec.edges + spec.slack, np.inf)
    return [float(cut) for pair in zip(low, above, strict=True) for cut in pair]


def _by_width_bucket(value: Any, at: Sequence[float]) -> Any:
    """PostgreSQL: a binary search in a constant array."""
    return sa.func.width_bucket(value, sa.cast(array([_number(cut) for cut in at]), ARRAY(sa.Double())))


def _by_cases(value: Any, at: Sequence[float]) -> Any:
    return place(value, [_number(cut) for cut in at])


def place(value: Any, at: Sequence[Any], first: int = 0) -> Any:
    """How many of the increasing ``at`` are not above the value, as an expression of any dialect.

    A balanced tree of comparisons, as deep as the logarithm of their number.
    """
    if not at:
        return sa.literal_column(str(first))
    middle = len(at) // 2
    below = place(value, at[:middle], first)
    return sa.case((value < at[middle], below), else_=place(value, at[middle + 1 :], first + middle + 1))


def _number(value: float) -> Any:
    """Bound, not written out: not every engine reads seventeen digits back to the same float."""
    return sa.literal(value, sa.Double())


_LARGEST = float(np.finfo(np.float64).max)
"""Beyond it a value is infinite; not every driver can bind an infinity itself."""

CELLS: dict[str, Callable[[Any, Sequence[float]], Any]] = {"postgresql": _by_width_bucket}
"""How a cell's number is found, where a dialect has something better than comparisons."""

_NOT_A_NUMBER: dict[str, Callable[[Any], Any]] = {
    "sqlite": lambda _: sa.false(),  # it stores NaN as NULL
    "bigquery": sa.func.is_nan,
    "trino": sa.func.is_nan,
    "databricks": sa.func.isnan,
}


def is_nan(dialect: str, value: Any) -> Any:
    """Whether a present value is NaN."""
    told = _NOT_A_NUMBER.get(dialect)
    return told(value) if told is not None else value == sa.cast(sa.literal("NaN", sa.Text()), sa.Double())


def counted_over(dialect: str, spec: NumericSpec) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Places of the edges that a dialect counts at: all, or some, with those that bins, slack and decisions need."""
    n_edges = len(spec.edges)
    if dialect in CELLS or n_edges <= MOST_EDGES:
        return np.arange(n_edges)
    keep = np.zeros(n_edges, dtype=bool)
    keep[np.linspace(0, n_edges - 1, MOST_EDGES).astype(np.int64)] = True
    keep[(spec.bins[1:-1] - 1) // 2] = True
    keep |= (spec.slack > 0) | np.isin(spec.edges, spec.decision)
    return np.flatnonzero(keep)


def statement(dialect: str, rows: Any, column: str, spec: NumericSpec) -> sa.Select[Any]:
    """One line for each cell that has rows: its number, how many, and what moments need; cell −1 is of missing values.

    Parameters
    ----------
    rows
        A selectable with the column as double precision, NULL where it is no number.
    spec
        The edges to count over, all of them.
    """
    value = rows.c[column]
    at = cuts(spec)
    found = CELLS.get(dialect, _by_cases)(value, at)
    cell = sa.case((sa.or_(value.is_(None), is_nan(dialect, value)), sa.literal_column("-1")), else_=found)
    finite = sa.and_(value >= _number(-_LARGEST), value <= _number(_LARGEST))
    inner = sa.select(cell.label("cell"), sa.case((finite, value)).label("x"), value.label("v")).select_from(rows)
    one = inner.subquery("one")
    shift = _number(float(spec.edges[len(spec.edges) // 2]))
    away = one.c.x - shift
    return sa.select(
        one.c.cell,
        sa.func.count().label("n"),
        sa.func.count(one.c.x).label("finite"),
        sa.func.min(one.c.x).label("low"),
        sa.func.max(one.c.x).label("high"),
        sa.func.sum(away).label("first"),
        sa.func.sum(away * away).label("second"),
    ).group_by(one.c.cell)


def profile(spec: NumericSpec, lines: Sequence[Any], *, kept: np.ndarray[Any, np.dtype[np.int64]]) -> NumericProfile:
    """The profile over ``spec`` that the lines of :func:`statement`, asked over the edges at ``kept``, tell."""
    coarse = restrict(spec, kept) if len(kept) < len(spec.edges) else spec
    cells = np.zeros(coarse.n_cells, dtype=np.int64)
    missing, sums = 0, np.zeros((coarse.n_cells, 2))
    low, high, n_finite = math.inf, -math.inf, 0
    finite_in = np.zeros(coarse.n_cells, dtype=np.int64)
    for cell, n, finite, least, most, first, second in lines:
        if cell < 0:
            missing = int(n)
            continue
        cells[cell], finite_in[cell] = int(n), int(finite)
        n_finite += int(finite)
        if finite:
            low, high = min(low, float(least)), max(high, float(most))
            sums[cell] = float(first), float(second)
    shift = float(coarse.edges[len(coarse.edges) // 2])
    first, second = sums.sum(axis=0)
    return NumericProfile(
        n=int(cells.sum()) + missing,
        missing=missing,
        pos_inf=int(cells[-1] - finite_in[-1]),
        neg_inf=int(cells[0] - finite_in[0]),
        cells=_spread(cells, spec, kept),
        minimum=low + 0.0 if n_finite else math.nan,
        maximum=high + 0.0 if n_finite else math.nan,
        mean=shift + first / n_finite if n_finite else math.nan,
        m2=max(0.0, second - first * first / n_finite) if n_finite else math.nan,
        low_sum=float(sums[0, 0] + shift * finite_in[0]),
        high_sum=float(sums[-1, 0] + shift * finite_in[-1]),
        kept=None if coarse is spec else kept,
    )


def _spread(cells: Any, spec: NumericSpec, kept: Any) -> Any:
    """Counts over the kept edges, written over the cells of all (see :func:`detectors.profiles.thin`)."""
    if len(kept) == len(spec.edges):
        return cells
    on, between = kept_cells(kept, spec.n_cells)
    wide = np.zeros(spec.n_cells, dtype=np.int64)
    wide[on], wide[between] = cells[1::2], cells[0::2]
    return wide
