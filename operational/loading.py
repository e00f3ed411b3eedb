"""Loads operational tables from parquet files, as the simulator or a migration hands them over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
from psycopg import sql

from operational.bulk import ColumnError, copy_to_temporary, primary_key, refusal
from operational.database import driver_transaction
from tollhouse.settings import Settings

# In order of their foreign keys. The catalogue is not among them: it is loaded and checked by
# operational.catalogue.service, and product instances refer to it.
TABLES = (
    "crm.customer",
    "crm.account",
    "crm.subscription",
    "crm.product_instance",
    "resource.msisdn",
    "billing.payment",
    "settlement.trunk_group",
)

# Ids that the order form hands out continue after the loaded ones.
_NUMBERED = {
    "crm.customer": ("customer_id", "crm.customer_number"),
    "crm.account": ("account_id", "crm.account_number"),
    "crm.subscription": ("subscription_id", "crm.subscription_number"),
    "crm.product_instance": ("product_instance_id", "crm.product_instance_number"),
}


class LoadError(ValueError):
    """Files cannot be loaded; the message names the file and the reason. Nothing was loaded."""


def load_tables(settings: Settings, folder: Path) -> dict[str, int]:
    """Insert the rows of ``<schema>.<table>.parquet`` files; rows already there stay as they are.

    All files go in in one transaction, in foreign-key order; the catalogue must be loaded before.
    Returns the rows inserted by table (0 for a table loaded before). Raises LoadError for a file
    of an unknown table or column, and for rows the database refuses.
    """
    files = {path.name.removesuffix(".parquet"): path for path in folder.glob("*.parquet")}
    if not files:
        raise LoadError(f"{folder}: no <schema>.<table>.parquet files; simulate them first")
    if unknown := sorted(set(files) - set(TABLES)):
        raise LoadError(
            f"{folder}: no loadable table for {', '.join(unknown)}; loadable: {', '.join(TABLES)}"
        )
    inserted = {}
    with driver_transaction(settings) as connection:
        for table in TABLES:
            if table in files:
                try:
                    inserted[table] = _load(connection, table, files[table])
                except ColumnError as error:
                    raise LoadError(f"{files[table].name}: {error}") from error
                except psycopg.DatabaseError as error:  # whose own text holds the row: not chained
                    raise LoadError(f"{files[table].name}: {refusal(error)}") from None
    return inserted


def _load(connection: psycopg.Connection[Any], table: str, path: Path) -> int:
    target = sql.Identifier(*table.split("."))
    names = copy_to_temporary(connection, data=pq.read_table(path), like=table, temporary="loading")
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    # The conflict is named: a row that breaks another rule (a number with two owners) is an
    # error, not a row to skip.
    key = sql.SQL(", ").join(map(sql.Identifier, primary_key(connection, table)))
    count = connection.execute(
        sql.SQL("insert into {} ({}) select {} from loading on conflict ({}) do nothing").format(
            target, columns, columns, key
        )
    ).rowcount
    connection.execute("drop table loading")
    if table in _NUMBERED:
        column, sequence = _NUMBERED[table]
        connection.execute(
            sql.SQL(
                "select setval({}, greatest(nextval({}),"
                " (select max(substring({} from '[0-9]+$')::bigint) + 1 from {})), false)"
            ).format(sql.Literal(sequence), sql.Literal(sequence), sql.Identifier(column), target)
        )
    return count
