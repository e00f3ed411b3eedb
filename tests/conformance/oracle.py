"""A careful clerk: rates one scenario record by record, balances in hand.

Written from the specification of the scenario format alone, in exact fractions, with none of the
project's code. What the models of production do in sets, this does one record at a time, so that
each can be held against the other.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 86_400
WEEK = 7 * DAY
QUARTER = timedelta(minutes=15)
QUANTITY_UNITS = ("second", "octet", "event", "quantity")
ZERO = Fraction(0)

Document = Mapping[str, Any]


@dataclass
class Rated:
    """What each record costs, what it drew from which allowance, and the fees of the month."""

    charges: dict[str, Fraction] = field(default_factory=dict)
    drawn: dict[str, dict[str, Fraction]] = field(default_factory=dict)
    fees: dict[str, dict[str, Fraction]] = field(default_factory=dict)

    def draw(self, usage: str, allowance: str, quantity: Fraction) -> None:
        if quantity:
            of_usage = self.drawn.setdefault(usage, {})
            of_usage[allowance] = of_usage.get(allowance, ZERO) + quantity

    @property
    def total(self) -> Fraction:
        of_fees = (fee for by_product in self.fees.values() for fee in by_product.values())
        return sum((*self.charges.values(), *of_fees), ZERO)


@dataclass
class Segment:
    """A part of a record under one price."""

    price: Document
    quantity: Fraction  # as recorded; negative of a correction
    rest: Fraction = ZERO  # what no allowance covers


@dataclass
class Part:
    """What of a record's charge falls to one of its prices."""

    price: Document
    amount: Fraction


def rate(document: Document) -> Rated:
    """Charges and draws of all records of a scenario."""
    return _Clerk(document).work()


TARIFF = "tariff"
LONG_AGO, NEVER = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


@dataclass(eq=False)
class Held:
    """A product of a line from a moment to another; `bundle` is what it is held through."""

    line: str
    product: str
    kind: str
    begin: datetime
    end: datetime = NEVER
    bundle: Held | None = None


def held(document: Document) -> list[Held]:
    """Everything that the lines hold, as they order it."""
    zone = ZoneInfo(document.get("timezone", "UTC"))

    def at(text: str | None) -> datetime:
        if text is None:
            return NEVER
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)

    products = {one["id"]: one for one in document.get("products", [])}
    kinds = {TARIFF: "plan"} | {name: one["type"] for name, one in products.items()}
    found = [Held(line, TARIFF, "plan", LONG_AGO) for line in document["lines"]]
    for order in sorted(document.get("orders", []), key=lambda one: at(one["at"])):
        begin, end, name = at(order["at"]), at(order.get("end")), order["product"]
        one = Held(order["line"], name, kinds[name], begin, end)
        lines = [order["line"], *([order["with"]] if "with" in order else [])]
        if one.kind != "addon":
            for other in found:
                # A plan ends as the next one begins, and a bundle with all its add-ons as the next.
                bundle = other if other.kind == "bundle" else other.bundle
                is_ended = (
                    other.line in lines if other.kind == "plan"
                    else bundle is not None and bundle.line in lines
                )  # fmt: skip
                if is_ended and other.end > begin:
                    other.end = begin
        found.append(one)
        if one.kind == "bundle":
            plans = iter(lines)
            for component in products[name]["components"]:
                kind = kinds[component["product"]]
                found.append(
                    Held(next(plans) if kind == "plan" else order["line"], component["product"],
                         kind, begin, NEVER if kind == "plan" else end, one)
                )  # fmt: skip
    return found


def fees(document: Document) -> dict[str, dict[str, Fraction]]:
    """The monthly fees of lines by product, found day by day."""
    zone = ZoneInfo(document.get("timezone", "UTC"))
    begins = [datetime.fromisoformat(f"{document['month']}-01")]
    while begins[-1].month == begins[0].month:
        begins.append(begins[-1] + timedelta(days=1))
    midnights = [day.replace(tzinfo=zone).astimezone(UTC) for day in begins]
    products = {TARIFF: document["tariff"]} | {
        one["id"]: one for one in document.get("products", [])
    }
    paid = _paid_days(held(document), list(pairwise(midnights)))
    found: dict[str, dict[str, Fraction]] = {line: {} for line in document["lines"]}
    for (one, bundle), numbers in paid.items():
        terms = products[one.product]
        whole = _fee_of_month(terms, one.product, bundle and products[bundle.product])
        every = [each for (other, _), of_part in paid.items() if other is one for each in of_part]
        rule_of_first = terms.get("first_month", "prorated")
        is_first, is_last = one.begin >= midnights[0], one.end < midnights[-1]
        is_whole = is_first and rule_of_first in ("whole", "half_after_mid")
        count, in_month = len(numbers), len(midnights) - 1
        if is_whole and numbers[0] == min(every):
            count += numbers[0]
        is_whole_to_the_end = is_whole or terms.get("last_month", "prorated") == "whole"
        if is_last and numbers[-1] == max(every) and is_whole_to_the_end:
            count += in_month - 1 - numbers[-1]
        if is_first and rule_of_first == "free":
            whole = ZERO
        if is_whole and rule_of_first == "half_after_mid" and one.begin.astimezone(zone).day >= 16:
            whole /= 2
        of_line = found[one.line]
        fee = rounded(whole * count / in_month, "half_up", 2)
        of_line[one.product] = of_line.get(one.product, ZERO) + fee
    return found


def _paid_days(
    holdings: list[Held], days: list[tuple[datetime, datetime]]
) -> dict[tuple[Held, Held | None], list[int]]:
    """The days that each product is paid for, in its bundle and without: who has it last of it."""
    paid: dict[tuple[Held, Held | None], list[int]] = {}
    for number, (begin, end) in enumerate(days):
        last: dict[object, Held] = {}
        for one in sorted(holdings, key=lambda one: one.begin):
            if max(one.begin, begin) < min(one.end, end):
                last[id(one) if one.kind == "addon" else (one.line, one.kind)] = one
        for one in last.values():
            bundle = one.bundle
            is_over = bundle is not None and max(bundle.begin, begin) >= min(bundle.end, end)
            paid.setdefault((one, None if is_over else bundle), []).append(number)
    return paid


def _fee_of_month(terms: Document, name: str, bundle: Document | None) -> Fraction:
    for component in bundle["components"] if bundle else ():
        if component["product"] == name and component.get("fee_rule", "included") != "own":
            return _exact(component.get("fee", 0))
    return _exact(terms.get("fee") or 0)


class _Bucket:
    """What an allowance has given; of a running total it covers what lies in [0, size]."""

    def __init__(self, size: Fraction) -> None:
        self.size = size
        self.total = ZERO

    def draw(self, amount: Fraction) -> Fraction:
        before = self._covered()
        self.total += amount
        return self._covered() - before

    def _covered(self) -> Fraction:
        return min(max(self.total, ZERO), self.size)


class _Meter:
    """The running total of a line under a price over the cycle."""

    def __init__(self, price: Document) -> None:
        self.price = price
        self.total = ZERO
        self.is_used = False

    def charge(self, quantity: Fraction) -> Fraction:
        before = self._cost()
        self.total += quantity
        self.is_used = True
        return self._cost() - before

    def _cost(self) -> Fraction:
        if not self.is_used:
            return ZERO
        cost = cumulative_cost(self.price, abs(self.total))
        return -cost if self.total < 0 else cost


class _Clerk:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.zone = ZoneInfo(document.get("timezone", "UTC"))
        self.lines = document["lines"]
        self.prices = document["tariff"]["prices"]
        self.allowances = sorted(
            document["tariff"].get("allowances", []),
            key=lambda each: (
                int(each.get("priority", 1)), each["scope"] != "line", str(each["id"]),
            ),
        )  # fmt: skip
        self.weeks = {
            service: _week(document.get("bands", {}), prices)
            for service, prices in _grouped(self.prices).items()
        }
        self.timed = self._timed_services()
        self.held = held(document)
        self.buckets: dict[tuple[str, object], _Bucket] = {}
        self.meters: dict[tuple[str, str, str], _Meter] = {}

    def work(self) -> Rated:
        rated = Rated()
        records = sorted(
            self.document.get("usage", []), key=lambda each: (self._moment(each), str(each["id"]))
        )
        owed: list[tuple[Document, list[Part]]] = []
        for record in records:
            segments = self._segments(record)
            for segment in segments:
                segment.rest = segment.quantity
                for allowance in self._covering(segment.price, record, is_money=False):
                    drawn = self._bucket(allowance, record).draw(segment.rest)
                    segment.rest -= drawn
                    rated.draw(record["id"], allowance["id"], drawn)
            owed.append((record, self._price(record, segments)))
        for record, parts in owed:
            for part in parts:
                for allowance in self._covering(part.price, record, is_money=True):
                    paid = self._bucket(allowance, record).draw(part.amount)
                    part.amount -= paid
                    rated.draw(record["id"], allowance["id"], paid)
            rated.charges[record["id"]] = sum((part.amount for part in parts), ZERO)
        if self.document.get("month"):
            rated.fees = fees(self.document)
        return rated

    def _price(self, record: Document, segments: Sequence[Segment]) -> list[Part]:
        """The record's total, rounded once, and laid on its prices.

        The smallest units of the total go to the largest remainders. A correction is worked out as
        the charge it takes back, its sign turned.
        """
        sign = -1 if _exact(record["quantity"]) < 0 else 1
        by_price: dict[str, list[Segment]] = {}
        for segment in segments:
            by_price.setdefault(segment.price["id"], []).append(segment)
        exact: list[Fraction] = []
        for of_price in by_price.values():
            price = of_price[0].price
            cost = sign * sum((self._cost(record, segment) for segment in of_price), ZERO)
            if price.get("minimum") is not None and any(part.rest for part in of_price):
                cost = max(cost, _amount(price["minimum"]))
            if price.get("maximum") is not None:
                cost = min(cost, _amount(price["maximum"]))
            exact.append(cost)
        if any(segment.rest for segment in segments):
            exact[0] += _exact(segments[0].price.get("connection_fee") or 0)
        rule = segments[0].price.get("rounding") or {}
        digits = min(6, int(rule.get("digits", 6)))
        unit = Fraction(1, 10**digits)
        total = rounded(sum(exact, ZERO), rule.get("mode", "half_up"), digits)
        amounts = [math.floor(amount / unit) * unit for amount in exact]
        spare = int((total - sum(amounts, ZERO)) / unit)
        order = sorted(range(len(exact)), key=lambda at: (amounts[at] - exact[at], at))
        for at in order[:spare]:
            amounts[at] += unit
        return [
            Part(of_price[0].price, sign * amount)
            for of_price, amount in zip(by_price.values(), amounts, strict=True)
        ]

    def _cost(self, record: Document, segment: Segment) -> Fraction:
        price = segment.price
        if price["model"] == "slots":
            cost = slots_cost(price, abs(segment.rest))
            return -cost if segment.rest < 0 else cost
        key = record["line"], self._plan(record).product, price["id"]
        return self.meters.setdefault(key, _Meter(price)).charge(segment.rest)

    def _covering(self, price: Document, record: Document, *, is_money: bool) -> Iterator[Document]:
        is_of_tariff = self._plan(record).product == TARIFF
        for allowance in self.allowances:
            is_paying = allowance["unit"] == "money"
            is_held = is_of_tariff or allowance["scope"] == "shared"
            if is_held and is_paying is is_money and price["id"] in allowance["covers"]:
                yield allowance

    def _is_half(self, plan: Held) -> bool:
        """Whether the tariff gives half in the month in which it was taken up so late."""
        begin = plan.begin.astimezone(self.zone)
        return (
            self.document["tariff"].get("first_month") == "half_after_mid"
            and begin.isoformat()[:7] == self.document["month"] and begin.day >= 16
        )  # fmt: skip

    def _plan(self, record: Document) -> Held:
        """The plan that the record's line has as it begins."""
        moment = self._moment(record)
        (plan,) = (
            one for one in self.held
            if one.line == record["line"] and one.kind == "plan" and one.begin <= moment < one.end
        )  # fmt: skip
        return plan

    def _bucket(self, allowance: Document, record: Document) -> _Bucket:
        scope = allowance["scope"]
        size = _exact(allowance["size"]) * (len(self.lines) if scope == "pooled" else 1)
        owner = id(self._plan(record)) if scope == "line" else None
        if scope == "line" and self._is_half(self._plan(record)):
            size = Fraction(math.floor(size * 500_000), 1_000_000)
        return self.buckets.setdefault((allowance["id"], owner), _Bucket(size))

    def _segments(self, record: Document) -> list[Segment]:
        """The record cut where another price begins, seconds being the time it takes."""
        week = self.weeks[record["service"]]
        quantity = _exact(record["quantity"])
        sign = -1 if quantity < 0 else 1
        moment = self._moment(record)
        if record["service"] not in self.timed or quantity == 0 or len(week.prices) == 1:
            return [Segment(week.at(self._civil(moment)), quantity)]
        segments: list[Segment] = []
        done, left = ZERO, abs(quantity)
        begin = _seconds(moment)
        for price, until in self._runs(week, moment):
            part = min(left, until - begin - done)
            if part > 0:
                if segments and segments[-1].price is price:
                    segments[-1].quantity += sign * part
                else:
                    segments.append(Segment(price, sign * part))
                done, left = done + part, left - part
            if left == 0:
                break
        return segments

    def _runs(self, week: _Week, moment: datetime) -> Iterator[tuple[Document, Fraction]]:
        """(price, until when it holds), in turn, from a moment on; both as absolute time.

        The clock is read anew at each change of it, so what a spring night skips is skipped, and
        what an autumn night has twice holds twice.
        """
        while True:
            civil = self._civil(moment)
            into_week = Fraction(civil.weekday() * DAY) + _of_day(civil)
            until = _seconds(moment) + week.next_change(into_week) - into_week
            clock = self._next_clock_change(moment, until)
            price = week.at(civil)
            yield price, clock
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
                microseconds=int(clock * 1_000_000)
            )

    def _next_clock_change(self, moment: datetime, until: Fraction) -> Fraction:
        """The first quarter of an hour at which the offset from UTC changes, or ``until``."""
        offset = _offset(self.zone.key, moment)
        quarter = datetime.fromtimestamp(int(moment.timestamp()) // 900 * 900, UTC) + QUARTER
        while _seconds(quarter) < until:
            if _offset(self.zone.key, quarter) != offset:
                return _seconds(quarter)
            quarter += QUARTER
        return until

    def _civil(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone)

    def _moment(self, record: Document) -> datetime:
        moment = datetime.fromisoformat(record["started_at"])
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self.zone)
        return moment.astimezone(UTC)

    def _timed_services(self) -> set[str]:
        """Voice is measured in seconds, and so is what an allowance of seconds covers."""
        covered = {
            price_id
            for allowance in self.allowances
            if allowance["unit"] == "second"
            for price_id in allowance["covers"]
        }
        return {"voice"} | {each["service"] for each in self.prices if each["id"] in covered}


class _Week:
    """Which price holds at each second of the week."""

    def __init__(self, prices: list[Document], changes: list[tuple[int, Document]]) -> None:
        self.prices = prices
        self._starts = [start for start, _ in changes]
        self._held = [price for _, price in changes]

    def at(self, civil: datetime) -> Document:
        second = civil.weekday() * DAY + _of_day(civil)
        return self._held[bisect_right(self._starts, second) - 1]

    def next_change(self, second: Fraction) -> Fraction:
        index = bisect_right(self._starts, second)
        return Fraction(self._starts[index] if index < len(self._starts) else WEEK)


def _week(bands: Document, prices: list[Document]) -> _Week:
    held: list[tuple[int, int, Document]] = []
    plain = next((price for price in prices if not price.get("band")), None)
    for price in prices:
        if price.get("band"):
            held += [(begin, end, price) for begin, end in _band_periods(bands[price["band"]])]
    marks = sorted({0, *(mark for begin, end, _ in held for mark in (begin, end) if mark < WEEK)})
    changes = []
    for mark in marks:
        of_mark = [price for begin, end, price in held if begin <= mark < end]
        price = of_mark[0] if of_mark else plain
        assert price is not None, "no price holds"
        changes.append((mark, price))
    return _Week(prices, changes)


def _band_periods(declared: Sequence[Document]) -> Iterator[tuple[int, int]]:
    for period in declared:
        begin, end = _time(period["from"]), _time(period["to"])
        for day in _days(period["days"]):
            if begin < end:
                yield day * DAY + begin, day * DAY + end
                continue
            yield day * DAY + begin, (day + 1) * DAY
            following = (day + 1) % 7
            if end:
                yield following * DAY, following * DAY + end


def _days(text: str) -> list[int]:
    days = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        day = DAYS.index(first)
        days.append(day)
        while last and DAYS[day] != last:
            day = (day + 1) % 7
            days.append(day)
    return days


def slots_cost(price: Document, quantity: Fraction) -> Fraction:
    """The cost of a quantity that begins at 0 of the slots."""
    cost, reached = ZERO, ZERO
    for slot in price["slots"]:
        begin = _exact(slot["from"])
        end = quantity if slot.get("to") is None else min(quantity, _exact(slot["to"]))
        if price.get("overhang", "absorb") == "absorb":
            begin = max(begin, reached)
        if end <= begin:
            continue
        billed = end - begin
        if not slot.get("partial"):
            increment = _exact(slot["increment"])
            billed = math.ceil(billed / increment) * increment
        reached = begin + billed
        cost += billed / _exact(slot["per"]) * _exact(slot["price"])
    return cost


def cumulative_cost(price: Document, total: Fraction) -> Fraction:
    """What a total of the cycle costs, of a line that has used the price."""
    if price["model"] == "package":
        package = price["package"]
        return math.ceil(total / _exact(package["size"])) * _exact(package["price"])
    cost, below = ZERO, ZERO
    for number, tier in enumerate(price["tiers"]):
        above = None if tier.get("to") is None else _exact(tier["to"])
        flat = _exact(tier.get("flat") or 0)
        if price["model"] == "volume":
            if above is None or total <= above:
                return total * _exact(tier["price"]) + flat
        elif number == 0 or total > below:
            part = (total if above is None else min(total, above)) - below
            cost += part * _exact(tier["price"]) + flat
        below = above if above is not None else below
    return cost


def rounded(amount: Fraction, mode: str, digits: int) -> Fraction:
    """Rounded by its size, so that what is given back mirrors what was charged."""
    scale = Fraction(10) ** digits
    size = abs(amount) * scale
    match mode:
        case "up":
            whole = math.ceil(size)
        case "down":
            whole = math.floor(size)
        case "half_up":
            whole = math.floor(size + Fraction(1, 2))
        case _:
            raise ValueError(mode)
    return (-1 if amount < 0 else 1) * Fraction(whole) / scale


def _grouped(prices: Sequence[Document]) -> dict[str, list[Document]]:
    by_service: dict[str, list[Document]] = {}
    for price in prices:
        by_service.setdefault(price["service"], []).append(price)
    return by_service


@cache
def _offset(zone: str, moment: datetime) -> timedelta | None:
    return moment.astimezone(ZoneInfo(zone)).utcoffset()


def _seconds(moment: datetime) -> Fraction:
    span = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return Fraction(span // timedelta(microseconds=1), 1_000_000)


def _of_day(civil: datetime) -> Fraction:
    whole = civil.hour * 3600 + civil.minute * 60 + civil.second
    return whole + Fraction(civil.microsecond, 1_000_000)


def _time(text: str) -> int:
    hours, minutes, *seconds = (int(part) for part in text.split(":"))
    return hours * 3600 + minutes * 60 + (seconds[0] if seconds else 0)


def _amount(value: Any) -> Fraction:
    return _exact(value["amount"] if isinstance(value, Mapping) else value)


def _exact(value: Any) -> Fraction:
    return Fraction(Decimal(str(value)))
