"""The warehouse: one writer who is named, no log applied twice, no secrets and no customers out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pytest

from tollhouse.settings import Settings
from tollhouse.warehouse import (
    WarehouseBusyError,
    compact,
    open_warehouse,
    publish_analyst_copy,
    read_published_copy,
    read_warehouse,
    writer_lock,
)
from tollhouse.warehouse.connection import EngineError, attach_postgres, connect_engine


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def start(settings: Settings, body: str) -> subprocess.Popen[str]:
    """A process that runs `body` with `settings` at hand; wait for the line it prints."""
    code = (
        "import time\nfrom pathlib import Path\nfrom tollhouse.settings import Settings\n"
        "from tollhouse.warehouse import open_warehouse, writer_lock\n"
        f"settings = Settings(home=Path({str(settings.home)!r}))\n" + textwrap.dedent(body)
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_second_writer_is_told_who_writes_and_goes_on_when_he_dies(settings: Settings) -> None:
    other = start(
        settings,
        """
        with writer_lock(settings, "a long run"):
            print("holding", flush=True)
            time.sleep(60)
        """,
    )
    try:
        assert other.stdout
        assert other.stdout.readline() == "holding\n"
        with (
            pytest.raises(WarehouseBusyError, match=rf"process {other.pid} .*\(a long run\)"),
            writer_lock(settings, "mine"),
        ):
            pytest.fail("two writers at once")
    finally:
        other.kill()
        other.wait(10)
    with writer_lock(settings, "mine", wait_s=10), writer_lock(settings, "again, inside"):
        holder = (settings.home / "warehouse.lock").read_text()
    assert '"mine"' in holder


def test_compacting_after_a_killed_writer_applies_his_log_once(settings: Settings) -> None:
    writer = start(
        settings,
        """
        with open_warehouse(settings, "write") as warehouse:
            warehouse.execute("create table raw.usage (number integer)")
            warehouse.execute("checkpoint warehouse")
            warehouse.execute("insert into raw.usage values (1), (2), (3)")
            print("written", flush=True)
            time.sleep(60)
        """,
    )
    assert writer.stdout
    assert writer.stdout.readline() == "written\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait(10)
    assert settings.warehouse_file.with_name("warehouse.duckdb.wal").exists()

    before, after = compact(settings)

    assert min(before, after) > 0
    with open_warehouse(settings, "count") as warehouse:
        rows = warehouse.rows("select number from raw.usage order by number")
    assert rows == [(1,), (2,), (3,)]


def test_the_analysts_copy_holds_marts_and_no_customer_tables(settings: Settings) -> None:
    with open_warehouse(settings, "write") as warehouse:
        warehouse.execute("create table raw.crm_customer as select 'a name' as name")
        warehouse.execute("create table dm.revenue as select 76.00 as amount")
    publish_analyst_copy(settings)
    publish_analyst_copy(settings)
    assert settings.analyst_file.stat().st_mode & 0o777 == 0o440
    with duckdb.connect(str(settings.analyst_file), read_only=True) as copy:
        tables = copy.execute("select schema_name, table_name from duckdb_tables()").fetchall()
    assert tables == [("dm", "revenue")]


def test_the_analysts_copy_does_not_say_who_called_whom(settings: Settings) -> None:
    with open_warehouse(settings, "test") as warehouse:
        warehouse.execute("create schema if not exists billing")
        for table in ("classified_usage", "late_usage", "group_number", "charge"):
            warehouse.execute(f"create table billing.{table} as select '861' as other_party")
    publish_analyst_copy(settings)
    with duckdb.connect(str(settings.analyst_file), read_only=True) as copy:
        assert copy.sql("select table_name from information_schema.tables").fetchall() == [
            ("charge",)
        ]


def test_the_analysts_copy_holds_prices_but_not_who_pays_them(settings: Settings) -> None:
    with open_warehouse(settings, "write") as warehouse:
        warehouse.execute("create table ods.usage_price as select 'v' as usage_price_id")
        warehouse.execute("create table ods.customer as select 'a name' as name")
        warehouse.execute(
            "create view billing.charge as select usage_price_id from ods.usage_price"
        )
    publish_analyst_copy(settings)
    with read_published_copy(settings) as copy:
        assert copy.rows("select * from billing.charge") == [("v",)]
        assert copy.has_table("ods.usage_price")
        assert not copy.has_table("ods.customer")


def test_readers_share_the_warehouse_and_a_writer_waits_for_them(settings: Settings) -> None:
    with open_warehouse(settings, "write") as warehouse:
        warehouse.execute("create table dm.revenue as select 76 as amount")
    with read_warehouse(settings) as one, read_warehouse(settings) as other:
        assert one.rows("select * from dm.revenue") == other.rows("select * from dm.revenue")
        with pytest.raises(duckdb.Error, match="read-only"):
            one.execute("create table dm.other as select 1 as amount")
        with pytest.raises(WarehouseBusyError), writer_lock(settings, "write"):
            pass
    with (
        writer_lock(settings, "a long run"),
        pytest.raises(WarehouseBusyError, match="a long run"),
        read_warehouse(settings),
    ):
        pass


def test_before_there_is_a_warehouse_a_reader_is_told_what_to_do(settings: Settings) -> None:
    for opening in (read_warehouse, read_published_copy):
        with pytest.raises(EngineError, match="publish"), opening(settings):
            pass


def test_a_failed_attachment_does_not_repeat_the_password() -> None:
    with connect_engine() as connection, pytest.raises(EngineError) as refused:
        attach_postgres(connection, "postgresql://u:hunter2@127.0.0.1:9/none", "other")
    assert "hunter2" not in str(refused.value)
    assert "127.0.0.1:9" in str(refused.value)


def test_a_file_of_an_older_version_becomes_one_of_this_version(settings: Settings) -> None:
    settings.warehouse_file.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(config={"storage_compatibility_version": "v1.0.0"}) as older:
        older.execute(f"attach '{settings.warehouse_file}' as made")
        older.execute("create schema made.ods")
        older.execute("create table made.ods.kept (name varchar using compression dictionary)")
        older.execute("insert into made.ods.kept select 'a' || i % 9 from range(200000) as t(i)")
    with open_warehouse(settings, "test") as warehouse:
        warehouse.execute("create table ods.new (name varchar using compression dict_fsst)")
        warehouse.execute("insert into ods.new select name from ods.kept")
        warehouse.execute("insert into ods.kept select name from ods.new")
    with open_warehouse(settings, "test") as warehouse:
        assert warehouse.rows("select count(*), count(distinct name) from ods.kept") == [
            (400000, 9)
        ]
        assert warehouse.rows("select count(*), count(distinct name) from ods.new") == [(200000, 9)]
