"""What the operational database enforces whoever writes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import psycopg
import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from psycopg import errors

from operational import database
from operational.billing.service import advance_cycle, ensure_cycle
from operational.models import Base
from tollhouse.postgres import database_url, operational_url
from tollhouse.settings import PROJECT_ROOT, Settings

INSERT_SUBSCRIPTION = """
    insert into crm.subscription (subscription_id, account_id, msisdn, service_type, payment_type,
        status, valid_from, valid_to, province_code)
    values (%s, 'A0000001', %s, 'mobile', 'postpaid', 'active', %s, %s, '44')
"""


def final_cycle(settings: Settings, cycle_id: str) -> None:
    if ensure_cycle(settings, cycle_id, "Asia/Shanghai").state == "final":
        return
    for state in ("cut_off", "trial", "approved", "final"):
        advance_cycle(settings, cycle_id, state, "test", "test")


def test_upgrading_again_changes_nothing(operational: Settings, psql: Any) -> None:
    count = "select count(*) from information_schema.tables where table_schema <> 'pg_catalog'"
    with psql() as connection:
        before = connection.execute(count).fetchone()
    database.upgrade(operational)
    with psql() as connection:
        assert connection.execute(count).fetchone() == before


def test_models_are_what_the_migrations_make(operational: Settings) -> None:
    with database.engine(operational).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_schemas": True, "compare_type": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_every_table_says_when_a_row_was_made_and_changed(psql: Any) -> None:
    without = """
        select tab.table_schema || '.' || tab.table_name from information_schema.tables as tab
        where tab.table_type = 'BASE TABLE' and tab.table_name not like '%_transition'
            and tab.table_schema in ('crm', 'resource', 'catalogue', 'billing', 'settlement',
                'control', 'identity')
            and (select count(*) from information_schema.columns as col
                where (col.table_schema, col.table_name) = (tab.table_schema, tab.table_name)
                    and col.column_name in ('created_at', 'updated_at')
                    and col.data_type = 'timestamp with time zone') <> 2
    """
    with psql() as connection:
        assert connection.execute(without).fetchall() == []
        made, changed = connection.execute(
            "update crm.account set account_name = account_name where account_id = 'A0000002'"
            " returning created_at, updated_at"
        ).fetchone()
    assert changed > made


def test_a_number_belongs_to_one_subscription_at_a_time(psql: Any) -> None:
    with psql() as connection, pytest.raises(errors.ExclusionViolation):
        connection.execute(
            INSERT_SUBSCRIPTION, ("S9000001", "8618600000001", "2026-06-01+00", None)
        )


def test_a_number_is_recycled_after_its_subscription_ended(psql: Any) -> None:
    with psql() as connection:
        for subscription_id, begins, ends in (
            ("S9000002", "2024-01-01+00", "2025-01-01+00"),
            ("S9000003", "2025-01-01+00", None),
        ):
            connection.execute(
                INSERT_SUBSCRIPTION, (subscription_id, "8618699990001", begins, ends)
            )
        connection.rollback()


def test_of_two_subscriptions_for_a_number_at_once_only_one_is_kept(psql: Any) -> None:
    barrier = threading.Barrier(2)
    outcomes: list[str] = []

    def insert(subscription_id: str) -> None:
        try:
            with psql() as connection:
                barrier.wait(timeout=20)
                connection.execute(
                    INSERT_SUBSCRIPTION,
                    (subscription_id, "8618699990002", "2026-01-01+00", None),
                )
            outcomes.append("kept")
        except (errors.ExclusionViolation, errors.DeadlockDetected):
            outcomes.append("refused")

    threads = [threading.Thread(target=insert, args=(f"S900001{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(outcomes) == ["kept", "refused"]


def test_a_subscription_has_one_plan_at_a_time(psql: Any) -> None:
    with psql() as connection, pytest.raises(errors.ExclusionViolation):
        connection.execute(
            "insert into crm.product_instance (product_instance_id, subscription_id, offering_id,"
            " role, valid_from) values ('P9', 'S0000001', 'plan-4g-56', 'plan', now())"
        )


@pytest.mark.parametrize(
    "statement",
    [
        "update billing.payment set amount = 1",
        "delete from billing.payment",
        "truncate billing.payment cascade",
        "update identity.audit_log set username = 'nobody'",
        "delete from identity.audit_log",
        "truncate identity.audit_log",
        "delete from billing.billing_cycle_event",
        "update crm.customer_order_event set by_user = 'nobody'",
    ],
)
def test_append_only_tables_refuse_change(psql: Any, statement: str) -> None:
    with psql() as connection, pytest.raises(errors.RestrictViolation, match="append-only"):
        connection.execute(statement)


def test_a_cycle_begins_open(psql: Any) -> None:
    with psql() as connection, pytest.raises(errors.RestrictViolation, match="begin as open"):
        connection.execute(
            "insert into billing.billing_cycle (cycle_id, starts_at, ends_at, state)"
            " values ('2041-01', '2041-01-01+08', '2041-02-01+08', 'trial')"
        )


def test_a_cycle_moves_only_as_the_transition_table_allows(
    operational: Settings, psql: Any
) -> None:
    ensure_cycle(operational, "2041-02", "Asia/Shanghai")
    for state in ("trial", "approved", "final"):
        with psql() as connection, pytest.raises(errors.RestrictViolation, match="no transition"):
            connection.execute(
                "update billing.billing_cycle set state = %s where cycle_id = '2041-02'", (state,)
            )


@pytest.mark.parametrize(
    "statement",
    [
        "update billing.billing_cycle set state = 'trial' where cycle_id = '2041-03'",
        "update billing.billing_cycle set ends_at = ends_at - interval '1 h'"
        " where cycle_id = '2041-03'",
        "update billing.billing_cycle set version = 9 where cycle_id = '2041-03'",
        "delete from billing.billing_cycle where cycle_id = '2041-03'",
        "truncate billing.billing_cycle cascade",
    ],
)
def test_a_final_cycle_cannot_be_changed_by_sql(
    operational: Settings, psql: Any, statement: str
) -> None:
    final_cycle(operational, "2041-03")
    with psql() as connection, pytest.raises(psycopg.DatabaseError, match=r"final|append-only"):
        connection.execute(statement)


def test_an_order_moves_only_as_the_transition_table_allows(psql: Any) -> None:
    with psql() as connection:
        connection.execute(
            "insert into crm.customer_order (order_id, order_type, state, requested, placed_by,"
            " province_code) values ('O-sql', 'new_subscription', 'draft', '{}', 'test', '44')"
        )
        with pytest.raises(errors.RestrictViolation, match="no transition"):
            connection.execute(
                "update crm.customer_order set state = 'failed' where order_id = 'O-sql'"
            )
        connection.rollback()


def test_the_same_content_of_a_source_is_in_use_once(psql: Any) -> None:
    insert = """
        insert into control.usage_file (file_id, source_id, file_name, province_code, sha256,
            size_bytes, received_at, status)
        values (%s, 'MSC-44', %s, '44', 'abc', 1, now(), %s)
    """
    with psql() as connection:
        connection.execute(insert, ("MSC-44/a", "a", "collected"))
        connection.execute(insert, ("MSC-44/b", "b", "duplicate"))
        with pytest.raises(errors.UniqueViolation):
            connection.execute(insert, ("MSC-44/c", "c", "collected"))
        connection.rollback()


UPGRADE = """
import sys
from operational import database
from tollhouse.settings import Settings

settings = Settings()
with database.engine(settings).connect():
    print("ready", flush=True)
sys.stdin.readline()
database.upgrade(settings)
"""


def wait_until_both_ask(connection: psycopg.Connection[Any], lock: int) -> None:
    """Until two sessions wait for an advisory lock; fails after half a minute."""
    deadline = time.monotonic() + 30
    asking: tuple[int] | None = None
    while time.monotonic() < deadline:
        asking = connection.execute(
            "select count(*) from pg_locks where locktype = 'advisory' and objid = %s"
            " and not granted",
            (lock,),
        ).fetchone()
        if asking == (2,):
            return
        time.sleep(0.05)
    pytest.fail(f"sessions that wait for their turn to upgrade: {asking}")


def test_two_processes_may_upgrade_at_once(operational: Settings) -> None:
    url = database_url(operational, "upgraded_twice")
    other = {
        "TOLLHOUSE_PROFILE": "server", "TOLLHOUSE_OPERATIONAL_URL": url,
        "TOLLHOUSE_WAREHOUSE_URL": f"{url}_not", "TOLLHOUSE_SECRET_KEY": "k" * 32,
        "TOLLHOUSE_ADMIN_PASSWORD": "of the tests only",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE], cwd=PROJECT_ROOT, env=os.environ | other, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        with psycopg.connect(url, autocommit=True) as connection:
            made = connection.execute("select to_regclass('public.alembic_version')").fetchone()
            assert made == (None,), "the database is to be empty"
            # Both find an empty database and wait for their turn; then they get it at once.
            lock = database._MIGRATION_LOCK
            connection.execute("select pg_advisory_lock(%s)", (lock,))
            for process in started:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            wait_until_both_ask(connection, lock)
        ended = []
        for process in started:
            _, errors_of = process.communicate(timeout=120)
            ended.append((process.returncode, errors_of))
    finally:
        for process in started:
            process.kill()
    assert [code for code, _ in ended] == [0, 0], ended
    with psycopg.connect(url) as connection:
        assert connection.execute("select count(*) from alembic_version").fetchone() == (1,)
        assert connection.execute("select count(*) from crm.customer").fetchone() == (0,)


def test_an_installation_with_tariffs_keeps_them_and_gets_their_steps(
    operational: Settings,
) -> None:
    server = sqlalchemy.make_url(operational_url(operational)).set(drivername="postgresql+psycopg")
    with psycopg.connect(operational_url(operational), autocommit=True) as connection:
        connection.execute("drop database if exists migrating")
        connection.execute("create database migrating")
    fresh = sqlalchemy.create_engine(server.set(database="migrating"))
    configuration = Config()
    configuration.set_main_option("script_location", str(database.MIGRATIONS))
    try:
        with fresh.begin() as connection:
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "0002")
        with fresh.begin() as connection:
            for statement in OLD_TARIFF:
                connection.execute(sqlalchemy.text(statement))
        with fresh.begin() as connection:
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "head")
        with fresh.begin() as connection:
            classes = connection.execute(
                sqlalchemy.text(
                    "select charge_class, service, unit, bill_item_code"
                    " from catalogue.charge_class order by 1"
                )
            ).all()
            steps = connection.execute(
                sqlalchemy.text(
                    "select above_quantity, up_to_quantity, increment_quantity,"
                    " unit_numerator / cost_denominator from catalogue.price_step"
                    " join catalogue.usage_price using (usage_price_id)"
                    " join catalogue.price_plan_version using (plan_version_id) order by 1"
                )
            ).all()
            covered = connection.execute(
                sqlalchemy.text(
                    "select allowance_coverage_id, name_zh, band from catalogue.allowance_coverage"
                    " join catalogue.allowance using (allowance_id)"
                )
            ).all()
    finally:
        fresh.dispose()
    assert classes == [("data_domestic", "data", "octet", "data")]
    assert steps == [(0, 200, 10, 300_000), (200, None, 10, 0)]
    assert covered == [("p@1/data/data_domestic", "流量", None)]


OLD_TARIFF = (
    "insert into catalogue.offering values ('p', 'plan', 'x', 'x', 'active')",
    "insert into catalogue.price_plan_version (plan_version_id, offering_id, version_number,"
    " valid_from, monthly_fee_amount, currency_code) values ('p@1', 'p', 1, now(), 1, 'CNY')",
    "insert into catalogue.usage_price (usage_price_id, plan_version_id, charge_class, model,"
    " repeat_quantity, rounding_mode, rounding_digits, bill_item_code)"
    " values ('p@1/d', 'p@1', 'data_domestic', 'graduated', null, 'half_up', 3, 'data')",
    "insert into catalogue.price_tier values ('p@1/d', 1, 0, 200, 10, 10, 0.3),"
    " ('p@1/d', 2, 200, null, 10, 10, 0)",
    "insert into catalogue.allowance values ('p@1/data', 'p@1', 'octet', 5, 1, 'line', 'raw', 1)",
    "insert into catalogue.allowance_coverage values ('p@1/data', 'data_domestic')",
)
