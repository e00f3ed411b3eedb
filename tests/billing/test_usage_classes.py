"""Whom a call goes to, from where, and which content is used decides what it costs.

A home of its own: five lines, an exchange, a switch and a content platform; amounts by hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operational import loading
from operational.billing.explanation import explain
from operational.catalogue.service import load_catalogue
from operational.permissions import HEADQUARTERS, Principal
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.settings import Settings
from tollhouse.warehouse import read_warehouse

pytestmark = pytest.mark.pipeline

CLERK = Principal("finance-1", "finance-1", "finance", HEADQUARTERS)
SINCE = datetime(2025, 12, 31, 16, tzinfo=UTC)
# By PyPI `phone`: 1862033 and 1867550 are Shenzhen (755), 1862000 Guangzhou (20), 1861000 Beijing.
APART, WIDE, FIXED, MEMBER = "8618620330001", "8618620330002", "861065550001", "8618675500003"
FAR = "8618620330006"

SOURCES = """
sources:
  - {source_id: PSTN-11, name_zh: 北京固话交换局, name_en: Fixed-line exchange of Beijing,
     format: fixed_line_cdr, province_code: "11", area_code: "10", file_name: 'PSTN-11_\\d+\\.dat',
     sequence_rule: continuous, late_after_hours: 24}
  - {source_id: MSC-20, name_zh: 广州交换局, name_en: Switch of Guangzhou,
     format: switch_cdr, province_code: "44", area_code: "20", file_name: 'MSC-20_\\d+\\.cdr',
     sequence_rule: continuous, late_after_hours: 24}
  - {source_id: SPG-44, name_zh: 内容平台, name_en: Content platform,
     format: content_cdr, province_code: "44", file_name: 'SPG-44_\\d+\\.txt',
     sequence_rule: continuous, late_after_hours: 24}
"""

# One price for each class, by the minute, and one plan that knows domestic calls only.
PRICES = {
    "voice_domestic": "0.30", "voice_local": "0.10", "voice_long_distance": "0.70",
    "voice_domestic_roaming": "0.60", "voice_friend": "0.05", "voice_group": "0.01",
    "voice_forwarded": "0.20", "voice_incoming": "0",
}  # fmt: skip


def price(charge_class: str, amount: str, increment: str = "1 min") -> str:
    return (
        f"          - {{charge_class: {charge_class}, model: slots, tiers: ["
        f'{{increment_quantity: {increment}, price_amount: "{amount}"}}]}}\n'
    )


def plan(offering_id: str, prices: dict[str, str]) -> str:
    return (
        f"  - offering_id: {offering_id}\n    offering_type: plan\n"
        f"    name_zh: {offering_id}\n    name_en: {offering_id}\n    versions:\n"
        "      - version_number: 1\n        valid_from: 2014-01-01\n"
        '        monthly_fee_amount: "0"\n'
        "        not_offered: [sms_domestic, data_domestic]\n        usage_prices:\n"
        + "".join(price(name, amount) for name, amount in prices.items())
    )


def content(offering_id: str, content_id: str, *versions: tuple[str, str, str | None]) -> str:
    rows = "".join(
        f"      - version_number: {number}\n        valid_from: {begins}\n"
        + (f"        valid_to: {ends}\n" if ends else "")
        + '        monthly_fee_amount: "0"\n        usage_prices:\n'
        + price("vas_content", amount, "1")
        for number, (amount, begins, ends) in enumerate(versions, 1)
    )
    return (
        f"  - offering_id: {offering_id}\n    offering_type: content\n    name_zh: {offering_id}\n"
        f'    name_en: {offering_id}\n    sp_id: "900"\n    content_id: {content_id}\n'
        f"    versions:\n{rows}"
    )


CATALOGUE = (
    "offerings:\n"
    + plan("plan-apart", PRICES)
    + plan("plan-wide", {"voice_domestic": "0.30", "voice_incoming": "0"})
    + plan(
        "plan-far", {"voice_domestic": "0.30", "voice_long_distance": "0.70", "voice_incoming": "0"}
    )
    + "        allowances:\n          - {allowance: friends, unit: second, size_quantity: 1 min,"
    " covers: [voice_friend]}\n"
    + content("content-a", "A", ("2", "2014-01-01", "2026-10-15"), ("3", "2026-10-15", None))
)
PUBLISHED_LATER = "offerings:\n" + content("content-b", "B", ("5", "2026-10-01", None))

LINES = (
    ("S0000001", APART, "44", "mobile", "plan-apart"),
    ("S0000002", WIDE, "44", "mobile", "plan-wide"),
    ("S0000003", FIXED, "11", "fixed", "plan-fixed-line"),
    ("S0000004", MEMBER, "44", "mobile", "plan-apart"),
    ("S0000005", FAR, "44", "mobile", "plan-far"),
)


def day(number: int, hour: int = 9) -> str:
    return f"202610{number:02d}{hour:02d}0000"


# Calls of one minute: line, other party, start, province of the switch, direction. What they are
# and cost under the plan that prices classes apart.
CALLS: tuple[tuple[str, str, str, str, str, str, str], ...] = (
    (APART, "075533334444", day(1), "44", "mo", "voice_local", "0.10"),
    (APART, "18675500009", day(2), "44", "mo", "voice_local", "0.10"),
    (APART, "02033334444", day(3), "44", "mo", "voice_long_distance", "0.70"),
    (APART, "+8618610000009", day(4), "44", "mo", "voice_long_distance", "0.70"),
    (APART, "4001234567", day(5), "44", "mo", "voice_domestic", "0.30"),
    (APART, "18610000001", day(6), "44", "mo", "voice_friend_long_distance", "0.05"),
    (APART, "18610000001", day(21), "44", "mo", "voice_long_distance", "0.70"),
    (APART, "66002", day(7), "44", "mo", "voice_group", "0.01"),
    (APART, "18675500003", day(8), "44", "mo", "voice_group_local", "0.01"),
    (APART, "66002", day(22), "44", "mo", "voice_domestic", "0.30"),
    (APART, "18675500003", day(23), "44", "mo", "voice_local", "0.10"),
    (APART, "18610000001", day(9), "51", "mo", "voice_domestic_roaming", "0.60"),
    (APART, "075533334444", day(10), "44", "forwarded", "voice_forwarded", "0.20"),
    (APART, "075533334444", day(11), "44", "mt", "voice_incoming", "0"),
    # Without a price apart all of them cost what a domestic call costs.
    (WIDE, "02033334444", day(1, 10), "44", "mo", "voice_long_distance", "0.30"),
    (WIDE, "18610000001", day(2, 10), "44", "mo", "voice_friend_long_distance", "0.30"),
    (WIDE, "075533334444", day(3, 10), "44", "mo", "voice_local", "0.30"),
    # Without a price for friends, what calls as far cost, once what is covered for friends is used.
    (FAR, "18610000001", day(4, 10), "44", "mo", "voice_friend_long_distance", "0"),
    (FAR, "18610000001", day(5, 10), "44", "mo", "voice_friend_long_distance", "0.70"),
    (FAR, "02033334444", day(3, 9), "44", "mo", "voice_long_distance", "0.70"),
)
# Made at an exchange that serves one area: the line of Shenzhen is there as at home.
AT_EXCHANGE = (
    (APART, "02033334444", day(12), "44", "mo", "voice_local", "0.10"),
    (APART, "075533334444", day(13), "44", "mo", "voice_long_distance", "0.70"),
)
# By the sample plan of fixed lines: 0.22 for three minutes, then 0.11 each; 0.07 each 6 seconds.
FIXED_CALLS = (
    ("010-1", "66001234", day(1, 11), "000500", "fixed_local", "0.44"),
    ("010-2", "18610000009", day(2, 11), "000100", "fixed_local", "0.22"),
    ("010-3", "02188887777", day(3, 11), "000100", "fixed_long_distance", "0.70"),
    ("010-4", "13912345678", day(4, 11), "000107", "fixed_long_distance", "0.84"),
    ("010-5", "00442079460000", day(5, 11), "000106", "fixed_international_1", None),
)
CONTENT = (
    ("A", day(14, 23), "vas_content", "2"), ("A", day(15, 0), "vas_content", "3"),
    ("B", day(16), None, None),
)  # fmt: skip


def switch_file(source: str, sequence: int, calls: Any) -> bytes:
    lines = [f"HDR|{source}|{sequence:06d}|20261101000000|+0800"]
    lines += [
        f"CDR|voice|{direction}|{served}|460010000000101||{other}|{start}|+0800|60|46001|1-1"
        f"|||{source}{sequence}{number}|0|1|0"
        for number, (served, other, start, _, direction, *_rest) in enumerate(calls)
    ]
    return ("\n".join([*lines, f"TRL|{len(calls)}|{60 * len(calls)}"]) + "\n").encode()


def fixed_file() -> bytes:
    def row(*places: tuple[str, int]) -> bytes:
        return b"".join(text.encode("gb18030").ljust(size) for text, size in places)

    records = [
        row(("20", 2), (reference, 10), ("1", 1), ("010" + FIXED[4:], 20), (other, 20),
            (start, 14), (lasting, 6), ("T-1", 6), ("T-2", 6), ("0", 3), ("西单局", 12))
        for reference, other, start, lasting, *_rest in FIXED_CALLS
    ]  # fmt: skip
    head = row(("00", 2), ("北京西单局", 30), ("PSTN-11", 10)) + b"00000120261101000000"
    tail = f"99{len(records):08d}".encode()
    return b"\n".join([head.ljust(100), *records, tail.ljust(100)]) + b"\n"


def content_file() -> bytes:
    lines = ["SPHDR|SPG-44|000001|20261101000000|+0800"]
    lines += [
        f"SP|{APART}|900|{content_id}|{start}|+0800|T{number}|0"
        for number, (content_id, start, *_rest) in enumerate(CONTENT)
    ]
    return ("\n".join([*lines, f"SPTRL|{len(CONTENT)}"]) + "\n").encode()


def load_lines(settings: Settings) -> None:
    tables: dict[str, list[dict[str, Any]]] = {
        "crm.customer": [], "crm.account": [], "crm.subscription": [], "crm.product_instance": [],
    }  # fmt: skip
    for subscription_id, msisdn, province, service_type, offering_id in LINES:
        number = subscription_id[1:]
        place = {"province_code": province}
        valid = {"valid_from": SINCE, "valid_to": None}
        tables["crm.customer"].append(
            {"customer_id": f"C{number}", "customer_type": "individual", "name": "陈",
             "id_number": None, "segment": None} | place
        )  # fmt: skip
        tables["crm.account"].append(
            {"account_id": f"A{number}", "customer_id": f"C{number}", "account_name": "陈",
             "bill_language": "zh", "status": "active"} | place
        )  # fmt: skip
        tables["crm.subscription"].append(
            {"subscription_id": subscription_id, "account_id": f"A{number}", "msisdn": msisdn,
             "imsi": None, "service_type": service_type, "payment_type": "postpaid",
             "status": "active"} | valid | place
        )  # fmt: skip
        tables["crm.product_instance"].append(
            {"product_instance_id": f"P{number}", "subscription_id": subscription_id,
             "offering_id": offering_id, "role": "plan"} | valid
        )  # fmt: skip
    folder = settings.home / "lines"
    folder.mkdir()
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    loading.load_tables(settings, folder)


def relate(settings: Settings) -> None:
    """A friend of three lines, a group of two: the first's friend and a member until the 20th."""
    with connect(settings) as connection:
        connection.execute(
            "insert into crm.friend_number (subscription_id, number, valid_from, valid_to) values"
            " ('S0000001', '8618610000001', '2026-01-01 00:00+08', '2026-10-20 00:00+08'),"
            " ('S0000002', '8618610000001', '2026-01-01 00:00+08', null),"
            " ('S0000005', '8618610000001', '2026-01-01 00:00+08', null)"
        )
        connection.execute("update crm.customer set customer_type = 'group' where customer_id = %s",
                           ["C0000001"])  # fmt: skip
        connection.execute(
            "insert into crm.call_group (call_group_id, customer_id, name, province_code)"
            " values ('G1', 'C0000001', '公司', '44')"
        )
        connection.execute(
            "insert into crm.call_group_member (call_group_id, subscription_id, short_number,"
            " valid_from, valid_to) values"
            " ('G1', 'S0000001', '66001', '2026-01-01 00:00+08', null),"
            " ('G1', 'S0000004', '66002', '2026-01-01 00:00+08', '2026-10-20 00:00+08')"
        )


def deliver(settings: Settings, name: str, file: bytes) -> None:
    path = settings.landing_dir / name.split("_", maxsplit=1)[0] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file)
    moment = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    os.utime(path, (moment, moment))


def write_catalogue(settings: Settings, text: str) -> Path:
    path = settings.home / "catalogue.yaml"
    path.write_text(text, encoding="utf-8")
    return path


Charges = dict[tuple[str, datetime], tuple[str, Decimal]]


def charges(settings: Settings) -> Charges:
    """What each usage came to, by number and start in local time: class and amount."""
    with read_warehouse(settings, wait_s=60) as warehouse:
        rows = warehouse.rows(
            "select subscription.msisdn, guide.started_at, guide.charge_class, sum(charge.amount)"
            " from billing.guided_usage as guide"
            " inner join billing.usage_charge as charge on guide.usage_id = charge.usage_id"
            " inner join ods.subscription as subscription"
            " on guide.subscription_id = subscription.subscription_id group by all"
        )
    return {
        (msisdn, start + timedelta(hours=8)): (charge_class, Decimal(amount))
        for msisdn, start, charge_class, amount in rows
    }


def expected() -> Charges:
    found: Charges = {}
    for served, _, start, _, _, charge_class, amount in (*CALLS, *AT_EXCHANGE):
        found[served, datetime.strptime(start, "%Y%m%d%H%M%S")] = charge_class, Decimal(amount)  # noqa: DTZ007
    for _, _, start, _, charge_class, fee in FIXED_CALLS:
        if fee is not None:
            found[FIXED, datetime.strptime(start, "%Y%m%d%H%M%S")] = charge_class, Decimal(fee)  # noqa: DTZ007
    for _, start, kind, price_amount in CONTENT:
        if kind is not None and price_amount is not None:
            at = datetime.strptime(start, "%Y%m%d%H%M%S")  # noqa: DTZ007
            found[APART, at] = kind, Decimal(price_amount)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The five lines with their usage, rated."""
    folder = tmp_path_factory.mktemp("classes")
    (folder / "sources").mkdir()
    (folder / "sources" / "sources.yaml").write_text(SOURCES, encoding="utf-8")
    settings = Settings(home=folder / "home", sources_dir=folder / "sources", cycle="2026-10")
    try:
        run_step("prepare", settings)
        load_catalogue(settings, write_catalogue(settings, CATALOGUE))
        load_lines(settings)
        relate(settings)
        for province in ("44", "51"):
            made = [call for call in CALLS if call[3] == province]
            deliver(settings, f"MSC-{province}_20261101_000001.cdr",
                    switch_file(f"MSC-{province}", 1, made))  # fmt: skip
        deliver(settings, "MSC-20_000001.cdr", switch_file("MSC-20", 1, AT_EXCHANGE))
        deliver(settings, "PSTN-11_000001.dat", fixed_file())
        deliver(settings, "SPG-44_000001.txt", content_file())
        for step in ("collect", "land", "mediate", "rate"):
            run_step(step, settings)
        yield settings
    finally:
        EmbeddedServer(settings.home).remove()


def test_every_usage_has_the_class_and_price_of_whom_it_went_to_and_where(home: Settings) -> None:
    found = charges(home)
    zone = ("fixed_international_1", "fixed_international_2", "fixed_international_3")
    abroad = {key: value for key, value in found.items() if value[0] in zone}
    assert {key: value for key, value in found.items() if key not in abroad} == expected()
    # 66 seconds are 11 steps; Britain's zone and the plan say what one costs.
    ((charge_class, amount),) = abroad.values()
    step = {zone[0]: "0.20", zone[1]: "0.36", zone[2]: "0.80"}[charge_class]
    assert amount == 11 * Decimal(step)


def test_content_nobody_published_waits_until_it_is_published(home: Settings) -> None:
    with read_warehouse(home, wait_s=60) as warehouse:
        query = (
            "select reason_code, estimated_amount from billing.suspended_usage"
            " where service = 'vas'"
        )
        assert warehouse.rows(query) == [("unknown_content", None)]
    before = charges(home)
    load_catalogue(home, write_catalogue(home, PUBLISHED_LATER))
    run_step("extract", home)
    run_step("rate", home)
    after = charges(home)
    published = {(APART, datetime(2026, 10, 16, 9)): ("vas_content", Decimal(5))}  # noqa: DTZ001
    assert after == before | published
    with read_warehouse(home, wait_s=60) as warehouse:
        assert warehouse.rows(query) == []


def test_a_friend_named_since_changes_the_calls_to_it_and_no_other(home: Settings) -> None:
    before = charges(home)
    with connect(home) as connection:
        connection.execute(
            "insert into crm.friend_number (subscription_id, number, valid_from)"
            " values ('S0000003', '862188887777', '2026-10-01 00:00+08'),"
            " ('S0000001', '862033334444', '2026-10-01 00:00+08')"
        )
    run_step("rate", home)
    after = charges(home)
    # The plan of fixed lines prices no friends: the call costs what one as far does.
    fixed = (FIXED, datetime(2026, 10, 3, 11))  # noqa: DTZ001
    away, at_exchange = (APART, datetime(2026, 10, 3, 9)), (APART, datetime(2026, 10, 12, 9))  # noqa: DTZ001
    assert after == before | {
        fixed: ("fixed_friend_long_distance", before[fixed][1]),
        away: ("voice_friend_long_distance", Decimal("0.05")),
        at_exchange: ("voice_friend_local", Decimal("0.05")),
    }


def test_the_explanation_of_content_comes_to_its_price_and_names_it(home: Settings) -> None:
    with read_warehouse(home, wait_s=60) as warehouse:
        ((usage_id,),) = warehouse.rows(
            "select cast(usage_id as varchar) from billing.guided_usage"
            " where plan_version_id = 'content-a@2'"
        )
    told = explain(home, principal=CLERK, identifier=usage_id)
    assert told.is_agreed
    assert told.amount == Decimal(3)
    assert "content-a" in str(told)


def test_the_explanation_of_a_call_names_the_areas_that_make_it_local_or_not(
    home: Settings,
) -> None:
    with read_warehouse(home, wait_s=60) as warehouse:
        calls = warehouse.rows(
            "select cast(usage_id as varchar), charge_class from billing.guided_usage"
            " where charge_class in ('voice_local', 'voice_long_distance', 'fixed_long_distance')"
        )
    assert {charge_class for _, charge_class in calls} == {
        "voice_local", "voice_long_distance", "fixed_long_distance",
    }  # fmt: skip
    for usage_id, charge_class in calls:
        told = explain(home, principal=CLERK, identifier=usage_id)
        (section,) = (each for each in told.sections if each.title == "explain.classification")
        facts = {fact.label: fact.value for fact in section.facts}
        made_in = facts.get("explain.area_of_exchange") or facts["explain.area_of_line"]
        is_local = made_in == facts["explain.area_of_other"]
        assert is_local == charge_class.endswith("_local")
