"""Extracting: raw holds the operational tables as they are."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ingestion import extract
from ingestion.extract import TABLES, ExtractError
from ingestion.sources import load_sources
from tollhouse.postgres import connect
from tollhouse.settings import Settings
from tollhouse.warehouse import Warehouse, open_warehouse


@pytest.fixture
def offered(settings: Settings) -> Any:
    """A plan with a fee in the operational database, taken away afterwards."""
    with connect(settings) as connection:
        connection.execute(
            "insert into catalogue.offering (offering_id, offering_type, name_zh, name_en, status)"
            " values ('plan-test', 'plan', '测试套餐', 'Test plan', 'active')"
        )
        connection.execute(
            "insert into catalogue.price_plan_version (plan_version_id, offering_id,"
            " version_number, valid_from, monthly_fee_amount, currency_code)"
            " values ('plan-test@1', 'plan-test', 1, '2026-10-01 00:00+08', 76.123456, 'CNY')"
        )
    yield
    with connect(settings) as connection:
        connection.execute("delete from catalogue.price_plan_version")
        connection.execute("delete from catalogue.offering")


def read(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with open_warehouse(settings, "test") as warehouse:
        return warehouse.rows(query)


@pytest.mark.usefixtures("offered")
def test_every_listed_table_is_there_with_its_rows(settings: Settings) -> None:
    with connect(settings) as connection:
        ((sources,),) = connection.execute("select count(*) from control.source").fetchall()
    counts = extract(settings)

    assert list(counts) == list(TABLES)
    assert sources >= len(load_sources(settings))
    assert (counts["catalogue.offering"], counts["control.source"]) == (1, sources)
    assert read(settings, "select offering_id, name_zh from raw.catalogue_offering") == [
        ("plan-test", "测试套餐")
    ]


@pytest.mark.usefixtures("offered")
def test_amounts_and_times_arrive_exactly(settings: Settings) -> None:
    extract(settings)
    ((fee, valid_from, kind),) = read(
        settings,
        "select monthly_fee_amount, valid_from, typeof(monthly_fee_amount)"
        " from raw.catalogue_price_plan_version",
    )

    assert (fee, kind) == (Decimal("76.123456"), "DECIMAL(18,6)")
    assert valid_from.astimezone(UTC) == datetime(2026, 9, 30, 16, 0, tzinfo=UTC)


@pytest.mark.usefixtures("offered")
def test_extracting_again_replaces_and_does_not_add(settings: Settings) -> None:
    extract(settings)
    with connect(settings) as connection:
        connection.execute("update catalogue.offering set name_en = 'Changed'")

    assert extract(settings)["catalogue.offering"] == 1
    assert read(settings, "select name_en from raw.catalogue_offering") == [("Changed",)]


@pytest.mark.usefixtures("offered")
def test_a_failed_extract_leaves_all_tables_as_they_were(
    settings: Settings, monkeypatch: Any
) -> None:
    extract(settings)
    before = read(settings, "select * from raw.catalogue_offering")
    execute = Warehouse.execute

    def fail_late(self: Warehouse, statement: str, parameters: Any = ()) -> None:
        if statement.startswith("insert into raw.control_source"):
            raise KeyboardInterrupt
        execute(self, statement, parameters)

    monkeypatch.setattr(Warehouse, "execute", fail_late)
    with pytest.raises(KeyboardInterrupt):
        extract(settings)
    monkeypatch.undo()

    assert read(settings, "select * from raw.catalogue_offering") == before


def test_a_column_added_by_a_migration_is_carried(settings: Settings) -> None:
    extract(settings)
    with open_warehouse(settings, "test") as warehouse:
        warehouse.execute("alter table raw.control_source drop column late_after_hours")
    extract(settings)

    assert read(settings, "select distinct late_after_hours from raw.control_source") == [(24,)]


@pytest.mark.usefixtures("offered")
def test_a_column_whose_type_a_migration_changed_is_carried_exactly(settings: Settings) -> None:
    extract(settings)
    with open_warehouse(settings, "test") as warehouse:
        warehouse.execute(
            "alter table raw.catalogue_price_plan_version"
            " alter column monthly_fee_amount set data type bigint"
        )
    extract(settings)

    assert read(settings, "select monthly_fee_amount from raw.catalogue_price_plan_version") == [
        (Decimal("76.123456"),)
    ]


def test_a_missing_operational_table_is_named(settings: Settings) -> None:
    with connect(settings) as connection:
        connection.execute("alter table billing.payment rename to payment_gone")
    try:
        with pytest.raises(ExtractError, match=r"billing\.payment"):
            extract(settings)
    finally:
        with connect(settings) as connection:
            connection.execute("alter table billing.payment_gone rename to payment")
