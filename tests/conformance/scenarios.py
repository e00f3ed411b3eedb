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
