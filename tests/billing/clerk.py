"""A careful clerk: bills recomputed record by record with `decimal`, for comparison with the SQL.

Independent on purpose: it reads the standard usage and the operational database, shares no code
with the models, and keeps its own running totals in plain loops.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import dict_row

MODES = {"half_up": ROUND_HALF_UP, "up": ROUND_CEILING, "down": ROUND_DOWN}
FEN = Decimal("0.01")
Row = dict[str, Any]


@dataclass
class Ledger:
    """What the clerk arrived at."""

    items: dict[tuple[str, str, str], Decimal] = field(default_factory=dict)
    bills: dict[str, dict[str, Decimal]] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    charges: dict[str, Decimal] = field(default_factory=dict)


class Clerk:
    """Bills one cycle of a carrier from its operational tables and standard usage."""

    def __init__(self, operational_url: str, cycle: str, timezone: str) -> None:
        self.zone = ZoneInfo(timezone)
        year, month = (int(part) for part in cycle.split("-"))
        self.starts = dt.datetime(year, month, 1, tzinfo=self.zone)
        self.ends = (self.starts + dt.timedelta(days=32)).replace(day=1)
        self.tables: dict[str, list[Row]] = {}
        with psycopg.connect(operational_url, row_factory=dict_row) as connection:
            for table in (
                "crm.account", "crm.subscription", "crm.product_instance",
                "catalogue.price_plan_version", "catalogue.usage_price", "catalogue.price_tier",
                "catalogue.allowance", "catalogue.allowance_coverage", "billing.payment",
            ):  # fmt: skip
                self.tables[table] = connection.execute(f"select * from {table}").fetchall()
        self.subscriptions: dict[str, list[Row]] = defaultdict(list)
        for subscription in self.tables["crm.subscription"]:
            self.subscriptions[subscription["msisdn"]].append(subscription)
        self.plans: dict[str, list[Row]] = defaultdict(list)
        for instance in self.tables["crm.product_instance"]:
            if instance["role"] == "plan":
                self.plans[instance["subscription_id"]].append(instance)
        self.versions: dict[str, list[Row]] = defaultdict(list)
        for version in self.tables["catalogue.price_plan_version"]:
            self.versions[version["offering_id"]].append(version)
        self.prices = {
            (price["plan_version_id"], price["charge_class"]): price
            for price in self.tables["catalogue.usage_price"]
        }
        self.tiers: dict[str, list[Row]] = defaultdict(list)
        for tier in sorted(self.tables["catalogue.price_tier"], key=lambda t: t["tier_number"]):
            self.tiers[tier["usage_price_id"]].append(tier)
        covered = defaultdict(set)
        for coverage in self.tables["catalogue.allowance_coverage"]:
            covered[coverage["allowance_id"]].add(coverage["charge_class"])
        self.allowances: dict[str, list[tuple[Row, set[str]]]] = defaultdict(list)
        for allowance in sorted(self.tables["catalogue.allowance"], key=lambda a: a["priority"]):
            self.allowances[allowance["plan_version_id"]].append(
                (allowance, covered[allowance["allowance_id"]])
            )

    def work(self, usage: list[Row], charge_class_of: Any) -> Ledger:
        """Go through the usage in event order, then bill.

        `usage` rows are standard usage; `charge_class_of` names the charge class of one.
        """
        ledger = Ledger()
        exact: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
        left_of: dict[tuple[str, str], int] = {}
        priced_total: dict[tuple[str, str], int] = defaultdict(int)
        for record in sorted(usage, key=lambda row: (row["started_at"], row["usage_id"])):
            at = record["started_at"].replace(tzinfo=dt.UTC)
            subscription = _valid(self.subscriptions.get(record["served_msisdn"], []), at)
            if subscription is None:
                ledger.suspended.add(record["usage_id"])
                continue
            plan = _valid(self.plans[subscription["subscription_id"]], at)
            version = _valid(self.versions[plan["offering_id"]], at)
            charge_class = charge_class_of(record)
            price = self.prices[version["plan_version_id"], charge_class]
            quantity = _quantity(record)
            for allowance, classes in self.allowances[version["plan_version_id"]]:
                if charge_class not in classes:
                    continue
                wanted = quantity
                if allowance["quantity_basis"] == "rounded":
                    wanted = _up(quantity, allowance["rounding_increment"])
                bucket = (subscription["subscription_id"], allowance["allowance_id"])
                left = left_of.get(bucket, allowance["size_quantity"])
                drawn = min(left, wanted)
                if drawn:
                    left_of[bucket] = left - drawn
                    quantity = wanted - drawn
            tiers = self.tiers[price["usage_price_id"]]
            digits = Decimal(1).scaleb(-price["rounding_digits"])
            if price["model"] == "slots":
                billable = _up(quantity, tiers[0]["increment_quantity"])
                amount = billable * tiers[0]["price_amount"] / tiers[0]["per_quantity"]
            else:
                total = (subscription["subscription_id"], price["usage_price_id"])
                before = self._cost(tiers, price, priced_total[total])
                priced_total[total] += quantity
                amount = self._cost(tiers, price, priced_total[total]) - before
            amount = amount.quantize(digits, MODES[price["rounding_mode"]])
            ledger.charges[record["usage_id"]] = amount
            key = (
                subscription["account_id"], subscription["subscription_id"],
                price["bill_item_code"],
            )  # fmt: skip
            exact[key] += amount
        self._add_fees(exact)
        for key, amount in exact.items():
            ledger.items[key] = amount.quantize(FEN, ROUND_HALF_UP)
        self._add_bills(ledger)
        return ledger

    def _cost(self, tiers: list[Row], price: Row, total: int) -> Decimal:
        """Cost of a cycle's total: unit by unit through tiers that repeat."""
        total = _up(total, tiers[0]["increment_quantity"])
        cost = Decimal(0)
        while total > 0:
            period = min(total, price["repeat_quantity"] or total)
            for tier in tiers:
                upper = period if tier["to_quantity"] is None else min(period, tier["to_quantity"])
                part = max(0, upper - tier["from_quantity"])
                cost += part * tier["price_amount"] / tier["per_quantity"]
            total -= period
        return cost

    def _add_fees(self, exact: dict[tuple[str, str, str], Decimal]) -> None:
        by_id = {row["subscription_id"]: row for row in self.tables["crm.subscription"]}
        cycle_days = (self.ends.date() - self.starts.date()).days
        for instance in self.tables["crm.product_instance"]:
            subscription = by_id[instance["subscription_id"]]
            held_from = max(instance["valid_from"], subscription["valid_from"], self.starts)
            held_to = min(
                instance["valid_to"] or self.ends, subscription["valid_to"] or self.ends, self.ends
            )
            if held_from >= held_to:
                continue
            version = _valid(self.versions[instance["offering_id"]], held_from)
            first = held_from.astimezone(self.zone).date()
            last = (held_to - dt.timedelta(seconds=1)).astimezone(self.zone).date()
            fee = version["monthly_fee_amount"] * ((last - first).days + 1) / cycle_days
            key = (subscription["account_id"], subscription["subscription_id"], "rent")
            exact[key] += fee.quantize(FEN, ROUND_HALF_UP)

    def _add_bills(self, ledger: Ledger) -> None:
        charges: dict[str, Decimal] = defaultdict(Decimal)
        payments: dict[str, Decimal] = defaultdict(Decimal)
        for (account_id, _, _), amount in ledger.items.items():
            charges[account_id] += amount
        for payment in self.tables["billing.payment"]:
            if self.starts <= payment["paid_at"] < self.ends:
                payments[payment["account_id"]] += payment["amount"]
        for account_id in charges.keys() | payments.keys():
            ledger.bills[account_id] = {
                "charge_amount": charges[account_id],
                "payment_amount": payments[account_id],
                "closing_amount": charges[account_id] - payments[account_id],
            }


def _valid(rows: list[Row], at: dt.datetime) -> Row | None:
    found = [
        row
        for row in rows
        if row["valid_from"] <= at and (row["valid_to"] is None or at < row["valid_to"])
    ]
    assert len(found) <= 1, f"{len(found)} rows are valid at {at}"
    return found[0] if found else None


def _quantity(record: Row) -> int:
    if record["service"] == "voice":
        return int(record["duration_seconds"])
    if record["service"] == "data":
        return int(record["uplink_octets"]) + int(record["downlink_octets"])
    return 1


def _up(quantity: int, increment: int) -> int:
    return -(-quantity // increment) * increment
