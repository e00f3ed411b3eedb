"""A cycle copied into a warehouse of its own, to be rated and billed again there.

The copy is a file, as in the embedded profile, whatever engine the cycle comes from. The usage, the
customers and the reference data of the cycle are copied, and what was left of former cycles'
allowances; the models of production rate and bill. Nothing of the home's own warehouse or of the
operational database changes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tollhouse.settings import Settings
from tollhouse.warehouse import Warehouse, open_warehouse, transform

WAIT_FOR_WRITER_S = 600.0
# Everything between the standard usage and the items of the bill, and whose they are; the copies
# stand in for the rest.
SELECT = ("+billing__bill_item", "ods__customer")
EXCLUDE = ("tag:mediation", "resource_type:seed")
# Of `mediation.usage`, what the cycle billed; `$cycle` is its id.
USAGE_BILLED = """usage_id in (
    select usage_id from billing.guided_usage where cycle_id = $cycle
)"""


class CycleCopyError(RuntimeError):
    """The cycle cannot be copied; the message says why and what to do."""


@contextmanager
def cycle_copy(settings: Settings, cycle_id: str, *, usage: Sequence[str]) -> Iterator[Settings]:
    """Copy a billed cycle, open again there; gone afterwards.

    Args:
        settings: the home whose cycle it is.
        cycle_id: a cycle with bills.
        usage: conditions on `mediation.usage`, as SQL: usage that meets one of them is copied.

    Yields:
        The settings of the copy. Its table `raw.billed_item` holds what was billed.

    Raises:
        CycleCopyError: the cycle was not billed.
    """
    scratch = settings.scratch("cycle-copy")
    shutil.rmtree(scratch.home, ignore_errors=True)
    scratch.warehouse_file.parent.mkdir(parents=True)
    try:
        with open_warehouse(settings, f"copy {cycle_id}", WAIT_FOR_WRITER_S) as warehouse:
            _copy(warehouse, scratch, cycle_id, usage)
        yield scratch
    finally:
        shutil.rmtree(scratch.home, ignore_errors=True)


def bill_copy(scratch: Settings) -> None:
    """Rate and bill the copy, up to `billing.bill_item`."""
    transform(scratch, list(SELECT), command="run", exclude=list(EXCLUDE))


def _copy(warehouse: Warehouse, scratch: Settings, cycle_id: str, usage: Sequence[str]) -> None:
    if not warehouse.has_table("billing.bill_item") or not warehouse.rows(
        "select 1 from billing.bill_item where cycle_id = ? limit 1", [cycle_id]
    ):
        raise CycleCopyError(f"cycle {cycle_id} has no bills: run `tollhouse run rate bill` first")
    warehouse.execute(f"attach '{scratch.warehouse_file}' as copied")
    for schema in ("raw", "ods", "mediation", "billing"):
        warehouse.execute(f"create schema copied.{schema}")
    for schema, name in warehouse.rows(
        "select table_schema, table_name from information_schema.tables"
        " where table_catalog = 'warehouse' and table_schema in ('raw', 'ods')"
        " and table_type = 'BASE TABLE' and table_name <> 'usage_record'"
    ):
        warehouse.execute(f"create table copied.{schema}.{name} as select * from {schema}.{name}")  # noqa: S608
    parameters = {"cycle": cycle_id}
    warehouse.connection.execute(
        "create table copied.mediation.usage as select * from mediation.usage where "  # noqa: S608
        + " or ".join(usage),
        parameters,
    )
    warehouse.execute(
        "create table copied.mediation.usage_file as select * from mediation.usage_file"
    )
    # What is rolled over from them.
    for table, condition in (
        ("allowance_bucket", "cycle_id < $cycle"),
        ("allowance_draw", "bucket_id in (select bucket_id from copied.billing.allowance_bucket)"),
    ):
        warehouse.connection.execute(
            f"create table copied.billing.{table} as"  # noqa: S608 - names of our models
            f" select * from billing.{table} where {condition}",
            parameters if "$cycle" in condition else None,
        )
    warehouse.execute(
        "create table copied.raw.billed_item as select account_id, subscription_id, customer_id,"
        " offering_id, bill_item_code, amount from billing.bill_item where cycle_id = ?",
        [cycle_id],
    )
    warehouse.execute(
        "update copied.raw.billing_billing_cycle"
        " set state = case when cycle_id = ? then 'open' else 'final' end",
        [cycle_id],
    )
    warehouse.execute("detach copied")


__all__ = ["USAGE_BILLED", "CycleCopyError", "bill_copy", "cycle_copy"]
