"""Our tables in a database of an earlier version: what they lack is added when it is opened.

A later version may add tables, indexes, and columns that can be NULL or have a `server_default`.
It may not rename, drop or retype any, so that earlier versions can go on with the database, too.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Column, Connection, Engine, Index, Table, inspect, text
from sqlalchemy.schema import CreateColumn

from search.store.tables import OURS, metadata


class ForeignTableError(Exception):
    """A table has the name of one of ours and is another program's; the argument is that name."""


def lacking(connection: Connection) -> set[str]:
    """The names of our tables that are missing, or miss a column or an index.

    Raises:
        ForeignTableError: a table lacks what ours had in every version.
    """
    there = _columns(connection)
    missing = {table.name for table in OURS if table.name not in there}
    for column in _missing_columns(there):
        if not column.nullable and column.server_default is None:
            raise ForeignTableError(column.table.name)
        missing.add(column.table.name)
    return missing | {_table_of(index).name for index in _missing_indexes(connection, there)}


def complete(engine: Engine) -> None:
    """Add what is missing; any number of processes may do so at once.

    Raises:
        SQLAlchemyError: also where another process was faster; then it is to be tried again.
    """
    on_server = engine.dialect.name == "postgresql"
    with engine.begin() as connection:
        metadata.create_all(connection, tables=OURS)
        there = _columns(connection)
        for column in _missing_columns(there):
            words = CreateColumn(column).compile(dialect=engine.dialect)
            unless_there = "IF NOT EXISTS " if on_server else ""  # SQLite: we hold the one lock
            connection.execute(
                text(f"ALTER TABLE {column.table.name} ADD COLUMN {unless_there}{words}")
            )
        for index in _missing_indexes(connection, there):
            index.create(connection, checkfirst=True)


def _columns(connection: Connection) -> dict[str, set[str]]:
    """Of those of our tables that are there, by the tables' names."""
    found = inspect(connection).get_multi_columns(filter_names=[table.name for table in OURS])
    return {name: {column["name"] for column in columns} for (_, name), columns in found.items()}


def _missing_columns(there: dict[str, set[str]]) -> Iterator[Column[object]]:
    for table in OURS:
        if table.name in there:
            yield from (column for column in table.c if column.name not in there[table.name])


def _missing_indexes(connection: Connection, there: dict[str, set[str]]) -> Iterator[Index]:
    found = inspect(connection).get_multi_indexes(filter_names=list(there))
    names = {index["name"] for indexes in found.values() for index in indexes}
    for table in OURS:
        if table.name in there:
            yield from (index for index in table.indexes if index.name not in names)


def _table_of(index: Index) -> Table:
    assert index.table is not None
    return index.table
