"""Extracting 抽取: operational tables are copied to raw as they are, whole, each time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb

from tollhouse.postgres import operational_url
from tollhouse.settings import Settings
from tollhouse.warehouse import Warehouse, open_warehouse
from tollhouse.warehouse.connection import CATALOGUE, attach_postgres

# What mediation goes by, and `mediate` copies alone.
CONTROL_TABLES = (
    "control.source",
    "control.usage_file",
    "control.batch",
    "control.mediation_work",
    "control.correction",
    "control.validation_rule",
)
# What a bill counts besides the charges, and `bill` copies alone.
PAYMENT_TABLES = ("billing.payment", "billing.adjustment")
TABLES = (
    "crm.customer",
    "crm.account",
    "crm.subscription",
    "crm.subscription_status",
    "crm.product_instance",
    "crm.friend_number",
    "crm.call_group_member",
    "catalogue.charge_class",
    "catalogue.calendar",
    "catalogue.calendar_period",
    "catalogue.calendar_holiday",
    "catalogue.offering",
    "catalogue.price_plan_version",
    "catalogue.usage_price",
    "catalogue.price_tier",
    "catalogue.price_step",
    "catalogue.allowance",
    "catalogue.allowance_coverage",
    "catalogue.discount",
    "catalogue.one_off_price",
    "catalogue.commitment",
    "catalogue.bundle_component",
    "billing.billing_cycle",
    "billing.payment_responsibility",
    "billing.deduction",
    *PAYMENT_TABLES,
    "settlement.agreement",
    "settlement.agreement_rate",
    "settlement.trunk_group",
    *CONTROL_TABLES,
)
UNCARRIED_TYPES = ("JSON",)  # documents of the order form; nothing downstream reads them
WAIT_S = 600.0


class ExtractError(RuntimeError):
    """An operational table cannot be copied; the message says which and what to do."""


def raw_name(table: str) -> str:
    """The raw table of an operational one: ``crm.customer`` → ``raw.crm_customer``."""
    return f"raw.{table.replace('.', '_')}"


def extract(
    settings: Settings, wait_s: float = WAIT_S, tables: Sequence[str] = TABLES
) -> dict[str, int]:
    """Copy the tables to raw; returns rows by operational table.

    All are replaced in one transaction, out of one snapshot of the operational database: a reader
    sees the old rows or the new ones, and what he sees fits together.

    Raises:
        ExtractError: an operational table is missing.
        WarehouseBusyError: another process writes the warehouse.
    """
    counts: dict[str, int] = {}
    with open_warehouse(settings, "extract operational tables", wait_s) as warehouse:
        attach_postgres(
            warehouse.connection, operational_url(settings), "operational", read_only=True
        )
        try:
            columns = {table: _carried(warehouse, table) for table in tables}
            for table in tables:
                _fit_table(
                    warehouse, raw_name(table), {**columns[table], "_loaded_at": "timestamp"}
                )
            loaded_at = datetime.now(UTC).replace(tzinfo=None)
            with warehouse.transaction():
                for table in tables:
                    counts[table] = _replace(warehouse, table, columns[table], loaded_at)
        finally:
            warehouse.execute("detach operational")
    return counts


def _replace(warehouse: Warehouse, table: str, columns: dict[str, str], loaded_at: datetime) -> int:
    target = raw_name(table)
    names = ", ".join(f'"{name}"' for name in columns)
    warehouse.execute(f"delete from {target}")  # noqa: S608 - names from TABLES
    warehouse.execute(
        f"insert into {target} ({names}, _loaded_at)"  # noqa: S608 - names from TABLES
        f" select {names}, cast(? as timestamp) from operational.{table}",
        [loaded_at],
    )
    return int(warehouse.rows(f"select count(*) from {target}")[0][0])  # noqa: S608


def _columns(warehouse: Warehouse, table: str) -> dict[str, str]:
    """Columns and their types of a table, ``database.schema.table``; none if it is not there."""
    try:
        rows = warehouse.rows(f"describe {table}")
    except duckdb.CatalogException:
        return {}
    return {row[0]: row[1] for row in rows}


def _carried(warehouse: Warehouse, table: str) -> dict[str, str]:
    columns = _columns(warehouse, f"operational.{table}")
    if not columns:
        raise ExtractError(
            f"the operational database has no table {table}: bring it up to date with its"
            " migrations, then extract again"
        )
    return {column: kind for column, kind in columns.items() if kind not in UNCARRIED_TYPES}


def _fit_table(warehouse: Warehouse, target: str, columns: dict[str, str]) -> None:
    """Make the raw table, or add the columns it lacks (older ones stay, and stay null).

    A column that changed its type is made anew, since its rows are about to be replaced and a whole
    number of old would round the fractions of today. The views of it may go; `prepare` makes them.
    """
    present = _columns(warehouse, f"{CATALOGUE}.{target}")
    if not present:
        warehouse.create_table(target, {f'"{name}"': kind for name, kind in columns.items()})
        return
    for column, kind in columns.items():
        is_other = present.get(column, kind).lower() != kind.lower()
        if is_other:
            warehouse.drop_column(target, column)
        if is_other or column not in present:
            warehouse.execute(f'alter table {target} add column "{column}" {kind}')
