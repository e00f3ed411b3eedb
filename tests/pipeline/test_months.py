"""Months one after the other: what is left rolls over, and what is owed is carried."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from operational import loading
from operational.billing.service import cycle_bounds, cycle_in_hand, open_cycles_until
from operational.billing.totals import month_totals
from operational.database import transaction
from operational.months import month_after
from tests.operational.accounts_books import FINANCE
from tollhouse.pipeline import control_totals, run_step
from tollhouse.postgres import EmbeddedServer
from tollhouse.settings import PROJECT_ROOT, Settings
from tollhouse.warehouse import read_warehouse

pytestmark = pytest.mark.pipeline

MB = 1_048_576
MONTHS = ("2026-08", "2026-09", "2026-10")
CLOSED = MONTHS[:2]
# Each line's add-ons, besides a plan with 500 MB. What is left of either may be used for one month
# more.
PACKS = {"S1": (100,), "S2": (300,), "S3": (100, 500), "S4": ()}
LEFT = "A5"  # an account without a line that paid once, in the first month
RATE = ("collect", "land", "mediate", "rate")
CLOSE = ("bill", "settle", "build_marts", "close_cycle", "publish")
Session = tuple[str, datetime, int]  # line, start, octets


@pytest.fixture(scope="module")
def sessions() -> list[Session]:
    """Data sessions of three months: some months little is left, some nothing, some all."""
    dice = random.Random(20261001)
    drawn = []
    for line in PACKS:
        for month in MONTHS:
            starts, ends = cycle_bounds(month, "Asia/Shanghai")
            seconds = int((ends - starts).total_seconds())
            upmost = dice.choice((30, 90, 260)) * MB
            for offset in sorted(dice.sample(range(seconds), 10)):
                begun = starts + timedelta(seconds=offset)
                drawn.append((line, begun, dice.randrange(1, upmost)))
    return drawn


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, sessions: list[Session]) -> Iterator[Settings]:
    """A carrier of four lines, two months closed and a third rated."""
    settings = Settings(
        home=tmp_path_factory.mktemp("months"), cycle=MONTHS[0],
        sources_dir=PROJECT_ROOT / "docs" / "explained",
    )  # fmt: skip
    try:
        run_step("prepare", settings)
        lay_customers(settings)
        for number, month in enumerate(MONTHS, 1):
            year, of_year = map(int, month.split("-"))
            opened = open_cycles_until(settings, date(year, of_year, 1))
            assert opened == ([month] if number > 1 else [])
            deliver(settings, number, month, sessions)
            # By its name: whether a month is over is a matter of the clock.
            in_hand = settings.model_copy(update={"cycle": month})
            for step in (*RATE, *(CLOSE if month in CLOSED else ())):
                run_step(step, in_hand)
        yield settings
    finally:
        EmbeddedServer(settings.home).remove()


def lay_customers(settings: Settings) -> None:
    since = datetime(2026, 1, 1, tzinfo=ZoneInfo(settings.timezone))
    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, (line, packs) in enumerate(PACKS.items(), 1):
        tables["crm.customer"].append(
            {
                "customer_id": f"C{number}", "customer_type": "individual", "name": f"客户{number}",
                "id_number": f"44010019800101001{number}", "segment": "mass", "province_code": "44",
            }
        )  # fmt: skip
        tables["crm.account"].append(
            {
                "account_id": f"A{number}", "customer_id": f"C{number}",
                "account_name": f"客户{number}", "bill_language": "zh", "status": "active",
                "province_code": "44",
            }
        )  # fmt: skip
        tables["crm.subscription"].append(
            {
                "subscription_id": line, "account_id": f"A{number}",
                "msisdn": f"861860000010{number}", "imsi": f"46001000000010{number}",
                "service_type": "mobile", "payment_type": "postpaid", "status": "active",
                "valid_from": since, "valid_to": None, "province_code": "44",
            }
        )  # fmt: skip
        products = ["plan-4g-56", *(f"data-pack-{size}mb" for size in packs)]
        tables["crm.product_instance"] += [
            {
                "product_instance_id": f"{line}-{product}", "subscription_id": line,
                "offering_id": product, "role": "plan" if product.startswith("plan") else "addon",
                "valid_from": since, "valid_to": None,
            }
            for product in products
        ]  # fmt: skip
    # A customer who has left: one account with money on it, and one with nothing.
    tables["crm.customer"].append(tables["crm.customer"][0] | {"customer_id": "C5"})
    tables["crm.account"] += [
        tables["crm.account"][0] | {"account_id": account_id, "customer_id": "C5"}
        for account_id in (LEFT, "A6")
    ]
    tables["billing.payment"] = [
        {
            "payment_id": f"P{month}", "account_id": "A1", "amount": Decimal("50.00"),
            "paid_at": cycle_bounds(month, settings.timezone)[0] + timedelta(days=20),
            "currency_code": "CNY", "channel": "bank", "idempotency_key": month,
            "province_code": "44",
        }
        for month in MONTHS
    ]  # fmt: skip
    once = {"payment_id": "PL", "account_id": LEFT, "idempotency_key": "L"}
    tables["billing.payment"].append(tables["billing.payment"][0] | once)
    folder = settings.home / "customers"
    folder.mkdir()
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    loading.load_tables(settings, folder)


def deliver(settings: Settings, number: int, month: str, sessions: list[Session]) -> Path:
    """The month's sessions as a file of the packet gateway, received as the month has ended."""
    starts, ends = cycle_bounds(month, settings.timezone)
    zone = ZoneInfo(settings.timezone)
    lines = [
        f"S,861860000010{line[1:]},{begun.astimezone(zone):%Y%m%d%H%M%S},+0800,60,0,{octets},"
        f"{month}{place}"
        for place, (line, begun, octets) in enumerate(sessions)
        if starts <= begun < ends
    ]
    created = ends.astimezone(zone)
    header = f"SESSIONS,GW-44,{number:06},{created:%Y%m%d%H%M%S},+0800"
    path = settings.landing_dir / "GW-44" / f"GW-44_{created:%Y%m%d}_{number:06}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines, f"END,{len(lines)}"]) + "\n", encoding="utf-8")
    os.utime(path, (ends.timestamp(), ends.timestamp()))
    return path


def drawn_by_hand(sessions: list[Session]) -> dict[tuple[str, str, str, int], int]:
    """Octets drawn by (line, cycle, cycle of the grant, size in MB), session by session."""
    drawn: dict[tuple[str, str, str, int], int] = defaultdict(int)
    left: dict[tuple[str, str, int], int] = {}  # by line, cycle of the grant, size
    for line, packs in PACKS.items():
        for month in MONTHS:
            left = {key: octets for key, octets in left.items() if month_after(key[1]) == month}
            left |= {(line, month, size): size * MB for size in packs}
            left |= {(line, month, 0): 500 * MB}  # the plan's own
            starts, ends = cycle_bounds(month, "Asia/Shanghai")
            for _, begun, octets in sorted(row for row in sessions if row[0] == line):
                wanted = octets if starts <= begun < ends else 0
                # The plan's own before the packs; of each what was left first; of two packs, the
                # smaller is named before the larger.
                order = sorted(left, key=lambda key: (key[2] > 0, key[1], key[2]))
                for key in order:
                    part = min(wanted, left[key])
                    wanted -= part
                    left[key] -= part
                    if part:
                        drawn[line, month, key[1], key[2]] += part
    return dict(drawn)


def test_what_is_left_is_drawn_in_the_next_month_and_not_later(
    home: Settings, sessions: list[Session]
) -> None:
    with read_warehouse(home) as warehouse:
        found = {
            (line, cycle, origin, size): micro // 1_000_000
            for line, cycle, origin, size, micro in warehouse.rows(
                """
                select line.subscription_id, line.cycle_id, bucket.origin_cycle_id,
                    case when product.role = 'plan' then 0
                        else cast(allowance.size_quantity / 1048576 as integer) end,
                    sum(draw.drawn_micro)
                from billing.allowance_draw as draw
                inner join billing.allowance_bucket as bucket using (bucket_id)
                inner join ods.allowance as allowance using (allowance_id)
                inner join billing.cycle_line as line on line.line_key = draw.line_key
                inner join ods.product_instance as product
                    on product.product_instance_id = bucket.product_instance_id
                group by all
                """
            )
        }
    expected = drawn_by_hand(sessions)
    assert found == expected
    rolled = {key for key in expected if key[1] != key[2]}
    assert {(line, size > 0) for line, *_, size in rolled} >= {("S1", True), ("S4", False)}


def test_a_bill_opens_with_what_the_one_before_closed_with(home: Settings) -> None:
    with read_warehouse(home) as warehouse:
        bills = warehouse.arrow(
            "select * from billing.bill order by account_id, cycle_id"
        ).to_pylist()
    assert len(bills) == (len(PACKS) + 1) * len(MONTHS)  # that of the last month so far
    closing: dict[str, Decimal] = defaultdict(Decimal)
    for bill in bills:
        assert bill["opening_amount"] == closing[bill["account_id"]]
        assert bill["closing_amount"] == (
            bill["opening_amount"] + bill["charge_amount"] - bill["payment_amount"]
        )
        closing[bill["account_id"]] = bill["closing_amount"]
    assert closing["A1"] == sum(
        bill["charge_amount"] - 50 for bill in bills if bill["account_id"] == "A1"
    )


def test_a_balance_that_does_not_move_is_stated_every_month_and_owes_nothing_new(
    home: Settings,
) -> None:
    columns = "cycle_id, opening_amount, charge_amount, payment_amount, closing_amount"
    with read_warehouse(home) as warehouse:
        found = [
            (row[0], *map(int, row[1:]))
            for row in warehouse.rows(
                f"select {columns} from billing.bill where account_id = ? order by cycle_id", [LEFT]
            )
        ]
        assert found == [
            (MONTHS[0], 0, 0, 50, -50), (MONTHS[1], -50, 0, 0, -50), (MONTHS[2], -50, 0, 0, -50),
        ]  # fmt: skip
    with transaction(home) as session:
        published = session.execute(
            text(f"select {columns} from billing.bill where account_id = :of order by cycle_id"),
            {"of": LEFT},
        ).all()
        posted = session.execute(
            text("select count(*) from billing.ledger_entry where entry_type = 'bill'"
                 " and account_id = :of"), {"of": LEFT},
        ).scalar_one()  # fmt: skip
    assert ([(row[0], *map(int, row[1:])) for row in published], posted) == (found[:2], 0)


def test_every_month_ties_from_raw_file_to_ledger_export(home: Settings) -> None:
    assert all(total["is_tied"] for total in control_totals(home))
    for month in CLOSED:
        totals = month_totals(home, principal=FINANCE, cycle_id=month)
        assert [total for total in totals if not total.is_tied] == []


def test_the_cycle_in_hand_is_the_oldest_that_is_over_or_named(home: Settings) -> None:
    *_, last_closed, still_open = MONTHS
    assert cycle_in_hand(home, date(2026, 10, 31)) == last_closed
    assert cycle_in_hand(home, date(2026, 11, 1)) == still_open
    named = home.model_copy(update={"cycle": still_open})
    assert cycle_in_hand(named, date(2026, 10, 2)) == still_open


def test_a_month_that_is_open_is_not_opened_again(home: Settings) -> None:
    assert open_cycles_until(home, date(2026, 10, 31)) == []
    assert open_cycles_until(home, date(2025, 1, 1)) == []
