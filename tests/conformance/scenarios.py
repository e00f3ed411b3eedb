"""Random scenarios, made to be nasty: every feature beside every other, and bounds hit exactly."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.conformance.oracle import QUANTITY_UNITS, WEEK, _band_periods

Document = dict[str, Any]

# A zone, and nights of a month in which its clock changes (or just a month).
PLACES = (
    ("UTC", "2026-10-05"), ("Asia/Shanghai", "2026-10-31"), ("Asia/Kathmandu", "2026-02-14"),
    ("Europe/Berlin", "2026-10-24"), ("Europe/Berlin", "2026-03-28"),
    ("America/New_York", "2026-11-01"), ("America/New_York", "2026-03-07"),
    ("Australia/Lord_Howe", "2026-04-04"), ("Australia/Lord_Howe", "2026-10-03"),
)  # fmt: skip
INCREMENTS = ("1", "6", "10", "30", "60", "0.1", "0.25", "7", "11", "1024", "4.2")
PERS = ("1", "3", "7", "60", "60", "10", "0.5", "1024")
AMOUNTS = ("0", "0.1", "0.111111", "0.000001", "1", "2.5", "0.033", "12.345678", "0.006", "100")
BOUNDS = ("0.5", "1", "3", "10", "12", "30", "59.5", "60", "100", "300", "1000")
PATTERNS: tuple[dict[str, list[tuple[str, str, str]]], ...] = (
    {"peak": [("mon-fri", "08:00", "22:00")]},
    {"night": [("mon-sun", "22:00", "06:00")], "day": [("mon-sun", "06:00", "22:00")]},
    {"night": [("fri,sat", "23:30", "02:30")], "noon": [("mon,wed,sat-sun", "12:00", "12:01")]},
    {"weekend": [("sat-sun", "00:00", "24:00")], "work": [("mon-fri", "00:00", "24:00")]},
    {"change": [("sat-mon", "01:30", "02:15")], "after": [("sun", "02:15", "03:00")]},
    {"change": [("sun", "02:00", "03:00")], "late": [("sat", "23:00", "01:59:30")]},
    {"a": [("mon-sun", "00:00", "01:00"), ("mon-sun", "02:00", "03:00")],
     "b": [("mon-sun", "01:00", "02:00")], "c": [("mon-sun", "03:00", "00:00")]},
    {"long": [("sun-fri", "20:00", "20:00")]},
)  # fmt: skip


def scenario(rng: random.Random, name: str) -> Document:
    """One scenario, without what it expects."""
    zone, day = rng.choice(PLACES)
    bands, prices = _prices(rng)
    lines = [f"L{number}" for number in range(1, rng.choice((1, 1, 2, 4)) + 1)]
    return {
        "id": name,
        "timezone": zone,
        "bands": bands,
        "tariff": {"prices": prices, "allowances": _allowances(rng, prices)},
        "lines": lines,
        "usage": _usage(rng, prices, bands, lines, datetime.fromisoformat(day)),
    }


def monthly(rng: random.Random, name: str) -> Document:
    """One scenario of fees: lines take bundles, change and leave them, and use what they have."""
    zone, month, days = rng.choice(MONTHS)
    document = scenario(rng, name)
    prices = [price for price in document["tariff"]["prices"] if "band" not in price]
    prices = prices or [_price(rng, "voice-all", "voice")]
    allowances = [
        allowance | {"covers": [rng.choice(prices)["id"]]}
        for allowance in document["tariff"]["allowances"] if allowance["scope"] != "pooled"
    ]  # fmt: skip
    lines = document["lines"]
    products = _products(rng)
    orders = _orders(rng, products, lines, datetime.fromisoformat(f"{month}-01"), days)
    tariff = {"prices": prices, "allowances": allowances} | _terms(rng)
    made = {
        "id": name, "timezone": zone, "month": month, "tariff": tariff, "products": products,
        "lines": lines, "orders": orders, "usage": [],
    }  # fmt: skip
    changes = [datetime.fromisoformat(order["at"]) for order in orders]
    services = sorted({price["service"] for price in prices})
    for number in range(rng.choice((0, 3, 8))):
        moment = datetime.fromisoformat(f"{month}-02") + timedelta(
            days=rng.randint(0, days - 3), seconds=rng.randint(0, 86_399)
        )
        if changes and rng.random() < 0.4:  # as an order takes effect
            moment = rng.choice(changes)
        if moment.isoformat()[:7] != month or any(
            timedelta(0) < at - moment < timedelta(hours=1) for at in changes
        ):
            continue
        made["usage"].append({
            "id": f"u{number}", "line": rng.choice(lines), "service": rng.choice(services),
            "started_at": moment.isoformat(), "quantity": str(rng.randint(1, 2000)),
        })  # fmt: skip
    return made


def _terms(rng: random.Random) -> Document:
    terms: Document = {"fee": rng.choice(("0", "10", "29.99", "76", "0.01", "100.000001"))}
    if rng.random() < 0.5:
        terms["first_month"] = rng.choice(("prorated", "whole", "half_after_mid", "free"))
    if rng.random() < 0.3:
        terms["last_month"] = rng.choice(("prorated", "whole"))
    return terms


def _products(rng: random.Random) -> list[Document]:
    plain = [
        {"id": f"{kind}{number}", "type": kind} | _terms(rng)
        for kind, count in (("plan", 2), ("addon", 3)) for number in range(count)
    ]  # fmt: skip
    plans = ["tariff", *(one["id"] for one in plain if one["type"] == "plan")]
    addons = [one["id"] for one in plain if one["type"] == "addon"]
    bundles = []
    for number in range(3):
        grouped = rng.sample(plans, 1 + number // 2) + rng.sample(addons, rng.randint(1, 3))
        components: list[Document] = []
        for name in grouped:
            rule = rng.choice(("included", "own", "replaced"))
            more = {"fee": rng.choice(("0", "7.77", "50"))} if rule == "replaced" else {}
            components.append({"product": name, "fee_rule": rule} | more)
        bundles.append(
            {"id": f"bundle{number}", "type": "bundle", "components": components} | _terms(rng)
        )
    return plain + bundles


def _orders(
    rng: random.Random, products: list[Document], lines: list[str], month: datetime, days: int
) -> list[Document]:
    """Orders in turn, each at a moment of its own; what the next one refuses is left out."""
    plans = {"tariff", *(one["id"] for one in products if one["type"] == "plan")}
    orders: list[Document] = []
    in_bundle: dict[str, tuple[str, datetime | None]] = {}  # line → whose bundle, until when
    spans = rng.sample(range(-5 * 24, (days + 3) * 24), rng.choice((1, 2, 4, 6)))
    for hours in sorted(spans):
        begin = month + timedelta(hours=hours, seconds=rng.choice((0, 0, 1, 3599)))
        product, line = rng.choice(products), rng.choice(lines)
        count = sum(one["product"] in plans for one in product.get("components", []))
        taking = [line, *rng.sample([one for one in lines if one != line], 1)] if (
            count == 2 and len(lines) > 1
        ) else [line]  # fmt: skip
        if count > len(taking):
            continue
        standing = [in_bundle[one] for one in taking if one in in_bundle]
        standing = [(owner, end) for owner, end in standing if end is None or end > begin]
        if product["type"] != "addon" and any(
            end is not None or owner not in taking or product["type"] == "plan"
            for owner, end in standing
        ):
            continue
        order: Document = {"line": line, "product": product["id"], "at": begin.isoformat()}
        end = None
        if product["type"] != "plan" and rng.random() < 0.5:
            end = begin + timedelta(hours=rng.choice((1, 30, 200)), seconds=rng.choice((0, 1)))
            order["end"] = end.isoformat()
        if len(taking) > 1:
            order["with"] = taking[1]
        if product["type"] == "bundle":
            in_bundle |= dict.fromkeys(taking, (line, end))
        orders.append(order)
    return orders


# A zone, a month, and its days; clocks change within some.
MONTHS = (
    ("Asia/Shanghai", "2026-10", 31), ("Asia/Shanghai", "2026-02", 28),
    ("Europe/Berlin", "2026-10", 31), ("Europe/Berlin", "2026-04", 30),
)  # fmt: skip


def _prices(rng: random.Random) -> tuple[Document, list[Document]]:
    bands: Document = {}
    prices: list[Document] = []
    for service in rng.sample(("voice", "data", "sms", "game"), rng.choice((1, 1, 2, 3))):
        if rng.random() < 0.45:
            prices.append(_price(rng, f"{service}-all", service))
            continue
        pattern = rng.choice(PATTERNS)
        named = {f"{service}-{band}": periods for band, periods in pattern.items()}
        for band, periods in named.items():
            bands[band] = [{"days": days, "from": begin, "to": end} for days, begin, end in periods]
            prices.append(_price(rng, band, service) | {"band": band})
        spans = [span for band in named for span in _band_periods(bands[band])]
        if sum(end - begin for begin, end in spans) < WEEK:
            prices.append(_price(rng, f"{service}-rest", service))
    if rng.random() < 0.2:
        bands["unused"] = [{"days": "mon-sun", "from": "03:07", "to": "17:21"}]
    rng.shuffle(prices)
    return bands, prices


def _price(rng: random.Random, name: str, service: str) -> Document:
    model = rng.choice(("slots", "slots", "slots", "graduated", "volume", "package"))
    price: Document = {"id": name, "service": service, "model": model}
    if rng.random() < 0.4:
        price["connection_fee"] = rng.choice(("0", "0.15", "0.000001", "1"))
    if rng.random() < 0.25:
        price["maximum"] = {"amount": rng.choice(("1", "2.5", "30")), "strategy": "free"}
    if rng.random() < 0.25:
        price["minimum"] = rng.choice(("0.3", "0.000001", {"amount": "0.99"}))
    if rng.random() < 0.6:
        price["rounding"] = {
            "at": "record",
            "mode": rng.choice(("up", "down", "half_up")),
            "digits": rng.randint(0, 6),
        }
    match model:
        case "slots":
            price["slots"] = _slots(rng)
            if rng.random() < 0.7:
                price["overhang"] = rng.choice(("absorb", "each"))
        case "package":
            price["package"] = {
                "size": rng.choice(("10", "0.5", "7", "1024")),
                "price": rng.choice(AMOUNTS),
            }
        case _:
            price["tiers"] = _tiers(rng)
    return price


def _slots(rng: random.Random) -> list[Document]:
    bounds = sorted(rng.sample(BOUNDS, rng.randint(1, 7)), key=Decimal)
    slots, begin = [], "0" if rng.random() < 0.9 else "0.25"
    for index, end in enumerate(bounds):
        is_last = index == len(bounds) - 1
        slot: Document = {
            "from": begin,
            "to": None if is_last and rng.random() < 0.7 else end,
            "increment": rng.choice(INCREMENTS),
            "per": rng.choice(PERS),
            "price": rng.choice(AMOUNTS),
        }
        if rng.random() < 0.2:
            slot["partial"] = True
        if rng.random() > 0.12 or not slots:  # else a gap, which is free
            slots.append(slot)
        begin = end
    return slots


def _tiers(rng: random.Random) -> list[Document]:
    bounds = sorted(rng.sample(BOUNDS, rng.randint(0, 4)), key=Decimal)
    tiers: list[Document] = []
    for end in (*bounds, None):
        tier: Document = {"to": end, "price": rng.choice(AMOUNTS)}
        if rng.random() < 0.5:
            tier["flat"] = rng.choice(AMOUNTS)
        tiers.append(tier)
    return tiers


def _allowances(rng: random.Random, prices: list[Document]) -> list[Document]:
    allowances = []
    names = [price["id"] for price in prices]
    for number in range(rng.choice((0, 0, 1, 1, 2, 3, 5))):
        is_money = rng.random() < 0.3
        covers = rng.sample(names, rng.randint(1, len(names)))
        allowances.append(
            {
                "id": f"a{rng.randint(0, 99)}-{number}",
                "size": rng.choice(("0.5", "10", "60", "0", "215.25", "1000", "7200")),
                "unit": "money" if is_money else rng.choice(QUANTITY_UNITS),
                "covers": covers,
                "priority": rng.randint(1, 3),
                "scope": rng.choice(("line", "line", "shared", "pooled")),
            }
        )
    return allowances


def _usage(
    rng: random.Random,
    prices: list[Document],
    bands: Document,
    lines: list[str],
    day: datetime,
) -> list[Document]:
    services = sorted({price["service"] for price in prices})
    marks = [
        period[end] for periods in bands.values() for period in periods for end in ("from", "to")
    ] or ["00:00"]
    count = rng.choice((1, 1, 2, 3, 5, 8, 12, 20, 60))
    arrivals = rng.sample(range(count), count)
    usage: list[Document] = []
    for number in range(count):
        service = rng.choice(services)
        quantity = _quantity(rng, service)
        started_at = _moment(rng, day, marks)
        line = rng.choice(lines)
        if usage and rng.random() < 0.15:  # at the same moment
            started_at = rng.choice(usage)["started_at"]
        if usage and rng.random() < 0.12:  # takes another back
            other = rng.choice(usage)
            service, line = other["service"], other["line"]
            quantity = format(-Decimal(other["quantity"]), "f")
        usage.append(
            {
                "id": f"u{rng.randint(0, 9)}{number}",
                "line": line,
                "service": service,
                "started_at": started_at,
                "quantity": quantity,
                "arrival": arrivals[number],
            }
        )
    return usage


def _quantity(rng: random.Random, service: str) -> str:
    kind = rng.random()
    if kind < 0.08:
        return "0"
    if kind < 0.3:
        size = Decimal(rng.choice(BOUNDS))
    elif kind < 0.4:
        size = Decimal(rng.choice(BOUNDS)) + Decimal("0.000001")
    elif kind < 0.55:
        size = Decimal(rng.randint(1, 10**8)).scaleb(-rng.choice((1, 3, 6)))
        size = min(size, Decimal(200_000))
    elif kind < 0.65 and service == "voice":
        size = Decimal(rng.choice((3600, 7200, 43_200, 86_400, 200_000)))
    else:
        size = Decimal(rng.randint(1, 2000))
    return format(-size if rng.random() < 0.08 else size, "f")


def _moment(rng: random.Random, day: datetime, marks: list[str]) -> str:
    kind = rng.random()
    moment = day + timedelta(days=rng.choice((0, 0, 0, 1)) if day.day < 28 else 0)
    if kind < 0.4:  # at, or just before, where a band begins
        hour, minute, *second = (int(part) for part in rng.choice(marks).split(":"))
        moment += timedelta(hours=hour % 24, minutes=minute, seconds=second[0] if second else 0)
        back = timedelta(seconds=rng.choice((0, 0, 1, 30, 59, 600)))
        moment = moment - back if moment - back >= day.replace(day=1) else moment
    elif kind < 0.6:
        moment += timedelta(seconds=rng.randint(0, 4 * 3600))
    else:
        moment += timedelta(seconds=rng.randint(0, 86_399))
    if rng.random() < 0.1:
        moment += timedelta(microseconds=rng.randint(1, 999_999))
    return moment.isoformat()
