"""Serving: finished tables go to PostgreSQL and to a read-only copy, each in one atomic swap."""

from __future__ import annotations

import os

import psycopg
from psycopg import sql

from tollhouse.postgres import EmbeddedServer, operational_url
from tollhouse.settings import Profile, Settings
from tollhouse.warehouse.connection import CATALOGUE, attach_postgres, open_warehouse
from tollhouse.warehouse.maintenance import new_file

READER_ROLE = "bi_reader"
ANALYST_SCHEMAS = ("billing", "settlement", "mid", "dm")
# Of what came from the operational database, what says how charges were priced and nobody's name.
ANALYST_CATALOGUE = (
    "offering", "price_plan_version", "usage_price", "price_step", "price_tier", "allowance",
    "charge_class", "billing_cycle", "usage_file", "one_off_price", "commitment",
    "bundle_component",
)  # fmt: skip

# Of rating, what says who called whom, and whose short number is whose.
WITHHELD = ("classified_usage", "late_usage", "group_number")


def publish_schema(settings: Settings, schema: str, wait_s: float = 0.0) -> dict[str, int]:
    """Replace a schema of the serving database by the warehouse's, in one transaction.

    The tables are copied beside the old ones first; readers see the old set until the swap and the
    new one after it, never a mixture. The role `bi_reader` may read the result.

    Returns:
        Rows by table, as counted in the serving database before the swap.

    Raises:
        WarehouseBusyError: another process writes.
    """
    target = operational_url(settings)
    next_schema, old_schema = f"{schema}_next", f"{schema}_old"
    with (
        open_warehouse(settings, f"publish {schema}", wait_s) as warehouse,
        psycopg.connect(target) as serving,
    ):
        serving.execute(f"drop schema if exists {next_schema} cascade")
        serving.execute(f"create schema {next_schema}")
        serving.commit()
        tables = [
            name
            for (name,) in warehouse.rows(
                "select table_name from information_schema.tables"
                " where table_catalog = ? and table_schema = ? order by table_name",
                [CATALOGUE, schema],
            )
        ]
        attach_postgres(warehouse.connection, target, "serving")
        for table in tables:
            warehouse.execute(
                f"create table serving.{next_schema}.{table} as"  # noqa: S608 - names of our models
                f" select * from {CATALOGUE}.{schema}.{table}"
            )
        warehouse.execute("detach serving")
        counts: dict[str, int] = {}
        for table in tables:
            query = sql.SQL("select count(*) from {}").format(sql.Identifier(next_schema, table))
            row = serving.execute(query).fetchone()
            counts[table] = row[0] if row else 0
        serving.execute(f"drop schema if exists {old_schema} cascade")
        if serving.execute("select to_regnamespace(%s)", (schema,)).fetchone() != (None,):
            serving.execute(f"alter schema {schema} rename to {old_schema}")
        serving.execute(f"alter schema {next_schema} rename to {schema}")
        _grant_reader(settings, serving, schema)
        serving.commit()
        _drop_unread(serving, old_schema)
    return counts


def publish_analyst_copy(settings: Settings, wait_s: float = 0.0) -> None:
    """Put a read-only copy of the embedded warehouse where analysts may open it.

    It holds charges, settlement, marts and the catalogue they follow from, without the layers that
    hold records and customers as received (`raw`, the rest of `ods`, `mediation`); what is a view
    there is a table here. It is readable by its owner and group. Nothing to do on the server
    profile: there analysts read the warehouse database itself.
    """
    if settings.profile is not Profile.embedded:
        return
    with open_warehouse(settings, "publish the analysts' copy", wait_s) as warehouse:
        settings.analyst_file.parent.mkdir(parents=True, exist_ok=True)
        part = new_file(settings.analyst_file)
        warehouse.execute(f"attach '{part}' as copied")
        for schema, table in warehouse.rows(
            "select table_schema, table_name from information_schema.tables"
            " where table_catalog = ? and (list_contains(?, table_schema)"
            " or table_schema = 'ods' and list_contains(?, table_name))"
            " and not (table_schema = 'billing' and list_contains(?, table_name))",
            [CATALOGUE, list(ANALYST_SCHEMAS), list(ANALYST_CATALOGUE), list(WITHHELD)],
        ):
            warehouse.execute(f"create schema if not exists copied.{schema}")
            warehouse.execute(
                f"create table copied.{schema}.{table} as"  # noqa: S608 - names of our models
                f" select * from {CATALOGUE}.{schema}.{table}"
            )
        warehouse.execute("detach copied")
        part.chmod(0o440)
        os.replace(part, settings.analyst_file)  # noqa: PTH105 - Path.replace, said atomically


def _drop_unread(serving: psycopg.Connection, schema: str) -> None:
    """Drop the schema that was swapped out, unless a long query still reads it.

    Then it stays until the next publication: a drop that waited would make new readers wait too.
    """
    serving.execute("set local lock_timeout = '2s'")
    try:
        serving.execute(f"drop schema if exists {schema} cascade")
        serving.commit()
    except psycopg.errors.LockNotAvailable:
        serving.rollback()


def _grant_reader(settings: Settings, serving: psycopg.Connection, schema: str) -> None:
    exists = serving.execute("select 1 from pg_roles where rolname = %s", (READER_ROLE,)).fetchone()
    if not exists:
        serving.execute(f"create role {READER_ROLE} login")
    if settings.profile is Profile.embedded:  # elsewhere its administrator gives it one
        password = EmbeddedServer(settings.home).role_password(READER_ROLE)
        serving.execute(
            sql.SQL("alter role {} password {}").format(
                sql.Identifier(READER_ROLE), sql.Literal(password)
            )
        )
    serving.execute(f"grant usage on schema {schema} to {READER_ROLE}")
    serving.execute(f"grant select on all tables in schema {schema} to {READER_ROLE}")
