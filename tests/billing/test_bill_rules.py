"""Discounts, shares and taxes of any bills are what the clerk makes of them, and add up."""

from __future__ import annotations

import csv
from collections import defaultdict
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.billing.clerk import discounted, half_up, paid_by_others, tax_within
from tollhouse.settings import PROJECT_ROOT, Settings
from tollhouse.warehouse import open_warehouse, transform

CODES = ("rent", "voice", "sms", "data", "roaming", "vas", "collection")
MODELS = (
    "billing__discount", "billing__payment_share", "billing__bill_item", "billing__bill",
    "billing__bill_movement",
)  # fmt: skip
PAYERS = ("G1", "G2")
PASSES = 3
_TEXT, _WHOLE, _MOMENT = pa.string(), pa.int64(), pa.timestamp("us")
# What the models read, with the columns they read of it.
TABLES: dict[str, dict[str, pa.DataType]] = {
    "ods.billing_cycle": {
        "cycle_id": _TEXT, "starts_at": _TEXT, "ends_at": _TEXT, "state": _TEXT,
    },
    "ods.account": {"account_id": _TEXT, "customer_id": _TEXT, "province_code": _TEXT},
    "ods.payment": {
        "payment_id": _TEXT, "account_id": _TEXT, "paid_at": _MOMENT,
        "amount": pa.decimal128(18, 2),
    },
    "ods.adjustment": {
        "entry_id": _WHOLE, "account_id": _TEXT, "posted_date": pa.date32(),
        "amount": pa.decimal128(18, 2),
    },
    "billing.charged_item": {
        "account_id": _TEXT, "customer_id": _TEXT, "subscription_id": _TEXT, "cycle_id": _TEXT,
        "province_code": _TEXT, "offering_id": _TEXT, "bill_item_code": _TEXT, "quantity": _WHOLE,
        "unit": _TEXT, "charge_amount": pa.decimal128(18, 6), "amount_fen": _WHOLE,
        "currency_code": _TEXT,
    },
    "billing.discount_order": {
        "subscription_id": _TEXT, "cycle_id": _TEXT, "discount_id": _TEXT, "pass_number": _WHOLE,
        "kind": _TEXT, "name_zh": _TEXT, "name_en": _TEXT, "bill_item_codes": _TEXT,
        "value_micro": _WHOLE,
    },
    "billing.payment_order": {
        "subscription_id": _TEXT, "cycle_id": _TEXT, "payment_responsibility_id": _TEXT,
        "pass_number": _WHOLE, "payer_account_id": _TEXT, "bill_item_codes": _TEXT,
        "share_micro": _WHOLE, "cap_fen": _WHOLE,
    },
}  # fmt: skip
CYCLES = {"2014-05": "2014-04-30", "2014-06": "2014-05-31", "2026-10": "2026-09-30"}

# Of account A1, on each side of both midnights of October 2026 in China.
PAYMENTS = (
    ("2026-09-30 15:59:59", Decimal("1.00")), ("2026-09-30 16:00:00", Decimal("20.00")),
    ("2026-10-31 15:59:59", Decimal("300.00")), ("2026-10-31 16:00:00", Decimal("4000.00")),
)  # fmt: skip
ADJUSTMENTS = (
    ("2026-09-30", Decimal("0.01")), ("2026-10-01", Decimal("-0.20")),
    ("2026-10-31", Decimal("3.00")), ("2026-11-01", Decimal("40.00")),
)  # fmt: skip

amounts = st.one_of(st.integers(0, 30), st.integers(0, 100_000), st.integers(-500, 0))
code_lists = st.one_of(
    st.none(),
    st.lists(st.sampled_from((*CODES, "minimum")), min_size=1, max_size=3, unique=True).map(
        ",".join
    ),
)
percents = st.decimals(Decimal("0.000001"), Decimal(100), places=6)
yuan = st.one_of(
    st.decimals(Decimal("0.01"), Decimal("500"), places=2),
    st.decimals(Decimal("0.000001"), Decimal("20"), places=6),
)
discounts = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("percent"), "value": percents, "bill_item_codes": code_lists}
    ),
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(("amount", "cap", "minimum")),
            "value": yuan,
            "bill_item_codes": code_lists,
        }
    ),
)
promises = st.fixed_dictionaries(
    {
        "payer": st.sampled_from(PAYERS),
        "share_percent": st.one_of(percents, st.just(Decimal(100))),
        "bill_item_codes": code_lists,
        "cap": st.one_of(st.none(), st.integers(1, 20_000)),
    }
)
lines = st.fixed_dictionaries(
    {
        "items": st.dictionaries(st.sampled_from(CODES), amounts, min_size=1),
        "discounts": st.lists(discounts, max_size=PASSES),
        "promises": st.lists(promises, max_size=PASSES),
        "cycle": st.sampled_from(sorted(CYCLES)),
        "account": st.integers(1, 9).map("A{}".format),
    }
)


# Half of 120.00 and then 20.00 off is not 20.00 off and then half; what is others' stays whole.
ORDERED = {
    "items": {"rent": 10_000, "data": 2_000, "collection": 3_000},
    "cycle": "2026-10", "account": "A1", "promises": [],
    "discounts": [
        {"kind": "percent", "value": Decimal(50), "bill_item_codes": None},
        {"kind": "amount", "value": Decimal(20), "bill_item_codes": None},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A warehouse with the seeds that bills go by, and nothing else."""
    made = Settings(home=tmp_path_factory.mktemp("bill-rules"))
    transform(made, ["bill_item,resource_type:seed", "tax_rate,resource_type:seed"], command="seed")
    return made


@pytest.mark.pipeline
@settings(max_examples=3, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(lines, min_size=80, max_size=80))
def test_bills_are_what_the_clerk_makes_of_the_items_and_all_parts_add_up(
    home: Settings, drawn: list[dict[str, Any]]
) -> None:
    drawn = [*drawn, ORDERED]
    lay(home, drawn)
    transform(home, list(MODELS), command="run")
    with open_warehouse(home, "read") as warehouse:
        items = warehouse.table("billing.bill_item").to_pylist()
        bills = warehouse.table("billing.bill").to_pylist()
        movements = warehouse.table("billing.bill_movement").to_pylist()
    expected = by_hand(drawn)
    assert total_of(expected, f"S{len(drawn) - 1}") == 7_000
    found = {
        (
            row["bill_id"], row["subscription_id"], row["bill_item_code"], row["item_kind"],
            row["discount_id"] or row["other_account_id"],
        ): fen(row["amount"])
        for row in items
    }  # fmt: skip
    assert len(found) == len(items)
    assert found == expected
    check_taxes(items)
    check_bills(items, bills)
    moved = {
        bill["bill_id"]: (bill["payment_amount"], bill["adjustment_amount"])
        for bill in bills
        if bill["payment_amount"] or bill["adjustment_amount"]
    }
    assert moved == {
        "2014-06-A1": (Decimal("1.00"), Decimal("0.01")),
        "2026-10-A1": (Decimal("320.00"), Decimal("2.80")),
    }
    for bill_id, sums in moved.items():
        parts = [row for row in movements if row["bill_id"] == bill_id]
        assert sums == (
            sum(row["amount"] for row in parts if row["payment_id"] is not None),
            sum(row["amount"] for row in parts if row["entry_id"] is not None),
        )
    assert {row["bill_id"] for row in movements} == moved.keys()


def lay(home: Settings, drawn: list[dict[str, Any]]) -> None:
    """Put the lines into the tables that the models read."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cycle, eve in CYCLES.items():
        following = next((v for k, v in sorted(CYCLES.items()) if v > eve), "2026-10-31")
        rows["ods.billing_cycle"].append(
            {
                "cycle_id": cycle, "starts_at": f"{eve} 16:00:00", "state": "open",
                "ends_at": f"{following} 16:00:00",
            }
        )  # fmt: skip
    for account in (*PAYERS, *(f"A{number}" for number in range(1, 10))):
        rows["ods.account"].append(
            {"account_id": account, "customer_id": f"C-{account}", "province_code": "44"}
        )
    rows["ods.payment"] = [
        {
            "payment_id": at,
            "account_id": "A1",
            "paid_at": datetime.fromisoformat(at),
            "amount": amount,
        }
        for at, amount in PAYMENTS
    ]
    rows["ods.adjustment"] = [
        {
            "entry_id": number,
            "account_id": "A1",
            "posted_date": date.fromisoformat(day),
            "amount": amount,
        }
        for number, (day, amount) in enumerate(ADJUSTMENTS)
    ]
    for number, line in enumerate(drawn):
        key = {"subscription_id": f"S{number}", "cycle_id": line["cycle"]}
        for code, amount in line["items"].items():
            rows["billing.charged_item"].append(
                key
                | {
                    "account_id": line["account"], "customer_id": f"C-{line['account']}",
                    "province_code": "44", "offering_id": "plan", "bill_item_code": code,
                    "quantity": 1, "unit": "event", "charge_amount": Decimal(amount) / 100,
                    "amount_fen": amount, "currency_code": "CNY",
                }
            )  # fmt: skip
        for place, discount in enumerate(line["discounts"], 1):
            rows["billing.discount_order"].append(
                key
                | {
                    "discount_id": f"d{place}", "pass_number": place, "kind": discount["kind"],
                    "name_zh": "", "name_en": "", "bill_item_codes": discount["bill_item_codes"],
                    "value_micro": int(discount["value"].scaleb(6)),
                }
            )  # fmt: skip
        for place, promise in enumerate(line["promises"], 1):
            rows["billing.payment_order"].append(
                key
                | {
                    "payment_responsibility_id": f"r{place}", "pass_number": place,
                    "payer_account_id": promise["payer"], "cap_fen": promise["cap"],
                    "bill_item_codes": promise["bill_item_codes"],
                    "share_micro": int(promise["share_percent"].scaleb(6)),
                }
            )  # fmt: skip
    with open_warehouse(home, "lay lines") as warehouse:
        for table, columns in TABLES.items():
            data = pa.Table.from_pylist(rows[table], schema=pa.schema(columns.items()))
            warehouse.connection.register("_rows", data)
            chosen = "*"
            if table == "ods.billing_cycle":
                chosen = (
                    "* replace (cast(starts_at as timestamp) as starts_at,"
                    " cast(ends_at as timestamp) as ends_at)"
                )
            warehouse.execute(f"create or replace table {table} as select {chosen} from _rows")
            warehouse.connection.unregister("_rows")


def total_of(parts: dict[tuple[Any, ...], int], subscription_id: str) -> int:
    return sum(amount for key, amount in parts.items() if key[1] == subscription_id)


def by_hand(drawn: list[dict[str, Any]]) -> dict[tuple[Any, ...], int]:
    """Every part of every bill, in fen."""
    parts: dict[tuple[Any, ...], int] = {}
    for number, line in enumerate(drawn):
        name, bill_id = f"S{number}", f"{line['cycle']}-{line['account']}"
        named = [row | {"discount_id": f"d{n}"} for n, row in enumerate(line["discounts"], 1)]
        changes = discounted(line["items"], named)
        net = defaultdict(int, line["items"])
        for code, amount in line["items"].items():
            parts[bill_id, name, code, "charge", None] = amount
        for discount_id, code, amount in changes:
            kind = "minimum" if amount > 0 else "discount"
            parts[bill_id, name, code, kind, discount_id] = amount
            net[code] += amount
        for (payer, code), amount in paid_by_others(net, line["promises"]).items():
            parts[bill_id, name, code, "share", payer] = -amount
            parts[f"{line['cycle']}-{payer}", name, code, "share", line["account"]] = amount
    return parts


def check_taxes(items: list[dict[str, Any]]) -> None:
    """Per bill and class half-up of the sum; over its parts by largest remainder."""
    with (PROJECT_ROOT / "dbt/seeds/ods/tax_rate.csv").open(encoding="utf-8") as file:
        rates = sorted(csv.DictReader(file), key=lambda row: row["valid_from"])
    classes = defaultdict(list)
    for item in items:
        assert item["net_amount"] + item["tax_amount"] == item["amount"]
        classes[item["bill_id"], item["tax_class"]].append(item)
    assert {tax_class for _, tax_class in classes} >= {"basic", "value_added"}
    for (bill_id, tax_class), parts in classes.items():
        rate = [
            row for row in rates
            if row["tax_class"] == tax_class and row["valid_from"][:7] <= bill_id[:7]
        ][-1]  # fmt: skip
        percent = Fraction(rate["rate_percent"])
        exact = {
            part["bill_item_key"]: tax_within(fen(part["amount"]), percent, rate["computed_on"])
            for part in parts
        }
        taxes = {part["bill_item_key"]: fen(part["tax_amount"]) for part in parts}
        assert sum(taxes.values()) == half_up(sum(exact.values(), Fraction(0)))
        by_remainder = sorted(exact, key=lambda key: (-(exact[key] % 1), key))
        raised = [taxes[key] - exact[key].__floor__() for key in by_remainder]
        assert set(raised) <= {0, 1}
        assert all(former >= latter for former, latter in pairwise(raised))


def check_bills(items: list[dict[str, Any]], bills: list[dict[str, Any]]) -> None:
    """The bills' columns are sums of their items, and shares come to nothing."""
    of_bill = defaultdict(list)
    for item in items:
        of_bill[item["bill_id"]].append(item)
    assert of_bill.keys() <= {bill["bill_id"] for bill in bills}
    for bill in bills:
        parts = of_bill[bill["bill_id"]]

        def total(*kinds: str, column: str = "amount", parts: Any = parts) -> Decimal:
            return sum((row[column] for row in parts if row["item_kind"] in kinds), Decimal(0))

        assert bill["item_amount"] == total("charge", "minimum")
        assert bill["discount_amount"] == -total("discount")
        assert bill["shared_amount"] == total("share")
        assert bill["charge_amount"] == sum(row["amount"] for row in parts)
        assert bill["charge_amount"] == (
            bill["item_amount"] - bill["discount_amount"] + bill["shared_amount"]
        )
        assert bill["tax_amount"] == sum(row["tax_amount"] for row in parts)
    assert sum(bill["shared_amount"] for bill in bills) == 0


def fen(amount: Decimal) -> int:
    assert amount == round(amount, 2)
    return int(amount * 100)
