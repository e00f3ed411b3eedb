"""Writing the report: figures and charts into one HTML file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tollhouse.kpi_report.charts import FONTS, PALETTE, draw_all
from tollhouse.kpi_report.figures import NATIONAL, OUTCOMES, Figures, Name, Row, read_figures
from tollhouse.postgres import operational_url
from tollhouse.settings import PROJECT_ROOT, Settings

TEMPLATES = PROJECT_ROOT / "dashboards" / "kpi_report"
TILES = ("users_end", "users_net_adds", "revenue_total", "arpu", "mou", "dou_mb")
USERS = ("users_end", "users_new", "users_leaving", "users_net_adds")
PROVINCES_PER_TABLE = 6
REASONS_SHOWN = 8
_DIGITS = {
    "subscriber": 0, "message": 0, "yuan": 2, "yuan per subscriber": 2, "minute": 1,
    "minute per subscriber": 1, "GB": 2, "MB per subscriber": 1,
}  # fmt: skip
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_FIRST_CHINESE = re.compile(r"[㐀-鿿]")


class KpiReportError(RuntimeError):
    """The report could not be made; the message says which step to run first."""


def write_kpi_report(settings: Settings, cycle: str) -> Path:
    """Write ``reports/kpi-<cycle>.html`` from the served marts; returns its path.

    The file needs nothing but itself: styles and charts are inside, and it asks no other machine
    for anything. The same marts give the same bytes.

    Raises:
        KpiReportError: the served marts are absent, or hold no KPI of the cycle.
    """
    with psycopg.connect(operational_url(settings)) as connection:
        try:
            figures = read_figures(connection, cycle)
        except psycopg.errors.UndefinedTable as error:
            raise KpiReportError(
                "the serving database has no marts: run the step publish first"
            ) from error
    if not figures.provinces:
        raise KpiReportError(
            f"dm.kpi_value holds nothing for cycle {cycle}: run build_marts and publish first"
        )
    path = settings.report_dir / f"kpi-{cycle}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(render(figures, settings.timezone), encoding="utf-8")
    os.replace(part, path)  # noqa: PTH105 - Path.replace, said atomically
    return path


def render(figures: Figures, timezone: str) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fixed": format_fixed,
        "percent": format_percent,
        "signed_percent": format_signed_percent,
    }
    year, month = (int(part) for part in figures.cycle.split("-"))
    tables = figures.home_provinces
    return environment.get_template("report.html.jinja").render(
        figures=figures,
        title=Name(f"{year} 年 {month} 月", f"{_MONTHS[month - 1]} {year}"),
        as_of=_local(figures.data_as_of, timezone),
        timezone=timezone,
        user_kpis=[kpi for code in USERS if (kpi := figures.kpi(code)) is not None],
        tiles=[kpi for code in TILES if (kpi := figures.kpi(code)) is not None],
        province_groups=[
            tables[start : start + PROVINCES_PER_TABLE]
            for start in range(0, max(len(tables), 1), PROVINCES_PER_TABLE)
        ],
        national=figures.national,
        digits=lambda kpi: _DIGITS.get(kpi.unit.en, 2),
        points=key_points(figures),
        revenue=_revenue_table(figures),
        plans=_plan_table(figures),
        hops=_hops(figures.control_totals),
        untied=[row for row in figures.control_totals if not row["is_tied"]],
        bilingual=bilingual,
        outcomes=OUTCOMES,
        source_total=_source_total(figures.sources),
        reasons_shown=REASONS_SHOWN,
        charts={name: Markup(text) for name, text in draw_all(figures).items()},  # noqa: S704 - our own SVG, its text escaped by vl-convert
        palette=PALETTE,
        fonts=Markup(FONTS),  # noqa: S704 - a constant of ours
    )


def format_fixed(value: Decimal | int, digits: int = 0) -> str:
    """A number with thousands separators, rounded half-up."""
    quantum = Decimal(1).scaleb(-digits)
    rounded = Decimal(value).quantize(quantum, ROUND_HALF_UP)
    text = f"{rounded if rounded else abs(rounded):,}"
    return text.replace("-", "−")


def format_percent(value: Decimal) -> str:
    """A share as a percentage with one digit."""
    return f"{format_fixed(value * 100, 1)}%"


def format_signed_percent(value: Decimal) -> str:
    """A change as a percentage with its sign."""
    return f"{'+' if value > 0 else ''}{format_percent(value)}"


def bilingual(text: str) -> Name:
    """A label of the form 'English 中文' split into its two languages."""
    found = _FIRST_CHINESE.search(text)
    if found is None or found.start() == 0:
        return Name(text, text)
    return Name(text[found.start() :].strip(), text[: found.start()].strip())


def key_points(figures: Figures) -> list[Name]:
    """What a reader should take away, as sentences computed from the figures."""
    points = [
        point
        for point in (
            _revenue_point(figures),
            _users_point(figures),
            _traffic_point(figures),
            _quality_point(figures),
        )
        if point is not None
    ]
    return points


def _revenue_point(figures: Figures) -> Name | None:
    by_province = _sums(figures.revenue, "province")
    by_item = _sums(figures.revenue, "bill_item")
    total = sum(by_province.values(), Decimal(0))
    if total <= 0:
        return None
    province, amount = max(by_province.items(), key=lambda pair: pair[1])
    item, item_amount = max(by_item.items(), key=lambda pair: pair[1])
    yuan = format_fixed(total, 2)
    share, item_share = format_percent(amount / total), format_percent(item_amount / total)
    return Name(
        f"全国出帐收入 {yuan} 元；{province.zh}占 {share}，居首；{item.zh}占收入的 {item_share}。",
        f"Billed revenue is {yuan} yuan nationwide; {province.en} leads with {share}; "
        f"{item.en} makes up {item_share} of revenue.",
    )


def _users_point(figures: Figures) -> Name | None:
    codes = ("users_end", "users_net_adds", "users_new", "users_leaving")
    kpis = [figures.kpi(code) for code in codes]
    values = [kpi.values[NATIONAL].value for kpi in kpis if kpi and NATIONAL in kpi.values]
    if len(values) != len(codes):
        return None
    end, net, joined, left = (format_fixed(value) for value in values)
    return Name(
        f"期末用户 {end} 户，本期净增 {net} 户（新增 {joined}，离网 {left}）。",
        f"{end} subscribers at the end of the month: net additions {net} "
        f"({joined} new, {left} leaving).",
    )


def _traffic_point(figures: Figures) -> Name | None:
    by_day: dict[Any, Decimal] = {}
    for row in figures.daily:
        by_day[row["usage_date"]] = by_day.get(row["usage_date"], Decimal(0)) + (
            row["data_mb"] or Decimal(0)
        )
    if not by_day:
        return None
    peak = max(sorted(by_day), key=lambda day: by_day[day])
    mean = format_fixed(sum(by_day.values(), Decimal(0)) / len(by_day) / 1024, 2)
    top = format_fixed(by_day[peak] / 1024, 2)
    return Name(
        f"日均流量 {mean} GB，{peak.month} 月 {peak.day} 日最高，为 {top} GB。",
        f"Data averages {mean} GB a day and peaks at {top} GB on {peak.day} "
        f"{_MONTHS[peak.month - 1]}.",
    )


def _quality_point(figures: Figures) -> Name | None:
    checks = len(figures.control_totals)
    tied = sum(bool(row["is_tied"]) for row in figures.control_totals)
    total = _source_total(figures.sources)
    if not checks or not total["raw_count"]:
        return None
    raw = format_fixed(total["raw_count"])
    share = format_percent(Decimal(total["rejected_count"]) / Decimal(total["raw_count"]))
    if tied == checks:
        return Name(
            f"{checks} 项控制总数全部相符；{raw} 条原始话单中 {share} 被拒绝，均有原因。",
            f"All {checks} control totals tie; of {raw} raw records {share} were rejected, each "
            "with its reason.",
        )
    return Name(
        f"注意：{checks} 项控制总数中有 {checks - tied} 项不符，见第 6 节。",
        f"Attention: {checks - tied} of {checks} control totals do not tie; see section 6.",
    )


def _sums(rows: Sequence[Row], entity: str) -> dict[Name, Decimal]:
    sums: dict[Name, Decimal] = {}
    for row in rows:
        name = Name(row[f"{entity}_name_zh"] or "无套餐", row[f"{entity}_name_en"] or "No plan")
        sums[name] = sums.get(name, Decimal(0)) + row["amount"]
    return sums


def _revenue_table(figures: Figures) -> dict[str, Any]:
    """Amounts by bill item and province, with both totals; items by amount."""
    items = _sums(figures.revenue, "bill_item")
    cells: dict[tuple[str, str], Decimal] = {}
    for row in figures.revenue:
        for province in (row["province_code"], NATIONAL):
            for item in (row["bill_item_name_zh"], None):
                key = (item or "", province)
                cells[key] = cells.get(key, Decimal(0)) + row["amount"]
    return {
        "items": sorted(items, key=lambda name: -items[name]),
        "cells": cells,
        "total": sum(items.values(), Decimal(0)),
    }


def _plan_table(figures: Figures) -> list[tuple[Name, Decimal, Decimal]]:
    """Plan, amount and share of the revenue, the largest first."""
    plans = _sums(figures.revenue, "offering")
    total = sum(plans.values(), Decimal(0)) or Decimal(1)
    return [
        (name, plans[name], plans[name] / total)
        for name in sorted(plans, key=lambda name: -plans[name])
    ]


def _hops(control_totals: Sequence[Row]) -> list[dict[str, Any]]:
    """Control totals by hop: how many checks, and whether all tie."""
    hops = []
    for (number, hop), group in groupby(
        control_totals, key=lambda row: (row["hop_number"], row["hop"])
    ):
        rows = list(group)
        hops.append(
            {
                "number": number,
                "name": bilingual(hop),
                "checks": len(rows),
                "is_tied": all(row["is_tied"] for row in rows),
                "rows": rows,
            }
        )
    return hops


def _source_total(sources: Sequence[Row]) -> dict[str, int]:
    columns = [name for name in (sources[0] if sources else {}) if name != "source_id"]
    if not columns:
        columns = ["raw_count", "rejected_count"]
    return {name: sum(int(row[name]) for row in sources) for name in columns}


def _local(moment: datetime | None, timezone: str) -> str:
    if moment is None:
        return "–"
    return moment.replace(tzinfo=UTC).astimezone(ZoneInfo(timezone)).strftime("%Y-%m-%d %H:%M")
