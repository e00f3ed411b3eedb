"""The KPI report: its numbers are the marts', it stands by itself, and it speaks both languages."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tollhouse.kpi_report import KpiReportError, write_kpi_report
from tollhouse.kpi_report.charts import PALETTE
from tollhouse.kpi_report.figures import KpiValue
from tollhouse.kpi_report.report import bilingual, format_fixed, format_signed_percent
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.settings import PROJECT_ROOT, Settings

CYCLE = "2026-10"
PROVINCES = {"11": ("北京", "Beijing"), "44": ("广东", "Guangdong"), "51": ("四川", "Sichuan")}
NATION = ("全国", "Nationwide")
ITEMS = {
    "rent": ("月租费", "Monthly rental"),
    "voice": ("语音通话费", "Voice"),
    "sms": ("短信费", "SMS"),
    "data": ("数据流量费", "Data"),
    "international": ("国际长途费", "International calls"),
    "roaming": ("国际漫游费", "International roaming"),
}
FEES = (56, 76, 106, 136, 166, 196, 296, 396, 596)
TARGETS = {"users_net_adds": 40, "revenue_total": 220_000, "arpu": 96, "mou": 210}

TABLES = """
create schema dm;
create table dm.kpi (kpi_code text, name_zh text, name_en text, formula text, formula_zh text,
  formula_en text, unit text, unit_zh text, owner text, target_value numeric(18,6), sort_order int);
create table dm.kpi_value (cycle_id text, province_code text, province_name_zh text,
  province_name_en text, kpi_code text, kpi_name_zh text, kpi_name_en text, unit text,
  value numeric(18,6), target_value numeric(18,6));
create table dm.revenue (cycle_id text, province_code text, province_name_zh text,
  province_name_en text, offering_id text, offering_name_zh text, offering_name_en text,
  bill_item_code text, bill_item_name_zh text, bill_item_name_en text, subscription_count bigint,
  amount numeric(18,2));
create table dm.daily_usage (usage_date date, province_code text, province_name_zh text,
  province_name_en text, service text, roaming_class text, usage_count bigint,
  voice_minutes numeric(18,2), data_mb numeric(18,3), sms_count bigint);
create table dm.control_total (hop_number int, hop text, measure text, unit text, left_name text,
  left_value numeric(38,6), right_name text, right_value numeric(38,6), difference numeric(38,6),
  is_tied boolean);
create table dm.file_outcome (file_id text, source_id text, file_name text, province_code text,
  status text, received_at timestamp, raw_count bigint, standard_count bigint, merged_count bigint,
  duplicate_count bigint, rejected_count bigint, filtered_count bigint, is_late boolean,
  has_count_mismatch boolean);
create table dm.outcome_reason (source_id text, outcome text, reason_code text, reason_name_zh text,
  reason_name_en text, record_count bigint);
create table dm.data_status (cycle_id text, data_as_of timestamp, usage_count bigint,
  file_count bigint);
"""


def insert(connection: psycopg.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    marks = ", ".join(["%s"] * len(rows[0]))
    with connection.cursor() as cursor:
        cursor.executemany(f"insert into {table} values ({marks})", rows)


def fill(connection: psycopg.Connection) -> None:
    """Plausible marts of a month; every amount its own, so that a mix-up shows."""
    with (PROJECT_ROOT / "dbt" / "seeds" / "ods" / "kpi.csv").open(encoding="utf-8") as text:
        dictionary = list(csv.DictReader(text))
    connection.execute(TABLES)
    insert(connection, "dm.kpi", [
        (row["kpi_code"], row["name_zh"], row["name_en"], row["formula"], row["formula_zh"],
         row["formula_en"], row["unit"], row["unit_zh"], row["owner"],
         TARGETS.get(row["kpi_code"]), int(row["sort_order"])) for row in dictionary
    ])  # fmt: skip
    base = {"11": Decimal(520), "44": Decimal(1010), "51": Decimal(470)}
    revenue = [
        (CYCLE, code, *PROVINCES[code], f"plan-4g-{fee}", f"4G全国套餐{fee}元",
         f"4G national {fee}", item, *ITEMS[item], 17 + position,
         (users / (position + 2) * fee * share / 7).quantize(Decimal("0.01")) + Decimal("0.03"))
        for code, users in base.items()
        for position, fee in enumerate(FEES)
        for item, share in (
            ("rent", Decimal("1")), ("voice", Decimal("0.15")), ("sms", Decimal("0.02")),
            ("data", Decimal("0.28")), ("international", Decimal("0.03")),
            ("roaming", Decimal("0.05")),
        )
    ]  # fmt: skip
    insert(connection, "dm.revenue", revenue)
    values: list[tuple[Any, ...]] = []
    for code, name, users in (
        ("00", NATION, sum(base.values(), Decimal(0))),
        *((key, PROVINCES[key], base[key]) for key in PROVINCES),
    ):
        total = sum((row[-1] for row in revenue if code in ("00", row[1])), Decimal(0))
        measured = {
            "users_end": users, "users_new": users // 18, "users_leaving": users // 31,
            "users_net_adds": users // 18 - users // 31, "users_active": users - 23,
            "revenue_total": total, "arpu": total / users, "voice_minutes": users * 203,
            "mou": Decimal("203.456789"), "data_gb": users * Decimal("2.123456"),
            "dou_mb": Decimal("2174.418944"), "sms_count": users * 11,
        }  # fmt: skip
        for row in dictionary:
            key = row["kpi_code"]
            target = TARGETS.get(key) if code == "00" else None
            values.append((CYCLE, code, *name, key, row["name_zh"], row["name_en"], row["unit"],
                           round(measured[key], 6), target))  # fmt: skip
    insert(connection, "dm.kpi_value", values)
    insert(connection, "dm.daily_usage", [
        (date(2026, 10, 1) + timedelta(days=day), code, *PROVINCES[code], service, "home", 100,
         base[code] * (5 + day % 7) if service == "voice" else 0,
         base[code] * (60 + 9 * (day % 7)) if service == "data" else 0,
         3 if service == "sms" else 0)
        for day in range(31) for code in PROVINCES for service in ("voice", "sms", "data")
    ])  # fmt: skip
    insert(connection, "dm.control_total", [
        (1, "collected files → raw 采集 → 原始", "records 记录数", "record", "decoded 解码",
         412345, "raw 原始", 412345, 0, True),
        (2, "raw → outcomes 原始 → 去向", "records 记录数", "record", "raw 原始", 412345,
         "five outcomes 五种去向", 412345, 0, True),
        (2, "raw → outcomes 原始 → 去向", "voice 通话", "second", "raw 原始", 8123456,
         "five outcomes 五种去向", 8123456, 0, True),
        (6, "charges → bills 费用 → 帐单", "amount 金额", "yuan", "charges 费用",
         Decimal("231234.56"), "bills 帐单", Decimal("231234.56"), 0, True),
    ])  # fmt: skip
    insert(connection, "dm.file_outcome", [
        (f"{source}/{number}", source, f"{number}.cdr", source[-2:],
         "duplicate" if number == 9 else "mediated", datetime(2026, 10, 5),  # noqa: DTZ001
         1000 + number, 900, 50, 20 + number, 10, 20, number == 4, number == 5)
        for source in ("DCH-00", "MSC-11", "MSC-44", "MSC-51", "PGW-11", "PGW-44", "PGW-51")
        for number in range(10)
    ])  # fmt: skip
    insert(connection, "dm.outcome_reason", [
        ("MSC-44", "rejected", "invalid_msisdn", "号码无效", "Invalid <MSISDN>", 41),
        ("MSC-11", "filtered", "unanswered", "未接通", "Unanswered call attempt", 902),
        ("MSC-11", "standard", None, None, None, 99999),
    ])  # fmt: skip
    insert(connection, "dm.data_status", [(CYCLE, datetime(2026, 10, 31, 15, 58), 402345, 217)])  # noqa: DTZ001


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings(home=tmp_path_factory.mktemp("kpi-report"), cycle=CYCLE)
    try:
        with connect(settings) as connection:
            fill(connection)
        yield settings
    finally:
        EmbeddedServer(settings.home).remove()


@pytest.fixture(scope="module")
def report(served: Settings) -> Path:
    return write_kpi_report(served, CYCLE)


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Elements in order with their text; refuses tags that are closed in the wrong order."""

    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    parsed = Page()
    parsed.feed(report.read_text("utf-8"))
    parsed.close()
    return parsed


def queried(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with connect(settings) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def cells(page: Page, *names: str) -> dict[tuple[str | None, ...], Element]:
    return {
        tuple(element.attributes[name] for name in names): element
        for element in page.elements
        if element.tag == "td" and all(name in element.attributes for name in names)
    }


def shown(element: Element) -> Decimal:
    return Decimal(element.text.strip().replace(",", "").replace("−", "-"))


def test_report_is_one_file_of_the_cycle(report: Path, served: Settings) -> None:
    assert report == served.report_dir / "kpi-2026-10.html"
    assert [path.name for path in served.report_dir.iterdir()] == ["kpi-2026-10.html"]


def test_every_kpi_is_shown_for_every_province_with_the_value_of_the_mart(
    page: Page, served: Settings
) -> None:
    expected = {
        (kpi, province): value
        for kpi, province, value in queried(
            served, "select kpi_code, province_code, value from dm.kpi_value"
        )
    }
    found = cells(page, "data-kpi", "data-province")
    assert set(found) == set(expected)
    for key, element in found.items():
        assert Decimal(element.attributes["data-value"] or "") == expected[key]
        digits = -int(shown(element).as_tuple().exponent)
        quantum = Decimal(1).scaleb(-digits)
        assert shown(element) == expected[key].quantize(quantum, ROUND_HALF_UP)


def test_revenue_cells_and_totals_are_the_sums_of_the_mart(page: Page, served: Settings) -> None:
    found = cells(page, "data-item", "data-province")
    sums = queried(
        served,
        "select coalesce(bill_item_name_zh, ''), coalesce(province_code, '00'), sum(amount)"
        " from dm.revenue group by cube (bill_item_name_zh, province_code)",
    )
    assert len(found) == len(sums) == (len(ITEMS) + 1) * (len(PROVINCES) + 1)
    for item, province, amount in sums:
        assert shown(found[item, province]) == amount


def test_revenue_by_plan_adds_up_to_the_total(page: Page, served: Settings) -> None:
    found = cells(page, "data-plan")
    sums = queried(served, "select offering_name_zh, sum(amount) from dm.revenue group by 1")
    assert {key[0]: shown(element) for key, element in found.items()} == dict(sums)
    total = queried(served, "select sum(amount) from dm.revenue")[0][0]
    assert sum((shown(element) for element in found.values()), Decimal(0)) == total


def test_file_outcomes_by_source_are_the_sums_of_the_mart(page: Page, served: Settings) -> None:
    rows = {
        element.attributes["data-source"]: element.text.split()
        for element in page.elements
        if element.tag == "tr" and "data-source" in element.attributes
    }
    outcomes = queried(
        served,
        "select source_id, count(*), sum(raw_count), sum(duplicate_count)"
        " from dm.file_outcome group by 1",
    )
    assert {source for source, *_ in outcomes} == set(rows) != set()
    for source, files, raw, duplicates in outcomes:
        assert rows[source][1] == str(files)
        assert Decimal(rows[source][5].replace(",", "")) == raw
        assert Decimal(rows[source][8].replace(",", "")) == duplicates


def test_report_asks_no_other_machine_for_anything(report: Path, page: Page) -> None:
    text = report.read_text("utf-8")
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    loading = {"script", "img", "iframe", "object", "embed", "image", "video", "audio"}
    assert not loading & {element.tag for element in page.elements}
    for element in page.elements:
        for name in ("src", "href", "xlink:href"):
            value = element.attributes.get(name)
            assert value is None or value.startswith(("#", "data:"))


def test_page_is_well_formed_with_unique_ids_and_resolved_references(page: Page) -> None:
    assert page.open == []
    ids = Counter(value for item in page.elements if (value := item.attributes.get("id")))
    assert [name for name, count in ids.items() if count > 1] == []
    for element in page.elements:
        target = element.attributes.get("for")
        assert target is None or target in ids
        for value in element.attributes.values():
            for reference in re.findall(r"url\(#([^)]+)\)", value or ""):
                assert reference in ids


def test_every_label_stands_in_chinese_and_in_english(page: Page) -> None:
    languages = Counter(
        element.attributes["lang"]
        for element in page.elements
        if element.tag == "span" and "lang" in element.attributes
    )
    assert languages["zh-CN"] == languages["en"] > 100
    chinese = [e.text for e in page.elements if e.attributes.get("lang") == "zh-CN"]
    assert any("核心指标" in text for text in chinese)
    assert all(e.text.strip() for e in page.elements if "lang" in e.attributes)


def test_charts_are_inline_svg_whose_chinese_text_stays_text(page: Page) -> None:
    charts = [element for element in page.elements if element.tag == "svg"]
    assert len(charts) == 5
    texts = {element.text for element in page.elements if element.tag in ("text", "tspan")}
    assert {"北京", "Beijing", "4G全国套餐76元", "4G national 76"} <= texts
    assert "北京 Beijing" in texts


def test_text_of_the_marts_cannot_become_markup(report: Path) -> None:
    assert "Invalid &lt;MSISDN&gt;" in report.read_text("utf-8")


def test_formulas_of_all_kpis_stand_in_the_glossary(page: Page, served: Settings) -> None:
    glossary = next(e for e in page.elements if e.attributes.get("id") == "glossary").text
    for code, formula_zh, formula_en in queried(
        served, "select kpi_code, formula_zh, formula_en from dm.kpi"
    ):
        assert code in glossary
        assert formula_zh in glossary
        assert formula_en in glossary


def test_same_marts_give_the_same_bytes(report: Path, served: Settings) -> None:
    before = report.read_bytes()
    write_kpi_report(served, CYCLE)
    assert report.read_bytes() == before


def test_an_untied_control_total_is_named_and_no_longer_called_tied(
    served: Settings, report: Path
) -> None:
    assert "全部相符" in report.read_text("utf-8")
    with connect(served) as connection:
        connection.execute(
            "update dm.control_total set right_value = 412344, difference = 1, is_tied = false"
            " where hop_number = 1"
        )
    try:
        text = write_kpi_report(served, CYCLE).read_text("utf-8")
    finally:
        with connect(served) as connection:
            connection.execute(
                "update dm.control_total set right_value = 412345, difference = 0, is_tied = true"
                " where hop_number = 1"
            )
        write_kpi_report(served, CYCLE)
    assert "全部相符" not in text
    assert "1 项不符" in text
    assert "412,344.000000" in text


def test_a_cycle_without_values_names_the_step_to_run(served: Settings) -> None:
    with pytest.raises(KpiReportError, match="build_marts"):
        write_kpi_report(served, "2026-11")


def test_a_database_without_marts_names_the_step_to_run(served: Settings) -> None:
    with connect(served) as connection:
        connection.execute("alter schema dm rename to dm_away")
    try:
        with pytest.raises(KpiReportError, match="publish"):
            write_kpi_report(served, CYCLE)
    finally:
        with connect(served) as connection:
            connection.execute("alter schema dm_away rename to dm")


@pytest.mark.parametrize(
    ("code", "value", "target", "status"),
    [
        ("arpu", 100, 100, "met"),
        ("arpu", 95, 100, "near"),
        ("arpu", 94, 100, "missed"),
        ("users_leaving", 100, 100, "met"),
        ("users_leaving", 105, 100, "near"),
        ("users_leaving", 106, 100, "missed"),
        ("arpu", 100, None, "none"),
    ],
)
def test_traffic_light_follows_the_target(
    code: str, value: int, target: int | None, status: str
) -> None:
    goal = None if target is None else Decimal(target)
    assert KpiValue(Decimal(value), goal, None).status(code) == status


def test_numbers_are_rounded_half_up_with_separators_and_a_true_minus() -> None:
    assert format_fixed(Decimal("1234567.125"), 2) == "1,234,567.13"
    assert format_fixed(Decimal("-12.5")) == "−13"
    assert format_fixed(Decimal("-0.001"), 2) == "0.00"
    assert format_signed_percent(Decimal("0.0312")) == "+3.1%"


def test_labels_of_control_totals_split_into_their_languages() -> None:
    label = bilingual("raw → outcomes 原始 → 去向")
    assert (label.en, label.zh) == ("raw → outcomes", "原始 → 去向")
    assert bilingual("records").zh == "records"


def test_report_uses_the_palette_of_the_dashboards() -> None:
    configuration = PROJECT_ROOT / "dashboards" / "superset_config.py"
    colours = re.findall(r'"(#[0-9A-F]{6})"', configuration.read_text("utf-8"))
    assert tuple(colours[: len(PALETTE)]) == PALETTE
