"""The report's charts: Altair specifications turned into SVG that stands inside the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import altair as alt
import vl_convert

from tollhouse.kpi_report.figures import Figures, Name

# The dashboards' colours in the dashboards' order: distinct for the colour-blind, blue first.
PALETTE = (
    "#1F5FA8", "#E2872B", "#3E9C8F", "#B6465F", "#7A6FB0", "#8A9A3B", "#5BA4D6", "#6B7280",
)  # fmt: skip
FONTS = (
    "'WenQuanYi Micro Hei','Noto Sans CJK SC','Noto Sans SC','Microsoft YaHei','PingFang SC',"
    "sans-serif"
)
INK, SOFT, RULE = "#1F2933", "#52606D", "#E4E7EB"
WIDE, HALF = 980, 470  # pixels of the page a chart fills, axes and legend included

_THEME: dict[str, Any] = {
    "font": FONTS,
    "background": "transparent",
    "aria": False,  # the figure has one label of its own
    "view": {"stroke": None},
    "autosize": {"type": "fit-x", "contains": "padding"},  # the same type size in every chart
    "padding": 0,
    "range": {"category": list(PALETTE)},
    "axis": {
        "labelColor": SOFT, "labelFontSize": 12, "titleColor": SOFT, "titleFontSize": 12,
        "titleFontWeight": "normal", "gridColor": RULE, "domain": False, "ticks": False,
        "labelPadding": 6, "labelLimit": 0,
    },
    "legend": {
        "orient": "top", "title": None, "labelColor": INK, "labelFontSize": 12, "symbolType":
        "square", "symbolSize": 110, "labelLimit": 0, "columnPadding": 16, "offset": 8,
    },
}  # fmt: skip
_LINES = "split(datum.label, '|')"  # 'zh|en' becomes two lines


def draw_all(figures: Figures) -> dict[str, str]:
    """SVG text by chart name, ids unique over the page; a chart without rows is left out."""
    specifications = {
        "revenue_by_province": _revenue_by_province(figures),
        "users_by_province": _users_by_province(figures),
        "voice_by_day": _by_day(figures, "voice_minutes", Decimal(1), "通话分钟 Voice minutes"),
        "data_by_day": _by_day(figures, "data_mb", Decimal(1024), "数据流量 Data, GB"),
        "revenue_by_plan": _revenue_by_plan(figures),
    }
    return {
        name: _svg(chart, f"{name.replace('_', '-')}-")
        for name, chart in specifications.items()
        if chart is not None
    }


def _svg(chart: alt.TopLevelMixin, prefix: str) -> str:
    text = vl_convert.vegalite_to_svg(chart.to_dict(), vl_version=vl_convert_version())
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)  # inside HTML the parser knows
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', text)
    # The page sets the width; the view box keeps the proportions.
    return re.sub(r'<svg ([^>]*?)width="\d+" height="\d+"', r"<svg \1", text, count=1)


def vl_convert_version() -> str:
    """The Vega-Lite version Altair writes, as vl-convert names it ('6.1')."""
    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def _chart(rows: Sequence[Mapping[str, Any]], **properties: Any) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=list(rows)), **properties)


def _finish(chart: Any) -> alt.TopLevelMixin:
    finished: alt.TopLevelMixin = chart.configure(**_THEME)
    return finished


def _label(name: Name, separator: str = "|") -> str:
    return f"{name.zh}{separator}{name.en}"


def _two_lines(**extra: Any) -> alt.Axis:
    return alt.Axis(labelExpr=_LINES, title=None, grid=False, labelColor=INK, **extra)


def _quantities(title: str, ticks: int) -> alt.Axis:
    return alt.Axis(title=title, labelExpr="format(datum.value, ',')", tickCount=ticks)


def _revenue_by_province(figures: Figures) -> alt.TopLevelMixin | None:
    if not figures.revenue:
        return None
    amounts: dict[tuple[str, str], Decimal] = {}
    items: dict[str, Decimal] = {}
    totals: dict[str, Decimal] = {}
    for row in figures.revenue:
        province = f"{row['province_name_zh']}|{row['province_name_en']}"
        item = f"{row['bill_item_name_zh']} {row['bill_item_name_en']}"
        amounts[province, item] = amounts.get((province, item), Decimal(0)) + row["amount"]
        items[item] = items.get(item, Decimal(0)) + row["amount"]
        totals[province] = totals.get(province, Decimal(0)) + row["amount"]
    order = sorted(items, key=lambda item: -items[item])
    provinces = sorted(totals, key=lambda province: -totals[province])
    bars = (
        _chart(
            [
                {
                    "province": province, "item": item, "amount": float(amount),
                    "rank": order.index(item),
                }
                for (province, item), amount in amounts.items()
            ],
            width=WIDE, height=max(110, 52 * len(provinces)),
        )
        .mark_bar(stroke="white", strokeWidth=1, height={"band": 0.62})
        .encode(
            y=alt.Y("province:N", sort=provinces, axis=_two_lines()),
            x=alt.X(
                "amount:Q",
                axis=_quantities("收入（元） Revenue, yuan", 6),
            ),
            color=alt.Color("item:N", sort=order, scale=alt.Scale(domain=order)),
            order=alt.Order("rank:Q"),
        )
    )  # fmt: skip
    labels = (
        _chart([{"province": key, "amount": float(value), "text": f"{value:,.0f}"}
                for key, value in totals.items()])
        .mark_text(align="left", dx=6, fontSize=12, fontWeight="bold", color=INK)
        .encode(y=alt.Y("province:N", sort=provinces), x="amount:Q", text="text:N")
    )  # fmt: skip
    return _finish(bars + labels)


def _users_by_province(figures: Figures) -> alt.TopLevelMixin | None:
    joined, left = figures.kpi("users_new"), figures.kpi("users_leaving")
    if joined is None or left is None or not figures.home_provinces:
        return None
    rows: list[dict[str, Any]] = []
    for province in figures.home_provinces:
        for kpi, sign in ((joined, 1), (left, -1)):
            if province.code in kpi.values:
                value = kpi.values[province.code].value
                rows.append(
                    {
                        "province": _label(province.name), "users": sign * float(value),
                        "kind": _label(kpi.name, " "), "text": f"{value:,.0f}",
                    }
                )  # fmt: skip
    order = [_label(province.name) for province in figures.home_provinces]
    y = alt.Y("province:N", sort=order, axis=_two_lines())
    base = _chart(rows, width=HALF, height=max(150, 62 * len(order)))
    domain = [_label(joined.name, " "), _label(left.name, " ")]
    reach = max((abs(row["users"]) for row in rows), default=1) * 1.25 or 1
    x = alt.X(
        "users:Q",
        scale=alt.Scale(domain=[-reach, reach]),
        axis=alt.Axis(
            title="← 离网 leaving · 新增 new →", labelExpr="format(abs(datum.value), ',.0f')",
            tickCount=5, tickMinStep=1,
        ),
    )  # fmt: skip
    bars = base.mark_bar(height={"band": 0.5}).encode(
        y=y, x=x,
        color=alt.Color("kind:N", scale=alt.Scale(domain=domain, range=list(PALETTE[:2]))),
    )  # fmt: skip
    texts = base.encode(y=y, x=x, text="text:N")
    right = texts.transform_filter("datum.users >= 0").mark_text(
        align="left", dx=5, fontSize=12, color=INK
    )
    left_side = texts.transform_filter("datum.users < 0").mark_text(
        align="right", dx=-5, fontSize=12, color=INK
    )
    zero = (
        _chart([{"zero": 0}])
        .mark_rule(color=SOFT)
        .encode(x=alt.X("zero:Q", scale=alt.Scale(domain=[-reach, reach])))
    )
    return _finish(alt.layer(bars, right, left_side, zero))


def _by_day(
    figures: Figures, column: str, divisor: Decimal, title: str
) -> alt.TopLevelMixin | None:
    rows = [
        {
            "day": row["usage_date"].isoformat(),
            "province": f"{row['province_name_zh']} {row['province_name_en']}",
            "rank": row["province_code"],
            "quantity": float((row[column] or Decimal(0)) / divisor),
        }
        for row in figures.daily
    ]
    if not rows:
        return None
    order = list(dict.fromkeys(row["province"] for row in sorted(rows, key=lambda r: r["rank"])))
    # Years, months and days without a clock: no time zone can move a bar to the day before.
    chart = (
        _chart(rows, width=HALF, height=180)
        .mark_bar(stroke="white", strokeWidth=0.6)
        .encode(
            x=alt.X(
                "day:O",
                axis=alt.Axis(
                    title=None, grid=False, labelAngle=0,
                    labelExpr="toNumber(substring(datum.label, 5, 7)) + '/' + "
                    "toNumber(substring(datum.label, 8, 10))",
                    labelOverlap="parity",
                ),
                scale=alt.Scale(paddingInner=0.22, paddingOuter=0.1),
            ),
            y=alt.Y("quantity:Q", axis=_quantities(title, 5)),
            color=alt.Color("province:N", sort=order, scale=alt.Scale(domain=order)),
            order=alt.Order("rank:N"),
        )
    )  # fmt: skip
    return _finish(chart)


def _revenue_by_plan(figures: Figures) -> alt.TopLevelMixin | None:
    totals: dict[str, Decimal] = {}
    for row in figures.revenue:
        plan = f"{row['offering_name_zh'] or '无套餐'}|{row['offering_name_en'] or 'No plan'}"
        totals[plan] = totals.get(plan, Decimal(0)) + row["amount"]
    if not totals:
        return None
    whole = sum(totals.values(), Decimal(0)) or Decimal(1)
    order = sorted(totals, key=lambda plan: -totals[plan])
    base = _chart(
        [
            {"plan": plan, "amount": float(amount), "text": f"{amount / whole:.1%}"}
            for plan, amount in totals.items()
        ],
        width=HALF, height=36 * len(order),
    ).encode(
        y=alt.Y("plan:N", sort=order, axis=_two_lines(labelFontSize=11)),
        x=alt.X(
            "amount:Q", axis=_quantities("收入（元） Revenue, yuan", 4)
        ),
    )  # fmt: skip
    return _finish(
        base.mark_bar(color=PALETTE[0], height={"band": 0.6})
        + base.mark_text(align="left", dx=5, fontSize=12, color=INK).encode(text="text:N")
    )
