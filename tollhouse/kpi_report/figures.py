"""The figures of the report, read from the served marts in one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

NATIONAL = "00"
OUTCOMES = ("standard", "merged", "duplicate", "rejected", "filtered")
LOWER_IS_BETTER = frozenset({"users_leaving"})
NEAR_TARGET = Decimal("0.95")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Name:
    """A label in both languages."""

    zh: str
    en: str


@dataclass(frozen=True)
class Province:
    """A column of the KPI tables; code 00 is the nation."""

    code: str
    name: Name


@dataclass(frozen=True)
class KpiValue:
    """One KPI of one province in the cycle, with the cycle before it if there is one."""

    value: Decimal
    target: Decimal | None
    previous: Decimal | None

    def status(self, kpi_code: str) -> str:
        """``met``, ``near`` (within 5 % of the target), ``missed``, or ``none`` without target."""
        if self.target is None:
            return "none"
        lower = kpi_code in LOWER_IS_BETTER
        if self.value <= self.target if lower else self.value >= self.target:
            return "met"
        near = self.value * NEAR_TARGET <= self.target if lower else (
            self.value >= self.target * NEAR_TARGET
        )  # fmt: skip
        return "near" if near else "missed"

    @property
    def change(self) -> Decimal | None:
        """Relative change against the cycle before."""
        if not self.previous:
            return None
        return (self.value - self.previous) / abs(self.previous)


@dataclass(frozen=True)
class Kpi:
    """A KPI of the dictionary with its value by province code."""

    code: str
    name: Name
    unit: Name
    formula: Name
    owner: str
    values: Mapping[str, KpiValue]


@dataclass(frozen=True)
class Figures:
    """Everything the report shows; amounts and quantities are exact decimals."""

    cycle: str
    data_as_of: datetime | None
    usage_count: int
    file_count: int
    provinces: Sequence[Province]
    kpis: Sequence[Kpi]
    revenue: Sequence[Row]
    daily: Sequence[Row]
    control_totals: Sequence[Row]
    sources: Sequence[Row]
    reasons: Sequence[Row]

    @property
    def national(self) -> Province:
        """The nation's column."""
        return next(province for province in self.provinces if province.code == NATIONAL)

    @property
    def home_provinces(self) -> Sequence[Province]:
        """The provinces without the nation."""
        return [province for province in self.provinces if province.code != NATIONAL]

    def kpi(self, code: str) -> Kpi | None:
        """The KPI of a code, if the dictionary has it."""
        return next((kpi for kpi in self.kpis if kpi.code == code), None)


def read_figures(connection: psycopg.Connection, cycle: str) -> Figures:
    """Read the served schema ``dm``; a refresh that happens meanwhile does not show."""
    connection.execute("set transaction isolation level repeatable read, read only")

    def rows(query: str, *parameters: Any) -> list[Row]:
        with connection.cursor(row_factory=dict_row) as cursor:
            return list(cursor.execute(query, parameters))

    values = rows(
        "select * from dm.kpi_value where cycle_id = %s order by province_code, kpi_code", cycle
    )
    status = rows("select * from dm.data_status where cycle_id = %s", cycle)
    return Figures(
        cycle=cycle,
        data_as_of=status[0]["data_as_of"] if status else None,
        usage_count=int(status[0]["usage_count"]) if status else 0,
        file_count=int(status[0]["file_count"]) if status else 0,
        provinces=_provinces(values),
        kpis=_kpis(rows, values, cycle),
        revenue=rows(
            "select * from dm.revenue where cycle_id = %s"
            " order by province_code, offering_id, bill_item_code",
            cycle,
        ),
        daily=rows(
            "select usage_date, province_code, province_name_zh, province_name_en,"
            "  sum(voice_minutes) as voice_minutes, sum(data_mb) as data_mb"
            " from dm.daily_usage where usage_date >= %s and usage_date < %s"
            " group by 1, 2, 3, 4 order by 1, 2",
            *_bounds(cycle),
        ),
        control_totals=rows("select * from dm.control_total order by hop_number, measure"),
        sources=rows(
            "select source_id, count(*) as file_count,"
            "  sum(case when status = 'duplicate' then 1 else 0 end) as duplicate_file_count,"
            "  sum(case when status in ('rejected', 'rolled_back') then 1 else 0 end)"
            "    as rejected_file_count,"
            "  sum(case when is_late then 1 else 0 end) as late_file_count,"
            "  sum(case when has_count_mismatch then 1 else 0 end) as mismatch_file_count,"
            "  coalesce(sum(raw_count), 0) as raw_count,"
            "  coalesce(sum(standard_count), 0) as standard_count,"
            "  coalesce(sum(merged_count), 0) as merged_count,"
            "  coalesce(sum(duplicate_count), 0) as duplicate_count,"
            "  coalesce(sum(rejected_count), 0) as rejected_count,"
            "  coalesce(sum(filtered_count), 0) as filtered_count"
            " from dm.file_outcome group by source_id order by source_id"
        ),
        reasons=rows(
            "select outcome, reason_code, reason_name_zh, reason_name_en,"
            "  sum(record_count) as record_count"
            " from dm.outcome_reason where outcome in ('rejected', 'filtered')"
            " group by 1, 2, 3, 4 order by record_count desc, reason_code"
        ),
    )


def _provinces(values: Sequence[Row]) -> list[Province]:
    names = {
        row["province_code"]: Name(row["province_name_zh"], row["province_name_en"])
        for row in values
    }
    return [Province(code, names[code]) for code in sorted(names)]


def _kpis(rows: Callable[..., list[Row]], values: Sequence[Row], cycle: str) -> list[Kpi]:
    previous = {
        (row["kpi_code"], row["province_code"]): row["value"]
        for row in rows("select * from dm.kpi_value where cycle_id = %s", _cycle_before(cycle))
    }
    by_kpi: dict[str, dict[str, KpiValue]] = {}
    for row in values:
        by_kpi.setdefault(row["kpi_code"], {})[row["province_code"]] = KpiValue(
            row["value"],
            row["target_value"],
            previous.get((row["kpi_code"], row["province_code"])),
        )
    return [
        Kpi(
            code=row["kpi_code"],
            name=Name(row["name_zh"], row["name_en"]),
            unit=Name(row["unit_zh"], row["unit"]),
            formula=Name(row["formula_zh"], row["formula_en"]),
            owner=row["owner"],
            values=by_kpi.get(row["kpi_code"], {}),
        )
        for row in rows("select * from dm.kpi order by sort_order, kpi_code")
    ]


def _bounds(cycle: str) -> tuple[date, date]:
    year, month = (int(part) for part in cycle.split("-"))
    first = date(year, month, 1)
    return first, date(year + month // 12, month % 12 + 1, 1)


def _cycle_before(cycle: str) -> str:
    year, month = (int(part) for part in cycle.split("-"))
    return f"{year - 1}-12" if month == 1 else f"{year}-{month - 1:02d}"
