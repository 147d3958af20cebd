"""The databases that the other tests stand on."""

from __future__ import annotations

import sqlalchemy as sa
from databases import write_table


def test_a_written_table_can_be_read_back(database_url: str) -> None:
    write_table(database_url, "t", {"a": sa.Integer, "b": sa.Text}, [{"a": 1, "b": "x"}, {"a": 2, "b": None}])
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT a, b FROM t ORDER BY a").fetchall() == [(1, "x"), (2, None)]
    engine.dispose()


def test_each_test_gets_an_empty_database(database_url: str) -> None:
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()
