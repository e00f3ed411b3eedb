"""Databases with a few accounts in them, made from one template, and bills to put in them.

Making and dropping a database takes a second or more, emptying one some milliseconds: tests share
databases, and `clear` them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from operational import database, loading
from operational.accounts import service
from operational.billing.service import advance_cycle, ensure_cycle, publish_bills
from operational.catalogue.service import load_catalogue
from operational.identity.service import ensure_admin
from operational.permissions import Principal
from tollhouse.postgres import database_url
from tollhouse.settings import Profile, Settings

TEMPLATE = "books_template"
FINANCE = Principal("finance", "finance", "finance", "00")
SECOND = Principal("finance2", "finance2", "finance", "00")
AGENT = Principal("agent44", "agent44", "agent", "44")
ACCOUNTS = tuple(f"A{number:07d}" for number in range(1, 5))
_numbers = count(1)


def settings_for(host: Settings, name: str) -> Settings:
    """Settings of one database on the tests' server."""
    url = database_url(host, TEMPLATE).replace(TEMPLATE, name)
    return Settings(
        home=host.home, profile=Profile.server, operational_url=url, warehouse_url=f"{url}_no",
        secret_key="k" * 32, admin_password="a password of this test",
    )  # fmt: skip


def make_template(host: Settings, seed: Path) -> None:
    """A migrated database with a catalogue and four accounts that owe nothing."""
    settings = settings_for(host, TEMPLATE)
    database.upgrade(settings)
    load_catalogue(settings)
    ensure_admin(settings)
    loading.load_tables(settings, seed)
    close(settings)


@contextmanager
def books(host: Settings) -> Iterator[Settings]:
    """A database of its own, dropped afterwards; `clear` makes it as it was."""
    name = f"books_{next(_numbers)}"
    settings = settings_for(host, name)
    administer(host, "create database {} template {}", name, TEMPLATE)
    try:
        _keep(settings)
        yield settings
    finally:
        close(settings)
        administer(host, "drop database {} with (force)", name)


def _keep(settings: Settings) -> None:
    """Copy what the template has, for `clear`."""
    with connect(settings) as connection:
        connection.execute("create schema kept")
        tables = connection.execute(
            "select schemaname, tablename from pg_tables"
            " where schemaname not in ('kept', 'pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, table in tables:
            connection.execute(
                sql.SQL("create table {} as table {}").format(
                    sql.Identifier("kept", f"{schema}.{table}"), sql.Identifier(schema, table)
                )
            )


def clear(settings: Settings) -> None:
    """Make every table what it was in the template. Numbers that were given stay given."""
    with connect(settings) as connection:
        connection.execute("set lock_timeout = '20s'")
        connection.execute("set session_replication_role = replica")  # no triggers, no guards
        connection.execute(_CLEAR)


# A table whose rows are those that were kept is left alone.
_CLEAR = """
do $$
declare
    found record;
    is_kept boolean;
begin
    for found in
        select format('%I.%I', nsp.nspname, rel.relname) as name,
            format('kept.%I', nsp.nspname || '.' || rel.relname) as kept,
            string_agg(quote_ident(att.attname), ', ') as columns
        from pg_class as rel
        join pg_namespace as nsp on nsp.oid = rel.relnamespace
        join pg_attribute as att on att.attrelid = rel.oid
        where rel.relkind = 'r' and att.attnum > 0 and not att.attisdropped
            and att.attgenerated = ''
            and nsp.nspname not in ('kept', 'pg_catalog', 'information_schema')
            and nsp.nspname not like 'pg_temp%'
        group by nsp.nspname, rel.relname
    loop
        execute format(
            'select (select array_agg(row::text order by row::text) from %s as row)'
            ' is not distinct from (select array_agg(row::text order by row::text) from %s as row)',
            found.name, found.kept
        ) into is_kept;
        if not is_kept then
            execute format('delete from %s', found.name);
            execute format(
                'insert into %s (%s) overriding system value select %s from %s',
                found.name, found.columns, found.columns, found.kept
            );
        end if;
    end loop;
end $$
"""


def administer(host: Settings, statement: str, *names: str) -> None:
    with psycopg.connect(database_url(host, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def close(settings: Settings) -> None:
    """Let go of the connections to a database."""
    database.engine(settings).dispose()
    database._engines.pop(str(settings.operational_url))


def connect(settings: Settings) -> psycopg.Connection[Any]:
    return psycopg.connect(str(settings.operational_url))


def last_day(cycle_id: str) -> date:
    year, month = map(int, cycle_id.split("-"))
    return date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)


def issue(
    settings: Settings, cycle_id: str, charges: dict[str, dict[str, Decimal]], *,
    is_final: bool = True, taxes: dict[str, Decimal] | None = None,
) -> None:  # fmt: skip
    """Publish bills of a cycle (account → bill item → amount) as the pipeline does.

    `taxes` are within the amounts: bill item → tax.
    """
    taxes = taxes or {}
    if ensure_cycle(settings, cycle_id, settings.timezone).state == "open":
        for state in ("cut_off", "trial", *(("approved", "final") if is_final else ())):
            advance_cycle(settings, cycle_id, state, "test", "test")
    heads, items = [], []
    for account_id, amounts in charges.items():
        total = sum(amounts.values(), Decimal(0)).quantize(Decimal("0.01"))
        number = int(account_id[1:])
        heads.append(
            {
                "bill_id": f"{cycle_id}-{account_id}", "account_id": account_id,
                "cycle_id": cycle_id, "province_code": ("44", "44", "11", "51")[number - 1],
                "opening_amount": Decimal("0.00"), "item_amount": total, "charge_amount": total,
                "discount_amount": Decimal("0.00"), "shared_amount": Decimal("0.00"),
                "tax_amount": sum((taxes.get(code, Decimal(0)) for code in amounts), Decimal(0)),
                "adjustment_amount": Decimal("0.00"), "payment_amount": Decimal("0.00"),
                "closing_amount": total,
                "currency_code": "CNY", "content_hash": f"{amounts}",
            }
        )  # fmt: skip
        items += [
            {
                "bill_item_key": f"{cycle_id}-{account_id}-{code}", "item_kind": "charge",
                "bill_id": f"{cycle_id}-{account_id}", "subscription_id": f"S{number:07d}",
                "tax_amount": taxes.get(code, Decimal(0)).quantize(Decimal("0.01")),
                "bill_item_code": code, "name_zh": code, "name_en": code, "quantity": None,
                "unit": None, "amount": amount.quantize(Decimal("0.01")),
            }
            for code, amount in amounts.items()
        ]  # fmt: skip
    publish_bills(
        settings, pa.Table.from_pylist(heads), pa.Table.from_pylist(items, ITEMS),
        MOVEMENTS.empty_table(),
    )  # fmt: skip


ITEMS = pa.schema(
    [(name, pa.string()) for name in (
        "bill_item_key", "bill_id", "subscription_id", "bill_item_code", "item_kind", "discount_id",
        "other_account_id", "name_zh", "name_en", "unit", "tax_class",
    )]
    + [(name, pa.decimal128(18, 2)) for name in ("amount", "base_amount", "tax_amount")]
    + [("quantity", pa.int64()), ("tax_rate_percent", pa.decimal128(9, 4))]
)  # fmt: skip
MOVEMENTS = pa.schema(
    [("bill_movement_key", pa.string()), ("bill_id", pa.string()), ("payment_id", pa.string()),
     ("entry_id", pa.int64()), ("amount", pa.decimal128(18, 2))]
)  # fmt: skip


@dataclass(frozen=True)
class Books:
    """What the database says: open items, funds, sums of the ledger."""

    items: dict[str, Decimal]
    funds: dict[str, Decimal]
    ledger: dict[str, Decimal]


def read(settings: Settings) -> Books:
    with database.driver_transaction(settings) as connection:
        items = connection.execute("select open_item_id, open_amount from billing.open_item")
        funds = connection.execute("select fund_id, balance_amount from billing.fund")
        sums = connection.execute(
            "select ledger_code, sum(amount) from billing.ledger_line group by ledger_code"
        )
        return Books(dict(items.fetchall()), dict(funds.fetchall()), dict(sums.fetchall()))


def pay(settings: Settings, account_id: str, amount: str, day: date, **more: Any) -> str:
    """A payment at the counter; returns its id."""
    taken = service.take_payment(
        settings, principal=FINANCE, account_id=account_id, amount=Decimal(amount),
        today=day, **({"channel": "counter", "idempotency_key": f"test-{next(_numbers)}",
                       "paid_at": noon(day)} | more),
    )  # fmt: skip
    return taken.payment_id


def noon(day: date) -> datetime:
    return datetime.combine(day, time(4), UTC)  # noon in Shanghai
