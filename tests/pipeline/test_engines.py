"""The same carrier on DuckDB and on PostgreSQL: the same rows, to the fen."""

from __future__ import annotations

import psycopg
import pytest

from tests.pipeline.tables import differences, tables_of
from tollhouse.pipeline import run_step
from tollhouse.postgres import connect
from tollhouse.settings import Settings

pytestmark = pytest.mark.pipeline


def test_bills_are_identical_on_both_engines(
    small_carrier: Settings, on_postgres: Settings
) -> None:
    def bills(settings: Settings) -> list[tuple[object, ...]]:
        with connect(settings) as connection:
            return connection.execute(
                "select bill_id, opening_amount, charge_amount, payment_amount, closing_amount,"
                " content_hash from billing.bill order by bill_id"
            ).fetchall()

    assert bills(small_carrier) == bills(on_postgres)
    assert len(bills(on_postgres)) > 100


def test_every_row_of_usage_bills_and_settlement_is_identical_on_both_engines(
    small_carrier: Settings, on_postgres: Settings
) -> None:
    schemas = ("mediation", "billing", "settlement")
    left, right = tables_of(small_carrier, schemas), tables_of(on_postgres, schemas)
    assert differences(left, right) == []
    assert sum(map(len, left.values())) > 100_000


def test_postgresql_finds_the_records_of_files_and_calls_by_an_index(
    on_postgres: Settings,
) -> None:
    with psycopg.connect(on_postgres.warehouse_url or "") as connection:
        found = {
            (table, definition.rpartition("(")[2].rstrip(")"))
            for table, definition in connection.execute(
                "select tablename, indexdef from pg_indexes where schemaname = 'mediation'"
            )
        }
    assert found >= {
        ("record", "_file_id"), ("record", "call_key"),
        ("repeated_record", "_file_id"), ("repeated_record", "call_key"),
        ("long_call", "call_key"), ("rejected_record", "_file_id"),
    }  # fmt: skip


def test_every_row_of_ods_and_of_the_marts_is_identical_on_both_engines(
    small_carrier: Settings, on_postgres: Settings
) -> None:
    schemas = ("ods", "mid", "dm")
    left, right = tables_of(small_carrier, schemas), tables_of(on_postgres, schemas)
    assert differences(left, right) == []


def test_a_column_that_changed_its_type_is_carried_though_views_read_it(
    small_carrier: Settings, on_postgres: Settings
) -> None:
    with psycopg.connect(on_postgres.warehouse_url or "") as connection:
        definition = connection.execute(
            "select pg_get_viewdef('ods.price_plan_version')"
        ).fetchone()
        assert definition is not None
        connection.execute("drop view ods.price_plan_version")
        connection.execute(
            "alter table raw.catalogue_price_plan_version"
            " alter column monthly_fee_amount set data type bigint"
        )
        connection.execute(f"create view ods.price_plan_version as {definition[0]}")
    run_step("prepare", on_postgres)

    of_carriers = [
        tables_of(carrier, ("ods",))["ods.price_plan_version"]
        for carrier in (small_carrier, on_postgres)
    ]
    assert of_carriers[0] == of_carriers[1]
