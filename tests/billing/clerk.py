"""A careful clerk: bills recomputed record by record with `decimal`, for comparison with the SQL.

Independent on purpose: it reads the standard usage and the operational database, shares no code
with the models, and keeps its own running totals in plain loops.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import dict_row

MODES = {"half_up": ROUND_HALF_UP, "up": ROUND_CEILING, "down": ROUND_DOWN}
FEN = Decimal("0.01")
NEVER = dt.datetime.max.replace(tzinfo=dt.UTC)
Row = dict[str, Any]


@dataclass
class Ledger:
    """What the clerk arrived at."""

    items: dict[tuple[str, str, str], Decimal] = field(default_factory=dict)
    bills: dict[str, dict[str, Decimal]] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    charges: dict[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True)
class Holding:
    """A product under one version of its plan, and since when until when the product itself."""

    instance_id: str
    version: Row
    start: dt.datetime
    end: dt.datetime
    joined: dt.datetime
    left: dt.datetime
    bundle_id: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What a day is paid for."""
        return self.instance_id, self.version["plan_version_id"]


@dataclass(frozen=True)
class Piece:
    """Days of a product that cost the same: under one version, and in or out of a bundle."""

    holding: Holding
    days: list[int]
    monthly: Decimal
    suspended: Decimal | None


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
                "crm.account", "crm.subscription", "crm.subscription_status",
                "crm.product_instance",
                "catalogue.price_plan_version", "catalogue.usage_price", "catalogue.price_tier",
                "catalogue.allowance", "catalogue.allowance_coverage", "billing.payment",
                "catalogue.bundle_component",
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
        """Go through the month day by day: each day of a line is paid to what it had last."""
        for subscription in self.tables["crm.subscription"]:
            for chain in self._chains(subscription):
                held = [h for h in chain if h.start < self.ends and h.end > self.starts]
                days = defaultdict(list)
                for number, (begin, end) in enumerate(self._days()):
                    if on_day := [h for h in held if h.start < end and h.end > begin]:
                        days[max(on_day, key=lambda h: h.start).key].append(number)
                idle = self._suspended_days(subscription["subscription_id"])
                key = (subscription["account_id"], subscription["subscription_id"], "rent")
                pieces = [
                    piece for holding in held for piece in self._pieces(holding, days[holding.key])
                ]
                for piece in pieces:
                    exact[key] += self._fee(piece, pieces, idle)

    def _pieces(self, holding: Holding, own_days: list[int]) -> list[Piece]:
        """The days of a product in order, divided where its bundle makes another fee of its own."""
        version = holding.version
        found: list[Piece] = []
        last: Row | None = None
        for day in own_days:
            begin, end = self._days()[day]
            bundle = self._bundle_on(holding, begin, end)
            if found and bundle == last:
                found[-1].days.append(day)
                continue
            last = bundle
            rule = bundle and next(
                (row for row in self.tables["catalogue.bundle_component"]
                 if row["plan_version_id"] == bundle["plan_version_id"]
                 and row["offering_id"] == version["offering_id"]), None,
            )  # fmt: skip
            monthly, suspended = version["monthly_fee_amount"], version["suspension_fee_amount"]
            if rule and rule["fee_rule"] != "own":
                monthly = rule["fee_amount"] or Decimal(0)
                suspended = None if suspended is None else min(suspended, monthly)
            found.append(Piece(holding, [day], monthly, suspended))
        return found

    def _bundle_on(self, holding: Holding, begin: dt.datetime, end: dt.datetime) -> Row | None:
        """The version of its bundle that a product is held through on a day: the last of it."""
        found, since = None, None
        for instance in self.tables["crm.product_instance"]:
            if instance["product_instance_id"] != holding.bundle_id:
                continue
            for version in self.versions[instance["offering_id"]]:
                start = max(instance["valid_from"], version["valid_from"], holding.start)
                stop = min(
                    instance["valid_to"] or NEVER, version["valid_to"] or NEVER, holding.end, end
                )
                if max(start, begin) < stop and (since is None or start > since):
                    found, since = version, start
        return found

    def _suspended_days(self, subscription_id: str) -> set[int]:
        """The days that end as suspended as they began."""
        story = sorted(
            (row["subscription_status_id"], row["valid_from"], row["status"])
            for row in self.tables["crm.subscription_status"]
            if row["subscription_id"] == subscription_id
        )
        found = set()
        for number, (begin, end) in enumerate(self._days()):
            during = [status for _, since, status in story if begin < since < end]
            before = [status for _, since, status in story if since <= begin]
            if before and {before[-1], *during} == {"suspended"}:
                found.add(number)
        return found

    def _fee(self, piece: Piece, pieces: Sequence[Piece], idle: set[int]) -> Decimal:
        holding, version = piece.holding, piece.holding.version
        days, in_month = len(piece.days), len(self._days())
        of_product = [one for one in pieces if one.holding.instance_id == holding.instance_id]
        is_first, is_last = holding.joined >= self.starts, holding.left < self.ends
        is_whole = is_first and version["first_month_rule"] in ("whole", "half_after_mid")
        if is_whole and piece is of_product[0]:
            days += piece.days[0]
        if (
            is_last
            and piece is of_product[-1]
            and (is_whole or version["last_month_rule"] == "whole")
        ):
            days += in_month - 1 - piece.days[-1]
        monthly, suspended = piece.monthly, piece.suspended
        saved = monthly - suspended if suspended is not None else 0
        fee = (monthly * days - saved * len(idle & set(piece.days))) / in_month
        if is_first and version["first_month_rule"] == "free":
            fee = Decimal(0)
        elif is_whole and version["first_month_rule"] == "half_after_mid":
            fee = fee / 2 if holding.joined.astimezone(self.zone).day >= 16 else fee
        return Decimal(fee).quantize(FEN, ROUND_HALF_UP)

    def _days(self) -> list[tuple[dt.datetime, dt.datetime]]:
        """The days of the cycle: where each begins and ends."""
        count = (self.ends.date() - self.starts.date()).days
        begins = [self.starts + dt.timedelta(days=number) for number in range(count + 1)]
        return list(pairwise(begins))

    def _chains(self, subscription: Row) -> list[list[Holding]]:
        """A line's plans one after the other, its bundles too, and each add-on by itself."""
        chains: dict[str, list[Holding]] = defaultdict(list)
        for instance in self.tables["crm.product_instance"]:
            if instance["subscription_id"] != subscription["subscription_id"]:
                continue
            joined = max(instance["valid_from"], subscription["valid_from"])
            left = min(instance["valid_to"] or NEVER, subscription["valid_to"] or NEVER)
            role, instance_id = instance["role"], instance["product_instance_id"]
            name = instance_id if role == "addon" else role
            for version in self.versions[instance["offering_id"]]:
                start = max(joined, version["valid_from"])
                end = min(left, version["valid_to"] or NEVER)
                if start < end:
                    chains[name].append(
                        Holding(instance_id, version, start, end, joined, left,
                                instance["bundle_instance_id"])
                    )  # fmt: skip
        return [sorted(chain, key=lambda h: h.start) for chain in chains.values()]

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


def _up(quantity: int | Decimal, increment: int | Decimal) -> int:
    # As integers: of decimals, // cuts towards zero.
    return -(-int(quantity) // int(increment)) * int(increment)


# --- What makes a bill of a line's items: in whole fen, one number after the other ----------------


def discounted(items: Mapping[str, int], discounts: Iterable[Row]) -> list[tuple[str, str, int]]:
    """Discounts, caps and minimums in their order: (discount, item, what it changes it by).

    What is collected for others is none of their business.
    """
    left = {code: amount for code, amount in items.items() if code != "collection"}
    changes = list[tuple[str, str, int]]()
    for discount in discounts:
        codes = discount["bill_item_codes"]
        chosen = [code for code in left if codes is None or code in codes.split(",")]
        total, value = sum(left[code] for code in chosen), Fraction(discount["value"])
        match discount["kind"]:
            case "percent":
                off = half_up(max(total, 0) * value / 100)
            case "amount":
                off = min(half_up(value * 100), max(total, 0))
            case "cap":
                off = max(total - half_up(value * 100), 0)
            case "minimum":
                off = 0
                if (missing := half_up(value * 100) - total) > 0:
                    left["minimum"] = left.get("minimum", 0) + missing
                    changes.append((discount["discount_id"], "minimum", missing))
        parts = shared_out(off, {code: left[code] for code in chosen if left[code] > 0})
        for code, part in parts.items():
            left[code] -= part
            if part:
                changes.append((discount["discount_id"], code, -part))
    return changes


def paid_by_others(items: Mapping[str, int], promises: Iterable[Row]) -> dict[tuple[str, str], int]:
    """What each payer pays of each item, by (payer, item); `items` after discounts."""
    left, paid = dict(items), dict[tuple[str, str], int]()
    for promise in promises:
        codes = promise["bill_item_codes"]
        chosen = [code for code in left if codes is None or code in codes.split(",")]
        there = {code: left[code] for code in chosen if left[code] > 0}
        whole = max(sum(items[code] for code in chosen), 0)
        pays = min(half_up(whole * Fraction(promise["share_percent"]) / 100), sum(there.values()))
        if promise["cap"] is not None:
            pays = min(pays, promise["cap"])
        for code, part in shared_out(pays, there).items():
            left[code] -= part
            key = (promise["payer"], code)
            paid[key] = paid.get(key, 0) + part
    return {key: part for key, part in paid.items() if part}


def shared_out(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """`total` in parts as the weights are, what is over to the largest remainders."""
    if not total:
        return {}
    whole = sum(weights.values())
    exact = {name: Fraction(total * weight, whole) for name, weight in weights.items()}
    parts = {name: part.numerator // part.denominator for name, part in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (parts[name] - exact[name], name))
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


def half_up(number: Fraction) -> int:
    """To a whole number, a half away from zero."""
    magnitude = (2 * abs(number) + 1) / 2
    return (magnitude.numerator // magnitude.denominator) * (1 if number >= 0 else -1)


def tax_within(amount: int, percent: Fraction, computed_on: str) -> Fraction:
    """The tax that a price includes, exactly."""
    return amount * percent / (100 + percent if computed_on == "net" else 100)
