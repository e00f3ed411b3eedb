"""Moves Arrow tables into PostgreSQL through COPY, with the types of the table they are for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

_ROWS_AT_ONCE = 20_000


class ColumnError(ValueError):
    """A table does not fit the columns it is for; the message names the column."""


def refusal(error: psycopg.Error) -> str:
    """Why the database refuses rows, without what stands in them: names and id numbers are there.

    PostgreSQL puts the row into DETAIL, and a value of the wrong form (class 22) into the message.
    """
    diag = error.diag
    reason = diag.message_primary
    if reason is None or (error.sqlstate or "").startswith("22"):
        reason = type(error).__name__
    table = f"{diag.schema_name}.{diag.table_name}" if diag.table_name else None
    places = [("table", table), ("constraint", diag.constraint_name)]
    named = ", ".join(f"{kind} {name}" for kind, name in places if name)
    return f"{reason} ({named})" if named else reason


def primary_key(connection: psycopg.Connection[Any], table: str) -> list[str]:
    """The primary key columns of ``schema.table``."""
    rows = connection.execute(
        "select att.attname::text from pg_index as idx"
        " join pg_attribute as att on att.attrelid = idx.indrelid and att.attnum = any(idx.indkey)"
        " where idx.indrelid = %s::regclass and idx.indisprimary",
        (table,),
    ).fetchall()
    return [name for (name,) in rows]


def copy_to_temporary(
    connection: psycopg.Connection[Any],
    *,
    data: pa.Table,
    like: str,
    temporary: str,
    only: Sequence[str] | None = None,
) -> list[str]:
    """Make a temporary table with the columns of `data`, typed as in `like`, and fill it.

    With `only`, of the columns of `data` only these, all of them needed. The temporary table is
    dropped at the end of the transaction. Returns the column names. Raises ColumnError for a
    missing column, one `like` does not have, and values that do not fit its type exactly.
    """
    if only is not None:
        if missing := [name for name in only if name not in data.column_names]:
            raise ColumnError(f"{like} needs column {', '.join(missing)}")
        data = data.select(list(only))
    types = _column_types(connection, like)
    if unknown := [name for name in data.column_names if name not in types]:
        raise ColumnError(f"{like} has no column {', '.join(unknown)}")
    columns = sql.SQL(", ").join(map(sql.Identifier, data.column_names))
    connection.execute(
        sql.SQL("create temp table {} on commit drop as select {} from {} with no data").format(
            sql.Identifier(temporary), columns, sql.Identifier(*like.split("."))
        )
    )
    add_to_temporary(connection, data=data, like=like, temporary=temporary)
    return list(data.column_names)


def add_to_temporary(
    connection: psycopg.Connection[Any], *, data: pa.Table, like: str, temporary: str
) -> None:
    """Add rows to a table that `copy_to_temporary` made of the same columns.

    Raises ColumnError for values that do not fit the type of `like` exactly.
    """
    types = _column_types(connection, like)
    fitting = _fit(data, like, {name: types[name][1] for name in data.column_names})
    columns = sql.SQL(", ").join(map(sql.Identifier, data.column_names))
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        sql.Identifier(temporary), columns
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([types[name][0] for name in data.column_names])
        for row in _rows(fitting):
            copy.write_row(row)


def _rows(table: pa.Table) -> Iterable[tuple[Any, ...]]:
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _column_types(
    connection: psycopg.Connection[Any], table: str
) -> dict[str, tuple[str, pa.DataType]]:
    """Column → (type name for COPY, Arrow type that holds exactly its values)."""
    schema, name = table.split(".")
    rows = connection.execute(
        "select column_name::text, udt_name::text, numeric_precision, numeric_scale"
        " from information_schema.columns where table_schema = %s and table_name = %s",
        (schema, name),
    ).fetchall()
    types: dict[str, tuple[str, pa.DataType]] = {}
    for column, type_name, precision, scale in rows:
        match type_name:
            case "text":
                arrow = pa.string()
            case "int4":
                arrow = pa.int32()
            case "int8":
                arrow = pa.int64()
            case "numeric":
                arrow = pa.decimal128(precision, scale)
            case "timestamptz":
                arrow = pa.timestamp("us", tz="UTC")
            case "date":
                arrow = pa.date32()
            case "bool":
                arrow = pa.bool_()
            case _:
                continue
        types[column] = (type_name, arrow)
    return types


def _fit(data: pa.Table, like: str, types: dict[str, pa.DataType]) -> pa.Table:
    columns = []
    for name, wanted in types.items():
        column = data.column(name)
        if pa.types.is_decimal(wanted) and pa.types.is_floating(column.type):
            raise ColumnError(f"{like}.{name} takes exact decimals, not {column.type}")
        if (
            pa.types.is_timestamp(wanted)
            and pa.types.is_timestamp(column.type)
            and column.type.tz is None
        ):
            raise ColumnError(f"{like}.{name} takes timestamps with a time zone (UTC)")
        try:
            columns.append(column.cast(wanted))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            # The error of Arrow repeats the value.
            raise ColumnError(
                f"{like}.{name} takes {wanted}; not every value ({column.type}) fits: "
                f"{type(error).__name__}"
            ) from None
    return pa.table(columns, names=list(types))
