"""The page of the explained bill is what the pipeline gives, and what a clerk makes of the files.

The clerk here shares no code with the product: the raw files as text, the tariffs as published.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import pytest

from docs.explained_bill import PAGE, SCENARIO, Home, build, items_of, page
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.warehouse import read_warehouse

pytestmark = pytest.mark.pipeline

MB = 1024 * 1024
FEN = Decimal("0.01")
CHINA = dt.timezone(dt.timedelta(hours=8))
CHANGE = dt.datetime(2026, 10, 16, tzinfo=CHINA)  # of the first line's plan
HOLIDAYS = {dt.date(2026, 10, day) for day in (1, 2, 3)}
LINES = {"8618600000101": 1, "8618600000102": 2, "8618600000103": 3}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The scenario, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("explained")
    try:
        yield build(folder)
    finally:
        EmbeddedServer(folder).remove()


@dataclass(frozen=True)
class Event:
    """One usage as the files tell it; `at` by the clock of China."""

    line: int
    at: dt.datetime
    service: str
    direction: str
    other: str
    seconds: int
    octets: int = 0
    is_abroad: bool = False

    @property
    def minutes(self) -> int:
        return -(-self.seconds // 60)


def test_the_page_is_what_is_built_from_the_raw_files(home: Home) -> None:
    assert page(home) == PAGE.read_text(encoding="utf-8"), "run `make docs`"


def test_items_tax_and_balance_are_what_a_clerk_makes_of_the_files(home: Home) -> None:
    expected = clerk(read_files())
    found = {
        (int(row["subscription_id"][-1]), row["bill_item_code"], row["item_kind"]): row["amount"]
        for row in items_of(home.settings)
    }
    assert found == expected
    total = sum(expected.values())
    basic = sum(amount for (_, code, _), amount in expected.items() if code not in ("data", "sms"))
    tax = fen(basic * 9 / 109) + fen((total - basic) * 6 / 106)
    with connect(home.settings) as connection:
        bill = connection.execute(
            "select charge_amount, tax_amount, payment_amount, closing_amount from billing.bill"
        ).fetchall()
        owed = connection.execute(
            "select sum(amount) from billing.ledger_line"
            " where ledger_code in ('receivable', 'deposit')"
        ).fetchone()
    assert bill == [(total, tax, 150, total - 150)]
    assert owed == (total - 150 - 5,)


def test_without_the_late_file_the_family_would_have_paid_less(home: Home) -> None:
    (late,) = home.scenario["late"]
    before = clerk(read_files(without=late))
    found = {
        (int(row["subscription_id"][-1]), row["bill_item_code"], row["item_kind"]): row["amount"]
        for row in home.before
    }
    assert found == before
    assert sum(before.values()) < sum(clerk(read_files()).values())


def test_the_shared_bucket_is_drawn_to_its_last_octet_by_all_three_lines(home: Home) -> None:
    with read_warehouse(home.settings, wait_s=30) as warehouse:
        drawn = warehouse.rows(
            "select line.subscription_id, sum(draw.drawn_micro) from billing.allowance_draw as draw"
            " inner join billing.cycle_line as line using (line_key)"
            " inner join billing.allowance_bucket as bucket using (bucket_id)"
            " where bucket.scope = 'shared' group by 1 order by 1"
        )
    assert [line for line, _ in drawn] == ["S0000001", "S0000002", "S0000003"]
    assert sum(micro for _, micro in drawn) == 4 * 1024 * MB * 1_000_000


def read_files(without: str | None = None) -> list[Event]:
    """What happened, in its order: repeated, broken and unanswered records left out."""
    calls: dict[tuple[str, ...], Event] = {}
    seen = set()
    for path in sorted((SCENARIO / "landing").rglob("*_*")):
        if without is not None and without.endswith(path.name):
            continue
        for text in path.read_text(encoding="utf-8").splitlines():
            if text.startswith("CDR|"):
                fields = text.split("|")
                _, service, direction, served, _, _, other, start, _, seconds = fields[:10]
                reference, part = fields[14:16]
                if served not in LINES or (reference, part) in seen:
                    continue
                seen.add((reference, part))
                former = calls.get((reference,))
                calls[reference,] = Event(
                    LINES[served], former.at if former else moment(start), service, direction,
                    other, int(seconds) + (former.seconds if former else 0),
                )  # fmt: skip
            elif text.startswith("S,"):
                _, served, start, _, _, up, down, session = text.split(",")
                calls[session,] = Event(
                    LINES[served], moment(start), "data", "mo", "", 0, int(up) + int(down)
                )
            elif text[0].isdigit():
                fields = text.split(",")
                record, service, direction, _, served, other, start, _, seconds, up, down, _ = (
                    fields
                )
                calls[record, "abroad"] = Event(
                    LINES[served], moment(start) - dt.timedelta(hours=1), service, direction,
                    other, int(seconds), int(up) + int(down), is_abroad=True,
                )  # fmt: skip
    answered = [each for each in calls.values() if each.service != "voice" or each.seconds]
    return sorted(answered, key=lambda each: each.at)


def clerk(events: list[Event]) -> dict[tuple[int, str, str], Decimal]:
    """Amounts by (line, bill item, kind), record by record."""
    exact: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
    minutes_left = {"old plan": 100, "new plan": 300, "evenings": 300}
    octets_left = {"old plan": 500 * MB, "new plan": 1024 * MB, "card": 512 * MB}
    octets_left["family"] = 4 * 1024 * MB
    to_pay: dict[int, int] = defaultdict(int)
    for event in events:
        if event.is_abroad:
            exact[event.line, "roaming"] += abroad(event)
        elif event.service == "data":
            own = {1: "old plan" if event.at < CHANGE else "new plan", 3: "card"}.get(event.line)
            rest = event.octets
            for bucket in filter(None, (own, "family")):
                drawn = min(rest, octets_left[bucket])
                octets_left[bucket] -= drawn
                rest -= drawn
            to_pay[event.line] += rest
            exact[event.line, "data"] += 0
        elif event.service == "sms":
            exact[event.line, "sms"] += Decimal("0.10")
        elif event.other.startswith("+44"):
            exact[event.line, "international"] += event.minutes * Decimal("1.99")
        elif event.direction == "mt" or event.other == "10010":
            exact[event.line, "voice"] += 0
        elif event.line == 1:
            exact[1, "voice"] += national(event, minutes_left)
        else:
            exact[2, "voice"] += by_band(event, minutes_left)
    for line, octets in to_pay.items():
        assert octets <= 200 * MB, "beyond the first step of the price"
        exact[line, "data"] += -(-octets // MB) * Decimal("0.10" if line == 3 else "0.30")
    fees = {
        1: fen(Decimal(56) * 15 / 31) + fen(Decimal(106) * 16 / 31) + Decimal("119.90"),
        2: Decimal(39),
        3: Decimal(80) / 2,
    }
    amounts = {(line, code, "charge"): fen(amount) for (line, code), amount in exact.items()}
    amounts |= {(line, "rent", "charge"): fee for line, fee in fees.items()}
    return amounts | {(2, "rent", "discount"): -fen(fees[2] * 5 / 100)}


def national(event: Event, left: dict[str, int]) -> Decimal:
    """A call of the first line: 0.15 a minute beyond what the plan of the moment gives."""
    before = max(0, min(event.seconds, int((CHANGE - event.at).total_seconds())))
    cost = Decimal(0)
    for plan, seconds in (("old plan", before), ("new plan", event.seconds - before)):
        minutes = -(-seconds // 60)
        drawn = min(minutes, left[plan])
        left[plan] -= drawn
        cost += (minutes - drawn) * Decimal("0.15")
    return cost


def by_band(event: Event, left: dict[str, int]) -> Decimal:
    """A call of the second line; one from the day into the evening is paid by its parts."""
    if event.at.weekday() >= 5 or event.at.date() in HOLIDAYS:
        return event.minutes * Decimal("0.12")
    evening = dt.datetime.combine(event.at.date(), dt.time(21), CHINA)
    day = max(0, min(event.seconds, int((evening - event.at).total_seconds())))
    first = -(-min(day, 180) // 60)
    cost = first * Decimal("0.25") + -(-max(0, day - 180) // 6) * Decimal("0.02")
    night = -(-(event.seconds - day) // 60)
    assert night <= left["evenings"]
    left["evenings"] -= night
    return cost


def abroad(event: Event) -> Decimal:
    """In Japan, zone 1."""
    if event.service == "voice":
        return event.minutes * Decimal("0.99")
    if event.service == "sms":
        return Decimal("0.39")
    exact = -(-event.octets // (10 * 1024)) * 10 * Decimal(3) / 1024
    return exact.quantize(Decimal("0.001"), ROUND_HALF_UP)


def moment(text: str) -> dt.datetime:
    return dt.datetime.strptime(f"{text}+0800", "%Y%m%d%H%M%S%z")


def fen(amount: Decimal) -> Decimal:
    return Decimal(amount).quantize(FEN, ROUND_HALF_UP)
